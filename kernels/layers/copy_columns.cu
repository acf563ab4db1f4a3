#include "gradflow.h"
/* y_i,(y_first + j y_step) = x_i,(x_first + j x_step) for as many j as count: columns that a layer passes through. */

GF_KERNEL(copy_columns, const real *x, real *y, gf_index count, gf_index x_first, gf_index x_step, gf_index y_first,
          gf_index y_step, gf_index rows, gf_index x_columns, gf_index y_columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * x_columns + x_first;
    const gf_auto out = y + row * y_columns + y_first;
    GF_COLUMNS(j, count) out[j * y_step] = in[j * x_step];
  }
}
