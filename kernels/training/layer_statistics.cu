#include "gradflow.h"
/* The size of each layer's gradient, and of the change of its parameters in a step, from w before to w' after it:

     gradient_norm = ||g||,   update_ratio = ||w' - w|| / ||w||

   in one pass over the flat vectors, by chunks within one layer each, and then the sums of each layer's chunks: the
   order of summation does not depend on the number of threads. Means over the units of each layer work the same way. */

GF_KERNEL(chunk_changes, const real *before, const real *parameters, const real *gradients, const gf_index *chunks,
          accumulator *partials, gf_index rows) {
  GF_ROWS(row, rows) {
    const gf_index first = chunks[2 * row], length = chunks[2 * row + 1] - first;
    accumulator of_gradient = 0, of_change = 0, of_weight = 0;
    GF_COLUMN_SUMS(j, length, of_gradient, of_change, of_weight) {
      const accumulator g = gradients[first + j], w = before[first + j], change = parameters[first + j] - w;
      of_gradient += g * g;
      of_change += change * change;
      of_weight += w * w;
    }
    of_gradient = gf_row_sum(of_gradient);
    of_change = gf_row_sum(of_change);
    of_weight = gf_row_sum(of_weight);
    GF_ONCE_PER_ROW {
      partials[3 * row] = of_gradient;
      partials[3 * row + 1] = of_change;
      partials[3 * row + 2] = of_weight;
    }
  }
}

GF_KERNEL(layer_changes, const accumulator *partials, const gf_index *layers, accumulator *gradient_norms,
          accumulator *update_ratios, gf_index rows) {
  GF_ROWS(row, rows) {
    const accumulator *sums = partials + 3 * layers[2 * row];
    const gf_index length = layers[2 * row + 1] - layers[2 * row];
    accumulator of_gradient = 0, of_change = 0, of_weight = 0;
    GF_COLUMN_SUMS(j, length, of_gradient, of_change, of_weight) {
      of_gradient += sums[3 * j];
      of_change += sums[3 * j + 1];
      of_weight += sums[3 * j + 2];
    }
    of_gradient = gf_row_sum(of_gradient);
    of_change = gf_row_sum(of_change);
    of_weight = gf_row_sum(of_weight);
    GF_ONCE_PER_ROW {
      gradient_norms[row] = sqrt(of_gradient);
      update_ratios[row] = of_change == 0 ? 0 : sqrt(of_change) / sqrt(of_weight);
    }
  }
}

GF_KERNEL(layer_means, const accumulator *units, const gf_index *layers, accumulator *means, gf_index rows) {
  GF_ROWS(row, rows) {
    const accumulator *values = units + layers[2 * row];
    const gf_index length = layers[2 * row + 1] - layers[2 * row];
    accumulator sum = 0;
    GF_COLUMN_SUMS(j, length, sum) sum += values[j];
    sum = gf_row_sum(sum);
    GF_ONCE_PER_ROW means[row] = sum / length;
  }
}
