/* The clock of a training run: four integers on the device that every recorded step reads.

     step             the number of the current step, counted from 1
     epoch            the number of the epoch, counted from 0 over the network's life: the key of its
                      shuffle and of its dropout masks
     position         the row of the epoch at which the batch begins
     first_bad_step   the first step whose loss was not finite; the largest integer before that */

#define GF_STEP 0
#define GF_EPOCH 1
#define GF_POSITION 2
#define GF_FIRST_BAD_STEP 3

/* True once a loss was not finite: no step may change the network anymore. */
#define GF_DIVERGED(clock) ((clock)[GF_FIRST_BAD_STEP] <= (clock)[GF_STEP])

/* Record the loss of a row; row_losses holds one value per row of the epoch. */
GF_FUNCTION void gf_record_loss(real loss, gf_index row, real *row_losses, gf_index *clock) {
  row_losses[clock[GF_POSITION] + row] = loss;
  if (!(loss - loss == 0)) gf_atomic_min(&clock[GF_FIRST_BAD_STEP], clock[GF_STEP]);
}
