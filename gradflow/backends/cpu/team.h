/* Splits the range of a call across threads. */
#ifndef GF_TEAM_H
#define GF_TEAM_H

#include "native.h"

/* Claim the team of threads for the calls that follow; return 0 if another thread of the process has it.
   is_awake: between calls the others wait without sleeping, for as long as the team is held. */
int gf_hold_team(long long threads, int is_awake);

/* Run a call over its whole range in parts, on the threads of the team and on this one; return 0 if one of them was so
   late that this thread had better work alone until it releases the team. */
int gf_share(const gf_call *call);

/* Release the team: its threads go to sleep, and another thread of the process may claim it. */
void gf_release_team(void);

#endif
