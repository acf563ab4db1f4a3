#include "gradflow.h"
#include "sigmoid.h"
/* The logits of the mean of what k members predict, from their logits z_m, which stand side by side: a softmax, or a
   sigmoid, of them is the mean of the members' probabilities.

     mean_class_logits     y_j = log mean_m softmax(z_m)_j
     mean_binary_logits    y_j = log mean_m sigmoid(z_mj) - log mean_m sigmoid(-z_mj)

   Logarithms are added as logarithms, so that probabilities far below the smallest number keep their digits. */

/* log(exp(a) + exp(b)) */
GF_FUNCTION real gf_log_sum(real a, real b) {
  return a == b ? a + (real)0.69314718055994530942 : gf_max(a, b) + gf_log1p(gf_exp(-gf_fabs(a - b)));
}

GF_KERNEL(mean_class_logits, const real *x, real *y, gf_index rows, gf_index columns, gf_index x_columns) {
  GF_ROWS(row, rows) {
    const gf_auto out = y + row * columns;
    for (gf_index first = 0; first < x_columns; first += columns) {
      const gf_auto in = x + row * x_columns + first;
      real largest = in[0];
      GF_COLUMNS(j, columns) largest = gf_max(largest, in[j]);
      largest = gf_row_max(largest);
      gf_lane_sum terms = 0;
      GF_COLUMN_SUMS(j, columns, terms) terms += gf_exp(in[j] - largest);
      const real log_sum = gf_log((real)gf_row_sum(terms));
      GF_COLUMNS(j, columns) {
        const real log_probability = in[j] - largest - log_sum;
        out[j] = first == 0 ? log_probability : gf_log_sum(out[j], log_probability);
      }
    }
    const real log_members = gf_log((real)(x_columns / columns));
    GF_COLUMNS(j, columns) out[j] = out[j] - log_members;
  }
}

GF_KERNEL(mean_binary_logits, const real *x, real *y, gf_index rows, gf_index columns, gf_index x_columns) {
  GF_ROWS(row, rows) {
    const gf_auto in = x + row * x_columns;
    const gf_auto out = y + row * columns;
    GF_COLUMNS(j, columns) {
      real log_one = -gf_softplus(-in[j]), log_zero = -gf_softplus(in[j]);
      for (gf_index i = j + columns; i < x_columns; i += columns) {
        log_one = gf_log_sum(log_one, -gf_softplus(-in[i]));
        log_zero = gf_log_sum(log_zero, -gf_softplus(in[i]));
      }
      out[j] = log_one - log_zero;
    }
  }
}
