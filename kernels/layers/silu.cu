#include "gradflow.h"
#include "sigmoid.h"
/* SiLU, also called Swish (Elfwing, Uchibe & Doya, 2018): y = x s with s = sigmoid(x).
   dL/dx = s (1 + x (1 - s)) dL/dy. */

GF_FUNCTION real silu(real x) { return gf_max(x, -GF_SATURATED) * gf_make_logistic(x).value; }

GF_KERNEL(silu_forward, const real *x, real *y, gf_index n) {
  GF_FOR(i, n, x, y) y[i] = silu(x[i]);
}

GF_KERNEL(silu_backward, const real *x, const real *d_y, real *d_x, gf_index n) {
  GF_FOR(i, n, x, d_y, d_x) {
    const real z = gf_clamp(x[i], GF_SATURATED);
    const gf_logistic s = gf_make_logistic(z);
    d_x[i] = s.value * (1 + z * s.rest) * d_y[i];
  }
}
