#include "gradflow.h"
#include "update.h"
/* Clipping by the global norm (Pascanu, Mikolov & Bengio, 2013, algorithm 1) of the regularized gradient g:

     gradient_scale = min(1, clip_norm / norm),   norm = sqrt(sum_i g_i^2)

   in two steps whose order of summation is fixed: the sum of each chunk, then the sum of these. */

GF_KERNEL(chunk_squares, const real *parameters, const real *gradients, const double *hyper,
          accumulator *partials, gf_index n_decayed, gf_index chunk, gf_index n, gf_index rows) {
  const gf_update update = gf_make_update(hyper, 1, n_decayed > 0, 0);
  GF_ROWS(row, rows) {
    const gf_index first = row * chunk, length = n - first < chunk ? n - first : chunk;
    accumulator sum = 0;
    GF_COLUMNS(j, length) {
      const gf_index i = first + j;
      const accumulator g =
          update.is_regularized ? gf_regularized(update, gradients[i], parameters[i], i < n_decayed) : gradients[i];
      sum += g * g;
    }
    sum = gf_row_sum(sum);
    GF_ONCE_PER_ROW partials[row] = sum;
  }
}

GF_KERNEL(clip_scale, const accumulator *partials, real *gradient_scale, accumulator clip_norm,
          gf_index columns, gf_index rows) {
  GF_ROWS(row, rows) {
    accumulator sum = 0;
    GF_COLUMNS(j, columns) sum += partials[j];
    const accumulator norm = sqrt(gf_row_sum(sum));
    GF_ONCE_PER_ROW gradient_scale[row] = norm > clip_norm ? (real)(clip_norm / norm) : 1;
  }
}
