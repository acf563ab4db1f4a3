#include "gradflow.h"
#include "clock.h"
/* Quantile loss (Koenker & Bassett, 1978) of e = t - y, fused with its gradient; L is the mean over rows and
   columns of

     w max(q e, (q - 1) e),      dL/dy = w / (rows columns) (-q where e > 0, 1 - q where e < 0, else 0)

   Column j of y is quantile j % n_quantiles of target j / n_quantiles. w is the row's weight, 1
   where row_weight is null. */

GF_KERNEL(quantile, const real *outputs, const real *targets, const real *row_weight, real *d_outputs,
          real *row_losses, gf_index *clock, const real *quantiles, gf_index n_quantiles, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const real weight = row_weight ? row_weight[row] : 1, scale = weight / (rows * columns);
    gf_lane_sum terms = 0;
    GF_COLUMNS(j, columns) {
      const gf_index i = row * columns + j;
      const real level = quantiles[j % n_quantiles];
      const real error = targets[i / n_quantiles] - outputs[i];
      const real slope = error > 0 ? -level : error < 0 ? 1 - level : error;
      terms += gf_max(level * error, (level - 1) * error);
      d_outputs[i] = scale * slope;
    }
    const accumulator sum = gf_row_sum(terms);
    GF_ONCE_PER_ROW gf_record_loss((real)(weight * sum / columns), row, row_losses, clock);
  }
}
