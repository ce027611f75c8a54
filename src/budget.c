/* SPDX-License-Identifier: MIT */
#include "evecc/budget.h"

#include "evecc/instant.h"

#include <stddef.h>
#include <string.h>

enum {
    HALVE_WITHIN_MS = 600 * 1000,
    HALVE_FOR_MS = 3600 * 1000,
    PAUSE_MIN_S = 30,
    PAUSE_MAX_S = 3600,
    PAUSE_DEFAULT_S = 90
};

/* Call number N of the newest, counted from 1; at most as many as are held. */
static uint64_t newest(const struct budget *b, unsigned n)
{
    return b->at_ms[(b->next + BUDGET_CALLS_MAX - n) % BUDGET_CALLS_MAX];
}

/* How many calls a window may hold.  Halving leaves the reserve alone as long as one
 * ordinary call remains: a fuse needs its decrease most when the cloud is short of
 * patience. */
static unsigned allowed(const struct budget_rule *rule, bool halved, bool urgent)
{
    unsigned calls = halved && rule->calls > 1 ? rule->calls / 2u : rule->calls;

    if (urgent)
        return calls;
    return calls > rule->reserve ? calls - rule->reserve : 1;
}

/* One more call fits when the call that is ALLOWED places back has left the window. */
static uint64_t free_at(const struct budget *b, bool halved, bool urgent)
{
    uint64_t at = 0;

    for (unsigned i = 0; i < BUDGET_RULES; i++) {
        const struct budget_rule *rule = &b->rule[i];
        unsigned n = rule->calls > 0 ? allowed(rule, halved, urgent) : 0;

        if (n > 0 && b->held >= n)
            at = later(at, newest(b, n) + rule->window_ms);
    }
    return at;
}

void budget_init(struct budget *b, const struct budget_rule *rules, unsigned count)
{
    memset(b, 0, sizeof *b);
    for (unsigned i = 0; i < count; i++)
        b->rule[i] = rules[i];
    b->throttled_at_ms = NEVER;
}

uint64_t budget_wait_ms(const struct budget *b, uint64_t now_ms, bool urgent)
{
    uint64_t whole = later(free_at(b, false, urgent), b->halved_until_ms);
    uint64_t at = later(b->paused_until_ms, earlier(free_at(b, true, urgent), whole));

    return at > now_ms ? at - now_ms : 0;
}

void budget_take(struct budget *b, uint64_t now_ms)
{
    b->at_ms[b->next] = now_ms;
    b->next = (uint16_t)((b->next + 1u) % BUDGET_CALLS_MAX);
    if (b->held < BUDGET_CALLS_MAX)
        b->held++;
}

void budget_throttled(struct budget *b, int64_t retry_after_s, uint64_t now_ms)
{
    int64_t pause_s = retry_after_s;

    if (retry_after_s < 0)
        pause_s = PAUSE_DEFAULT_S;
    else if (retry_after_s < PAUSE_MIN_S)
        pause_s = PAUSE_MIN_S;
    else if (retry_after_s > PAUSE_MAX_S)
        pause_s = PAUSE_MAX_S;
    budget_pause(b, now_ms + (uint64_t)pause_s * 1000);

    if (b->throttled_at_ms != NEVER && now_ms - b->throttled_at_ms <= HALVE_WITHIN_MS)
        b->halved_until_ms = now_ms + HALVE_FOR_MS;
    b->throttled_at_ms = now_ms;
}

void budget_pause(struct budget *b, uint64_t until_ms)
{
    b->paused_until_ms = later(b->paused_until_ms, until_ms);
}

unsigned budget_left(const struct budget *b, uint64_t now_ms)
{
    const struct budget_rule *rule = &b->rule[0];
    unsigned most = allowed(rule, now_ms < b->halved_until_ms, false);
    unsigned used = 0;

    while (used < most && used < b->held &&
           now_ms - newest(b, used + 1) < rule->window_ms)
        used++;
    return most - used;
}

void budgets_init(struct budgets *b)
{
    static const struct budget_rule rules[BUDGET_CLASSES] = {
#define BUDGET(name, calls, reserve, window_s, meaning) \
    [BUDGET_##name] = {(window_s)*1000u, (calls), (reserve)},
#include "evecc/budgets.def"
#undef BUDGET
    };

    for (size_t i = 0; i < BUDGET_CLASSES; i++)
        budget_init(&b->of[i], &rules[i], 1);
}

uint64_t budgets_wait_ms(const struct budgets *b, enum budget_class class,
                         uint64_t now_ms, bool urgent)
{
    return later(budget_wait_ms(&b->of[class], now_ms, urgent),
                 budget_wait_ms(&b->of[BUDGET_ALL], now_ms, urgent));
}

void budgets_take(struct budgets *b, enum budget_class class, uint64_t now_ms)
{
    budget_take(&b->of[class], now_ms);
    if (class != BUDGET_ALL)
        budget_take(&b->of[BUDGET_ALL], now_ms);
}
