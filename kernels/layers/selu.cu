#include "gradflow.h"
/* SELU (Klambauer, Unterthiner, Mayr & Hochreiter, 2017, equation 2): y = scale x where x > 0, else
   scale alpha (exp(x) - 1), with scale and alpha such that mean 0 and variance 1 are a fixed point.
   dL/dx = scale dL/dy where y > 0, else (y + scale alpha) dL/dy, since scale alpha exp(x) = y + scale alpha. */

#define GF_SELU_SCALE ((real)1.0507009873554804934)
#define GF_SELU_DEPTH ((real)1.7580993408473768599) /* scale alpha, with alpha = 1.6732632423543772848 */

GF_FUNCTION real selu(real x) { return x <= 0 ? GF_SELU_DEPTH * gf_expm1(x) : GF_SELU_SCALE * x; }

GF_KERNEL(selu_forward, const real *x, real *y, gf_index n) {
  GF_FOR(i, n, x, y) y[i] = selu(x[i]);
}

GF_KERNEL(selu_backward, const real *y, const real *d_y, real *d_x, gf_index n) {
  GF_FOR(i, n, y, d_y, d_x) d_x[i] = (y[i] <= 0 ? y[i] + GF_SELU_DEPTH : GF_SELU_SCALE) * d_y[i];
}
