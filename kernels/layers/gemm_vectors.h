/* Vectors of the processor, for matmuls. */

#define GF_LANES ((int)(GF_VECTOR_BYTES / sizeof(real)))

typedef real gf_vector __attribute__((vector_size(GF_VECTOR_BYTES)));
typedef real gf_loose_vector __attribute__((vector_size(GF_VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef __typeof__(_Generic((real)0, float: 0, double: (gf_index)0)) gf_lane; /* an integer of the size of a real */
typedef gf_lane gf_lanes __attribute__((vector_size(GF_VECTOR_BYTES)));

GF_INLINE gf_index gf_least(gf_index x, gf_index y) { return x < y ? x : y; }

/* Return a number of elements rounded up to whole vectors. */
GF_INLINE gf_index gf_padded(gf_index count) { return (count + GF_LANES - 1) / GF_LANES * GF_LANES; }

/* Copy fewer elements than a vector holds. */
GF_INLINE void gf_copy_some(real *to, const real *from, gf_index count) {
  GF_UNROLL for (int some = GF_LANES / 2; some > 0; some /= 2)
    if (count & some) {
      __builtin_memcpy(to, from, some * sizeof(real));
      to += some, from += some;
    }
}

/* Load a vector. If fewer elements are left to read, zeros follow them. */
GF_INLINE gf_vector gf_load(const real *from, gf_index left) {
  if (left >= GF_LANES) return *(const gf_loose_vector *)from;
  gf_vector some = {0};
  if (left > 0) gf_copy_some((real *)&some, from, left);
  return some;
}

/* Store a vector, or as much of it as there is room for. */
GF_INLINE void gf_store(real *to, gf_vector value, gf_index room) {
  if (room >= GF_LANES) *(gf_loose_vector *)to = value;
  else gf_copy_some(to, (const real *)&value, room);
}

/* Return the first lanes of a vector, followed by zeros. */
GF_INLINE gf_vector gf_first(gf_vector value, gf_index count) {
  gf_lanes lanes;
  GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) lanes[lane] = lane;
  return (gf_vector)((gf_lanes)value & (lanes < (gf_lane)gf_least(count, GF_LANES)));
}

/* Return x[first], y[first], x[first + 1], y[first + 1] and so on: half of the lanes of each. */
GF_INLINE gf_vector gf_alternating(gf_vector x, gf_vector y, const int first) {
#ifdef __clang__
  gf_vector both;
  GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) both[lane] = (lane % 2 ? y : x)[first + lane / 2];
  return both;
#else
  gf_lanes order;
  GF_UNROLL for (int lane = 0; lane < GF_LANES; lane++) order[lane] = first + lane / 2 + lane % 2 * GF_LANES;
  return __builtin_shuffle(x, y, order);
#endif
}

/* In each step of a transposition, the highest bit of an element's row number becomes the lowest of its column number,
   and the highest of that the lowest of the row number. */
GF_INLINE void gf_transposition_step(gf_vector *square) {
  gf_vector next[GF_LANES];
  GF_UNROLL for (int i = 0; i < GF_LANES / 2; i++) {
    next[2 * i] = gf_alternating(square[i], square[i + GF_LANES / 2], 0);
    next[2 * i + 1] = gf_alternating(square[i], square[i + GF_LANES / 2], GF_LANES / 2);
  }
  GF_UNROLL for (int i = 0; i < GF_LANES; i++) square[i] = next[i];
}

/* Compilers keep the vectors in registers if the steps are written out. */
GF_INLINE void gf_transpose(gf_vector *square) {
  gf_transposition_step(square);
  if (GF_LANES > 2) gf_transposition_step(square);
  if (GF_LANES > 4) gf_transposition_step(square);
  if (GF_LANES > 8) gf_transposition_step(square);
}

/* Replace pairs of vectors by the sum of the two vectors that a step of a transposition makes of them. */
GF_INLINE void gf_summation_step(gf_vector *square, const int pairs) {
  GF_UNROLL for (int i = 0; i < pairs; i++)
    square[i] = gf_alternating(square[i], square[i + pairs], 0) +
                gf_alternating(square[i], square[i + pairs], GF_LANES / 2);
}

/* Return the sums of the lanes of as many vectors as there are lanes. */
GF_INLINE gf_vector gf_sums_of_lanes(gf_vector *square) {
  if (GF_LANES > 8) gf_summation_step(square, 8);
  if (GF_LANES > 4) gf_summation_step(square, 4);
  if (GF_LANES > 2) gf_summation_step(square, 2);
  gf_summation_step(square, 1);
  return square[0];
}
