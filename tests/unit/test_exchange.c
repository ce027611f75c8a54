/* SPDX-License-Identifier: MIT
 * test_exchange.c - one slot per circuit and direction, newest value wins, two threads.
 */
#include "evecc/exchange.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CIRCUITS = 3, PUTS = 20000 };

static void nothing_is_new_at_first(void **state)
{
    (void)state;
    struct exchange *x = exchange_new(CIRCUITS);
    struct want want = {.id = 77};
    struct status status = {.faults = 77};
    struct cloud_counts counts = {.calls = 77};
    uint64_t seen = 0;

    assert_false(exchange_take_want(x, 0, &seen, &want));
    assert_false(exchange_take_status(x, 0, &seen, &status));
    assert_false(exchange_take_counts(x, &seen, &counts));
    assert_int_equal(seen, 0);
    assert_int_equal(want.id, 77);
    assert_int_equal(status.faults, 77);
    assert_int_equal(counts.calls, 77);
    exchange_free(x);
}

static void the_newest_value_is_taken_once(void **state)
{
    (void)state;
    struct exchange *x = exchange_new(CIRCUITS);
    struct want want = {0};
    uint64_t seen = 0, other = 0;

    for (uint32_t i = 1; i <= 3; i++)
        exchange_put_want(x, 1, &(struct want){.id = i, .power_w = 1000 * i});
    assert_false(exchange_take_want(x, 0, &other, &want));
    assert_false(exchange_take_want(x, 2, &other, &want));
    assert_true(exchange_take_want(x, 1, &seen, &want));
    assert_int_equal(want.id, 3);
    assert_int_equal(want.power_w, 3000);
    assert_false(exchange_take_want(x, 1, &seen, &want));

    exchange_put_want(x, 1, &(struct want){.id = 3, .power_w = 3000});
    assert_true(exchange_take_want(x, 1, &seen, &want)); /* equal, and still newer */
    exchange_free(x);
}

static void directions_do_not_mix(void **state)
{
    (void)state;
    struct exchange *x = exchange_new(CIRCUITS);
    struct want want;
    struct status status;
    struct cloud_counts counts;
    uint64_t wants = 0, statuses = 0, puts = 0;

    exchange_put_status(x, 2, &(struct status){.faults = 5});
    exchange_put_counts(x, &(struct cloud_counts){.last_error = "gone"});
    assert_false(exchange_take_want(x, 2, &wants, &want));
    assert_true(exchange_take_status(x, 2, &statuses, &status));
    assert_int_equal(status.faults, 5);
    assert_true(exchange_take_counts(x, &puts, &counts));
    assert_string_equal(counts.last_error, "gone");
    exchange_free(x);
}

static void count_wake(void *arg)
{
    ++*(int *)arg;
}

static void only_a_want_wakes(void **state)
{
    (void)state;
    struct exchange *x = exchange_new(CIRCUITS);
    int wakes = 0;

    exchange_put_want(x, 0, &(struct want){.id = 1}); /* nobody to wake yet */
    exchange_on_want(x, count_wake, &wakes);
    exchange_put_status(x, 0, &(struct status){0});
    exchange_put_counts(x, &(struct cloud_counts){0});
    assert_int_equal(wakes, 0);
    exchange_put_want(x, 0, &(struct want){.id = 2});
    exchange_put_want(x, 2, &(struct want){.id = 1});
    assert_int_equal(wakes, 2);
    exchange_free(x);
}

/* Takes inside the wake: the lock is not held there. */
struct taker {
    struct exchange *x;
    uint64_t seen, id;
};

static void take_at_once(void *arg)
{
    struct taker *t = arg;
    struct want want;
    assert_true(exchange_take_want(t->x, 0, &t->seen, &want));
    t->id = want.id;
}

static void the_wake_may_take(void **state)
{
    (void)state;
    struct taker t = {.x = exchange_new(1)};
    exchange_on_want(t.x, take_at_once, &t);
    exchange_put_want(t.x, 0, &(struct want){.id = 9});
    assert_int_equal(t.id, 9);
    exchange_free(t.x);
}

/* The other thread puts wants whose fields belong together, then leaves. */
static void *put_wants(void *arg)
{
    struct exchange *x = arg;
    for (uint32_t i = 1; i <= PUTS; i++) {
        struct want w = {.id = i, .power_w = i, .resends = i};
        exchange_put_want(x, i % CIRCUITS, &w);
    }
    return NULL;
}

/* Puts statuses until it has seen the last want of every circuit; returns torn values
 * seen. */
static void *put_statuses(void *arg)
{
    struct exchange *x = arg;
    uint64_t seen[CIRCUITS] = {0}, newest[CIRCUITS] = {0};
    uintptr_t torn = 0;
    for (unsigned turn = 0, last = 0; last < CIRCUITS; turn++) {
        struct want w;
        size_t i = turn % CIRCUITS;
        exchange_put_status(x, i, &(struct status){.faults = turn, .capabilities = turn});
        exchange_put_counts(x, &(struct cloud_counts){.calls = turn, .errors = turn});
        if (!exchange_take_want(x, i, &seen[i], &w))
            continue;
        torn += w.power_w != w.id || w.resends != w.id || w.id <= newest[i];
        newest[i] = w.id;
        last += w.id > PUTS - CIRCUITS;
    }
    return (void *)torn;
}

static void values_cross_threads_whole_and_in_order(void **state)
{
    (void)state;
    struct exchange *x = exchange_new(CIRCUITS);
    pthread_t modbus, sync;
    void *torn;
    uint64_t statuses = 0, puts = 0;
    struct status s;
    struct cloud_counts c;

    assert_int_equal(pthread_create(&sync, NULL, put_statuses, x), 0);
    assert_int_equal(pthread_create(&modbus, NULL, put_wants, x), 0);
    for (int i = 0; i < PUTS; i++) {
        if (exchange_take_status(x, 0, &statuses, &s))
            assert_int_equal(s.faults, s.capabilities);
        if (exchange_take_counts(x, &puts, &c))
            assert_int_equal(c.calls, c.errors);
    }
    assert_int_equal(pthread_join(modbus, NULL), 0);
    assert_int_equal(pthread_join(sync, &torn), 0);
    assert_int_equal((uintptr_t)torn, 0);
    exchange_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_new_at_first),
        cmocka_unit_test(the_newest_value_is_taken_once),
        cmocka_unit_test(directions_do_not_mix),
        cmocka_unit_test(only_a_want_wakes),
        cmocka_unit_test(the_wake_may_take),
        cmocka_unit_test(values_cross_threads_whole_and_in_order),
    };
    return cmocka_run_group_tests_name("exchange", tests, NULL, NULL);
}
