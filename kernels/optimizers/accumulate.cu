#include "gradflow.h"
/* The gradient of a batch that is processed in parts: out = share g + kept total, where share is the fraction of the
   batch's rows in this part; with kept = 0, for the first part, the total is not read. */

GF_KERNEL(accumulate, const real *gradients, const real *total, real *out, real share, gf_index kept,
          gf_index n) {
  GF_FOR(i, n, gradients, total, out) out[i] = share * gradients[i] + (kept ? total[i] : 0);
}
