#include "gradflow.h"
#include "sigmoid.h"
/* Softplus (Dugas, Bengio, Belisle, Nadeau & Garcia, 2001): y = log(1 + exp(x)), written without overflow.
   dL/dx = sigmoid(x) dL/dy = (1 - exp(-y)) dL/dy. */

GF_KERNEL(softplus_forward, const real *x, real *y, gf_index n) {
  GF_FOR(i, n, x, y) y[i] = gf_softplus(x[i]);
}

GF_KERNEL(softplus_backward, const real *y, const real *d_y, real *d_x, gf_index n) {
  GF_FOR(i, n, y, d_y, d_x) d_x[i] = -gf_expm1(-y[i]) * d_y[i];
}
