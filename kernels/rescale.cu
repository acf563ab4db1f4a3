#include "gradflow.h"
/* y_ij = mean_j + deviation_j x_ij: standardised outputs on the scale of the targets. */

GF_KERNEL(rescale, const real *x, const real *mean, const real *deviation, real *y, gf_index rows,
          gf_index columns) {
  GF_ROWS(row, rows) {
    GF_COLUMNS(j, columns) y[row * columns + j] = mean[j] + deviation[j] * x[row * columns + j];
  }
}
