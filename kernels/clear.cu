#include "gradflow.h"
/* y = 0. */

GF_KERNEL(clear, real *y, gf_index n) {
  GF_FOR(i, n, y) y[i] = 0;
}
