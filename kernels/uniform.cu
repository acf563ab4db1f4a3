#include "gradflow.h"
#include "philox.h"
/* Uniform random numbers: out_i = low + (high - low) u_i with u_i = (word i of Philox >> 8) 2^-24, so that u_i
   is exact and below 1 in float32 as in float64. */

GF_KERNEL(uniform, real *out, real low, real high, gf_long_word seed, gf_word stream, gf_index n) {
  GF_FOURS(block, n, out) {
    const gf_words words = gf_philox((gf_word)block, stream, 0, seed);
    GF_OF_FOUR(lane, block, n) {
      const real u = (real)(words.word[lane] >> 8) * (real)(1.0 / 16777216);
      out[4 * block + lane] = low + (high - low) * u;
    }
  }
}
