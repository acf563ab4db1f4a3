/* A few threads that share the range of a call with the one that makes it.

   The parts of a range are given out by a ticket: one atomic number that holds which call it is, how many parts it has
   and which comes next. Who draws a number below that of the parts does that part; a thread that comes late draws none
   and leaves the call alone, so nobody waits for a thread that has not begun. Which thread does a part changes nothing
   about its result. Team and caller never hold a lock while they compute.

   The process's BLAS has threads of its own that want the same processors. So the team stays awake between two calls
   only where the program has no call of the BLAS in it, and never longer than the program runs; otherwise it sleeps
   until it is called.

   A thread that others keep from its processor in the middle of a part keeps all waiting, for longer than they have
   worked. Now and then that happens anywhere; where it happens often, the processors have too much to do, and programs
   run on one thread for a while: the longer, the more often it had to be tried. */

#include "team.h"

#ifdef _WIN32

int gf_hold_team(long long threads, int is_awake) { return (void)threads, (void)is_awake, 0; }
int gf_share(const gf_call *call) { return (void)call, 0; }
void gf_release_team(void) {}

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#define GF_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define GF_PAUSE() __asm__ volatile("yield")
#else
#define GF_PAUSE() (void)0
#endif

enum { MOST_THREADS = 16, PAUSES_BEFORE_YIELDING = 1000, LATE_CALL = 8, MOST_LATENESS = 128, LONGEST_REST = 63,
       FINE = 8, STACK_BYTES = 1 << 18 /* more than any kernel takes; musl's threads have half of it */ };

typedef unsigned long long ticket_number; /* which call, parts, next part: 32, 16 and 16 bits */
#define GF_TICKET_CALL(ticket) ((ticket) >> 32)
#define GF_TICKET_PARTS(ticket) ((ticket) >> 16 & 0xffff)
#define GF_TICKET_NEXT(ticket) ((ticket) & 0xffff)

static struct {
  atomic_flag is_held;
  int members;          /* threads that were started */
  atomic_int threads;   /* that are wanted, the caller's among them: maybe fewer */
  int lateness;         /* grows with a late call, and shrinks with each other */
  int rest, rested;     /* how many programs that would keep the team awake go without it, and have gone */

  /* The call, written by its caller while no part of it is left to do. */
  const gf_call *call;
  long long part;

  atomic_int is_awake, sleepers;
  pthread_mutex_t lock;
  pthread_cond_t called;

  /* Cache lines of their own: all threads write to these. */
  _Alignas(64) atomic_ullong ticket;
  _Alignas(64) atomic_llong done;
} team = {.is_held = ATOMIC_FLAG_INIT, .lock = PTHREAD_MUTEX_INITIALIZER, .called = PTHREAD_COND_INITIALIZER};

/* Do parts of the call as long as there are any; the number of the call. */
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
  else sched_yield();
}

static void wait_for_a_call_after(ticket_number seen, int place) {
  for (int pauses = 0; atomic_load(&team.is_awake) && is_wanted(place); pauses++) {
    if (is_new(seen)) return;
    pause_or_yield(pauses);
  }
  pthread_mutex_lock(&team.lock);
  atomic_fetch_add(&team.sleepers, 1);
  while (!is_new(seen) || !is_wanted(place)) pthread_cond_wait(&team.called, &team.lock);
  atomic_fetch_sub(&team.sleepers, 1);
  pthread_mutex_unlock(&team.lock);
}

static void *member(void *place) {
  for (ticket_number seen = 0;; seen = work()) wait_for_a_call_after(seen, (int)(intptr_t)place);
  return 0;
}

/* A forked child has none of its parent's threads. */
static void forget_members(void) {
  team.members = 0;
  atomic_store(&team.sleepers, 0);
  pthread_mutex_init(&team.lock, 0);
  pthread_cond_init(&team.called, 0);
  atomic_flag_clear(&team.is_held);
}

static void start_members(int wanted) {
  static int is_prepared;
  if (!is_prepared) is_prepared = pthread_atfork(0, 0, forget_members) == 0;
  sigset_t all, former;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &former); /* signals are for the threads of the program */
  pthread_attr_t attributes;
  is_prepared = is_prepared && pthread_attr_init(&attributes) == 0;
  if (is_prepared) pthread_attr_setstacksize(&attributes, STACK_BYTES);
  for (pthread_t thread; is_prepared && team.members < wanted; team.members++) {
    if (pthread_create(&thread, &attributes, member, (void *)(intptr_t)(team.members + 1))) break;
    pthread_detach(thread);
  }
  if (is_prepared) pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &former, 0);
}

int gf_hold_team(long long threads, int is_awake) {
  if (threads < 2 || atomic_flag_test_and_set(&team.is_held)) return 0;
  if (is_awake && team.rested < team.rest) {
    team.rested++;
    atomic_flag_clear(&team.is_held);
    return 0;
  }
  const int wanted = threads < MOST_THREADS ? (int)threads : MOST_THREADS;
  atomic_store(&team.threads, wanted);
  if (team.members < wanted - 1) start_members(wanted - 1);
  atomic_store(&team.is_awake, is_awake);
  return 1;
}

/* n / d, rounded up */
static long long divided(long long n, long long d) { return (n + d - 1) / d; }

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int gf_share(const gf_call *call) {
  /* FINE parts for each thread, so that who is late leaves more to the others; but where all are awake and parts would
     be so short that handing them over counts, one. */
  const long long useful = divided(call->items, call->part), threads = atomic_load(&team.threads);
  const long long least = atomic_load(&team.is_awake) ? FINE : 1;
  const long long fine = useful / least < FINE * threads ? useful / least : FINE * threads;
  const long long coarse = useful < threads ? useful : threads;
  team.call = call;
  team.part = call->grain * divided(divided(call->items, fine > coarse ? fine : coarse), call->grain);
  const ticket_number parts = (ticket_number)divided(call->items, team.part);
  atomic_store(&team.done, 0);
  const ticket_number number = (GF_TICKET_CALL(atomic_load(&team.ticket)) + 1) & 0xffffffff;
  atomic_store(&team.ticket, number << 32 | parts << 16);
  if (atomic_load(&team.sleepers)) {
    pthread_mutex_lock(&team.lock);
    pthread_cond_broadcast(&team.called);
    pthread_mutex_unlock(&team.lock);
  }
  const double start = seconds();
  work();
  const double own = seconds() - start;
  int pauses = 0;
  for (; atomic_load(&team.done) < (long long)parts; pauses++) pause_or_yield(pauses);
  if (!atomic_load(&team.is_awake)) return 1;
  if (pauses > PAUSES_BEFORE_YIELDING && seconds() - start > 2 * own) team.lateness += LATE_CALL;
  else if (team.lateness) team.lateness--;
  if (team.lateness < MOST_LATENESS) return 1;
  team.lateness = 0;
  atomic_store(&team.is_awake, 0);
  team.rest = team.rest < LONGEST_REST ? 2 * team.rest + 1 : LONGEST_REST;
  team.rested = 0;
  return 0;
}

void gf_release_team(void) {
  if (atomic_exchange(&team.is_awake, 0)) team.rest /= 2;
  atomic_flag_clear(&team.is_held);
}

#endif
