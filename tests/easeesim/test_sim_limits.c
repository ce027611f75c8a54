/* SPDX-License-Identifier: MIT */
#include "limits.h"
#include "tokens.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct limits l;

static void test_window_slides(void **state)
{
    (void)state;
    limits_init(&l);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(limits_take(&l, LIMIT_circuit_write, "a", 1000 + i * 1000), 0);
    /* the first call leaves the window of 60 s at 61.0 s */
    assert_int_equal(limits_take(&l, LIMIT_circuit_write, "a", 21000), 40000);
    assert_int_equal(limits_take(&l, LIMIT_circuit_write, "a", 60999), 1);
    assert_int_equal(limits_take(&l, LIMIT_circuit_write, "b", 60999), 0);
    assert_int_equal(limits_take(&l, LIMIT_charger_write, "a", 60999), 0);
    assert_int_equal(limits_take(&l, LIMIT_circuit_write, "a", 61000), 0);
    assert_int_equal(limits_take(&l, LIMIT_circuit_write, "a", 61000), 1000);
}

static void test_published_figures(void **state)
{
    static const struct {
        enum limit_class class;
        unsigned calls, window_s;
    } published[] = {
        {LIMIT_all,           500, 300 },
        {LIMIT_circuit_write, 20,  60  },
        {LIMIT_charger_write, 20,  60  },
        {LIMIT_chargers,      2,   60  },
        {LIMIT_site,          10,  3600},
        {LIMIT_poll_opmode,   1,   180 },
        {LIMIT_observations,  100, 300 },
        {LIMIT_poll_energy,   1,   180 },
    };

    (void)state;
    for (unsigned i = 0; i < sizeof published / sizeof published[0]; i++) {
        limits_init(&l);
        for (unsigned n = 0; n < published[i].calls; n++)
            assert_int_equal(limits_take(&l, published[i].class, "a", 5), 0);
        if (limits_take(&l, published[i].class, "a", 5) !=
            published[i].window_s * 1000ULL)
            fail_msg("class %s", limits_name(published[i].class));
    }
}

/* Against the definition: never more calls than allowed in any window, and none refused
 * that fits. */
static void test_window_property(void **state)
{
    enum { CALLS = 3000 };
    static uint64_t passed[CALLS];
    unsigned n = 0, seed = 20240229;
    uint64_t now = 0;

    (void)state;
    limits_init(&l);
    print_message("seed %u\n", seed);
    srand(seed);
    for (unsigned i = 0; i < CALLS; i++) {
        unsigned recent = 0;

        now += (uint64_t)(rand() % 4 ? rand() % 1500 : rand() % 60000);
        for (unsigned k = n; k-- > 0 && passed[k] + 60000 > now;)
            recent++;
        if (limits_take(&l, LIMIT_charger_write, "x", now) == 0) {
            assert_true(recent < 20);
            passed[n++] = now;
        } else {
            assert_int_equal(recent, 20);
        }
    }
}

static void test_block_restarts_at_each_request(void **state)
{
    const uint64_t day = 24 * 3600 * 1000;

    (void)state;
    limits_init(&l);
    for (unsigned i = 0; i < 49; i++)
        limits_excess(&l, "1.2.3.4", 1000);
    assert_false(limits_blocked(&l, "1.2.3.4", 1000));
    limits_excess(&l, "1.2.3.4", 2000);
    assert_false(limits_blocked(&l, "1.2.3.5", 2000));
    assert_true(limits_any_blocked(&l, 2000));
    assert_true(limits_blocked(&l, "1.2.3.4", 1000 + day));
    assert_true(limits_blocked(&l, "1.2.3.4", 999 + 2 * day));
    assert_true(limits_any_blocked(&l, 998 + 3 * day));
    assert_false(limits_blocked(&l, "1.2.3.4", 999 + 3 * day));
}

static void test_rare_excess_does_not_block(void **state)
{
    (void)state;
    limits_init(&l);
    for (uint64_t i = 0; i < 500; i++)
        limits_excess(&l, "::1", i * 100 * 1000);
    assert_false(limits_blocked(&l, "::1", 500 * 100 * 1000));
}

static void test_off(void **state)
{
    (void)state;
    limits_init(&l);
    l.off = true;
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(limits_take(&l, LIMIT_chargers, "a", 5), 0);
}

static void test_many_clients_reuse_windows(void **state)
{
    char key[32];

    (void)state;
    limits_init(&l);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "client %u", i);
        assert_int_equal(limits_take(&l, LIMIT_chargers, key, i), 0);
        assert_false(limits_blocked(&l, key, i));
    }
    assert_int_equal(limits_take(&l, LIMIT_chargers, key, 1000), 0);
    assert_int_equal(limits_take(&l, LIMIT_chargers, key, 1000), 59999);
}

static struct tokens t;

static void test_tokens_expire_and_rotate(void **state)
{
    char access[TOKEN_SIZE], refresh[TOKEN_SIZE];
    const struct token_pair *p;

    (void)state;
    tokens_init(&t, 7);
    p = tokens_issue(&t, 3, 1000, 1700000000000);
    snprintf(access, sizeof access, "%s", p->access);
    snprintf(refresh, sizeof refresh, "%s", p->refresh);
    assert_string_not_equal(access, refresh);
    assert_int_equal(tokens_owner(&t, access, 1000), 3);
    assert_int_equal(tokens_owner(&t, access, 1000 + ACCESS_MS - 1), 3);
    assert_int_equal(tokens_owner(&t, access, 1000 + ACCESS_MS), -1);
    assert_int_equal(tokens_owner(&t, refresh, 1000), -1);
    assert_int_equal(tokens_owner(&t, "", 1000), -1);
    assert_int_equal(tokens_redeem(&t, access, 1000), -1);
    assert_int_equal(tokens_redeem(&t, refresh, 2000), 3);
    assert_int_equal(tokens_redeem(&t, refresh, 2000), -1);
    p = tokens_issue(&t, 3, 2000, 1700000001000);
    assert_string_not_equal(p->access, access);
    assert_int_equal(tokens_redeem(&t, p->refresh, 2000 + REFRESH_MS), -1);
    tokens_expire_access(&t);
    assert_int_equal(tokens_owner(&t, p->access, 2000), -1);
    tokens_revoke_refresh(&t);
    assert_int_equal(tokens_redeem(&t, p->refresh, 2000), -1);
}

static void test_unused_tokens_match_nothing(void **state)
{
    (void)state;
    tokens_init(&t, 7);
    assert_int_equal(tokens_owner(&t, "", 0), -1);
    assert_int_equal(tokens_redeem(&t, "", 0), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_slides),
        cmocka_unit_test(test_published_figures),
        cmocka_unit_test(test_window_property),
        cmocka_unit_test(test_block_restarts_at_each_request),
        cmocka_unit_test(test_rare_excess_does_not_block),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_many_clients_reuse_windows),
        cmocka_unit_test(test_tokens_expire_and_rotate),
        cmocka_unit_test(test_unused_tokens_match_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
