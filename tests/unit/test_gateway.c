/* SPDX-License-Identifier: MIT
 * test_gateway.c - bytes in, bytes out: unit, function, registers, wish. */
#include "evecc/gateway.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { UNIT = 5, OTHER_UNIT = 247, START_MS = 1000000 };

struct fixture {
    struct config cfg;
    struct config_circuit circuit[2];
    struct exchange *x;
    struct gateway *g;
    uint64_t now_ms;
    bool may_write;
    struct gateway_report report;
    uint8_t out[MBAP_ADU_MAX];
    size_t size;
};

static int start(void **state, size_t circuits)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->circuit[0] = (struct config_circuit){.name = "garage",
                                            .unit = UNIT,
                                            .max_current = 16,
                                            .min_current = 6,
                                            .phases = 3,
                                            .voltage = 230,
                                            .watchdog = 60,
                                            .fallback_action = FALLBACK_LIMIT,
                                            .fallback_current = 6,
                                            .phase_switches_per_day = 10};
    f->circuit[1] = f->circuit[0];
    f->circuit[1].unit = OTHER_UNIT;
    f->circuit[1].phases = 1;
    f->circuit[1].deadman = 30;
    f->cfg.circuit = f->circuit;
    f->cfg.circuits = circuits;
    f->x = exchange_new(circuits);
    f->now_ms = START_MS;
    f->may_write = true;
    *state = f;
    return gateway_new(&f->g, &f->cfg, f->x, f->now_ms) == ERR_OK ? 0 : -1;
}

static int one_circuit(void **state)
{
    return start(state, 1);
}

static int two_circuits(void **state)
{
    return start(state, 2);
}

static int stop(void **state)
{
    struct fixture *f = *state;
    gateway_free(f->g);
    exchange_free(f->x);
    free(f);
    return 0;
}

/* Sends one request and checks what every answer must have: transaction, protocol,
 * length, unit, function (C-07 to C-09).  Returns the exception. */
static enum modbus_exception ask_bytes(struct fixture *f, uint8_t unit,
                                       const uint8_t *pdu, size_t n)
{
    static uint16_t transaction;
    uint8_t adu[MBAP_ADU_MAX];
    transaction = (uint16_t)(transaction + 0x0101);
    adu[0] = (uint8_t)(transaction >> 8);
    adu[1] = (uint8_t)transaction;
    adu[2] = adu[3] = adu[4] = 0;
    adu[5] = (uint8_t)(n + 1);
    adu[6] = unit;
    memcpy(adu + MBAP_HEADER, pdu, n);

    f->size = gateway_answer(f->g, adu, MBAP_HEADER + n, f->may_write, f->now_ms,
                             1700000000, f->out, &f->report);
    assert_in_range(f->size, 9, MBAP_ADU_MAX);
    assert_memory_equal(f->out, adu, 5);
    assert_int_equal(f->out[5], f->size - 6);
    assert_int_equal(f->out[6], unit);
    if (f->out[7] == pdu[0] && !(pdu[0] & 0x80)) {
        assert_int_equal(f->report.exception, EX_NONE);
        return EX_NONE;
    }
    assert_int_equal(f->out[7], pdu[0] | 0x80);
    assert_int_equal(f->size, 9);
    assert_int_equal(f->report.exception, f->out[8]);
    return f->out[8];
}

#define ask(f, unit, ...) \
    ask_bytes(f, unit, (const uint8_t[]){__VA_ARGS__}, sizeof(uint8_t[]){__VA_ARGS__})
#define W(v) (uint8_t)((v) >> 8), (uint8_t)(v)

static unsigned word(const uint8_t *p)
{
    return (unsigned)(p[0] << 8 | p[1]);
}

/* Register I of the answer to a read. */
static unsigned got(const struct fixture *f, size_t i)
{
    assert_in_range(9 + 2 * i + 1, 0, f->size - 1);
    return word(f->out + 9 + 2 * i);
}

static unsigned reg(struct fixture *f, unsigned addr)
{
    assert_int_equal(ask(f, UNIT, 3, W(addr), 0, 1), EX_NONE);
    return got(f, 0);
}

static void units(void **state)
{
    struct fixture *f = *state;
    bool only = f->cfg.circuits == 1;
    for (unsigned unit = 0; unit < 256; unit++) {
        bool known =
            unit == UNIT || (only ? unit == 0 || unit == 255 : unit == OTHER_UNIT);
        if (ask(f, (uint8_t)unit, 3, W(7000), 0, 2) != (known ? EX_NONE : EX_UNIT))
            fail_msg("unit %u", unit);
        if (known)
            assert_memory_equal(f->out + 9, "EVGW", 4);
    }
    /* judged before the function, the shape and the address */
    assert_int_equal(ask(f, 77, 0x41), EX_UNIT);
    assert_int_equal(ask(f, 77, 3, W(0), 0, 0), EX_UNIT);
    assert_int_equal(ask(f, 77, 43, 14, 1, 0), EX_UNIT);
}

static void identity_of_each_circuit(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ask(f, UNIT, 3, W(7000), 0, 20), EX_NONE);
    assert_int_equal(got(f, 2), 7000);
    assert_int_equal(got(f, 3), 500);
    assert_int_equal(got(f, 7), 1);
    assert_int_equal(got(f, 8), 2);
    assert_int_equal(got(f, 9), 0);
    assert_true(got(f, 11) & CAPABILITY_PER_PHASE_LIMITS);
    /* Only the cloud can say that switching works here: grid, alone on the circuit. */
    assert_false(got(f, 11) & CAPABILITY_PHASE_SWITCHING);
    assert_false(got(f, 11) & CAPABILITY_CLOUD_TTL);
    assert_int_equal(got(f, 12), 60);
    assert_int_equal(got(f, 13), 160);
    assert_int_equal(got(f, 15), 3);
    assert_int_equal(got(f, 16), 230);

    assert_int_equal(ask(f, OTHER_UNIT, 4, W(7000), 0, 20), EX_NONE);
    assert_int_equal(got(f, 7), 2);
    assert_false(got(f, 11) & CAPABILITY_PHASE_SWITCHING);
    assert_true(got(f, 11) & CAPABILITY_CLOUD_TTL);
    assert_int_equal(got(f, 15), 1);
}

/* C-20, C-30: whatever is not served is exception 1 with the high bit set, also for codes
 * that have it already. */
static void every_other_function_is_refused(void **state)
{
    struct fixture *f = *state;
    for (unsigned function = 0; function < 256; function++) {
        bool served = function == 3 || function == 4 || function == 6 || function == 16 ||
                      function == 22 || function == 23 || function == 43;
        if (!served && ask(f, UNIT, (uint8_t)function, W(7000), 0, 1) != EX_FUNCTION)
            fail_msg("function %u", function);
    }
    assert_int_equal(f->report.wrote, false);
}

/* C-31: function, then shape, then right, then address, then value. */
static void checks_in_order(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ask(f, UNIT, 3, W(0), 0, 0), EX_VALUE);
    assert_int_equal(ask(f, UNIT, 3, W(0), 0, 1), EX_ADDRESS);
    assert_int_equal(ask(f, UNIT, 3, W(7499), 0, 2), EX_ADDRESS);
    assert_int_equal(ask(f, UNIT, 6, W(7100), W(9)), EX_ADDRESS);
    assert_int_equal(ask(f, UNIT, 6, W(7208), W(9)), EX_VALUE);
    assert_int_equal(ask(f, UNIT, 16, W(7201), 0, 1, 4, 0, 1), EX_VALUE);
    f->may_write = false;
    assert_int_equal(ask(f, UNIT, 16, W(7201), 0, 1, 4, 0, 1), EX_VALUE);
    assert_int_equal(ask(f, UNIT, 16, W(7100), 0, 1, 2, 0, 1), EX_FUNCTION);
    assert_int_equal(ask(f, 77, 16, W(7201), 0, 1, 2, 0, 1), EX_UNIT);
}

static struct want newest_wish(struct fixture *f)
{
    struct want w = {0};
    uint64_t seen = 0;
    exchange_take_want(f->x, 0, &seen, &w);
    return w;
}

static void a_write_becomes_the_newest_wish(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(newest_wish(f).id, 0);

    assert_int_equal(ask(f, UNIT, 16, W(7202), 0, 2, 4, 0, 0, W(7400)), EX_NONE);
    assert_memory_equal(f->out + 8, ((uint8_t[]){W(7202), 0, 2}), 4);
    assert_int_equal(f->size, 12);
    assert_true(f->report.wrote);
    assert_int_equal(f->report.circuit, 0);
    assert_int_equal(f->report.before.power_w, NA_U32);
    assert_int_equal(f->report.after.power_w, 7400);
    assert_int_equal(newest_wish(f).id, 1);
    assert_int_equal(newest_wish(f).power_w, 7400);
    assert_int_equal(newest_wish(f).accepted_at_ms, START_MS);
    assert_int_equal(reg(f, 7203), 7400);
    assert_int_equal(reg(f, 7217), 7400);

    f->now_ms += 10;
    assert_int_equal(ask(f, UNIT, 6, W(7217), W(3000)), EX_NONE);
    assert_memory_equal(f->out + 7, ((uint8_t[]){6, W(7217), W(3000)}), 5);
    assert_int_equal(f->report.before.power_w, 7400);
    assert_int_equal(newest_wish(f).power_w, 3000);
    assert_int_equal(reg(f, 7203), 3000);

    assert_int_equal(ask(f, UNIT, 22, W(7205), 0, 0, W(100)), EX_NONE);
    assert_memory_equal(f->out + 7, ((uint8_t[]){22, W(7205), 0, 0, W(100)}), 7);
    assert_int_equal(newest_wish(f).phase_da[0], 100);
    assert_int_equal(reg(f, 7205), 100);
    assert_int_equal(newest_wish(f).id, 3);
}

static void a_refused_write_has_no_effect(void **state)
{
    struct fixture *f = *state;
    uint64_t seen = 0;
    struct want w;
    static const struct {
        const char *what;
        enum modbus_exception ex;
        size_t size;
        uint8_t pdu[16];
    } rows[] = {
        {"half a u32",                EX_VALUE,   8,  {16, W(7202), 0, 1, 2, 0, 0}         },
        {"out of range",              EX_VALUE,   8,  {16, W(7201), 0, 1, 2, 0, 2}         },
        {"second register read-only", EX_ADDRESS, 10, {16, W(7099), 0, 2, 4, 0, 0, 0, 0}   },
        {"too many registers",        EX_VALUE,   6,  {16, W(7201), 0, 124, 248}           },
        {"reads before the window",
         EX_ADDRESS,                              12,
         {23, W(6999), 0, 1, W(7201), 0, 1, 2}                                             },
        {"reads past the window",     EX_ADDRESS, 12, {23, W(7499), 0, 2, W(7201), 0, 1, 2}},
    };
    enum { ROWS = sizeof rows / sizeof rows[0] };
    for (size_t i = 0; i < ROWS; i++) {
        enum modbus_exception ex = ask_bytes(f, UNIT, rows[i].pdu, rows[i].size);
        if (ex != rows[i].ex || f->report.wrote)
            fail_msg("%s: exception %u", rows[i].what, ex);
    }
    assert_false(exchange_take_want(f->x, 0, &seen, &w));
    assert_int_equal(reg(f, 7201), 1);
    assert_int_equal(gateway_counts(f->g)->writes_refused, ROWS);
    assert_int_equal(gateway_counts(f->g)->writes_accepted, 0);
}

static void without_the_right_to_write(void **state)
{
    struct fixture *f = *state;
    uint64_t seen = 0;
    struct want w;
    f->may_write = false;
    assert_int_equal(ask(f, UNIT, 6, W(7201), 0, 0), EX_FUNCTION);
    assert_int_equal(ask(f, UNIT, 16, W(7201), 0, 1, 2, 0, 0), EX_FUNCTION);
    assert_int_equal(ask(f, UNIT, 22, W(7201), 0, 0, 0, 0), EX_FUNCTION);
    assert_int_equal(ask(f, UNIT, 23, W(7200), 0, 2, W(7201), 0, 1, 2, 0, 0),
                     EX_FUNCTION);
    assert_int_equal(ask(f, UNIT, 3, W(7200), 0, 2), EX_NONE);
    assert_int_equal(got(f, 1), 1);
    assert_int_equal(ask(f, UNIT, 43, 14, 1, 0), EX_NONE);
    assert_false(exchange_take_want(f->x, 0, &seen, &w));
    assert_int_equal(gateway_counts(f->g)->writes_refused, 4);
}

/* libmodbus leaves the client's words in the image; what reads back is the map's to say.
 */
static void words_that_do_not_read_back(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(ask(f, UNIT, 6, W(7216), 0, 3), EX_NONE);
    assert_int_equal(reg(f, 7216), 0);
    assert_int_equal(newest_wish(f).refreshes, 1);
    assert_int_equal(ask(f, UNIT, 6, W(7218), W(4711)), EX_NONE);
    assert_int_equal(reg(f, 7218), 0xffff);
    assert_int_equal(ask(f, UNIT, 22, W(7219), 0, 0, W(4711)), EX_NONE);
    assert_int_equal(reg(f, 7219), 0xffff);
    assert_int_equal(ask(f, UNIT, 16, W(7216), 0, 3, 6, 0, 1, W(500), W(4711)), EX_NONE);
    assert_int_equal(ask(f, UNIT, 3, W(7216), 0, 3), EX_NONE);
    assert_int_equal(got(f, 0), 0);
    assert_int_equal(got(f, 1), 500);
    assert_int_equal(got(f, 2), 0xffff);

    /* the same within one answer: write first, then read (C-28) */
    assert_int_equal(
        ask(f, UNIT, 23, W(7202), 0, 18, W(7215), 0, 4, 8, 0, 1, 0, 2, W(600), W(4711)),
        EX_NONE);
    assert_int_equal(got(f, 0), 0);
    assert_int_equal(got(f, 1), 600);
    assert_int_equal(got(f, 13), 1);
    assert_int_equal(got(f, 14), 0);
    assert_int_equal(got(f, 15), 600);
    assert_int_equal(got(f, 16), 0xffff);
    assert_int_equal(reg(f, 7216), 0);
    assert_int_equal(reg(f, 7218), 0xffff);
}

static void both_read_functions_show_the_same(void **state)
{
    struct fixture *f = *state;
    uint8_t holding[MBAP_ADU_MAX];
    for (unsigned addr = 7000; addr < 7500; addr += 125) {
        assert_int_equal(ask(f, UNIT, 3, W(addr), 0, 125), EX_NONE);
        assert_int_equal(f->size, 259);
        memcpy(holding, f->out, sizeof holding);
        assert_int_equal(ask(f, UNIT, 4, W(addr), 0, 125), EX_NONE);
        assert_memory_equal(f->out + 9, holding + 9, 250);
    }
}

static unsigned uptime_s(struct fixture *f)
{
    return reg(f, 7401);
}

static void facts_show_at_once_and_time_within_100_ms(void **state)
{
    struct fixture *f = *state;
    struct status status = {
        .telemetry = {.power_at_ms = START_MS, .power_w = 1234}
    };
    struct cloud_counts counts = {.calls = 42};

    assert_int_equal(reg(f, 7108), 0xffff); /* not known yet */
    assert_int_equal(reg(f, 7300), 0);
    exchange_put_status(f->x, 0, &status);
    assert_int_equal(reg(f, 7109), 1234);
    exchange_put_counts(f->x, &counts);
    assert_int_equal(reg(f, 7421), 42);

    assert_int_equal(uptime_s(f), 0);
    f->now_ms += 5 * 1000;
    assert_int_equal(uptime_s(f), 5); /* rendered at 5.000 s */
    f->now_ms += 5 * 1000 - 1;
    assert_int_equal(uptime_s(f), 9); /* at 9.999 s */
    f->now_ms += 99;
    assert_int_equal(uptime_s(f), 9); /* not rendered again */
    f->now_ms += 1;
    assert_int_equal(uptime_s(f), 10);
    assert_int_equal(reg(f, 7132), 10);
}

static void counters(void **state)
{
    struct fixture *f = *state;
    struct modbus_counts *c = gateway_counts(f->g);
    c->accepted = 3;
    ask(f, UNIT, 3, W(7000), 0, 1);
    ask(f, UNIT, 3, W(0), 0, 1);
    ask(f, UNIT, 0x55);
    ask(f, UNIT, 6, W(7201), 0, 1);
    ask(f, UNIT, 6, W(7201), 0, 9);
    ask(f, UNIT, 43, 14, 9, 0);
    assert_int_equal(c->requests, 6);
    assert_int_equal(c->exceptions, 4);
    assert_int_equal(c->writes_accepted, 1);
    assert_int_equal(c->writes_refused, 1);
    f->now_ms += 100;
    assert_int_equal(reg(f, 7407), 3); /* connections accepted */
    assert_int_equal(reg(f, 7411),
                     7); /* requests, this one included; 7407 was the seventh */
    assert_int_equal(reg(f, 7413), 4);
}

static void identification(void **state)
{
    struct fixture *f = *state;
    struct status status = {.telemetry = {.model = "Easee Charge"}};

    assert_int_equal(ask(f, UNIT, 43, 14, 1, 0), EX_NONE);
    assert_memory_equal(f->out + 8, ((uint8_t[]){14, 1}), 2);
    assert_int_equal(f->out[13], 3); /* objects */
    assert_memory_equal(f->out + 14, "\0\5evecc\1\4EVGW\2", 14);

    assert_int_equal(ask(f, UNIT, 43, 14, 4, 5), EX_NONE);
    assert_memory_equal(f->out + 14, "\5\5Easee", 7);
    exchange_put_status(f->x, 0, &status);
    assert_int_equal(ask(f, UNIT, 43, 14, 4, 5), EX_NONE);
    assert_memory_equal(f->out + 14, "\5\14Easee Charge", 14);
    assert_int_equal(ask(f, UNIT, 43, 14, 4, 99), EX_ADDRESS);
    assert_int_equal(ask(f, UNIT, 43, 14, 9, 0), EX_VALUE);
    assert_int_equal(ask(f, UNIT, 43, 13, 1, 0), EX_FUNCTION);
}

static uint32_t next_random(uint32_t *r)
{
    *r ^= *r << 13;
    *r ^= *r >> 17;
    *r ^= *r << 5;
    return *r;
}

/* Any bytes get a legal answer, and a wish appears only with an answered write (I3). */
static void any_bytes_get_a_legal_answer(void **state)
{
    static const uint8_t functions[] = {3, 4, 6, 16, 22, 23, 43};
    struct fixture *f = *state;
    uint32_t seed = (uint32_t)time(NULL) | 1, r = seed;
    uint64_t wishes = 0, seen = 0;

    print_message("seed %u\n", seed);
    for (int i = 0; i < 200000; i++) {
        uint8_t pdu[MBAP_PDU_MAX];
        size_t n = 1 + next_random(&r) % (next_random(&r) % 4 ? 12 : MBAP_PDU_MAX);
        for (size_t k = 0; k < n; k++)
            pdu[k] = (uint8_t)(next_random(&r) >> (next_random(&r) % 2 ? 8 : 13));
        if (next_random(&r) % 8)
            pdu[0] = functions[next_random(&r) % sizeof functions];
        if (n > 4 && next_random(&r) % 4) { /* near the window, few registers */
            unsigned addr = 6990 + next_random(&r) % 520;
            pdu[1] = (uint8_t)(addr >> 8);
            pdu[2] = (uint8_t)addr;
            pdu[3] = 0;
            pdu[4] %= 8;
            if (n > 5)
                pdu[5] = (uint8_t)(n - 6);
        }
        uint8_t unit = next_random(&r) % 8 ? UNIT : (uint8_t)next_random(&r);
        f->now_ms += next_random(&r) % 50;
        enum modbus_exception ex = ask_bytes(f, unit, pdu, n);
        struct want w;
        bool put = exchange_take_want(f->x, 0, &seen, &w);
        if (put && (ex != EX_NONE || w.id - wishes > 1))
            fail_msg("request %d: function %u, exception %u, wish %llu", i, pdu[0], ex,
                     (unsigned long long)w.id);
        wishes = put ? w.id : wishes;
        assert_true(!f->report.wrote || put);
    }
    assert_true(wishes > 0);
}

static void a_restored_wish_reads_back(void **state)
{
    struct fixture *f = *state;
    const struct want w = {
        .id = 9,
        .accepted_at_ms = START_MS - 1,
        .fed_at_ms = START_MS - 1,
        .power_w = 7400,
        .current_da = NA_U16,
        .phase_da = {NA_U16, NA_U16, NA_U16},
        .watchdog_s = 30,
        .enable = true
    };
    struct want newer;
    uint64_t seen = 0;

    assert_int_equal(ask(f, UNIT, 3, W(7200), W(1)), EX_NONE); /* rendered before */
    gateway_restore(f->g, 0, &w);
    assert_int_equal(ask(f, UNIT, 3, W(7202), W(2)), EX_NONE);
    assert_int_equal(word(f->out + 11), 7400);
    assert_int_equal(ask(f, OTHER_UNIT, 3, W(7202), W(2)), EX_NONE);
    assert_int_equal(word(f->out + 11), 0xFFFF);
    assert_false(exchange_take_want(f->x, 0, &seen, &newer));
    assert_int_equal(ask(f, UNIT, 6, W(7204), W(100)), EX_NONE);
    assert_true(exchange_take_want(f->x, 0, &seen, &newer));
    assert_int_equal(newer.id, 10);
    assert_int_equal(newer.power_w, 7400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(units, one_circuit, stop),
        cmocka_unit_test_setup_teardown(units, two_circuits, stop),
        cmocka_unit_test_setup_teardown(identity_of_each_circuit, two_circuits, stop),
        cmocka_unit_test_setup_teardown(every_other_function_is_refused, one_circuit,
                                        stop),
        cmocka_unit_test_setup_teardown(checks_in_order, one_circuit, stop),
        cmocka_unit_test_setup_teardown(a_write_becomes_the_newest_wish, two_circuits,
                                        stop),
        cmocka_unit_test_setup_teardown(a_refused_write_has_no_effect, two_circuits,
                                        stop),
        cmocka_unit_test_setup_teardown(without_the_right_to_write, one_circuit, stop),
        cmocka_unit_test_setup_teardown(words_that_do_not_read_back, one_circuit, stop),
        cmocka_unit_test_setup_teardown(both_read_functions_show_the_same, two_circuits,
                                        stop),
        cmocka_unit_test_setup_teardown(facts_show_at_once_and_time_within_100_ms,
                                        one_circuit, stop),
        cmocka_unit_test_setup_teardown(counters, one_circuit, stop),
        cmocka_unit_test_setup_teardown(identification, one_circuit, stop),
        cmocka_unit_test_setup_teardown(any_bytes_get_a_legal_answer, one_circuit, stop),
        cmocka_unit_test_setup_teardown(a_restored_wish_reads_back, two_circuits, stop),
    };
    return cmocka_run_group_tests_name("gateway", tests, NULL, NULL);
}
