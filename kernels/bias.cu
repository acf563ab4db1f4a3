#include "gradflow.h"
/* y = x + bias, the same bias for each row.  (dL/dbias is the column sum of dL/dy: column_sum.cu.) */

GF_KERNEL(add_bias, const real *x, const real *bias, real *y, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    GF_COLUMNS(j, columns) y[row * columns + j] = x[row * columns + j] + bias[j];
  }
}
