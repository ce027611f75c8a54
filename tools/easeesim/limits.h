/* SPDX-License-Identifier: MIT
 * limits.h - what the cloud bears: calls per sliding window, and the block of an address.
 *
 * Pure: time in simulated milliseconds is a parameter, never decreasing.  A refused call
 * does not count against its window, but too many refusals block the address; the block's
 * timer restarts at every further request (easee-api 8.3). */
#ifndef EASEESIM_LIMITS_H
#define EASEESIM_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

enum limit_class {
#define LIMIT(name, calls, window_s, what) LIMIT_##name,
#include "limits.def"
#undef LIMIT
    LIMIT_CLASSES
};

enum {
    LIMIT_CALLS_MAX = 500,
    LIMIT_WINDOWS = 64,
    LIMIT_CLIENTS = 32,
    LIMIT_KEY_SIZE = 64
};

struct limits {
    bool off;
    bool blocked; /* everybody, until further notice */
    unsigned block_after, block_status;
    uint64_t block_ms, excess_window_ms;
    struct limit_window {
        char key[LIMIT_KEY_SIZE]; /* empty: free */
        enum limit_class class;
        unsigned head, count; /* at[] is a ring */
        uint64_t used_ms;
        uint64_t at[LIMIT_CALLS_MAX];
    } window[LIMIT_WINDOWS];
    struct limit_client {
        char ip[LIMIT_KEY_SIZE];
        unsigned excess;
        uint64_t excess_since_ms, used_ms, blocked_until_ms;
    } client[LIMIT_CLIENTS];
};

void limits_init(struct limits *l);

const char *limits_name(enum limit_class class);

/* Counts a call of CLASS by KEY (an address, an account).  0: allowed; otherwise the
 * milliseconds until one would be. */
uint64_t limits_take(struct limits *l, enum limit_class class, const char *key,
                     uint64_t now_ms);

/* A call by IP was refused. */
void limits_excess(struct limits *l, const char *ip, uint64_t now_ms);

/* Is IP blocked?  If so this request restarts the timer. */
bool limits_blocked(struct limits *l, const char *ip, uint64_t now_ms);

/* Is anybody blocked?  Asking changes nothing. */
bool limits_any_blocked(const struct limits *l, uint64_t now_ms);

void limits_unblock(struct limits *l);

#endif
