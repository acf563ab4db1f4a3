/* Runs a program in one call, for the numpy backend.

   The kernels are compiled once for each element type and instruction set, into tables (c_library_text in
   kernel_sources.py); the table is chosen when the library is loaded. The BLAS computes large matmuls; its functions
   are passed as pointers. */

#include <string.h>

#include "float_state.h"
#include "os_threads.h"
#include "pace.h"
#include "team.h"

#if defined(__x86_64__)
#include <cpuid.h>
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

/* True on a processor of Intel's. */
GF_EXPORT int gf_is_intel(void) {
#if defined(__x86_64__)
  unsigned highest, vendor[3];
  return __get_cpuid(0, &highest, &vendor[0], &vendor[2], &vendor[1]) && !memcmp(vendor, "GenuineIntel", 12);
#else
  return 0;
#endif
}

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
   An item of the range is a slice of the result, `width` rows or columns of it. If the BLAS can be told so for the
   calling thread alone, it computes each slice on that thread. Otherwise it uses its own threads, and the range is one
   item; numbers are not flushed then, since threads that it starts inherit this for good.
   values: the function of the BLAS; its function that sets the threads of the calling thread and returns their previous
   number, or null; transposed a, transposed b (CblasNoTrans or CblasTrans), m, n, k, a, b, out, width, 1 if slices are
   columns. */
#define GF_GEMM(name, element, count)                                                                                 \
  GF_EXPORT void name(const gf_value *v, long long begin, long long end) {                                            \
    typedef void (*gemm)(int, int, int, count, count, count, element, const element *, count, const element *, count, \
                         element, element *, count);                                                                  \
    typedef int (*set_threads)(int);                                                                                  \
    const int row_major = 101, no_transpose = 111;                                                                    \
    const int transpose_a = (int)v[2].integer, transpose_b = (int)v[3].integer, by_columns = (int)v[11].integer;      \
    const count m = (count)v[4].integer, n = (count)v[5].integer, k = (count)v[6].integer;                            \
    const count lda = transpose_a == no_transpose ? k : m, ldb = transpose_b == no_transpose ? n : k;                 \
    const element *a = v[7].pointer, *b = v[8].pointer;                                                               \
    element *out = v[9].pointer;                                                                                      \
    const count width = (count)v[10].integer, whole = by_columns ? n : m;                                             \
    const gf_float_state state = gf_set_flush_to_zero(v[1].pointer != 0);                                             \
    const int threads = v[1].pointer ? ((set_threads)v[1].pointer)(1) : 0;                                            \
    for (count first = (count)begin * width; first < whole && first < (count)end * width; first += width) {           \
      const count size = whole - first < width ? whole - first : width;                                               \
      const count row = by_columns ? 0 : first, column = by_columns ? first : 0;                                      \
      ((gemm)v[0].pointer)(row_major, transpose_a, transpose_b, by_columns ? m : size, by_columns ? size : n, k, 1,   \
                           a + row * (transpose_a == no_transpose ? lda : 1), lda,                                    \
                           b + column * (transpose_b == no_transpose ? 1 : ldb), ldb, 0, out + row * n + column, n);  \
    }                                                                                                                 \
    if (v[1].pointer) ((set_threads)v[1].pointer)(threads);                                                           \
    gf_restore_float_state(state);                                                                                    \
  }
GF_GEMM(gf_gemm_float32_64, float, long long)
GF_GEMM(gf_gemm_float32_32, float, int)
GF_GEMM(gf_gemm_float64_64, double, long long)
GF_GEMM(gf_gemm_float64_32, double, int)

static void run_alone(const gf_phase *phase) {
  for (const gf_call *call = phase->calls; call < phase->calls + phase->count; call++)
    call->function(call->values, 0, call->items);
}

/* Run the phases once on the team; after `end` the rest on this thread.
   keeps_awake: otherwise only phases that are worth waking the threads are shared. */
static void run_shared(gf_phase *phases, long long count, double end, int keeps_awake) {
  int is_shared = 1;
  for (gf_phase *phase = phases; phase < phases + count; phase++) {
    if (is_shared && (keeps_awake ? phase->is_shared : phase->is_worth_waking)) {
      gf_share(phase);
      is_shared = gf_seconds() < end;
    } else run_alone(phase);
  }
}

/* Run the phases of a program, in order, `times` times, on at most `most` threads. */
static void run_at_pace(gf_phase *phases, long long count, long long times, gf_pace *pace, int most, int keeps_awake) {
  int is_held = 0;
  double now = gf_seconds();
  for (long long time = 0; time < times; time++) {
    const int threads = gf_next_threads(pace, most);
    const double start = now;
    if (threads == 1 && is_held) gf_release_team();
    is_held = threads > 1 && (is_held || gf_hold_team());
    if (is_held) {
      gf_set_team(threads, keeps_awake);
      run_shared(phases, count, start + gf_patience(pace), keeps_awake);
    } else
      for (long long i = 0; i < count; i++) run_alone(&phases[i]);
    now = gf_seconds();
    const int is_complete = threads == 1 || !keeps_awake || gf_team_is_awake(threads);
    if (is_held || threads == 1) gf_learn(pace, most, now, now - start, is_complete);
  }
  if (is_held) gf_release_team();
}

/* Run the phases of a program, in order, `times` times, with flush-to-zero; restores the caller's floating-point state.
   pace: what is known of the program.
   allowed: returns the maximum number of threads; null for one.
   most: the number of threads that can be kept busy.
   keeps_awake: true if the threads wait for the next phase without sleeping, since the BLAS needs none. */
GF_EXPORT void gf_run(gf_phase *phases, long long count, long long times, gf_pace *pace, int (*allowed)(void), int most,
                      int keeps_awake) {
  const gf_float_state callers = gf_set_flush_to_zero(1);
  const int threads = allowed ? allowed() : 1;
  if (threads > 1 && most > 1 && !atomic_flag_test_and_set(&pace->is_used)) {
    run_at_pace(phases, count, times, pace, threads < most ? threads : most, keeps_awake);
    atomic_flag_clear(&pace->is_used);
  } else
    for (long long time = 0; time < times; time++)
      for (long long i = 0; i < count; i++) run_alone(&phases[i]);
  gf_restore_float_state(callers);
}

/* A program, and how many times it runs in an epoch. */
typedef struct {
  gf_phase *phases;
  long long count, times;
  gf_pace *pace;
  int most, keeps_awake;
} gf_part;

/* Several epochs, and what happens after each of them. */
typedef struct {
  const gf_part *parts;
  long long count;
  const long long *status; /* the clock of the training and sums over the epoch, `words` in all */
  long long words;
  long long *readings; /* receives the status after each epoch */
  long long bad_step, never; /* the place of the first bad step, and its value before there is one */
  /* The places of the sums of the losses, in training and on the data that decide which epoch is best, and their rows. */
  long long trained, decisive;
  double trained_rows, decisive_rows;
  double limit;          /* the epochs end after one with a larger mean loss in training */
  double best, progress; /* an epoch is the best if its mean loss is smaller than `best` by more than `progress`, */
  int takes_ties;        /* or by just that */
  const char *state;
  char *best_state; /* receives the state of the best epoch */
  long long state_bytes;
  const char *weights;
  char *kept; /* receives the weights after each epoch, `distance` bytes apart */
  long long weight_bytes, distance;
} gf_epochs;

static double mean_loss(const gf_epochs *of, long long place, double rows) {
  double sum;
  memcpy(&sum, of->status + place, sizeof sum);
  return sum / rows;
}

/* Run at most `most` epochs, until one of them took longer than is left of `seconds`, has a loss above the limit, or
   diverged; return how many have run. */
GF_EXPORT long long gf_run_epochs(gf_epochs *of, long long most, double seconds, int (*allowed)(void)) {
  const double end = gf_seconds() + seconds;
  for (long long epoch = 0; epoch < most; epoch++) {
    for (const gf_part *part = of->parts; part < of->parts + of->count; part++)
      gf_run(part->phases, part->count, part->times, part->pace, allowed, part->most, part->keeps_awake);
    memcpy(of->readings + epoch * of->words, of->status, of->words * sizeof *of->status);
    memcpy(of->kept + epoch * of->distance, of->weights, of->weight_bytes);
    const double decisive = mean_loss(of, of->decisive, of->decisive_rows);
    if (of->status[of->bad_step] != of->never) return epoch + 1;
    const double needed = of->best - of->progress;
    if (decisive < needed || (of->takes_ties && decisive == needed && needed - needed == 0)) {
      of->best = decisive;
      memcpy(of->best_state, of->state, of->state_bytes);
    }
    if (mean_loss(of, of->trained, of->trained_rows) > of->limit || gf_seconds() > end) return epoch + 1;
  }
  return most;
}
