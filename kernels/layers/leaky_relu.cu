#include "gradflow.h"
/* Leaky ReLU (Maas, Hannun & Ng, 2013): y = x where x > 0, else slope x, with slope >= 0.
   dL/dx = dL/dy where y > 0, else slope dL/dy: the sign of y is that of x. */

GF_FUNCTION real leaky_relu(real x, real slope) { return x <= 0 ? slope * x : x; }

GF_KERNEL(leaky_relu_forward, const real *x, real *y, real slope, gf_index n) {
  GF_FOR(i, n, x, y) y[i] = leaky_relu(x[i], slope);
}

GF_KERNEL(leaky_relu_backward, const real *y, const real *d_y, real *d_x, real slope, gf_index n) {
  GF_FOR(i, n, y, d_y, d_x) d_x[i] = y[i] <= 0 ? slope * d_y[i] : d_y[i];
}
