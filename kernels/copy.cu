#include "gradflow.h"
/* y = x. */

GF_KERNEL(copy, const real *x, real *y, gf_index n) {
  GF_FOR(i, n, x, y) y[i] = x[i];
}
