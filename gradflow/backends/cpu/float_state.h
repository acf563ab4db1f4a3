/* Flush-to-zero: results and inputs below the smallest normal number count as zero, as on a GPU.

   Such numbers take a processor about a hundred cycles each. The moments of units whose gradient has vanished decay into
   them and stay there, so that late epochs of a long training would take several times as long as the first. */
#ifndef GF_FLOAT_STATE_H
#define GF_FLOAT_STATE_H

#if defined(__x86_64__) || defined(_M_X64)

#include <xmmintrin.h>

typedef unsigned gf_float_state;

/* Begin or end to flush in this thread; return the state to restore. */
static inline gf_float_state gf_set_flush_to_zero(int is_on) {
  const unsigned flush_results = 1u << 15, flush_inputs = 1u << 6, flush = flush_results | flush_inputs;
  const unsigned state = _mm_getcsr();
  _mm_setcsr(is_on ? state | flush : state & ~flush);
  return state;
}

/* Restore the state, and with it the flags of exceptions: NumPy must not see those of kernels. */
static inline void gf_restore_float_state(gf_float_state state) { _mm_setcsr(state); }

#elif defined(__aarch64__)

typedef unsigned long long gf_float_state;

static inline void gf_restore_float_state(gf_float_state state) { __asm__ volatile("msr fpcr, %0" : : "r"(state)); }

static inline gf_float_state gf_set_flush_to_zero(int is_on) {
  const gf_float_state flush = 1ull << 24;
  gf_float_state state;
  __asm__ volatile("mrs %0, fpcr" : "=r"(state));
  gf_restore_float_state(is_on ? state | flush : state & ~flush);
  return state;
}

#else

typedef int gf_float_state;

static inline gf_float_state gf_set_flush_to_zero(int is_on) { return (void)is_on, 0; }
static inline void gf_restore_float_state(gf_float_state state) { (void)state; }

#endif

#endif
