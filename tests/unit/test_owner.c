/* SPDX-License-Identifier: MIT */
#include "evecc/owner.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { TIMEOUT_MS = 60000 };

static const uint8_t a[16] = {[15] = 1}, b[16] = {[15] = 2};

static void only_first_refuses(void **state)
{
    (void)state;
    for (enum owner_rule rule = OWNER_NONE; rule <= OWNER_LAST; rule++) {
        struct owner o = {0};
        assert_true(owner_allows(&o, rule, a, 0));
        assert_true(owner_wrote(&o, a, 1000, TIMEOUT_MS));
        assert_true(owner_allows(&o, rule, a, 1000));
        assert_int_equal(owner_allows(&o, rule, b, 1000), rule != OWNER_FIRST);
        assert_int_equal(owner_allows(&o, rule, b, 1000 + TIMEOUT_MS - 1),
                         rule != OWNER_FIRST);
        assert_true(owner_allows(&o, rule, b, 1000 + TIMEOUT_MS));
    }
}

static void writing_renews_it(void **state)
{
    struct owner o = {0};
    (void)state;
    assert_true(owner_wrote(&o, a, 1000, TIMEOUT_MS));
    for (uint64_t t = 2000; t < 10 * TIMEOUT_MS; t += TIMEOUT_MS - 1) {
        assert_false(owner_wrote(&o, a, t, TIMEOUT_MS));
        assert_false(owner_allows(&o, OWNER_FIRST, b, t + TIMEOUT_MS - 1));
    }
}

static void a_change_is_told(void **state)
{
    struct owner o = {0};
    (void)state;
    assert_true(owner_wrote(&o, a, 1, TIMEOUT_MS));
    assert_true(owner_wrote(&o, b, 2, TIMEOUT_MS));
    assert_true(owner_wrote(&o, a, 3, TIMEOUT_MS));
    assert_false(owner_wrote(&o, a, 4, TIMEOUT_MS));
    assert_true(owner_wrote(&o, a, 4 + TIMEOUT_MS, TIMEOUT_MS)); /* it had lapsed */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_first_refuses),
        cmocka_unit_test(writing_renews_it),
        cmocka_unit_test(a_change_is_told),
    };
    return cmocka_run_group_tests_name("owner", tests, NULL, NULL);
}
