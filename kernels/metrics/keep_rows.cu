#include "gradflow.h"
#include "clock.h"
/* Copy the rows of a batch to their positions in the epoch, as 32-bit words of any type: for metrics that need the
   scores of all rows. */

GF_KERNEL(keep_rows, const gf_word *x, gf_word *kept, const gf_index *clock, gf_index row_words, gf_index rows) {
  GF_ROWS(row, rows) {
    const gf_index target = clock[GF_POSITION] + row;
    GF_COLUMNS(j, row_words) kept[target * row_words + j] = x[row * row_words + j];
  }
}
