#include "gradflow.h"
/* What the metrics of regression are made of. For each output, over the rows of a batch with weights w, 1 where
   row_weight is null, errors e = y - t, and m the mean of t, the five rows of `moments` become those of more rows:

     sum w e^2,   sum w |e|,   m,   sum w (t - m)^2,   sum w

   The batch's mean is taken first, about its first target of a weight above 0, and the spread about that mean; then
   both are joined with those of the rows before (Chan, Golub & LeVeque, 1979, equation 2.1). */

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
