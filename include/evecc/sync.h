/* SPDX-License-Identifier: MIT
 * sync.h - the thread that talks to the cloud: circuits, budgets, session, HTTP client.
 *
 * It owns all of them.  The Modbus thread reaches it only through the exchange and the
 * four calls below.  It decides nothing itself: session and circuit say what is due, it
 * carries the requests out and the answers back. */
#ifndef EVECC_SYNC_H
#define EVECC_SYNC_H

#include "evecc/config.h"
#include "evecc/err.h"
#include "evecc/exchange.h"
#include "evecc/store.h"

struct sync;

/* Prepares for the circuits of CFG, which is copied, and restores what STORE holds of
 * them.  X and STORE (NULL: nothing outlives the process) are borrowed for the life of
 * the thread. ERR_CONFIG with WHY when the cloud's address cannot be used.  Returns
 * owned. */
enum err sync_new(struct sync **ret, const struct config *cfg, struct exchange *x,
                  struct store *store, char *why, size_t why_size);

/* The newest wish for CIRCUIT before the restart, NULL: none was saved.  To be asked
 * before sync_start(); points into S until then. */
const struct want *sync_restored(const struct sync *s, size_t circuit);

/* Starts the thread; ERR_SYSTEM with errno.  Descriptor sync_exit_fd() becomes readable
 * if it ends by itself. */
enum err sync_start(struct sync *s);
int sync_exit_fd(const struct sync *s);

/* New credentials after a reload; copied, the old ones wiped.  Any thread. */
void sync_set_credentials(struct sync *s, const char *username, const char *password);

/* Asks the thread to end and waits up to TIMEOUT_MS for it; false: it hangs (a dead name
 * server), the process should exit without freeing it. */
bool sync_stop(struct sync *s, uint32_t timeout_ms);

/* Frees a stopped or never started one.  NULL is fine. */
void sync_free(struct sync *s);

/* Monotonic time at which the thread last made progress; for the service watchdog. */
uint64_t sync_progress_ms(const struct sync *s);

#endif
