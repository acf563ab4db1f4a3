#include "gradflow.h"
#include "clock.h"
#include "update.h"
/* Adagrad (Duchi, Hazan & Singer, 2011) on the flat parameter vector w with gradient g, its diagonal form:

     s = s + g^2,      w -= rate g / (sqrt(s) + epsilon)

   with s zero at the beginning. g is regularized and clipped (update.h). Its own hyper-parameter: epsilon. */

GF_KERNEL(adagrad, real *parameters, const real *gradients, real *square_sum, const double *hyper, const real *gradient_scale,
          gf_index *clock, gf_index n_decayed, gf_index n) {
  const gf_update update = GF_UPDATE;
  const real epsilon = (real)hyper[GF_OWN];
  real_bits bad = 0;
  if (!GF_DIVERGED(clock)) {
    GF_FOR(i, n, parameters, gradients, square_sum) {
      const real g = gf_gradient(update, gradients[i], parameters[i], gf_is_weight(i));
      const real s = square_sum[i] += g * g;
      parameters[i] -= gf_rates_of(update, i).rate * (g / (gf_sqrt(s) + epsilon));
      bad |= gf_bits_of_nan(parameters[i]);
    }
  }
  gf_record_update(bad, clock);
  GF_END_STEP;
}
