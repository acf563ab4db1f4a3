#include "gradflow.h"
#include "clock.h"
/* The end of a step: the clock moves on by one step and one batch; behind the last row of the epoch the next
   epoch begins. */

GF_KERNEL(advance, gf_index *clock, gf_index batch_size, gf_index epoch_rows) {
  GF_FOR(i, 1) {
    clock[GF_STEP] += 1;
    clock[GF_POSITION] += batch_size;
    if (clock[GF_POSITION] >= epoch_rows) {
      clock[GF_POSITION] = 0;
      clock[GF_EPOCH] += 1;
    }
  }
}
