/* SPDX-License-Identifier: MIT
 * test_state.c - what comes back is what was saved, moved to this boot; or nothing at
 * all.
 */
#include "evecc/state.h"

#include <cjson/cJSON.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { ROUNDS = 300, CIRCUITS = 4 };

#define DAY_MS  UINT64_C(86400000)
#define UNIX_MS INT64_C(1790000000000) /* September 2026 */

static const struct state_clock saved_at = {
    .now_ms = 100 * DAY_MS, .unix_ms = UNIX_MS, .boot_id = "boot one"};

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return below == 0 ? seed : seed % below;
}

static uint8_t draw_phases(void)
{
    static const uint8_t phases[] = {0, 1, 3};

    return phases[draw(3)];
}

static uint64_t draw_time(void)
{
    return draw(4) == 0 ? 0 : draw(saved_at.now_ms + 1);
}

static struct state_circuit draw_circuit(unsigned number)
{
    char name[STATE_NAME_MAX];
    struct state_circuit c;

    snprintf(name, sizeof name, "circuit \"%u\" \xc3\xb8\n", number);
    state_init(&c, name, "site|\\|1");
    c.want = (struct want){
        .id = draw(INT64_MAX),
        .accepted_at_ms = draw_time(),
        .fed_at_ms = draw_time(),
        .power_w = (uint32_t)draw(0),
        .current_da = (uint16_t)draw(0),
        .phase_da = {(uint16_t)draw(0), NA_U16, 0},
        .seq = (uint16_t)draw(0),
        .validity_s = (uint16_t)draw(0),
        .watchdog_s = (uint16_t)draw(0),
        .fallback_da = (uint16_t)draw(0),
        .fallback_action = (uint8_t)draw(3),
        .fallback_phases = draw_phases(),
        .phase_mode = draw_phases(),
        .enable = draw(2),
        .urgent = draw(2),
    };
    c.start = (struct state_start){.watchdog_s = (uint16_t)draw(0),
                                   .fallback_da = (uint16_t)draw(0),
                                   .fallback_action = (uint8_t)draw(3),
                                   .fallback_phases = draw_phases()};
    for (unsigned i = 0; i < PHASE_SWITCHES_MAX; i++)
        c.phases.switched_at_ms[i] = draw_time();
    c.phases.paused_since_ms = draw_time();
    c.phases.phases = draw_phases();
    c.phases.last_phases = draw_phases();
    c.phases.switching = draw(2);
    c.phases.next = (uint8_t)draw(PHASE_SWITCHES_MAX);
    c.phases.held = (uint8_t)draw(PHASE_SWITCHES_MAX + 1);
    for (unsigned i = 0; i < PHASES; i++)
        c.sent.l[i] = (uint8_t)draw(0);
    c.sent_known = draw(2);
    c.sent_at_ms = draw(3) == 0 ? NEVER : draw_time();
    c.where.site_id = draw(3) == 0 ? -1 : (int64_t)draw(INT64_MAX);
    c.where.circuit_id = draw(3) == 0 ? -1 : (int64_t)draw(INT64_MAX);
    c.where.panel_id = draw(3) == 0 ? -1 : (int64_t)draw(INT64_MAX);
    c.where.rated_da = (uint16_t)draw(0);
    c.where.chargers = (uint8_t)draw(EASEE_CHARGERS_MAX + 1);
    c.where.alone = draw(2);
    for (unsigned i = 0; i < EASEE_CHARGERS_MAX; i++) {
        c.where.product[i] = (uint16_t)draw(0);
        for (size_t k = 0, len = (size_t)draw(SERIAL_MAX + 1); k < len; k++)
            c.where.serial[i][k] = (char)('A' + draw(26));
    }
    c.energy_wh = draw(3) == 0 ? NA_U64 : draw(0);
    return c;
}

static void assert_same_want(const struct want *a, const struct want *b)
{
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->accepted_at_ms, b->accepted_at_ms);
    assert_int_equal(a->fed_at_ms, b->fed_at_ms);
    assert_int_equal(a->power_w, b->power_w);
    assert_int_equal(a->current_da, b->current_da);
    assert_memory_equal(a->phase_da, b->phase_da, sizeof a->phase_da);
    assert_int_equal(a->seq, b->seq);
    assert_int_equal(a->validity_s, b->validity_s);
    assert_int_equal(a->watchdog_s, b->watchdog_s);
    assert_int_equal(a->fallback_da, b->fallback_da);
    assert_int_equal(a->fallback_action, b->fallback_action);
    assert_int_equal(a->fallback_phases, b->fallback_phases);
    assert_int_equal(a->phase_mode, b->phase_mode);
    assert_int_equal(a->enable, b->enable);
    assert_int_equal(a->urgent, b->urgent);
}

static void assert_same(const struct state_circuit *a, const struct state_circuit *b)
{
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->key, b->key);
    assert_same_want(&a->want, &b->want);
    assert_int_equal(a->start.watchdog_s, b->start.watchdog_s);
    assert_int_equal(a->start.fallback_da, b->start.fallback_da);
    assert_int_equal(a->start.fallback_action, b->start.fallback_action);
    assert_int_equal(a->start.fallback_phases, b->start.fallback_phases);
    assert_memory_equal(a->phases.switched_at_ms, b->phases.switched_at_ms,
                        sizeof a->phases.switched_at_ms);
    assert_int_equal(a->phases.paused_since_ms, b->phases.paused_since_ms);
    assert_int_equal(a->phases.phases, b->phases.phases);
    assert_int_equal(a->phases.last_phases, b->phases.last_phases);
    assert_int_equal(a->phases.switching, b->phases.switching);
    assert_int_equal(a->phases.next, b->phases.next);
    assert_int_equal(a->phases.held, b->phases.held);
    assert_memory_equal(a->sent.l, b->sent.l, sizeof a->sent.l);
    assert_int_equal(a->sent_known, b->sent_known);
    assert_int_equal(a->sent_at_ms, b->sent_at_ms);
    assert_int_equal(a->where.site_id, b->where.site_id);
    assert_int_equal(a->where.circuit_id, b->where.circuit_id);
    assert_int_equal(a->where.panel_id, b->where.panel_id);
    assert_int_equal(a->where.rated_da, b->where.rated_da);
    assert_int_equal(a->where.chargers, b->where.chargers);
    assert_int_equal(a->where.alone, b->where.alone);
    assert_memory_equal(a->where.serial, b->where.serial, sizeof a->where.serial);
    assert_memory_equal(a->where.product, b->where.product, sizeof a->where.product);
    assert_int_equal(a->energy_wh, b->energy_wh);
}

static char *encode(const struct state_circuit *c, size_t count, size_t *len)
{
    char *text = NULL;

    assert_int_equal(state_encode(c, count, &saved_at, &text, len), ERR_OK);
    assert_int_equal(strlen(text), *len);
    return text;
}

static void what_was_saved_comes_back(void **state)
{
    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct state_circuit saved[CIRCUITS], back[CIRCUITS];
        size_t count = (size_t)draw(CIRCUITS + 1), len;
        bool trusted = false;
        char *text;

        for (unsigned i = 0; i < count; i++) {
            saved[i] = draw_circuit(i);
            /* sections may have changed places */
            state_init(&back[count - 1 - i], saved[i].name, saved[i].key);
        }
        text = encode(saved, count, &len);
        assert_int_equal(state_decode(text, len, &saved_at, back, count, &trusted),
                         ERR_OK);
        assert_true(trusted);
        for (unsigned i = 0; i < count; i++)
            assert_same(&saved[i], &back[count - 1 - i]);
        free(text);
    }
}

static void only_the_same_circuit_inherits(void **state)
{
    (void)state;
    struct state_circuit saved[2], back[3], fresh;
    size_t len;
    bool trusted;
    char *text;

    saved[0] = draw_circuit(0);
    saved[1] = draw_circuit(1);
    text = encode(saved, 2, &len);
    state_init(&back[0], saved[0].name, "another site");
    state_init(&back[1], "another name", saved[0].key);
    state_init(&back[2], saved[1].name, saved[1].key);
    assert_int_equal(state_decode(text, len, &saved_at, back, 3, &trusted), ERR_OK);
    for (unsigned i = 0; i < 2; i++) {
        state_init(&fresh, back[i].name, back[i].key);
        assert_same(&back[i], &fresh);
    }
    assert_same(&back[2], &saved[1]);
    free(text);
}

static void names_are_cut_to_what_fits(void **state)
{
    (void)state;
    struct state_circuit c;
    char longer[200];

    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    state_init(&c, longer, longer);
    assert_int_equal(strlen(c.name), STATE_NAME_MAX - 1);
    assert_int_equal(strlen(c.key), STATE_KEY_MAX - 1);
    assert_int_equal(c.where.site_id, -1);
    assert_int_equal(c.where.circuit_id, -1);
    assert_int_equal(c.where.chargers, 0);
    assert_true(c.want.fed_at_ms == NEVER);
    assert_true(c.sent_at_ms == NEVER);
    assert_true(c.energy_wh == NA_U64);
}

static void a_wish_younger_than_the_clock_is_as_old_as_it(void **state)
{
    (void)state;
    struct state_circuit c = draw_circuit(0), back;
    size_t len;
    bool trusted;
    char *text;

    c.want.accepted_at_ms = c.want.fed_at_ms = saved_at.now_ms + 3;
    text = encode(&c, 1, &len);
    state_init(&back, c.name, c.key);
    assert_int_equal(state_decode(text, len, &saved_at, &back, 1, &trusted), ERR_OK);
    assert_int_equal(back.want.accepted_at_ms, saved_at.now_ms);
    assert_int_equal(back.want.fed_at_ms, saved_at.now_ms);
    free(text);
}

/* ---- other boots, other clocks ---- */

struct clock_case {
    const char *comment;
    struct state_clock now;
    uint64_t elapsed_ms;
    bool trusted;
};

#define NOW(ms, wall, boot)                                \
    {                                                      \
        .now_ms = (ms), .unix_ms = (wall), .boot_id = boot \
    }

static const struct clock_case clocks[] = {
    {"same boot, a minute later",        NOW(100 * DAY_MS + 60000, UNIX_MS + 60000,                    "boot one"),
     60000,                                                                                                                true },
    {"same boot, the wall clock jumped", NOW(100 * DAY_MS + 60000, 0,                                  "boot one"), 60000,
     true                                                                                                                       },
    {"same boot, a clock that ran back",
     NOW(100 * DAY_MS - 1,                                         UNIX_MS + 7000,                     "boot one"), 7000,  true },
    {"both ran back",                    NOW(100 * DAY_MS - 1,     UNIX_MS - 1,                        "boot one"), 0,     false},
    {"other boot",                       NOW(40 * DAY_MS,          UNIX_MS + 90000,                    "boot two"), 90000, true },
    {"other boot, low clock",            NOW(5000,                 UNIX_MS + 90000,                    "boot two"), 90000, true },
    {"other boot, the clock stood",      NOW(40 * DAY_MS,          UNIX_MS,                            "boot two"), 0,     true },
    {"other boot, 30 days",              NOW(40 * DAY_MS,          UNIX_MS + 30 * (int64_t)DAY_MS,     "boot two"),
     30 * DAY_MS,                                                                                                          true },
    {"other boot, more than 30 days",
     NOW(40 * DAY_MS,                                              UNIX_MS + 30 * (int64_t)DAY_MS + 1, "boot two"), 0,     false},
    {"other boot, the clock went back",  NOW(40 * DAY_MS,          UNIX_MS - 1,                        "boot two"), 0,
     false                                                                                                                      },
    {"other boot, 1970",                 NOW(40 * DAY_MS,          20000,                              "boot two"), 0,     false},
    {"other boot, before 1970",          NOW(40 * DAY_MS,          -20000,                             "boot two"), 0,     false},
    {"other boot, 2100",                 NOW(40 * DAY_MS,          INT64_C(4102444800000),             "boot two"), 0,     false},
    {"boot not known",                   NOW(40 * DAY_MS,          UNIX_MS - 1,                        ""),         0,     false},
};

static uint64_t moved(uint64_t at_ms, const struct clock_case *c)
{
    uint64_t ago_ms = saved_at.now_ms - at_ms + c->elapsed_ms;

    return c->now.now_ms > ago_ms ? c->now.now_ms - ago_ms : 0;
}

#define CHECK(fact)                                \
    do                                             \
        if (!(fact))                               \
            fail_msg("%s: %s", t->comment, #fact); \
    while (0)

static void times_move_to_this_boot(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof clocks / sizeof clocks[0]; i++) {
        const struct clock_case *t = &clocks[i];
        struct state_circuit c = draw_circuit(0), back;
        uint64_t elapsed_ms = 77;
        bool trusted;
        size_t len;
        char *text;

        CHECK(state_elapsed(&saved_at, &t->now, &elapsed_ms) == t->trusted);
        CHECK(elapsed_ms == t->elapsed_ms);

        c.want.fed_at_ms = c.want.accepted_at_ms = saved_at.now_ms - 2000;
        c.phases.switched_at_ms[0] = saved_at.now_ms - 20 * 60000;
        c.phases.switched_at_ms[1] = 0;
        c.phases.paused_since_ms = saved_at.now_ms;
        c.sent_at_ms = saved_at.now_ms - 1000;
        text = encode(&c, 1, &len);
        state_init(&back, c.name, c.key);
        CHECK(state_decode(text, len, &t->now, &back, 1, &trusted) == ERR_OK);
        CHECK(trusted == t->trusted);
        CHECK(back.want.fed_at_ms == (t->trusted ? moved(saved_at.now_ms - 2000, t) : 0));
        CHECK(back.want.accepted_at_ms == back.want.fed_at_ms);
        CHECK(back.phases.switched_at_ms[0] == moved(saved_at.now_ms - 20 * 60000, t));
        CHECK(back.phases.switched_at_ms[1] == 0);
        CHECK(back.phases.paused_since_ms == moved(saved_at.now_ms, t));
        CHECK(back.sent_at_ms == moved(saved_at.now_ms - 1000, t));
        free(text);
    }
}

static void a_wall_clock_before_2026_was_never_right(void **state)
{
    (void)state;
    struct state_clock saved = saved_at, now = saved_at;
    uint64_t elapsed_ms;

    strcpy(now.boot_id, "boot two");
    saved.unix_ms = now.unix_ms = INT64_C(1767225600000);
    assert_true(state_elapsed(&saved, &now, &elapsed_ms));
    saved.unix_ms--;
    assert_false(state_elapsed(&saved, &now, &elapsed_ms));
    strcpy(now.boot_id, saved.boot_id);
    assert_true(state_elapsed(&saved, &now, &elapsed_ms)); /* not asked */
    saved.boot_id[0] = now.boot_id[0] = '\0';
    assert_false(state_elapsed(&saved, &now, &elapsed_ms));
}

static void a_shift_moves_points_in_time_only(void **state)
{
    (void)state;
    assert_int_equal(state_shift(0, 1000, 10, 5000), 0);
    assert_true(state_shift(NEVER, 1000, 10, 5000) == NEVER);
    assert_int_equal(state_shift(990, 1000, 10, 5000), 4980);
    assert_int_equal(state_shift(1000, 1000, 10, 5000), 4990);
    assert_int_equal(state_shift(1010, 1000, 10, 5000), 5000);
    assert_int_equal(state_shift(1500, 1000, 10, 5000), 5490); /* a pause ends */
    assert_int_equal(state_shift(990, 1000, 10, 20), 0);
    assert_int_equal(state_shift(990, 1000, 10, 3), 0);
}

/* ---- texts that are no states ---- */

static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    size_t size = strlen(text) + strlen(to) + 1;
    char *ret = malloc(size);

    assert_non_null(at);
    assert_non_null(ret);
    snprintf(ret, size, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return ret;
}

struct damage {
    const char *from, *to;
};

static const struct damage damages[] = {
    {"{",                                          ""                                           },
    {"{",                                          "[{"                                         },
    {"\"circuits\":[",                             "\"circuits\":7,\"x\":["                     },
    {"\"Circuits\":",                              "\"circuits\":"                              },
    {"\"now_ms\":\"8640000000\"",                  "\"now_ms\":8640000000"                      },
    {"\"now_ms\":\"8640000000\"",                  "\"now_ms\":\"08640000000\""                 },
    {"\"now_ms\":\"8640000000\"",                  "\"now_ms\":\"9223372036854775808\""         },
    {"\"now_ms\":\"8640000000\"",                  "\"now_ms\":\"8640000000 \""                 },
    {"\"unix_ms\":\"",                             "\"unix_ms\":\"-"                            },
    {"\"unix_ms\":\"",                             "\"unix\":\""                                },
    {"boot one",                                   "a boot whose name is much longer than fits" },
    {"\"want.id\":\"5\"",                          "\"want.id\":\"9223372036854775808\""        },
    {"\"want.id\":\"5\"",                          "\"want.id\":\"18446744073709551616\""       },
    {"\"want.id\":\"5\"",                          "\"want.id\":\"99999999999999999999\""       },
    {"\"want.id\":\"5\"",                          "\"want.id\":\"\""                           },
    {"\"want.id\":\"5\"",                          "\"want.id\":\"-5\""                         },
    {"\"want.id\":\"5\"",                          "\"want.id\":\"+5\""                         },
    {"\"want.id\":\"5\"",                          "\"want.id\":\" 5\""                         },
    {"\"want.id\":\"5\"",                          "\"want.id\":\"5.0\""                        },
    {"\"want.id\":\"5\"",                          "\"want.id\":\"05\""                         },
    {"\"want.id\":\"5\"",                          "\"want.id\":5"                              },
    {"\"want.id\":\"5\"",                          "\"want.id\":null"                           },
    {"\"want.id\":\"5\"",                          "\"want.ID\":\"5\""                          },
    {"\"want.power_w\":\"3680\"",                  "\"want.power_w\":\"4294967296\""            },
    {"\"want.current_da\":\"160\"",                "\"want.current_da\":\"65536\""              },
    {"\"want.phase_da\":\"1 2 3\"",                "\"want.phase_da\":\"1 2\""                  },
    {"\"want.phase_da\":\"1 2 3\"",                "\"want.phase_da\":\"1 2 3 4\""              },
    {"\"want.phase_da\":\"1 2 3\"",                "\"want.phase_da\":\"1  2 3\""               },
    {"\"want.phase_da\":\"1 2 3\"",                "\"want.phase_da\":\"1,2,3\""                },
    {"\"want.fallback_action\":\"2\"",             "\"want.fallback_action\":\"3\""             },
    {"\"want.phase_mode\":\"1\"",                  "\"want.phase_mode\":\"2\""                  },
    {"\"want.enable\":\"1\"",                      "\"want.enable\":\"2\""                      },
    {"\"want.fed_at_ms\":\"40\"",                  "\"want.fed_at_ms\":\"8640000001\""          },
    {"\"want.fed_at_ms\":\"40\"",                  "\"want.fed_at_ms\":\"18446744073709551614\""},
    {"\"phases.paused_since_ms\":\"0\"",
     "\"phases.paused_since_ms\":\"18446744073709551615\""                                      },
    {"\"phases.next\":\"0\"",                      "\"phases.next\":\"48\""                     },
    {"\"phases.held\":\"0\"",                      "\"phases.held\":\"49\""                     },
    {"\"phases.phases\":\"3\"",                    "\"phases.phases\":\"4\""                    },
    {"\"where.site_id\":\"18446744073709551615\"",
     "\"site_id\":\"18446744073709551614\""                                                     },
    {"\"sent_known\":\"0\"",                       "\"sent_known\":\"256\""                     },
};

static struct state_circuit plain(const char *name)
{
    struct state_circuit c;

    state_init(&c, name, "key");
    c.want = (struct want){
        .id = 5,
        .fed_at_ms = 40,
        .power_w = 3680,
        .current_da = 160,
        .phase_da = {1, 2, 3},
        .fallback_action = FALLBACK_LIMIT,
        .phase_mode = PHASE_MODE_SINGLE,
        .enable = true
    };
    c.phases.phases = 3;
    return c;
}

static void what_is_not_a_state_changes_nothing(void **state)
{
    (void)state;
    struct state_circuit c[2] = {plain("other"), plain("garage")};
    struct state_circuit back[2], before[2];
    size_t len;
    char *text = encode(c, 2, &len);

    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        const struct damage *d = &damages[i];
        bool capital = strncmp(d->from, "\"Circuits", 9) == 0;
        char *bad =
            capital ? replaced(text, d->to, d->from) : replaced(text, d->from, d->to);
        bool trusted = true;

        state_init(&back[0], "garage", "key"); /* whole, and must stay as it is */
        state_init(&back[1], "other", "key");
        memcpy(before, back, sizeof back);
        if (state_decode(bad, strlen(bad), &saved_at, back, 2, &trusted) != ERR_PARSE ||
            memcmp(before, back, sizeof back) != 0)
            fail_msg("%s -> %s", d->from, d->to);
        free(bad);
    }
    free(text);
}

static void a_cut_text_is_not_a_state(void **state)
{
    (void)state;
    struct state_circuit c = plain("garage"), back = c;
    size_t len;
    char *text = encode(&c, 1, &len), *longer;

    for (size_t i = 0; i < len; i++) {
        char *cut = strndup(text, i);
        bool trusted;

        assert_int_equal(state_decode(cut, i, &saved_at, &back, 1, &trusted), ERR_PARSE);
        free(cut);
    }
    longer = replaced(text, "000\"}", "000\"}x");
    assert_int_equal(state_decode(longer, len + 1, &saved_at, &back, 1, &(bool){0}),
                     ERR_PARSE);
    free(longer);
    free(text);
}

/* A circuit nobody asks for is not looked at. */
static void a_foreign_circuit_may_be_anything(void **state)
{
    (void)state;
    struct state_circuit c[2] = {plain("other"), plain("garage")}, back;
    size_t len;
    char *text = encode(c, 2, &len),
         *odd = replaced(text, "\"want.id\":\"5\"", "\"x\":[]");
    bool trusted;

    state_init(&back, "garage", "key");
    assert_int_equal(state_decode(odd, strlen(odd), &saved_at, &back, 1, &trusted),
                     ERR_OK);
    assert_int_equal(back.want.power_w, 3680);
    free(odd);
    free(text);
}

/* ---- when a wish has to be saved ---- */

struct due_case {
    const char *comment;
    bool due;
    struct want saved, now;
};

static const struct due_case dues[] = {
    {"nothing new",              false, {.id = 1},                                   {.id = 1}                       },
    {"the first",                true,  {.id = 0},                                   {.id = 1}                       },
    {"the same once more",       false, {.id = 1, .seq = 1},                         {.id = 2, .seq = 2}             },
    {"another power",            true,  {.id = 1},                                   {.id = 2, .power_w = 1}         },
    {"another current",          true,  {.id = 1},                                   {.id = 2, .current_da = 1}      },
    {"another phase current",    true,  {.id = 1},                                   {.id = 2, .phase_da = {0, 0, 1}}},
    {"another mode",             true,  {.id = 1},                                   {.id = 2, .phase_mode = 3}      },
    {"disabled",                 true,  {.id = 1, .enable = true},                   {.id = 2}                       },
    {"another watchdog",         true,  {.id = 1, .watchdog_s = 10},                 {.id = 1, .watchdog_s = 11}     },
    {"another fallback",         true,  {.id = 1},                                   {.id = 1, .fallback_da = 60}    },
    {"an action",                false, {.id = 1},                                   {.id = 1, .resends = 1}         },
    {"fed, no watchdog",         false, {.id = 1},                                   {.id = 1, .fed_at_ms = 90000}   },
    {"fed, long ago",
     true,                              {.id = 1, .watchdog_s = 60},
     {.id = 1, .watchdog_s = 60, .fed_at_ms = 30000}                                                                 },
    {"fed",
     false,                             {.id = 1, .watchdog_s = 60},
     {.id = 1, .watchdog_s = 60, .fed_at_ms = 29999}                                                                 },
    {"fed, short watchdog",
     false,                             {.id = 1, .watchdog_s = 2},
     {.id = 1, .watchdog_s = 2, .fed_at_ms = 4999}                                                                   },
    {"accepted, long ago",
     true,                              {.id = 1, .validity_s = 20},
     {.id = 2, .validity_s = 20, .accepted_at_ms = 10000}                                                            },
    {"accepted",
     false,                             {.id = 1, .validity_s = 20},
     {.id = 2, .validity_s = 20, .accepted_at_ms = 9999}                                                             },
    {"older than what is saved",
     false,                             {.id = 1, .watchdog_s = 60, .fed_at_ms = 9},
     {.id = 1, .watchdog_s = 60}                                                                                     },
};

static void only_what_matters_has_to_be_saved(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof dues / sizeof dues[0]; i++) {
        struct state_circuit a = {.want = dues[i].saved}, b = {.want = dues[i].now};

        if (state_due(&a, &b) != dues[i].due)
            fail_msg("%s", dues[i].comment);
    }
}

static void whatever_else_differs_has_to_be_saved_too(void **state)
{
    (void)state;
    struct state_circuit saved = draw_circuit(0), now = saved;

    saved.energy_wh = now.energy_wh = 5000;
    assert_false(state_due(&saved, &now));
    now.sent.l[1] ^= 1;
    assert_true(state_due(&saved, &now));
    now = saved;
    now.sent_at_ms ^= 1;
    assert_true(state_due(&saved, &now));
    now = saved;
    now.phases.switched_at_ms[47] ^= 1;
    assert_true(state_due(&saved, &now));
    now = saved;
    now.where.alone = !now.where.alone;
    assert_true(state_due(&saved, &now));
    now = saved;
    now.where.serial[0][0] ^= 1;
    assert_true(state_due(&saved, &now));
    now = saved;
    now.start.watchdog_s ^= 1;
    assert_true(state_due(&saved, &now));
    now = saved;
    now.energy_wh = 5999;
    assert_false(state_due(&saved, &now));
    now.energy_wh = 6000;
    assert_true(state_due(&saved, &now));
    now.energy_wh = NA_U64;
    assert_false(state_due(&saved, &now));
    saved.energy_wh = NA_U64;
    assert_false(state_due(&saved, &now));
    now.energy_wh = 0;
    assert_true(state_due(&saved, &now));
}

static void a_changed_configuration_counts_where_it_changed(void **state)
{
    (void)state;
    const struct state_start before = {.watchdog_s = 60, .fallback_da = 60};
    const struct state_start after = {.watchdog_s = 60,
                                      .fallback_da = 100,
                                      .fallback_action = FALLBACK_LIMIT,
                                      .fallback_phases = 1};
    struct state_circuit c;

    state_init(&c, "a", "b");
    c.start = before;
    c.want.watchdog_s = 30; /* written by a client */
    c.want.fallback_da = 80;
    state_reconfigure(&c, &before);
    assert_int_equal(c.want.watchdog_s, 30);
    assert_int_equal(c.want.fallback_da, 80);
    state_reconfigure(&c, &after);
    assert_int_equal(c.want.watchdog_s, 30);
    assert_int_equal(c.want.fallback_da, 100);
    assert_int_equal(c.want.fallback_action, FALLBACK_LIMIT);
    assert_int_equal(c.want.fallback_phases, 1);
    assert_int_equal(c.start.fallback_da, 100);
}

/* ---- memory ---- */

static int allocations_left;

static void *scarce_malloc(size_t size)
{
    return allocations_left-- > 0 ? malloc(size) : NULL;
}

static void every_failing_allocation_is_an_error(void **state)
{
    (void)state;
    struct state_circuit c = draw_circuit(0), back = c;
    enum err err = ERR_SYSTEM;
    char *text = NULL;
    size_t len = 0;
    int n;

    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = scarce_malloc, .free_fn = free});
    for (n = 0; err != ERR_OK; n++) {
        allocations_left = n;
        err = state_encode(&c, 1, &saved_at, &text, &len);
        assert_true(err == ERR_OK || (err == ERR_SYSTEM && text == NULL));
    }
    assert_true(n > 50);
    for (n = 0, err = ERR_PARSE; err != ERR_OK; n++) {
        allocations_left = n;
        err = state_decode(text, len, &saved_at, &back, 1, &(bool){0});
        assert_true(err == ERR_OK || err == ERR_PARSE);
    }
    assert_true(n > 50);
    cJSON_InitHooks(NULL);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_saved_comes_back),
        cmocka_unit_test(only_the_same_circuit_inherits),
        cmocka_unit_test(names_are_cut_to_what_fits),
        cmocka_unit_test(a_wish_younger_than_the_clock_is_as_old_as_it),
        cmocka_unit_test(times_move_to_this_boot),
        cmocka_unit_test(a_wall_clock_before_2026_was_never_right),
        cmocka_unit_test(a_shift_moves_points_in_time_only),
        cmocka_unit_test(what_is_not_a_state_changes_nothing),
        cmocka_unit_test(a_cut_text_is_not_a_state),
        cmocka_unit_test(a_foreign_circuit_may_be_anything),
        cmocka_unit_test(only_what_matters_has_to_be_saved),
        cmocka_unit_test(whatever_else_differs_has_to_be_saved_too),
        cmocka_unit_test(a_changed_configuration_counts_where_it_changed),
        cmocka_unit_test(every_failing_allocation_is_an_error),
    };
    const char *given = getenv("EVECC_TEST_SEED");

    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 2654435761u;
    seed += seed == 0;
    print_message("EVECC_TEST_SEED=%llu\n", (unsigned long long)seed);
    return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
