#include "gradflow.h"
#include "clock.h"
#include "update.h"
/* Gradient descent and its two forms of momentum, on the flat parameter vector w with gradient g:

     gradient descent   w -= rate g
     momentum           v = momentum v + g,   w -= rate v                    (Polyak, 1964)
     Nesterov           v = momentum v + g,   w -= rate (g + momentum v)     (Sutskever et al., 2013)

   in PyTorch's variant: the rate scales the velocity's use, not its growth, and there is no dampening.
   g is regularized and clipped (update.h). Its own hyper-parameter: momentum. */

GF_KERNEL(gradient_descent, real *parameters, const real *gradients, const double *hyper,
          const real *gradient_scale, gf_index *clock, gf_index n_decayed, gf_index n) {
  const gf_update update = GF_UPDATE;
  real_bits bad = 0;
  if (!GF_DIVERGED(clock)) {
    GF_FOR(i, n, parameters, gradients) {
      const real g = gf_gradient(update, gradients[i], parameters[i], gf_is_weight(i));
      parameters[i] -= gf_rates_of(update, i).rate * g;
      bad |= gf_bits_of_nan(parameters[i]);
    }
  }
  gf_record_update(bad, clock);
  GF_END_STEP;
}

GF_KERNEL(momentum, real *parameters, const real *gradients, real *velocity, const double *hyper,
          const real *gradient_scale, gf_index *clock, gf_index n_decayed, gf_index n) {
  const gf_update update = GF_UPDATE;
  const real momentum_rate = (real)hyper[GF_OWN];
  real_bits bad = 0;
  if (!GF_DIVERGED(clock)) {
    GF_FOR(i, n, parameters, gradients, velocity) {
      const real g = gf_gradient(update, gradients[i], parameters[i], gf_is_weight(i));
      velocity[i] = momentum_rate * velocity[i] + g;
      parameters[i] -= gf_rates_of(update, i).rate * velocity[i];
      bad |= gf_bits_of_nan(parameters[i]);
    }
  }
  gf_record_update(bad, clock);
  GF_END_STEP;
}

GF_KERNEL(nesterov, real *parameters, const real *gradients, real *velocity, const double *hyper,
          const real *gradient_scale, gf_index *clock, gf_index n_decayed, gf_index n) {
  const gf_update update = GF_UPDATE;
  const real momentum_rate = (real)hyper[GF_OWN];
  real_bits bad = 0;
  if (!GF_DIVERGED(clock)) {
    GF_FOR(i, n, parameters, gradients, velocity) {
      const real g = gf_gradient(update, gradients[i], parameters[i], gf_is_weight(i));
      velocity[i] = momentum_rate * velocity[i] + g;
      parameters[i] -= gf_rates_of(update, i).rate * (g + momentum_rate * velocity[i]);
      bad |= gf_bits_of_nan(parameters[i]);
    }
  }
  gf_record_update(bad, clock);
  GF_END_STEP;
}
