#include "gradflow.h"
/* ReLU (Nair & Hinton, 2010): y = max(x, 0).  dL/dx = dL/dy where y > 0, else 0.
   The comparisons are written so that NaN stays NaN. */

GF_FUNCTION real relu(real x) { return x <= 0 ? 0 : x; }

GF_KERNEL(relu_forward, const real *x, real *y, gf_index n) {
  GF_FOR(i, n, x, y) y[i] = relu(x[i]);
}

GF_KERNEL(relu_backward, const real *y, const real *d_y, real *d_x, gf_index n) {
  GF_FOR(i, n, y, d_y, d_x) d_x[i] = y[i] <= 0 ? (real)0 : d_y[i];
}
