/* SPDX-License-Identifier: MIT
 * circuit_parts.h - what deciding and showing share (internal to the circuit). */
#ifndef EVECC_CIRCUIT_PARTS_H
#define EVECC_CIRCUIT_PARTS_H

#include "evecc/circuit.h"

#define SECONDS 1000u
#define MINUTES (60u * SECONDS)

enum {
    VERDICT_MS = 20 * SECONDS,      /* accepted to confirmed (easee-api 7.2) */
    READBACK_FIRST_MS = 1 * SECONDS /* a charger answers within 0.5 to 1 s */
};

bool circuit_wish_pending(const struct circuit *c);
/* The newest wish ends, if it has not yet, and COUNT says how. */
void circuit_wish_end(struct circuit *c, uint64_t *count);
/* A fallback other than hold stands in the wish's place. */
bool circuit_wish_replaced(const struct circuit *c);
/* The target of the newest wish was confirmed, and is not just a step on the way to it.
 */
bool circuit_settled(const struct circuit *c);
/* Single phase by P2 = P3 = 0 works here: TN grid, and the charger is alone on its
 * circuit. */
bool circuit_may_switch(const struct circuit *c);
/* A setpoint is on its way to the charger, or not confirmed yet. */
bool circuit_changing(const struct circuit *c);
/* The currents that should leave next; whether they have to, and when they can. */
struct amps circuit_next_amps(const struct circuit *c);
bool circuit_must_send(const struct circuit *c, uint64_t now_ms);
uint64_t circuit_send_at(const struct circuit *c, const struct budgets *b,
                         uint64_t now_ms);

/* The currents that should leave next must arrive, however often they are refused: a
 * pause, a fallback, less than flows, or what has to be renewed. */
bool circuit_insists(const struct circuit *c);

/* circuit_answer.c: what became of a setpoint */

/* Time has passed, or the charger has reported: confirmed, not confirmed, or overridden.
 */
void circuit_answer_check(struct circuit *c, uint64_t now_ms);
/* The target is known to be refused: so is the wish, without asking, for a while. */
void circuit_answer_known(struct circuit *c, uint64_t now_ms);
/* Foreign control is over when our value has held since the last interference. */
void circuit_answer_recover(struct circuit *c, uint64_t now_ms);
/* When something about it changes by itself; NEVER. */
uint64_t circuit_answer_wake(const struct circuit *c);

/* circuit_renew.c: the time-to-live of a setpoint in the cloud */

/* NEXT leaves, and is given a time-to-live if it may have one; c->sent is the one before.
 */
void circuit_renew_begin(struct circuit *c, struct amps next, uint64_t now_ms);
/* What is sent instead of A: one amp less on every phase in use as long as the charger
 * has to notice. */
struct amps circuit_nudged(const struct circuit *c, struct amps a);
/* When the setpoint in force has to be renewed; NEVER. */
uint64_t circuit_renew_at(const struct circuit *c);
/* When something about it changes by itself; NEVER. */
uint64_t circuit_renew_wake(const struct circuit *c);
/* Time has passed. */
void circuit_renew_check(struct circuit *c, uint64_t now_ms);
/* The call that renews leaves, and was accepted by the cloud. */
void circuit_renew_start(struct circuit *c, uint64_t now_ms);
void circuit_renew_done(struct circuit *c);
/* It reached the charger, or it did not. */
void circuit_renew_ended(struct circuit *c, bool heard);

#endif
