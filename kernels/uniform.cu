#include "gradflow.h"
#include "philox.h"
/* Uniform random numbers: out_i = low + (high - low) u_i with u_i = (word i of Philox >> 8) 2^-24, so that u_i
   is exact and below 1 in float32 as in float64. */

GF_KERNEL(uniform, real *out, real low, real high, gf_long_word seed, gf_word stream, gf_index n) {
  GF_FOR(block, (n + 3) / 4) {
    const gf_words words = gf_philox((gf_word)block, stream, 0, seed);
    for (int lane = 0; lane < 4; lane++) {
      const gf_index i = 4 * block + lane;
      if (i < n) out[i] = low + (high - low) * ((real)(words.word[lane] >> 8) * (real)(1.0 / 16777216));
    }
  }
}
