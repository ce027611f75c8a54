/* SPDX-License-Identifier: MIT
 * circuit_parts.h - what deciding and showing share (internal to the circuit). */
#ifndef EVECC_CIRCUIT_PARTS_H
#define EVECC_CIRCUIT_PARTS_H

#include "evecc/circuit.h"

#define SECONDS 1000u
#define MINUTES (60u * SECONDS)

static inline uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

bool circuit_wish_pending(const struct circuit *c);
/* A fallback other than hold stands in the wish's place. */
bool circuit_wish_replaced(const struct circuit *c);
/* The target of the newest wish was confirmed, and is not just a step on the way to it.
 */
bool circuit_settled(const struct circuit *c);
/* Single phase by P2 = P3 = 0 works here: TN grid, and the charger is alone on its
 * circuit. */
bool circuit_may_switch(const struct circuit *c);
/* The currents that should leave next; whether they have to, and when they can. */
struct amps circuit_next_amps(const struct circuit *c);
bool circuit_must_send(const struct circuit *c, uint64_t now_ms);
uint64_t circuit_send_at(const struct circuit *c, const struct budgets *b,
                         uint64_t now_ms);

#endif
