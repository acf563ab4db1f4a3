/* How many threads a program runs on, found by measuring the program itself. */
#ifndef GF_PACE_H
#define GF_PACE_H

#include <stdatomic.h>

#include "native.h"

enum { GF_LEVELS = 5 }; /* 1, 2, 4, 8 and 16 threads */

/* What is known of a program. At first `level` and `tried` are set, and all other bytes are zero. */
typedef struct {
  atomic_flag is_used;       /* true while a thread runs the program */
  int is_warm;               /* true after the first step, which takes longer */
  int level;                 /* it runs on 2^level threads */
  int tried;                 /* the same, or during a trial the level that is tried */
  int steps;                 /* of the trial, so far */
  int rest;                  /* steps until the next trial */
  double seconds[GF_LEVELS]; /* recent mean time of a step at each level; 0: not measured */
  double best[GF_LEVELS];    /* the least of these means so far */
  double of_trial;           /* seconds of the trial, so far */
  double counted;            /* those of them that are counted */
  double waited;             /* seconds of the steps in a row during which threads of the team were still waking */
  double next_check;         /* when fewer threads are measured again, in seconds of gf_seconds */
} gf_pace;

/* Return the number of threads for the next step, at most `most`. */
GF_EXPORT int gf_next_threads(gf_pace *pace, int most);

/* Return how many seconds the next step may take; after that it had better be finished on one thread. */
GF_EXPORT double gf_patience(const gf_pace *pace);

/* Learn from a step that has ended now and took some seconds.
   is_complete: false if threads of the team were still waking. */
GF_EXPORT void gf_learn(gf_pace *pace, int most, double now, double seconds, int is_complete);

/* Return how long programs have run that could use several threads, in all, and how long other work held them back. */
GF_EXPORT void gf_delays(double *run_seconds, double *held_back_seconds);

#endif
