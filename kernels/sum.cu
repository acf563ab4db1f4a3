#include "gradflow.h"
/* The sum of a vector, in two steps whose order of summation does not depend on the number of threads:
   the sum of each chunk, then the sum of these. */

GF_KERNEL(chunk_sums, const real *x, accumulator *partials, gf_index chunk, gf_index n, gf_index rows) {
  GF_ROWS(row, rows) {
    const gf_index first = row * chunk, length = n - first < chunk ? n - first : chunk;
    gf_lane_sum terms = 0;
    GF_COLUMNS(j, length) terms += x[first + j];
    const accumulator sum = gf_row_sum(terms);
    GF_ONCE_PER_ROW partials[row] = sum;
  }
}

GF_KERNEL(total, const accumulator *partials, accumulator *result, gf_index columns, gf_index rows) {
  GF_ROWS(row, rows) {
    accumulator sum = 0;
    GF_COLUMNS(j, columns) sum += partials[j];
    sum = gf_row_sum(sum);
    GF_ONCE_PER_ROW result[row] = sum;
  }
}
