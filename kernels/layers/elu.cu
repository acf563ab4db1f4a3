#include "gradflow.h"
/* ELU (Clevert, Unterthiner & Hochreiter, 2016, equation 15): y = x where x > 0, else alpha (exp(x) - 1),
   with alpha > 0.  dL/dx = dL/dy where y > 0, else (y + alpha) dL/dy, since alpha exp(x) = y + alpha. */

GF_FUNCTION real elu(real x, real alpha) { return x <= 0 ? alpha * gf_expm1(x) : x; }

GF_KERNEL(elu_forward, const real *x, real *y, real alpha, gf_index n) {
  GF_FOR(i, n, x, y) y[i] = elu(x[i], alpha);
}

GF_KERNEL(elu_backward, const real *y, const real *d_y, real *d_x, real alpha, gf_index n) {
  GF_FOR(i, n, y, d_y, d_x) d_x[i] = y[i] <= 0 ? (y[i] + alpha) * d_y[i] : d_y[i];
}
