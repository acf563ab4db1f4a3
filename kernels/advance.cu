#include "gradflow.h"
#include "clock.h"
#include "update.h"
/* The end of a step advances the clock by one step and one batch; after the last row of an epoch, the next epoch
   begins (clock.h). With a schedule, it also writes the learning rate of the next step: step s, counted from 0, has
   rates[s mod steps], where `rates` holds the rates of the current epoch.
   If a batch is processed in parts, only the position advances between them. */

GF_KERNEL(advance, gf_index *clock, gf_index batch_size, gf_index epoch_rows) {
  GF_ROWS(row, 1) GF_ONCE_PER_ROW gf_advance(clock, batch_size, epoch_rows);
}

GF_KERNEL(advance_scheduled, gf_index *clock, const double *rates, double *hyper, gf_index batch_size,
          gf_index epoch_rows, gf_index steps) {
  GF_ROWS(row, 1) GF_ONCE_PER_ROW {
    hyper[GF_LEARNING_RATE] = rates[clock[GF_STEP] % steps];
    gf_advance(clock, batch_size, epoch_rows);
  }
}

GF_KERNEL(advance_part, gf_index *clock, gf_index part_rows) {
  GF_ROWS(row, 1) GF_ONCE_PER_ROW clock[GF_POSITION] += part_rows;
}
