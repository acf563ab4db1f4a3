#include "gradflow.h"
#include "clock.h"
/* Huber's loss (1964) of e = y - t, fused with its gradient; L is the mean over rows and columns of

     w c (e - c / 2) with c = e clipped to [-delta, delta],      dL/dy = w / (rows columns) c

   which is e^2 / 2 if |e| <= delta, else delta (|e| - delta / 2). w is the row's weight, 1
   where row_weight is null. */

GF_KERNEL(huber, const real *outputs, const real *targets, const real *row_weight, real *d_outputs,
          real *row_losses, gf_index *clock, real delta, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const real weight = row_weight ? row_weight[row] : 1, scale = weight / (rows * columns);
    gf_lane_sum terms = 0;
    GF_COLUMNS(j, columns) {
      const gf_index i = row * columns + j;
      const real error = outputs[i] - targets[i], held = gf_clamp(error, delta);
      terms += held * (error - held / 2);
      d_outputs[i] = scale * held;
    }
    const accumulator sum = gf_row_sum(terms);
    GF_ONCE_PER_ROW gf_record_loss((real)(weight * sum / columns), row, row_losses, clock);
  }
}
