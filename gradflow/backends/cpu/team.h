/* Splits a phase of a program across threads. */
#ifndef GF_TEAM_H
#define GF_TEAM_H

#include "native.h"

/* Claim the team of threads for the phases that follow; return 0 if another thread of the process has it. */
int gf_hold_team(void);

/* Set how many threads share the phases that follow, including the caller's.
   is_awake: between phases the others wait without sleeping, until the team is released. */
void gf_set_team(int threads, int is_awake);

/* Run a phase in parts, on the threads of the team and on this one. */
void gf_share(gf_phase *phase);

/* True if none of the threads is asleep. */
int gf_team_is_awake(int threads);

/* Release the team: its threads go to sleep, and another thread of the process may claim it. */
void gf_release_team(void);

#endif
