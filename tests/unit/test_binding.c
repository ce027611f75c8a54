/* SPDX-License-Identifier: MIT
 * Register 7322, the binding limit: every value of it, from what brings it about; and
 * what it becomes for each reason that a charger gives. */
#include "evecc/circuit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SECONDS 1000ull

static const int64_t UNIX0 = 1790000000000;

/* easee-api 7.4 and 6.5 */
enum { GRID = 21, REASON = 96, MODE = 109, LIMIT_L1 = 111, OUTPUT = 114, DERATING = 116 };
enum { ONLINE = 250, GRID_TN = 1, AWAITING_START = 2, CHARGING = 3 };

/* A circuit with one charger, and its client. */
struct bench {
    struct circuit circuit;
    struct budgets budgets;
    struct want want;
    uint64_t now_ms;
    bool overruled; /* somebody else sets 16 A again and again */
};

static void observe(struct bench *t, uint16_t id, double number)
{
    struct observation o = {.at_unix_ms = UNIX0 + (int64_t)t->now_ms,
                            .number = number,
                            .id = id,
                            .is_number = true};

    circuit_observe(&t->circuit, 0, &o, UNIX0 + (int64_t)t->now_ms, t->now_ms);
}

static void report(struct bench *t, struct amps a)
{
    for (uint16_t i = 0; i < PHASES; i++)
        observe(t, (uint16_t)(LIMIT_L1 + i), a.l[i]);
    circuit_decide(&t->circuit, t->now_ms);
}

/* SECONDS_LONG pass with a cloud and a charger that do as they are told, at once. */
static void run(struct bench *t, unsigned seconds_long)
{
    static const struct amps theirs = {
        {16, 16, 16}
    };

    for (unsigned i = 0; i < seconds_long; i++) {
        struct request r;

        while (circuit_next(&t->circuit, &t->budgets, t->now_ms, &r)) {
            struct outcome o = {.kind = r.kind,
                                .err = r.kind == REQUEST_READBACK ? ERR_SERVER : ERR_OK,
                                .retry_after_s = -1};

            if (r.kind == REQUEST_OBSERVE)
                observe(t, GRID, GRID_TN);
            circuit_done(&t->circuit, &t->budgets, &o, t->now_ms);
            if (r.kind == REQUEST_SET)
                report(t, r.amps);
        }
        t->now_ms += 1 * SECONDS;
        if (t->overruled)
            report(t, theirs);
    }
}

static void wish(struct bench *t)
{
    t->want.id++;
    t->want.accepted_at_ms = t->want.fed_at_ms = t->now_ms;
    circuit_want(&t->circuit, &t->want, t->now_ms);
}

static void wish_w(struct bench *t, uint32_t power_w)
{
    t->want.power_w = power_w;
    wish(t);
}

static void start(struct bench *t)
{
    const struct circuit_config cfg = {
        .phase = {.dwell_ms = 600 * SECONDS,
                  .pause_ms = 60 * SECONDS,
                  .single_phase_max_w = 3680,
                  .voltage_v = 230,
                  .max_current_a = 16,
                  .min_current_a = 6,
                  .phases_wired = 3,
                  .switches_per_day = 10},
        .increase_interval_ms = 30 * SECONDS,
        .decrease_interval_ms = 15 * SECONDS,
    };

    memset(t, 0, sizeof *t);
    t->now_ms = 1000 * SECONDS;
    budgets_init(&t->budgets);
    circuit_init(&t->circuit, &cfg, 7);
    t->want = (struct want){
        .power_w = NA_U32,
        .current_da = NA_U16,
        .phase_da = {NA_U16, NA_U16, NA_U16},
        .enable = true
    };
    circuit_found(&t->circuit, 1, true, t->now_ms);
    run(t, 1);
}

static enum binding binding(struct bench *t)
{
    static struct status s;

    circuit_decide(&t->circuit, t->now_ms);
    circuit_status(&t->circuit, &t->budgets, t->now_ms, &s);
    return (enum binding)s.progress.binding;
}

/* ---- what brings each value about ---- */

static void no_wish(struct bench *t)
{
    (void)t;
}

static void power(struct bench *t)
{
    wish_w(t, 7400);
    run(t, 60);
}

static void current(struct bench *t)
{
    t->want.current_da = 100;
    power(t);
    wish_w(t, 11000);
}

static void per_phase(struct bench *t)
{
    t->want.phase_da[1] = 95;
    current(t);
}

static void disabled(struct bench *t)
{
    power(t);
    t->want.enable = false;
    wish(t);
    run(t, 60);
}

static void silent_client(struct bench *t)
{
    t->want.watchdog_s = 100;
    t->want.fallback_action = FALLBACK_LIMIT;
    t->want.fallback_da = 60;
    power(t);
    run(t, 60);
}

static void too_old(struct bench *t)
{
    t->want.validity_s = 100;
    power(t);
    run(t, 60);
}

static void no_limit(struct bench *t)
{
    wish(t);
    run(t, 60);
}

static void too_little(struct bench *t)
{
    wish_w(t, 1200);
    run(t, 60);
}

static void back_to_three_phases(struct bench *t)
{
    power(t);
    wish_w(t, 3000);
    run(t, 60);
    wish_w(t, 7400);
    run(t, 60);
}

static void pause_before_three_phases(struct bench *t)
{
    back_to_three_phases(t);
    run(t, 500);
}

static void interval(struct bench *t)
{
    power(t);
    wish_w(t, 8300);
    run(t, 1);
    wish_w(t, 9000);
    run(t, 1);
}

static void budget(struct bench *t)
{
    power(t);
    for (unsigned i = 0; i < 8; i++)
        budgets_take(&t->budgets, BUDGET_WRITE, t->now_ms);
    wish_w(t, 5600);
    run(t, 1);
}

static void other_controller(struct bench *t)
{
    power(t);
    t->overruled = true;
    run(t, 300);
}

/* 10 A are in force, and the charger offers OFFERED_A, because of REASON_GIVEN. */
static void offers(struct bench *t, unsigned offered_a, unsigned reason_given)
{
    power(t);
    observe(t, MODE, offered_a > 0 ? CHARGING : AWAITING_START);
    observe(t, OUTPUT, offered_a);
    observe(t, REASON, reason_given);
}

static void circuit_fuse(struct bench *t)
{
    offers(t, 8, 25);
}

static void charger_maximum(struct bench *t)
{
    offers(t, 8, 77);
}

static void equalizer(struct bench *t)
{
    offers(t, 6, 28);
}

static void schedule(struct bench *t)
{
    offers(t, 0, 54);
}

static void authorisation(struct bench *t)
{
    offers(t, 0, 55);
}

static void cable(struct bench *t)
{
    offers(t, 8, 75);
}

static void too_hot(struct bench *t)
{
    offers(t, 8, 0);
    observe(t, DERATING, 1);
}

static void offline_settings(struct bench *t)
{
    offers(t, 6, 30);
}

static void not_online(struct bench *t)
{
    offers(t, 6, 28);
    observe(t, DERATING, 1);
    observe(t, ONLINE, 0);
}

/* The charger's reason is history as soon as something else is wanted. */
static void limited_and_a_newer_wish(struct bench *t)
{
    offers(t, 8, 25);
    wish_w(t, 8300);
    run(t, 1);
    wish_w(t, 9000);
    run(t, 1);
}

static void as_much_as_it_may(struct bench *t)
{
    offers(t, 10, 75);
}

static void paused_by_us(struct bench *t)
{
    disabled(t);
    observe(t, MODE, AWAITING_START);
    observe(t, OUTPUT, 0);
    observe(t, REASON, 2);
}

static const struct {
    const char *what;
    void (*arrange)(struct bench *t);
    unsigned value; /* as registers.md has it */
} rows[] = {
    {"no wish",                           no_wish,                   0 },
    {"7400 W",                            power,                     1 },
    {"10 A beside 11000 W",               current,                   2 },
    {"9.5 A on L2 beside 10 A",           per_phase,                 3 },
    {"not enabled",                       disabled,                  4 },
    {"the watchdog",                      silent_client,             5 },
    {"the validity",                      too_old,                   5 },
    {"no limit but the fuse",             no_limit,                  6 },
    {"1200 W",                            too_little,                7 },
    {"one phase until the dwell is over", back_to_three_phases,      8 },
    {"the pause before three phases",     pause_before_three_phases, 8 },
    {"a raise soon after a raise",        interval,                  9 },
    {"the account's writes are used up",  budget,                    9 },
    {"the circuit's fuse",                circuit_fuse,              10},
    {"the charger's maximum",             charger_maximum,           11},
    {"an Equalizer",                      equalizer,                 12},
    {"somebody else sets it",             other_controller,          13},
    {"the charger's schedule",            schedule,                  14},
    {"nobody gave an authorisation",      authorisation,             15},
    {"a thin cable",                      cable,                     16},
    {"the charger is hot",                too_hot,                   17},
    {"offline settings",                  offline_settings,          18},
    {"offline, whatever was before",      not_online,                18},
    {"a newer wish waits",                limited_and_a_newer_wish,  9 },
    {"it offers all of it",               as_much_as_it_may,         1 },
    {"paused by us, not by it",           paused_by_us,              4 },
};

static void every_value(void **state)
{
    bool seen[BINDING_OFFLINE + 1] = {false};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bench t;
        enum binding got;

        start(&t);
        rows[i].arrange(&t);
        got = binding(&t);
        if (got != rows[i].value)
            fail_msg("%s: %d instead of %u", rows[i].what, (int)got, rows[i].value);
        seen[got] = true;
    }
    for (size_t value = 0; value < sizeof seen; value++)
        if (!seen[value])
            fail_msg("nothing brings about %zu", value);
}

/* Reasons that name a limit which is not ours; all others leave what binds us, here
 * power. 2 and 27 are our own setpoint, 50, 57, 79 and 81 the car, 7, 11 and 56 faults.
 */
static void every_reason(void **state)
{
    static const uint8_t names[256] = {
        [1] = 10,  [4] = 10,  [25] = 10, [26] = 10,            /* circuit */
        [51] = 11, [52] = 11, [53] = 11, [77] = 11, [78] = 11, /* charger */
        [5] = 12,  [6] = 12,  [10] = 12, [28] = 12, [29] = 12, /* load balancing */
        [54] = 14, [76] = 14,                                  /* schedule */
        [55] = 15,                                             /* authorisation */
        [75] = 16,                                             /* cable */
        [3] = 18,  [30] = 18,                                  /* offline */
    };

    (void)state;
    for (unsigned reason = 0; reason < 256; reason++)
        for (unsigned offered_a = 0; offered_a <= 10; offered_a += 5) {
            unsigned expected =
                names[reason] != 0 && offered_a < 10 ? names[reason] : BINDING_POWER;
            struct bench t;

            start(&t);
            offers(&t, offered_a, reason);
            if (binding(&t) != expected)
                fail_msg("reason %u at %u A: %d instead of %u", reason, offered_a,
                         (int)binding(&t), expected);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value),
        cmocka_unit_test(every_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
