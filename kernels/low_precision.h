/* Arrays of 16-bit numbers, under CUDA only: a kernel reads and writes them as if they held float, and computes in
   float. The loader defines the type gf_bits, __half or __nv_bfloat16, before this text, and replaces `real` by gf_low
   in arguments that point to such numbers. (C++ would convert x[i] in `on ? 0 : x[i]` to int, so kernels write (real)0
   there.) */

struct gf_low {
  gf_bits bits;
  GF_FUNCTION operator float() const { return (float)bits; }
  GF_FUNCTION float operator=(float value) {
    bits = (gf_bits)value;
    return value;
  }
};

#ifdef GF_MIRRORED
/* When the parameters, the first array of the loop, are stored, they are also written to gf_copies. */
template <int N> GF_FUNCTION void gf_store_copies(const gf_vec4s<float, N> &vec4s, gf_low *copies) {
  gf_vec4<gf_low>::quad rounded;
  for (int lane = 0; lane < 4; lane++) rounded.lane[lane] = vec4s.vec4[0].elements.lane[lane];
  copies += vec4s.first;
  if (vec4s.whole && (gf_long_word)copies % sizeof(rounded) == 0) *(gf_vec4<gf_low>::quad *)copies = rounded;
  else
    for (int lane = 0; lane < 4; lane++)
      if (vec4s.first + lane < vec4s.n) copies[lane] = rounded.lane[lane];
}
#undef GF_FOR
#define GF_FOR(i, n, ...)                                                                                   \
  for (gf_index gf_block = GF_THREAD; 4 * gf_block < (n); gf_block += GF_THREADS)                          \
    if (auto gf_moved = gf_load(gf_block, n, __VA_ARGS__); true)                                           \
      for (bool gf_pending = true; gf_pending;                                                             \
           gf_pending = false, gf_moved.store(__VA_ARGS__), gf_store_copies(gf_moved, gf_copies))          \
        if (auto &[__VA_ARGS__] = gf_moved.vec4; true) GF_EACH_LANE(i, gf_block)
#endif

#ifdef GF_MIXED
/* Arrays of two types cannot share vectors of four. */
#undef GF_FOR
#undef GF_COLUMNS_OF
#define GF_FOR(i, n, ...) for (gf_index i = GF_THREAD; i < (n); i += GF_THREADS)
#define GF_COLUMNS_OF(j, columns, ...) GF_COLUMNS(j, columns)
#endif
