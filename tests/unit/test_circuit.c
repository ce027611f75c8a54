/* SPDX-License-Identifier: MIT
 * What is told to the cloud about one circuit, and when: rule by rule.  test_month.c runs
 * all of them together. */
#include "evecc/circuit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECONDS 1000ull
#define MINUTES (60 * SECONDS)
#define HOURS   (60 * MINUTES)

static const int64_t UNIX0 = 1790000000000;

/* ---- one circuit, its budgets, its client and its time ---- */

struct bench {
    struct circuit c;
    struct budgets b;
    struct want want;
    uint64_t now_ms;
    struct status status;
};

static struct circuit_config config(void)
{
    return (struct circuit_config){
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
}

static void init(struct bench *t, const struct circuit_config *cfg)
{
    memset(t, 0, sizeof *t);
    t->now_ms = 1000 * SECONDS;
    budgets_init(&t->b);
    circuit_init(&t->c, cfg, 7);
    t->want = (struct want){
        .power_w = NA_U32,
        .current_da = NA_U16,
        .phase_da = {NA_U16, NA_U16, NA_U16},
        .enable = true
    };
}

static void observe(struct bench *t, uint16_t id, double number)
{
    struct observation o = {.at_unix_ms = UNIX0 + (int64_t)t->now_ms,
                            .number = number,
                            .id = id,
                            .is_number = true};

    circuit_observe(&t->c, 0, &o, UNIX0 + (int64_t)t->now_ms, t->now_ms);
}

static void report(struct bench *t, unsigned l1, unsigned l2, unsigned l3)
{
    observe(t, 111, l1);
    observe(t, 112, l2);
    observe(t, 113, l3);
    circuit_decide(&t->c, t->now_ms);
}

static void done(struct bench *t, enum request_kind kind, enum err err,
                 uint16_t http_status)
{
    struct outcome o = {
        .kind = kind, .err = err, .http_status = http_status, .retry_after_s = -1};

    circuit_done(&t->c, &t->b, &o, t->now_ms);
}

static const struct status *status(struct bench *t)
{
    circuit_status(&t->c, &t->b, t->now_ms, &t->status);
    return &t->status;
}

/* Nothing may start now. */
static void expect_nothing(struct bench *t)
{
    struct request r;

    if (circuit_next(&t->c, &t->b, t->now_ms, &r))
        fail_msg("unexpected request %d: %u/%u/%u", (int)r.kind, r.amps.l[0], r.amps.l[1],
                 r.amps.l[2]);
    assert_true(circuit_wake(&t->c, &t->b, t->now_ms) > t->now_ms);
}

static void expect_set(struct bench *t, unsigned l1, unsigned l2, unsigned l3)
{
    struct request r;

    if (!circuit_next(&t->c, &t->b, t->now_ms, &r))
        fail_msg("nothing to do, but %u/%u/%u expected", l1, l2, l3);
    if (r.kind != REQUEST_SET || r.amps.l[0] != l1 || r.amps.l[1] != l2 ||
        r.amps.l[2] != l3)
        fail_msg("request %d: %u/%u/%u instead of %u/%u/%u", (int)r.kind, r.amps.l[0],
                 r.amps.l[1], r.amps.l[2], l1, l2, l3);
}

/* ... and the charger does it at once. */
static void expect_obeyed(struct bench *t, unsigned l1, unsigned l2, unsigned l3)
{
    expect_set(t, l1, l2, l3);
    done(t, REQUEST_SET, ERR_OK, 200);
    report(t, l1, l2, l3);
}

static void expect_read(struct bench *t, enum request_kind kind)
{
    struct request r;

    assert_true(circuit_next(&t->c, &t->b, t->now_ms, &r));
    assert_int_equal(r.kind, kind);
}

/* Reads that are due and would only be in the way. */
static void skip_reads(struct bench *t)
{
    struct request r;

    while (circuit_press(&t->c, &t->b, t->now_ms) == 0 &&
           circuit_next(&t->c, &t->b, t->now_ms, &r))
        done(t, r.kind, ERR_SERVER, 500);
}

static void later_by(struct bench *t, uint64_t ms)
{
    t->now_ms += ms;
    skip_reads(t);
}

/* The client writes what is in t->want. */
static void write_wish(struct bench *t)
{
    t->want.id++;
    t->want.seq = (uint16_t)(100 + t->want.id);
    t->want.accepted_at_ms = t->want.fed_at_ms = t->now_ms;
    circuit_want(&t->c, &t->want, t->now_ms);
}

static void wish_w(struct bench *t, uint32_t power_w)
{
    t->want.power_w = power_w;
    write_wish(t);
}

static void read_back(struct bench *t, uint16_t l1, uint16_t l2, uint16_t l3)
{
    struct outcome o = {
        .kind = REQUEST_READBACK,
        .http_status = 200,
        .retry_after_s = -1,
        .reported_da = {l1, l2, l3}
    };

    circuit_done(&t->c, &t->b, &o, t->now_ms);
}

/* A TN grid, one charger, nothing sent yet. */
static void start_with(struct bench *t, const struct circuit_config *cfg)
{
    init(t, cfg);
    circuit_found(&t->c, 1, true, t->now_ms);
    expect_read(t, REQUEST_OBSERVE);
    observe(t, 21, 1);
    done(t, REQUEST_OBSERVE, ERR_OK, 200);
}

static void start(struct bench *t)
{
    struct circuit_config cfg = config();

    start_with(t, &cfg);
}

/* ... and POWER_W in force at AMPS, confirmed a minute ago. */
static void start_at(struct bench *t, uint32_t power_w, unsigned a)
{
    start(t);
    wish_w(t, power_w);
    expect_obeyed(t, a, a, a);
    assert_int_equal(status(t)->progress.stage, STAGE_CONFIRMED);
    circuit_events(&t->c);
    later_by(t, 61 * SECONDS);
}

/* ... 4200 W in force at 6 A, and the call for 10 A has left. */
static void start_raise(struct bench *t)
{
    start_at(t, 4200, 6);
    wish_w(t, 7400);
    expect_set(t, 10, 10, 10);
}

/* Ten minutes in which somebody else always sets 16 A; how often 10 A was sent. */
static unsigned overrule(struct bench *t)
{
    uint64_t end = t->now_ms + 10 * MINUTES;
    unsigned sets = 0;

    while (t->now_ms < end) {
        struct request r;

        report(t, 16, 16, 16);
        later_by(t, 4 * SECONDS);
        if (circuit_press(&t->c, &t->b, t->now_ms) > 0 &&
            circuit_next(&t->c, &t->b, t->now_ms, &r)) {
            assert_int_equal(r.amps.l[0], 10);
            sets++;
            done(t, REQUEST_SET, ERR_OK, 200);
            t->now_ms += 100;
            report(t, 10, 10, 10);
            t->now_ms += 100;
        }
    }
    return sets;
}

/* ---- the wish ---- */

static void no_wish_no_setpoint(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    for (unsigned i = 0; i < 100; i++) {
        later_by(&t, 10 * SECONDS);
        assert_int_equal(circuit_press(&t.c, &t.b, t.now_ms), 0);
    }
    circuit_want(&t.c, &t.want, t.now_ms); /* an image without a wish */
    expect_nothing(&t);
    assert_int_equal(status(&t)->progress.stage, STAGE_NONE);
    assert_int_equal(status(&t)->progress.requested_da[0], NA_U16);
    assert_false(status(&t)->progress.target_known);
}

static void first_wish_leaves_at_once(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    wish_w(&t, 7400);
    assert_int_equal(status(&t)->progress.stage, STAGE_WAITING);
    expect_set(&t, 10, 10, 10);
    assert_int_equal(status(&t)->progress.stage, STAGE_SENT);
    expect_nothing(&t); /* one at a time */
    later_by(&t, 500);
    done(&t, REQUEST_SET, ERR_OK, 202);
    assert_int_equal(status(&t)->progress.stage, STAGE_ACCEPTED);
    assert_int_equal(status(&t)->wishes.pending, 1);
    later_by(&t, 999);
    expect_nothing(&t);
    t.now_ms++;
    expect_read(&t, REQUEST_READBACK);
    read_back(&t, 100, 100, 100);
    assert_int_equal(status(&t)->progress.stage, STAGE_CONFIRMED);
    assert_int_equal(status(&t)->progress.confirmed_seq, 101);
    assert_int_equal(status(&t)->progress.round_trip_ms, 1500);
    assert_int_equal(status(&t)->wishes.confirmed, 1);
    assert_int_equal(status(&t)->wishes.pending, 0);
    assert_int_equal(circuit_events(&t.c), CIRCUIT_CONFIRMED);
    assert_int_equal(circuit_events(&t.c), 0);
}

static void effective_when_the_car_is_offered_it(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 7400, 10);
    observe(&t, 109, 3);
    observe(&t, 114, 10);
    assert_int_equal(status(&t)->progress.stage, STAGE_EFFECTIVE);
}

static void only_the_newest_wish_leaves(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 7400, 10);
    for (uint32_t w = 0; w < 100; w++) {
        wish_w(&t, 11000 - w * 50);
        if (w == 0)
            expect_set(&t, 15, 15, 15);
        else
            expect_nothing(&t);
        t.now_ms += 10;
    }
    done(&t, REQUEST_SET, ERR_OK, 200);
    later_by(&t, 15 * SECONDS - 1001);
    skip_reads(&t);
    while (circuit_press(&t.c, &t.b, t.now_ms) == 0)
        later_by(&t, 1);
    expect_set(&t, 8, 8, 8); /* 6050 W, a decrease: 15 s after the last */
    assert_int_equal(t.now_ms - t.want.accepted_at_ms, 15 * SECONDS - 990);
    done(&t, REQUEST_SET, ERR_OK, 200);
    report(&t, 8, 8, 8);
    assert_int_equal(status(&t)->wishes.accepted, 101);
    assert_int_equal(status(&t)->wishes.merged, 99);
    assert_int_equal(status(&t)->wishes.confirmed, 2);
}

static void skipped_ids_are_merged(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    t.want.id = 41; /* 41 wishes came and were replaced before anybody looked */
    wish_w(&t, 7400);
    assert_int_equal(status(&t)->wishes.accepted, 42);
    assert_int_equal(status(&t)->wishes.merged, 41);
    assert_int_equal(status(&t)->wishes.pending, 1);
}

static void unchanged_values_are_not_sent(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 7400, 10);
    for (unsigned i = 0; i < 1000; i++) {
        wish_w(&t, 7300 + i % 200); /* always 10 A */
        later_by(&t, 100);
        assert_int_equal(circuit_press(&t.c, &t.b, t.now_ms), 0);
    }
    assert_int_equal(status(&t)->wishes.confirmed, 1001); /* it is in force already */
}

static void send_again_on_request(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 7400, 10);
    t.want.resends++;
    circuit_want(&t.c, &t.want, t.now_ms);
    expect_set(&t, 10, 10, 10);
}

/* Another observation does not make an old report a new one. */
static void an_old_report_does_not_replace_sending_again(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 7400, 10);
    t.want.resends++;
    circuit_want(&t.c, &t.want, t.now_ms);
    observe(&t, 109, 3);
    expect_set(&t, 10, 10, 10);
}

/* ---- intervals, urgency, budgets ---- */

static void intervals(void **state)
{
    static const struct {
        const char *comment;
        uint32_t power_w;
        bool urgent;
        unsigned amps, press;
        uint64_t after_ms;
    } rows[] = {
        {"increase",        9000, false, 13, 1, 30 * SECONDS},
        {"urgent increase", 9000, true,  13, 1, 30 * SECONDS},
        {"decrease",        5600, false, 8,  2, 15 * SECONDS},
        {"urgent decrease", 5600, true,  8,  3, 0           },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bench t;
        unsigned a = rows[i].amps, press = 0;
        uint64_t sent_ms;

        start_raise(&t);
        sent_ms = t.now_ms;
        done(&t, REQUEST_SET, ERR_OK, 200);
        report(&t, 10, 10, 10);
        t.want.urgent = rows[i].urgent;
        wish_w(&t, rows[i].power_w);
        for (;;) {
            press = circuit_press(&t.c, &t.b, t.now_ms);
            if (press > 0 || t.now_ms > sent_ms + MINUTES)
                break;
            later_by(&t, 100);
        }
        if (press != rows[i].press || t.now_ms - sent_ms != rows[i].after_ms)
            fail_msg("%s: press %u after %u ms", rows[i].comment, press,
                     (unsigned)(t.now_ms - sent_ms));
        expect_set(&t, a, a, a);
    }
}

/* Others used up the account's writes: only the reserve is left. */
static void the_reserve_is_for_protection(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 7400, 10);
    for (unsigned i = 0; i < 8; i++)
        budgets_take(&t.b, BUDGET_WRITE, t.now_ms);
    wish_w(&t, 5600);
    expect_nothing(&t);
    assert_int_equal(status(&t)->progress.binding, BINDING_BUDGET);
    assert_int_equal(status(&t)->progress.next_call_at_ms, t.now_ms + 60 * SECONDS);
    t.want.urgent = true;
    wish_w(&t, 9000);
    expect_nothing(&t);
    wish_w(&t, 5600);
    expect_set(&t, 8, 8, 8);
}

/* 40 setpoints in 10 minutes, 8 of them for protection, however short the intervals. */
static void its_own_budget(void **state)
{
    struct circuit_config cfg = config();
    struct bench t;
    unsigned sets = 0;
    uint64_t end;

    (void)state;
    cfg.increase_interval_ms = cfg.decrease_interval_ms = 1 * SECONDS;
    start_with(&t, &cfg);
    end = t.now_ms + 600 * SECONDS;
    while (t.now_ms < end) {
        struct request r;

        wish_w(&t, sets % 2 == 0 ? 7400 : 9000);
        if (circuit_next(&t.c, &t.b, t.now_ms, &r))
            done(&t, r.kind, r.kind == REQUEST_SET ? ERR_OK : ERR_SERVER, 200);
        sets += r.kind == REQUEST_SET && t.c.sent.at_ms == t.now_ms;
        t.now_ms += 500;
    }
    assert_int_equal(sets, 32);
}

/* ---- the verdict ---- */

static void only_a_true_read_back_confirms(void **state)
{
    static const struct {
        const char *comment;
        uint16_t da[PHASES];
        bool confirms;
    } rows[] = {
        {"null",          {NA_U16, NA_U16, NA_U16}, false},
        {"one null",      {100, 100, NA_U16},       false},
        {"1000.0",        {10000, 10000, 10000},    false},
        {"the old value", {60, 60, 60},             false},
        {"fractions",     {104, 104, 104},          false},
        {"the new value", {100, 100, 100},          true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const uint16_t *da = rows[i].da;
        struct bench t;

        start_raise(&t);
        done(&t, REQUEST_SET, ERR_OK, 200);
        t.now_ms += 1 * SECONDS;
        expect_read(&t, REQUEST_READBACK);
        t.now_ms += 100;
        read_back(&t, da[0], da[1], da[2]);
        if ((status(&t)->progress.stage == STAGE_CONFIRMED) != rows[i].confirms)
            fail_msg("%s: stage %u", rows[i].comment, t.status.progress.stage);
    }
}

/* What a read-back that left before the cloud accepted says is about the time before. */
static void a_read_back_from_before_does_not_confirm(void **state)
{
    struct bench t;

    (void)state;
    start_raise(&t);
    done(&t, REQUEST_SET, ERR_OK, 200);
    t.now_ms += 1 * SECONDS;
    expect_read(&t, REQUEST_READBACK); /* leaves while the charger still has 6 A */
    t.now_ms += 20 * SECONDS;
    t.want.urgent = true;
    wish_w(&t, 4200);
    expect_set(&t, 6, 6, 6);
    done(&t, REQUEST_SET, ERR_OK, 200);
    t.now_ms += 1 * SECONDS;
    read_back(&t, 60, 60, 60);
    assert_int_equal(status(&t)->progress.stage, STAGE_ACCEPTED);
    expect_read(&t, REQUEST_READBACK);
    read_back(&t, 60, 60, 60);
    assert_int_equal(status(&t)->progress.stage, STAGE_CONFIRMED);
}

static void reports_confirm_when_whole_and_newer(void **state)
{
    struct bench t;

    (void)state;
    start_raise(&t);
    report(&t, 10, 10, 10); /* the stream was faster than the answer */
    assert_int_equal(status(&t)->progress.stage, STAGE_SENT);
    done(&t, REQUEST_SET, ERR_OK, 200);
    t.now_ms += 100;
    observe(&t, 111, 10);
    observe(&t, 112, 6);
    circuit_decide(&t.c, t.now_ms);
    assert_int_equal(status(&t)->progress.stage, STAGE_ACCEPTED);
    t.now_ms += 100;
    report(&t, 10, 10, 10);
    assert_int_equal(status(&t)->progress.stage, STAGE_CONFIRMED);
}

/* Accepted, never done: the same once more, then the fault and a slow retry (F-33). */
static void never_confirmed(void **state)
{
    struct bench t;
    uint64_t failed_ms;

    (void)state;
    start(&t);
    wish_w(&t, 7400);
    expect_set(&t, 10, 10, 10);
    done(&t, REQUEST_SET, ERR_OK, 200);
    later_by(&t, 20 * SECONDS);
    expect_nothing(&t); /* the interval of an increase */
    later_by(&t, 10 * SECONDS);
    expect_set(&t, 10, 10, 10);
    done(&t, REQUEST_SET, ERR_OK, 200);
    assert_int_equal(status(&t)->faults & FAULT_NOT_CONFIRMED, 0);
    later_by(&t, 20 * SECONDS);
    failed_ms = t.now_ms;
    expect_nothing(&t);
    assert_int_equal(status(&t)->faults & FAULT_NOT_CONFIRMED, FAULT_NOT_CONFIRMED);
    assert_int_equal(status(&t)->progress.stage, STAGE_TIMED_OUT);
    assert_int_equal(status(&t)->progress.result, ERR_NOT_CONFIRMED);
    assert_true(circuit_events(&t.c) & CIRCUIT_TIMED_OUT);
    while (circuit_press(&t.c, &t.b, t.now_ms) == 0)
        later_by(&t, 1 * SECONDS);
    assert_int_equal(t.now_ms - failed_ms, 15 * MINUTES);
    expect_obeyed(&t, 10, 10, 10);
    assert_int_equal(status(&t)->faults & FAULT_NOT_CONFIRMED, 0);
    assert_int_equal(status(&t)->wishes.confirmed, 1);
}

static void verdicts_of_the_stream(void **state)
{
    static const struct {
        const char *comment;
        struct verdict v;
        int64_t ticks; /* as the answer to the setpoint told */
        enum stage stage;
        unsigned foreign;
    } rows[] = {
        {"accepted",        {0, 22, 0, true},        0,        STAGE_CONFIRMED, 0},
        {"same ticks",      {1000, 22, 0, true},     1000,     STAGE_CONFIRMED, 0},
        {"other ticks",     {90000000, 22, 0, true}, 10000000, STAGE_ACCEPTED,  1},
        {"rejected",        {1000, 22, 0, false},    1000,     STAGE_REFUSED,   0},
        {"another command", {1000, 48, 0, true},     1000,     STAGE_ACCEPTED,  1},
        {"another charger", {1000, 22, 1, true},     1000,     STAGE_ACCEPTED,  1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct outcome o = {.kind = REQUEST_SET,
                            .http_status = 202,
                            .retry_after_s = -1,
                            .ticks = rows[i].ticks};
        struct bench t;

        start_raise(&t);
        circuit_done(&t.c, &t.b, &o, t.now_ms);
        circuit_verdict(&t.c, &rows[i].v, t.now_ms);
        if (status(&t)->progress.stage != rows[i].stage ||
            t.c.counts.foreign_commands != rows[i].foreign)
            fail_msg("%s: stage %u, %u foreign", rows[i].comment, t.status.progress.stage,
                     t.c.counts.foreign_commands);
    }
}

static void a_verdict_before_the_answer(void **state)
{
    struct verdict v = {.command = 22, .accepted = true};
    struct bench t;

    (void)state;
    start_raise(&t);
    circuit_verdict(&t.c, &v, t.now_ms);
    assert_int_equal(status(&t)->progress.stage, STAGE_SENT);
    done(&t, REQUEST_SET, ERR_OK, 200);
    assert_int_equal(status(&t)->progress.stage, STAGE_CONFIRMED);
}

/* ---- a cloud that fails ---- */

static void failures(void **state)
{
    static const struct {
        const char *comment;
        enum err err;
        uint16_t http_status;
        uint64_t least_ms, most_ms; /* until the same wish is tried again */
        bool rejected;
    } rows[] = {
        {"401",            ERR_UNAUTHORISED, 401, 0,            0,            false},
        {"block",          ERR_BLOCKED,      403, 0,            0,            false},
        {"429",            ERR_THROTTLED,    429, 90 * SECONDS, 90 * SECONDS, false},
        {"500",            ERR_SERVER,       500, 15 * SECONDS, 31 * SECONDS, false},
        {"503",            ERR_SERVER,       503, 60 * SECONDS, 60 * SECONDS, false},
        {"time-out",       ERR_TIMEOUT,      0,   15 * SECONDS, 31 * SECONDS, false},
        {"not reached",    ERR_CONNECT,      0,   700,          1300,         false},
        {"not understood", ERR_PARSE,        200, 15 * SECONDS, 31 * SECONDS, false},
        {"403",            ERR_FORBIDDEN,    403, 1 * HOURS,    1 * HOURS,    true },
        {"404",            ERR_NOT_FOUND,    404, NEVER,        NEVER,        true },
        {"400",            ERR_BAD_REQUEST,  400, NEVER,        NEVER,        true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bench t;
        uint64_t failed_ms;

        start_raise(&t);
        done(&t, REQUEST_SET, rows[i].err, rows[i].http_status);
        failed_ms = t.now_ms;
        if ((status(&t)->wishes.rejected == 1) != rows[i].rejected)
            fail_msg("%s: rejected %u", rows[i].comment,
                     (unsigned)t.status.wishes.rejected);
        assert_int_equal(status(&t)->progress.result, rows[i].err);
        assert_int_equal(status(&t)->progress.http_status, rows[i].http_status);
        while (circuit_press(&t.c, &t.b, t.now_ms) == 0 &&
               t.now_ms < failed_ms + 2 * HOURS)
            later_by(&t, 50);
        if (rows[i].least_ms == NEVER ? t.now_ms < failed_ms + 2 * HOURS
                                      : t.now_ms < failed_ms + rows[i].least_ms ||
                                            t.now_ms > failed_ms + rows[i].most_ms)
            fail_msg("%s: again after %llu ms", rows[i].comment,
                     (unsigned long long)(t.now_ms - failed_ms));
    }
}

/* A circuit that is gone is looked up again before anything more is sent to it. */
static void not_found_asks_for_a_lookup(void **state)
{
    struct bench t;

    (void)state;
    start_raise(&t);
    done(&t, REQUEST_SET, ERR_NOT_FOUND, 404);
    assert_false(t.c.found);
    assert_true(status(&t)->faults & FAULT_NOT_FOUND);
    for (unsigned i = 0; i < 20; i++) {
        later_by(&t, 31 * SECONDS);
        wish_w(&t, 7400 + i * 700);
        assert_int_equal(circuit_press(&t.c, &t.b, t.now_ms), 0);
    }
    circuit_found(&t.c, 1, true, t.now_ms);
    assert_false(status(&t)->faults & FAULT_NOT_FOUND);
    expect_set(&t, 16, 16, 16);
}

static void backoff_grows_to_five_minutes(void **state)
{
    struct bench t;
    uint64_t last_ms = 0;

    (void)state;
    start_at(&t, 4200, 6);
    wish_w(&t, 7400);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t step_ms = i == 0 ? 0 : (uint64_t)1000 << (i < 10 ? i - 1 : 9);

        if (step_ms > 300 * SECONDS)
            step_ms = 300 * SECONDS;
        while (circuit_press(&t.c, &t.b, t.now_ms) == 0)
            later_by(&t, 50);
        if (i > 0)
            assert_in_range(t.now_ms - last_ms, step_ms * 75 / 100,
                            step_ms * 126 / 100 + 50);
        expect_set(&t, 10, 10, 10);
        done(&t, REQUEST_SET, ERR_CONNECT, 0);
        last_ms = t.now_ms;
    }
}

/* After a 429 the newest value leaves, not the one that was refused (N2, N6). */
static void newest_after_retry_after(void **state)
{
    struct outcome o = {.kind = REQUEST_SET,
                        .err = ERR_THROTTLED,
                        .http_status = 429,
                        .retry_after_s = 283};
    struct bench t;
    uint64_t failed_ms;

    (void)state;
    start_raise(&t);
    circuit_done(&t.c, &t.b, &o, t.now_ms);
    failed_ms = t.now_ms;
    assert_int_equal(status(&t)->progress.backoff_until_ms, failed_ms + 283 * SECONDS);
    t.want.urgent = true; /* not even then */
    wish_w(&t, 4200);
    wish_w(&t, 9000);
    while (circuit_press(&t.c, &t.b, t.now_ms) == 0)
        later_by(&t, 1 * SECONDS);
    assert_int_equal(t.now_ms, failed_ms + 283 * SECONDS);
    expect_set(&t, 13, 13, 13);
}

/* Back at the old wish after a refusal for sure: the charger has it still. */
static void nothing_to_undo_after_a_429(void **state)
{
    struct bench t;

    (void)state;
    start_raise(&t);
    done(&t, REQUEST_SET, ERR_THROTTLED, 429);
    wish_w(&t, 4200);
    later_by(&t, 10 * MINUTES);
    assert_int_equal(circuit_press(&t.c, &t.b, t.now_ms), 0);
    assert_int_equal(status(&t)->wishes.confirmed, 2);
}

/* Back at the old wish after a time-out: the charger may have the new value. */
static void a_time_out_is_undone(void **state)
{
    struct bench t;

    (void)state;
    start_raise(&t);
    done(&t, REQUEST_SET, ERR_TIMEOUT, 0);
    wish_w(&t, 4200);
    later_by(&t, 15 * SECONDS);
    expect_set(&t, 6, 6, 6);
}

/* Two time-outs later the charger may still have what it had before the first. */
static void time_outs_remember_what_was_before(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 11040, 16);
    wish_w(&t, 7400);
    for (unsigned i = 0; i < 2; i++) {
        expect_set(&t, 10, 10, 10);
        done(&t, REQUEST_SET, ERR_TIMEOUT, 0);
        later_by(&t, 15 * SECONDS);
    }
    wish_w(&t, 9000); /* more than 10 A, but less than 16 A */
    assert_int_equal(circuit_press(&t.c, &t.b, t.now_ms), 2);
    expect_set(&t, 13, 13, 13);
}

static void a_refused_value_is_not_tried_again(void **state)
{
    struct bench t;

    (void)state;
    start_raise(&t);
    done(&t, REQUEST_SET, ERR_BAD_REQUEST, 400);
    assert_int_equal(status(&t)->progress.stage, STAGE_REFUSED);
    assert_true(circuit_events(&t.c) & CIRCUIT_REFUSED);
    wish_w(&t, 7450); /* the same 10 A */
    expect_nothing(&t);
    assert_int_equal(status(&t)->wishes.rejected, 2);
    later_by(&t, 30 * SECONDS);
    wish_w(&t, 9000); /* another value may do */
    expect_set(&t, 13, 13, 13);
}

/* ---- silence of the controller ---- */

static void watchdog_actions(void **state)
{
    static const struct {
        const char *comment;
        enum fallback_action action;
        uint16_t fallback_da;
        uint8_t fallback_phases;
        unsigned l1, l2; /* sent; 99: nothing */
    } rows[] = {
        {"pause",                 FALLBACK_PAUSE, 60,  0, 0,  0 },
        {"limit",                 FALLBACK_LIMIT, 65,  0, 6,  6 },
        {"limit to one phase",    FALLBACK_LIMIT, 80,  1, 8,  0 },
        {"limit too low",         FALLBACK_LIMIT, 50,  0, 0,  0 },
        {"limit above: no raise", FALLBACK_LIMIT, 160, 3, 99, 99},
        {"hold",                  FALLBACK_HOLD,  60,  0, 99, 99},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bench t;

        start_at(&t, 4200, 6);
        t.want.watchdog_s = 30;
        t.want.fallback_action = (uint8_t)rows[i].action;
        t.want.fallback_da = rows[i].fallback_da;
        t.want.fallback_phases = rows[i].fallback_phases;
        wish_w(&t, 7400);
        expect_set(&t, 10, 10, 10);
        done(&t, REQUEST_SET, ERR_OK, 200);
        report(&t, 10, 10, 10);
        later_by(&t, 30 * SECONDS - 1);
        assert_int_equal(circuit_events(&t.c) & CIRCUIT_WATCHDOG, 0);
        assert_true(circuit_wake(&t.c, &t.b, t.now_ms) <= t.now_ms + 1);
        later_by(&t, 1);
        if (circuit_press(&t.c, &t.b, t.now_ms) != (rows[i].l1 == 99 ? 0u : 3u))
            fail_msg("%s: press %u", rows[i].comment,
                     circuit_press(&t.c, &t.b, t.now_ms));
        if (rows[i].l1 != 99)
            expect_set(&t, rows[i].l1, rows[i].l2, rows[i].l2);
        assert_true(circuit_events(&t.c) & CIRCUIT_WATCHDOG);
        assert_int_equal(t.c.counts.trips, 1);
        assert_int_equal(status(&t)->progress.tripped_at_ms, t.now_ms);
        assert_int_equal(status(&t)->wishes.confirmed, 2); /* it had arrived before */
    }
}

/* The fallback neither waits for an interval nor for the budget's reserve. */
static void fallback_is_urgent(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 4200, 6);
    t.want.watchdog_s = 10;
    t.want.fallback_action = FALLBACK_PAUSE;
    wish_w(&t, 7400);
    expect_set(&t, 10, 10, 10);
    done(&t, REQUEST_SET, ERR_OK, 200);
    for (unsigned i = 0; i < 7; i++)
        budgets_take(&t.b, BUDGET_WRITE, t.now_ms);
    later_by(&t, 10 * SECONDS);
    expect_set(&t, 0, 0, 0);
    assert_int_equal(status(&t)->wishes.expired, 1);
    assert_int_equal(status(&t)->progress.stage, STAGE_SUPERSEDED);
    assert_int_equal(status(&t)->progress.binding, BINDING_FALLBACK);
}

static void heartbeats_feed_the_watchdog(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 4200, 6);
    t.want.watchdog_s = 30;
    t.want.fallback_action = FALLBACK_PAUSE;
    write_wish(&t);
    for (unsigned i = 0; i < 20; i++) {
        later_by(&t, 29 * SECONDS);
        t.want.fed_at_ms = t.now_ms;
        circuit_want(&t.c, &t.want, t.now_ms);
    }
    assert_int_equal(t.c.counts.trips, 0);
    assert_int_equal(status(&t)->wishes.accepted, 2);

    /* One that came in time is in time however late it is looked at. */
    t.want.fed_at_ms = t.now_ms + 29 * SECONDS;
    t.now_ms += 40 * SECONDS;
    circuit_want(&t.c, &t.want, t.now_ms);
    assert_int_equal(t.c.counts.trips, 0);
    /* One that came too late does not undo the trip. */
    t.now_ms += 60 * SECONDS;
    t.want.fed_at_ms = t.now_ms;
    circuit_want(&t.c, &t.want, t.now_ms);
    assert_int_equal(t.c.counts.trips, 1);
    expect_set(&t, 0, 0, 0);
}

static void a_new_wish_or_clearing_ends_the_fallback(void **state)
{
    (void)state;
    for (unsigned clear = 0; clear < 2; clear++) {
        struct bench t;

        start_at(&t, 4200, 6);
        t.want.watchdog_s = 30;
        t.want.fallback_action = FALLBACK_PAUSE;
        write_wish(&t);
        later_by(&t, 30 * SECONDS);
        expect_set(&t, 0, 0, 0);
        done(&t, REQUEST_SET, ERR_OK, 200);
        report(&t, 0, 0, 0);
        later_by(&t, 30 * SECONDS);
        assert_int_equal(circuit_press(&t.c, &t.b, t.now_ms), 0);
        if (clear == 1) {
            t.want.clears++;
            t.want.fed_at_ms = t.now_ms;
            circuit_want(&t.c, &t.want, t.now_ms);
        } else {
            write_wish(&t);
        }
        expect_set(&t, 6, 6, 6);
    }
}

/* Three phases wanted under a ceiling on one: one phase it stays, without pauses. */
static void a_fallback_keeps_the_phases_of_its_ceiling(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    t.want.watchdog_s = 30;
    t.want.fallback_action = FALLBACK_LIMIT;
    t.want.fallback_da = 100;
    t.want.fallback_phases = 3;
    wish_w(&t, 3000);
    expect_obeyed(&t, 13, 0, 0);
    later_by(&t, 30 * SECONDS);
    expect_obeyed(&t, 10, 0, 0);
    for (unsigned i = 0; i < 200; i++) {
        later_by(&t, 10 * SECONDS);
        assert_int_equal(circuit_press(&t.c, &t.b, t.now_ms), 0);
    }
}

static void validity(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 4200, 6);
    t.want.validity_s = 20;
    t.want.fallback_action = FALLBACK_PAUSE;
    for (unsigned i = 0; i < 8; i++) /* it cannot leave in time */
        budgets_take(&t.b, BUDGET_WRITE, t.now_ms);
    wish_w(&t, 7400);
    expect_nothing(&t);
    later_by(&t, 20 * SECONDS);
    expect_set(&t, 0, 0, 0);
    assert_int_equal(status(&t)->wishes.expired, 1);
    assert_true(circuit_events(&t.c) & CIRCUIT_EXPIRED);
}

/* Held means: what is in force stays, and the expired wish is not sent any more (N3). */
static void an_expired_wish_that_is_held_is_not_sent(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 4200, 6);
    t.want.validity_s = 20;
    t.want.fallback_action = FALLBACK_HOLD;
    for (unsigned i = 0; i < 8; i++)
        budgets_take(&t.b, BUDGET_WRITE, t.now_ms);
    wish_w(&t, 7400);
    later_by(&t, 20 * SECONDS);
    expect_nothing(&t);
    later_by(&t, 2 * MINUTES);
    expect_nothing(&t);
    assert_int_equal(status(&t)->wishes.expired, 1);
    assert_int_equal(status(&t)->progress.sent.l[0], 6);
}

/* The dwell of a wish that expired is nobody's business any more. */
static void a_held_wish_does_not_wake(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    wish_w(&t, 3000);
    expect_obeyed(&t, 13, 0, 0);
    later_by(&t, 30 * SECONDS);
    t.want.validity_s = 50;
    t.want.fallback_action = FALLBACK_HOLD;
    wish_w(&t, 7400);
    expect_set(&t, 0, 0, 0); /* the pause before three phases */
    done(&t, REQUEST_SET, ERR_OK, 200);
    report(&t, 0, 0, 0);
    later_by(&t, 50 * SECONDS);
    later_by(&t, 60 * SECONDS);
    expect_nothing(&t);
}

/* The charger does not heed what was sent, for once. */
static void rejects(struct bench *t)
{
    done(t, REQUEST_SET, ERR_OK, 200);
    circuit_verdict(&t->c, &(struct verdict){.command = 22}, t->now_ms);
}

/* Nobody is there to ask again. */
static void a_rejected_fallback_is_repeated(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    t.want.watchdog_s = 10;
    t.want.fallback_action = FALLBACK_LIMIT;
    t.want.fallback_da = 60;
    wish_w(&t, 11040);
    expect_obeyed(&t, 16, 16, 16);
    later_by(&t, 10 * SECONDS);
    for (unsigned i = 0; i < 4; i++) {
        expect_set(&t, 6, 6, 6);
        rejects(&t);
        skip_reads(&t);
        expect_nothing(&t);
        later_by(&t, 30 * SECONDS);
    }
    expect_set(&t, 6, 6, 6);
    done(&t, REQUEST_SET, ERR_NOT_FOUND, 404);
    circuit_found(&t.c, 1, true, t.now_ms); /* it was there all the time */
    later_by(&t, 2 * MINUTES);
    expect_obeyed(&t, 6, 6, 6);
    skip_reads(&t);
    expect_nothing(&t);
}

/* Less current is asked for until it arrives, more only once. */
static void a_rejected_decrease_is_repeated(void **state)
{
    static const struct {
        const char *comment;
        uint32_t power_w;
        unsigned a;
        bool again;
    } rows[] = {
        {"a pause", 0,     0,  true },
        {"less",    4200,  6,  true },
        {"more",    11040, 16, false}
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const unsigned a = rows[i].a;
        struct bench t;

        start_at(&t, 7400, 10);
        wish_w(&t, rows[i].power_w);
        expect_set(&t, a, a, a);
        rejects(&t);
        assert_int_equal(status(&t)->progress.stage, STAGE_REFUSED);
        expect_nothing(&t);
        later_by(&t, 60 * SECONDS);
        if ((circuit_press(&t.c, &t.b, t.now_ms) > 0) != rows[i].again)
            fail_msg("%s", rows[i].comment);
        if (!rows[i].again)
            continue;
        expect_obeyed(&t, a, a, a);
        assert_int_equal(status(&t)->progress.stage, STAGE_CONFIRMED);
    }
}

/* It would lapse, and what it lapses to may be the charger's maximum. */
static void a_rejected_renewal_is_repeated(void **state)
{
    struct circuit_config cfg = config();
    struct bench t;

    (void)state;
    cfg.deadman_min = 10;
    start_with(&t, &cfg);
    circuit_stream(&t.c, true, t.now_ms);
    wish_w(&t, 7400);
    expect_obeyed(&t, 10, 10, 10);
    later_by(&t, 5 * MINUTES);
    expect_set(&t, 10, 10, 10);
    rejects(&t);
    skip_reads(&t);
    expect_nothing(&t);
    later_by(&t, 60 * SECONDS);
    assert_int_not_equal(circuit_press(&t.c, &t.b, t.now_ms), 0);
}

static void somebody_else_during_hold_does_not_wake(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 7400, 10);
    t.want.validity_s = 10;
    t.want.fallback_action = FALLBACK_HOLD;
    wish_w(&t, 7400);
    later_by(&t, 11 * SECONDS);
    assert_int_equal(overrule(&t), 3);
    later_by(&t, 20 * MINUTES);
    assert_true(status(&t)->faults & FAULT_FOREIGN_CONTROL);
    expect_obeyed(&t, 10, 10, 10); /* the slow retry */
    skip_reads(&t);
    expect_nothing(&t);
    assert_int_equal(status(&t)->faults, 0);
}

/* Found in another place: what was sent went to the one before. */
static void a_moved_circuit_gets_all_again(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 7400, 10);
    circuit_moved(&t.c);
    circuit_found(&t.c, 1, true, t.now_ms);
    assert_int_equal(status(&t)->progress.stage, STAGE_WAITING);
    expect_obeyed(&t, 10, 10, 10);
    assert_int_equal(status(&t)->progress.stage, STAGE_CONFIRMED);

    wish_w(&t, 11040);
    later_by(&t, 61 * SECONDS);
    expect_set(&t, 16, 16, 16);
    done(&t, REQUEST_SET, ERR_NOT_FOUND, 404);
    circuit_moved(&t.c);
    circuit_found(&t.c, 1, true, t.now_ms);
    later_by(&t, 61 * SECONDS);
    expect_obeyed(&t, 16, 16, 16); /* a refusal there says nothing of here */
}

/* ---- phases ---- */

/* The charge goes on as long as the pause has not arrived. */
static void a_lost_pause_is_no_pause(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    wish_w(&t, 3000);
    expect_obeyed(&t, 13, 0, 0);
    later_by(&t, 11 * MINUTES);
    wish_w(&t, 11040);
    for (unsigned i = 0; i < 20; i++) {
        expect_set(&t, 0, 0, 0);
        done(&t, REQUEST_SET, ERR_TIMEOUT, 0);
        while (circuit_press(&t.c, &t.b, t.now_ms) == 0)
            later_by(&t, 1 * SECONDS);
    }
    expect_obeyed(&t, 0, 0, 0);
    later_by(&t, 59 * SECONDS);
    expect_nothing(&t);
    later_by(&t, 1 * SECONDS);
    expect_obeyed(&t, 16, 16, 16);
}

static void phases_depend_on_facts(void **state)
{
    static const struct {
        const char *comment;
        unsigned chargers, grid_type, amps;
    } rows[] = {
        {"alone on TN",   1, 1, 13},
        {"two chargers",  2, 1, 0 },
        {"IT grid",       1, 4, 0 },
        {"not known yet", 1, 0, 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct circuit_config cfg = config();
        struct bench t;
        struct request r;

        init(&t, &cfg);
        circuit_found(&t.c, rows[i].chargers, rows[i].chargers == 1, t.now_ms);
        expect_read(&t, REQUEST_OBSERVE);
        observe(&t, 21, rows[i].grid_type);
        done(&t, REQUEST_OBSERVE, ERR_OK, 200);
        wish_w(&t, 3000);
        assert_true(circuit_next(&t.c, &t.b, t.now_ms, &r));
        if (r.kind != REQUEST_SET || r.amps.l[0] != rows[i].amps || r.amps.l[1] != 0)
            fail_msg("%s: %u/%u/%u", rows[i].comment, r.amps.l[0], r.amps.l[1],
                     r.amps.l[2]);
        assert_int_equal((status(&t)->capabilities & CAPABILITY_PHASE_SWITCHING) != 0,
                         rows[i].amps > 0);
    }
}

static void first_setpoint_waits_for_the_grid_type(void **state)
{
    struct circuit_config cfg = config();
    struct bench t;

    (void)state;
    init(&t, &cfg);
    wish_w(&t, 3000);
    expect_nothing(&t); /* nobody knows where to send it */
    circuit_found(&t.c, 1, true, t.now_ms);
    expect_read(&t, REQUEST_OBSERVE); /* never answered */
    expect_nothing(&t);
    t.now_ms += 10 * SECONDS - 1;
    expect_nothing(&t);
    t.now_ms += 1;
    expect_set(&t, 0, 0, 0); /* three phases, as long as one is not known to work */
}

/* Nothing is read while the stream is up: what it tells is enough. */
static void the_stream_tells_the_grid_type(void **state)
{
    struct circuit_config cfg = config();
    struct bench t;

    (void)state;
    init(&t, &cfg);
    circuit_found(&t.c, 1, true, t.now_ms);
    circuit_stream(&t.c, true, t.now_ms);
    wish_w(&t, 3000);
    expect_nothing(&t);
    observe(&t, 21, 1);
    expect_set(&t, 13, 0, 0);
}

static void one_to_three_phases(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    wish_w(&t, 3000);
    expect_obeyed(&t, 13, 0, 0);
    later_by(&t, 30 * SECONDS);
    wish_w(&t, 7400);
    expect_obeyed(&t, 0, 0, 0);
    assert_int_equal(status(&t)->wishes.pending, 1); /* a step on the way only */
    assert_int_equal(status(&t)->progress.dwell_until_ms, t.now_ms + 60 * SECONDS);
    later_by(&t, 59 * SECONDS);
    assert_int_equal(circuit_press(&t.c, &t.b, t.now_ms), 0);
    later_by(&t, 1 * SECONDS);
    expect_obeyed(&t, 10, 10, 10);
    assert_int_equal(status(&t)->wishes.confirmed, 2);
    assert_int_equal(status(&t)->progress.phase_switches_24h, 1);
}

/* It charges before the first setpoint: from three phases to 6 A on one it must pause. */
static void takes_over_the_phases_of_a_charge(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    observe(&t, 110, 30);
    observe(&t, 109, 3);
    wish_w(&t, 1400);
    expect_set(&t, 0, 0, 0);
    done(&t, REQUEST_SET, ERR_OK, 200);
    report(&t, 0, 0, 0);
    observe(&t, 109, 2);
    later_by(&t, 30 * SECONDS);
    expect_set(&t, 6, 0, 0);
    done(&t, REQUEST_SET, ERR_OK, 200);
    report(&t, 6, 0, 0);
    assert_int_equal(status(&t)->progress.phase_switches_24h, 1);

    start(&t); /* a car with one phase needs no pause */
    observe(&t, 110, 10);
    observe(&t, 109, 3);
    wish_w(&t, 7400);
    expect_set(&t, 10, 10, 10);
}

static void a_pause_ends_early_when_idle(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    wish_w(&t, 3000);
    expect_obeyed(&t, 13, 0, 0);
    observe(&t, 109, 2); /* before the pause: does not count */
    later_by(&t, 30 * SECONDS);
    wish_w(&t, 7400);
    expect_obeyed(&t, 0, 0, 0);
    later_by(&t, 31 * SECONDS);
    assert_int_equal(circuit_press(&t.c, &t.b, t.now_ms), 0);
    observe(&t, 109, 2);
    expect_set(&t, 10, 10, 10);
}

/* ---- others ---- */

static void somebody_else_is_overruled_a_few_times(void **state)
{
    struct bench t;
    uint64_t end;

    (void)state;
    start_at(&t, 7400, 10);
    assert_int_equal(overrule(&t), 3);
    assert_true(status(&t)->faults & FAULT_FOREIGN_CONTROL);
    assert_int_equal(status(&t)->progress.stage, STAGE_OVERRIDDEN);
    assert_int_equal(status(&t)->progress.binding, BINDING_OTHER_CONTROLLER);
    assert_true(circuit_events(&t.c) & CIRCUIT_OVERRIDDEN);
    /* a slow retry remains */
    end = t.now_ms + 20 * MINUTES;
    while (circuit_press(&t.c, &t.b, t.now_ms) == 0 && t.now_ms < end)
        later_by(&t, 1 * SECONDS);
    expect_set(&t, 10, 10, 10);
}

/* Who asks for it does not wait for the slow retry. */
static void a_request_ends_the_slow_retry(void **state)
{
    (void)state;
    for (int clear = 0; clear <= 1; clear++) {
        struct bench t;
        uint16_t trip_ms;

        start_at(&t, 7400, 10);
        trip_ms = status(&t)->progress.round_trip_ms;
        assert_int_equal(overrule(&t), 3);
        expect_nothing(&t);
        t.want.clears += clear == 1;
        t.want.resends += clear == 0;
        circuit_want(&t.c, &t.want, t.now_ms);
        expect_set(&t, 10, 10, 10);
        done(&t, REQUEST_SET, ERR_OK, 200);
        report(&t, 10, 10, 10);
        circuit_decide(&t.c, t.now_ms);
        assert_int_equal(status(&t)->faults, 0);
        assert_int_equal(status(&t)->progress.round_trip_ms, trip_ms); /* of the wish */
    }
}

/* A limit that comes back to what was reported before is not reported again. */
static void a_foreign_command_is_looked_after(void **state)
{
    struct verdict foreign = {.ticks = 999, .command = 22, .accepted = true};
    struct bench t;

    (void)state;
    start_at(&t, 7400, 10);
    circuit_stream(&t.c, true, t.now_ms);
    circuit_verdict(&t.c, &foreign, t.now_ms);
    assert_int_equal(t.c.counts.foreign_commands, 1);
    expect_nothing(&t);
    t.now_ms += 1 * SECONDS;
    expect_read(&t, REQUEST_READBACK);
    read_back(&t, 100, 100, 100); /* of something else */
    later_by(&t, 30 * SECONDS);
    assert_int_equal(t.c.counts.foreign_commands, 1);

    circuit_verdict(&t.c, &foreign, t.now_ms);
    t.now_ms += 1 * SECONDS;
    expect_read(&t, REQUEST_READBACK);
    read_back(&t, 10000, 10000, 10000); /* not known */
    later_by(&t, 30 * SECONDS);
    expect_nothing(&t);

    circuit_verdict(&t.c, &foreign, t.now_ms);
    t.now_ms += 1 * SECONDS;
    expect_read(&t, REQUEST_READBACK);
    read_back(&t, 200, 200, 200);
    t.now_ms += 3 * SECONDS;
    expect_set(&t, 10, 10, 10);
    assert_int_equal(t.c.counts.reasserts, 1);
}

/* Three phases are reported one after the other: a moment's difference is nobody's. */
static void a_short_difference_is_nobody(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 7400, 10);
    report(&t, 6, 10, 10);
    later_by(&t, 2 * SECONDS);
    report(&t, 10, 10, 10);
    later_by(&t, 1 * MINUTES);
    assert_int_equal(circuit_press(&t.c, &t.b, t.now_ms), 0);
    assert_int_equal(t.c.counts.foreign_commands, 0);
}

/* ---- options and reading ---- */

/* ---- time-to-live ---- */

enum { LIFE = 10, HALF_MS = LIFE * 60 * 1000 / 2 };

/* Answers the setpoint that is out; TICKS: the cloud made a command of it. */
static void accepted(struct bench *t, int64_t ticks)
{
    struct outcome o = {
        .kind = REQUEST_SET, .http_status = 202, .retry_after_s = -1, .ticks = ticks};

    circuit_done(&t->c, &t->b, &o, t->now_ms);
}

static void command_response(struct bench *t, int64_t ticks, bool is_accepted)
{
    circuit_verdict(
        &t->c, &(struct verdict){.ticks = ticks, .command = 22, .accepted = is_accepted},
        t->now_ms);
}

/* The next setpoint, which has to be A on three phases with TTL_MIN, MS after the last.
 */
static void expect_ttl(struct bench *t, unsigned a, unsigned ttl_min, uint64_t ms)
{
    uint64_t from_ms = t->now_ms;
    struct request r;

    while (circuit_press(&t->c, &t->b, t->now_ms) == 0 && t->now_ms < from_ms + 2 * HOURS)
        later_by(t, 500);
    assert_true(circuit_next(&t->c, &t->b, t->now_ms, &r));
    if (r.kind != REQUEST_SET || r.amps.l[0] != a || r.amps.l[2] != a ||
        r.ttl_min != ttl_min || t->now_ms - from_ms != ms)
        fail_msg("%u/%u/%u for %u min after %llu ms instead of %u A for %u min after "
                 "%llu ms",
                 r.amps.l[0], r.amps.l[1], r.amps.l[2], r.ttl_min,
                 (unsigned long long)(t->now_ms - from_ms), a, ttl_min,
                 (unsigned long long)ms);
}

/* A in force on three phases for POWER_W with a time-to-live, on the stream if LIVE. */
static void start_living(struct bench *t, uint32_t power_w, unsigned a, unsigned ttl_min,
                         bool live)
{
    struct circuit_config cfg = config();

    cfg.deadman_min = LIFE;
    start_with(t, &cfg);
    circuit_stream(&t->c, live, t->now_ms);
    wish_w(t, power_w);
    expect_ttl(t, a, ttl_min, 0);
    accepted(t, 1);
    report(t, a, a, a);
    assert_int_equal(status(t)->progress.stage, STAGE_CONFIRMED);
    circuit_events(&t->c);
}

/* The same value, which the cloud makes a command of. */
static void renewed_by_the_same_value(void **state)
{
    struct bench t;

    (void)state;
    start_living(&t, 7400, 10, LIFE, false);
    for (unsigned i = 0; i < 5; i++) {
        expect_ttl(&t, 10, LIFE, HALF_MS);
        /* to the client nothing has happened */
        assert_int_equal(status(&t)->progress.stage, STAGE_CONFIRMED);
        accepted(&t, 2);
        assert_int_equal(status(&t)->progress.stage, STAGE_CONFIRMED);
        assert_true(status(&t)->progress.round_trip_ms < 1000);
    }
    assert_int_equal(circuit_events(&t.c), 0);
}

/* With the stream only the charger's own answer counts. */
static void renewed_when_the_charger_says_so(void **state)
{
    struct bench t;

    (void)state;
    start_living(&t, 7400, 10, LIFE, true);
    expect_ttl(&t, 10, LIFE, HALF_MS);
    accepted(&t, 0);
    later_by(&t, 19 * SECONDS);
    command_response(&t, 0, true);
    assert_int_equal(t.c.counts.foreign_commands, 0);
    expect_ttl(&t, 10, LIFE, HALF_MS - 19 * SECONDS); /* since it left */
    command_response(&t, 7, true);                    /* before the cloud's answer */
    accepted(&t, 7);
    expect_ttl(&t, 10, LIFE, HALF_MS);
    assert_int_equal(circuit_events(&t.c), 0);
}

/* A neighbouring value until the charger has it, then the wanted one. */
static void renewed_by_a_change_where_repetition_is_swallowed(void **state)
{
    struct bench t;

    (void)state;
    start_living(&t, 7400, 10, LIFE, false);
    expect_ttl(&t, 10, LIFE, HALF_MS);
    accepted(&t, 0); /* no command */
    assert_int_equal(circuit_events(&t.c), CIRCUIT_SWALLOWED);
    expect_ttl(&t, 9, LIFE, LIFE * MINUTES / 8);
    accepted(&t, 0);
    later_by(&t, 15 * SECONDS);
    report(&t, 9, 9, 9);
    expect_ttl(&t, 10, LIFE, 15 * SECONDS); /* increase_interval */
    accepted(&t, 0);
    report(&t, 10, 10, 10);
    expect_ttl(&t, 9, LIFE, HALF_MS); /* now it is known */
    accepted(&t, 0);
    expect_ttl(&t, 9, LIFE, 20 * SECONDS); /* not confirmed: once more, not 10 */
    accepted(&t, 0);
    report(&t, 9, 9, 9);
    expect_ttl(&t, 10, LIFE, 30 * SECONDS);
    accepted(&t, 0);
    report(&t, 10, 10, 10);

    wish_w(&t, 4900); /* a new wish needs no detour */
    expect_ttl(&t, 7, LIFE, 15 * SECONDS);
    assert_int_equal(circuit_events(&t.c) & CIRCUIT_SWALLOWED, 0);
}

static void no_verdict_on_the_stream_is_swallowed(void **state)
{
    struct bench t;

    (void)state;
    start_living(&t, 7400, 10, LIFE, true);
    expect_ttl(&t, 10, LIFE, HALF_MS);
    accepted(&t, 3);
    expect_ttl(&t, 9, LIFE, LIFE * MINUTES / 8);
    accepted(&t, 4);
    command_response(&t, 4, true);
    expect_ttl(&t, 10, LIFE, 30 * SECONDS);
    accepted(&t, 5);
    command_response(&t, 5, true);
    circuit_stream(&t.c, false, t.now_ms);
    circuit_stream(&t.c, true, t.now_ms); /* asks again what the cloud does */
    expect_ttl(&t, 10, LIFE, HALF_MS);
}

/* At the least current and in a pause there is no neighbour: a time-to-live only once it
 * is known that it can be renewed. */
static void no_time_to_live_without_a_neighbour(void **state)
{
    static const struct {
        uint32_t power_w;
        unsigned a;
    } rows[] = {
        {4140, 6},
        {0,    0},
    };
    struct bench t;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        start_living(&t, rows[i].power_w, rows[i].a, 0, false);
        expect_ttl(&t, rows[i].a, LIFE, HALF_MS); /* a try that costs nothing */
        accepted(&t, 0);
        assert_int_equal(circuit_events(&t.c), CIRCUIT_SWALLOWED);
        assert_int_equal(status(&t)->faults, 0);
        later_by(&t, 5 * HOURS);
        assert_int_equal(circuit_press(&t.c, &t.b, t.now_ms), 0);

        start_living(&t, rows[i].power_w, rows[i].a, 0, false);
        expect_ttl(&t, rows[i].a, LIFE, HALF_MS);
        accepted(&t, 9);
        expect_ttl(&t, rows[i].a, LIFE, HALF_MS);
        accepted(&t, 0); /* heard once, but not now: it will lapse unless repeated */
        assert_int_equal(status(&t)->faults, FAULT_NOT_CONFIRMED);
        expect_ttl(&t, rows[i].a, LIFE, LIFE * MINUTES / 8);
        accepted(&t, 10);
        assert_int_equal(status(&t)->faults, 0);
        expect_ttl(&t, rows[i].a, LIFE, HALF_MS);
    }
}

/* What could not be renewed in time is sent as if it were new. */
static void a_lapsed_setpoint_is_sent_again(void **state)
{
    struct bench t;

    (void)state;
    start_living(&t, 7400, 10, LIFE, false);
    for (unsigned s = 0; s < LIFE * 60; s++) { /* no way to the cloud */
        later_by(&t, 1 * SECONDS);
        if (circuit_press(&t.c, &t.b, t.now_ms) > 0) {
            assert_true(s >= LIFE * 30 - 1);
            expect_set(&t, 10, 10, 10);
            done(&t, REQUEST_SET, ERR_CONNECT, 0);
        }
    }
    assert_true(t.c.sent.unsure);
    assert_int_equal(status(&t)->progress.stage, STAGE_WAITING);
    later_by(&t, 5 * MINUTES);
    expect_set(&t, 10, 10, 10);
    accepted(&t, 5);
    assert_int_equal(status(&t)->progress.stage, STAGE_ACCEPTED); /* to be confirmed */
}

/* What may have been repeated in vain, as after a restart, is renewed as soon as it is
 * confirmed. */
static void a_repeated_setpoint_is_renewed_at_once(void **state)
{
    struct bench t;

    (void)state;
    start_living(&t, 7400, 10, LIFE, false);
    later_by(&t, 60 * SECONDS);
    t.want.resends++;
    circuit_want(&t.c, &t.want, t.now_ms);
    expect_ttl(&t, 10, LIFE, 0);
    accepted(&t, 0); /* swallowed */
    report(&t, 10, 10, 10);
    expect_ttl(&t, 10, LIFE, 0);
    accepted(&t, 0);
    expect_ttl(&t, 9, LIFE, LIFE * MINUTES / 8);
}

/* A report confirms what was sent before the restart, its time-to-live goes on. */
static void a_restored_setpoint_is_renewed(void **state)
{
    struct circuit_config cfg = config();
    struct circuit_sent sent = {.amps = {{10, 10, 10}}, .known = true};
    struct bench t;

    (void)state;
    cfg.deadman_min = LIFE;
    init(&t, &cfg);
    t.want.power_w = 7400;
    t.want.id = 1;
    t.want.accepted_at_ms = t.want.fed_at_ms = t.now_ms;
    sent.at_ms = t.now_ms - 2 * MINUTES;
    circuit_restore(&t.c, &t.want, &sent, NA_U64, t.now_ms);
    circuit_found(&t.c, 1, true, t.now_ms);
    expect_read(&t, REQUEST_OBSERVE);
    observe(&t, 21, 1);
    report(&t, 10, 10, 10);
    done(&t, REQUEST_OBSERVE, ERR_OK, 200);
    expect_ttl(&t, 10, LIFE, 3 * MINUTES);
    accepted(&t, 0);
    expect_ttl(&t, 9, LIFE, LIFE * MINUTES / 8);
}

/* A renewal does not hold up the next wish, nor is its failure one of the setpoint. */
static void a_renewal_is_no_change(void **state)
{
    struct bench t;

    (void)state;
    start_living(&t, 7400, 10, LIFE, true);
    expect_ttl(&t, 10, LIFE, HALF_MS);
    wish_w(&t, 4200);
    accepted(&t, 3);
    expect_set(&t, 6, 6, 6);
    accepted(&t, 4);
    command_response(&t, 4, true);
    assert_int_equal(status(&t)->progress.stage, STAGE_CONFIRMED);
    assert_int_equal(status(&t)->progress.confirmed.l[0], 6);

    start_living(&t, 7400, 10, LIFE, true);
    expect_ttl(&t, 10, LIFE, HALF_MS);
    done(&t, REQUEST_SET, ERR_TIMEOUT, 0);
    assert_int_equal(status(&t)->progress.stage, STAGE_CONFIRMED);
    later_by(&t, 2 * SECONDS);
    assert_false(t.c.sent.unsure);
}

/* An alternation around the threshold must not pause the car every minute. */
static void a_change_given_up_counts_as_one(void **state)
{
    struct bench t;
    unsigned pauses = 0;

    (void)state;
    start(&t);
    wish_w(&t, 4100);
    expect_obeyed(&t, 16, 0, 0);
    for (unsigned i = 0; i < 90; i++) { /* an hour */
        struct request r;

        wish_w(&t, i % 2 == 0 ? 4200 : 4100);
        for (unsigned s = 0; s < 40; s++) {
            later_by(&t, 1 * SECONDS);
            if (circuit_next(&t.c, &t.b, t.now_ms, &r) && r.kind == REQUEST_SET) {
                pauses += phase_count(r.amps) == 0;
                done(&t, REQUEST_SET, ERR_OK, 200);
                report(&t, r.amps.l[0], r.amps.l[1], r.amps.l[2]);
            }
        }
    }
    assert_in_range(pauses, 1, 6);
    assert_true(status(&t)->progress.phase_switches_24h >= pauses - 1);
}

static void a_slow_retry_is_for_its_value_only(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    wish_w(&t, 11040);
    for (unsigned i = 0; i < 2; i++) { /* nobody confirms 16 A */
        later_by(&t, 31 * SECONDS);
        expect_set(&t, 16, 16, 16);
        done(&t, REQUEST_SET, ERR_OK, 200);
        later_by(&t, 20 * SECONDS);
        circuit_decide(&t.c, t.now_ms);
    }
    assert_true(status(&t)->faults & FAULT_NOT_CONFIRMED);
    later_by(&t, 31 * SECONDS);
    wish_w(&t, 4200);
    expect_set(&t, 6, 6, 6);
    done(&t, REQUEST_SET, ERR_TIMEOUT, 0);
    later_by(&t, 16 * SECONDS);
    expect_set(&t, 6, 6, 6);
}

/* What overtakes the answer to the second call may be the verdict on the first. */
static void a_verdict_is_for_its_own_call(void **state)
{
    struct bench t;
    struct outcome second = {.kind = REQUEST_SET,
                             .http_status = 202,
                             .retry_after_s = -1,
                             .ticks = 9000000000};

    (void)state;
    start(&t);
    wish_w(&t, 11040);
    expect_set(&t, 16, 16, 16);
    second.ticks = 1000000000;
    circuit_done(&t.c, &t.b, &second, t.now_ms);
    later_by(&t, 16 * SECONDS);
    wish_w(&t, 4200);
    expect_set(&t, 6, 6, 6);
    circuit_verdict(
        &t.c, &(struct verdict){.command = 22, .accepted = true, .ticks = 1000000000},
        t.now_ms);
    second.ticks = 9000000000;
    circuit_done(&t.c, &t.b, &second, t.now_ms);
    assert_int_equal(status(&t)->progress.stage, STAGE_ACCEPTED);
    circuit_verdict(
        &t.c, &(struct verdict){.command = 22, .accepted = true, .ticks = 9000000000},
        t.now_ms);
    assert_int_equal(status(&t)->progress.stage, STAGE_CONFIRMED);
    assert_int_equal(t.c.counts.foreign_commands, 0);
}

/* The report may come first; the verdict that follows is ours all the same, the next is
 * not. */
static void a_late_verdict_is_not_foreign(void **state)
{
    static const struct verdict verdict = {.command = 22, .accepted = true};
    struct bench t;

    (void)state;
    start(&t);
    wish_w(&t, 7400);
    expect_set(&t, 10, 10, 10);
    done(&t, REQUEST_SET, ERR_OK, 200);
    later_by(&t, 500);
    report(&t, 10, 10, 10);
    circuit_verdict(&t.c, &verdict, t.now_ms);
    assert_int_equal(t.c.counts.foreign_commands, 0);
    circuit_verdict(&t.c, &verdict, t.now_ms);
    assert_int_equal(t.c.counts.foreign_commands, 1);
}

/* 7302 names commands whose own value was confirmed, not a pause on the way or a
 * fallback. */
static void confirmed_sequence_is_of_the_whole_wish(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    wish_w(&t, 3000);
    expect_obeyed(&t, 13, 0, 0);
    assert_int_equal(status(&t)->progress.confirmed_seq, 101);
    later_by(&t, 601 * SECONDS);
    wish_w(&t, 11040);
    expect_obeyed(&t, 0, 0, 0);
    assert_int_equal(status(&t)->progress.confirmed_seq, 101);
    assert_int_equal(status(&t)->progress.stage, STAGE_WAITING);
    later_by(&t, 61 * SECONDS);
    expect_obeyed(&t, 16, 16, 16);
    assert_int_equal(status(&t)->progress.confirmed_seq, 102);
}

/* Fed before the deadline and looked at after it: in time. */
static void a_feed_is_in_time_however_late_it_is_taken(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    t.want.watchdog_s = 10;
    t.want.fallback_action = FALLBACK_PAUSE;
    wish_w(&t, 7400);
    expect_obeyed(&t, 10, 10, 10);
    t.want.fed_at_ms = t.now_ms + 9999;
    t.now_ms += 10000;
    circuit_decide(&t.c, t.now_ms);
    assert_true(t.c.tripped);
    circuit_want(&t.c, &t.want, t.now_ms);
    assert_false(t.c.tripped);
    assert_int_equal(status(&t)->progress.target.l[0], 10);
}

static void start_boost(void **state)
{
    struct circuit_config cfg = config();
    struct bench t;

    (void)state;
    cfg.start_boost = true;
    start_with(&t, &cfg);
    wish_w(&t, 0);
    expect_obeyed(&t, 0, 0, 0);
    later_by(&t, 30 * SECONDS);
    wish_w(&t, 4200);
    expect_obeyed(&t, 7, 7, 7);
    later_by(&t, 15 * SECONDS);
    expect_set(&t, 6, 6, 6);
}

static void observing(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    expect_nothing(&t);
    t.now_ms += 60 * SECONDS;
    expect_read(&t, REQUEST_OBSERVE);
    expect_nothing(&t); /* one read at a time */
    done(&t, REQUEST_OBSERVE, ERR_NOT_FOUND, 404);
    t.now_ms += 15 * MINUTES - 1; /* taken away: not every minute */
    expect_nothing(&t);
    t.now_ms += 1;
    expect_read(&t, REQUEST_OBSERVE);
    done(&t, REQUEST_OBSERVE, ERR_OK, 200);

    t.want.refreshes++; /* the client asks */
    circuit_want(&t.c, &t.want, t.now_ms);
    expect_read(&t, REQUEST_OBSERVE);
    done(&t, REQUEST_OBSERVE, ERR_OK, 200);

    circuit_stream(&t.c, true, t.now_ms); /* which has told nothing so far */
    t.now_ms += 60 * SECONDS - 1;
    expect_nothing(&t);
    t.now_ms += 1;
    expect_read(&t, REQUEST_OBSERVE);
    done(&t, REQUEST_OBSERVE, ERR_OK, 200);
    t.now_ms += 60 * SECONDS - 1;
    expect_nothing(&t);

    circuit_told(&t.c, 0); /* now the stream tells */
    t.now_ms += 19 * MINUTES;
    expect_nothing(&t);
    observe(&t, 109, 2);
    t.now_ms += 20 * MINUTES - 1;
    expect_nothing(&t);
    t.now_ms += 1;
    expect_read(&t, REQUEST_OBSERVE);
}

static void a_lost_circuit(void **state)
{
    struct bench t;

    (void)state;
    start_at(&t, 4200, 6);
    circuit_lost(&t.c, ERR_CIRCUIT_UNKNOWN);
    wish_w(&t, 7400);
    expect_nothing(&t);
    assert_true(status(&t)->faults & FAULT_NOT_FOUND);
    assert_int_equal(status(&t)->progress.result, ERR_CIRCUIT_UNKNOWN);
    circuit_found(&t.c, 1, true, t.now_ms);
    expect_set(&t, 10, 10, 10);
    assert_int_equal(status(&t)->faults & FAULT_NOT_FOUND, 0);
}

/* ---- after a restart ---- */

/* SENT left 5 s ago; the wish was accepted, and the client last heard of, AGO_MS ago. */
static void restart(struct bench *t, const struct circuit_sent *sent, uint64_t ago_ms)
{
    struct circuit_config cfg = config();

    init(t, &cfg);
    t->want.id = 42;
    t->want.seq = 7;
    t->want.power_w = 7400;
    t->want.fallback_action = FALLBACK_LIMIT;
    t->want.fallback_da = 80;
    t->want.accepted_at_ms = t->want.fed_at_ms = t->now_ms - ago_ms;
    circuit_restore(&t->c, &t->want, sent, 5000, t->now_ms);
    circuit_found(&t->c, 1, true, t->now_ms);
    expect_read(t, REQUEST_OBSERVE);
    observe(t, 21, 1);
    done(t, REQUEST_OBSERVE, ERR_OK, 200);
}

static struct circuit_sent sent_before(const struct bench *t, uint8_t a)
{
    struct circuit_sent sent = {
        .amps = {{a, a, a}}, .known = true, .at_ms = t->now_ms - 5 * SECONDS};

    phase_applied(&sent.phases, sent.amps, sent.at_ms);
    return sent;
}

static void a_restored_wish_is_sent_once_more(void **state)
{
    struct bench t = {.now_ms = 1000 * SECONDS};
    struct circuit_sent sent = sent_before(&t, 10);

    (void)state;
    restart(&t, &sent, 6 * SECONDS);
    assert_int_equal(status(&t)->progress.stage, STAGE_WAITING);
    assert_int_equal(status(&t)->progress.seq, 7);
    assert_int_equal(status(&t)->wishes.accepted, 1);
    assert_int_equal(status(&t)->wishes.pending, 1);
    assert_int_equal(status(&t)->telemetry.energy_wh, 5000);
    expect_nothing(&t); /* a crash loop keeps the interval */
    later_by(&t, 10 * SECONDS);
    expect_obeyed(&t, 10, 10, 10);
    assert_int_equal(status(&t)->progress.stage, STAGE_CONFIRMED);
    assert_int_equal(status(&t)->wishes.confirmed, 1);
    assert_int_equal(status(&t)->wishes.pending, 0);
    later_by(&t, 120 * SECONDS);
    expect_nothing(&t);
    wish_w(&t, 6900);
    assert_int_equal(status(&t)->wishes.accepted, 2);
}

static void a_wish_that_was_not_sent_leaves_at_once(void **state)
{
    struct bench t;

    (void)state;
    restart(&t, &(struct circuit_sent){.at_ms = NEVER}, 6 * SECONDS);
    expect_set(&t, 10, 10, 10);
}

static void no_wish_before_a_restart_is_none_after_it(void **state)
{
    struct circuit_config cfg = config();
    struct bench t;

    (void)state;
    init(&t, &cfg);
    t.want.watchdog_s = 30;
    t.want.fed_at_ms = t.now_ms - 60 * SECONDS;
    circuit_restore(&t.c, &t.want, &(struct circuit_sent){.at_ms = NEVER}, NA_U64,
                    t.now_ms);
    circuit_found(&t.c, 1, true, t.now_ms);
    expect_read(&t, REQUEST_OBSERVE);
    observe(&t, 21, 1);
    done(&t, REQUEST_OBSERVE, ERR_OK, 200);
    expect_nothing(&t);
    assert_int_equal(status(&t)->progress.stage, STAGE_NONE);
}

/* What the fallback comes to when the client fell silent before the restart. */
static void a_fallback_that_is_due_raises_nothing(void **state)
{
    static const struct {
        const char *comment;
        bool known, disabled;
        uint8_t before, after;
    } rows[] = {
        {"10 A were in force",           true,  false, 10, 8},
        {"7 A were in force",            true,  false, 7,  7},
        {"it was paused",                true,  false, 0,  0},
        {"10 A were wanted, never sent", false, false, 0,  8},
        {"0 A were wanted, never sent",  false, true,  0,  0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bench t = {.now_ms = 1000 * SECONDS};
        struct circuit_sent sent = sent_before(&t, rows[i].before);
        struct circuit_config cfg = config();
        const uint8_t a = rows[i].after;
        struct request r;

        init(&t, &cfg);
        t.want.id = 42;
        t.want.power_w = 7400;
        t.want.enable = !rows[i].disabled;
        t.want.watchdog_s = 10;
        t.want.fallback_action = FALLBACK_LIMIT;
        t.want.fallback_da = 80;
        t.want.accepted_at_ms = t.want.fed_at_ms = t.now_ms - 11 * SECONDS;
        sent.known = rows[i].known;
        circuit_restore(&t.c, &t.want, &sent, NA_U64, t.now_ms);
        assert_true(circuit_events(&t.c) & CIRCUIT_WATCHDOG);
        circuit_found(&t.c, 1, true, t.now_ms);
        observe(&t, 21, 1);
        done(&t, REQUEST_OBSERVE, ERR_OK, 200);
        t.now_ms += 30 * SECONDS;
        while (circuit_next(&t.c, &t.b, t.now_ms, &r) && r.kind != REQUEST_SET)
            done(&t, r.kind, ERR_SERVER, 500);
        if (r.kind != REQUEST_SET || r.amps.l[0] != a || r.amps.l[1] != a ||
            r.amps.l[2] != a)
            fail_msg("%s: %u/%u/%u", rows[i].comment, r.amps.l[0], r.amps.l[1],
                     r.amps.l[2]);
    }
}

static void the_dwell_goes_on_after_a_restart(void **state)
{
    struct bench t = {.now_ms = 1000 * SECONDS};
    struct circuit_sent sent = {.known = true, .at_ms = t.now_ms - 60 * SECONDS};

    (void)state;
    phase_applied(&sent.phases,
                  (struct amps){
                      {10, 10, 10}
    },
                  t.now_ms - 300 * SECONDS);
    sent.amps = (struct amps){{16}};
    phase_applied(&sent.phases, sent.amps, sent.at_ms);
    restart(&t, &sent, 61 * SECONDS);
    expect_set(&t, 16, 0, 0);
    assert_int_equal(status(&t)->progress.phase_switches_24h, 1);
    assert_int_equal(status(&t)->progress.dwell_until_ms, t.now_ms + 540 * SECONDS);
}

static void found_with_another_charger_it_starts_afresh(void **state)
{
    struct bench t;

    (void)state;
    start(&t);
    observe(&t, 124, 1234);
    assert_int_equal(status(&t)->telemetry.energy_wh, 1234000);
    circuit_found(&t.c, 1, true, t.now_ms);
    assert_true(status(&t)->telemetry.energy_wh == NA_U64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_wish_no_setpoint),
        cmocka_unit_test(first_wish_leaves_at_once),
        cmocka_unit_test(effective_when_the_car_is_offered_it),
        cmocka_unit_test(only_the_newest_wish_leaves),
        cmocka_unit_test(skipped_ids_are_merged),
        cmocka_unit_test(unchanged_values_are_not_sent),
        cmocka_unit_test(send_again_on_request),
        cmocka_unit_test(an_old_report_does_not_replace_sending_again),
        cmocka_unit_test(intervals),
        cmocka_unit_test(the_reserve_is_for_protection),
        cmocka_unit_test(its_own_budget),
        cmocka_unit_test(only_a_true_read_back_confirms),
        cmocka_unit_test(a_read_back_from_before_does_not_confirm),
        cmocka_unit_test(reports_confirm_when_whole_and_newer),
        cmocka_unit_test(never_confirmed),
        cmocka_unit_test(verdicts_of_the_stream),
        cmocka_unit_test(a_verdict_before_the_answer),
        cmocka_unit_test(failures),
        cmocka_unit_test(backoff_grows_to_five_minutes),
        cmocka_unit_test(newest_after_retry_after),
        cmocka_unit_test(nothing_to_undo_after_a_429),
        cmocka_unit_test(a_time_out_is_undone),
        cmocka_unit_test(time_outs_remember_what_was_before),
        cmocka_unit_test(a_refused_value_is_not_tried_again),
        cmocka_unit_test(watchdog_actions),
        cmocka_unit_test(fallback_is_urgent),
        cmocka_unit_test(heartbeats_feed_the_watchdog),
        cmocka_unit_test(a_new_wish_or_clearing_ends_the_fallback),
        cmocka_unit_test(a_fallback_keeps_the_phases_of_its_ceiling),
        cmocka_unit_test(validity),
        cmocka_unit_test(an_expired_wish_that_is_held_is_not_sent),
        cmocka_unit_test(a_held_wish_does_not_wake),
        cmocka_unit_test(a_rejected_fallback_is_repeated),
        cmocka_unit_test(a_rejected_decrease_is_repeated),
        cmocka_unit_test(a_rejected_renewal_is_repeated),
        cmocka_unit_test(somebody_else_during_hold_does_not_wake),
        cmocka_unit_test(a_moved_circuit_gets_all_again),
        cmocka_unit_test(a_lost_pause_is_no_pause),
        cmocka_unit_test(phases_depend_on_facts),
        cmocka_unit_test(first_setpoint_waits_for_the_grid_type),
        cmocka_unit_test(the_stream_tells_the_grid_type),
        cmocka_unit_test(one_to_three_phases),
        cmocka_unit_test(takes_over_the_phases_of_a_charge),
        cmocka_unit_test(a_pause_ends_early_when_idle),
        cmocka_unit_test(somebody_else_is_overruled_a_few_times),
        cmocka_unit_test(a_foreign_command_is_looked_after),
        cmocka_unit_test(a_request_ends_the_slow_retry),
        cmocka_unit_test(a_short_difference_is_nobody),
        cmocka_unit_test(renewed_by_the_same_value),
        cmocka_unit_test(renewed_when_the_charger_says_so),
        cmocka_unit_test(renewed_by_a_change_where_repetition_is_swallowed),
        cmocka_unit_test(no_verdict_on_the_stream_is_swallowed),
        cmocka_unit_test(no_time_to_live_without_a_neighbour),
        cmocka_unit_test(a_lapsed_setpoint_is_sent_again),
        cmocka_unit_test(a_repeated_setpoint_is_renewed_at_once),
        cmocka_unit_test(a_restored_setpoint_is_renewed),
        cmocka_unit_test(a_renewal_is_no_change),
        cmocka_unit_test(not_found_asks_for_a_lookup),
        cmocka_unit_test(a_change_given_up_counts_as_one),
        cmocka_unit_test(a_slow_retry_is_for_its_value_only),
        cmocka_unit_test(a_verdict_is_for_its_own_call),
        cmocka_unit_test(a_late_verdict_is_not_foreign),
        cmocka_unit_test(confirmed_sequence_is_of_the_whole_wish),
        cmocka_unit_test(a_feed_is_in_time_however_late_it_is_taken),
        cmocka_unit_test(start_boost),
        cmocka_unit_test(observing),
        cmocka_unit_test(a_lost_circuit),
        cmocka_unit_test(a_restored_wish_is_sent_once_more),
        cmocka_unit_test(a_wish_that_was_not_sent_leaves_at_once),
        cmocka_unit_test(no_wish_before_a_restart_is_none_after_it),
        cmocka_unit_test(a_fallback_that_is_due_raises_nothing),
        cmocka_unit_test(the_dwell_goes_on_after_a_restart),
        cmocka_unit_test(found_with_another_charger_it_starts_afresh),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
