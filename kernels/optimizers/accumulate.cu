#include "gradflow.h"
/* The gradient of a batch that is worked off in parts: out = share g + kept total, where share is the part's share
   of the rows; with kept = 0, for the first part, the total is not read. */

GF_KERNEL(accumulate, const real *gradients, const real *total, real *out, real share, gf_index kept,
          gf_index n) {
  GF_FOR(i, n, gradients, total, out) out[i] = share * gradients[i] + (kept ? total[i] : 0);
}
