#include "gradflow.h"
#include "clock.h"
#include "sigmoid.h"
/* Binary cross-entropy on logits z with targets t in [0, 1], fused with its gradient; L is the mean over
   rows and columns of

     w (max(z, 0) - z t + log(1 + exp(-|z|))),      dL/dz = w / (rows columns) (sigmoid(z) - t)

   which equals -t log(sigmoid(z)) - (1 - t) log(1 - sigmoid(z)) without overflow. w is the row's weight, 1
   where row_weight is null. row_correct is the fraction of the row's outputs with (z > 0) == (t > 1/2). */

GF_KERNEL(binary_cross_entropy, const real *logits, const real *targets, const real *row_weight,
          real *d_logits, real *row_losses, real *row_correct, gf_index *clock, gf_index rows,
          gf_index columns) {
  GF_ROWS(row, rows) {
    const real weight = row_weight ? row_weight[row] : 1;
    gf_lane_sum losses = 0, hits = 0;
    GF_COLUMNS(j, columns) {
      const gf_index i = row * columns + j;
      const real z = logits[i], t = targets[i];
      losses += gf_max(z, 0) - z * t + gf_softplus_rest(z);
      hits += (z > 0) == (t > (real)0.5);
      d_logits[i] = (gf_sigmoid(z) - t) * weight / (rows * columns);
    }
    const accumulator loss = gf_row_sum(losses), correct = gf_row_sum(hits);
    GF_ONCE_PER_ROW {
      gf_record_loss((real)(weight * loss / columns), row, row_losses, clock);
      row_correct[clock[GF_POSITION] + row] = (real)(correct / columns);
    }
  }
}
