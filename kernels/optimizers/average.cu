#include "gradflow.h"
#include "clock.h"
/* The exponential moving average a of the weights w (Polyak & Juditsky, 1992; Tarvainen & Valpola, 2017):
   a = w after the first step; afterwards

     a = decay a + (1 - decay) w */

GF_KERNEL(average_weights, const real *parameters, real *average, const gf_index *clock, accumulator decay,
          gf_index n) {
  const real kept = clock[GF_STEP] == 1 ? 0 : (real)decay, added = clock[GF_STEP] == 1 ? 1 : (real)(1 - decay);
  if (!GF_DIVERGED(clock)) {
    GF_FOR(i, n, parameters, average) average[i] = (kept == 0 ? 0 : kept * average[i]) + added * parameters[i];
  }
  GF_END_STEP;
}
