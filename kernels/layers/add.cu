#include "gradflow.h"
/* out = x + y */

GF_KERNEL(add, const real *x, const real *y, real *out, gf_index n) {
  GF_FOR(i, n, x, y, out) out[i] = x[i] + y[i];
}
