#include "gradflow.h"
/* Normalization of each column by a known mean and variance: batch normalization outside of training.

     y_ij = gamma_j (x_ij - mean_j) / sqrt(variance_j + epsilon) + beta_j */

GF_KERNEL(normalize_columns, const real *x, const real *gamma, const real *beta, const real *mean,
          const real *variance, real *y, real epsilon, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * columns;
    const gf_auto out = y + row * columns;
    GF_COLUMNS_OF(j, columns, in, gamma, beta, mean, variance, out)
      out[j] = (in[j] - mean[j]) * (gamma[j] / gf_sqrt(variance[j] + epsilon)) + beta[j];
  }
}
