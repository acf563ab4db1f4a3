#define GF_BLOCK_THREADS 1024
#include "gradflow.h"
#include "periodic.h"
/* The gradients of the frequencies and phases of waves; t and s are as in periodic.cu:

     dL/dfrequency_jk = sum_i x_ij s_ijk,   dL/dphase_jk = turns_per_phase sum_i s_ijk */

GF_KERNEL(periodic_parameter_gradients, const real *x, const real *frequencies, const real *phases, const real *d_z,
          real *d_frequencies, real *d_phases, int sines, real turns_per_phase, gf_index rows, gf_index x_columns,
          gf_index z_columns, gf_index numbers, gf_index waves, gf_index columns) {
  const gf_index size = z_columns / numbers, first = size - (sines ? 2 : 1) * waves;
  GF_COLUMN_BLOCKS(first_wave, columns) {
    accumulator of_frequencies[GF_COLUMN_BLOCK] = {0}, of_phases[GF_COLUMN_BLOCK] = {0};
    GF_COLUMN_BLOCK_RUNS(k, run, first_wave, columns, waves) {
      const gf_index column = (first_wave + k) / waves, wave = (first_wave + k) % waves;
      GF_COLUMN_BLOCK_ROWS(row, rows) {
        const real number = x[row * x_columns + column];
        const gf_auto d_out = d_z + row * z_columns + column * size + first + wave;
        for (gf_index i = 0; i < run; i++) {
          const real d_sine = sines ? d_out[i + waves] : (real)0;
          const real slope = gf_wave_slope(GF_TURNS(number, first_wave + k + i), d_out[i], d_sine);
          of_frequencies[k + i] += (accumulator)number * slope;
          of_phases[k + i] += slope;
        }
      }
    }
    gf_column_block_sum(of_frequencies);
    gf_column_block_sum(of_phases);
    GF_ONCE_PER_COLUMN_BLOCK {
      GF_COLUMN_BLOCK_COLUMNS(k, first_wave, columns) {
        d_frequencies[first_wave + k] = (real)of_frequencies[k];
        if (d_phases) d_phases[first_wave + k] = (real)(turns_per_phase * of_phases[k]);
      }
    }
  }
}
