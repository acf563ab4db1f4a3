#include "gradflow.h"
#include "clock.h"
/* Multiply the rows of a batch in row_correct, at their positions in the epoch, by the rows' weights. */

GF_KERNEL(weigh_correct, const real *row_weight, real *row_correct, const gf_index *clock, gf_index n) {
  real *correct = row_correct + clock[GF_POSITION];
  GF_FOR(i, n, row_weight, correct) correct[i] *= row_weight[i];
}
