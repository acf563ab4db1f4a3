#include "gradflow.h"
#include "clock.h"
/* Dynamic loss scaling (Micikevicius et al., 2018, section 3.2). scaling holds the scale, a power of two; the
   number of steps since it last changed; and 1 if a gradient of this step was not finite, else 0.

     scaled_copy     y = scale x
     unscale         g = g / scale
     adapt_scaling   a step that overflowed is skipped: scale / 2, and below 1 training has diverged;
                     growth_steps without overflow: 2 scale, up to most_scale

     record_scaled_update   weights that are not finite after a step, of which the optimizer's clock tells

   update_clock is the clock of the optimizer: it counts the steps that are not skipped. */

GF_KERNEL(scaled_copy, const real *x, const real *scaling, real *y, gf_index n) {
  const real scale = scaling[0];
  GF_FOR(i, n, x, y) y[i] = scale * x[i];
}

GF_KERNEL(unscale, real *gradients, real *scaling, gf_index n) {
  const real scale = scaling[0];
  GF_FOR(i, n, gradients) {
    const real g = gradients[i] = gradients[i] / scale;
    if (!gf_is_finite(g)) scaling[2] = 1;
  }
}

GF_KERNEL(adapt_scaling, real *scaling, gf_index *clock, gf_index *update_clock, gf_index growth_steps,
          real most_scale) {
  GF_ROWS(row, 1) GF_ONCE_PER_ROW {
    const int overflowed = scaling[2] != 0;
    if (overflowed) {
      scaling[0] /= 2;
      scaling[1] = 0;
      if (scaling[0] < 1 && clock[GF_STEP] < clock[GF_FIRST_BAD_STEP]) clock[GF_FIRST_BAD_STEP] = clock[GF_STEP];
    } else if ((scaling[1] += 1) == growth_steps) {
      scaling[0] = 2 * scaling[0] < most_scale ? 2 * scaling[0] : most_scale;
      scaling[1] = 0;
    }
    scaling[2] = 0;
    const int left_out = overflowed || GF_DIVERGED(clock);
    update_clock[GF_STEP] += !left_out;
    update_clock[GF_EPOCH] = clock[GF_EPOCH];
    update_clock[GF_POSITION] = clock[GF_POSITION];
    update_clock[GF_FIRST_BAD_STEP] = left_out ? 0 : GF_NEVER;
  }
}

GF_KERNEL(record_scaled_update, const gf_index *update_clock, gf_index *clock) {
  GF_ROWS(row, 1) GF_ONCE_PER_ROW {
    const gf_index bad_step = update_clock[GF_FIRST_BAD_STEP];
    gf_record_update(0 < bad_step && bad_step < GF_NEVER, clock);
  }
  GF_END_STEP;
}
