#include "gradflow.h"
/* y = x + bias, the same bias for each row.  (dL/dbias is the column sum of dL/dy: column_sum.cu.) */

GF_KERNEL(add_bias, const real *x, const real *bias, real *y, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * columns;
    const gf_auto out = y + row * columns;
    GF_COLUMNS_OF(j, columns, in, bias, out) out[j] = in[j] + bias[j];
  }
}
