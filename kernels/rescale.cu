#include "gradflow.h"
/* y_ij = mean_j + deviation_j x_ij: standardized outputs, converted to the units of the targets. */

GF_KERNEL(rescale, const real *x, const real *mean, const real *deviation, real *y, gf_index rows,
          gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * columns;
    const gf_auto out = y + row * columns;
    GF_COLUMNS_OF(j, columns, in, mean, deviation, out) out[j] = mean[j] + deviation[j] * in[j];
  }
}

/* y_ij = x_ij, limited to the range from low_j to high_j; NaN stays NaN. */
GF_KERNEL(clamp_columns, const real *x, const real *low, const real *high, real *y, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * columns;
    const gf_auto out = y + row * columns;
    GF_COLUMNS_OF(j, columns, in, low, high, out)
      out[j] = in[j] > high[j] ? high[j] : in[j] < low[j] ? low[j] : in[j];
  }
}
