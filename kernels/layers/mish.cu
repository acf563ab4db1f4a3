#include "gradflow.h"
#include "sigmoid.h"
/* Mish (Misra, 2020): y = x t with t = tanh(log(1 + exp(x))).
   dL/dx = (t + x (1 - t)(1 + t) sigmoid(x)) dL/dy.

   With u = exp(x): t = (u^2 + 2 u) / (u^2 + 2 u + 2). Numerator and 1 - t are written in exp(-|x|), so that
   nothing overflows or cancels. */

GF_FUNCTION gf_logistic gf_make_mish(real x) {
  const real small = gf_exp(-gf_fabs(x));
  const real top = x < 0 ? small * (small + 2) : 1 + 2 * small, rest = x < 0 ? 2 : 2 * small * small;
  gf_logistic t;
  t.value = top / (top + rest);
  t.rest = rest / (top + rest);
  return t;
}

GF_FUNCTION real mish(real x) { return gf_max(x, -GF_SATURATED) * gf_make_mish(x).value; }

GF_KERNEL(mish_forward, const real *x, real *y, gf_index n) {
  GF_FOR(i, n, x, y) y[i] = mish(x[i]);
}

GF_KERNEL(mish_backward, const real *x, const real *d_y, real *d_x, gf_index n) {
  GF_FOR(i, n, x, d_y, d_x) {
    const real z = gf_clamp(x[i], GF_SATURATED);
    const gf_logistic t = gf_make_mish(z);
    d_x[i] = (t.value + z * t.rest * (1 + t.value) * gf_make_logistic(z).value) * d_y[i];
  }
}
