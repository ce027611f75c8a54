/* SPDX-License-Identifier: MIT */
#include "limits.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    unsigned calls;
    uint64_t window_ms;
} table[LIMIT_CLASSES] = {
#define LIMIT(name, calls, window_s, what) {#name, calls, (window_s)*UINT64_C(1000)},
#include "limits.def"
#undef LIMIT
};

#define LIMIT(name, calls, window_s, what) \
    _Static_assert((calls) <= LIMIT_CALLS_MAX, #name ": too many calls to remember");
#include "limits.def"
#undef LIMIT

void limits_init(struct limits *l)
{
    memset(l, 0, sizeof *l);
    l->block_after = 50;
    l->block_status = 403;
    l->block_ms = UINT64_C(86400000);
    l->excess_window_ms = UINT64_C(3600000);
}

const char *limits_name(enum limit_class class)
{
    return table[class].name;
}

/* The window of CLASS and KEY; the one unused for longest makes room for a new one. */
static struct limit_window *window_of(struct limits *l, enum limit_class class,
                                      const char *key, uint64_t now_ms)
{
    struct limit_window *oldest = &l->window[0];

    for (unsigned i = 0; i < LIMIT_WINDOWS; i++) {
        struct limit_window *w = &l->window[i];

        if (w->key[0] && w->class == class && strcmp(w->key, key) == 0)
            return w;
        if (!w->key[0] ? oldest->key[0] : w->used_ms < oldest->used_ms && oldest->key[0])
            oldest = w;
    }
    oldest->class = class;
    oldest->head = oldest->count = 0;
    oldest->used_ms = now_ms;
    snprintf(oldest->key, sizeof oldest->key, "%s", key);
    return oldest;
}

uint64_t limits_take(struct limits *l, enum limit_class class, const char *key,
                     uint64_t now_ms)
{
    uint64_t window_ms = table[class].window_ms;
    struct limit_window *w;

    if (l->off || table[class].calls == 0)
        return 0;
    w = window_of(l, class, key, now_ms);
    w->used_ms = now_ms;
    while (w->count > 0 && w->at[w->head] + window_ms <= now_ms) {
        w->head = (w->head + 1) % LIMIT_CALLS_MAX;
        w->count--;
    }
    if (w->count >= table[class].calls)
        return w->at[w->head] + window_ms - now_ms;
    w->at[(w->head + w->count++) % LIMIT_CALLS_MAX] = now_ms;
    return 0;
}

static struct limit_client *client_of(struct limits *l, const char *ip)
{
    struct limit_client *oldest = &l->client[0];

    for (unsigned i = 0; i < LIMIT_CLIENTS; i++) {
        struct limit_client *c = &l->client[i];

        if (strcmp(c->ip, ip) == 0)
            return c;
        if (!c->ip[0] ? oldest->ip[0] : c->used_ms < oldest->used_ms && oldest->ip[0])
            oldest = c;
    }
    memset(oldest, 0, sizeof *oldest);
    snprintf(oldest->ip, sizeof oldest->ip, "%s", ip);
    return oldest;
}

void limits_excess(struct limits *l, const char *ip, uint64_t now_ms)
{
    struct limit_client *c = client_of(l, ip);

    c->used_ms = now_ms;
    if (c->excess == 0 || now_ms - c->excess_since_ms >= l->excess_window_ms) {
        c->excess = 0;
        c->excess_since_ms = now_ms;
    }
    if (++c->excess >= l->block_after && l->block_after > 0)
        c->blocked_until_ms = now_ms + l->block_ms;
}

bool limits_blocked(struct limits *l, const char *ip, uint64_t now_ms)
{
    struct limit_client *c = client_of(l, ip);

    c->used_ms = now_ms;
    if (l->blocked)
        return true;
    if (c->blocked_until_ms <= now_ms)
        return false;
    c->excess = 0;
    c->blocked_until_ms = now_ms + l->block_ms;
    return true;
}

bool limits_any_blocked(const struct limits *l, uint64_t now_ms)
{
    for (unsigned i = 0; i < LIMIT_CLIENTS; i++)
        if (l->client[i].blocked_until_ms > now_ms)
            return true;
    return l->blocked;
}

void limits_unblock(struct limits *l)
{
    l->blocked = false;
    memset(l->client, 0, sizeof l->client);
}
