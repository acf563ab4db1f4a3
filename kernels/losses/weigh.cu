#include "gradflow.h"
#include "clock.h"
/* Hits of weighted rows: those of the batch, at its place in the epoch, are multiplied by the weights of the rows. */

GF_KERNEL(weigh_hits, const real *row_weight, real *row_hits, const gf_index *clock, gf_index n) {
  real *hits = row_hits + clock[GF_POSITION];
  GF_FOR(i, n, row_weight, hits) hits[i] *= row_weight[i];
}
