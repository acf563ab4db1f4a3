/* How many threads a program runs on, found by measuring the program itself.

   The results do not depend on the number of threads, so it may change with every step. A program runs at one level
   (2^level threads) while now and then a few steps try the level above or below; the level that takes less time per
   step is used from then on. Nothing else is known of what the processors do otherwise: where another process keeps a
   thread of the team from its processor, all the others wait for it, and the mean time of a step tells.

   Trials may cost PRICE of the time. The level below is measured again once its last measurement has been paid
   for. More threads are tried on credit: it grows by what they gain over fewer and by PRICE of the time, to a limit,
   and shrinks by what they lose. So a rare delay costs nothing, while on a busy machine more threads can lose no more
   than the limit at first, and PRICE of the time later, though each single trial may look good. The credit belongs to
   the process, since other work delays all of its programs. */

#include "pace.h"

#include <math.h>
#include <stdatomic.h>

static const double PRICE = 0.005, NEEDED_GAIN = 0.95, MUCH_FASTER = 0.8;
static const double MOST_CREDIT = 0.02, MOST_LOSS = 0.005, LONG_STEP = 0.001, MOST_WAITING = 0.01; /* seconds */
enum { TRIAL_STEPS = 8, REST = 20, REMEMBERED_STEPS = 32 };

/* In nanoseconds. */
static atomic_llong credit = 20000000, run_time, held_back_time;

static void add_to(atomic_llong *sum, double seconds) { atomic_fetch_add(sum, (long long)(1e9 * seconds)); }

void gf_delays(double *run_seconds, double *held_back_seconds) {
  *run_seconds = 1e-9 * (double)atomic_load(&run_time);
  *held_back_seconds = 1e-9 * (double)atomic_load(&held_back_time);
}

/* Steps of a trial: several short ones, of which the first, which wakes threads, does not count. */
static int trial_steps(double seconds) { return seconds < LONG_STEP ? TRIAL_STEPS : 1; }

int gf_next_threads(gf_pace *pace, int most) {
  while (pace->level > 0 && 1 << (pace->level - 1) >= most) pace->tried = --pace->level;
  if (pace->seconds[pace->level] == 0) pace->tried = pace->level = atomic_load(&credit) < 0 ? 0 : pace->level;
  const int threads = 1 << pace->tried;
  return threads < most ? threads : most;
}

double gf_patience(const gf_pace *pace) {
  const double alone = pace->tried ? pace->seconds[pace->tried - 1] : 0;
  return alone ? 2 * alone : INFINITY;
}

/* Pay for a step: with what it lost or gained against fewer threads, and with PRICE of its time. */
static void pay(const gf_pace *pace, double seconds) {
  const double fewer = pace->tried ? pace->seconds[pace->tried - 1] : 0;
  const double change = PRICE * seconds + (fewer ? fewer - seconds : 0);
  const double missing = MOST_CREDIT - 1e-9 * (double)atomic_load(&credit);
  add_to(&credit, change < missing ? change : missing);
}

/* Return what a trial of the level above may lose, at most MOST_LOSS: it ends when it loses much. */
static double expected_loss(const gf_pace *pace) {
  const int above = pace->level + 1;
  const double used = pace->seconds[pace->level], more = above < GF_LEVELS ? pace->seconds[above] : 0;
  const double loss = more > used ? trial_steps(used) * (more - used) : 0;
  return loss < MOST_LOSS ? loss : MOST_LOSS;
}

static int is_affordable(double loss) { return 1e-9 * (double)atomic_load(&credit) >= loss; }

/* Note how long other work held this step back: all its time while more threads have been much faster than those that
   it runs on; otherwise what one thread took longer than at its best. */
static void note_delay(const gf_pace *pace, double seconds) {
  const int level = pace->level;
  const double used = pace->seconds[level], more = level + 1 < GF_LEVELS ? pace->best[level + 1] : 0;
  const double alone = pace->best[0];
  add_to(&run_time, seconds);
  if (more && more < MUCH_FASTER * used) add_to(&held_back_time, seconds);
  else if (pace->tried == 0 && alone && seconds > 2 * alone + LONG_STEP) add_to(&held_back_time, seconds - alone);
}

static void note_mean(gf_pace *pace, int level, double mean) {
  pace->seconds[level] = mean;
  if (!pace->best[level] || mean < pace->best[level]) pace->best[level] = mean;
}

static void end_trial(gf_pace *pace, double now) {
  const int tried = pace->tried, level = pace->level, counted = pace->steps > 1 ? pace->steps - 1 : 1;
  const double used = pace->seconds[level], lost = pace->of_trial - pace->steps * used;
  note_mean(pace, tried, pace->counted / counted);
  if (tried < level) pace->next_check = now + (lost > 0 ? lost / PRICE : 0);
  if (pace->seconds[tried] < (tried > level ? NEEDED_GAIN * used : used)) pace->level = tried;
  pace->tried = pace->level;
  pace->rest = REST * trial_steps(used);
}

static void begin_trial(gf_pace *pace, int level) {
  pace->tried = level;
  pace->steps = 0;
  pace->of_trial = pace->counted = 0;
}

/* Begin a trial, if it is time for one. */
static void consider_trial(gf_pace *pace, int most, double now) {
  const int level = pace->level;
  if (level > 0 && now >= pace->next_check) begin_trial(pace, level - 1);
  else if (level + 1 < GF_LEVELS && 1 << level < most && is_affordable(expected_loss(pace)))
    begin_trial(pace, level + 1);
}

void gf_learn(gf_pace *pace, int most, double now, double seconds, int is_complete) {
  /* The first step takes longer, and what the team gains is not seen before it is awake. That takes a scheduler
     milliseconds, or forever; until then a step takes little more than on one thread. */
  const int is_typical = pace->is_warm && (is_complete || pace->waited > MOST_WAITING);
  pace->is_warm = 1;
  pace->waited = is_complete ? 0 : pace->waited + seconds;
  if (!is_typical) return;
  note_delay(pace, seconds);
  pay(pace, seconds);
  if (pace->tried != pace->level) {
    const double used = pace->seconds[pace->level];
    const int steps = trial_steps(used);
    pace->of_trial += seconds;
    if (pace->steps++ || steps == 1) pace->counted += seconds;
    else if (pace->of_trial > 2 * steps * used) pace->counted = pace->of_trial;
    if (pace->steps == steps || pace->of_trial > 2 * steps * used) end_trial(pace, now);
    return;
  }
  const double used = pace->seconds[pace->level], fewer = pace->level ? pace->seconds[pace->level - 1] : 0;
  const int remembered = used < LONG_STEP ? REMEMBERED_STEPS : REMEMBERED_STEPS / TRIAL_STEPS;
  note_mean(pace, pace->level, used ? used + (seconds - used) / remembered : seconds);
  if (fewer && pace->seconds[pace->level] > fewer) {
    pace->tried = --pace->level;
    pace->rest = 0;
  } else if (pace->rest > 0) pace->rest--;
  else consider_trial(pace, most, now);
}
