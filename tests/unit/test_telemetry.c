/* SPDX-License-Identifier: MIT */
#include "evecc/telemetry.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

enum { NOW = 10000000 }; /* our monotonic clock, ms */
static const int64_t CLOUD = INT64_C(1767614282000);

static struct charger nothing(void)
{
    struct charger c;

    charger_init(&c);
    return c;
}

/* One number, made AGO_MS before it arrives at NOW. */
static bool number(struct charger *c, uint16_t id, double value, int64_t ago_ms)
{
    struct observation o = {
        .id = id, .is_number = true, .number = value, .at_unix_ms = CLOUD - ago_ms};

    return charger_observe(c, &o, CLOUD, NOW);
}

static bool text(struct charger *c, uint16_t id, const char *value, int64_t ago_ms)
{
    struct observation o = {.id = id, .at_unix_ms = CLOUD - ago_ms};

    snprintf(o.text, sizeof o.text, "%s", value);
    return charger_observe(c, &o, CLOUD, NOW);
}

static void test_scale(void **state)
{
    static const struct {
        double number, scale;
        int64_t min, max;
        bool good;
        int64_t value;
    } table[] = {
        {6.92,             1000, 0,   UINT16_MAX,       true,  6920},
        {0.0004,           1000, 0,   10,               true,  0   },
        {0.0005,           1000, 0,   10,               true,  1   },
        {-0.0004,          1000, 0,   10,               true,  0   },
        {-0.0006,          1000, 0,   10,               false, 0   },
        {10.4,             1,    0,   10,               true,  10  },
        {10.5,             1,    0,   10,               false, 0   },
        {-3.5,             1,    -4,  10,               true,  -4  },
        {-4.5,             1,    -4,  10,               false, 0   },
        {1e308,            1000, 0,   10,               false, 0   },
        {0.4,              1,    1,   10,               false, 0   },
        {0.5,              1,    1,   10,               true,  1   },
        {NAN,              1,    -10, 10,               false, 0   },
        {INFINITY,         1,    -10, 10,               false, 0   },
        {6387612345678091, 1,    0,   INT64_C(1) << 53, true,
         6387612345678091                                          }, /* odd, above 2^52 */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        int64_t value = 77;
        bool good = telemetry_scale(table[i].number, table[i].scale, table[i].min,
                                    table[i].max, &value);

        if (good != table[i].good || value != (good ? table[i].value : 77))
            fail_msg("row %zu: %d, %lld", i, good, (long long)value);
    }
}

static void test_nothing_is_known_at_first(void **state)
{
    struct charger c = nothing();
    const struct telemetry *t = &c.telemetry;

    (void)state;
    assert_true(t->power_at_ms == NEVER && t->state_at_ms == NEVER);
    assert_true(t->limits_at_ms == NEVER && c.circuit_at_ms == NEVER);
    assert_true(t->energy_wh == NA_U64);
    assert_true(t->power_w == NA_U32 && t->session_wh == NA_U32 &&
                t->session_s == NA_U32);
    assert_int_equal(t->temperature_dc, NA_I16);
    assert_int_equal(t->vehicle, NA_U16);
    assert_int_equal(t->online, NA_U16);
    assert_int_equal(t->updates, 0);
    assert_string_equal(t->firmware, "");
}

/* telemetry_ids() lists distinct ids, each of which is taken in some form. */
static void test_every_id_asked_for_has_a_place(void **state)
{
    char ids[512];
    unsigned count = 0;
    bool seen[256] = {false};

    (void)state;
    assert_true(strlen(telemetry_ids()) < sizeof ids);
    strcpy(ids, telemetry_ids());
    for (char *save, *id = strtok_r(ids, ",", &save); id != NULL;
         id = strtok_r(NULL, ",", &save)) {
        struct charger c = nothing();
        unsigned n = (unsigned)strtoul(id, NULL, 10);

        assert_true(n > 0 && n < 256 && !seen[n]);
        seen[n] = true;
        count++;
        if (!number(&c, (uint16_t)n, 1, 0) && !text(&c, (uint16_t)n, "C", 0))
            fail_msg("observation %s has no place", id);
        assert_int_equal(c.telemetry.updates, 1);
    }
    assert_true(count >= 30);
    for (unsigned n = 0; n < 256; n++) {
        struct charger c = nothing();

        if (!seen[n])
            assert_false(number(&c, (uint16_t)n, 1, 0));
    }
}

static void test_units(void **state)
{
    struct charger c = nothing();
    const struct telemetry *t = &c.telemetry;

    (void)state;
    assert_true(number(&c, 120, 6.92, 0));
    assert_int_equal(t->power_w, 6920);
    assert_true(number(&c, 121, 5.3951, 0));
    assert_int_equal(t->session_wh, 5395);
    assert_true(number(&c, 124, 1234.5, 0));
    assert_true(t->energy_wh == 1234500);
    assert_true(number(&c, 150, -12.34, 0));
    assert_int_equal(t->temperature_dc, -123);
    assert_true(number(&c, 114, 10.05, 0));
    assert_int_equal(t->effective_da, 101);
    assert_true(number(&c, 48, 32, 0));
    assert_int_equal(c.dynamic_da, 320);
    for (uint16_t i = 0; i < PHASES; i++) {
        assert_true(number(&c, (uint16_t)(111 + i), i == 0 ? 1000 : 10 + i, 0));
        assert_true(number(&c, (uint16_t)(50 + i), 6 + i, 0));
    }
    assert_int_equal(c.circuit_da[0], 10000);
    assert_int_equal(c.circuit_da[1], 110);
    assert_int_equal(c.circuit_da[2], 120);
    assert_int_equal(c.offline_da[2], 80);
    assert_true(number(&c, 76, 2, 0) && number(&c, 77, 1, 0));
    assert_int_equal(t->cars_connected, 2);
    assert_int_equal(t->cars_charging, 1);
    assert_true(number(&c, 96, 27, 0) && number(&c, 119, 3, 0) && number(&c, 116, 1, 0));
    assert_int_equal(t->no_current_reason, 27);
    assert_int_equal(c.error_code, 3);
    assert_int_equal(c.derating, 1);
}

static void test_impossible_values_are_dropped(void **state)
{
    static const struct {
        uint16_t id;
        double value;
    } table[] = {
        {120, NAN     },
        {120, INFINITY},
        {120, -1      },
        {120, 1001    },
        {124, -0.01   },
        {121, -1      },
        {48,  6554    },
        {48,  -1      },
        {150, 301     },
        {183, -0.1    },
        {194, 1001    },
        {250, 2       },
        {109, -1      },
        {109, 65535   },
        {109, 65536   },
        {42,  -1      },
    };
    struct charger c = nothing();
    const struct charger before = c;

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++)
        if (number(&c, table[i].id, table[i].value, 0))
            fail_msg("taken: %u %g", table[i].id, table[i].value);
    assert_false(text(&c, 120, "much", 0));
    assert_false(text(&c, 100, "Z", 0));
    assert_false(text(&c, 80, "", 0));
    assert_memory_equal(&c, &before, sizeof c);
}

static void test_lines_depend_on_the_grid(void **state)
{
    struct charger c = nothing();
    const struct telemetry *t = &c.telemetry;

    (void)state;
    for (uint16_t i = 0; i < 4; i++)
        assert_true(number(&c, (uint16_t)(182 + i), 2 + i, 0)); /* T2 2 A ... T5 5 A */
    for (uint16_t i = 0; i < 4; i++)
        assert_true(number(&c, (uint16_t)(194 + i), 230.12 + i, 0));
    for (unsigned i = 0; i < PHASES; i++) { /* as long as nothing is known: TN */
        assert_int_equal(t->current_ma[i], 3000 + 1000 * i);
        assert_int_equal(t->voltage_dv[i], 2301 + 10 * i);
    }
    assert_true(number(&c, 21, 4, 0)); /* IT, and T2-T3, T3-T4, T2-T4 between the lines */
    for (unsigned i = 0; i < PHASES; i++)
        assert_int_equal(t->current_ma[i], 2000 + 1000 * i);
    assert_int_equal(t->voltage_dv[0], 2301);
    assert_int_equal(t->voltage_dv[1], 2331);
    assert_int_equal(t->voltage_dv[2], 2311);
    assert_true(number(&c, 21, 1, 0));
    assert_int_equal(t->current_ma[0], 3000);
}

static void test_grid_types(void **state)
{
    static const uint16_t tn[] = {1, 2, 3, 30, 31, 36, 37, 38};

    (void)state;
    for (uint16_t g = 0, i = 0; g < 100; g++) {
        bool is_tn = i < COUNT(tn) && tn[i] == g;

        i = (uint16_t)(i + is_tn);
        if (telemetry_grid_is_tn(g) != is_tn)
            fail_msg("grid type %u", g);
    }
    assert_false(telemetry_grid_is_tn(NA_U16));
}

static void test_phases_in_use(void **state)
{
    static const struct {
        uint16_t output_phase, in_use, bits;
    } table[] = {
        {30, 3,      7     },
        {10, 1,      1     },
        {12, 1,      2     },
        {14, 1,      4     },
        {11, 1,      3     },
        {13, 1,      5     },
        {15, 1,      6     },
        {20, 2,      3     },
        {21, 2,      6     },
        {22, 2,      7     },
        {0,  0,      0     },
        {33, NA_U16, NA_U16},
    };
    struct charger c = nothing();

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        assert_true(number(&c, 110, table[i].output_phase, 0));
        if (c.telemetry.phases_in_use != table[i].in_use ||
            c.telemetry.phase_bits != table[i].bits)
            fail_msg("output phase %u: %u, %u", table[i].output_phase,
                     c.telemetry.phases_in_use, c.telemetry.phase_bits);
    }
}

/* profiles.md 1.0 for the letters; pilot 0: not reported. */
static void test_what_the_mode_means(void **state)
{
    static const struct {
        uint16_t mode;
        char pilot;
        uint16_t iec, vehicle, unrequired, required;
    } table[] = {
        {0,   0,   NA_U16, NA_U16, 0, NA_U16},
        {0,   'C', NA_U16, 1,      0, NA_U16},
        {1,   0,   'A',    0,      0, 1     },
        {1,   'B', 'A',    0,      0, 1     },
        {2,   0,   'B',    1,      0, 2     },
        {3,   'A', 'C',    1,      0, 2     },
        {4,   0,   'B',    1,      0, 2     },
        {5,   0,   'F',    NA_U16, 0, NA_U16},
        {5,   'B', 'F',    1,      0, NA_U16},
        {5,   'A', 'F',    0,      0, NA_U16},
        {5,   'F', 'F',    NA_U16, 0, NA_U16},
        {6,   0,   'B',    1,      0, 2     },
        {7,   0,   'B',    1,      1, 1     },
        {8,   0,   'B',    1,      1, 1     },
        {9,   'D', NA_U16, 1,      0, NA_U16},
        {103, 0,   'B',    1,      0, NA_U16},
        {160, 'A', 'F',    0,      0, NA_U16},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct charger c = nothing();
        char pilot[2] = {table[i].pilot, '\0'};

        number(&c, 109, table[i].mode, 0);
        text(&c, 100, pilot, 0);
        if (telemetry_iec_state(table[i].mode) != table[i].iec ||
            c.telemetry.vehicle != table[i].vehicle)
            fail_msg("row %zu: %u, %u", i, telemetry_iec_state(table[i].mode),
                     c.telemetry.vehicle);
        number(&c, 42, 0, 1);
        if (c.telemetry.authorisation != table[i].unrequired)
            fail_msg("row %zu: not required, %u", i, c.telemetry.authorisation);
        number(&c, 42, 1, 0);
        if (c.telemetry.authorisation != table[i].required)
            fail_msg("row %zu: required, %u", i, c.telemetry.authorisation);
    }
    assert_int_equal(telemetry_iec_state(NA_U16), NA_U16);
}

static void test_online(void **state)
{
    struct charger c = nothing();

    (void)state;
    number(&c, 109, 2, 5000);
    assert_int_equal(c.telemetry.online, 1); /* it says something */
    number(&c, 250, 0, 4000);
    assert_int_equal(c.telemetry.online, 0);
    number(&c, 250, 1, 3000);
    assert_int_equal(c.telemetry.online, 1);
    number(&c, 109, 0, 2000);
    assert_int_equal(c.telemetry.online, 0);
    number(&c, 250, 1, 1000); /* back, the mode will follow */
    assert_int_equal(c.telemetry.online, 1);
}

static void test_texts(void **state)
{
    struct charger c = nothing();

    (void)state;
    number(&c, 80, 330, 9);
    assert_string_equal(c.telemetry.firmware, "330");
    number(&c, 80, 0, 8);
    assert_string_equal(c.telemetry.firmware, "0");
    text(&c, 80, "9012-beta-and-more-of-it", 7);
    assert_string_equal(c.telemetry.firmware, "9012-beta-and-mo");
    text(&c, 80, "1\x1b[31m", 6);
    assert_string_equal(c.telemetry.firmware, "1");
    text(&c, 65, "QP000001", 5);
    assert_int_equal(c.equalizer, 1);
    text(&c, 65, "", 4);
    assert_int_equal(c.equalizer, 0);
}

static void test_ages_come_from_the_clouds_clock(void **state)
{
    struct charger c = nothing();
    struct observation o = {.id = 120, .is_number = true, .number = 1, .at_unix_ms = 5};

    (void)state;
    number(&c, 120, 1, 90000);
    assert_int_equal(c.telemetry.power_at_ms, NOW - 90000);
    number(&c, 109, 3, 1000);
    assert_int_equal(c.telemetry.state_at_ms, NOW - 1000);
    number(&c, 48, 10, 7000);
    assert_int_equal(c.telemetry.limits_at_ms, NOW - 7000);
    assert_true(c.circuit_at_ms == NEVER);
    number(&c, 112, 10, 8000);
    assert_int_equal(c.telemetry.limits_at_ms, NOW - 7000);
    assert_int_equal(c.circuit_at_ms, NOW - 8000);
    number(&c, 111, 10, -3000); /* the charger's clock runs ahead */
    assert_int_equal(c.circuit_at_ms, NOW);

    /* Older than this machine has been running; or no way to tell. */
    c = nothing();
    assert_true(charger_observe(&c, &o, CLOUD, NOW));
    assert_int_equal(c.telemetry.power_at_ms, 0);
    c = nothing();
    assert_true(charger_observe(&c, &o, 0, NOW));
    assert_int_equal(c.telemetry.power_at_ms, NOW);
    o.at_unix_ms = 0;
    assert_true(charger_observe(&c, &o, CLOUD, NOW + 1));
    assert_int_equal(c.telemetry.power_at_ms, NOW + 1);
}

static void test_older_values_are_dropped(void **state)
{
    struct charger c = nothing();
    const struct telemetry *t = &c.telemetry;

    (void)state;
    assert_true(number(&c, 120, 5, 1000));
    assert_false(number(&c, 120, 4, 1001));
    assert_false(number(&c, 120, 5, 1000)); /* the same again */
    assert_int_equal(t->power_w, 5000);
    assert_int_equal(t->updates, 1);
    assert_true(number(&c, 120, 6, 1000)); /* two in one second */
    assert_true(number(&c, 120, 6, 500));  /* unchanged but newer */
    assert_int_equal(t->power_w, 6000);
    assert_int_equal(t->updates, 3);
    assert_int_equal(t->power_at_ms, NOW - 500);
    assert_true(number(&c, 121, 1, 2000)); /* each id has its own time */
}

/* A timestamp far in the future must not lock out what comes later. */
static void test_future_timestamps(void **state)
{
    const int64_t year = INT64_C(365) * 86400 * 1000;
    struct charger c = nothing();
    struct observation o = {.id = 120, .is_number = true, .number = 1};

    (void)state;
    number(&c, 120, 1, -year);
    o.at_unix_ms = CLOUD + 60000;
    o.number = 2;
    assert_true(charger_observe(&c, &o, CLOUD + 60000, NOW + 60000));
    o.at_unix_ms = CLOUD + year; /* taken on trust, the cloud's clock is not known */
    assert_true(charger_observe(&c, &o, 0, NOW + 60000));
    o.at_unix_ms = CLOUD + 120000;
    o.number = 3;
    assert_true(charger_observe(&c, &o, CLOUD + 120000, NOW + 120000));
    assert_int_equal(c.telemetry.power_w, 3000);
}

static void test_energy_never_decreases(void **state)
{
    struct charger c = nothing();

    (void)state;
    assert_true(number(&c, 124, 100, 9));
    assert_false(number(&c, 124, 0, 8));
    assert_false(number(&c, 124, 99.999, 7));
    assert_true(c.telemetry.energy_wh == 100000);
    assert_true(number(&c, 124, 100, 6));
    assert_true(number(&c, 124, 100.001, 5));
    assert_true(c.telemetry.energy_wh == 100001);
    assert_false(number(&c, 124, 1e8, 4));
}

static void test_session(void **state)
{
    struct charger c = nothing();
    const struct telemetry *t = &c.telemetry;

    (void)state;
    number(&c, 109, 1, 90000);
    assert_true(t->session_s == NA_U32);
    number(&c, 109, 2, 80000); /* plugged in */
    number(&c, 121, 1.5, 70000);
    assert_int_equal(t->session_s, 80);
    assert_false(number(&c, 121, 0, 60000)); /* spurious */
    assert_int_equal(t->session_wh, 1500);
    assert_true(number(&c, 121, 1.6, 50000));
    number(&c, 109, 1, 40000); /* gone: the duration stays */
    assert_int_equal(t->session_s, 40);
    number(&c, 120, 0, 0);
    assert_int_equal(t->session_s, 40);
    assert_int_equal(t->session_wh, 1600);
    number(&c, 109, 2, 30000); /* the next one begins with 0 */
    assert_true(number(&c, 121, 0, 29000));
    assert_int_equal(t->session_wh, 0);
    assert_int_equal(t->session_s, 30);

    /* Started in the middle of a session: only the charger knows when it began. */
    c = nothing();
    number(&c, 109, 3, 1000);
    assert_true(t->session_s == NA_U32);
    text(&c, 223, "{\"Id\":1,\"Start\":\"...", 3600000);
    assert_int_equal(t->session_s, 3600);
}

/* Whatever arrives in whatever order: what is held stays within its range, energy never
 * falls, and times do not lie in the future. */
static void test_random_observations(void **state)
{
    static const double values[] = {0, 1, -1, 0.5, 3, 30, 6.92, 1000, 1e6, 1e18, -1e300};
    unsigned seed = (unsigned)getpid();
    struct charger c = nothing();
    uint64_t energy_wh = 0;

    (void)state;
    print_message("seed %u\n", seed);
    srand(seed);
    for (unsigned i = 0; i < 200000; i++) {
        struct observation o = {.id = (uint16_t)(rand() % 256),
                                .is_number = rand() % 8 != 0,
                                .number = values[(size_t)rand() % COUNT(values)],
                                .at_unix_ms = CLOUD + rand() % 20000 - 10000};
        int64_t cloud = rand() % 4 == 0 ? 0 : CLOUD + i;

        if (rand() % 4 == 0)
            snprintf(o.text, sizeof o.text, "%c%d", 'A' + rand() % 8, rand());
        charger_observe(&c, &o, cloud, NOW + i);
        if (c.telemetry.energy_wh != NA_U64) {
            assert_true(c.telemetry.energy_wh >= energy_wh);
            energy_wh = c.telemetry.energy_wh;
        }
        assert_true(c.telemetry.power_at_ms == NEVER ||
                    c.telemetry.power_at_ms <= NOW + i);
        assert_true(c.telemetry.vehicle <= 1 || c.telemetry.vehicle == NA_U16);
        assert_true(c.telemetry.online <= 1 || c.telemetry.online == NA_U16);
        assert_true(c.telemetry.phases_in_use <= 3 ||
                    c.telemetry.phases_in_use == NA_U16);
        assert_true(strlen(c.telemetry.firmware) <= FIRMWARE_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scale),
        cmocka_unit_test(test_nothing_is_known_at_first),
        cmocka_unit_test(test_every_id_asked_for_has_a_place),
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_impossible_values_are_dropped),
        cmocka_unit_test(test_lines_depend_on_the_grid),
        cmocka_unit_test(test_grid_types),
        cmocka_unit_test(test_phases_in_use),
        cmocka_unit_test(test_what_the_mode_means),
        cmocka_unit_test(test_online),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_ages_come_from_the_clouds_clock),
        cmocka_unit_test(test_older_values_are_dropped),
        cmocka_unit_test(test_future_timestamps),
        cmocka_unit_test(test_energy_never_decreases),
        cmocka_unit_test(test_session),
        cmocka_unit_test(test_random_observations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
