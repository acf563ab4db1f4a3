#include "gradflow.h"
/* Piecewise linear encoding of the numbers in the first columns of x (Gorishniy, Rubachev & Babenko, 2022, equation 1):

     z_ijt = (x_ij - start_jt) slope_jt, clipped to [0, 1],   slope_jt = 1 / (width of bin t)

   so that bins below x are 1, its own the fraction of it below x, and those above 0. The first bin has no lower limit and
   the last no upper one. Bins of slope 0 at the end are padding, and 0.

   Backward: dL/dx_ij = sum_t slope_jt dL/dz_ijt over the bins that are not clipped, which is added to d_x. */

GF_KERNEL(piecewise_forward, const real *x, const real *starts, const real *slopes, real *z, gf_index rows,
          gf_index x_columns, gf_index numbers, gf_index bins) {
  GF_ROWS(row, rows) {
    for (gf_index j = 0; j < numbers; j++) {
      const real number = x[row * x_columns + j];
      const gf_auto start = starts + j * bins;
      const gf_auto slope = slopes + j * bins;
      const gf_auto out = z + (row * numbers + j) * bins;
      GF_COLUMNS(t, bins) {
        const real place = (number - start[t]) * slope[t];
        const int is_last = t == bins - 1 || slope[t + 1] == 0;
        out[t] = place < 0 && t > 0 ? (real)0 : place > 1 && !is_last ? (real)1 : place;
      }
    }
  }
}

GF_KERNEL(piecewise_backward, const real *x, const real *starts, const real *slopes, const real *d_z, real *d_x,
          gf_index rows, gf_index x_columns, gf_index numbers, gf_index bins) {
  GF_ROWS(row, rows) {
    for (gf_index j = 0; j < numbers; j++) {
      const real number = x[row * x_columns + j];
      const gf_auto start = starts + j * bins;
      const gf_auto slope = slopes + j * bins;
      const gf_auto d_out = d_z + (row * numbers + j) * bins;
      gf_lane_sum sum = 0;
      GF_COLUMN_SUMS(t, bins, sum) {
        const real place = (number - start[t]) * slope[t];
        const int is_last = t == bins - 1 || slope[t + 1] == 0;
        const real of_bin = (place <= 0 && t > 0) || (place >= 1 && !is_last) ? (real)0 : slope[t];
        sum += of_bin * d_out[t];
      }
      const accumulator total = gf_row_sum(sum);
      GF_ONCE_PER_ROW d_x[row * x_columns + j] = (real)(d_x[row * x_columns + j] + total);
    }
  }
}
