/* A few threads that share the range of a call with the thread that makes it.

   The parts of a range are handed out by a ticket: one atomic number that holds the number of the call, how many parts
   it has, and which part comes next. A thread that draws a number below the number of parts does that part; a thread
   that comes late draws none and leaves the call alone, so nobody waits for a thread that has not begun. Which thread
   does a part does not change its result. Neither the team nor the caller holds a lock while it computes.

   Between two calls the team waits without sleeping only while a program runs, and only if no other threads need the
   processors: a BLAS may have its own. Otherwise it sleeps until it is called. */

#include "team.h"

#include <stdatomic.h>
#include <stdint.h>

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

typedef unsigned long long ticket_number; /* number of the call, parts, next part: 32, 16 and 16 bits */
#define GF_TICKET_CALL(ticket) ((ticket) >> 32)
#define GF_TICKET_PARTS(ticket) ((ticket) >> 16 & 0xffff)
#define GF_TICKET_NEXT(ticket) ((ticket) & 0xffff)

static struct {
  atomic_flag is_held;
  int members;        /* threads that were started */
  atomic_int threads; /* threads wanted, including the caller's; may be fewer than exist */
  atomic_int is_awake;

  /* The call, written by its caller while no part is left to do. */
  const gf_call *call;
  long long part;

  gf_mutex lock;
  struct {
    gf_condition called;
    atomic_int is_asleep;
  } member[MOST_THREADS]; /* by place; the first is the caller's */

  /* On their own cache lines, since all threads write to these. */
  _Alignas(64) atomic_ullong ticket;
  _Alignas(64) atomic_llong done;
} team = {.is_held = ATOMIC_FLAG_INIT, .lock = GF_MUTEX_INITIALIZER};

/* Do parts of the call until none are left; return the number of the call. */
static ticket_number work(void) {
  for (;;) {
    const ticket_number ticket = atomic_fetch_add(&team.ticket, 1);
    const long long part = (long long)GF_TICKET_NEXT(ticket);
    if (part >= (long long)GF_TICKET_PARTS(ticket)) return GF_TICKET_CALL(ticket);
    const gf_call *call = team.call;
    const long long first = part * team.part, end = first + team.part;
    call->function(call->values, first, end < call->items ? end : call->items);
    atomic_fetch_add(&team.done, 1);
  }
}

static int is_new(ticket_number seen) { return GF_TICKET_CALL(atomic_load(&team.ticket)) != seen; }
static int is_wanted(int place) { return place < atomic_load(&team.threads); }

static void pause_or_yield(int pauses) {
  if (pauses < PAUSES_BEFORE_YIELDING) GF_PAUSE();
  else gf_yield();
}

static void wait_for_a_call_after(ticket_number seen, int place) {
  for (int pauses = 0; atomic_load(&team.is_awake) && is_wanted(place); pauses++) {
    if (is_new(seen)) return;
    pause_or_yield(pauses);
  }
  gf_lock(&team.lock);
  atomic_store(&team.member[place].is_asleep, 1);
  while (!is_new(seen) || !is_wanted(place)) gf_wait(&team.member[place].called, &team.lock);
  atomic_store(&team.member[place].is_asleep, 0);
  gf_unlock(&team.lock);
}

GF_THREAD_FUNCTION(member, place) {
  gf_flush_to_zero(); /* POSIX threads inherit it from the thread that starts them, those of Windows do not */
  for (ticket_number seen = 0;; seen = work()) wait_for_a_call_after(seen, (int)(intptr_t)place);
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

void gf_share(const gf_call *call) {
  /* FINE parts for each thread, so that a late thread leaves more to the others; but one part for each if all are
     awake and parts would be so short that handing them over counts. */
  const int threads = atomic_load(&team.threads);
  const long long useful = divided(call->items, call->part), least = atomic_load(&team.is_awake) ? FINE : 1;
  const long long fine = useful / least < FINE * threads ? useful / least : FINE * threads;
  const long long coarse = useful < threads ? useful : threads;
  team.call = call;
  team.part = call->grain * divided(divided(call->items, fine > coarse ? fine : coarse), call->grain);
  const ticket_number parts = (ticket_number)divided(call->items, team.part);
  atomic_store(&team.done, 0);
  const ticket_number number = (GF_TICKET_CALL(atomic_load(&team.ticket)) + 1) & 0xffffffff;
  atomic_store(&team.ticket, number << 32 | parts << 16);
  wake_members(threads);
  work();
  for (int pauses = 0; atomic_load(&team.done) < (long long)parts; pauses++) pause_or_yield(pauses);
}

void gf_release_team(void) {
  atomic_store(&team.is_awake, 0);
  atomic_flag_clear(&team.is_held);
}
