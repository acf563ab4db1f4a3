#include "gradflow.h"
#include "periodic.h"
/* Waves of the numbers in the first columns of x (Gorishniy, Rubachev & Babenko, 2022, section 3.3):

     z_ijk = cos(2 pi t_ijk),   t_ijk = frequency_jk x_ij + turns_per_phase phase_jk

   With `sines`, as many sin(2 pi t_ijk) follow the cosines. They are the last features of column j in z, which has room
   for others before them. phases may be null.

   Backward, with s_ijk = dL/dt_ijk = 2 pi (cos(2 pi t_ijk) dL/dsine_ijk - sin(2 pi t_ijk) dL/dcosine_ijk):

     dL/dx_ij = sum_k frequency_jk s_ijk, which is added to d_x

   The gradients of the parameters are in periodic_gradients.cu. */

GF_KERNEL(periodic_forward, const real *x, const real *frequencies, const real *phases, real *z, int sines,
          real turns_per_phase, gf_index rows, gf_index x_columns, gf_index z_columns, gf_index numbers,
          gf_index waves) {
  const gf_index size = z_columns / numbers, first = size - (sines ? 2 : 1) * waves;
  GF_ROWS(row, rows) {
    for (gf_index j = 0; j < numbers; j++) {
      const real number = x[row * x_columns + j];
      const gf_auto cosines = z + row * z_columns + j * size + first;
      GF_COLUMNS(k, waves) cosines[k] = gf_cos_turns(GF_TURNS(number, j * waves + k));
      if (sines) GF_COLUMNS(k, waves) cosines[waves + k] = gf_sin_turns(GF_TURNS(number, j * waves + k));
    }
  }
}

GF_KERNEL(periodic_backward, const real *x, const real *frequencies, const real *phases, const real *d_z, real *d_x,
          int sines, real turns_per_phase, gf_index rows, gf_index x_columns, gf_index z_columns, gf_index numbers,
          gf_index waves) {
  const gf_index size = z_columns / numbers, first = size - (sines ? 2 : 1) * waves;
  GF_ROWS(row, rows) {
    for (gf_index j = 0; j < numbers; j++) {
      const real number = x[row * x_columns + j];
      const gf_auto d_cosines = d_z + row * z_columns + j * size + first;
      gf_lane_sum sum = 0;
      GF_COLUMN_SUMS(k, waves, sum) {
        const real d_sine = sines ? d_cosines[waves + k] : (real)0;
        sum += frequencies[j * waves + k] * gf_wave_slope(GF_TURNS(number, j * waves + k), d_cosines[k], d_sine);
      }
      const accumulator total = gf_row_sum(sum);
      GF_ONCE_PER_ROW d_x[row * x_columns + j] = (real)(d_x[row * x_columns + j] + total);
    }
  }
}
