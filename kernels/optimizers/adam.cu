#include "gradflow.h"
#include "clock.h"
#include "update.h"
/* Adam (Kingma & Ba, 2015, algorithm 1) on the flat parameter vector w with gradient g, at step t:

     m = beta1 m + (1 - beta1) g            m_hat = m / (1 - beta1^t)
     v = beta2 v + (1 - beta2) g^2          v_hat = v / (1 - beta2^t)
     w -= rate m_hat / (sqrt(v_hat) + epsilon)

   epsilon is added outside the root and after the bias correction, as in the paper's algorithm 1 and PyTorch;
   epsilon_hat before the correction, as in its section 2 and scikit-learn: it adds epsilon_hat / sqrt(1 - beta2^t).
   AdamW (Loshchilov & Hutter, 2019, algorithm 2) first decays the weights: w -= rate weight_decay w, in
   PyTorch's variant, where the decay is scaled by the learning rate itself.
   g is regularized and clipped (update.h). Their own hyper-parameters: beta1, beta2, epsilon, epsilon_hat,
   log(beta1), log(beta2). adamw_range is AdamW on a part of the vector, from the parameter `first` on, whose parameters
   all have the same factors and are all weights or all not.
   1 - beta^t is computed as -expm1(t log(beta)), which is accurate in float32 even if beta is close to 1. */

typedef struct {
  real beta1, one_minus_beta1, beta2, one_minus_beta2, epsilon, inverse_correction1, inverse_root_correction2;
} gf_adam_step;

GF_FUNCTION gf_adam_step gf_make_adam_step(const double *hyper, gf_index step) {
  gf_adam_step adam;
  adam.beta1 = (real)hyper[GF_OWN];
  adam.one_minus_beta1 = (real)(1 - hyper[GF_OWN]);
  adam.beta2 = (real)hyper[GF_OWN + 1];
  adam.one_minus_beta2 = (real)(1 - hyper[GF_OWN + 1]);
  adam.inverse_correction1 = 1 / -gf_expm1((real)(step * hyper[GF_OWN + 4]));
  adam.inverse_root_correction2 = 1 / gf_sqrt(-gf_expm1((real)(step * hyper[GF_OWN + 5])));
  adam.epsilon = (real)hyper[GF_OWN + 2] + (real)hyper[GF_OWN + 3] * adam.inverse_root_correction2;
  return adam;
}

GF_FUNCTION real gf_adam_change(gf_adam_step adam, real rate, real g, real *first_moment, real *second_moment) {
  const real m = *first_moment = adam.beta1 * *first_moment + adam.one_minus_beta1 * g;
  const real v = *second_moment = adam.beta2 * *second_moment + adam.one_minus_beta2 * g * g;
  const real deviation = gf_sqrt(v) * adam.inverse_root_correction2;
  return rate * (m * adam.inverse_correction1 / (deviation + adam.epsilon));
}

GF_KERNEL(adam, real *parameters, const real *gradients, real *first_moment, real *second_moment,
          const double *hyper, const real *gradient_scale, gf_index *clock, gf_index n_decayed,
          gf_index n) {
  const gf_adam_step step = gf_make_adam_step(hyper, clock[GF_STEP]);
  const gf_update update = GF_UPDATE;
  real_bits bad = 0;
  if (!GF_DIVERGED(clock)) {
    GF_FOR(i, n, parameters, gradients, first_moment, second_moment) {
      const real g = gf_gradient(update, gradients[i], parameters[i], gf_is_weight(i));
      parameters[i] -= gf_adam_change(step, gf_rates_of(update, i).rate, g, &first_moment[i], &second_moment[i]);
      bad |= gf_bits_of_nan(parameters[i]);
    }
  }
  gf_record_update(bad, clock);
  GF_END_STEP;
}

GF_KERNEL(adamw, real *parameters, const real *gradients, real *first_moment, real *second_moment,
          const double *hyper, const real *gradient_scale, gf_index *clock, gf_index n_decayed,
          gf_index n) {
  const gf_adam_step step = gf_make_adam_step(hyper, clock[GF_STEP]);
  const gf_update update = GF_UPDATE;
  real_bits bad = 0;
  if (!GF_DIVERGED(clock)) {
    GF_FOR(i, n, parameters, gradients, first_moment, second_moment) {
      const real g = gf_gradient(update, gradients[i], parameters[i], gf_is_weight(i));
      const gf_rates rates = gf_rates_of(update, i);
      const real change = gf_adam_change(step, rates.rate, g, &first_moment[i], &second_moment[i]);
      parameters[i] = (gf_any_weights & gf_is_weight(i) ? rates.kept : 1) * parameters[i] - change;
      bad |= gf_bits_of_nan(parameters[i]);
    }
  }
  gf_record_update(bad, clock);
  GF_END_STEP;
}

GF_KERNEL(adamw_range, real *parameters, const real *gradients, real *first_moment, real *second_moment,
          const double *hyper, const real *gradient_scale, gf_index *clock, int decayed, gf_index first, gf_index n) {
  const gf_adam_step step = gf_make_adam_step(hyper, clock[GF_STEP]);
  const gf_update update = gf_make_update(hyper, gradient_scale[0], decayed, first);
  const gf_rates rates = update.rates;
  const real kept = decayed ? rates.kept : 1;
  real_bits bad = 0;
  if (!GF_DIVERGED(clock)) {
    GF_FOR(i, n, parameters, gradients, first_moment, second_moment) {
      const real g = gf_gradient(update, gradients[i], parameters[i], decayed);
      const real change = gf_adam_change(step, rates.rate, g, &first_moment[i], &second_moment[i]);
      parameters[i] = kept * parameters[i] - change;
      bad |= gf_bits_of_nan(parameters[i]);
    }
  }
  gf_record_update(bad, clock);
}
