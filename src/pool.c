/* SPDX-License-Identifier: MIT */
#include "evecc/pool.h"

#include <string.h>

void pool_init(struct pool *p, uint32_t places, uint32_t per_address, uint64_t idle_ms)
{
    *p = (struct pool){.places = places, .per_address = per_address, .idle_ms = idle_ms};
    TAILQ_INIT(&p->idle);
    for (size_t i = 0; i < POOL_BUCKETS; i++)
        TAILQ_INIT(&p->bucket[i]);
}

/* FNV-1a, folded: spreads the hosts of one network, which differ in the last bytes. */
static size_t bucket_of(const uint8_t address[static 16])
{
    uint32_t hash = UINT32_C(2166136261);
    for (size_t i = 0; i < 16; i++)
        hash = (hash ^ address[i]) * UINT32_C(16777619);
    return (hash ^ hash >> 16) % POOL_BUCKETS;
}

static bool same_address(const struct pool_member *a, const struct pool_member *b)
{
    return memcmp(a->address, b->address, sizeof a->address) == 0;
}

/* How many places NEWCOMER's address has.  RET_OLDEST: the member of that address that
 * has been idle longest. */
static uint32_t count_address(const struct pool *p, const struct pool_member *newcomer,
                              struct pool_member **ret_oldest)
{
    struct pool_member *m;
    uint32_t count = 0;
    *ret_oldest = NULL;
    TAILQ_FOREACH(m, &p->bucket[bucket_of(newcomer->address)], by_address)
    {
        if (!same_address(m, newcomer))
            continue;
        count++;
        if (!*ret_oldest || m->active_ms < (*ret_oldest)->active_ms)
            *ret_oldest = m;
    }
    return count;
}

bool pool_admits(const struct pool *p, const struct pool_member *newcomer,
                 uint64_t now_ms, struct pool_member **ret_leaves)
{
    struct pool_member *leaves = NULL, *oldest;
    if (count_address(p, newcomer, &oldest) >= p->per_address)
        leaves = oldest;
    else if (p->taken[newcomer->marked] >= p->places)
        leaves = TAILQ_FIRST(&p->idle);
    else {
        *ret_leaves = NULL;
        return true;
    }
    /* Members of one address have the same mark. */
    if (!leaves || newcomer->marked || now_ms - leaves->active_ms < POOL_GUARD_MS)
        return false;
    *ret_leaves = leaves;
    return true;
}

void pool_enter(struct pool *p, struct pool_member *m, uint64_t now_ms)
{
    m->active_ms = now_ms;
    p->taken[m->marked]++;
    TAILQ_INSERT_TAIL(&p->bucket[bucket_of(m->address)], m, by_address);
    if (!m->marked)
        TAILQ_INSERT_TAIL(&p->idle, m, by_age);
}

void pool_leave(struct pool *p, struct pool_member *m)
{
    p->taken[m->marked]--;
    TAILQ_REMOVE(&p->bucket[bucket_of(m->address)], m, by_address);
    if (!m->marked)
        TAILQ_REMOVE(&p->idle, m, by_age);
}

void pool_touch(struct pool *p, struct pool_member *m, uint64_t now_ms)
{
    /* Most requests come in the same millisecond as another. */
    if (m->active_ms == now_ms)
        return;
    m->active_ms = now_ms;
    if (m->marked)
        return;
    TAILQ_REMOVE(&p->idle, m, by_age);
    TAILQ_INSERT_TAIL(&p->idle, m, by_age);
}

struct pool_member *pool_overdue(const struct pool *p, uint64_t now_ms)
{
    return pool_wake(p) <= now_ms ? TAILQ_FIRST(&p->idle) : NULL;
}

uint64_t pool_wake(const struct pool *p)
{
    const struct pool_member *first = TAILQ_FIRST(&p->idle);
    return p->idle_ms > 0 && first ? first->active_ms + p->idle_ms : UINT64_MAX;
}
