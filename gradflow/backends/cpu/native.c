/* Running a program in one call: what the numpy backend loads where it was built.

   The kernels are compiled once for each element type and each set of instructions, into tables (c_library_text in
   sources.py); which table is taken is chosen when the library is loaded. Matrix products are the BLAS's, whose
   functions are given as pointers. */

#include <string.h>

#include "team.h"

#ifdef _WIN32
#define GF_EXPORT __declspec(dllexport)
#else
#define GF_EXPORT __attribute__((visibility("default")))
#endif

/* One table for each element type and instruction set that was built; GF_TABLES lists them as X(name). */
#define X(table) extern const gf_entry table[];
GF_TABLES
#undef X

typedef struct {
  const char *name;
  const gf_entry *entries;
} gf_table;

static const gf_table tables[] = {
#define X(table) {#table, table},
    GF_TABLES
#undef X
    {0, 0}};

/* Whether this processor can run the kernels built for an instruction set. */
GF_EXPORT int gf_supports(const char *instructions) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!strcmp(instructions, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma");
  if (!strcmp(instructions, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return !strcmp(instructions, "baseline");
}

/* Which sources the kernels were built from: fingerprint in sources.py. */
GF_EXPORT const char *gf_fingerprint(void) { return GF_FINGERPRINT; }

/* The kernel of a name in a table, such as "gf_float32_avx2"; null if there is none. */
GF_EXPORT const gf_entry *gf_find(const char *table, const char *name) {
  for (const gf_table *t = tables; t->name; t++)
    if (!strcmp(t->name, table))
      for (const gf_entry *entry = t->entries; entry->name; entry++)
        if (!strcmp(entry->name, name)) return entry;
  return 0;
}

/* How many items the range of a kernel has with these arguments. */
GF_EXPORT long long gf_items(const gf_entry *entry, const gf_value *values) { return entry->items(values); }

/* out = op(a) op(b) for row-major matrices, by a cblas_?gemm with integers of the given type.
   It has threads of its own, so its range is one item.
   values: the BLAS's function, transposed a, transposed b (CblasNoTrans or CblasTrans), m, n, k, a, b, out. */
#define GF_GEMM(name, element, count)                                                                       \
  GF_EXPORT void name(const gf_value *v, long long begin, long long end) {                                  \
    (void)begin, (void)end;                                                                                 \
    typedef void (*gemm)(int, int, int, count, count, count, element, const element *, count,               \
                         const element *, count, element, element *, count);                                \
    const int row_major = 101, no_transpose = 111;                                                          \
    const int transpose_a = (int)v[1].integer, transpose_b = (int)v[2].integer;                             \
    const count m = (count)v[3].integer, n = (count)v[4].integer, k = (count)v[5].integer;                  \
    const count lda = transpose_a == no_transpose ? k : m, ldb = transpose_b == no_transpose ? n : k;       \
    gemm multiply = (gemm)v[0].pointer;                                                                     \
    multiply(row_major, transpose_a, transpose_b, m, n, k, 1, v[6].pointer, lda, v[7].pointer, ldb, 0,      \
             v[8].pointer, n);                                                                              \
  }
GF_GEMM(gf_gemm_float32_64, float, long long)
GF_GEMM(gf_gemm_float32_32, float, int)
GF_GEMM(gf_gemm_float64_64, double, long long)
GF_GEMM(gf_gemm_float64_32, double, int)

/* Runs a program, the calls in turn, that many times.
   threads: tells how many a call may be shared out to; null if none of them is worth it.
   most_threads: how many find something to do.
   keeps_awake: whether the threads wait for the next call without sleeping: where the BLAS wants none. */
GF_EXPORT void gf_run(const gf_call *calls, long long count, long long times, int (*threads)(void),
                      long long most_threads, int keeps_awake) {
  const long long allowed = threads ? threads() : 1;
  const int is_held = gf_hold_team(allowed < most_threads ? allowed : most_threads, keeps_awake);
  int is_shared = is_held;
  for (long long time = 0; time < times; time++)
    for (const gf_call *call = calls; call < calls + count; call++) {
      if (is_shared && call->part < call->items && (keeps_awake || call->wakes_team)) is_shared = gf_share(call);
      else call->function(call->values, 0, call->items);
    }
  if (is_held) gf_release_team();
}
