/* Macros that let one kernel source compile as CUDA and as C.

   Under CUDA (NVRTC) a kernel is a __global__ function whose loops stride over the grid. Under a C compiler it is a
   plain function over the items [begin, end), and several threads may each run a part. The loader puts three lines
   before this text:

       typedef float real;                     the element type: float or double
       typedef int real_bits;                  the integer type of the same size: int or long long
       #define GF_MATH(function) function##f   its math functions: expf or exp

     GF_KERNEL(name, arguments...) { ... }   defines a kernel
     GF_FOR(i, n, arrays...)                 each of n elements once
     GF_FOURS(block, n, arrays...)           the same in blocks of four, to share work: GF_FOURS_AT_ONCE of them at once,
                                             of which this is the first (CUDA: one); within it
     GF_OF_FOURS(lane, block, n)               their lanes, from 0 on: element 4 block + lane
     GF_ROWS(row, rows)                      each row once: by a warp on a GPU, or by a block of threads if it is wide
     GF_COLUMNS(j, columns)                  the columns of that row: split across these lanes
     GF_COLUMN_SUMS(j, columns, sums...)     the same, for a body that only adds to those variables
     GF_COLUMNS_OF(j, columns, arrays...)    the same for arrays that begin with the row, indexed by j alone
     gf_lane_sum, gf_of_row                  the types of a sum over the columns that one lane adds, and of a row's number
                                             that its columns compute with: accumulator in C
     gf_row_sum(v), gf_row_max(v)            combine the results of the lanes of a row (C: one lane)
     GF_ONCE_PER_ROW                         the next statement, run by one lane per row
     GF_COLUMN_PARTS(first, columns)         the columns of a row in parts, for sums that a lane keeps for each column:
                                             `first` is the first column of the lane's part
     GF_COLUMN_PART                          the maximum number of columns in a part (CUDA: one)
     GF_PART_COLUMNS(j, first, columns)      the columns of the part, first + j
     GF_ROW_BLOCKS(first, rows)              each block of neighboring rows once: one row, by a warp, on a GPU; `first` is
                                             the first row of the block
     GF_ROW_BLOCK                            the maximum number of rows in a block (CUDA: one)
     gf_block_rows(first)                    the number of rows in the block
     GF_OF_BLOCK(i, count)                   the first `count` rows of the block: first + i (CUDA: its only row)
     GF_PREFETCH_ROW(array, n)               ask for n elements that are needed soon, in C: for their first cache lines,
                                             since a processor notices by itself that others follow
     GF_BLOCKS(first, n, width)              the first of every `width` of n items (C only)
     GF_COLUMN_BLOCKS(first, columns)        each block of neighboring columns once: by a thread block on a GPU;
                                             `first` is the first column that a thread handles
     GF_COLUMN_BLOCK                         the maximum number of columns that a thread handles (CUDA: one)
     GF_COLUMN_BLOCK_ROWS(row, rows)         the rows: split across the warps of the thread block
     GF_COLUMN_BLOCK_COLUMNS(j, first, columns)
                                             the columns of the thread, first + j
     GF_COLUMN_BLOCK_RUNS(j, run, first, columns, size)
                                             the same in runs of neighbors, from first + j on, of which none crosses a
                                             multiple of `size` (CUDA: of one)
     gf_column_block_sum(sums)               add the sums of the warps; every warp gets the result (C: one warp)
     GF_ONCE_PER_COLUMN_BLOCK                the next statement, run by one warp per block

   A kernel holds exactly one GF_FOR, GF_FOURS, GF_ROWS, GF_ROW_BLOCKS, GF_BLOCKS or GF_COLUMN_BLOCKS, whose second
   argument is the size of its range (GF_FOURS: the number of elements in it).
   Its argument names are those of the op that it implements; `n` is the number of elements of its first array, `rows`
   and `columns` its shape.

   For an activation whose `name_forward` is the one line GF_FOR(i, n, x, y) y[i] = ...x[i]...;, kernel_sources.py adds
   `bias_name_forward`, the same function of x + bias by rows.

   In C, a range of a GF_FOR whose kernel has arguments `hyper` and `n_decayed` ends at the next place where weights or
   a factor of the learning rate end (optimizers/update.h).

   `arrays` names every array that the body indexes with the variable of the loop, at that very index only. A GPU moves
   them in vectors of four elements, by accesses of 16 bytes if all of them are aligned to that. */

typedef double accumulator; /* the type of long sums; a lane adds its terms in a gf_lane_sum */
typedef long long gf_index;
typedef unsigned int gf_word;            /* 32 bits */
typedef unsigned long long gf_long_word; /* 64 bits */

#define gf_fabs GF_MATH(fabs)
#define gf_log GF_MATH(log)
#define gf_pow GF_MATH(pow)
#define gf_sqrt GF_MATH(sqrt)

#ifdef __CUDACC__
#define GF_FUNCTION __device__ __forceinline__
#define gf_auto auto /* a pointer to a row has the type of its array (low_precision.h) */
#define gf_exp GF_MATH(exp)
#define gf_expm1 GF_MATH(expm1)
#define gf_log1p GF_MATH(log1p)
#define gf_tanh GF_MATH(tanh)
#define gf_cos_turns(t) gf_library_cos_turns(t)
#define gf_sin_turns(t) gf_library_sin_turns(t)
#else
#include <math.h>
#define GF_FUNCTION static inline
#define gf_auto __auto_type
#include "vector_math.h"
#define gf_exp(x) _Generic((real)0, float: gf_exp_float, double: exp)(x)
#define gf_expm1(x) _Generic((real)0, float: gf_expm1_float, double: expm1)(x)
#define gf_log1p(x) _Generic((real)0, float: gf_log1p_float, double: log1p)(x)
#define gf_tanh(x) _Generic((real)0, float: gf_tanh_float, double: tanh)(x)
#define gf_cos_turns(t) _Generic((real)0, float: gf_cos_turns_float, double: gf_library_cos_turns)(t)
#define gf_sin_turns(t) _Generic((real)0, float: gf_sin_turns_float, double: gf_library_sin_turns)(t)
#endif

/* cos(2 pi t) and sin(2 pi t): the distance to a whole number of turns has no error, so large t lose no digits. */
#define GF_TURN ((real)6.283185307179586477)
#ifdef __CUDACC__
#define gf_quarter_sine(s) GF_MATH(sinpi)(2 * (s))
#else
#define gf_quarter_sine(s) GF_MATH(sin)(GF_TURN * (s))
#endif
GF_FUNCTION real gf_library_cos_turns(real t) {
  return gf_quarter_sine((real)0.25 - gf_fabs(t - GF_MATH(rint)(t)));
}
GF_FUNCTION real gf_library_sin_turns(real t) {
  const real rest = t - GF_MATH(rint)(t), size = gf_fabs(rest);
  const real sine = gf_quarter_sine(size > (real)0.25 ? (real)0.5 - size : size);
  return rest < 0 ? -sine : sine;
}

/* The larger value; NaN if either is NaN. */
GF_FUNCTION real gf_max(real a, real b) { return a >= b || a != a ? a : b; }

/* x clamped to [-limit, limit]; NaN stays NaN. */
GF_FUNCTION real gf_clamp(real x, real limit) { return x > limit ? limit : x < -limit ? -limit : x; }

/* At this |x|, exp(-|x|) is 0 in any type. Its factors are clamped to this, since 0 times infinity is NaN. */
#define GF_SATURATED ((real)1000)

#ifdef __CUDACC__

/* A file whose blocks have more than 256 threads defines their number before including this header, so that the
   compiler limits the registers of a thread. */
#ifdef GF_BLOCK_THREADS
#define GF_BOUNDS __launch_bounds__(GF_BLOCK_THREADS)
#else
#define GF_BOUNDS
#endif

/* In a block program (block_programs.py) a kernel is a function that one thread block runs by itself; in a merged one
   (merged_programs.py) it is a function that the blocks of one member, blockIdx.z, run with its arguments. */
#ifdef GF_BLOCK_PROGRAM
#define GF_KERNEL(name, ...) static __device__ __noinline__ void name(__VA_ARGS__)
#define GF_BLOCK_INDEX 0
#define GF_GRID 1
#define GF_PARTS 1
#define GF_PART 0
#else
#ifdef GF_OF_MEMBERS
#define GF_KERNEL(name, ...) static GF_FUNCTION void gf_member_##name(__VA_ARGS__)
#else
#define GF_KERNEL(name, ...) extern "C" __global__ void GF_BOUNDS name(__VA_ARGS__)
#endif
#define GF_BLOCK_INDEX blockIdx.x
#define GF_GRID gridDim.x
#define GF_PARTS gridDim.y
#define GF_PART blockIdx.y
#endif

/* An argument in a table, of programs that run side by side. */
typedef union {
  void *pointer;
  gf_index integer; /* every integer type */
  double number;
} gf_argument;

#define GF_THREAD ((gf_index)GF_BLOCK_INDEX * blockDim.x + threadIdx.x)
#define GF_THREADS ((gf_index)GF_GRID * blockDim.x)

/* A row has a warp; in the form GF_WIDE of a kernel, a block. Which one depends on the width alone, never on the device,
   so that sums have the same bits on all. Without sums, a row may be divided: GF_PARTS warps take every so many-th
   part. */
#ifdef GF_WIDE
#define GF_LANES 256
#define GF_LANE threadIdx.x
#define GF_ROWS(row, rows) for (gf_index row = GF_BLOCK_INDEX; row < (rows); row += GF_GRID)
#else
#define GF_LANES 32
#define GF_LANE (threadIdx.x % 32)
#define GF_ROWS(row, rows) for (gf_index row = GF_THREAD / 32; row < (rows); row += GF_THREADS / 32)
#endif
#define GF_FIRST_COLUMN (GF_PART * (gf_index)GF_LANES + GF_LANE)
#define GF_NEXT_COLUMN (GF_PARTS * (gf_index)GF_LANES)
#define GF_ROW_BLOCK 1
#define GF_ROW_BLOCKS(first, rows) GF_ROWS(first, rows)
#define gf_block_rows(first) 1
#define GF_OF_BLOCK(i, count) for (int i = 0; i < GF_ROW_BLOCK; i++)
#define GF_PREFETCH_ROW(array, n)
#define GF_COLUMNS(j, columns) for (gf_index j = GF_FIRST_COLUMN; j < (columns); j += GF_NEXT_COLUMN)
#define GF_COLUMN_SUMS(j, columns, ...) GF_COLUMNS(j, columns)
#define GF_ONCE_PER_ROW if (GF_FIRST_COLUMN == 0)
/* All lanes take part in each turn, so that they can combine values in it. */
#define GF_COLUMN_PART 1
#define GF_COLUMN_PARTS(first, columns) \
  for (gf_index first = GF_FIRST_COLUMN; first - (gf_index)GF_LANE < (columns); first += GF_NEXT_COLUMN)
#define GF_PART_COLUMNS(j, first, columns) for (gf_index j = 0; j < ((first) < (columns)); j++)

/* Four neighboring elements of an array, in registers. */
template <typename T> struct gf_vec4 {
  struct alignas(sizeof(T) < 4 ? 4 * sizeof(T) : 16) quad {
    T lane[4];
  } elements;
  gf_index first;

  GF_FUNCTION T &operator[](gf_index i) { return elements.lane[i - first]; }
};

/* Four elements of each of N arrays, at the same places. After the end, and if an array is not aligned, elements are
   moved one by one. The results of lanes after the end are not stored; an array that the body only writes is not
   loaded, since the compiler sees that the loaded values are not used. */
template <typename T, int N> struct gf_vec4s {
  gf_vec4<T> vec4[N];
  gf_index first, n;
  bool whole;

  GF_FUNCTION void load(gf_vec4<T> *to, const T *array) {
    to->first = first;
    if (whole) to->elements = *(const typename gf_vec4<T>::quad *)(array + first);
    else
      for (int lane = 0; lane < 4; lane++) to->elements.lane[lane] = first + lane < n ? array[first + lane] : T();
  }
  GF_FUNCTION void store_one(const gf_vec4<T> *, const T *) {}
  GF_FUNCTION void store_one(const gf_vec4<T> *from, T *array) {
    if (whole) *(typename gf_vec4<T>::quad *)(array + first) = from->elements;
    else
      for (int lane = 0; lane < 4; lane++)
        if (first + lane < n) array[first + lane] = from->elements.lane[lane];
  }
  template <typename... A> GF_FUNCTION void store(A *...array) {
    const gf_vec4<T> *from = vec4;
    (store_one(from++, array), ...);
  }
};

template <typename T, typename... A>
GF_FUNCTION gf_vec4s<T, 1 + sizeof...(A)> gf_load(gf_index block, gf_index n, const T *array, A *...arrays) {
  gf_vec4s<T, 1 + sizeof...(A)> vec4s;
  vec4s.first = 4 * block;
  vec4s.n = n;
  vec4s.whole = ((gf_long_word)array | ... | (gf_long_word)arrays) % sizeof(typename gf_vec4<T>::quad) == 0 &&
                4 * block + 4 <= n;
  gf_vec4<T> *to = vec4s.vec4;
  vec4s.load(to++, array);
  (vec4s.load(to++, arrays), ...);
  return vec4s;
}

/* In the body, the names of the arrays stand for their four elements. */
#define GF_VEC4(block, first_block, stride, n, ...)                                                        \
  for (gf_index block = (first_block); 4 * block < (n); block += (stride))                                 \
    if (auto gf_moved = gf_load(block, n, __VA_ARGS__); true)                                              \
      for (bool gf_pending = true; gf_pending; gf_pending = false, gf_moved.store(__VA_ARGS__))            \
        if (auto &[__VA_ARGS__] = gf_moved.vec4; true)
#define GF_FOURS(block, n, ...) GF_VEC4(block, GF_THREAD, GF_THREADS, n, __VA_ARGS__)
#define GF_FOURS_AT_ONCE 1
#define GF_OF_FOURS(lane, block, n) for (int lane = 0; lane < 4; lane++)
#define GF_EACH_LANE(i, block) \
  for (int gf_lane = 0; gf_lane < 4; gf_lane++) if (const gf_index i = 4 * (block) + gf_lane; true)
#define GF_FOR(i, n, ...) GF_FOURS(gf_block, n, __VA_ARGS__) GF_EACH_LANE(i, gf_block)
#define GF_COLUMNS_OF(j, columns, ...)                                       \
  GF_VEC4(gf_block, GF_FIRST_COLUMN, GF_NEXT_COLUMN, columns, __VA_ARGS__) GF_EACH_LANE(j, gf_block)

/* The sum of a lane's terms. Most GPUs compute doubles at 1/32 or 1/64 of the rate of floats: two floats, the sum and what
   its roundings have lost (Neumaier, 1974), are as accurate. */
template <typename T> struct gf_compensated {
  T sum, lost;

  GF_FUNCTION gf_compensated(int) : sum(0), lost(0) {}
  GF_FUNCTION void operator+=(T term) {
    const T next = sum + term, added = next - sum;
    lost += (sum - (next - added)) + (term - added);
    sum = next;
  }
  GF_FUNCTION accumulator value() const { return sum - sum == 0 ? sum + (accumulator)lost : sum; }
};
template <typename T> struct gf_lane_sum_of { typedef gf_compensated<T> type; };
template <> struct gf_lane_sum_of<double> { typedef double type; };
typedef gf_lane_sum_of<real>::type gf_lane_sum;
typedef real gf_of_row;

/* Combine the values of a row's lanes. In a butterfly, every lane combines the same pairs, so all lanes end with the same
   bits. */
template <int lanes, typename T, typename F> GF_FUNCTION T gf_butterfly(T value, F combine) {
  for (int apart = lanes / 2; apart > 0; apart /= 2)
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, apart));
  return value;
}
template <typename T, typename F> GF_FUNCTION T gf_over_lanes(T value, F combine) {
  value = gf_butterfly<32>(value, combine);
#ifdef GF_WIDE
  __shared__ T of_warps[GF_LANES / 32];
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = gf_butterfly<GF_LANES / 32>(of_warps[threadIdx.x % (GF_LANES / 32)], combine);
  __syncthreads();
#endif
  return value;
}
template <typename T> GF_FUNCTION T gf_row_sum(T value) {
  return gf_over_lanes(value, [](T a, T b) { return a + b; });
}
template <typename T> GF_FUNCTION accumulator gf_row_sum(gf_compensated<T> sum) { return gf_row_sum(sum.value()); }
GF_FUNCTION real gf_row_max(real value) { return gf_over_lanes(value, gf_max); }
GF_FUNCTION gf_index gf_row_min_index(gf_index value) {
  return gf_over_lanes(value, [](gf_index a, gf_index b) { return b < a ? b : a; });
}

/* A thread block takes 32 columns, one for each lane, so that a warp reads neighboring columns, and each of its 32
   warps takes every 32nd row. */
#define GF_COLUMN_BLOCK 1
#define GF_COLUMN_BLOCKS(first, columns)                                                                  \
  for (gf_index first = GF_BLOCK_INDEX * (gf_index)32 + threadIdx.x % 32;                           \
       first - threadIdx.x % 32 < (columns); first += GF_GRID * (gf_index)32)
#define GF_COLUMN_BLOCK_ROWS(row, rows) for (gf_index row = threadIdx.x / 32; row < (rows); row += 32)
#define GF_COLUMN_BLOCK_COLUMNS(j, first, columns) for (gf_index j = 0; j < ((first) < (columns)); j++)
#define GF_COLUMN_BLOCK_RUNS(j, run, first, columns, size) if (const int j = 0, run = 1; (first) < (columns))
#define GF_ONCE_PER_COLUMN_BLOCK if (threadIdx.x < 32)

/* Add the warps' sums of each column in a fixed order, in one warp, and return the result to all. */
GF_FUNCTION void gf_column_block_sum(accumulator *sums) {
  __shared__ accumulator partials[32][33];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  partials[warp][lane] = *sums;
  __syncthreads();
  const accumulator sum = gf_row_sum(partials[lane][warp]); /* of column `warp` */
  __syncthreads();
  if (lane == 0) partials[0][warp] = sum;
  __syncthreads();
  *sums = partials[0][lane];
  __syncthreads();
}

#define gf_multiply_high(a, b) __umulhi(a, b)
#define gf_atomic_min(address, value) atomicMin(address, value)

#else

/* Vectors of the processor. */
#if defined(__AVX512F__)
#define GF_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define GF_VECTOR_BYTES 32
#else
#define GF_VECTOR_BYTES 16
#endif
#define GF_INLINE GF_FUNCTION __attribute__((always_inline))
#define GF_UNROLL _Pragma("GCC unroll 16")

#ifndef GF_LINKAGE
#define GF_LINKAGE
#endif
#define GF_KERNEL(name, ...) GF_LINKAGE void name(gf_index begin, gf_index end, __VA_ARGS__)

/* Iterations are independent, even if an output is written in place of an input. */
#define GF_FOR(i, n, ...) \
  (void)(n); _Pragma("GCC ivdep") _Pragma("GCC unroll 1") for (gf_index i = begin; i < end; i++)
#define GF_FOURS_AT_ONCE 16
#define GF_FOURS(block, n, ...) (void)(n); for (gf_index block = begin; block < end; block += GF_FOURS_AT_ONCE)
#define GF_OF_FOURS(lane, block, n)                                                                       \
  const gf_index gf_stop = (end - (block) < GF_FOURS_AT_ONCE ? end : (block) + GF_FOURS_AT_ONCE) * 4; \
  const gf_index gf_lanes_left = (gf_stop < (n) ? gf_stop : (n)) - 4 * (block);                          \
  _Pragma("GCC ivdep") for (gf_index lane = 0; lane < gf_lanes_left; lane++)
#define GF_ROWS(row, rows) (void)(rows); for (gf_index row = begin; row < end; row++)
#define GF_ROW_BLOCK 64
#define GF_ROW_BLOCKS(first, rows) (void)(rows); for (gf_index first = begin; first < end; first += GF_ROW_BLOCK)
#define gf_block_rows(first) (end - first < GF_ROW_BLOCK ? end - first : GF_ROW_BLOCK)
#define GF_OF_BLOCK(i, count) _Pragma("GCC unroll 1") for (gf_index i = 0; i < (count); i++)
#define GF_PREFETCH_ROW(array, n) gf_prefetch(array, (n) * sizeof *(array))
#define GF_COLUMNS(j, columns) _Pragma("GCC ivdep") for (gf_index j = 0; j < (columns); j++)
#define GF_COLUMNS_OF(j, columns, ...) GF_COLUMNS(j, columns)
#define GF_BLOCKS(first, n, width) (void)(n); for (gf_index first = begin; first < end; first += width)
/* Without this a sum is a chain of additions, each of which waits for the previous one. */
#define GF_PRAGMA(text) _Pragma(#text)
#define GF_COLUMN_SUMS(j, columns, ...) \
  GF_PRAGMA(omp simd reduction(+ : __VA_ARGS__)) for (gf_index j = 0; j < (columns); j++)
#define GF_ONCE_PER_ROW
#define GF_COLUMN_PART 64
#define GF_COLUMN_PARTS(first, columns) \
  for (gf_index first = 0; first < (columns); first += GF_COLUMN_PART)
#define GF_PART_COLUMNS(j, first, columns) \
  _Pragma("GCC ivdep") \
  for (gf_index j = 0; j < ((columns) - first < GF_COLUMN_PART ? (columns) - first : GF_COLUMN_PART); j++)
#define GF_COLUMN_BLOCK 64
#define GF_COLUMN_BLOCKS(first, columns) \
  (void)(columns); for (gf_index first = begin; first < end; first += GF_COLUMN_BLOCK)
#define GF_COLUMN_BLOCK_ROWS(row, rows) for (gf_index row = 0; row < (rows); row++)
#define GF_COLUMN_BLOCK_COLUMNS(j, first, columns) \
  _Pragma("GCC ivdep") for (gf_index j = 0; j < (end - first < GF_COLUMN_BLOCK ? end - first : GF_COLUMN_BLOCK); j++)
#define GF_COLUMN_BLOCK_RUNS(j, run, first, columns, size)                                                      \
  for (gf_index j = 0, run; (run = gf_run_of_columns((first) + j, first, end, size)) > 0; j += run)
#define GF_ONCE_PER_COLUMN_BLOCK

/* The columns from this one on, up to the next multiple of `size`, the end of the range, or that of its block. */
GF_FUNCTION gf_index gf_run_of_columns(gf_index column, gf_index begin_of_block, gf_index end, gf_index size) {
  const gf_index to_multiple = size - column % size, in_range = end - column;
  const gf_index in_block = begin_of_block + GF_COLUMN_BLOCK - column;
  const gf_index run = to_multiple < in_range ? to_multiple : in_range;
  return run < in_block ? run : in_block;
}

GF_FUNCTION void gf_prefetch(const void *array, gf_index bytes) {
  for (gf_index byte = 0; byte < bytes && byte < 512; byte += 64) __builtin_prefetch((const char *)array + byte);
}

#define gf_column_block_sum(sums) (void)(sums)
typedef accumulator gf_lane_sum, gf_of_row;
#define gf_row_sum(value) (value)
#define gf_row_max(value) (value)
#define gf_row_min_index(value) (value)

#define gf_multiply_high(a, b) ((gf_word)(((gf_long_word)(a) * (b)) >> 32))
GF_FUNCTION void gf_atomic_min(gf_index *address, gf_index value) {
  gf_index current = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (value < current &&
         !__atomic_compare_exchange_n(address, &current, value, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

#endif
