#include "gradflow.h"
/* A matmul of its own for each of k members: y_r = W_m x_r for row r of all members' rows, of member m = r mod k. W_m has
   one row for each output. (dL/dW_m is in members.cu.) */

GF_KERNEL(member_gemm, const real *x, const real *weight, real *y, gf_index rows, gf_index columns, gf_index outputs,
          gf_index members) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * columns;
    const gf_auto out = y + row * outputs;
    for (gf_index i = 0; i < outputs; i++) {
      const gf_auto of_output = weight + (row % members * outputs + i) * columns;
      gf_lane_sum terms = 0;
      GF_COLUMN_SUMS(j, columns, terms) terms += (gf_of_row)in[j] * of_output[j];
      const accumulator sum = gf_row_sum(terms);
      GF_ONCE_PER_ROW out[i] = (real)sum;
    }
  }
}

/* dL/dx_r = W_m^T dL/dy_r */
GF_KERNEL(member_gemm_input_gradient, const real *d_y, const real *weight, real *d_x, gf_index rows, gf_index columns,
          gf_index outputs, gf_index members) {
  GF_ROWS(row, rows) {
    const gf_auto d_out = d_y + row * outputs;
    GF_COLUMN_PARTS(part, columns) {
      accumulator sums[GF_COLUMN_PART] = {0};
      for (gf_index i = 0; i < outputs; i++) {
        const gf_auto of_output = weight + (row % members * outputs + i) * columns + part;
        GF_PART_COLUMNS(j, part, columns) sums[j] += (accumulator)d_out[i] * of_output[j];
      }
      GF_PART_COLUMNS(j, part, columns) d_x[row * columns + part + j] = (real)sums[j];
    }
  }
}
