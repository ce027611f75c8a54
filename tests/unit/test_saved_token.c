/* SPDX-License-Identifier: MIT */
#include "evecc/saved_token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct token_owner owner = {"https://api.example.org", "an owner@home", 7};
static const struct state_clock clock_then = {
    .now_ms = 1000000, .unix_ms = 1800000000000, .boot_id = "boot"};
static const struct saved_token token = {
    .token = {.access = "access", .refresh = "refresh"},
    .expires_at_ms = 4600000,
    .refresh_at_ms = 3700000
};

static char dir[] = "/tmp/evecc-token-XXXXXX";
static struct store *store;

static int set_up(void **state)
{
    char why[256];

    (void)state;
    if (mkdtemp(dir) == NULL || store_open(&store, dir, true, why, sizeof why) != ERR_OK)
        return -1;
    return saved_token_write(store, &owner, &token, &clock_then) == ERR_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[64];

    (void)state;
    store_free(store);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static bool found(struct token_owner who)
{
    struct saved_token t = {0};

    return saved_token_read(store, &who, &clock_then, &t);
}

static void what_was_saved_is_read(void **state)
{
    struct saved_token t = {0};

    (void)state;
    assert_true(saved_token_read(store, &owner, &clock_then, &t));
    assert_string_equal(t.token.access, "access");
    assert_string_equal(t.token.refresh, "refresh");
    assert_int_equal(t.expires_at_ms, token.expires_at_ms);
    assert_int_equal(t.refresh_at_ms, token.refresh_at_ms);
}

static void it_ages_across_a_reboot(void **state)
{
    const struct state_clock later = {
        .now_ms = 5000, .unix_ms = clock_then.unix_ms + 600000, .boot_id = "another"};
    struct saved_token t = {0};

    (void)state;
    assert_true(saved_token_read(store, &owner, &later, &t));
    assert_int_equal(t.expires_at_ms, later.now_ms + 3600000 - 600000);
    assert_int_equal(t.refresh_at_ms, later.now_ms + 2700000 - 600000);
}

static void a_clock_that_went_back_tells_no_age(void **state)
{
    const struct state_clock before = {
        .now_ms = 5000, .unix_ms = clock_then.unix_ms - 600000, .boot_id = "another"};
    struct saved_token t = {0};

    (void)state;
    assert_false(saved_token_read(store, &owner, &before, &t));
}

static void it_is_nobody_elses(void **state)
{
    (void)state;
    assert_true(found(owner));
    assert_true(found((struct token_owner){owner.api_url, owner.username, -1}));
    assert_false(found((struct token_owner){"https://example.net", owner.username, 7}));
    assert_false(found((struct token_owner){owner.api_url, "an owner", 7}));
    assert_false(found((struct token_owner){owner.api_url, owner.username, 8}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_saved_is_read),
        cmocka_unit_test(it_ages_across_a_reboot),
        cmocka_unit_test(a_clock_that_went_back_tells_no_age),
        cmocka_unit_test(it_is_nobody_elses)};

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
