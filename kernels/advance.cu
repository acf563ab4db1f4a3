#include "gradflow.h"
#include "clock.h"
/* The end of a step advances the clock by one step and one batch; after the last row of an epoch, the next epoch
   begins (clock.h). With schedules, it also writes the learning rate and other values of the next step: step s, counted
   from 0, has row s mod steps of `table`, which holds those of the current epoch.
   If a batch is processed in parts, only the position advances between them. */

GF_KERNEL(advance, gf_index *clock, gf_index batch_size, gf_index epoch_rows) {
  GF_ROWS(row, 1) GF_ONCE_PER_ROW gf_advance(clock, batch_size, epoch_rows);
}

GF_KERNEL(advance_scheduled, gf_index *clock, const double *table, double *values, gf_index batch_size,
          gf_index epoch_rows, gf_index steps, gf_index entries) {
  GF_ROWS(row, 1) GF_ONCE_PER_ROW {
    gf_schedule(clock, table, values, steps, entries);
    gf_advance(clock, batch_size, epoch_rows);
  }
}

GF_KERNEL(advance_part, gf_index *clock, gf_index part_rows) {
  GF_ROWS(row, 1) GF_ONCE_PER_ROW clock[GF_POSITION] += part_rows;
}
