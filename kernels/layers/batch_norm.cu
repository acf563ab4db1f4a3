#define GF_BLOCK_THREADS 1024
#include "gradflow.h"
/* Batch normalization (Ioffe & Szegedy, 2015, algorithm 1) of each column, with its mean and variance:

     y_ij = gamma_j n_ij + beta_j,   n_ij = (x_ij - mean_j) / sqrt(variance_j + epsilon)

   Backward, with share = 1 / rows if mean and variance are those of this batch, and 0 if they are fixed:

     dL/dgamma_j = sum_i n_ij dL/dy_ij,   dL/dbeta_j = sum_i dL/dy_ij
     dL/dx_ij = gamma_j / sqrt(variance_j + epsilon) (dL/dy_ij - share (dL/dbeta_j + n_ij dL/dgamma_j))

   The variance is computed in two passes, about the known mean (Chan, Golub & LeVeque, 1983): a single pass over x
   and its squares would lose all digits if the mean is large compared to the standard deviation. */

GF_KERNEL(batch_norm_forward, const real *x, const real *gamma, const real *beta, real *mean, real *variance,
          real *running_mean, real *running_variance, real *y, accumulator momentum, real epsilon,
          gf_index rows, gf_index columns) {
  GF_COLUMN_BLOCKS(first, columns) {
    accumulator center[GF_COLUMN_BLOCK] = {0}, spread[GF_COLUMN_BLOCK] = {0};
    real scale[GF_COLUMN_BLOCK] = {0};
    GF_COLUMN_BLOCK_ROWS(row, rows) {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) center[j] += x[row * columns + first + j];
    }
    gf_column_block_sum(center);
    GF_COLUMN_BLOCK_COLUMNS(j, first, columns) center[j] /= rows;
    GF_COLUMN_BLOCK_ROWS(row, rows) {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) {
        const accumulator distance = x[row * columns + first + j] - center[j];
        spread[j] += distance * distance;
      }
    }
    gf_column_block_sum(spread);
    GF_COLUMN_BLOCK_COLUMNS(j, first, columns) {
      spread[j] /= rows;
      scale[j] = gamma[first + j] / gf_sqrt((real)spread[j] + epsilon);
    }
    GF_COLUMN_BLOCK_ROWS(row, rows) {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) {
        const gf_index i = row * columns + first + j;
        y[i] = (x[i] - (real)center[j]) * scale[j] + beta[first + j];
      }
    }
    GF_ONCE_PER_COLUMN_BLOCK {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) {
        const gf_index column = first + j;
        const accumulator unbiased = spread[j] * rows / (rows - 1);
        mean[column] = (real)center[j];
        variance[column] = (real)spread[j];
        running_mean[column] = (real)((1 - momentum) * running_mean[column] + momentum * center[j]);
        running_variance[column] = (real)((1 - momentum) * running_variance[column] + momentum * unbiased);
      }
    }
  }
}

GF_KERNEL(batch_norm_backward, const real *x, const real *gamma, const real *mean, const real *variance,
          const real *d_y, real *d_gamma, real *d_beta, real *d_x, real epsilon, accumulator share,
          gf_index rows, gf_index columns) {
  GF_COLUMN_BLOCKS(first, columns) {
    accumulator of_gamma[GF_COLUMN_BLOCK] = {0}, of_beta[GF_COLUMN_BLOCK] = {0};
    real inverse[GF_COLUMN_BLOCK] = {0};
    GF_COLUMN_BLOCK_COLUMNS(j, first, columns) inverse[j] = 1 / gf_sqrt(variance[first + j] + epsilon);
    GF_COLUMN_BLOCK_ROWS(row, rows) {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) {
        const gf_index i = row * columns + first + j;
        const real normalized = (x[i] - mean[first + j]) * inverse[j];
        of_gamma[j] += (accumulator)d_y[i] * normalized;
        of_beta[j] += d_y[i];
      }
    }
    gf_column_block_sum(of_gamma);
    gf_column_block_sum(of_beta);
    GF_ONCE_PER_COLUMN_BLOCK {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) {
        d_gamma[first + j] = (real)of_gamma[j];
        d_beta[first + j] = (real)of_beta[j];
      }
    }
    if (d_x) {
      GF_COLUMN_BLOCK_ROWS(row, rows) {
        GF_COLUMN_BLOCK_COLUMNS(j, first, columns) {
          const gf_index i = row * columns + first + j;
          const real normalized = (x[i] - mean[first + j]) * inverse[j];
          d_x[i] = (real)(gamma[first + j] * inverse[j] * (d_y[i] - share * (of_beta[j] + normalized * of_gamma[j])));
        }
      }
    }
  }
}
