#define GF_BLOCK_THREADS 1024
#include "gradflow.h"
/* sums_j = sum_i x_ij: the gradient of a bias from that of the layer's output. */

GF_KERNEL(column_sum, const real *x, real *sums, gf_index rows, gf_index columns) {
  GF_STRIPES(first, columns) {
    accumulator sum[GF_STRIPE] = {0};
    GF_STRIPE_ROWS(row, rows) {
      GF_STRIPE_COLUMNS(j, first, columns) sum[j] += x[row * columns + first + j];
    }
    gf_stripe_sum(sum);
    GF_ONCE_PER_STRIPE {
      GF_STRIPE_COLUMNS(j, first, columns) sums[first + j] = (real)sum[j];
    }
  }
}
