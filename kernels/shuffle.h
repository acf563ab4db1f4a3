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

typedef struct {
  gf_word key[GF_SHUFFLE_MOST_ROUNDS];
  gf_word low_bits, low_mask, high_mask;
  int rounds;
} gf_shuffle;

GF_FUNCTION gf_shuffle gf_make_shuffle(gf_index n, gf_long_word seed, gf_index epoch) {
  gf_shuffle shuffle;
  gf_word bits = 0;
  while (((gf_index)1 << bits) < n) bits++;
  shuffle.rounds = bits <= 7 ? GF_SHUFFLE_MOST_ROUNDS : 8;
  for (gf_word block = 0; block < GF_SHUFFLE_MOST_ROUNDS / 4; block++) {
    const gf_words words = gf_philox(block, GF_SHUFFLE_STREAM, (gf_long_word)epoch, seed);
    for (int i = 0; i < 4; i++) shuffle.key[4 * block + i] = words.word[i];
  }
  shuffle.low_bits = (bits + 1) / 2;
  shuffle.low_mask = ((gf_word)1 << shuffle.low_bits) - 1;
  shuffle.high_mask = ((gf_word)1 << (bits - shuffle.low_bits)) - 1;
  return shuffle;
}

GF_FUNCTION gf_word gf_shuffle_hash(gf_word half, gf_word key) {
  half = (half ^ key) * 0x85EBCA6Bu;
  half = (half ^ (half >> 13)) * 0xC2B2AE35u;
  return half ^ (half >> 16);
}

GF_FUNCTION gf_index gf_shuffled(const gf_shuffle *shuffle, gf_index row, gf_index n) {
  do {
    gf_word low = (gf_word)row & shuffle->low_mask, high = (gf_word)(row >> shuffle->low_bits);
    for (int round = 0; round < shuffle->rounds; round += 2) {
      high ^= gf_shuffle_hash(low, shuffle->key[round]) & shuffle->high_mask;
      low ^= gf_shuffle_hash(high, shuffle->key[round + 1]) & shuffle->low_mask;
    }
    row = (gf_index)high << shuffle->low_bits | low;
  } while (row >= n);
  return row;
}
