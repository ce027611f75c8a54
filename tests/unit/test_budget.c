/* SPDX-License-Identifier: MIT
 * Call budgets: exact sliding windows, the reserve, pauses and halving. */
#include "evecc/budget.h"
#include "evecc/charger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { HOUR_MS = 3600 * 1000 };

static struct budget one_rule(unsigned calls, unsigned reserve, uint32_t window_ms)
{
    struct budget_rule rule = {window_ms, (uint16_t)calls, (uint16_t)reserve};
    struct budget b;

    budget_init(&b, &rule, 1);
    return b;
}

static void take(struct budget *b, unsigned calls, uint64_t now_ms)
{
    while (calls-- > 0)
        budget_take(b, now_ms);
}

static void an_exact_window(void **state)
{
    struct budget b = one_rule(3, 0, 1000);

    (void)state;
    assert_int_equal(budget_wait_ms(&b, 0, false), 0);
    budget_take(&b, 0);
    budget_take(&b, 100);
    budget_take(&b, 100);
    assert_int_equal(budget_wait_ms(&b, 100, false), 900);
    assert_int_equal(budget_wait_ms(&b, 999, false), 1);
    assert_int_equal(budget_wait_ms(&b, 1000, false), 0);
    budget_take(&b, 1000);
    assert_int_equal(budget_wait_ms(&b, 1000, false), 100);
    assert_int_equal(budget_wait_ms(&b, 1100, false), 0);
}

static void two_rules(void **state)
{
    static const struct budget_rule rules[] = {
        {1000,  2, 0},
        {10000, 3, 0}
    };
    struct budget b;

    (void)state;
    budget_init(&b, rules, 2);
    take(&b, 2, 0);
    assert_int_equal(budget_wait_ms(&b, 0, false), 1000);
    budget_take(&b, 1000);
    assert_int_equal(budget_wait_ms(&b, 2000, false), 8000);
}

static void no_rule(void **state)
{
    struct budget b;

    (void)state;
    budget_init(&b, NULL, 0);
    take(&b, 1000, 0);
    assert_int_equal(budget_wait_ms(&b, 0, false), 0);
}

static void the_reserve_is_for_urgent_calls(void **state)
{
    struct budget b = one_rule(10, 2, 60000);

    (void)state;
    assert_int_equal(budget_left(&b, 0), 8);
    take(&b, 8, 0);
    assert_int_equal(budget_left(&b, 0), 0);
    assert_int_equal(budget_wait_ms(&b, 0, false), 60000);
    assert_int_equal(budget_wait_ms(&b, 0, true), 0);
    take(&b, 2, 5);
    assert_int_equal(budget_wait_ms(&b, 5, true), 59995);
    assert_int_equal(budget_wait_ms(&b, 5, false), 59995);
    assert_int_equal(budget_left(&b, 60000), 6);
}

static void throttled(void **state)
{
    static const struct {
        const char *comment;
        int64_t retry_after_s;
        uint64_t pause_s;
    } rows[] = {
        {"absent",  -1,       90  },
        {"zero",    0,        30  },
        {"short",   7,        30  },
        {"as said", 283,      283 },
        {"absurd",  99999999, 3600},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct budget b = one_rule(10, 2, 60000);

        budget_throttled(&b, rows[i].retry_after_s, 5000);
        if (budget_wait_ms(&b, 5000, false) != rows[i].pause_s * 1000 ||
            budget_wait_ms(&b, 5000, true) != rows[i].pause_s * 1000)
            fail_msg("%s: waits %d ms", rows[i].comment,
                     (int)budget_wait_ms(&b, 5000, false));
    }
}

static void a_pause_is_never_shortened(void **state)
{
    struct budget b = one_rule(10, 2, 60000);

    (void)state;
    budget_throttled(&b, 3600, 0);
    budget_throttled(&b, 30, 1000);
    budget_pause(&b, 500);
    assert_int_equal(budget_wait_ms(&b, 0, true), HOUR_MS);
    budget_pause(&b, 2 * HOUR_MS);
    assert_int_equal(budget_wait_ms(&b, 0, true), 2 * HOUR_MS);
}

static void two_429_halve_for_an_hour(void **state)
{
    struct budget b = one_rule(10, 2, 60000);
    uint64_t second = 600 * 1000;

    (void)state;
    budget_throttled(&b, 30, 0);
    budget_throttled(&b, 30, second);
    take(&b, 3, second + 100000);
    assert_int_equal(budget_wait_ms(&b, second + 100000, false), 60000); /* 5 less 2 */
    assert_int_equal(budget_wait_ms(&b, second + 100000, true), 0);
    take(&b, 2, second + 100000);
    assert_int_equal(budget_wait_ms(&b, second + 100000, true), 60000);
    assert_int_equal(budget_left(&b, second + 100000), 0);

    /* Just before the hour ends: free again when it does, not a window later. */
    take(&b, 5, second + HOUR_MS - 1000);
    assert_int_equal(budget_wait_ms(&b, second + HOUR_MS - 1000, false), 1000);
    assert_int_equal(budget_wait_ms(&b, second + HOUR_MS, false), 0);
}

static void two_429_far_apart_do_not(void **state)
{
    struct budget b = one_rule(10, 2, 60000);

    (void)state;
    budget_throttled(&b, 30, 0);
    budget_throttled(&b, 30, 600 * 1000 + 1);
    assert_int_equal(budget_left(&b, 700 * 1000), 8);
}

/* The last ordinary call of a small budget survives halving. */
static void halving_leaves_one(void **state)
{
    (void)state;
    for (unsigned calls = 1; calls <= 20; calls++)
        for (unsigned reserve = 0; 2 * reserve < calls; reserve++) {
            struct budget b = one_rule(calls, reserve, 60000);

            budget_throttled(&b, 30, 0);
            budget_throttled(&b, 30, 0);
            assert_int_equal(budget_wait_ms(&b, 40000, false), 0);
            assert_true(budget_left(&b, 40000) >= 1);
        }
}

static void classes_share_the_total(void **state)
{
    struct budgets b;
    uint64_t t = 0;

    (void)state;
    budgets_init(&b);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(budgets_wait_ms(&b, BUDGET_WRITE, t, false), 0);
        budgets_take(&b, BUDGET_WRITE, t);
    }
    assert_true(budgets_wait_ms(&b, BUDGET_WRITE, t, false) > 0);
    assert_int_equal(budgets_wait_ms(&b, BUDGET_WRITE, t, true), 0);
    assert_int_equal(budgets_wait_ms(&b, BUDGET_READBACK, t, false), 0);
    assert_int_equal(b.of[BUDGET_ALL].held, 8);

    budgets_take(&b, BUDGET_ALL, t);
    assert_int_equal(b.of[BUDGET_ALL].held, 9);
    while (budgets_wait_ms(&b, BUDGET_ALL, t, false) == 0)
        budgets_take(&b, BUDGET_ALL, t);
    assert_true(budgets_wait_ms(&b, BUDGET_READBACK, t, false) > 0);
    assert_int_equal(budgets_wait_ms(&b, BUDGET_WRITE, t, true), 0);
    budget_pause(&b.of[BUDGET_ALL], 777);
    assert_int_equal(budgets_wait_ms(&b, BUDGET_WRITE, t, true), 777);
}

static void the_table_keeps_half_of_what_is_published(void **state)
{
    struct budgets b;

    (void)state;
    budgets_init(&b);
    for (size_t i = 0; i < BUDGET_CLASSES; i++) {
        const struct budget_rule *rule = &b.of[i].rule[0];

        assert_in_range(rule->calls, 1, BUDGET_CALLS_MAX);
        assert_true(2 * rule->reserve < rule->calls);
        assert_true(rule->window_ms > 0);
    }
    assert_true(b.of[BUDGET_WRITE].rule[0].calls * 2 <= 20);
    assert_true(b.of[BUDGET_OBSERVE].rule[0].calls * 2 <= 100);
    assert_true(b.of[BUDGET_ALL].rule[0].calls * 2 <= 500);
}

/* ---- random calls, checked against a plain log of all of them ---- */

enum { CALLS = 4000 };

struct call {
    uint64_t at_ms;
    bool urgent, halved;
};

static uint32_t random_state;

static uint32_t below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

/* Calls of LOG in the window that ends with its last one. */
static unsigned in_window(const struct call *log, unsigned calls, uint32_t window_ms)
{
    uint64_t end = log[calls - 1].at_ms;
    unsigned n = 0;

    while (n < calls && end - log[calls - 1 - n].at_ms < window_ms)
        n++;
    return n;
}

static void check_window(uint32_t seed, const struct budget_rule *rule,
                         const struct call *log, unsigned calls)
{
    const struct call *last = &log[calls - 1];
    unsigned n = in_window(log, calls, rule->window_ms);
    unsigned most = last->halved ? rule->calls / 2u : rule->calls;

    if (most == 0)
        most = 1;
    if (!last->urgent && most > rule->reserve)
        most -= rule->reserve;
    if (n > most)
        fail_msg("seed %u: %u calls in %u ms, allowed %u, halved %d, urgent %d", seed, n,
                 rule->window_ms, most, last->halved, last->urgent);
}

static void random_calls(uint32_t seed)
{
    static struct call log[CALLS];
    struct budget_rule rules[2];
    struct budget b;
    uint64_t now = 0, paused = 0, halved = 0, last_429 = NEVER;
    unsigned calls = 0;

    random_state = seed;
    for (unsigned i = 0; i < 2; i++) {
        rules[i].calls = (uint16_t)(1 + below(i == 0 ? 20 : BUDGET_CALLS_MAX));
        rules[i].reserve = (uint16_t)below((rules[i].calls + 1u) / 2);
        rules[i].window_ms = 1000 + below(i == 0 ? 60000 : 600000);
    }
    budget_init(&b, rules, 2);
    while (calls < CALLS) {
        bool urgent = below(4) == 0;
        uint64_t wait = budget_wait_ms(&b, now, urgent);

        if (below(400) == 0) {
            int64_t retry_s = (int64_t)below(200) - 20;

            budget_throttled(&b, retry_s, now);
            if (last_429 != NEVER && now - last_429 <= 600 * 1000)
                halved = now + HOUR_MS;
            last_429 = now;
            retry_s = retry_s < 0 ? 90 : retry_s < 30 ? 30 : retry_s;
            if (now + (uint64_t)retry_s * 1000 > paused)
                paused = now + (uint64_t)retry_s * 1000;
            continue;
        }
        if (wait > 0 && budget_wait_ms(&b, now + wait - 1, urgent) != 1)
            fail_msg("seed %u: the wait is not exact", seed);
        if (wait > 0 && budget_wait_ms(&b, now + wait, urgent) != 0)
            fail_msg("seed %u: still waiting after the wait", seed);
        if (wait > 0) {
            now += below(2) == 0 ? wait : below(5000);
            continue;
        }
        if (now < paused)
            fail_msg("seed %u: the pause is not kept", seed);
        budget_take(&b, now);
        log[calls++] = (struct call){now, urgent, now < halved};
        for (unsigned i = 0; i < 2; i++)
            check_window(seed, &rules[i], log, calls);
        now += below(3) == 0 ? below(2000) : 0;
    }
}

static void random_calls_keep_every_window(void **state)
{
    const char *text = getenv("EVECC_TEST_SEED");
    uint32_t first = text != NULL ? (uint32_t)strtoul(text, NULL, 0) : 1;

    (void)state;
    for (uint32_t i = 0; i < 50; i++)
        random_calls(first + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exact_window),
        cmocka_unit_test(two_rules),
        cmocka_unit_test(no_rule),
        cmocka_unit_test(the_reserve_is_for_urgent_calls),
        cmocka_unit_test(throttled),
        cmocka_unit_test(a_pause_is_never_shortened),
        cmocka_unit_test(two_429_halve_for_an_hour),
        cmocka_unit_test(two_429_far_apart_do_not),
        cmocka_unit_test(halving_leaves_one),
        cmocka_unit_test(classes_share_the_total),
        cmocka_unit_test(the_table_keeps_half_of_what_is_published),
        cmocka_unit_test(random_calls_keep_every_window),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
