#include "gradflow.h"
#include "clock.h"
#include "sigmoid.h"
/* Cross-entropies with focal weighting (Lin, Goyal, Girshick, He & Dollar, 2017, equation 4), on logits z, fused
   with their gradients. With p = softmax(z) and targets t that are probabilities, L is the mean over the rows of

     -w sum_k t_k (1 - p_k)^gamma log(p_k),      dL/dz_j = w / rows (a_j - p_j sum_k a_k)

   with a_k = -t_k (1 - p_k)^gamma (1 + gamma p_k r_k), r_k = -log(p_k) / (1 - p_k), which is 1 at p_k = 1. With
   p = sigmoid(z), q = 1 - p, u = -log(p), v = -log(q) and t in [0, 1], L is the mean over rows and columns of

     w (t q^gamma u + (1 - t) p^gamma v),
     dL/dz = w / (rows columns) ((1 - t) p^gamma (gamma q v + p) - t q^gamma (gamma p u + q))

   w is the row's weight, 1 where row_weight is null. row_correct is as in the losses without focal weighting. */

/* The loss term of class k, and a_k, from z_k - log sum exp(z). */
typedef struct {
  real loss, slope, probability;
} gf_focal;

GF_FUNCTION gf_focal gf_make_focal(real log_p, real t, real gamma) {
  const real p = gf_exp(log_p), rest = -gf_expm1(log_p), focus = t * gf_pow(rest, gamma);
  const real ratio = log_p == 0 ? 1 : -log_p / rest;
  gf_focal focal;
  focal.loss = t == 0 ? 0 : -focus * log_p;
  focal.slope = t == 0 ? 0 : -focus * (1 + gamma * (p == 0 ? 0 : p * ratio));
  focal.probability = p;
  return focal;
}

GF_KERNEL(softmax_focal, const real *logits, const real *targets, const real *row_weight, real *d_logits,
          real *row_losses, real *row_correct, gf_index *clock, real gamma, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const real *z = logits + row * columns, *t = targets + row * columns;
    real *d_z = d_logits + row * columns;
    const real weight = row_weight ? row_weight[row] : 1;
    real largest = z[0], largest_target = t[0];
    GF_COLUMNS(j, columns) {
      largest = gf_max(largest, z[j]);
      largest_target = gf_max(largest_target, t[j]);
    }
    largest = gf_row_max(largest);
    largest_target = gf_row_max(largest_target);
    gf_lane_sum exponentials = 0;
    gf_index first_largest = columns, label = columns;
    GF_COLUMNS(j, columns) {
      exponentials += gf_exp(z[j] - largest);
      if (z[j] == largest && j < first_largest) first_largest = j;
      if (t[j] == largest_target && j < label) label = j;
    }
    const real log_sum = gf_log((real)gf_row_sum(exponentials));
    first_largest = gf_row_min_index(first_largest);
    label = gf_row_min_index(label);
    gf_lane_sum losses = 0, slopes = 0;
    GF_COLUMNS(j, columns) {
      const gf_focal focal = gf_make_focal(z[j] - largest - log_sum, t[j], gamma);
      losses += focal.loss;
      slopes += focal.slope;
    }
    const accumulator loss = gf_row_sum(losses);
    const gf_of_row sum_of_slopes = gf_row_sum(slopes), scale = (gf_of_row)weight / rows;
    GF_COLUMNS(j, columns) {
      const gf_focal focal = gf_make_focal(z[j] - largest - log_sum, t[j], gamma);
      d_z[j] = (real)((focal.slope - focal.probability * sum_of_slopes) * scale);
    }
    GF_ONCE_PER_ROW {
      gf_record_loss((real)(weight * loss), row, row_losses, clock);
      row_correct[clock[GF_POSITION] + row] = first_largest == label;
    }
  }
}

GF_KERNEL(binary_focal, const real *logits, const real *targets, const real *row_weight, real *d_logits,
          real *row_losses, real *row_correct, gf_index *clock, real gamma, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const real weight = row_weight ? row_weight[row] : 1, scale = weight / (rows * columns);
    gf_lane_sum losses = 0, hits = 0;
    GF_COLUMNS(j, columns) {
      const gf_index i = row * columns + j;
      const real z = logits[i], t = targets[i], common = gf_softplus_rest(z);
      const gf_logistic share = gf_make_logistic(z);
      const real p = share.value, q = share.rest, u = gf_max(-z, 0) + common, v = gf_max(z, 0) + common;
      const real of_one = t * gf_pow(q, gamma), of_zero = (1 - t) * gf_pow(p, gamma);
      losses += of_one * u + of_zero * v;
      hits += (z > 0) == (t > (real)0.5);
      d_logits[i] = scale * (of_zero * (gamma * q * v + p) - of_one * (gamma * p * u + q));
    }
    const accumulator loss = gf_row_sum(losses), correct = gf_row_sum(hits);
    GF_ONCE_PER_ROW {
      gf_record_loss((real)(weight * loss / columns), row, row_losses, clock);
      row_correct[clock[GF_POSITION] + row] = (real)(correct / columns);
    }
  }
}
