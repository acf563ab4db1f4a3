#include "gradflow.h"
/* The counts for precision, recall, F1 and balanced accuracy. For each class or label c, these sums over the rows of
   a batch, with weights w (1 where row_weight is null), are added to the four rows of `counts`:

     sum w [t = c],   sum w [p = c],   sum w [t = c and p = c],   sum w

   where t is the class of the target and p the predicted class, the first one with the largest output (largest_column).
   If each output is its own label, they are t_c > 1/2 and z_c > 0 instead of t = c and p = c. One thread owns each sum,
   so its bits do not depend on the order of threads. */

GF_KERNEL(largest_column, const real *x, int *labels, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const real *values = x + row * columns;
    real largest = values[0];
    GF_COLUMNS(j, columns) largest = gf_max(largest, values[j]);
    largest = gf_row_max(largest);
    gf_index first = columns;
    GF_COLUMNS(j, columns) {
      if ((values[j] == largest || values[j] != values[j]) && j < first) first = j;
    }
    first = gf_row_min_index(first);
    GF_ONCE_PER_ROW labels[row] = (int)first;
  }
}

GF_KERNEL(add_class_counts, const int *predicted, const int *actual, const real *row_weight,
          accumulator *counts, gf_index rows, gf_index batch_rows) {
  GF_ROWS(label, rows) {
    accumulator of_class = 0, found = 0, right = 0, all = 0;
    GF_COLUMN_SUMS(i, batch_rows, of_class, found, right, all) {
      const accumulator weight = row_weight ? row_weight[i] : 1;
      of_class += actual[i] == label ? weight : 0;
      found += predicted[i] == label ? weight : 0;
      right += actual[i] == label && predicted[i] == label ? weight : 0;
      all += weight;
    }
    of_class = gf_row_sum(of_class);
    found = gf_row_sum(found);
    right = gf_row_sum(right);
    all = gf_row_sum(all);
    GF_ONCE_PER_ROW {
      counts[label] += of_class;
      counts[rows + label] += found;
      counts[2 * rows + label] += right;
      counts[3 * rows + label] += all;
    }
  }
}

GF_KERNEL(add_label_counts, const real *logits, const real *targets, const real *row_weight,
          accumulator *counts, gf_index rows, gf_index batch_rows) {
  GF_ROWS(label, rows) {
    accumulator of_class = 0, found = 0, right = 0, all = 0;
    GF_COLUMN_SUMS(i, batch_rows, of_class, found, right, all) {
      const accumulator weight = row_weight ? row_weight[i] : 1;
      const int is_actual = targets[i * rows + label] > (real)0.5, is_predicted = logits[i * rows + label] > 0;
      of_class += is_actual ? weight : 0;
      found += is_predicted ? weight : 0;
      right += is_actual && is_predicted ? weight : 0;
      all += weight;
    }
    of_class = gf_row_sum(of_class);
    found = gf_row_sum(found);
    right = gf_row_sum(right);
    all = gf_row_sum(all);
    GF_ONCE_PER_ROW {
      counts[label] += of_class;
      counts[rows + label] += found;
      counts[2 * rows + label] += right;
      counts[3 * rows + label] += all;
    }
  }
}
