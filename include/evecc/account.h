/* SPDX-License-Identifier: MIT
 * account.h - what every process that uses one Easee account must share: budgets and
 * restraint.
 *
 * The file `account` in the state directory is mapped into memory; the daemon and the
 * command line tool use the same budgets through it, and it outlives both, so that
 * neither a crash loop nor a busy shell script can exceed them or log in again and again.
 * Its pages survive kill -9; after a power cut it is judged by its checks, and what
 * cannot be believed counts as used up.
 *
 * Times in it are monotonic milliseconds of one boot; after a reboot they are shifted by
 * the wall clock, and when that is implausible every budget starts as used up for one
 * window. */
#ifndef EVECC_ACCOUNT_H
#define EVECC_ACCOUNT_H

#include "evecc/budget.h"
#include "evecc/err.h"
#include "evecc/session.h"

#include <stddef.h>

struct account;

/* Opens (creates: 0600) DIR/account.  With an unusable or unwritable directory the
 * account lives in private memory, *RET is still valid and ERR_SYSTEM with WHY says so:
 * the caller warns and goes on (reliability F-07, F-08).  Returns owned, freed with
 * account_free(). */
enum err account_open(struct account **ret, const char *dir, uint64_t now_ms, char *why,
                      size_t why_size);
void account_free(struct account *a);

/* Excludes other processes while the budgets are looked at and taken from; never held
 * across a wait or a call. */
void account_lock(struct account *a);
void account_unlock(struct account *a);

/* The shared budgets; valid until account_free(), to be touched under the lock only. */
struct budgets *account_budgets(struct account *a);

/* What a session must remember across processes (attempts, back-off, block, refusal) is
 * copied from and to the account under its lock; tokens are not in it. */
void account_restore_session(struct account *a, struct session *s);
void account_keep_session(struct account *a, const struct session *s);

#endif
