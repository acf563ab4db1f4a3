#include "gradflow.h"
#include "sigmoid.h"
/* Sigmoid: y = 1 / (1 + exp(-x)).  dL/dx = y (1 - y) dL/dy. */

GF_KERNEL(sigmoid_forward, const real *x, real *y, gf_index n) {
  GF_FOR(i, n, x, y) y[i] = gf_sigmoid(x[i]);
}

GF_KERNEL(sigmoid_backward, const real *y, const real *d_y, real *d_x, gf_index n) {
  GF_FOR(i, n, y, d_y, d_x) d_x[i] = y[i] * (1 - y[i]) * d_y[i];
}
