/* SPDX-License-Identifier: MIT
 * The charging policy: the rules as a table, every watt, and random histories. */
#include "evecc/phase.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VOLTAGE = 230, DWELL_MS = 600 * 1000, PAUSE_MS = 60 * 1000, WATTS = 25000 };
static const uint64_t DAY_MS = 24 * 3600 * 1000;

static struct phase_config config(unsigned max_current_a, unsigned wired, bool may_switch)
{
    return (struct phase_config){
        .dwell_ms = DWELL_MS,
        .pause_ms = PAUSE_MS,
        .single_phase_max_w = 3680,
        .voltage_v = VOLTAGE,
        .max_current_a = (uint8_t)max_current_a,
        .min_current_a = 6,
        .phases_wired = (uint8_t)wired,
        .switches_per_day = 10,
        .may_switch = may_switch,
    };
}

static struct phase_wish power(uint32_t power_w, enum phase_mode mode)
{
    return (struct phase_wish){
        .power_w = power_w,
        .current_da = NA_U16,
        .phase_da = {NA_U16, NA_U16, NA_U16},
        .mode = (uint8_t)mode,
        .enable = true
    };
}

static struct phase_choice choose(const struct phase_config *cfg,
                                  const struct phase_memory *mem, struct phase_wish wish,
                                  uint64_t now_ms)
{
    struct phase_choice choice;

    phase_choose(cfg, mem, &wish, PAUSE_SENT, now_ms, &choice);
    return choice;
}

static struct amps amps(unsigned phases, unsigned a)
{
    struct amps r = {{0}};

    for (unsigned i = 0; i < phases; i++)
        r.l[i] = (uint8_t)a;
    return r;
}

static unsigned sum(struct amps a)
{
    return (unsigned)a.l[0] + a.l[1] + a.l[2];
}

/* ---- the rules as a table, from a fresh start ---- */

struct row {
    const char *comment;
    unsigned max_current_a, wired;
    bool may_switch, disabled;
    enum phase_mode mode;
    uint32_t power_w;
    uint16_t current_da, phase_da[PHASES];
    unsigned phases, amps;
    enum binding binding;
    uint16_t requested_da[PHASES];
    unsigned requested_phases;
};

#define NONE  NA_U16
#define W_ANY NA_U32
#define FREE                   \
    NA_U16,                    \
    {                          \
        NA_U16, NA_U16, NA_U16 \
    }
#define AUTO  PHASE_MODE_AUTO
#define ONE   PHASE_MODE_SINGLE
#define THREE PHASE_MODE_THREE
#define EACH(x)       \
    {                 \
        (x), (x), (x) \
    }
#define L1(x)     \
    {             \
        (x), 0, 0 \
    }

/* clang-format off */
static const struct row rows[] = {
    {"7400 W", 16, 3, true, false, AUTO, 7400, FREE, 3, 10, BINDING_POWER, EACH(107), 3},
    {"3000 W", 16, 3, true, false, AUTO, 3000, FREE, 1, 13, BINDING_POWER, L1(130), 1},
    {"3680 W", 16, 3, true, false, AUTO, 3680, FREE, 1, 16, BINDING_POWER, L1(160), 1},
    {"4000 W", 16, 3, true, false, AUTO, 4000, FREE, 1, 16, BINDING_CONFIGURED_MAX, L1(173), 1},
    {"4000 W on 32 A", 32, 3, true, false, AUTO, 4000, FREE, 1, 16, BINDING_CONFIGURED_MAX, L1(173), 1},
    {"4139 W", 16, 3, true, false, AUTO, 4139, FREE, 1, 16, BINDING_CONFIGURED_MAX, L1(179), 1},
    {"4140 W", 16, 3, true, false, AUTO, 4140, FREE, 3, 6, BINDING_POWER, EACH(60), 3},
    {"1380 W", 16, 3, true, false, AUTO, 1380, FREE, 1, 6, BINDING_POWER, L1(60), 1},
    {"1379 W", 16, 3, true, false, AUTO, 1379, FREE, 0, 0, BINDING_MIN_CURRENT, L1(59), 1},
    {"1200 W", 16, 3, true, false, AUTO, 1200, FREE, 0, 0, BINDING_MIN_CURRENT, L1(52), 1},
    {"0 W", 16, 3, true, false, AUTO, 0, FREE, 0, 0, BINDING_POWER, EACH(0), 0},
    {"no limit", 16, 3, true, false, AUTO, W_ANY, FREE, 3, 16, BINDING_CONFIGURED_MAX, EACH(NONE), 3},
    {"no limit, largest fuse", 80, 3, true, false, AUTO, W_ANY, FREE, 3, 80, BINDING_CONFIGURED_MAX, EACH(NONE), 3},
    {"largest power there is", 16, 3, true, false, AUTO, W_ANY - 1, FREE, 3, 16, BINDING_CONFIGURED_MAX, EACH(NONE), 3},
    {"disabled", 16, 3, true, true, AUTO, W_ANY, FREE, 0, 0, BINDING_ENABLE, EACH(0), 0},
    {"disabled, with a limit", 16, 3, true, true, THREE, 7400, FREE, 0, 0, BINDING_ENABLE, EACH(0), 0},
    {"current", 16, 3, true, false, AUTO, W_ANY, 129, EACH(NONE), 3, 12, BINDING_CURRENT, EACH(129), 3},
    {"current below the minimum", 16, 3, true, false, AUTO, W_ANY, 59, EACH(NONE), 0, 0, BINDING_MIN_CURRENT, L1(59), 1},
    {"per phase, three", 16, 3, true, false, AUTO, W_ANY, NONE, {120, 95, 110}, 3, 9, BINDING_PER_PHASE, {120, 95, 110}, 3},
    {"per phase, only L1 is allowed", 16, 3, true, false, AUTO, W_ANY, NONE, {160, 0, 0}, 1, 16, BINDING_PER_PHASE, L1(160), 1},
    {"per phase, single looks at L1 only", 16, 3, true, false, ONE, W_ANY, NONE, {75, 0, 160}, 1, 7, BINDING_PER_PHASE, L1(75), 1},
    {"per phase, nothing on L1", 16, 3, true, false, AUTO, W_ANY, NONE, {0, 160, 160}, 0, 0, BINDING_PER_PHASE, EACH(0), 0},
    {"the lowest of all counts", 32, 3, true, false, AUTO, 11000, 140, {NONE, 130, NONE}, 3, 13, BINDING_PER_PHASE, {140, 130, 140}, 3},
    {"single, no limit", 32, 3, true, false, ONE, W_ANY, FREE, 1, 32, BINDING_CONFIGURED_MAX, L1(NONE), 1},
    {"single, more than the 3.6 kW rule", 32, 3, true, false, ONE, 7300, FREE, 1, 31, BINDING_POWER, L1(317), 1},
    {"three, too little", 16, 3, true, false, THREE, 4139, FREE, 0, 0, BINDING_MIN_CURRENT, EACH(59), 3},
    {"three", 16, 3, true, false, THREE, 4140, FREE, 3, 6, BINDING_POWER, EACH(60), 3},
    {"auto may not switch", 16, 3, false, false, AUTO, 4000, FREE, 0, 0, BINDING_MIN_CURRENT, EACH(57), 3},
    {"auto may not switch, enough for three", 16, 3, false, false, AUTO, 7400, FREE, 3, 10, BINDING_POWER, EACH(107), 3},
    {"single may not switch", 32, 3, false, false, ONE, W_ANY, FREE, 3, 10, BINDING_CONFIGURED_MAX, EACH(NONE), 3},
    {"single may not switch, power", 32, 3, false, false, ONE, 5000, FREE, 3, 7, BINDING_POWER, EACH(72), 3},
    {"single may not switch, a third is too little", 16, 3, false, false, ONE, W_ANY, FREE, 0, 0, BINDING_MIN_CURRENT, EACH(NONE), 3},
    {"one wired", 32, 1, false, false, AUTO, 7300, FREE, 1, 31, BINDING_POWER, L1(317), 1},
    {"one wired, above", 32, 1, false, false, AUTO, 8000, FREE, 1, 32, BINDING_CONFIGURED_MAX, L1(347), 1},
    {"one wired, three asked", 16, 1, true, false, THREE, 3000, FREE, 1, 13, BINDING_POWER, L1(130), 1},
    {"one wired, too little", 16, 1, true, false, AUTO, 1200, FREE, 0, 0, BINDING_MIN_CURRENT, L1(52), 1},
    {"one wired, no limit", 6, 1, true, false, AUTO, W_ANY, FREE, 1, 6, BINDING_CONFIGURED_MAX, L1(NONE), 1},
};
/* clang-format on */

static void rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        struct phase_config cfg = config(r->max_current_a, r->wired, r->may_switch);
        struct phase_memory fresh = {0};
        struct phase_wish wish = power(r->power_w, r->mode);
        struct phase_choice got;

        wish.enable = !r->disabled;
        wish.current_da = r->current_da;
        memcpy(wish.phase_da, r->phase_da, sizeof wish.phase_da);
        got = choose(&cfg, &fresh, wish, 1000);
        if (!amps_equal(got.target, amps(r->phases, r->amps)) ||
            got.binding != r->binding ||
            memcmp(got.requested_da, r->requested_da, sizeof got.requested_da) != 0 ||
            got.requested_phases != r->requested_phases || got.again_at_ms != NEVER ||
            got.dwell_until_ms != NEVER)
            fail_msg("%s: target %u/%u/%u binding %u requested %u/%u/%u phases %u",
                     r->comment, got.target.l[0], got.target.l[1], got.target.l[2],
                     got.binding, got.requested_da[0], got.requested_da[1],
                     got.requested_da[2], got.requested_phases);
    }
}

/* ---- dwell, cap and pause, one by one ---- */

static void expect(const char *what, const struct phase_choice *got, unsigned phases,
                   unsigned a, enum binding binding, uint64_t again_at_ms)
{
    if (!amps_equal(got->target, amps(phases, a)) || got->binding != binding ||
        got->again_at_ms != again_at_ms || got->dwell_until_ms != again_at_ms)
        fail_msg("%s: target %u/%u/%u binding %u again %llu", what, got->target.l[0],
                 got->target.l[1], got->target.l[2], got->binding,
                 (unsigned long long)got->again_at_ms);
}

static void first_choice_does_not_dwell(void **state)
{
    struct phase_config cfg = config(16, 3, true);
    struct phase_memory mem = {0};
    struct phase_choice c;

    (void)state;
    phase_applied(&mem, amps(3, 16), 1000);
    assert_int_equal(phase_switches_24h(&mem, 1000), 0);
    c = choose(&cfg, &mem, power(3000, AUTO), 2000);
    expect("to one phase at once", &c, 1, 13, BINDING_POWER, NEVER);
    phase_applied(&mem, c.target, 2000);
    assert_int_equal(phase_switches_24h(&mem, 2000), 1);
}

static void waiting_on_one_phase(void **state)
{
    struct phase_config cfg = config(32, 3, true);
    struct phase_memory mem = {0};
    struct phase_choice c;
    uint64_t t = 1000, end = t + DWELL_MS;

    (void)state;
    phase_applied(&mem, amps(3, 16), 0);
    phase_applied(&mem, amps(1, 13), t);
    c = choose(&cfg, &mem, power(11000, AUTO), t + 1);
    expect("one phase, 3.6 kW rule", &c, 1, 16, BINDING_PHASE_DWELL, end);
    c = choose(&cfg, &mem, power(11000, THREE), t + 1);
    expect("also when three are ordered", &c, 1, 16, BINDING_PHASE_DWELL, end);
    c = choose(&cfg, &mem, power(1000, THREE), t + 1);
    expect("too little for three needs no change", &c, 0, 0, BINDING_MIN_CURRENT, NEVER);
    c = choose(&cfg, &mem, power(2000, AUTO), t + 1);
    expect("one phase again", &c, 1, 8, BINDING_POWER, NEVER);
    c = choose(&cfg, &mem, power(11000, AUTO), end - 1);
    expect("the last millisecond", &c, 1, 16, BINDING_PHASE_DWELL, end);
    c = choose(&cfg, &mem, power(11000, AUTO), end);
    expect("then a pause", &c, 0, 0, BINDING_PHASE_DWELL, end + PAUSE_MS);
    cfg.may_switch = false;
    c = choose(&cfg, &mem, power(11000, AUTO), t + 1);
    expect("one phase no longer works", &c, 0, 0, BINDING_PHASE_DWELL, end);
}

static void pausing_before_three(void **state)
{
    struct phase_config cfg = config(16, 3, true);
    struct phase_memory mem = {0};
    struct phase_wish wish = power(7400, AUTO);
    struct phase_choice c;
    uint64_t t = 1000;

    (void)state;
    phase_applied(&mem, amps(1, 13), 0);
    c = choose(&cfg, &mem, wish, t);
    expect("pause first", &c, 0, 0, BINDING_PHASE_DWELL, t + PAUSE_MS);
    phase_choose(&cfg, &mem, &wish, PAUSE_SEEN, t, &c);
    expect("idle before the pause does not count", &c, 0, 0, BINDING_PHASE_DWELL,
           t + PAUSE_MS);

    phase_applied(&mem, amps(0, 0), t - 10);
    phase_applied(&mem, amps(0, 0), t); /* again: the first may have been lost */
    c = choose(&cfg, &mem, wish, t + PAUSE_MS - 1);
    expect("not yet", &c, 0, 0, BINDING_PHASE_DWELL, t + PAUSE_MS);
    c = choose(&cfg, &mem, power(2000, AUTO), t + 20);
    expect("back to one at once", &c, 1, 8, BINDING_POWER, NEVER);
    phase_choose(&cfg, &mem, &wish, PAUSE_SEEN, t + 20, &c);
    expect("idle ends the pause", &c, 3, 10, BINDING_POWER, NEVER);
    phase_choose(&cfg, &mem, &wish, PAUSE_UNSURE, t + PAUSE_MS, &c);
    expect("but not of a pause that may not have arrived", &c, 0, 0, BINDING_PHASE_DWELL,
           t + 2 * PAUSE_MS);
    c = choose(&cfg, &mem, wish, t + PAUSE_MS);
    expect("so does time", &c, 3, 10, BINDING_POWER, NEVER);

    phase_applied(&mem, c.target, t + PAUSE_MS);
    assert_int_equal(phase_switches_24h(&mem, t + PAUSE_MS), 1);
    c = choose(&cfg, &mem, power(2000, AUTO), t + PAUSE_MS + 1);
    expect("and starts a dwell", &c, 0, 0, BINDING_PHASE_DWELL, t + PAUSE_MS + DWELL_MS);
}

/* Some chargers stay stopped when three phases become one at exactly 6 A. */
static void pausing_before_one_at_6_a(void **state)
{
    struct phase_config cfg = config(16, 3, true);
    struct phase_memory mem = {0};
    struct phase_wish wish = power(1400, AUTO);
    struct phase_choice c;
    uint64_t t = 1000;

    (void)state;
    phase_applied(&mem, amps(3, 10), 0);
    c = choose(&cfg, &mem, power(1610, AUTO), t);
    expect("7 A: at once", &c, 1, 7, BINDING_POWER, NEVER);
    c = choose(&cfg, &mem, wish, t);
    expect("6 A: pause first", &c, 0, 0, BINDING_PHASE_DWELL, t + PAUSE_MS);
    phase_applied(&mem, amps(0, 0), t);
    c = choose(&cfg, &mem, wish, t + PAUSE_MS - 1);
    expect("not yet", &c, 0, 0, BINDING_PHASE_DWELL, t + PAUSE_MS);
    phase_choose(&cfg, &mem, &wish, PAUSE_SEEN, t + 20, &c);
    expect("idle ends the pause", &c, 1, 6, BINDING_POWER, NEVER);
    c = choose(&cfg, &mem, wish, t + PAUSE_MS);
    expect("so does time", &c, 1, 6, BINDING_POWER, NEVER);
    phase_applied(&mem, c.target, t + PAUSE_MS);
    c = choose(&cfg, &mem, power(1610, AUTO), t + PAUSE_MS);
    phase_applied(&mem, c.target, t + PAUSE_MS);
    c = choose(&cfg, &mem, wish, t + PAUSE_MS);
    expect("on one already", &c, 1, 6, BINDING_POWER, NEVER);
}

/* A pause that lasted through the dwell needs no second one. */
static void long_pause_is_enough(void **state)
{
    struct phase_config cfg = config(16, 3, true);
    struct phase_memory mem = {0};
    struct phase_choice c;

    (void)state;
    phase_applied(&mem, amps(3, 6), 0);
    phase_applied(&mem, amps(1, 13), 1000);
    phase_applied(&mem, amps(0, 0), 2000);
    c = choose(&cfg, &mem, power(7400, AUTO), 2000 + PAUSE_MS);
    expect("dwell comes first", &c, 1, 16, BINDING_PHASE_DWELL, 1000 + DWELL_MS);
    c = choose(&cfg, &mem, power(7400, AUTO), 1000 + DWELL_MS);
    expect("then three at once", &c, 3, 10, BINDING_POWER, NEVER);
}

static void waiting_on_three_phases(void **state)
{
    struct phase_config cfg = config(32, 3, true);
    struct phase_memory mem = {0};
    struct phase_choice c;
    uint64_t t = 1000, end = t + DWELL_MS;

    (void)state;
    phase_applied(&mem, amps(1, 13), 0);
    phase_applied(&mem, amps(3, 13), t);
    c = choose(&cfg, &mem, power(4000, AUTO), t + 1);
    expect("too little for three", &c, 0, 0, BINDING_PHASE_DWELL, end);
    c = choose(&cfg, &mem, power(5000, ONE), t + 1);
    expect("three carry as much as one would", &c, 3, 7, BINDING_POWER, end);
}

static void single_waits_with_less_power(void **state)
{
    struct phase_config cfg = config(32, 3, true);
    struct phase_memory mem = {0};
    struct phase_choice c;
    uint64_t end = 1000 + DWELL_MS;

    (void)state;
    phase_applied(&mem, amps(1, 13), 0);
    phase_applied(&mem, amps(3, 13), 1000);
    c = choose(&cfg, &mem, power(W_ANY, ONE), 1001);
    expect("a third of one phase each", &c, 3, 10, BINDING_PHASE_DWELL, end);
    cfg.single_phase_max_w = 7360;
    c = choose(&cfg, &mem, power(5000, AUTO), 1001);
    expect("no power lost", &c, 3, 7, BINDING_POWER, end);
    c = choose(&cfg, &mem, power(5200, AUTO), 1001);
    expect("230 W lost", &c, 3, 7, BINDING_PHASE_DWELL, end);
}

static void the_rule_may_allow_more_than_3_6_kw(void **state)
{
    struct phase_config cfg = config(32, 3, true);
    struct phase_memory mem = {0};
    struct phase_choice c;

    (void)state;
    cfg.single_phase_max_w = 5000;
    c = choose(&cfg, &mem, power(5000, AUTO), 0);
    expect("at most that much: one phase", &c, 1, 21, BINDING_POWER, NEVER);
    c = choose(&cfg, &mem, power(5001, AUTO), 0);
    expect("more: three", &c, 3, 7, BINDING_POWER, NEVER);
}

static void daily_cap(void **state)
{
    struct phase_config cfg = config(16, 3, true);
    struct phase_memory mem = {0};
    struct phase_choice c;
    uint64_t t = 0;

    (void)state;
    cfg.dwell_ms = 1000;
    cfg.switches_per_day = 3;
    phase_applied(&mem, amps(3, 6), t);
    for (unsigned i = 0; i < 3; i++)
        phase_applied(&mem, amps(i % 2 == 0 ? 1 : 3, 8), t += 5000);
    assert_int_equal(phase_switches_24h(&mem, t), 3);
    c = choose(&cfg, &mem, power(7400, AUTO), t + 2000);
    expect("until the oldest leaves the day", &c, 1, 16, BINDING_PHASE_DWELL,
           5000 + DAY_MS);
    assert_int_equal(phase_switches_24h(&mem, 5000 + DAY_MS - 1), 3);
    assert_int_equal(phase_switches_24h(&mem, 5000 + DAY_MS), 2);
    c = choose(&cfg, &mem, power(7400, AUTO), 5000 + DAY_MS);
    expect("then the pause", &c, 0, 0, BINDING_PHASE_DWELL, 5000 + DAY_MS + PAUSE_MS);
}

static void no_switches_at_all(void **state)
{
    struct phase_config cfg = config(16, 3, true);
    struct phase_memory mem = {0};
    struct phase_choice c;

    (void)state;
    cfg.switches_per_day = 0;
    c = choose(&cfg, &mem, power(3000, AUTO), 0);
    expect("the first choice is free", &c, 1, 13, BINDING_POWER, NEVER);
    phase_applied(&mem, c.target, 0);
    c = choose(&cfg, &mem, power(7400, AUTO), 100 * DAY_MS);
    expect("and stays", &c, 1, 16, BINDING_PHASE_DWELL, NEVER);
}

/* ---- every watt ---- */

/* The most whole amps on PHASES phases that keep POWER_W, counted up from below. */
static unsigned fits(unsigned phases, uint32_t power_w, unsigned most)
{
    unsigned a = 0;

    while (a < most && (a + 1) * phases * VOLTAGE <= power_w)
        a++;
    return a >= 6 ? a : 0;
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* What the rules say when nothing has to wait. */
static struct amps ruled(const struct phase_config *cfg, uint32_t w, enum phase_mode mode)
{
    unsigned most = cfg->max_current_a;
    unsigned three = fits(3, w, most);

    if (cfg->phases_wired == 1)
        return amps(1, fits(1, w, most));
    if (mode == ONE && cfg->may_switch)
        return amps(1, fits(1, w, most));
    if (mode == ONE) {
        unsigned third = fits(1, w, most) / 3;

        return amps(3, least(three, third >= 6 ? third : 0));
    }
    if (mode == THREE || !cfg->may_switch || (w > 3680 && three > 0))
        return amps(3, three);
    return amps(1, fits(1, w, least(most, 16)));
}

/* What the rules say while a change from LAST phases waits for its dwell. */
static struct amps ruled_waiting(const struct phase_config *cfg, uint32_t w,
                                 enum phase_mode mode, unsigned last)
{
    struct amps free = ruled(cfg, w, mode);
    unsigned most = cfg->max_current_a;

    if (phase_count(free) == 0 || phase_count(free) == last || cfg->phases_wired == 1)
        return free;
    if (last == 1)
        return amps(1, cfg->may_switch ? fits(1, w, least(most, 16)) : 0);
    if (mode == ONE) {
        unsigned a = least(fits(3, w, most), fits(1, w, most) / 3);

        return amps(3, a >= 6 ? a : 0);
    }
    return amps(3, fits(3, w, most));
}

static void check_invariants(const struct phase_config *cfg, uint32_t w,
                             const struct phase_choice *c)
{
    const uint8_t *l = c->target.l;
    bool ok = (uint64_t)sum(c->target) * VOLTAGE <= w;

    for (unsigned i = 0; i < PHASES; i++)
        ok = ok && (l[i] == 0 || (l[i] >= 6 && l[i] <= cfg->max_current_a));
    ok = ok && l[1] == l[2] && (l[1] == 0 || l[1] == l[0]);
    ok = ok && (cfg->phases_wired == 3 || l[1] == 0);
    ok = ok && (cfg->may_switch || cfg->phases_wired == 1 || l[1] == l[0]);
    if (!ok)
        fail_msg("%u W: %u/%u/%u breaks an invariant", w, l[0], l[1], l[2]);
}

/* Histories that matter: what was applied last, and whether its dwell is still running.
 */
static const struct history {
    const char *name;
    unsigned last;
    bool dwell, paused;
} histories[] = {
    {"fresh",                     0, false, false},
    {"on one",                    1, false, false},
    {"on one, dwell",             1, true,  false},
    {"paused after one",          1, false, true },
    {"paused after one, dwell",   1, true,  true },
    {"on three",                  3, false, false},
    {"on three, dwell",           3, true,  false},
    {"paused after three",        3, false, true },
    {"paused after three, dwell", 3, true,  true },
};

static struct phase_memory remember(const struct history *h)
{
    struct phase_memory mem = {0};

    if (h->last == 0)
        return mem;
    phase_applied(&mem, amps(4 - h->last, 6), 1000);
    phase_applied(&mem, amps(h->last, 6), 2000);
    if (h->paused)
        phase_applied(&mem, amps(0, 0), 3000);
    return mem;
}

static void every_watt_of(const struct phase_config *cfg, enum phase_mode mode,
                          const struct history *h)
{
    struct phase_memory mem = remember(h);
    uint64_t now_ms = h->dwell ? 3000 + PAUSE_MS : 2000 + DWELL_MS;

    for (uint32_t w = 0; w <= WATTS; w++) {
        struct phase_choice c = choose(cfg, &mem, power(w, mode), now_ms);
        struct amps want = ruled(cfg, w, mode);

        check_invariants(cfg, w, &c);
        if (h->dwell)
            want = ruled_waiting(cfg, w, mode, h->last);
        else if (cfg->phases_wired == 3 && h->last != 0 && phase_count(want) != h->last &&
                 (phase_count(want) == 3 || want.l[0] == 6) && !h->paused)
            want = amps(0, 0);
        if (!amps_equal(c.target, want))
            fail_msg("%u W mode %d on %u A, %u wired, may_switch %d, %s: %u/%u/%u is not "
                     "%u/%u/%u",
                     w, (int)mode, cfg->max_current_a, cfg->phases_wired, cfg->may_switch,
                     h->name, c.target.l[0], c.target.l[1], c.target.l[2], want.l[0],
                     want.l[1], want.l[2]);
    }
}

static void every_watt(void **state)
{
    static const unsigned fuses[] = {6, 10, 16, 32};
    static const enum phase_mode modes[] = {AUTO, ONE, THREE};

    (void)state;
    for (unsigned i = 0; i < 4 * 3 * 2 * 2; i++) {
        struct phase_config cfg =
            config(fuses[i % 4], i / 12 % 2 == 0 ? 3 : 1, i / 24 % 2 == 0);

        for (size_t h = 0; h < sizeof histories / sizeof histories[0]; h++)
            every_watt_of(&cfg, modes[i / 4 % 3], &histories[h]);
    }
}

/* ---- random histories ---- */

static uint32_t random_state;

static uint32_t below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

static struct phase_wish random_wish(void)
{
    static const enum phase_mode modes[] = {AUTO, AUTO, ONE, THREE};
    struct phase_wish wish = power(below(12000), modes[below(4)]);

    if (below(4) == 0)
        wish.power_w = NA_U32;
    if (below(4) == 0)
        wish.current_da = (uint16_t)below(400);
    if (below(6) == 0)
        for (unsigned i = 0; i < PHASES; i++)
            wish.phase_da[i] = (uint16_t)below(400);
    wish.enable = below(10) != 0;
    return wish;
}

/* The limits of the wish, checked phase by phase without the module's arithmetic. */
static bool keeps(const struct phase_wish *wish, struct amps a)
{
    for (unsigned i = 0; i < PHASES; i++)
        if (a.l[i] * 10u > wish->current_da || a.l[i] * 10u > wish->phase_da[i])
            return false;
    return sum(a) * (uint64_t)VOLTAGE <= wish->power_w && (wish->enable || sum(a) == 0);
}

enum { LOG_MAX = 20000 };

static void random_history(uint32_t seed)
{
    static uint64_t switched[LOG_MAX];
    struct phase_config cfg = config(16, 3, true);
    struct phase_memory mem = {0};
    unsigned switches = 0, last = 0;
    uint64_t now = 0, paused_at = NEVER;
    struct phase_wish wish = random_wish();

    random_state = seed;
    cfg.switches_per_day = (uint8_t)(1 + below(PHASE_SWITCHES_MAX));
    cfg.dwell_ms = below(3) * 600 * 1000;
    for (unsigned step = 0; step < 5000; step++) {
        struct phase_choice c;
        bool idle = paused_at != NEVER && below(20) == 0;
        unsigned n;

        now += below(120 * 1000);
        if (below(3) == 0)
            wish = random_wish();
        phase_choose(&cfg, &mem, &wish, idle ? PAUSE_SEEN : PAUSE_SENT, now, &c);
        if (!keeps(&wish, c.target))
            fail_msg("seed %u step %u: the limit is not kept", seed, step);
        if (c.again_at_ms <= now)
            fail_msg("seed %u step %u: again in the past", seed, step);
        if (below(4) == 0)
            continue; /* chosen, but not sent */
        phase_applied(&mem, c.target, now);
        n = phase_count(c.target);
        if (n == 0 && paused_at == NEVER)
            paused_at = now;
        if (n == 3 && last == 1 && !idle &&
            (paused_at == NEVER || now - paused_at < PAUSE_MS))
            fail_msg("seed %u step %u: three phases without a pause", seed, step);
        if (n != 0 && last != 0 && n != last) {
            if (switches > 0 && now - switched[switches - 1] < cfg.dwell_ms)
                fail_msg("seed %u step %u: dwell not kept", seed, step);
            if (switches >= cfg.switches_per_day &&
                now - switched[switches - cfg.switches_per_day] < DAY_MS)
                fail_msg("seed %u step %u: daily cap not kept", seed, step);
            switched[switches++] = now;
        }
        if (n != 0) {
            last = n;
            paused_at = NEVER;
        }
    }
    if (switches == 0)
        fail_msg("seed %u: nothing ever switched", seed);
}

static void random_histories(void **state)
{
    const char *text = getenv("EVECC_TEST_SEED");
    uint32_t first = text != NULL ? (uint32_t)strtoul(text, NULL, 0) : 1;

    (void)state;
    for (uint32_t i = 0; i < 40; i++)
        random_history(first + i);
}

static void comparing_amps(void **state)
{
    struct amps a =
                    {
                        {10, 10, 10}
    },
                b = {{16, 0, 0}};

    (void)state;
    assert_true(amps_equal(a, a) && !amps_equal(a, b));
    assert_true(amps_lower(a, b)); /* L2 and L3 are relieved */
    assert_true(amps_lower(b, a)); /* L1 is */
    assert_false(amps_lower(a, a));
    assert_false(amps_lower(amps(0, 0), a));
    assert_int_equal(phase_count(a), 3);
    assert_int_equal(phase_count(b), 1);
    assert_int_equal(phase_count(amps(0, 0)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules),
        cmocka_unit_test(first_choice_does_not_dwell),
        cmocka_unit_test(waiting_on_one_phase),
        cmocka_unit_test(pausing_before_three),
        cmocka_unit_test(pausing_before_one_at_6_a),
        cmocka_unit_test(long_pause_is_enough),
        cmocka_unit_test(waiting_on_three_phases),
        cmocka_unit_test(single_waits_with_less_power),
        cmocka_unit_test(the_rule_may_allow_more_than_3_6_kw),
        cmocka_unit_test(daily_cap),
        cmocka_unit_test(no_switches_at_all),
        cmocka_unit_test(every_watt),
        cmocka_unit_test(random_histories),
        cmocka_unit_test(comparing_amps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
