#define GF_BLOCK_THREADS 1024
#include "gradflow.h"
/* y_ij = (1 - alpha_j) x_ij + alpha_j f_ij, for an activation f of x: exactly f where alpha is 1. With dL/dy in place of x
   and f'(x) dL/dy in place of f it is also the backward pass. dL/dalpha_j = sum_i (f_ij - x_ij) dL/dy_ij. */

GF_KERNEL(blend, const real *x, const real *f, const real *alpha, real *y, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * columns;
    const gf_auto other = f + row * columns;
    const gf_auto out = y + row * columns;
    GF_COLUMNS(j, columns) out[j] = (1 - alpha[j]) * in[j] + alpha[j] * other[j];
  }
}

GF_KERNEL(blend_gradient, const real *x, const real *f, const real *d_y, real *d_alpha, gf_index rows,
          gf_index columns) {
  GF_COLUMN_BLOCKS(first, columns) {
    accumulator sum[GF_COLUMN_BLOCK] = {0};
    GF_COLUMN_BLOCK_ROWS(row, rows) {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) {
        const gf_index i = row * columns + first + j;
        sum[j] += (accumulator)(f[i] - x[i]) * d_y[i];
      }
    }
    gf_column_block_sum(sum);
    GF_ONCE_PER_COLUMN_BLOCK {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) d_alpha[first + j] = (real)sum[j];
    }
  }
}
