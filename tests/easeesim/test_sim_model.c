/* SPDX-License-Identifier: MIT
 * The pure device and cloud model of easeesim (easee-api 3 to 5, 9, 12). */
#include "device.h"
#include "model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct model m;
static struct circuit *k;
static struct charger *c, *second;
static const char *comment = ""; /* of the table's row, for failures */

/* One circuit of 32 A with one charger, or two, each with a car that wants 32 A. */
static void world(unsigned chargers)
{
    model_init(&m, 42, 1700000000000);
    model_add_account(&m, "a@b");
    model_add_site(&m, 0, 1);
    k = model_add_circuit(&m, 0, 10);
    c = model_add_charger(&m, 0, "EH1");
    c->car.connected = true;
    second = NULL;
    if (chargers > 1) {
        second = model_add_charger(&m, 0, "EH2");
        second->car.connected = true;
    }
    model_settle(&m);
}

static void run(double s)
{
    model_advance(&m, m.now_ms + (uint64_t)(s * 1000));
}

static struct command *send_limit(double p1, double p2, double p3, double ttl_min)
{
    struct order o = {
        .id = CMD_DYNAMIC_CIRCUIT,
        .setting = -1,
        .arg = {p1, p2, p3},
        .ttl_min = ttl_min
    };
    struct command *q = model_send(&m, c, &o);

    return q;
}

static struct command *set(enum setting s, double value, double ttl_min)
{
    struct order o = {.id = setting_info[s].command,
                      .setting = (int)s,
                      .arg = {value},
                      .ttl_min = ttl_min};

    return model_send(&m, c, &o);
}

static const struct seen *seen(int id)
{
    for (unsigned i = 0; i < OBSERVATIONS; i++)
        if (obs_info[i].id == id)
            return &c->seen[i];
    fail_msg("observation %d", id);
    return NULL;
}

static void assert_a(const double *a, double p1, double p2, double p3)
{
    if (a[0] != p1 || a[1] != p2 || a[2] != p3)
        fail_msg("%s: %g/%g/%g, expected %g/%g/%g", comment, a[0], a[1], a[2], p1, p2,
                 p3);
}

static void test_settled(void **state)
{
    (void)state;
    world(1);
    assert_int_equal(c->op_mode, OP_CHARGING);
    assert_int_equal(device_output_phase(c), 30);
    assert_a(c->current_a, 32, 32, 32);
    assert_a(k->dynamic_cloud, 40, 40, 40);
    assert_true(seen(109)->known && (int)seen(109)->value == OP_CHARGING);
    assert_true(seen(114)->value == 32);
    assert_false(seen(129)->known);
    run(3600);
    assert_true(fabs(c->session_kwh - 22.18) < 0.1);
}

/* Times in ms from sending at which each thing becomes so. */
struct times {
    uint64_t device, cloud, seen111, seen114, seen109, seen110, seen120, flow;
};

static void note(uint64_t *t, bool is_so, uint64_t since)
{
    if (!is_so)
        *t = NEVER;
    else if (*t == NEVER)
        *t = m.now_ms - since;
}

/* Sends a limit and watches for 20 s, in steps of 10 ms. */
static struct times watch(double a, int op_mode, double flow, int phase)
{
    struct times t = {NEVER, NEVER, NEVER, NEVER, NEVER, NEVER, NEVER, NEVER};
    uint64_t since = m.now_ms;

    send_limit(a, a, a, 0);
    while (m.now_ms < since + 20000) {
        model_advance(&m, m.now_ms + 10);
        note(&t.device, k->dynamic_a[0] == a, since);
        note(&t.cloud, k->dynamic_cloud[0] == a, since);
        note(&t.seen111, seen(111)->value == a && seen(113)->value == a, since);
        note(&t.seen114, seen(114)->value == (a < 6 ? 0 : a), since);
        note(&t.seen109, seen(109)->value == op_mode, since);
        note(&t.seen110, seen(110)->value == phase, since);
        note(&t.flow, c->current_a[0] == flow, since);
        note(&t.seen120, fabs(seen(120)->value - flow * 0.693) < 0.01 * flow, since);
    }
    return t;
}

static void between(const char *what, uint64_t t, uint64_t lo, uint64_t hi)
{
    if (t < lo || t > hi)
        fail_msg("%s at %llu ms, expected %llu to %llu", what, (unsigned long long)t,
                 (unsigned long long)lo, (unsigned long long)hi);
}

static void test_reduce_timing(void **state)
{
    struct times t;

    (void)state;
    world(1);
    t = watch(10, OP_CHARGING, 10, 30);
    between("device", t.device, 500, 1010);
    between("cloud", t.cloud, 500, 1010);
    between("111-113", t.seen111, 1000, 2010);
    between("114", t.seen114, 1000, 2300);
    between("flow", t.flow, 1000, 7000);
    between("120", t.seen120, t.flow, t.flow + 1200);
}

static void test_pause_and_start_timing(void **state)
{
    struct times t;

    (void)state;
    world(1);
    t = watch(0, OP_AWAITING_START, 0, 0);
    between("opMode 2", t.seen109, 1200, 3000);
    between("outputPhase 0", t.seen110, 1200, 3000);
    assert_int_equal(c->reason, 2);
    t = watch(7, OP_CHARGING, 7, 30);
    between("opMode 3", t.seen109, 10000, 13000);
    between("flow", t.flow, 10500, 16000);
}

static void test_fractions_are_floored(void **state)
{
    (void)state;
    world(1);
    send_limit(15.9, 16.2, 6.5, 0);
    run(20);
    assert_a(k->dynamic_a, 15, 16, 6);
    assert_a(k->dynamic_cloud, 15, 16, 6);
    assert_a(c->current_a, 6, 6, 6);
}

static void same(const char *what, int got, int expected)
{
    if (got != expected)
        fail_msg("%s: %s %d, expected %d", comment, what, got, expected);
}

/* The table of easee-api 9 and 9.1: limits, grid, phase mode -> what flows. */
static void test_limits_and_phases(void **state)
{
    static const struct {
        const char *name;
        int grid, phase_mode, car_phases;
        double p[3], flow[3];
        int output_phase, op_mode, reason;
    } row[] = {
        {"three phases",                  1, 2, 3, {16, 16, 16}, {16, 16, 16}, 30, 3, 27},
        {"lowest phase counts",           1, 2, 3, {16, 10, 12}, {10, 10, 10}, 30, 3, 27},
        {"5 A is nothing",                1, 2, 3, {5, 5, 5},    {0, 0, 0},    0,  2, 2 },
        {"one phase",                     1, 2, 3, {13, 0, 0},   {13, 0, 0},   10, 3, 27},
        {"one phase, the others below 6", 1, 2, 3, {13, 5, 5},   {13, 0, 0},   10, 3, 27},
        {"the second phase",              1, 2, 3, {0, 13, 0},   {0, 13, 0},   12, 3, 27},
        {"the third phase",               1, 2, 3, {0, 0, 6},    {0, 0, 6},    14, 3, 27},
        {"two phases",                    1, 2, 3, {8, 9, 0},    {8, 8, 0},    20, 3, 27},
        {"locked to one",                 1, 1, 3, {16, 16, 16}, {16, 0, 0},   10, 3, 27},
        {"locked to three, one given",    1, 3, 3, {16, 0, 0},   {0, 0, 0},    0,  2, 11},
        {"one-phase car",                 1, 2, 1, {16, 16, 16}, {16, 0, 0},   30, 3, 27},
        {"above every limit",             1, 2, 3, {63, 63, 63}, {32, 32, 32}, 30, 3, 0 },
        {"TN one phase",                  3, 2, 3, {16, 16, 16}, {16, 0, 0},   10, 3, 27},
        {"IT three wires",                4, 2, 3, {16, 16, 16}, {16, 16, 16}, 22, 3, 27},
        {"IT P2=P3=0 is no single phase", 4, 2, 3, {16, 0, 0},   {0, 0, 0},    0,  2, 11},
        {"IT L1+L2",                      4, 2, 3, {16, 16, 0},  {16, 16, 0},  11, 3, 27},
        {"IT L1+L3",                      4, 2, 3, {16, 0, 16},  {16, 0, 16},  13, 3, 27},
        {"IT L2+L3",                      4, 2, 3, {0, 8, 16},   {0, 8, 8},    15, 3, 27},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof row / sizeof row[0]; i++) {
        comment = row[i].name;
        world(1);
        c->grid_type = row[i].grid;
        c->setting[SETTING_PHASE_MODE] = row[i].phase_mode;
        c->car.phases = row[i].car_phases;
        device_drop(&m, c);
        send_limit(row[i].p[0], row[i].p[1], row[i].p[2], 0);
        run(40);
        assert_a(c->current_a, row[i].flow[0], row[i].flow[1], row[i].flow[2]);
        same("outputPhase", device_output_phase(c), row[i].output_phase);
        same("opMode", (int)c->op_mode, row[i].op_mode);
        same("reason", c->reason, row[i].reason);
        same("observation 110", (int)seen(110)->value, row[i].output_phase);
        same("observation 109", (int)seen(109)->value, row[i].op_mode);
    }
    comment = "";
}

static void test_three_phases_only_after_a_pause(void **state)
{
    unsigned switches;

    (void)state;
    world(1);
    send_limit(10, 0, 0, 0);
    run(20);
    assert_a(c->current_a, 10, 0, 0);
    send_limit(10, 10, 10, 0);
    run(120);
    assert_a(c->current_a, 10, 0, 0);
    assert_int_equal(device_output_phase(c), 10);
    switches = c->relay_switches;
    send_limit(0, 0, 0, 0);
    run(30);
    assert_int_equal(c->op_mode, OP_AWAITING_START);
    send_limit(10, 10, 10, 0);
    run(30);
    assert_a(c->current_a, 10, 10, 10);
    assert_int_equal(c->relay_switches, switches + 1 + 3);
}

static void test_quirk_start_at_6(void **state)
{
    (void)state;
    world(1);
    m.quirks.start_at_6_wait = true;
    send_limit(0, 0, 0, 0);
    run(10);
    send_limit(6, 6, 6, 0);
    run(290);
    assert_int_equal(c->op_mode, OP_AWAITING_START);
    run(20);
    assert_int_equal(c->op_mode, OP_CHARGING);
    send_limit(0, 0, 0, 0);
    run(10);
    send_limit(6, 6, 6, 0);
    run(30);
    send_limit(7, 7, 7, 0); /* does not wait */
    run(15);
    assert_int_equal(c->op_mode, OP_CHARGING);
}

static void test_quirk_stuck_at_6(void **state)
{
    (void)state;
    world(1);
    m.quirks.stuck_at_6 = true;
    send_limit(6, 0, 0, 0);
    run(600);
    assert_int_equal(c->op_mode, OP_AWAITING_START);
    send_limit(6, 0, 0, 0);
    run(600);
    assert_int_equal(c->op_mode, OP_AWAITING_START);
    send_limit(7, 0, 0, 0);
    run(30);
    assert_a(c->current_a, 7, 0, 0);
    world(1);
    send_limit(6, 0, 0, 0); /* without the quirk */
    run(30);
    assert_a(c->current_a, 6, 0, 0);
}

static void test_ttl(void **state)
{
    static const double expected[] = {
        [TTL_OFFLINE] = 6, [TTL_MAXIMUM] = 32, [TTL_NEVER] = 20};

    (void)state;
    for (unsigned e = TTL_OFFLINE; e <= TTL_NEVER; e++) {
        world(1);
        m.ttl_expiry = (enum ttl_expiry)e;
        send_limit(20, 20, 20, 2);
        run(119);
        assert_true(k->dynamic_a[0] == 20);
        run(5);
        assert_true(k->dynamic_a[0] == expected[e]);
        assert_true(k->dynamic_cloud[0] == expected[e]);
        assert_true(seen(112)->value == expected[e]);
    }
}

static void test_a_new_limit_restarts_or_ends_the_ttl(void **state)
{
    (void)state;
    world(1);
    send_limit(20, 20, 20, 1);
    run(50);
    send_limit(20, 20, 20, 1);
    run(50);
    assert_true(k->dynamic_a[0] == 20);
    send_limit(20, 20, 20, 0);
    run(600);
    assert_true(k->dynamic_a[0] == 20);
}

static void test_charger_current(void **state)
{
    (void)state;
    world(1);
    set(SETTING_DYNAMIC, 8, 1);
    run(10);
    assert_a(c->current_a, 8, 8, 8);
    assert_int_equal(c->reason, 78);
    assert_true(seen(48)->value == 8);
    run(60);
    assert_a(c->current_a, 32, 32, 32); /* the TTL of a charger does work */
    set(SETTING_DYNAMIC, 0, 0);
    run(10);
    assert_int_equal(c->op_mode, OP_AWAITING_START);
    assert_int_equal(c->reason, 52);
    set(SETTING_DYNAMIC, 6, 0); /* writing the limit is the resume */
    run(30);
    assert_a(c->current_a, 6, 6, 6);
    assert_int_equal(c->flash_writes, 0);
}

static void test_flash_is_counted_when_it_changes(void **state)
{
    struct order o = {
        .id = CMD_MAX_CIRCUIT, .setting = -1, .arg = {20, 20, 32}
    };

    (void)state;
    world(1);
    model_send(&m, c, &o);
    run(3);
    assert_a(k->max_a, 20, 20, 32);
    assert_int_equal(k->flash_writes, 2);
    model_send(&m, c, &o);
    run(3);
    assert_int_equal(k->flash_writes, 2);
    set(SETTING_MAX, 16, 0);
    set(SETTING_PHASE_MODE, 1, 0);
    run(3);
    assert_int_equal(c->flash_writes, 2);
    send_limit(10, 10, 10, 0);
    run(3);
    assert_int_equal(k->flash_writes, 2);
}

static void test_unchanged_is_recognised(void **state)
{
    struct order o = {
        .id = CMD_DYNAMIC_CIRCUIT, .setting = -1, .arg = {40, 40, 40.9}
    };

    (void)state;
    world(1);
    assert_false(model_changes(&m, c, &o));
    send_limit(10, 10, 10, 0);
    assert_true(model_changes(&m, c, &o)); /* against what is on its way */
    run(3);
    assert_true(model_changes(&m, c, &o));
    o.arg[0] = o.arg[1] = o.arg[2] = 10;
    assert_false(model_changes(&m, c, &o));
}

static void test_commands(void **state)
{
    struct command *q;
    int64_t ticks;

    (void)state;
    world(1);
    q = send_limit(10, 10, 10, 0);
    ticks = q->ticks;
    assert_true(ticks > INT64_C(638355968000000000)); /* of 2023, in .NET ticks */
    assert_null(model_command(&m, c, CMD_DYNAMIC_CIRCUIT, ticks + 1));
    run(1.6);
    q = model_command(&m, c, CMD_DYNAMIC_CIRCUIT, ticks);
    assert_non_null(q);
    assert_int_equal(q->verdict, VERDICT_EXECUTED);
    c->confirm = CONFIRM_REJECT;
    q = send_limit(20, 20, 20, 0);
    run(2);
    assert_int_equal(q->verdict, VERDICT_REJECTED);
    assert_true(k->dynamic_a[0] == 10 && k->dynamic_cloud[0] == 10);
    c->confirm = CONFIRM_NEVER;
    q = send_limit(20, 20, 20, 0);
    run(30);
    assert_int_equal(q->verdict, VERDICT_SENT);
    run(40);
    assert_int_equal(q->verdict, VERDICT_EXPIRED);
    assert_true(k->dynamic_a[0] == 10 && k->dynamic_cloud[0] == 10);
}

static void test_commands_keep_their_order(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 200; seed++) {
        world(1);
        m.rng = seed;
        send_limit(10, 10, 10, 0);
        run(0.05);
        send_limit(12, 12, 12, 0);
        send_limit(14, 14, 14, 0);
        run(5);
        assert_true(k->dynamic_a[0] == 14 && seen(111)->value == 14);
    }
}

static void test_ticks_are_unique(void **state)
{
    int64_t last = 0;

    (void)state;
    for (int big = 0; big < 2; big++) {
        world(1);
        m.quirks.big_ticks = big;
        for (unsigned i = 0; i < 1000; i++) {
            struct command *q = send_limit(10, 10, 10, 0);

            assert_true(q->ticks != last);
            last = q->ticks;
            if (i % 100 == 0)
                run(1);
        }
    }
    assert_true(last > INT64_C(9000000000000000000));
}

static void test_offline(void **state)
{
    struct command *q;

    (void)state;
    world(1);
    model_set_online(&m, c, false);
    run(10);
    assert_a(c->current_a, 6, 6, 6); /* offlineMax */
    assert_int_equal(c->reason, 30);
    assert_true(seen(250)->value == 0 && seen(109)->value == 0);
    assert_true(seen(114)->value == 32); /* nothing newer reached the cloud */
    q = send_limit(10, 10, 10, 0);
    run(70);
    assert_int_equal(q->verdict, VERDICT_EXPIRED);
    assert_true(k->dynamic_a[0] == 40);
    model_set_online(&m, c, true);
    run(10);
    assert_true(seen(250)->value == 1 && (int)seen(109)->value == OP_CHARGING);
    assert_a(c->current_a, 32, 32, 32);
    c->setting[SETTING_OFFLINE_MODE] = 2;
    model_set_online(&m, c, false);
    run(10);
    assert_a(c->current_a, 0, 0, 0);
}

static void test_goes_offline_with_a_command_on_its_way(void **state)
{
    struct command *q;

    (void)state;
    world(1);
    q = send_limit(10, 10, 10, 0);
    run(0.2);
    model_set_online(&m, c, false);
    run(30);
    assert_int_equal(q->verdict, VERDICT_SENT);
    model_set_online(&m, c, true);
    run(40);
    assert_int_equal(q->verdict, VERDICT_EXPIRED);
    assert_true(k->dynamic_a[0] == 40);
}

static void test_reboot(void **state)
{
    (void)state;
    for (int product = 1; product <= 100; product += 99) {
        world(1);
        c->product = product;
        send_limit(10, 10, 10, 30);
        set(SETTING_DYNAMIC, 8, 0);
        run(5);
        model_send(&m, c, &(struct order){.id = CMD_REBOOT, .setting = -1});
        run(2);
        assert_false(c->online);
        assert_a(c->current_a, 0, 0, 0);
        run(55);
        assert_false(c->online);
        run(100);
        assert_true(c->online);
        assert_true(k->dynamic_a[0] == (product == 1 ? 40 : 80));
        assert_true(k->dynamic_cloud[0] == k->dynamic_a[0]);
        assert_true(c->setting[SETTING_DYNAMIC] == 32);
        assert_int_equal(k->ttl_ms, NEVER);
        assert_a(c->current_a, 32, 32, 32);
    }
}

static void test_car(void **state)
{
    struct car car;

    (void)state;
    world(1);
    set(SETTING_DYNAMIC, 8, 0);
    send_limit(20, 20, 20, 0);
    run(600);
    car = c->car;
    car.full = true;
    model_set_car(&m, c, &car);
    run(5);
    assert_int_equal(c->op_mode, OP_COMPLETED);
    car.full = false;
    car.wants_a = 0;
    model_set_car(&m, c, &car);
    run(5);
    assert_int_equal(c->op_mode, OP_READY);
    car.wants_a = 16;
    model_set_car(&m, c, &car);
    run(20);
    assert_a(c->current_a, 8, 8, 8);
    car.connected = false;
    model_set_car(&m, c, &car);
    run(5);
    assert_int_equal(c->op_mode, OP_DISCONNECTED);
    assert_string_equal(seen(100)->text, "A");
    assert_true(seen(129)->known && strstr(seen(129)->text, "\"EnergyKwh\":0.9"));
    assert_true(k->dynamic_a[0] == 20); /* the circuit's limit survives */
    car.connected = true;
    model_set_car(&m, c, &car);
    run(30);
    assert_true(c->setting[SETTING_DYNAMIC] == 32); /* the charger's does not */
    assert_a(c->current_a, 16, 16, 16);
    assert_int_equal(c->reason, 81);
    assert_true(c->session_kwh < 0.2);
}

static void test_error_and_authorisation(void **state)
{
    (void)state;
    world(1);
    c->error = true;
    device_drop(&m, c);
    model_touch(&m);
    run(5);
    assert_int_equal(c->op_mode, OP_ERROR);
    assert_int_equal((int)seen(96)->value, 56);
    c->error = false;
    model_touch(&m);
    run(20);
    assert_int_equal(c->op_mode, OP_CHARGING);
    set(SETTING_AUTH_REQUIRED, 1, 0);
    run(10);
    assert_int_equal(c->op_mode, OP_AWAITING_AUTH);
    assert_int_equal(c->reason, 55);
    model_send(&m, c, &(struct order){.id = CMD_AUTHORISE, .setting = -1});
    run(20);
    assert_int_equal(c->op_mode, OP_CHARGING);
    model_send(&m, c, &(struct order){.id = CMD_DEAUTHORISE, .setting = -1});
    run(20);
    assert_int_equal(c->op_mode, OP_AWAITING_AUTH);
    set(SETTING_AUTH_REQUIRED, 0, 0);
    set(SETTING_ENABLED, 0, 0);
    run(20);
    assert_int_equal(c->reason, 53);
    assert_a(c->current_a, 0, 0, 0);
}

static void test_two_chargers_share(void **state)
{
    (void)state;
    world(2);
    run(30);
    assert_a(c->current_a, 16, 16, 16);
    assert_a(second->current_a, 16, 16, 16);
    assert_int_equal(second->reason, 29);
    assert_true(seen(77)->value == 2 && seen(73)->value == 32 && seen(97)->value == 2);
    send_limit(10, 10, 10, 0);
    run(30);
    assert_a(c->current_a, 10, 10, 10); /* too little for two: one is served */
    assert_a(second->current_a, 0, 0, 0);
    assert_int_equal(second->reason, 5);
    assert_true(seen(78)->value == 1);
    second->car.wants_a = 6;
    send_limit(20, 20, 20, 0);
    run(30);
    assert_true(c->current_a[0] + second->current_a[0] <= 20);
    assert_true(second->current_a[0] == 6);
    send_limit(0, 0, 0, 0);
    run(30);
    assert_int_equal(c->reason, 2);
    assert_int_equal(second->reason, 2);
}

static void test_hour_and_heartbeat(void **state)
{
    uint64_t first;

    (void)state;
    world(1);
    first = seen(150)->at_ms;
    run(901);
    assert_int_equal(seen(150)->at_ms, first + 900000);
    run(2 * 3600);
    assert_true(fabs(seen(122)->value - 22.18) < 0.1);
    assert_true(fabs(seen(124)->value - c->lifetime_kwh) <= 22.3);
    assert_true(fabs(seen(121)->value - c->session_kwh) < 0.25);
}

/* Whatever happens, the physics hold, and after a quiet while the cloud knows the truth.
 */
static void check_truth(void)
{
    double sum[3] = {0};

    for (unsigned i = 0; i < m.n_chargers; i++)
        for (int p = 0; p < 3; p++)
            sum[p] += m.charger[i].current_a[p];
    for (int p = 0; p < 3; p++) {
        double limit = fmin(k->max_a[p], fmin(k->rated_a, k->dynamic_a[p]));

        if (c->online && sum[p] > (limit < 6 ? 0 : limit))
            fail_msg("phase %d: %g A flow, %g A allowed", p, sum[p], limit);
        if (c->online && k->dynamic_cloud[p] != k->dynamic_a[p])
            fail_msg("the cloud has %g, the charger %g", k->dynamic_cloud[p],
                     k->dynamic_a[p]);
    }
    if (c->online && (int)seen(109)->value != (int)c->op_mode)
        fail_msg("the cloud sees mode %g, it is %d", seen(109)->value, c->op_mode);
    assert_true((c->op_mode == OP_CHARGING) == (c->relay != 0));
}

static void one_random_thing(void)
{
    struct charger *x = rand() % 2 ? c : second;
    struct car car = x->car;

    switch (rand() % 12) {
    case 0:
        model_set_online(&m, x, rand() % 3 != 0);
        break;
    case 1:
        car.connected = rand() % 4 != 0;
        car.full = rand() % 4 == 0;
        car.wants_a = rand() % 40;
        car.phases = rand() % 2 ? 3 : 1;
        model_set_car(&m, x, &car);
        break;
    case 2:
        x->setting[SETTING_PHASE_MODE] = 1 + rand() % 3;
        model_touch(&m);
        break;
    case 3:
        set(SETTING_DYNAMIC, rand() % 40, rand() % 3);
        break;
    case 4:
        if (rand() % 10 == 0)
            model_reboot(&m, x, 20);
        break;
    case 5:
        send_limit(rand() % 2 ? 0 : rand() % 40, 0, 0, rand() % 3);
        break;
    default:
        send_limit(rand() % 40, rand() % 40, rand() % 40, rand() % 4 ? 0 : 1);
    }
}

static void test_random_days(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        print_message("seed %u\n", seed);
        srand(seed);
        world(2);
        m.rng = seed;
        m.quirks.stuck_at_6 = seed % 2;
        for (unsigned i = 0; i < 500; i++) {
            for (int n = rand() % 4; n >= 0; n--) {
                one_random_thing();
                run((rand() % 3000) / 1000.0);
            }
            run(200); /* restarts and time-to-lives end too */
            check_truth();
        }
    }
}

static void test_same_seed_same_world(void **state)
{
    static struct model first;

    (void)state;
    for (int pass = 0; pass < 2; pass++) {
        world(2);
        srand(5);
        for (unsigned i = 0; i < 200; i++) {
            one_random_thing();
            /* cutting time finer must not matter */
            for (int n = 0; n < (pass ? 7 : 1); n++)
                run(pass ? 1 : 7);
        }
        if (pass == 0)
            first = m;
    }
    assert_int_equal(m.now_ms, first.now_ms);
    for (unsigned i = 0; i < OBSERVATIONS; i++) {
        assert_int_equal(m.charger[0].seen[i].at_ms, first.charger[0].seen[i].at_ms);
        assert_true(m.charger[0].seen[i].value == first.charger[0].seen[i].value ||
                    fabs(m.charger[0].seen[i].value - first.charger[0].seen[i].value) <
                        0.01);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settled),
        cmocka_unit_test(test_reduce_timing),
        cmocka_unit_test(test_pause_and_start_timing),
        cmocka_unit_test(test_fractions_are_floored),
        cmocka_unit_test(test_limits_and_phases),
        cmocka_unit_test(test_three_phases_only_after_a_pause),
        cmocka_unit_test(test_quirk_start_at_6),
        cmocka_unit_test(test_quirk_stuck_at_6),
        cmocka_unit_test(test_ttl),
        cmocka_unit_test(test_a_new_limit_restarts_or_ends_the_ttl),
        cmocka_unit_test(test_charger_current),
        cmocka_unit_test(test_flash_is_counted_when_it_changes),
        cmocka_unit_test(test_unchanged_is_recognised),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_commands_keep_their_order),
        cmocka_unit_test(test_ticks_are_unique),
        cmocka_unit_test(test_offline),
        cmocka_unit_test(test_goes_offline_with_a_command_on_its_way),
        cmocka_unit_test(test_reboot),
        cmocka_unit_test(test_car),
        cmocka_unit_test(test_error_and_authorisation),
        cmocka_unit_test(test_two_chargers_share),
        cmocka_unit_test(test_hour_and_heartbeat),
        cmocka_unit_test(test_random_days),
        cmocka_unit_test(test_same_seed_same_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
