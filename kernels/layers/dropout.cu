#include "gradflow.h"
#include "clock.h"
#include "philox.h"
/* Inverted dropout (Srivastava et al., 2014): y = scale x with probability 1 - rate, else 0, where
   scale = 1 / (1 - rate). Element i is kept if word i of Philox for (seed, stream, position, epoch) is at
   least threshold = rate 2^32; with the batch's position in the epoch, each part of a step has its own words. A process
   that computes only some rows of a batch, before which there are rows_before others, has the words of its rows in the
   whole batch: words_before, a multiple of four, come before them. The derivative is the same map, dL/dx = scale dL/dy where kept, so the backward pass calls the same kernel on dL/dy and
   stores no mask. */

GF_KERNEL(dropout, const real *x, real *y, const gf_index *clock, gf_word threshold, real scale,
          gf_long_word seed, gf_word stream, gf_index rows_before, gf_index words_before, gf_index n) {
  const gf_long_word batch = (gf_long_word)clock[GF_EPOCH] << 32 | (gf_word)(clock[GF_POSITION] - rows_before);
  GF_FOURS(block, n, x, y) {
    const gf_words_of_fours words = gf_philox_of_fours((gf_word)(words_before / 4 + block), stream, batch, seed);
    GF_OF_FOURS(lane, block, n) {
      const gf_index i = 4 * block + lane;
      y[i] = words.word[lane] >= threshold ? scale * x[i] : 0;
    }
  }
}

/* The same for a rate on the device, which changes from step to step. */
GF_KERNEL(scheduled_dropout, const real *x, real *y, const gf_index *clock, const double *rate, gf_long_word seed,
          gf_word stream, gf_index rows_before, gf_index words_before, gf_index n) {
  const gf_long_word batch = (gf_long_word)clock[GF_EPOCH] << 32 | (gf_word)(clock[GF_POSITION] - rows_before);
  const gf_long_word rounded = (gf_long_word)(rate[0] * 4294967296.0 + 0.5);
  const gf_word threshold = rounded > 0xffffffffu ? 0xffffffffu : (gf_word)rounded;
  const real scale = (real)(1 / (1 - rate[0]));
  GF_FOURS(block, n, x, y) {
    const gf_words_of_fours words = gf_philox_of_fours((gf_word)(words_before / 4 + block), stream, batch, seed);
    GF_OF_FOURS(lane, block, n) {
      const gf_index i = 4 * block + lane;
      y[i] = words.word[lane] >= threshold ? scale * x[i] : 0;
    }
  }
}
