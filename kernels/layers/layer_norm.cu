#define GF_BLOCK_THREADS 1024
#include "gradflow.h"
/* Layer normalization (Ba, Kiros & Hinton, 2016) of each row, by its own mean and standard deviation:

     y_ij = gamma_j n_ij + beta_j,   n_ij = (x_ij - mean_i) inverse_deviation_i
     inverse_deviation_i = 1 / sqrt(variance_i + epsilon)

   Backward, where g_ij = gamma_j dL/dy_ij:

     dL/dgamma_j = sum_i n_ij dL/dy_ij,   dL/dbeta_j = sum_i dL/dy_ij
     dL/dx_ij = inverse_deviation_i (g_ij - (sum_k g_ik + n_ij sum_k g_ik n_ik) / columns)

   The variance is computed in two passes, as in batch_norm.cu. mean and inverse_deviation may be null: prediction does
   not need them. */

GF_KERNEL(layer_norm_forward, const real *x, const real *gamma, const real *beta, real *mean,
          real *inverse_deviation, real *y, real epsilon, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * columns;
    const gf_auto out = y + row * columns;
    gf_lane_sum sum = 0, squares = 0;
    GF_COLUMN_SUMS(j, columns, sum) sum += in[j];
    const gf_of_row center = gf_row_sum(sum) / columns;
    GF_COLUMN_SUMS(j, columns, squares) squares += (in[j] - center) * (in[j] - center);
    const accumulator variance = gf_row_sum(squares) / columns;
    const real inverse = 1 / gf_sqrt((real)variance + epsilon);
    GF_COLUMNS(j, columns) out[j] = (in[j] - (real)center) * inverse * gamma[j] + beta[j];
    GF_ONCE_PER_ROW {
      if (mean) mean[row] = (real)center;
      if (inverse_deviation) inverse_deviation[row] = inverse;
    }
  }
}

GF_KERNEL(layer_norm_parameter_gradients, const real *x, const real *mean, const real *inverse_deviation,
          const real *d_y, real *d_gamma, real *d_beta, gf_index rows, gf_index columns) {
  GF_COLUMN_BLOCKS(first, columns) {
    accumulator of_gamma[GF_COLUMN_BLOCK] = {0}, of_beta[GF_COLUMN_BLOCK] = {0};
    GF_COLUMN_BLOCK_ROWS(row, rows) {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) {
        const gf_index i = row * columns + first + j;
        const real normalized = (x[i] - mean[row]) * inverse_deviation[row];
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
  }
}

GF_KERNEL(layer_norm_backward, const real *x, const real *gamma, const real *mean,
          const real *inverse_deviation, const real *d_y, real *d_x, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * columns;
    const gf_auto d_out = d_y + row * columns;
    const real center = mean[row], inverse = inverse_deviation[row];
    gf_lane_sum sum = 0, dot = 0;
    GF_COLUMN_SUMS(j, columns, sum, dot) {
      const gf_of_row g = gamma[j] * d_out[j];
      sum += g;
      dot += g * ((in[j] - center) * inverse);
    }
    const accumulator mean_g = gf_row_sum(sum) / columns, mean_dot = gf_row_sum(dot) / columns;
    GF_COLUMNS(j, columns) {
      const real normalized = (in[j] - center) * inverse;
      d_x[row * columns + j] = (real)(inverse * (gamma[j] * d_out[j] - (mean_g + normalized * mean_dot)));
    }
  }
}
