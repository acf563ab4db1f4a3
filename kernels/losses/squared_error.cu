#include "gradflow.h"
#include "clock.h"
/* Squared error of outputs y against targets t, fused with its gradient; L is the mean over the rows of

     w factor sum_j (y_j - t_j)^2,      dL/dy_j = w 2 factor / rows (y_j - t_j)

   factor is 1/2 for half_squared_error and 1 / columns for mean_squared_error. w is the row's weight, 1
   where row_weight is null. */

GF_KERNEL(squared_error, const real *outputs, const real *targets, const real *row_weight,
          real *d_outputs, real *row_losses, gf_index *clock, real factor, gf_index rows,
          gf_index columns) {
  GF_ROWS(row, rows) {
    const real weight = row_weight ? row_weight[row] : 1;
    gf_lane_sum terms = 0;
    GF_COLUMNS(j, columns) {
      const gf_index i = row * columns + j;
      const real error = outputs[i] - targets[i];
      terms += error * error;
      d_outputs[i] = weight * (2 * factor / rows) * error;
    }
    const accumulator sum = gf_row_sum(terms);
    GF_ONCE_PER_ROW gf_record_loss((real)(weight * factor * sum), row, row_losses, clock);
  }
}
