#include "gradflow.h"
#include "clock.h"
/* Hits of weighted rows: those of the batch, at its place in the epoch, are multiplied by the weights of the rows. */

GF_KERNEL(weigh_correct, const real *row_weight, real *row_correct, const gf_index *clock, gf_index n) {
  real *correct = row_correct + clock[GF_POSITION];
  GF_FOR(i, n, row_weight, correct) correct[i] *= row_weight[i];
}
