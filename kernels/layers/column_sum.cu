#define GF_BLOCK_THREADS 1024
#include "gradflow.h"
/* sums_j = sum_i x_ij: the gradient of a bias, from the gradient of the layer's output. */

GF_KERNEL(column_sum, const real *x, real *sums, gf_index rows, gf_index columns) {
  GF_COLUMN_BLOCKS(first, columns) {
    accumulator sum[GF_COLUMN_BLOCK] = {0};
    GF_COLUMN_BLOCK_ROWS(row, rows) {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) sum[j] += x[row * columns + first + j];
    }
    gf_column_block_sum(sum);
    GF_ONCE_PER_COLUMN_BLOCK {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) sums[first + j] = (real)sum[j];
    }
  }
}
