#include "gradflow.h"
/* y_ij = scale_j x_ij + shift_j in the first columns of x and y; shift may be null. */

GF_KERNEL(scale_columns, const real *x, const real *scale, const real *shift, real *y, gf_index rows,
          gf_index x_columns, gf_index y_columns, gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * x_columns;
    const gf_auto out = y + row * y_columns;
    GF_COLUMNS(j, columns) out[j] = scale[j] * in[j] + (shift ? shift[j] : (real)0);
  }
}
