#define GF_BLOCK_THREADS 1024
#include "gradflow.h"
/* Matmuls with one row, one column or an inner size of 1, fused with the calls after them: cuBLASLt's epilogues support
   only larger ones. CUDA only; on the CPU, the BLAS and separate kernels compute this.

     narrow_weight_gradient   out = a^T b,  sums_j = sum_r b_rj:   dL/dweight = x^T dL/dy with dL/dbias
     narrow_relu_gradient     out = a b^T where y > 0, else 0:     dL/dx = dL/dy weight^T through ReLU

   Each input is read once, and reading takes all the time. */

/* As in GF_COLUMN_BLOCKS, a block has 32 results and 32 row lanes; the sums come after the results of the matmul. */
GF_KERNEL(narrow_weight_gradient, const real *a, const real *b, real *out, real *sums, gf_index inner,
          gf_index rows, gf_index columns) {
  __shared__ accumulator lanes[32][33];
  const int result_lane = threadIdx.x % 32, row_lane = threadIdx.x / 32;
  const gf_index results = (rows + 1) * columns;
  for (gf_index first = blockIdx.x * (gf_index)32; first < results; first += gridDim.x * (gf_index)32) {
    const gf_index i = (first + result_lane) / columns, j = (first + result_lane) % columns;
    accumulator sum = 0;
    if (i <= rows)
      for (gf_index r = row_lane; r < inner; r += 32)
        sum += i < rows ? a[r * rows + i] * b[r * columns + j] : b[r * columns + j];
    lanes[row_lane][result_lane] = sum;
    __syncthreads();
    /* Each warp now holds one result, its lanes the 32 partial sums. */
    sum = gf_row_sum(lanes[result_lane][row_lane]);
    const gf_index result = first + row_lane;
    if (result_lane == 0 && result < results)
      *(result < rows * columns ? &out[result] : &sums[result - rows * columns]) = (real)sum;
    __syncthreads();
  }
}

/* One warp per result, or one thread if the sum has one term. */
GF_KERNEL(narrow_relu_gradient, const real *a, const real *b, const real *y, real *out, gf_index inner,
          gf_index rows, gf_index columns) {
  if (inner == 1) {
    for (gf_index i = GF_THREAD; i < rows * columns; i += GF_THREADS)
      out[i] = y[i] <= 0 ? (real)0 : (real)(a[i / columns] * b[i % columns]);
    return;
  }
  for (gf_index i = GF_THREAD / 32; i < rows * columns; i += GF_THREADS / 32) {
    const gf_auto of_row = a + i / columns * inner;
    const gf_auto of_column = b + i % columns * inner;
    accumulator sum = 0;
    GF_COLUMNS(k, inner) sum += of_row[k] * of_column[k];
    sum = gf_row_sum(sum);
    GF_ONCE_PER_ROW out[i] = y[i] <= 0 ? 0 : (real)sum;
  }
}
