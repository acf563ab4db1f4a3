#include "gradflow.h"
/* Hyperbolic tangent: y = tanh(x).  dL/dx = (1 - y^2) dL/dy, written (1 - y)(1 + y) against cancellation. */

GF_KERNEL(tanh_forward, const real *x, real *y, gf_index n) {
  GF_FOR(i, n, x, y) y[i] = gf_tanh(x[i]);
}

GF_KERNEL(tanh_backward, const real *y, const real *d_y, real *d_x, gf_index n) {
  GF_FOR(i, n, y, d_y, d_x) d_x[i] = (1 - y[i]) * (1 + y[i]) * d_y[i];
}
