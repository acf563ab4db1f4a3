#include "gradflow.h"
/* Class labels as probabilities, with label smoothing (Szegedy et al., 2016, section 7): smoothing / columns in
   each column, and 1 - smoothing more in that of the label. */

GF_KERNEL(label_probabilities, const int *labels, real *probabilities, real smoothing, gf_index rows,
          gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_index label = labels[row];
    const real share = smoothing / columns;
    GF_COLUMNS(j, columns) probabilities[row * columns + j] = (j == label ? 1 - smoothing : 0) + share;
  }
}
