/* SPDX-License-Identifier: MIT
 * account.h - what every process that uses one Easee account must share: budgets and
 * restraint.
 *
 * It lives in the file `account` of the state directory, read whole when it is locked and
 * written when it is unlocked and has changed.  The daemon and the command line tool use
 * the same budgets through it, and it outlives both, so that neither a crash loop nor a
 * busy shell script can exceed them or log in again and again.  (It is not mapped into
 * memory: a bad block or a truncated file would end the daemon.)  What was unlocked
 * survives kill -9; after a power cut the file is judged by its checks.  A file that
 * cannot be believed counts as budgets used up for one window, their reserve included.
 *
 * Times in it are monotonic milliseconds of one boot; after a reboot they are shifted by
 * the wall clock.  When that is implausible the calls count as if the reboot had taken no
 * time, which never allows more than is right. */
#ifndef EVECC_ACCOUNT_H
#define EVECC_ACCOUNT_H

#include "evecc/budget.h"
#include "evecc/err.h"
#include "evecc/session.h"
#include "evecc/state.h"

#include <stddef.h>

struct account;

/* Reads all clocks: sys_clock(), or a test's own. */
typedef void account_clock(struct state_clock *ret);

/* Opens (creates: 0600) DIR/account.  When that is not possible, or it cannot be written,
 * *RET is still valid and ERR_SYSTEM with WHY says so: the caller warns and goes on
 * (reliability F-07, F-08).  A file that was opened is tried again at every unlock, one
 * that was not is replaced by private memory.  Returns owned, freed with account_free();
 * *RET is NULL only when there is no memory. */
enum err account_open(struct account **ret, const char *dir, account_clock *clock,
                      char *why, size_t why_size);
/* NULL is fine. */
void account_free(struct account *a);

/* Excludes other processes while the budgets are looked at and taken from; never held
 * across a wait or a call.  Returns the monotonic time, read under the lock, so that it
 * does not run back from one process to the next.  A process that was stopped while it
 * held the lock is waited for one second only. */
uint64_t account_lock(struct account *a);
void account_unlock(struct account *a);

/* The shared budgets; valid until account_free(), to be touched under the lock only. */
struct budgets *account_budgets(struct account *a);

/* What a session must remember across processes (attempts, back-off, block, refusal) is
 * copied from and to the account under its lock; tokens are not in it.  CREDENTIALS tells
 * whether a refusal was for these: see account_mark(). */
void account_restore_session(struct account *a, struct session *s, uint8_t credentials);
void account_keep_session(struct account *a, const struct session *s,
                          uint8_t credentials);

/* Eight bits of a checksum: enough to notice most changes, too little to tell anything of
 * the password. */
uint8_t account_mark(const char *username, const char *password);

#endif
