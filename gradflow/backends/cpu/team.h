/* Sharing out a call's range to threads. */
#ifndef GF_TEAM_H
#define GF_TEAM_H

#include "native.h"

/* Claim the team of threads for the calls that follow; 0 where another thread of the process has it, or there are no
   threads here. is_awake: between calls the others wait without sleeping, for as long as the team is held. */
int gf_hold_team(long long threads, int is_awake);

/* Run a call over its whole range in parts, on the threads of the team and on this one; 0 if one of them was so late
   that this thread had better be alone until it releases the team. */
int gf_share(const gf_call *call);

/* The others go to sleep; somebody else may have the team. */
void gf_release_team(void);

#endif
