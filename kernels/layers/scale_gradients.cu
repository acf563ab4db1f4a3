#define GF_BLOCK_THREADS 1024
#include "gradflow.h"
/* The gradients of scales and shifts (scale_columns.cu), where d_shift may be null:

     dL/dscale_j = sum_i x_ij dL/dy_ij,   dL/dshift_j = sum_i dL/dy_ij */

GF_KERNEL(scale_gradients, const real *x, const real *d_y, real *d_scale, real *d_shift, gf_index rows,
          gf_index x_columns, gf_index y_columns, gf_index columns) {
  GF_COLUMN_BLOCKS(first, columns) {
    accumulator of_scale[GF_COLUMN_BLOCK] = {0}, of_shift[GF_COLUMN_BLOCK] = {0};
    GF_COLUMN_BLOCK_ROWS(row, rows) {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) {
        const real gradient = d_y[row * y_columns + first + j];
        of_scale[j] += (accumulator)gradient * x[row * x_columns + first + j];
        of_shift[j] += gradient;
      }
    }
    gf_column_block_sum(of_scale);
    gf_column_block_sum(of_shift);
    GF_ONCE_PER_COLUMN_BLOCK {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) {
        d_scale[first + j] = (real)of_scale[j];
        if (d_shift) d_shift[first + j] = (real)of_shift[j];
      }
    }
  }
}
