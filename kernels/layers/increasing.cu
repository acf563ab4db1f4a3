#include "gradflow.h"
#include "sigmoid.h"
/* Outputs that increase within groups of neighboring columns: the first is x, and each of the others is the one before it
   plus softplus(x). Sums are in order, so that rounding cannot turn an increase into a decrease. */

GF_KERNEL(increasing_forward, const real *x, real *y, gf_index size, gf_index rows, gf_index columns,
          gf_index y_columns) {
  GF_ROWS(row, rows) {
    GF_COLUMNS(group, columns) {
      const gf_auto in = x + row * y_columns + group * size;
      const gf_auto out = y + row * y_columns + group * size;
      real sum = in[0];
      out[0] = sum;
      for (gf_index j = 1; j < size; j++) {
        sum += gf_softplus(in[j]);
        out[j] = sum;
      }
    }
  }
}

GF_KERNEL(increasing_backward, const real *x, const real *d_y, real *d_x, gf_index size, gf_index rows,
          gf_index columns, gf_index y_columns) {
  GF_ROWS(row, rows) {
    GF_COLUMNS(group, columns) {
      const gf_index first = row * y_columns + group * size;
      real sum = 0;
      for (gf_index j = size - 1; j > 0; j--) {
        sum += d_y[first + j];
        d_x[first + j] = gf_sigmoid(x[first + j]) * sum;
      }
      d_x[first] = sum + d_y[first];
    }
  }
}
