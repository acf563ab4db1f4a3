#include "gradflow.h"
#include "clock.h"
#include "update.h"
/* RMSprop (Tieleman & Hinton, 2012, lecture 6e) on the flat parameter vector w with gradient g:

     v = beta v + (1 - beta) g^2,      w -= rate g / (sqrt(v) + epsilon)

   with v zero at the beginning and epsilon added outside the root, as in PyTorch. g is regularized and clipped
   (update.h). Its own hyper-parameters: beta, epsilon. */

GF_KERNEL(rmsprop, real *parameters, const real *gradients, real *second_moment, const double *hyper, const real *gradient_scale,
          gf_index *clock, gf_index n_decayed, gf_index n) {
  const gf_update update = GF_UPDATE;
  const real beta = (real)hyper[GF_OWN], one_minus_beta = (real)(1 - hyper[GF_OWN]);
  const real epsilon = (real)hyper[GF_OWN + 1];
  real_bits bad = 0;
  if (!GF_DIVERGED(clock)) {
    GF_FOR(i, n, parameters, gradients, second_moment) {
      const real g = gf_gradient(update, gradients[i], parameters[i], gf_is_weight(i));
      const real v = second_moment[i] = beta * second_moment[i] + one_minus_beta * g * g;
      parameters[i] -= gf_rates_of(update, i).rate * (g / (gf_sqrt(v) + epsilon));
      bad |= gf_bits_of_nan(parameters[i]);
    }
  }
  gf_record_update(bad, clock);
  GF_END_STEP;
}
