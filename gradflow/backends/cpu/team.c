/* A few threads that share a phase of a program with the thread that runs it.

   The parts of a phase are handed out by a ticket: one atomic number that holds the number of the phase, how many parts
   it has, and which part comes next. A thread that draws a number below the number of parts does that part; a thread
   that comes late draws none and leaves the call alone, so nobody waits for a thread that has not begun. Which thread
   does a part does not change its result. Neither the team nor the caller holds a lock while it computes.

   Between two calls the team waits without sleeping only while a program runs, and only if no other threads need the
   processors: a BLAS may have its own. Otherwise it sleeps until it is called. */

#include "team.h"

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "float_state.h"
#include "os_threads.h"

#if defined(__x86_64__)
#define GF_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define GF_PAUSE() __asm__ volatile("yield")
#else
#define GF_PAUSE() (void)0
#endif

enum { MOST_THREADS = 16, PAUSES_BEFORE_YIELDING = 1000, FINE = 8 };

static const double LINGERING = 0.001; /* seconds */

typedef unsigned long long ticket_number; /* number of the phase, parts, next part: 32, 16 and 16 bits */
#define GF_TICKET_PHASE(ticket) ((ticket) >> 32)
#define GF_TICKET_PARTS(ticket) ((ticket) >> 16 & 0xffff)
#define GF_TICKET_NEXT(ticket) ((ticket) & 0xffff)

static struct {
  atomic_flag is_held;
  int members;        /* threads that were started */
  atomic_int threads; /* threads wanted, including the caller's; may be fewer than exist */
  atomic_int is_awake, lingers; /* the latter until the next program that must not keep processors busy */

  /* The phase, written by its caller while no part is left to do; and the rows of a part, if it is split by rows. */
  const gf_phase *phase;
  long long rows;

  gf_mutex lock;
  struct {
    gf_condition called;
    atomic_int is_asleep;
  } member[MOST_THREADS]; /* by place; the first is the caller's */

  /* On their own cache lines, since all threads write to these. */
  _Alignas(64) atomic_ullong ticket;
  _Alignas(64) atomic_llong done;
} team = {.is_held = ATOMIC_FLAG_INIT, .lock = GF_MUTEX_INITIALIZER};

static long long least(long long x, long long y) { return x < y ? x : y; }

/* Compute rows of the result of a call. */
static void run_rows(const gf_call *call, long long rows, long long begin, long long end) {
  if (call->per_item) {
    const long long last = end == rows ? call->items : end * call->per_row / call->per_item;
    call->function(call->values, begin * call->per_row / call->per_item, last);
    return;
  }
  gf_value values[GF_GEMM_VALUES];
  memcpy(values, call->values, sizeof values);
  const long long columns = values[GF_GEMM_COLUMNS].integer, depth = values[GF_GEMM_DEPTH].integer;
  values[GF_GEMM_A].pointer = (char *)values[GF_GEMM_A].pointer + begin * depth * call->per_row;
  values[GF_GEMM_OUT].pointer = (char *)values[GF_GEMM_OUT].pointer + begin * columns * call->per_row;
  values[GF_GEMM_ROWS].integer = end - begin;
  call->function(values, 0, call->items_of(values));
}

static void run_part(const gf_phase *phase, long long part) {
  if (phase->rows) {
    const long long begin = part * team.rows, end = least(begin + team.rows, phase->rows);
    for (long long i = 0; i < phase->count; i++) run_rows(&phase->calls[i], phase->rows, begin, end);
  } else {
    const gf_call *call = phase->calls + phase->count - 1;
    while (part < call->first) call--;
    const long long begin = (part - call->first) * call->size;
    call->function(call->values, begin, least(begin + call->size, call->items));
  }
}

/* Do parts of the phase until none are left; return its number. */
static ticket_number work(void) {
  for (;;) {
    const ticket_number ticket = atomic_fetch_add(&team.ticket, 1);
    const long long part = (long long)GF_TICKET_NEXT(ticket);
    if (part >= (long long)GF_TICKET_PARTS(ticket)) return GF_TICKET_PHASE(ticket);
    run_part(team.phase, part);
    atomic_fetch_add(&team.done, 1);
  }
}

static int is_new(ticket_number seen) { return GF_TICKET_PHASE(atomic_load(&team.ticket)) != seen; }
static int is_wanted(int place) { return place < atomic_load(&team.threads); }

static void pause_or_yield(int pauses) {
  if (pauses < PAUSES_BEFORE_YIELDING) GF_PAUSE();
  else gf_yield();
}

/* Wait without sleeping while the team is awake, and a little longer: the next program may follow at once, and waking
   up can take a millisecond. */
static void wait_for_a_phase_after(ticket_number seen, int place) {
  double end = 0;
  for (int pauses = 0; is_wanted(place) && (atomic_load(&team.is_awake) || atomic_load(&team.lingers)); pauses++) {
    if (is_new(seen)) return;
    if (atomic_load(&team.is_awake)) end = 0;
    else if (end == 0) end = gf_seconds() + LINGERING;
    else if (gf_seconds() > end) break;
    pause_or_yield(pauses);
  }
  gf_lock(&team.lock);
  atomic_store(&team.member[place].is_asleep, 1);
  while (!is_new(seen) || !is_wanted(place)) gf_wait(&team.member[place].called, &team.lock);
  atomic_store(&team.member[place].is_asleep, 0);
  gf_unlock(&team.lock);
}

GF_THREAD_FUNCTION(member, place) {
  atomic_store(&team.member[(intptr_t)place].is_asleep, 0);
  gf_set_flush_to_zero(1); /* POSIX threads inherit it from the thread that starts them, those of Windows do not */
  for (ticket_number seen = 0;; seen = work()) wait_for_a_phase_after(seen, (int)(intptr_t)place);
  return 0;
}

/* A forked child has none of its parent's threads. */
static void forget_members(void) {
  team.members = 0;
  atomic_store(&team.threads, 1);
  team.lock = (gf_mutex)GF_MUTEX_INITIALIZER;
  for (int place = 0; place < MOST_THREADS; place++) atomic_store(&team.member[place].is_asleep, 0);
  atomic_flag_clear(&team.is_held);
}

static void start_members(int wanted) {
  static int is_prepared;
  if (!is_prepared) is_prepared = gf_call_in_forked_children(forget_members);
  for (; is_prepared && team.members < wanted; team.members++) {
    const int place = team.members + 1;
    team.member[place].called = (gf_condition)GF_CONDITION_INITIALIZER;
    atomic_store(&team.member[place].is_asleep, 1); /* until it has begun */
    if (!gf_start_thread(member, (void *)(intptr_t)place)) break;
  }
}

int gf_hold_team(void) { return !atomic_flag_test_and_set(&team.is_held); }

void gf_set_team(int threads, int is_awake) {
  const int wanted = threads < MOST_THREADS ? threads : MOST_THREADS;
  if (wanted == atomic_load(&team.threads) && is_awake == atomic_load(&team.is_awake)) return;
  atomic_store(&team.threads, wanted);
  if (team.members < wanted - 1) start_members(wanted - 1);
  atomic_store(&team.is_awake, is_awake);
  atomic_store(&team.lingers, is_awake);
}

int gf_team_is_awake(int threads) {
  for (int place = 1; place < threads; place++)
    if (atomic_load(&team.member[place].is_asleep)) return 0;
  return 1;
}

static void wake_members(int threads) {
  for (int place = 1; place < threads; place++)
    if (atomic_load(&team.member[place].is_asleep)) {
      gf_lock(&team.lock);
      gf_wake_all(&team.member[place].called);
      gf_unlock(&team.lock);
    }
}

/* n / d, rounded up */
static long long divided(long long n, long long d) { return (n + d - 1) / d; }

/* Return the size of the parts of a range: FINE parts for each thread, so that a late thread leaves more to the others;
   but one part for each if all are awake and parts would be so short that handing them over counts. */
static long long part_size(long long items, long long grain, long long smallest, int threads) {
  const long long useful = divided(items, smallest), share = atomic_load(&team.is_awake) ? FINE : 1;
  const long long fine = least(useful / share, FINE * threads), coarse = least(useful, threads);
  return grain * divided(divided(items, fine > coarse ? fine : coarse), grain);
}

void gf_share(gf_phase *phase) {
  const int threads = atomic_load(&team.threads);
  long long parts = 0;
  if (phase->rows) {
    team.rows = part_size(phase->rows, GF_ROW_GRAIN, phase->part, threads);
    parts = divided(phase->rows, team.rows);
  } else
    for (gf_call *call = phase->calls; call < phase->calls + phase->count; call++) {
      call->size = part_size(call->items, call->grain, call->part, threads);
      call->first = parts;
      parts += divided(call->items, call->size);
    }
  team.phase = phase;
  atomic_store(&team.done, 0);
  const ticket_number number = (GF_TICKET_PHASE(atomic_load(&team.ticket)) + 1) & 0xffffffff;
  atomic_store(&team.ticket, number << 32 | (ticket_number)parts << 16);
  wake_members(threads);
  work();
  for (int pauses = 0; atomic_load(&team.done) < parts; pauses++) pause_or_yield(pauses);
}

void gf_release_team(void) {
  atomic_store(&team.is_awake, 0);
  atomic_flag_clear(&team.is_held);
}
