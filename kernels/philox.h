/* Philox4x32-10, a counter-based random generator: four random words from a counter and a key.

   Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", section 3.3;
   multipliers and key increments from its table 2 and the Random123 library. The counter is
   (block, stream, step low, step high), the key is the seed, low word first. Each word depends on
   nothing else, so any backend can generate any part of the sequence, in any order. */

typedef struct {
  gf_word word[4];
} gf_words;

GF_FUNCTION gf_words gf_philox(gf_word block, gf_word stream, gf_long_word step, gf_long_word seed) {
  gf_words c = {{block, stream, (gf_word)step, (gf_word)(step >> 32)}};
  gf_word key0 = (gf_word)seed, key1 = (gf_word)(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const gf_word high0 = gf_multiply_high(0xD2511F53u, c.word[0]), low0 = 0xD2511F53u * c.word[0];
    const gf_word high1 = gf_multiply_high(0xCD9E8D57u, c.word[2]), low1 = 0xCD9E8D57u * c.word[2];
    c.word[0] = high1 ^ c.word[1] ^ key0;
    c.word[1] = low1;
    c.word[2] = high0 ^ c.word[3] ^ key1;
    c.word[3] = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return c;
}
