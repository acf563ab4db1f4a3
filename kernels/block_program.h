#include "gradflow.h"
/* Programs that one thread block each runs by itself: a member of a pack trains for a whole epoch in one launch.

   A program is a sequence of calls: the number of a kernel, and its arguments. A piece is a program and how many times it
   runs; block b runs the pieces first[b] to first[b + 1] - 1, one after the other. All threads run each kernel, and wait
   for each other before the next one. */

typedef struct {
  const gf_argument *begin, *end;
  gf_index times;
} gf_piece;

/* Run a call, and return the next one. */
static __device__ const gf_argument *gf_run_call(const gf_argument *call) {
  switch (call->integer) {
    GF_CASES
    default: __trap(); return call;
  }
}

extern "C" __global__ void __launch_bounds__(1024) run_programs(const gf_piece *pieces, const gf_index *first) {
  for (gf_index piece = first[blockIdx.x]; piece < first[blockIdx.x + 1]; piece++)
    for (gf_index time = 0; time < pieces[piece].times; time++)
      for (const gf_argument *call = pieces[piece].begin; call < pieces[piece].end;) {
        call = gf_run_call(call);
        __syncthreads();
      }
}
