/* SPDX-License-Identifier: MIT
 * exchange.h - the only thing between the two threads: one slot per circuit and
 * direction.
 *
 * A slot holds the newest value; nothing is queued.  Values are copied in and out under
 * one short lock that is never held across a wait.  Writing a want wakes the sync thread
 * through the function given at creation; statuses wake nobody, they are read when a
 * client asks. */
#ifndef EVECC_EXCHANGE_H
#define EVECC_EXCHANGE_H

#include "evecc/charger.h"

#include <stddef.h>

struct exchange;

/* Slots for CIRCUITS circuits.  Returns owned, freed with exchange_free(); NULL: no
 * memory. */
struct exchange *exchange_new(size_t circuits);
void exchange_free(struct exchange *x);

/* Whom exchange_put_want() wakes; called with ARG by the thread that put. */
void exchange_on_want(struct exchange *x, void (*wake)(void *arg), void *arg);

/* Modbus thread: the newest wish of circuit I. */
void exchange_put_want(struct exchange *x, size_t i, const struct want *w);
/* Sync thread: true and a copy when it is newer than *SEEN, which is then updated (start:
 * 0). */
bool exchange_take_want(struct exchange *x, size_t i, uint64_t *seen, struct want *ret);

/* Sync thread: the newest facts of circuit I. */
void exchange_put_status(struct exchange *x, size_t i, const struct status *s);
/* Modbus thread: as exchange_take_want().  Costs no lock when there is nothing newer. */
bool exchange_take_status(struct exchange *x, size_t i, uint64_t *seen,
                          struct status *ret);

/* The same for the counters of the gateway as a whole. */
void exchange_put_counts(struct exchange *x, const struct cloud_counts *c);
bool exchange_take_counts(struct exchange *x, uint64_t *seen, struct cloud_counts *ret);

#endif
