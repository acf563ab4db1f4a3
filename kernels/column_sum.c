#include "gradflow.h"
/* sums_j = sum_i x_ij: the gradient of a bias from that of the layer's output.

   For the C compiler; its CUDA twin is column_sum.cu. The range is one of columns. Rows are walked in order
   for 64 columns at a time, so that memory is read along the rows. */

GF_KERNEL(column_sum, const real *x, real *sums, gf_index rows, gf_index columns) {
  GF_BLOCKS(first, columns, 64) {
    const gf_index width = end - first < 64 ? end - first : 64;
    accumulator sum[64] = {0};
    for (gf_index row = 0; row < rows; row++) {
      const real *in = x + row * columns + first;
      for (gf_index j = 0; j < width; j++) sum[j] += in[j];
    }
    for (gf_index j = 0; j < width; j++) sums[first + j] = (real)sum[j];
  }
}
