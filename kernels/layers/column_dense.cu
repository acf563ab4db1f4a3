#include "gradflow.h"
#ifndef __CUDACC__
#include "gemm_vectors.h"
#include "gemm_tiles.h"
#endif
/* A dense layer for the features of each column by itself (Gorishniy, Rubachev & Babenko, 2022):

     y_i,(j step + s) = f(sum_k weight_jsk z_ijk + bias_js),   f the identity, or max(0, .) if it is rectified

   y has room for other columns. Backward, where g is dL/dy, and 0 where a rectified y is not above 0; y is null if it is
   not rectified:

     dL/dweight_jsk = sum_i g_i,(j step + s) z_ijk,   dL/dbias_js = sum_i g_i,(j step + s)
     dL/dz_ijk = sum_s g_i,(j step + s) weight_jsk

   As in a matmul, sums over the features have the type of the arrays. */

#define GF_GATED(i) (!y || y[i] > 0 ? d_y[i] : (real)0)

GF_KERNEL(column_dense_forward, const real *z, const real *weight, const real *bias, real *y, gf_index step,
          int is_rectified, gf_index rows, gf_index y_columns, gf_index numbers, gf_index outputs, gf_index features) {
  GF_ROW_BLOCKS(row, rows) {
    for (gf_index j = 0; j < numbers; j++) {
      const gf_auto in = z + (row * numbers + j) * features;
      const gf_auto weights = weight + j * outputs * features;
      const gf_auto out = y + row * y_columns + j * step;
#ifdef __CUDACC__
      for (gf_index s = 0; s < outputs; s++) {
        real sum = 0;
        GF_COLUMN_SUMS(k, features, sum) sum += in[k] * weights[s * features + k];
        const real value = gf_row_sum(sum) + bias[j * outputs + s];
        GF_ONCE_PER_ROW out[s] = is_rectified && value <= 0 ? (real)0 : value;
      }
#else
      const gf_part a = {in, numbers * features, 1}, b = {weights, 1, features};
      gf_matmul(a, gf_block_rows(row), b, outputs, features, out, y_columns);
      for (gf_index i = 0; i < gf_block_rows(row); i++)
        GF_COLUMNS(s, outputs) {
          const real value = out[i * y_columns + s] + bias[j * outputs + s];
          out[i * y_columns + s] = is_rectified && value <= 0 ? (real)0 : value;
        }
#endif
    }
  }
}

GF_KERNEL(column_dense_parameter_gradients, const real *z, const real *d_y, const real *y, real *d_weight,
          real *d_bias, gf_index step, gf_index batch, gf_index y_columns, gf_index numbers, gf_index outputs,
          gf_index features, gf_index rows) {
  GF_ROWS(unit, rows) {
    const gf_index number = unit / outputs, place = number * step + unit % outputs;
    GF_COLUMN_PARTS(part, features) {
      accumulator sums[GF_COLUMN_PART] = {0};
      for (gf_index i = 0; i < batch; i++) {
        const real gradient = GF_GATED(i * y_columns + place);
        const gf_auto in = z + (i * numbers + number) * features;
        GF_PART_COLUMNS(k, part, features) sums[k] += (accumulator)gradient * in[part + k];
      }
      GF_PART_COLUMNS(k, part, features) d_weight[unit * features + part + k] = (real)sums[k];
    }
    gf_lane_sum sum = 0;
    GF_COLUMN_SUMS(i, batch, sum) sum += GF_GATED(i * y_columns + place);
    const accumulator total = gf_row_sum(sum);
    GF_ONCE_PER_ROW d_bias[unit] = (real)total;
  }
}

GF_KERNEL(column_dense_backward, const real *d_y, const real *y, const real *weight, real *d_z, gf_index step,
          gf_index rows, gf_index y_columns, gf_index numbers, gf_index outputs, gf_index features) {
  GF_ROW_BLOCKS(first, rows) {
#ifndef __CUDACC__
    if (!y) {
      for (gf_index j = 0; j < numbers; j++) {
        const gf_part a = {d_y + first * y_columns + j * step, y_columns, 1};
        const gf_part b = {weight + j * outputs * features, features, 1};
        gf_matmul(a, gf_block_rows(first), b, features, outputs, d_z + (first * numbers + j) * features,
                  numbers * features);
      }
      continue;
    }
#endif
    GF_OF_BLOCK(i, gf_block_rows(first)) {
      const gf_index row = first + i;
      for (gf_index j = 0; j < numbers; j++) {
        const gf_auto d_in = d_z + (row * numbers + j) * features;
        GF_COLUMN_PARTS(part, features) {
          real sums[GF_COLUMN_PART] = {0};
          for (gf_index s = 0; s < outputs; s++) {
            const real gradient = GF_GATED(row * y_columns + j * step + s);
            const gf_auto weights = weight + (j * outputs + s) * features + part;
            GF_PART_COLUMNS(k, part, features) sums[k] += gradient * weights[k];
          }
          GF_PART_COLUMNS(k, part, features) d_in[part + k] = sums[k];
        }
      }
    }
  }
}
