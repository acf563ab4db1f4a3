#include "gradflow.h"
#include "clock.h"
#include "update.h"
/* Lion (Chen et al., 2023, algorithm 2) on the flat parameter vector w with gradient g:

     w -= rate (sign(beta1 m + (1 - beta1) g) + weight_decay w),      m = beta2 m + (1 - beta2) g

   with the decay on weights only. g is regularized and clipped (update.h). Its own hyper-parameters: beta1,
   beta2. */

GF_KERNEL(lion, real *parameters, const real *gradients, real *first_moment, const double *hyper, const real *gradient_scale,
          gf_index *clock, gf_index n_decayed, gf_index n) {
  const gf_update update = GF_UPDATE;
  const real beta1 = (real)hyper[GF_OWN], one_minus_beta1 = (real)(1 - hyper[GF_OWN]);
  const real beta2 = (real)hyper[GF_OWN + 1], one_minus_beta2 = (real)(1 - hyper[GF_OWN + 1]);
  real_bits bad = 0;
  if (!GF_DIVERGED(clock)) {
    GF_FOR(i, n, parameters, gradients, first_moment) {
      const real w = parameters[i], m = first_moment[i];
      const real g = gf_gradient(update, gradients[i], w, gf_is_weight(i));
      const gf_rates rates = gf_rates_of(update, i);
      const real direction = gf_sign(beta1 * m + one_minus_beta1 * g);
      const real change = gf_any_weights & gf_is_weight(i) ? direction + rates.decay * w : direction;
      parameters[i] = w - rates.rate * change;
      first_moment[i] = beta2 * m + one_minus_beta2 * g;
      bad |= gf_bits_of_nan(parameters[i]);
    }
  }
  gf_record_update(bad, clock);
  GF_END_STEP;
}
