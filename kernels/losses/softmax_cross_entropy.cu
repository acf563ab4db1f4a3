#include "gradflow.h"
#include "clock.h"
/* Softmax cross-entropy on logits z, fused with its gradient; L is the mean over the rows of

     w (log sum_k exp(z_k) - sum_k t_k z_k),      dL/dz_j = w / rows (softmax(z)_j - t_j)

   for targets t that are probabilities with sum 1, or a class label c, where t_c = 1. w is the row's
   weight, 1 where row_weight is null. row_correct is 1 if the first largest logit is that of the target.
   d_logits may be the array of logits: values that another lane may overwrite are read before a reduction. */

GF_KERNEL(softmax_cross_entropy_labels, const real *logits, const int *targets, const real *row_weight,
          real *d_logits, real *row_losses, real *row_correct, gf_index *clock, gf_index rows,
          gf_index columns) {
  GF_ROWS(row, rows) {
    const real *z = logits + row * columns;
    real *d_z = d_logits + row * columns;
    const gf_index label = targets[row];
    const real weight = row_weight ? row_weight[row] : 1;
    const real target_logit = z[label];
    real largest = z[0];
    GF_COLUMNS(j, columns) largest = gf_max(largest, z[j]);
    largest = gf_row_max(largest);
    gf_index first_largest = columns;
    GF_COLUMNS(j, columns) {
      if (z[j] != largest) continue;
      first_largest = j;
      break;
    }
    GF_COLUMNS(j, columns) d_z[j] = gf_exp(z[j] - largest);
    gf_lane_sum terms = 0;
    GF_COLUMN_SUMS(j, columns, terms) terms += d_z[j];
    const gf_of_row sum = gf_row_sum(terms);
    first_largest = gf_row_min_index(first_largest);
    const gf_of_row scale = (gf_of_row)weight / rows;
    GF_COLUMNS(j, columns) d_z[j] = (real)((d_z[j] / sum - (j == label)) * scale);
    GF_ONCE_PER_ROW {
      gf_record_loss(weight * (gf_log((real)sum) + (largest - target_logit)), row, row_losses, clock);
      row_correct[clock[GF_POSITION] + row] = first_largest == label;
    }
  }
}

GF_KERNEL(softmax_cross_entropy_probabilities, const real *logits, const real *targets,
          const real *row_weight, real *d_logits, real *row_losses, real *row_correct, gf_index *clock,
          gf_index rows, gf_index columns) {
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
    gf_lane_sum terms = 0, products = 0;
    gf_index first_largest = columns, label = columns;
    GF_COLUMNS(j, columns) {
      if (t[j] != 0) products += (gf_of_row)t[j] * (z[j] - largest); /* 0 log 0 is 0 */
      if (z[j] == largest && j < first_largest) first_largest = j;
      if (t[j] == largest_target && j < label) label = j;
      d_z[j] = gf_exp(z[j] - largest);
      terms += d_z[j];
    }
    const gf_of_row sum = gf_row_sum(terms);
    const accumulator dot = gf_row_sum(products);
    first_largest = gf_row_min_index(first_largest);
    label = gf_row_min_index(label);
    const gf_of_row scale = (gf_of_row)weight / rows;
    GF_COLUMNS(j, columns) d_z[j] = (real)((d_z[j] / sum - t[j]) * scale);
    GF_ONCE_PER_ROW {
      gf_record_loss((real)(weight * (gf_log((real)sum) - dot)), row, row_losses, clock);
      row_correct[clock[GF_POSITION] + row] = first_largest == label;
    }
  }
}
