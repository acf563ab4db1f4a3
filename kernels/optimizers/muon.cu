#include "gradflow.h"
#include "clock.h"
#include "update.h"
/* The parts of Muon (Jordan et al., 2024) that are no matmuls, for one weight matrix w with gradient g:

     m = momentum m + (1 - momentum) g
     d = (1 - momentum) g + momentum m with Nesterov momentum, else m
     x = d / max(norm of d, 1e-7), then five times x = f x with f = a I + b x x^T + c (x x^T)^2,
       or x = x f with x^T x if there are more rows than columns
     w = (1 - rate weight_decay) w - rate scale x

   g is regularized and clipped (update.h). Its own hyper-parameters, after the six of Adam: momentum, and 1 for Nesterov
   momentum or else 0. The matrix begins at the parameter `first`, which has the factors of all of it. */

#define GF_MOMENTUM (GF_OWN + 6)
#define GF_NESTEROV (GF_OWN + 7)
#define GF_LEAST_NORM 1e-7

GF_KERNEL(muon_direction, const real *parameters, const real *gradients, real *first_moment, real *direction,
          accumulator *squares, const double *hyper, const real *gradient_scale, const gf_index *clock, gf_index rows,
          gf_index columns) {
  const gf_update update = gf_make_update(hyper, gradient_scale[0], 1, 0);
  const real momentum = (real)hyper[GF_MOMENTUM], rest = (real)(1 - hyper[GF_MOMENTUM]);
  const int nesterov = hyper[GF_NESTEROV] != 0;
  if (GF_DIVERGED(clock)) return;
  GF_ROWS(row, rows) {
    accumulator sum = 0;
    GF_COLUMNS(j, columns) {
      const gf_index i = row * columns + j;
      const real g = gf_gradient(update, gradients[i], parameters[i], 1);
      const real m = momentum * first_moment[i] + rest * g;
      const real d = nesterov ? rest * g + momentum * m : m;
      first_moment[i] = m;
      direction[i] = d;
      sum += (accumulator)d * d;
    }
    sum = gf_row_sum(sum);
    GF_ONCE_PER_ROW squares[row] = sum;
  }
}

GF_KERNEL(muon_scale, const accumulator *squares, real *scale, gf_index columns, gf_index rows) {
  GF_ROWS(row, rows) {
    accumulator sum = 0;
    GF_COLUMNS(j, columns) sum += squares[j];
    const accumulator norm = sqrt(gf_row_sum(sum));
    GF_ONCE_PER_ROW scale[row] = (real)(1 / (norm < GF_LEAST_NORM ? GF_LEAST_NORM : norm));
  }
}

GF_KERNEL(muon_normalize, real *direction, const real *scale, gf_index n) {
  GF_FOR(i, n, direction) direction[i] *= scale[0];
}

GF_KERNEL(muon_factor, real *gram, const real *square, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_auto out = gram + row * columns;
    const gf_auto in = square + row * columns;
    GF_COLUMNS(j, columns)
      out[j] = (real)-4.7750 * out[j] + (real)2.0315 * in[j] + (j == row ? (real)3.4445 : (real)0);
  }
}

GF_KERNEL(muon_update, real *parameters, const real *direction, const double *hyper, gf_index *clock, double scale,
          gf_index first, gf_index n) {
  const gf_rates rates = gf_rates_at(hyper, first);
  const real step = rates.rate * (real)scale;
  real_bits bad = 0;
  if (!GF_DIVERGED(clock)) {
    GF_FOR(i, n, parameters, direction) {
      parameters[i] = rates.kept * parameters[i] - step * direction[i];
      bad |= gf_bits_of_nan(parameters[i]);
    }
  }
  gf_record_update(bad, clock);
}
