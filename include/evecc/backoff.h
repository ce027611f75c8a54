/* SPDX-License-Identifier: MIT
 * backoff.h - ever longer waits, spread so that installations do not act in step.
 *
 * Pure.  RANDOM is the caller's state, never 0; the sequence follows from its start. */
#ifndef EVECC_BACKOFF_H
#define EVECC_BACKOFF_H

#include "evecc/instant.h"

/* The next number: xorshift32 (Marsaglia, "Xorshift RNGs", 2003), no secret. */
static inline uint32_t backoff_random(uint32_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 17;
    *random ^= *random << 5;
    return *random;
}

/* The wait after FAILURES in a row: FIRST_MS, doubled each time, LAST_MS at most, of
 * which 75 to 125 %. */
static inline uint64_t backoff_ms(uint64_t first_ms, uint64_t last_ms, unsigned failures,
                                  uint32_t *random)
{
    uint64_t ms = first_ms;

    for (unsigned i = 1; i < failures && ms < last_ms; i++)
        ms *= 2;
    return earlier(ms, last_ms) * (75 + backoff_random(random) % 51) / 100;
}

#endif
