#include "gradflow.h"
#include "clock.h"
/* The loss of an ensemble whose members share weights is the mean of its members' losses, each with the targets of the
   batch. */

/* Each row of a batch once for each member, as 32-bit words of any type. */
GF_KERNEL(repeat_rows, const gf_word *x, gf_word *repeated, gf_index members, gf_index row_words, gf_index rows) {
  GF_ROWS(row, rows) {
    for (gf_index member = 0; member < members; member++) {
      gf_word *copy = repeated + (row * members + member) * row_words;
      GF_COLUMNS(j, row_words) copy[j] = x[row * row_words + j];
    }
  }
}

GF_KERNEL(mean_member_losses, const real *losses, real *row_losses, gf_index *clock, gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    accumulator sum = 0;
    GF_COLUMN_SUMS(j, columns, sum) sum += losses[row * columns + j];
    sum = gf_row_sum(sum);
    GF_ONCE_PER_ROW gf_record_loss((real)(sum / columns), row, row_losses, clock);
  }
}
