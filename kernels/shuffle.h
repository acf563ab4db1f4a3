/* A random permutation of the rows 0 .. n-1 that needs no memory: row -> row, for one epoch.

   Mitchell, Stokes, Frank, Holmes (2021), "Bandwidth-optimal random shuffling for GPUs", section 3: a
   keyed Feistel network permutes the smallest power of two that holds n; a result outside is sent
   through the network again until it falls inside ("cycle walking"), less than twice on average.
   Variant: the two halves of an odd number of bits differ by one and alternate, so nothing is swapped;
   the round function is a 32-bit multiplicative hash (the finalizer of MurmurHash3, Appleby 2011, reduced
   to two multiplications); the keys of the rounds are words of Philox for (seed, epoch). 24 rounds, as in the
   paper, for up to 128 rows: with 8, some orders of five rows are twice as frequent as others. From 33 rows on,
   statistics of positions, pairs and neighbors no longer distinguish 8 rounds from chance, so larger data use 8. */

#define GF_SHUFFLE_STREAM 0x03000000u
#define GF_SHUFFLE_MOST_ROUNDS 24

/* On a GPU each lane of a warp makes and holds the key of one round. */
typedef struct {
#ifdef __CUDACC__
  gf_word key;
#else
  gf_word key[GF_SHUFFLE_MOST_ROUNDS];
#endif
  gf_word low_bits, low_mask, high_mask;
  int rounds;
} gf_shuffle;

#ifdef __CUDACC__
GF_FUNCTION void gf_make_keys(gf_shuffle *shuffle, gf_long_word seed, gf_index epoch) {
  const gf_word lane = threadIdx.x % 32;
  const gf_words words = gf_philox(lane / 4, GF_SHUFFLE_STREAM, (gf_long_word)epoch, seed);
  shuffle->key = lane % 4 == 0 ? words.word[0] : lane % 4 == 1 ? words.word[1] :
                 lane % 4 == 2 ? words.word[2] : words.word[3];
}
#define gf_key(shuffle, round) __shfl_sync(0xffffffffu, (shuffle)->key, round)
#else
GF_FUNCTION void gf_make_keys(gf_shuffle *shuffle, gf_long_word seed, gf_index epoch) {
  for (gf_word block = 0; 4 * block < (gf_word)shuffle->rounds; block++) {
    const gf_words words = gf_philox(block, GF_SHUFFLE_STREAM, (gf_long_word)epoch, seed);
    for (int i = 0; i < 4; i++) shuffle->key[4 * block + i] = words.word[i];
  }
}
#define gf_key(shuffle, round) (shuffle)->key[round]
#endif

GF_FUNCTION void gf_make_shuffle(gf_shuffle *shuffle, gf_index n, gf_long_word seed, gf_index epoch) {
  gf_word bits = 0;
  while (((gf_index)1 << bits) < n) bits++;
  shuffle->rounds = bits <= 7 ? GF_SHUFFLE_MOST_ROUNDS : 8;
  gf_make_keys(shuffle, seed, epoch);
  shuffle->low_bits = (bits + 1) / 2;
  shuffle->low_mask = ((gf_word)1 << shuffle->low_bits) - 1;
  shuffle->high_mask = ((gf_word)1 << (bits - shuffle->low_bits)) - 1;
}

GF_FUNCTION gf_word gf_shuffle_hash(gf_word half, gf_word key) {
  half = (half ^ key) * 0x85EBCA6Bu;
  half = (half ^ (half >> 13)) * 0xC2B2AE35u;
  return half ^ (half >> 16);
}

/* Find which rows are at the places first, first + 1, ... of the epoch's order: `count` places, a block of rows at most.
   The rounds of all of them are computed together, then again those of the results outside, until none is left. */
GF_FUNCTION void gf_shuffled(const gf_shuffle *shuffle, gf_index first, gf_index count, gf_index n, gf_index *rows) {
  gf_word low[GF_ROW_BLOCK], high[GF_ROW_BLOCK], place[GF_ROW_BLOCK];
  GF_OF_BLOCK(i, count) {
    low[i] = (gf_word)(first + i) & shuffle->low_mask;
    high[i] = (gf_word)((first + i) >> shuffle->low_bits);
    place[i] = i;
  }
  while (count > 0) {
    for (int round = 0; round < shuffle->rounds; round += 2) {
      const gf_word key = gf_key(shuffle, round), next_key = gf_key(shuffle, round + 1);
      GF_OF_BLOCK(i, count) high[i] ^= gf_shuffle_hash(low[i], key) & shuffle->high_mask;
      GF_OF_BLOCK(i, count) low[i] ^= gf_shuffle_hash(high[i], next_key) & shuffle->low_mask;
    }
    gf_index outside = 0;
    GF_OF_BLOCK(i, count) {
      const gf_index row = (gf_index)high[i] << shuffle->low_bits | low[i];
      rows[place[i]] = row;
      low[outside] = low[i];
      high[outside] = high[i];
      place[outside] = place[i];
      outside += row >= n;
    }
    count = outside;
  }
}
