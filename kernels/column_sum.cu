#define GF_BLOCK_THREADS 1024
#include "gradflow.h"
/* sums_j = sum_i x_ij: the gradient of a bias from that of the layer's output.

   CUDA only; its twin for the C compiler is column_sum.c, since the two walk the matrix differently. Here a
   block takes 32 columns and 32 row lanes, so that neighbouring threads read neighbouring columns; each
   lane sums every 32nd row, and the lanes are added in a fixed order. */

GF_KERNEL(column_sum, const real *x, real *sums, gf_index rows, gf_index columns) {
  __shared__ accumulator lanes[32][33];
  const int column_lane = threadIdx.x % 32, row_lane = threadIdx.x / 32;
  for (gf_index first = blockIdx.x * (gf_index)32; first < columns; first += gridDim.x * (gf_index)32) {
    const gf_index column = first + column_lane;
    accumulator sum = 0;
    if (column < columns)
      for (gf_index row = row_lane; row < rows; row += 32) sum += x[row * columns + column];
    lanes[row_lane][column_lane] = sum;
    __syncthreads();
    /* Each warp now holds one column, its lanes the 32 partial sums. */
    sum = gf_row_sum(lanes[column_lane][row_lane]);
    if (column_lane == 0 && first + row_lane < columns) sums[first + row_lane] = (real)sum;
    __syncthreads();
  }
}
