#include "gradflow.h"
/* Targets with label smoothing (Szegedy et al., 2016, section 7). Of class labels: smoothing / columns in every column,
   plus 1 - smoothing in the column of the label. Of probabilities t:

     smoothed = (1 - smoothing) t + smoothing / classes */

GF_KERNEL(label_probabilities, const int *labels, real *probabilities, const double *smoothing,
          gf_index rows, gf_index columns) {
  GF_ROWS(row, rows) {
    const gf_index label = labels[row];
    const real spread = (real)smoothing[0], share = spread / columns;
    GF_COLUMNS(j, columns) probabilities[row * columns + j] = (j == label ? 1 - spread : 0) + share;
  }
}

GF_KERNEL(smooth_targets, const real *targets, real *smoothed, const double *smoothing, gf_index classes,
          gf_index n) {
  const real kept = (real)(1 - smoothing[0]), share = (real)(smoothing[0] / classes);
  GF_FOR(i, n, targets, smoothed) smoothed[i] = kept * targets[i] + share;
}
