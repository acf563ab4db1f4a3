#include "gradflow.h"
/* Targets with label smoothing (Szegedy et al., 2016, section 7). Of class labels: smoothing / columns in every column,
   plus 1 - smoothing in the column of the label. Of probabilities t:

     smoothed = (1 - smoothing) t + smoothing / classes */

GF_KERNEL(label_probabilities, const int *labels, real *probabilities, real smoothing, gf_index rows,
          gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_index label = labels[row];
    const real share = smoothing / columns;
    GF_COLUMNS(j, columns) probabilities[row * columns + j] = (j == label ? 1 - smoothing : 0) + share;
  }
}

GF_KERNEL(smooth_targets, const real *targets, real *smoothed, accumulator smoothing, gf_index classes, gf_index n) {
  const real kept = (real)(1 - smoothing), share = (real)(smoothing / classes);
  GF_FOR(i, n, targets, smoothed) smoothed[i] = kept * targets[i] + share;
}
