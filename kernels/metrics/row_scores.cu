#include "gradflow.h"
#include "sigmoid.h"
/* Metrics that are a mean over rows: a value v for each row of a batch, then sum w v and sum w, with w = 1 where
   row_weight is null.

     top_k_correct       1 if fewer than k logits are larger than the label's, or equal and before it; else 0
     label_log_losses    log sum_k exp(z_k) - z_label
     binary_log_losses   mean over the outputs of log(1 + exp(z)) - t z */

GF_KERNEL(top_k_correct, const real *logits, const int *labels, accumulator *values, gf_index k, gf_index rows,
          gf_index columns) {
  GF_ROWS(row, rows) {
    const real *z = logits + row * columns;
    const gf_index label = labels[row];
    const real own = z[label];
    accumulator ahead = 0;
    GF_COLUMN_SUMS(j, columns, ahead) ahead += !(z[j] <= own) || (z[j] == own && j < label) ? 1 : 0;
    ahead = gf_row_sum(ahead);
    GF_ONCE_PER_ROW values[row] = ahead < k ? 1 : 0;
  }
}

GF_KERNEL(label_log_losses, const real *logits, const int *labels, accumulator *values, gf_index rows,
          gf_index columns) {
  GF_ROWS(row, rows) {
    const real *z = logits + row * columns;
    real largest = z[0];
    GF_COLUMNS(j, columns) largest = gf_max(largest, z[j]);
    largest = gf_row_max(largest);
    accumulator sum = 0;
    GF_COLUMN_SUMS(j, columns, sum) sum += gf_exp(z[j] - largest);
    sum = gf_row_sum(sum);
    GF_ONCE_PER_ROW values[row] = gf_log((real)sum) - (z[labels[row]] - largest);
  }
}

GF_KERNEL(binary_log_losses, const real *logits, const real *targets, accumulator *values, gf_index rows,
          gf_index columns) {
  GF_ROWS(row, rows) {
    accumulator sum = 0;
    GF_COLUMN_SUMS(j, columns, sum) {
      const real z = logits[row * columns + j];
      sum += gf_softplus(z) - targets[row * columns + j] * z;
    }
    sum = gf_row_sum(sum);
    GF_ONCE_PER_ROW values[row] = (real)(sum / columns);
  }
}

GF_KERNEL(add_weighted_total, const accumulator *values, const real *row_weight, accumulator *sums,
          gf_index columns, gf_index rows) {
  GF_ROWS(row, rows) {
    accumulator sum = 0, all = 0;
    GF_COLUMN_SUMS(i, columns, sum, all) {
      const accumulator weight = row_weight ? row_weight[i] : 1;
      sum += weight * values[i];
      all += weight;
    }
    sum = gf_row_sum(sum);
    all = gf_row_sum(all);
    GF_ONCE_PER_ROW {
      sums[0] += sum;
      sums[1] += all;
    }
  }
}
