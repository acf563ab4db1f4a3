/* Philox4x32-10, a counter-based random generator: four random words from a counter and a key.

   Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", section 3.3;
   multipliers and key increments from its table 2 and the Random123 library. The counter is
   (block, stream, step low, step high), the key is the seed, low word first. Each word depends on
   nothing else, so any backend can generate any part of the sequence, in any order. */

#define GF_PHILOX_FACTOR0 0xD2511F53u
#define GF_PHILOX_FACTOR1 0xCD9E8D57u
#define GF_PHILOX_STEP0 0x9E3779B9u
#define GF_PHILOX_STEP1 0xBB67AE85u

typedef struct {
  gf_word word[4];
} gf_words;

GF_FUNCTION gf_words gf_philox(gf_word block, gf_word stream, gf_long_word step, gf_long_word seed) {
  gf_words c = {{block, stream, (gf_word)step, (gf_word)(step >> 32)}};
  gf_word key0 = (gf_word)seed, key1 = (gf_word)(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const gf_word high0 = gf_multiply_high(GF_PHILOX_FACTOR0, c.word[0]), low0 = GF_PHILOX_FACTOR0 * c.word[0];
    const gf_word high1 = gf_multiply_high(GF_PHILOX_FACTOR1, c.word[2]), low1 = GF_PHILOX_FACTOR1 * c.word[2];
    c.word[0] = high1 ^ c.word[1] ^ key0;
    c.word[1] = low1;
    c.word[2] = high0 ^ c.word[3] ^ key1;
    c.word[3] = low0;
    key0 += GF_PHILOX_STEP0;
    key1 += GF_PHILOX_STEP1;
  }
  return c;
}

/* The words of the blocks of a GF_FOURS loop. */
#ifdef __CUDACC__
typedef gf_words gf_words_of_fours;
#define gf_philox_of_fours gf_philox
#else
#if defined(__SSE2__)
#include <immintrin.h>
#endif

typedef struct {
  _Alignas(GF_VECTOR_BYTES) gf_word word[4 * GF_FOURS_AT_ONCE];
} gf_words_of_fours;

/* A lane is a word of one block, with anything above its 32 bits, so that a product needs no unpacking: its low word is
   what the next round takes of it. */
typedef gf_long_word gf_wide_words __attribute__((vector_size(GF_VECTOR_BYTES), may_alias));
#define GF_WIDE_LANES ((int)(GF_VECTOR_BYTES / sizeof(gf_long_word)))

GF_INLINE gf_wide_words gf_wide_products(gf_wide_words x, gf_word factor) {
#if defined(__AVX512F__)
  return (gf_wide_words)_mm512_mul_epu32((__m512i)x, _mm512_set1_epi64(factor));
#elif defined(__AVX2__)
  return (gf_wide_words)_mm256_mul_epu32((__m256i)x, _mm256_set1_epi64x(factor));
#elif defined(__SSE2__)
  return (gf_wide_words)_mm_mul_epu32((__m128i)x, _mm_set1_epi64x(factor));
#else
  return (x & 0xFFFFFFFFu) * factor;
#endif
}

/* Store the blocks of a vector: x holds their first two words, y the others. */
GF_INLINE void gf_store_blocks(gf_wide_words x, gf_wide_words y, gf_word *words) {
  gf_wide_words *const vectors = (gf_wide_words *)words;
  GF_UNROLL for (int half = 0; half < 2; half++) {
    const int first = half * (GF_WIDE_LANES / 2);
#ifdef __clang__
    GF_UNROLL for (int lane = 0; lane < GF_WIDE_LANES; lane++) vectors[half][lane] = (lane % 2 ? y : x)[first + lane / 2];
#else
    gf_wide_words order;
    GF_UNROLL for (int lane = 0; lane < GF_WIDE_LANES; lane++) order[lane] = first + lane / 2 + lane % 2 * GF_WIDE_LANES;
    vectors[half] = __builtin_shuffle(x, y, order);
#endif
  }
}

/* The same as gf_philox for each block from this one on. Two vectors at once hide the time that a product takes. */
GF_INLINE gf_words_of_fours gf_philox_of_fours(gf_word block, gf_word stream, gf_long_word step, gf_long_word seed) {
  gf_words_of_fours words;
  gf_wide_words place;
  GF_UNROLL for (int lane = 0; lane < GF_WIDE_LANES; lane++) place[lane] = block + (gf_long_word)lane;
  for (int first = 0; first < GF_FOURS_AT_ONCE; first += 2 * GF_WIDE_LANES) {
    const gf_wide_words same = {0};
    gf_wide_words c[2][4];
    GF_UNROLL for (int v = 0; v < 2; v++, place += (gf_long_word)GF_WIDE_LANES) {
      c[v][0] = place, c[v][1] = same + (gf_long_word)stream, c[v][2] = same + step, c[v][3] = same + (step >> 32);
    }
    gf_word key0 = (gf_word)seed, key1 = (gf_word)(seed >> 32);
    GF_UNROLL for (int round = 0; round < 10; round++, key0 += GF_PHILOX_STEP0, key1 += GF_PHILOX_STEP1)
      GF_UNROLL for (int v = 0; v < 2; v++) {
        const gf_wide_words product0 = gf_wide_products(c[v][0], GF_PHILOX_FACTOR0);
        const gf_wide_words product1 = gf_wide_products(c[v][2], GF_PHILOX_FACTOR1);
        c[v][0] = (product1 >> 32) ^ (c[v][1] ^ (gf_long_word)key0);
        c[v][1] = product1;
        c[v][2] = (product0 >> 32) ^ (c[v][3] ^ (gf_long_word)key1);
        c[v][3] = product0;
      }
    GF_UNROLL for (int v = 0; v < 2; v++)
      gf_store_blocks((c[v][0] & 0xFFFFFFFFu) | c[v][1] << 32, (c[v][2] & 0xFFFFFFFFu) | c[v][3] << 32,
                      words.word + 4 * (first + v * GF_WIDE_LANES));
  }
  return words;
}
#endif
