#define GF_BLOCK_THREADS 1024
#include "gradflow.h"
/* Ensembles of k members that share weights (Wen, Tran & Ba, 2020; Gorishniy, Kotelnikov & Babenko, 2025). The values of
   the members stand side by side: row i of a batch has k n columns, of which member m has the columns from m n on. Seen
   as k rows of n columns each, the same memory is the input of layers that all members share.

     scale_members     y_i,mj = x_i,j s_mj, or x_i,mj s_mj if x has the columns of all members already
     sum_members       y_ij = sum_m x_i,mj s_mj
     member_gemm       y_r = W_m x_r for row r of all members' rows, m = r mod k (member_gemm.cu) */

GF_KERNEL(scale_members, const real *x, const real *scale, real *y, gf_index rows, gf_index x_columns,
          gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * x_columns;
    for (gf_index first = 0; first < columns; first += x_columns) {
      const gf_auto of_member = scale + first;
      const gf_auto out = y + row * columns + first;
      GF_COLUMNS(j, x_columns) out[j] = in[j] * of_member[j];
    }
  }
}

GF_KERNEL(sum_members, const real *x, const real *scale, real *y, gf_index rows, gf_index columns,
          gf_index y_columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * columns;
    const gf_auto out = y + row * y_columns;
    GF_COLUMNS(j, y_columns) {
      accumulator sum = 0;
      for (gf_index i = j; i < columns; i += y_columns) sum += (accumulator)in[i] * scale[i];
      out[j] = (real)sum;
    }
  }
}

/* dL/ds_mj = sum_i x_i,j dL/dy_i,mj */
GF_KERNEL(scale_members_gradient, const real *x, const real *d_y, real *d_scale, gf_index rows, gf_index x_columns,
          gf_index columns) {
  GF_COLUMN_BLOCKS(first, columns) {
    accumulator sum[GF_COLUMN_BLOCK] = {0};
    GF_COLUMN_BLOCK_RUNS(j, run, first, columns, x_columns) {
      GF_COLUMN_BLOCK_ROWS(row, rows) {
        const gf_auto in = x + row * x_columns + (first + j) % x_columns;
        const gf_auto d_out = d_y + row * columns + first + j;
        for (gf_index k = 0; k < run; k++) sum[j + k] += (accumulator)in[k] * d_out[k];
      }
    }
    gf_column_block_sum(sum);
    GF_ONCE_PER_COLUMN_BLOCK {
      GF_COLUMN_BLOCK_COLUMNS(j, first, columns) d_scale[first + j] = (real)sum[j];
    }
  }
}

/* dL/dW_m = sum over the rows r of member m of dL/dy_r x_r^T. A row here is one of the batch, with the columns of all
   members, and depth is the number of columns of one. */
GF_KERNEL(member_gemm_weight_gradient, const real *x, const real *d_y, real *d_weight, gf_index rows, gf_index columns,
          gf_index depth, gf_index outputs, gf_index y_columns) {
  GF_COLUMN_BLOCKS(first, columns) {
    for (gf_index i = 0; i < outputs; i++) {
      accumulator sum[GF_COLUMN_BLOCK] = {0};
      GF_COLUMN_BLOCK_RUNS(j, run, first, columns, depth) {
        const gf_index output = (first + j) / depth * outputs + i;
        GF_COLUMN_BLOCK_ROWS(row, rows) {
          const gf_auto in = x + row * columns + first + j;
          const real d_out = d_y[row * y_columns + output];
          for (gf_index k = 0; k < run; k++) sum[j + k] += (accumulator)in[k] * d_out;
        }
      }
      gf_column_block_sum(sum);
      GF_ONCE_PER_COLUMN_BLOCK {
        GF_COLUMN_BLOCK_RUNS(j, run, first, columns, depth) {
          const gf_auto out = d_weight + ((first + j) / depth * outputs + i) * depth + (first + j) % depth;
          for (gf_index k = 0; k < run; k++) out[k] = (real)sum[j + k];
        }
      }
    }
  }
}
