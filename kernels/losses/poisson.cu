#include "gradflow.h"
#include "clock.h"
/* Poisson loss of log rates y against counts t, fused with its gradient; L is the mean over rows and columns of

     w (exp(y) - t y),      dL/dy = w / (rows columns) (exp(y) - t)

   This is the negative log-likelihood without log(t!). w is the row's weight, 1 where row_weight is null. */

GF_KERNEL(poisson, const real *outputs, const real *targets, const real *row_weight, real *d_outputs,
          real *row_losses, gf_index *clock, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const real weight = row_weight ? row_weight[row] : 1, scale = weight / (rows * columns);
    gf_lane_sum terms = 0;
    GF_COLUMNS(j, columns) {
      const gf_index i = row * columns + j;
      const real y = outputs[i], t = targets[i], rate = gf_exp(y);
      terms += rate - t * y;
      d_outputs[i] = scale * (rate - t);
    }
    const accumulator sum = gf_row_sum(terms);
    GF_ONCE_PER_ROW gf_record_loss((real)(weight * sum / columns), row, row_losses, clock);
  }
}
