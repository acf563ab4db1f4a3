#include "gradflow.h"
/* The moments for the regression metrics. For each output, with weights w (1 where row_weight is null), errors
   e = y - t and the mean m of t, the rows of a batch are added to the five rows of `moments`:

     sum w e^2,   sum w |e|,   m,   sum w (t - m)^2,   sum w

   The mean of the batch is computed about its first target with a weight above 0, then the spread about that mean; then
   both are combined with those of the earlier rows (Chan, Golub & LeVeque, 1979, equation 2.1). */

GF_KERNEL(add_error_moments, const real *outputs, const real *targets, const real *row_weight,
          accumulator *moments, gf_index rows, gf_index batch_rows) {
  GF_ROWS(column, rows) {
    gf_index first = row_weight ? batch_rows : 0;
    if (row_weight) {
      GF_COLUMNS(i, batch_rows) {
        if (row_weight[i] > 0 && i < first) first = i;
      }
      first = gf_row_min_index(first);
    }
    if (first < batch_rows) {
      const accumulator origin = targets[first * rows + column];
      accumulator squares = 0, absolutes = 0, distances = 0, added = 0, spread = 0;
      GF_COLUMN_SUMS(i, batch_rows, squares, absolutes, distances, added) {
        const accumulator weight = row_weight ? row_weight[i] : 1;
        const accumulator t = targets[i * rows + column], error = outputs[i * rows + column] - t;
        squares += weight * (error * error);
        absolutes += weight * fabs(error);
        distances += weight * (t - origin);
        added += weight;
      }
      squares = gf_row_sum(squares);
      absolutes = gf_row_sum(absolutes);
      added = gf_row_sum(added);
      const accumulator mean = origin + gf_row_sum(distances) / added;
      GF_COLUMN_SUMS(i, batch_rows, spread) {
        const accumulator weight = row_weight ? row_weight[i] : 1;
        const accumulator distance = targets[i * rows + column] - mean;
        spread += weight * (distance * distance);
      }
      spread = gf_row_sum(spread);
      GF_ONCE_PER_ROW {
        const accumulator before = moments[4 * rows + column], distance = mean - moments[2 * rows + column];
        const accumulator part = added / (before + added);
        moments[column] += squares;
        moments[rows + column] += absolutes;
        moments[2 * rows + column] += distance * part;
        moments[3 * rows + column] += spread + distance * (before * part) * distance;
        moments[4 * rows + column] = before + added;
      }
    }
  }
}
