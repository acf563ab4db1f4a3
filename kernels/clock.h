/* The clock of a training run: four integers on the device that every recorded step reads.

     step             the number of the current step, counted from 1
     epoch            the number of the epoch, counted from 0 over the network's life: the key of its
                      shuffle and of its dropout masks
     position         the row of the epoch at which the batch begins
     first_bad_step   the first step whose loss, or one of whose weights at its beginning, was not finite; GF_NEVER
                      before that */

#define GF_STEP 0
#define GF_EPOCH 1
#define GF_POSITION 2
#define GF_FIRST_BAD_STEP 3
#define GF_NEVER 0x7fffffffffffffffLL

/* True once a loss or a weight was not finite: no step may change the network anymore. */
#define GF_DIVERGED(clock) ((clock)[GF_FIRST_BAD_STEP] <= (clock)[GF_STEP])

GF_FUNCTION int gf_is_finite(real x) { return x - x == 0; }

/* The next step and its batch; after the last row of an epoch, the first one of the next epoch. */
GF_FUNCTION void gf_advance(gf_index *clock, gf_index batch_size, gf_index epoch_rows) {
  clock[GF_STEP] += 1;
  clock[GF_POSITION] += batch_size;
  if (clock[GF_POSITION] >= epoch_rows) {
    clock[GF_POSITION] = 0;
    clock[GF_EPOCH] += 1;
  }
}

/* The scheduled values of the next step. */
GF_FUNCTION void gf_schedule(const gf_index *clock, const double *table, double *values, gf_index steps,
                             gf_index entries) {
  const gf_index first = clock[GF_STEP] % steps * entries;
  for (gf_index entry = 0; entry < entries; entry++) values[entry] = table[first + entry];
}

/* A kernel with GF_END_STEP at its end has a form, under CUDA only, that also ends the step (advance.cu), which saves a
   launch. Its last block does that: then no other block has to read the clock or the learning rate. */
#ifdef GF_ENDING
GF_FUNCTION void gf_end_step(gf_index *run_clock, const double *table, double *values, gf_word *arrived,
                             gf_index batch_size, gf_index epoch_rows, gf_index steps, gf_index entries) {
  __syncthreads();
  if (threadIdx.x != 0) return;
  __threadfence();
  if (atomicAdd(arrived, 1) != gridDim.x - 1) return;
  *arrived = 0;
  if (table) gf_schedule(run_clock, table, values, steps, entries);
  gf_advance(run_clock, batch_size, epoch_rows);
}
#define GF_END_STEP gf_end_step(run_clock, table, values, arrived, batch_size, epoch_rows, steps, entries)
#else
#define GF_END_STEP
#endif

/* 0 if x is finite: the bits of x - x, which is then +0, and NaN otherwise. */
GF_FUNCTION real_bits gf_bits_of_nan(real x) {
  union {
    real number;
    real_bits bits;
  } difference;
  difference.number = x - x;
  return difference.bits;
}

/* Record the loss of a row; row_losses holds one value per row of the epoch. */
GF_FUNCTION void gf_record_loss(real loss, gf_index row, real *row_losses, gf_index *clock) {
  row_losses[clock[GF_POSITION] + row] = loss;
  if (!gf_is_finite(loss)) gf_atomic_min(&clock[GF_FIRST_BAD_STEP], clock[GF_STEP]);
}

/* Record the weights of a step, of which `bad` combines gf_bits_of_nan: if one is not finite, the next step is bad (not
   this one, which other threads may still have to begin). */
GF_FUNCTION void gf_record_update(real_bits bad, gf_index *clock) {
  if (bad) gf_atomic_min(&clock[GF_FIRST_BAD_STEP], clock[GF_STEP] + 1);
}
