#include "gradflow.h"
#include "normal.h"
#include "sigmoid.h"
/* GELU (Hendrycks & Gimpel, 2016): y = x P(x) with the normal cumulative distribution function P, and its
   approximation by tanh: y = x sigmoid(v) with v = 2 sqrt(2 / pi) (x + 0.044715 x^3), since (1 + tanh(v / 2)) / 2 = sigmoid(v).
   dL/dx = (P + x p) dL/dy with the density p, and (s + x s (1 - s) dv/dx) dL/dy. */

GF_FUNCTION real gelu(real x) { return gf_max(x, -GF_SATURATED) * gf_make_normal(x).probability; }

GF_KERNEL(gelu_forward, const real *x, real *y, gf_index n) {
  GF_FOR(i, n, x, y) y[i] = gelu(x[i]);
}

GF_KERNEL(gelu_backward, const real *x, const real *d_y, real *d_x, gf_index n) {
  GF_FOR(i, n, x, d_y, d_x) {
    const real z = gf_clamp(x[i], GF_SATURATED);
    const gf_normal normal = gf_make_normal(z);
    d_x[i] = (normal.probability + z * normal.density) * d_y[i];
  }
}

#define GF_GELU_SLOPE ((real)1.5957691216057307117) /* 2 sqrt(2 / pi) */
#define GF_GELU_CUBIC ((real)0.044715)

GF_FUNCTION real gelu_tanh(real x) {
  const real z = gf_clamp(x, GF_SATURATED);
  const real v = GF_GELU_SLOPE * z * (1 + GF_GELU_CUBIC * z * z);
  return gf_max(x, -GF_SATURATED) * gf_make_logistic(v).value;
}

GF_KERNEL(gelu_tanh_forward, const real *x, real *y, gf_index n) {
  GF_FOR(i, n, x, y) y[i] = gelu_tanh(x[i]);
}

GF_KERNEL(gelu_tanh_backward, const real *x, const real *d_y, real *d_x, gf_index n) {
  GF_FOR(i, n, x, d_y, d_x) {
    const real z = gf_clamp(x[i], GF_SATURATED), square = GF_GELU_CUBIC * z * z;
    const gf_logistic s = gf_make_logistic(GF_GELU_SLOPE * z * (1 + square));
    d_x[i] = s.value * (1 + z * s.rest * GF_GELU_SLOPE * (1 + 3 * square)) * d_y[i];
  }
}
