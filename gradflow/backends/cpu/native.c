/* Runs a program in one call, for the numpy backend.

   The kernels are compiled once for each element type and instruction set, into tables (c_library_text in
   kernel_sources.py); the table is chosen when the library is loaded. The BLAS computes large matmuls; its functions
   are passed as pointers. */

#include <string.h>

#include "float_state.h"
#include "team.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

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

#if defined(__x86_64__)

/* True if the system saves all of these registers: bits of XCR0. */
static int is_saved(unsigned registers) {
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & registers) == registers;
}

/* True if the processor and the system have AVX2 and FMA or, of AVX-512, what Skylake has. Not the compiler's
   __builtin_cpu_supports: Clang for Windows does not link its runtime function. */
static int has_vectors(int is_avx512) {
  const unsigned osxsave = 1u << 27, fma = 1u << 12, avx2 = 1u << 5;
  const unsigned f_dq_cd_bw_vl = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & osxsave) || !(c & fma)) return 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & avx2)) return 0;
  return is_avx512 ? (b & f_dq_cd_bw_vl) == f_dq_cd_bw_vl && is_saved(0xe6) : is_saved(0x06);
}

#else

static int has_vectors(int is_avx512) { return (void)is_avx512, 0; }

#endif

/* True if this processor can run the kernels built for an instruction set. */
GF_EXPORT int gf_supports(const char *instructions) {
  if (!strcmp(instructions, "avx512")) return has_vectors(1);
  if (!strcmp(instructions, "avx2")) return has_vectors(0);
  return !strcmp(instructions, "baseline");
}

/* Return the fingerprint of the sources that the kernels were built from (kernel_sources.py). */
GF_EXPORT const char *gf_fingerprint(void) { return GF_FINGERPRINT; }

/* Return the kernel of a name in a table, such as "gf_float32_avx2"; null if there is none. */
GF_EXPORT const gf_entry *gf_find(const char *table, const char *name) {
  for (const gf_table *t = tables; t->name; t++)
    if (!strcmp(t->name, table))
      for (const gf_entry *entry = t->entries; entry->name; entry++)
        if (!strcmp(entry->name, name)) return entry;
  return 0;
}

/* Return the number of items in the range of a kernel with these arguments. */
GF_EXPORT long long gf_items(const gf_entry *entry, const gf_value *values) { return entry->items(values); }

/* out = op(a) op(b) for row-major matrices, by a cblas_?gemm with integers of the given type.
   The BLAS has its own threads, so the range is one item.
   values: the function of the BLAS, transposed a, transposed b (CblasNoTrans or CblasTrans), m, n, k, a, b, out. */
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

/* Run the calls of a program, in order, `times` times, with flush-to-zero; restores the caller's floating-point state.
   threads: returns the maximum number of threads for a call; null if no call is worth splitting.
   most_threads: the number of threads that can be kept busy.
   keeps_awake: true if the threads wait for the next call without sleeping, since the BLAS needs none. */
GF_EXPORT void gf_run(const gf_call *calls, long long count, long long times, int (*threads)(void),
                      long long most_threads, int keeps_awake) {
  const gf_float_state callers = gf_flush_to_zero();
  const long long allowed = threads ? threads() : 1;
  const int is_held = gf_hold_team(allowed < most_threads ? allowed : most_threads, keeps_awake);
  int is_shared = is_held;
  for (long long time = 0; time < times; time++)
    for (const gf_call *call = calls; call < calls + count; call++) {
      if (is_shared && call->part < call->items && (keeps_awake || call->wakes_team)) is_shared = gf_share(call);
      else call->function(call->values, 0, call->items);
    }
  if (is_held) gf_release_team();
  gf_restore_float_state(callers);
}
