#include "gradflow.h"
/* What the metrics of regression are made of. For each output, over the rows of a batch with weights w, 1 where
   row_weight is null, and errors e = y - t, to five rows of `sums` are added

     sum w e^2,   sum w |e|,   sum w t,   sum w t^2,   sum w */

GF_KERNEL(add_error_sums, const real *outputs, const real *targets, const real *row_weight,
          accumulator *sums, gf_index rows, gf_index batch_rows) {
  GF_ROWS(column, rows) {
    accumulator squares = 0, absolutes = 0, ts = 0, t_squares = 0, all = 0;
    GF_COLUMN_SUMS(i, batch_rows, squares, absolutes, ts, t_squares, all) {
      const accumulator weight = row_weight ? row_weight[i] : 1;
      const accumulator t = targets[i * rows + column], error = outputs[i * rows + column] - t;
      squares += weight * (error * error);
      absolutes += weight * fabs(error);
      ts += weight * t;
      t_squares += weight * (t * t);
      all += weight;
    }
    squares = gf_row_sum(squares);
    absolutes = gf_row_sum(absolutes);
    ts = gf_row_sum(ts);
    t_squares = gf_row_sum(t_squares);
    all = gf_row_sum(all);
    GF_ONCE_PER_ROW {
      sums[column] += squares;
      sums[rows + column] += absolutes;
      sums[2 * rows + column] += ts;
      sums[3 * rows + column] += t_squares;
      sums[4 * rows + column] += all;
    }
  }
}
