#include "gradflow.h"
#include "clock.h"
#include "update.h"
/* Gradient descent and its two forms of momentum, on the flat parameter vector w with gradient g:

     gradient descent   w -= rate g
     momentum           v = momentum v + g,   w -= rate v                    (Polyak, 1964)
     Nesterov           v = momentum v + g,   w -= rate (g + momentum v)     (Sutskever et al., 2013)

   in PyTorch's variant: the rate scales the velocity's use, not its growth, and there is no dampening.
   g is penalised (update.h), then scaled by gradient_scale (clip.cu).
   hyper: learning rate, l2, momentum. */

GF_KERNEL(gradient_descent, real *parameters, const real *gradients, const double *hyper,
          const real *gradient_scale, const gf_index *clock, gf_index n_decayed, gf_index n) {
  const real rate = (real)hyper[GF_LEARNING_RATE], l2 = (real)hyper[GF_L2], scale = gradient_scale[0];
  if (GF_DIVERGED(clock)) return;
  GF_FOR(i, n, parameters, gradients) {
    const real g = scale * gf_penalised(gradients[i], parameters[i], l2, i, n_decayed);
    parameters[i] -= rate * g;
  }
}

GF_KERNEL(momentum, real *parameters, const real *gradients, real *velocity, const double *hyper,
          const real *gradient_scale, const gf_index *clock, gf_index n_decayed, gf_index n) {
  const real rate = (real)hyper[GF_LEARNING_RATE], l2 = (real)hyper[GF_L2], scale = gradient_scale[0];
  const real momentum_rate = (real)hyper[2];
  if (GF_DIVERGED(clock)) return;
  GF_FOR(i, n, parameters, gradients, velocity) {
    const real g = scale * gf_penalised(gradients[i], parameters[i], l2, i, n_decayed);
    velocity[i] = momentum_rate * velocity[i] + g;
    parameters[i] -= rate * velocity[i];
  }
}

GF_KERNEL(nesterov, real *parameters, const real *gradients, real *velocity, const double *hyper,
          const real *gradient_scale, const gf_index *clock, gf_index n_decayed, gf_index n) {
  const real rate = (real)hyper[GF_LEARNING_RATE], l2 = (real)hyper[GF_L2], scale = gradient_scale[0];
  const real momentum_rate = (real)hyper[2];
  if (GF_DIVERGED(clock)) return;
  GF_FOR(i, n, parameters, gradients, velocity) {
    const real g = scale * gf_penalised(gradients[i], parameters[i], l2, i, n_decayed);
    velocity[i] = momentum_rate * velocity[i] + g;
    parameters[i] -= rate * (g + momentum_rate * velocity[i]);
  }
}
