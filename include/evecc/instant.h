/* SPDX-License-Identifier: MIT
 * instant.h - points in time, as all of the core counts them: milliseconds of the
 * monotonic clock, named *_at_ms, *_until_ms or due_ms; now_ms is handed in. */
#ifndef EVECC_INSTANT_H
#define EVECC_INSTANT_H

#include <stdint.h>

/* It never comes, or has not been yet. */
#define NEVER UINT64_MAX

static inline uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
