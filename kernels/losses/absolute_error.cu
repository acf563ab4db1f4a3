#include "gradflow.h"
#include "clock.h"
/* Absolute error of outputs y against targets t, fused with its gradient; L is the mean over rows and columns of

     w |y - t|,      dL/dy = w / (rows columns) sign(y - t), 0 where y = t

   w is the row's weight, 1 where row_weight is null. */

GF_KERNEL(absolute_error, const real *outputs, const real *targets, const real *row_weight, real *d_outputs,
          real *row_losses, gf_index *clock, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const real weight = row_weight ? row_weight[row] : 1, scale = weight / (rows * columns);
    gf_lane_sum terms = 0;
    GF_COLUMNS(j, columns) {
      const gf_index i = row * columns + j;
      const real error = outputs[i] - targets[i];
      terms += gf_fabs(error);
      d_outputs[i] = error > 0 ? scale : error < 0 ? -scale : scale * error;
    }
    const accumulator sum = gf_row_sum(terms);
    GF_ONCE_PER_ROW gf_record_loss((real)(weight * sum / columns), row, row_losses, clock);
  }
}
