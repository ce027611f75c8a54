/* SPDX-License-Identifier: MIT
 * Logging in, refreshing and staying away, against simulated clouds in simulated time. */
#include "evecc/charger.h"
#include "evecc/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MINUTE_MS = 60 * 1000, HOUR_MS = 3600 * 1000, LIFE_S = 3600, LOG_MAX = 4096 };
static const uint64_t DAY_MS = 24 * HOUR_MS;

/* ---- a cloud that answers every step after LATENCY_MS, as ANSWER says ---- */

enum { LATENCY_MS = 200 };

struct cloud {
    struct session s;
    uint64_t now_ms;
    /* what login, refresh and ordinary calls are answered; ERR_OK grants */
    enum err login, refresh, call;
    int64_t retry_after_s;
    uint64_t call_every_ms; /* 0: no ordinary calls */
    unsigned logins, refreshes, calls;
    struct {
        uint64_t at_ms;
        enum session_step step;
    } log[LOG_MAX];
    unsigned logged;
};

static struct cloud new_cloud(void)
{
    struct cloud c = {.retry_after_s = -1};

    session_init(&c.s, 42);
    return c;
}

static void answer(struct cloud *c, enum session_step step)
{
    enum err err = step == SESSION_LOGIN ? c->login : c->refresh;

    assert_true(c->logged < LOG_MAX);
    c->log[c->logged].at_ms = c->now_ms;
    c->log[c->logged++].step = step;
    if (step == SESSION_LOGIN)
        c->logins++;
    else
        c->refreshes++;
    assert_int_equal(session_next(&c->s, c->now_ms), SESSION_NOTHING); /* one at a time */
    assert_true(session_wake(&c->s, c->now_ms) == NEVER);
    c->now_ms += LATENCY_MS;
    if (err == ERR_OK)
        session_granted(&c->s, LIFE_S, c->now_ms);
    else
        session_failed(&c->s, err, c->retry_after_s, c->now_ms);
}

static void ordinary_call(struct cloud *c)
{
    if (!session_usable(&c->s, c->now_ms))
        return;
    c->calls++;
    if (c->call == ERR_UNAUTHORISED)
        session_rejected(&c->s, c->now_ms);
    else if (c->call == ERR_BLOCKED)
        session_blocked(&c->s, c->now_ms);
    else
        session_accepted(&c->s);
}

/* Runs until UNTIL_MS, from event to event. */
static void run(struct cloud *c, uint64_t until_ms)
{
    uint64_t next_call = c->call_every_ms != 0 ? c->now_ms : NEVER;

    while (c->now_ms < until_ms) {
        uint64_t wake = session_wake(&c->s, c->now_ms);
        enum session_step step;

        if (c->now_ms >= next_call) {
            ordinary_call(c);
            next_call = c->now_ms + c->call_every_ms;
        }
        step = session_next(&c->s, c->now_ms);
        if (step != SESSION_NOTHING) {
            answer(c, step);
            continue;
        }
        wake = session_wake(&c->s, c->now_ms);
        assert_true(wake > c->now_ms);
        if (wake > next_call)
            wake = next_call;
        c->now_ms = wake < until_ms ? wake : until_ms;
    }
}

static uint64_t least_gap(const struct cloud *c)
{
    uint64_t least = NEVER;

    for (unsigned i = 1; i < c->logged; i++)
        if (c->log[i].at_ms - c->log[i - 1].at_ms < least)
            least = c->log[i].at_ms - c->log[i - 1].at_ms;
    return least;
}

/* ---- all is well ---- */

static void a_good_day(void **state)
{
    struct cloud c = new_cloud();

    (void)state;
    assert_false(session_usable(&c.s, 0));
    assert_int_equal(session_wake(&c.s, 0), 0);
    c.call_every_ms = MINUTE_MS;
    run(&c, DAY_MS);
    assert_int_equal(c.logins, 1);
    assert_in_range(c.refreshes, 30, 34); /* 24 h / 45 min */
    assert_in_range(c.calls, 1438, 1441); /* never without a token */
}

static void jitter(void **state)
{
    uint64_t least = NEVER, most = 0;

    (void)state;
    for (uint32_t seed = 0; seed < 1000; seed++) {
        struct session s;

        session_init(&s, seed);
        assert_int_equal(session_next(&s, 0), SESSION_LOGIN);
        session_granted(&s, 10000, 0);
        if (s.refresh_at_ms < least)
            least = s.refresh_at_ms;
        if (s.refresh_at_ms > most)
            most = s.refresh_at_ms;
    }
    assert_in_range(least, 7125000, 7200000);
    assert_in_range(most, 7800000, 7875000);
}

static void lives_are_clamped(void **state)
{
    static const struct {
        int64_t given_s;
        uint64_t life_s;
    } rows[] = {
        {-5,      60    },
        {0,       60    },
        {86400,   86400 },
        {9999999, 604800}
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct session s;

        session_init(&s, 1);
        session_next(&s, 0);
        session_granted(&s, rows[i].given_s, 1000);
        assert_int_equal(s.expires_at_ms, 1000 + rows[i].life_s * 1000);
        assert_true(session_usable(&s, s.expires_at_ms - 1));
        assert_false(session_usable(&s, s.expires_at_ms));
    }
}

/* ---- 401 ---- */

static void one_401_costs_one_refresh(void **state)
{
    struct cloud c = new_cloud();

    (void)state;
    run(&c, 10 * MINUTE_MS);
    session_rejected(&c.s, c.now_ms);
    session_rejected(&c.s, c.now_ms); /* another call with the same token */
    assert_false(session_usable(&c.s, c.now_ms));
    run(&c, 20 * MINUTE_MS);
    assert_int_equal(c.logins, 1);
    assert_int_equal(c.refreshes, 1);
    assert_true(session_usable(&c.s, c.now_ms));
}

static void refresh_then_login_then_backoff(void **state)
{
    struct cloud c = new_cloud();

    (void)state;
    c.call = ERR_UNAUTHORISED;
    c.call_every_ms = 500;
    run(&c, DAY_MS);
    assert_int_equal(c.log[0].step, SESSION_LOGIN);
    assert_int_equal(c.log[1].step, SESSION_REFRESH);
    assert_int_equal(c.refreshes, 1);
    assert_true(least_gap(&c) >= MINUTE_MS);
    assert_int_equal(c.log[2].step, SESSION_LOGIN);
    for (unsigned k = 3; k < 8; k++) {
        uint64_t back_off = (uint64_t)MINUTE_MS << (k - 3);

        assert_true(c.log[k].at_ms - c.log[k - 1].at_ms >= back_off * 9 / 10);
    }
    /* 60 s doubling to 30 min: 6 steps in the first hour, then 2 an hour, a tenth spread.
     */
    assert_in_range(c.logins, 45, 60);

    c.call = ERR_OK; /* it heals */
    run(&c, DAY_MS + 2 * HOUR_MS);
    assert_true(session_usable(&c.s, c.now_ms));
    assert_true(c.logins <= 61);
}

static void everything_401(void **state)
{
    struct cloud c = new_cloud();

    (void)state;
    c.login = c.refresh = c.call = ERR_UNAUTHORISED;
    run(&c, DAY_MS);
    assert_int_equal(c.refreshes, 0);
    assert_true(least_gap(&c) >= MINUTE_MS);
    assert_in_range(c.logins, 45, 60);
}

/* One endpoint that says 401 among good ones: no loop of refreshes. */
static void mixed_401_is_at_most_one_a_minute(void **state)
{
    struct cloud c = new_cloud();

    (void)state;
    while (c.now_ms < HOUR_MS) {
        run(&c, c.now_ms + 1000);
        session_accepted(&c.s);
        session_rejected(&c.s, c.now_ms);
    }
    assert_true(least_gap(&c) >= MINUTE_MS);
}

/* ---- refresh ---- */

static void rejected_refresh_leads_to_one_login(void **state)
{
    static const enum err errors[] = {ERR_UNAUTHORISED, ERR_BAD_REQUEST, ERR_NOT_FOUND};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct cloud c = new_cloud();

        c.refresh = errors[i];
        run(&c, HOUR_MS - 10 * MINUTE_MS);
        assert_int_equal(c.refreshes, 1);
        assert_int_equal(c.logins, 2);
        assert_true(c.log[2].at_ms - c.log[1].at_ms <= LATENCY_MS); /* at once */
        assert_true(session_usable(&c.s, c.now_ms));
    }
}

static void failing_refresh_keeps_the_token(void **state)
{
    static const enum err errors[] = {ERR_SERVER, ERR_TIMEOUT, ERR_RESOLVE, ERR_PARSE};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct cloud c = new_cloud();
        uint64_t expires;

        c.refresh = errors[i];
        run(&c, 50 * MINUTE_MS);
        expires = c.s.expires_at_ms;
        assert_true(c.refreshes >= 2);
        assert_int_equal(c.logins, 1);
        run(&c, expires - 1);
        assert_true(session_usable(&c.s, c.now_ms));
        assert_int_equal(c.logins, 1);
        run(&c, expires + HOUR_MS); /* then there is nothing left to refresh */
        assert_int_equal(c.logins, 2);
        assert_true(least_gap(&c) >= MINUTE_MS);
    }
}

/* ---- a cloud that only fails ---- */

static void only_failures(void **state)
{
    static const struct {
        enum err err;
        unsigned least, most, longest_ms;
    } rows[] = {
        {ERR_SERVER,  45,  60,  30 * MINUTE_MS},
        {ERR_TIMEOUT, 45,  60,  30 * MINUTE_MS},
        {ERR_CONNECT, 285, 325, 5 * MINUTE_MS }, /* it has heard nothing of them */
        {ERR_RESOLVE, 285, 325, 5 * MINUTE_MS }
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cloud c = new_cloud();

        c.login = rows[i].err;
        run(&c, DAY_MS);
        assert_true(least_gap(&c) >= MINUTE_MS);
        assert_in_range(c.logins, rows[i].least, rows[i].most);
        for (unsigned k = 1; k < 5; k++) { /* 60, 120, 240, 480 s less a tenth */
            uint64_t gap = c.log[k].at_ms - c.log[k - 1].at_ms;
            uint64_t step = earlier((uint64_t)MINUTE_MS << (k - 1), rows[i].longest_ms);

            assert_in_range(gap, step * 9 / 10, step + LATENCY_MS);
        }
        c.login = ERR_OK;
        run(&c, DAY_MS + HOUR_MS);
        assert_true(session_usable(&c.s, c.now_ms));
    }
}

/* Nothing comes back: the one request stays the only one. */
static void silence(void **state)
{
    struct session s;

    (void)state;
    session_init(&s, 7);
    assert_int_equal(session_next(&s, 0), SESSION_LOGIN);
    for (uint64_t t = 0; t < DAY_MS; t += 1000)
        assert_int_equal(session_next(&s, t), SESSION_NOTHING);
    assert_true(session_wake(&s, DAY_MS) == NEVER);
}

static void only_429(void **state)
{
    struct cloud c = new_cloud();

    (void)state;
    c.login = ERR_THROTTLED;
    c.retry_after_s = 7;
    run(&c, DAY_MS);
    /* 1 min, then blocks of 1, 2, 4, 8, 16 h */
    assert_in_range(c.logins, 5, 7);
    assert_true(c.log[1].at_ms >= MINUTE_MS);
    assert_true(c.log[2].at_ms - c.log[1].at_ms >= HOUR_MS);
    assert_true(c.log[3].at_ms - c.log[2].at_ms >= 2 * HOUR_MS);
}

static void retry_after_is_obeyed(void **state)
{
    struct cloud c = new_cloud();

    (void)state;
    c.login = ERR_THROTTLED;
    c.retry_after_s = 283;
    run(&c, 200 * 1000);
    assert_int_equal(c.logins, 1);
    c.login = ERR_OK;
    run(&c, 300 * 1000);
    assert_int_equal(c.logins, 2);
    assert_true(c.log[1].at_ms >= 283 * 1000);
}

/* 429, something else, 429: not twice running. */
static void throttled_not_in_a_row(void **state)
{
    struct session s;

    (void)state;
    session_init(&s, 1);
    for (unsigned i = 0; i < 6; i++) {
        uint64_t t = session_wake(&s, 0);

        assert_int_equal(session_next(&s, t), SESSION_LOGIN);
        session_failed(&s, i % 2 == 0 ? ERR_THROTTLED : ERR_SERVER, -1, t);
    }
    assert_int_equal(s.blocked_until_ms, 0);
}

/* ---- blocks ---- */

static void blocks_double_to_a_day(void **state)
{
    struct cloud c = new_cloud();
    static const unsigned hours[] = {1, 2, 4, 8, 16, 24, 24};

    (void)state;
    c.login = ERR_FORBIDDEN;
    run(&c, 5 * DAY_MS);
    for (unsigned i = 0; i < 7; i++) {
        uint64_t gap = c.log[i + 1].at_ms - c.log[i].at_ms;
        uint64_t block = hours[i] * (uint64_t)HOUR_MS;

        assert_in_range(gap, block, block + MINUTE_MS);
    }
}

static void a_block_silences_everything(void **state)
{
    struct cloud c = new_cloud();

    (void)state;
    c.call_every_ms = MINUTE_MS;
    run(&c, 10 * MINUTE_MS);
    session_blocked(&c.s, c.now_ms);
    session_blocked(&c.s, c.now_ms); /* calls that were out already */
    assert_false(session_usable(&c.s, c.now_ms));
    c.calls = c.refreshes = 0;
    run(&c, 10 * MINUTE_MS + HOUR_MS - 1000);
    assert_int_equal(c.calls + c.refreshes, 0);
    run(&c, 10 * MINUTE_MS + HOUR_MS + 2 * MINUTE_MS); /* one hour, not two */
    assert_true(c.calls > 0);
    session_blocked(&c.s, c.now_ms); /* good calls in between: an hour again */
    assert_int_equal(c.s.blocked_until_ms, c.now_ms + HOUR_MS);
}

/* What only one endpoint dislikes about the token stops nothing else meanwhile. */
static void renewal_keeps_the_token(void **state)
{
    struct cloud c = new_cloud();

    (void)state;
    c.call_every_ms = 1000;
    run(&c, MINUTE_MS / 2);
    session_renew(&c.s, c.now_ms);
    assert_true(session_usable(&c.s, c.now_ms));
    run(&c, MINUTE_MS);
    assert_int_equal(c.refreshes, 0); /* 60 s after the login */
    run(&c, 3 * MINUTE_MS);
    assert_int_equal(c.refreshes, 1);
    assert_int_equal(c.logins, 1);
    assert_in_range(c.calls, 179, 181);
    assert_int_equal(c.s.rejections, 0);

    session_rejected(&c.s, c.now_ms); /* nothing to renew */
    session_renew(&c.s, c.now_ms);
    assert_false(session_usable(&c.s, c.now_ms));
}

static void blocked_calls_double_although_login_works(void **state)
{
    struct cloud c = new_cloud();

    (void)state;
    c.call = ERR_BLOCKED;
    c.call_every_ms = 1000;
    run(&c, 5 * DAY_MS);
    assert_in_range(c.calls, 8, 9); /* 1+2+4+8+16 h, then one a day */
}

/* ---- credentials ---- */

static void refused_credentials_once_an_hour(void **state)
{
    struct cloud c = new_cloud();

    (void)state;
    c.login = ERR_CREDENTIALS;
    run(&c, DAY_MS);
    assert_int_equal(c.logins, 24);
    assert_true(least_gap(&c) >= HOUR_MS);
    assert_true(c.s.credentials_refused);
    c.login = ERR_OK;
    run(&c, DAY_MS + HOUR_MS);
    assert_false(c.s.credentials_refused);
    assert_true(session_usable(&c.s, c.now_ms));
}

static void new_credentials_are_tried_soon(void **state)
{
    struct cloud c = new_cloud();

    (void)state;
    c.login = ERR_CREDENTIALS;
    run(&c, 1000);
    session_reset(&c.s, c.now_ms);
    assert_false(c.s.credentials_refused);
    c.login = ERR_OK;
    run(&c, MINUTE_MS - 1);
    assert_int_equal(c.logins, 1); /* 60 s between logins, whoever asks */
    run(&c, 2 * MINUTE_MS);
    assert_int_equal(c.logins, 2);
    assert_true(session_usable(&c.s, c.now_ms));
}

/* What the old credentials bring no longer counts when new ones came meanwhile. */
static void credentials_change_during_a_login(void **state)
{
    static const enum err ends[] = {ERR_OK, ERR_CREDENTIALS, ERR_TIMEOUT};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct session s;

        session_init(&s, 1);
        assert_int_equal(session_next(&s, 0), SESSION_LOGIN);
        session_reset(&s, 10);
        assert_int_equal(session_next(&s, 20), SESSION_NOTHING);
        if (ends[i] == ERR_OK)
            session_granted(&s, LIFE_S, 30);
        else
            session_failed(&s, ends[i], -1, 30);
        assert_false(s.credentials_refused);
        assert_false(session_usable(&s, 40));
        assert_in_range(session_wake(&s, 40), MINUTE_MS, MINUTE_MS + 1000);
        assert_int_equal(session_next(&s, MINUTE_MS + 1000), SESSION_LOGIN);
    }
}

/* ---- random clouds ---- */

static void a_token_from_before_a_restart_is_used_on(void **state)
{
    struct session s;

    (void)state;
    session_init(&s, 1);
    session_resume(&s, 100 * HOUR_MS, 75 * HOUR_MS);
    assert_true(session_usable(&s, 60 * HOUR_MS));
    assert_int_equal(session_next(&s, 60 * HOUR_MS), SESSION_NOTHING);
    assert_int_equal(session_wake(&s, 60 * HOUR_MS), 75 * HOUR_MS);
    assert_int_equal(session_next(&s, 75 * HOUR_MS), SESSION_REFRESH);
    session_granted(&s, 3600, 75 * HOUR_MS);
    assert_true(session_usable(&s, 75 * HOUR_MS));

    session_init(&s, 1);
    session_resume(&s, 100 * HOUR_MS, 75 * HOUR_MS);
    assert_false(session_usable(&s, 101 * HOUR_MS)); /* it was a long pause */
    assert_int_equal(session_next(&s, 101 * HOUR_MS), SESSION_LOGIN);
}

static uint32_t random_state;

static uint32_t below(uint32_t n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

static enum err random_err(void)
{
    static const enum err errors[] = {
        ERR_OK,          ERR_OK,          ERR_OK,           ERR_SERVER,
        ERR_TIMEOUT,     ERR_THROTTLED,   ERR_UNAUTHORISED, ERR_FORBIDDEN,
        ERR_CREDENTIALS, ERR_BAD_REQUEST, ERR_PARSE,
    };

    return errors[below(sizeof errors / sizeof errors[0])];
}

/* A random cloud for ten days, then a good one: no two steps within a minute but a login
 * after a spent refresh; and a token in the end. */
static void random_cloud(uint32_t seed)
{
    struct cloud c = new_cloud();

    random_state = seed;
    session_init(&c.s, seed);
    c.call_every_ms = 10 * 1000;
    while (c.now_ms < 10 * DAY_MS) {
        c.login = random_err();
        c.refresh = random_err();
        c.call = below(3) == 0 ? ERR_UNAUTHORISED : ERR_OK;
        c.retry_after_s = (int64_t)below(4000) - 200;
        run(&c, c.now_ms + below(HOUR_MS));
    }
    for (unsigned i = 1; i < c.logged; i++)
        if (c.log[i].at_ms - c.log[i - 1].at_ms < MINUTE_MS &&
            !(c.log[i - 1].step == SESSION_REFRESH && c.log[i].step == SESSION_LOGIN))
            fail_msg("seed %u: two steps within a minute at %llu", seed,
                     (unsigned long long)c.log[i].at_ms);
    c.login = c.refresh = c.call = ERR_OK;
    run(&c, c.now_ms + DAY_MS + HOUR_MS);
    if (!session_usable(&c.s, c.now_ms))
        fail_msg("seed %u: no token although the cloud is well", seed);
}

static void random_clouds(void **state)
{
    const char *text = getenv("EVECC_TEST_SEED");
    uint32_t first = text != NULL ? (uint32_t)strtoul(text, NULL, 0) : 1;

    (void)state;
    for (uint32_t i = 0; i < 50; i++)
        random_cloud(first + i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_day),
        cmocka_unit_test(jitter),
        cmocka_unit_test(lives_are_clamped),
        cmocka_unit_test(one_401_costs_one_refresh),
        cmocka_unit_test(refresh_then_login_then_backoff),
        cmocka_unit_test(everything_401),
        cmocka_unit_test(mixed_401_is_at_most_one_a_minute),
        cmocka_unit_test(rejected_refresh_leads_to_one_login),
        cmocka_unit_test(failing_refresh_keeps_the_token),
        cmocka_unit_test(only_failures),
        cmocka_unit_test(silence),
        cmocka_unit_test(only_429),
        cmocka_unit_test(retry_after_is_obeyed),
        cmocka_unit_test(throttled_not_in_a_row),
        cmocka_unit_test(blocks_double_to_a_day),
        cmocka_unit_test(a_block_silences_everything),
        cmocka_unit_test(renewal_keeps_the_token),
        cmocka_unit_test(blocked_calls_double_although_login_works),
        cmocka_unit_test(refused_credentials_once_an_hour),
        cmocka_unit_test(new_credentials_are_tried_soon),
        cmocka_unit_test(credentials_change_during_a_login),
        cmocka_unit_test(a_token_from_before_a_restart_is_used_on),
        cmocka_unit_test(random_clouds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
