/* SPDX-License-Identifier: MIT
 * pool.h - who has a place at a listener, and who goes when all are taken.
 *
 * Pure: no I/O, no clock, no allocation; members are the caller's.  MODBUS Messaging on
 * TCP/IP Implementation Guide V1.0b, 4.2.1.1; reliability C-40 to C-42, C-47.
 *
 * Two pools of equal size: members with a mark, and the rest.
 *   - A member with a mark is never told to leave, and no number of others takes its
 *     place.
 *   - One address has PER_ADDRESS places.
 *   - When there is no place, the member without a mark that has been idle longest goes,
 *     of the newcomer's address if that is what has too many; never one that was active
 *     in the last POOL_GUARD_MS.  Then the newcomer is refused.
 *   - A member without a mark goes when it has been idle for IDLE_MS. */
#ifndef EVECC_POOL_H
#define EVECC_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

enum { POOL_GUARD_MS = 10000, POOL_BUCKETS = 256 };

TAILQ_HEAD(pool_list, pool_member);

struct pool_member {
    uint8_t address[16]; /* as acl_address() has it */
    bool marked;
    uint64_t active_ms; /* last sign of life */
    TAILQ_ENTRY(pool_member) by_age, by_address;
};

struct pool {
    uint32_t places, per_address;
    uint32_t taken[2];                     /* [marked] */
    uint64_t idle_ms;                      /* 0: no limit */
    struct pool_list idle;                 /* without a mark, longest idle first */
    struct pool_list bucket[POOL_BUCKETS]; /* all, by a hash of the address */
};

void pool_init(struct pool *p, uint32_t places, uint32_t per_address, uint64_t idle_ms);

/* Whether NEWCOMER (address and mark set, not in the pool) may enter at NOW_MS.
 * RET_LEAVES, only if so: the member that has to leave before, or NULL. */
bool pool_admits(const struct pool *p, const struct pool_member *newcomer,
                 uint64_t now_ms, struct pool_member **ret_leaves);

void pool_enter(struct pool *p, struct pool_member *m, uint64_t now_ms);
void pool_leave(struct pool *p, struct pool_member *m);

/* M has shown that it lives. */
void pool_touch(struct pool *p, struct pool_member *m, uint64_t now_ms);

/* Who has been idle for too long at NOW_MS, and when the next one will have been: NULL,
 * UINT64_MAX when there is none. */
struct pool_member *pool_overdue(const struct pool *p, uint64_t now_ms);
uint64_t pool_wake(const struct pool *p);

#endif
