#include "gradflow.h"
#include "sigmoid.h"
/* Sigmoid: y = 1 / (1 + exp(-x)).  dL/dx = y (1 - y) dL/dy. */

GF_KERNEL(sigmoid_forward, const real *x, real *y, gf_index n) {
  GF_FOR(i, n, x, y) y[i] = gf_sigmoid(x[i]);
}

GF_KERNEL(bias_sigmoid_forward, const real *x, const real *bias, real *y, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * columns;
    const gf_auto out = y + row * columns;
    GF_COLUMNS_OF(j, columns, in, bias, out) out[j] = gf_sigmoid(in[j] + bias[j]);
  }
}

GF_KERNEL(sigmoid_backward, const real *y, const real *d_y, real *d_x, gf_index n) {
  GF_FOR(i, n, y, d_y, d_x) d_x[i] = y[i] * (1 - y[i]) * d_y[i];
}
