#include "gradflow.h"
/* Softmax of each row: y_j = exp(x_j - m) / sum_k exp(x_k - m), with m = max_k x_k against overflow.
   dL/dx_j = y_j (dL/dy_j - sum_k y_k dL/dy_k). */

GF_KERNEL(softmax_forward, const real *x, real *y, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * columns;
    const gf_auto out = y + row * columns;
    real largest = in[0];
    GF_COLUMNS(j, columns) largest = gf_max(largest, in[j]);
    largest = gf_row_max(largest);
    gf_lane_sum terms = 0;
    GF_COLUMNS(j, columns) {
      out[j] = gf_exp(in[j] - largest);
      terms += out[j];
    }
    const gf_of_row sum = gf_row_sum(terms);
    GF_COLUMNS(j, columns) out[j] = (real)(out[j] / sum);
  }
}

GF_KERNEL(softmax_backward, const real *y, const real *d_y, real *d_x, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    gf_lane_sum terms = 0;
    GF_COLUMNS(j, columns) terms += (gf_of_row)y[row * columns + j] * d_y[row * columns + j];
    const gf_of_row dot = gf_row_sum(terms);
    GF_COLUMNS(j, columns) {
      const gf_index i = row * columns + j;
      d_x[i] = (real)(y[i] * (d_y[i] - dot));
    }
  }
}
