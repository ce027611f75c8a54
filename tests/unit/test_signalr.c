/* SPDX-License-Identifier: MIT
 * The hub's bytes, its messages, and the policy of the connection in simulated time. */
#include "evecc/signalr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define SEP     "\x1e"
#define SECONDS UINT64_C(1000)
#define MINUTES (60 * SECONDS)
#define HOURS   (60 * MINUTES)

/* ---- bytes into messages ---- */

enum { HEARD_MAX = 64 };

struct heard {
    unsigned count;
    char text[HEARD_MAX][64]; /* beginnings */
    size_t len[HEARD_MAX];
};

static struct signalr_splitter splitter;

static void hear(struct heard *h)
{
    const char *text;
    size_t len;

    while (signalr_next(&splitter, &text, &len)) {
        assert_true(h->count < HEARD_MAX);
        assert_int_equal(strlen(text), len);
        snprintf(h->text[h->count], sizeof h->text[0], "%s", text);
        h->len[h->count++] = len;
    }
}

static void feed(struct heard *h, const char *bytes, size_t n)
{
    while (n > 0) {
        size_t fed = signalr_feed(&splitter, bytes, n);

        assert_true(fed > 0); /* nothing that was heard dry refuses bytes */
        bytes += fed;
        n -= fed;
        hear(h);
    }
}

static const char several[] = "{}" SEP "{\"type\":6}" SEP SEP "x" SEP "last" SEP "half";

static void expect_several(const struct heard *h)
{
    static const char *const expected[] = {"{}", "{\"type\":6}", "x", "last"};

    assert_int_equal(h->count, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_string_equal(h->text[i], expected[i]);
}

static void splits_at_every_point(void **state)
{
    const size_t len = sizeof several - 1;

    (void)state;
    for (size_t a = 0; a <= len; a++)
        for (size_t b = a; b <= len; b++) {
            struct heard h = {0};

            signalr_init(&splitter);
            feed(&h, several, a);
            feed(&h, several + a, b - a);
            feed(&h, several + b, len - b);
            expect_several(&h);
            feed(&h, SEP, 1);
            assert_string_equal(h.text[4], "half");
        }
}

static void splits_in_pieces_of_every_size(void **state)
{
    const size_t len = sizeof several - 1;

    (void)state;
    for (size_t piece = 1; piece <= len; piece++) {
        struct heard h = {0};

        signalr_init(&splitter);
        for (size_t at = 0; at < len; at += piece)
            feed(&h, several + at, len - at < piece ? len - at : piece);
        expect_several(&h);
    }
}

/* A message of LEN bytes, then a good one: is the long one among what was heard? */
static bool passes(size_t len, size_t piece, uint32_t *ret_dropped)
{
    char *bytes = malloc(len + 1);
    struct heard h = {0};

    assert_non_null(bytes);
    memset(bytes, 'a', len);
    bytes[len] = SIGNALR_SEPARATOR;
    signalr_init(&splitter);
    for (size_t at = 0; at < len + 1; at += piece)
        feed(&h, bytes + at, len + 1 - at < piece ? len + 1 - at : piece);
    feed(&h, "good" SEP, 5);
    free(bytes);
    assert_int_equal(h.count, h.len[0] == len ? 2 : 1);
    assert_string_equal(h.text[h.count - 1], "good");
    *ret_dropped = splitter.dropped;
    return h.count == 2;
}

static void drops_what_is_too_long(void **state)
{
    static const size_t pieces[] = {1, 7, 4096, SIGNALR_MESSAGE_MAX,
                                    3 * SIGNALR_MESSAGE_MAX};
    uint32_t dropped;

    (void)state;
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        print_message("pieces of %zu\n", pieces[i]);
        assert_true(passes(SIGNALR_MESSAGE_MAX - 1, pieces[i], &dropped));
        assert_int_equal(dropped, 0);
        assert_false(passes(SIGNALR_MESSAGE_MAX, pieces[i], &dropped));
        assert_int_equal(dropped, 1);
        assert_false(passes(5 * SIGNALR_MESSAGE_MAX / 2, pieces[i], &dropped));
        assert_int_equal(dropped, 1);
    }
}

/* Bytes that are not taken are refused, not lost. */
static void refuses_more_than_it_holds(void **state)
{
    static char bytes[SIGNALR_MESSAGE_MAX];
    const char *text;
    size_t len, n = sizeof bytes;
    struct heard h = {0};

    (void)state;
    for (size_t i = 0; i < n; i++)
        bytes[i] = i % 2048 == 2047 ? SIGNALR_SEPARATOR : 'b';
    signalr_init(&splitter);
    assert_int_equal(signalr_feed(&splitter, bytes, n), n);
    assert_int_equal(signalr_feed(&splitter, "more", 4), 0);
    assert_true(signalr_next(&splitter, &text, &len));
    assert_int_equal(signalr_feed(&splitter, "more" SEP, 5), 5);
    hear(&h);
    assert_int_equal(h.count, n / 2048);
    assert_string_equal(h.text[h.count - 1], "more");
}

/* ---- messages ---- */

static enum err parse(const char *text, struct signalr_message *m)
{
    memset(m, 0x55, sizeof *m);
    return signalr_parse(text, strlen(text), m);
}

static void knows_every_kind(void **state)
{
    static const struct {
        const char *text;
        int kind; /* negative: ERR_PARSE */
        const char *detail;
    } table[] = {
        {"{}",                                                                  SIGNALR_HANDSHAKE,  ""         },
        {" { \"later\" : 1 } ",                                                 SIGNALR_HANDSHAKE,  ""         },
        {"{\"error\":\"no\"}",                                                  SIGNALR_REFUSED,    "no"       },
        {"{\"error\":5}",                                                       SIGNALR_REFUSED,    ""         },
        {"{\"type\":6}",                                                        SIGNALR_PING,       ""         },
        {"{\"type\":7}",                                                        SIGNALR_CLOSE,      ""         },
        {"{\"type\":7,\"error\":\"over\\n\",\"allowReconnect\":true}",          SIGNALR_CLOSE,
         "over"                                                                                                },
        {"{\"type\":3,\"invocationId\":\"1\",\"result\":null}",                 SIGNALR_COMPLETION, "1"        },
        {"{\"type\":3,\"invocationId\":\"1\",\"error\":\"<b>no</b> access\"}",
         SIGNALR_REFUSED,                                                                           "no access"},
        {"{\"type\":3}",                                                        SIGNALR_COMPLETION, ""         },
        {"{\"type\":1,\"target\":\"ChargerUpdate\",\"arguments\":[{}]}",        SIGNALR_IGNORED,
         ""                                                                                                    },
        {"{\"type\":1,\"target\":\"ProductUpdates\",\"arguments\":[]}",         SIGNALR_IGNORED,
         ""                                                                                                    },
        {"{\"type\":1}",                                                        SIGNALR_IGNORED,    ""         },
        {"{\"type\":1,\"target\":7,\"arguments\":7}",                           SIGNALR_IGNORED,    ""         },
        {"{\"type\":2,\"item\":1}",                                             SIGNALR_IGNORED,    ""         },
        {"{\"type\":4}",                                                        SIGNALR_IGNORED,    ""         },
        {"{\"type\":5}",                                                        SIGNALR_IGNORED,    ""         },
        {"{\"type\":9,\"sequenceId\":3}",                                       SIGNALR_IGNORED,    ""         },
        {"{\"type\":2147483647}",                                               SIGNALR_IGNORED,    ""         },
        {"",                                                                    -1,                 ""         },
        {"{",                                                                   -1,                 ""         },
        {"[]",                                                                  -1,                 ""         },
        {"null",                                                                -1,                 ""         },
        {"6",                                                                   -1,                 ""         },
        {"{\"type\":\"6\"}",                                                    -1,                 ""         },
        {"{\"type\":-1}",                                                       -1,                 ""         },
        {"{\"type\":1.5}",                                                      -1,                 ""         },
        {"{\"type\":1e300}",                                                    -1,                 ""         },
        {"{\"type\":null}",                                                     -1,                 ""         },
        {"{\"type\":6}{}",                                                      -1,                 ""         },
        {"{\"type\":1,\"target\":\"ProductUpdate\"}",                           -1,                 ""         },
        {"{\"type\":1,\"target\":\"ProductUpdate\",\"arguments\":[]}",          -1,                 ""         },
        {"{\"type\":1,\"target\":\"ProductUpdate\",\"arguments\":{\"mid\":1}}", -1,                 ""         },
        {"{\"type\":1,\"target\":\"CommandResponse\",\"arguments\":[null]}",    -1,                 ""         },
        {"\xff\xfe{}",                                                          -1,                 ""         },
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct signalr_message m;
        enum err err = parse(table[i].text, &m);

        print_message("%s\n", table[i].text);
        assert_int_equal(err, table[i].kind < 0 ? ERR_PARSE : ERR_OK);
        if (err != ERR_OK) {
            assert_int_equal(m.kind, 0x55555555); /* untouched */
            continue;
        }
        assert_int_equal(m.kind, table[i].kind);
        assert_string_equal(m.text, table[i].detail);
    }
}

static void close_says_whether_to_come_back(void **state)
{
    struct signalr_message m;

    (void)state;
    assert_int_equal(parse("{\"type\":7,\"allowReconnect\":true}", &m), ERR_OK);
    assert_true(m.may_reconnect);
    assert_int_equal(parse("{\"type\":7,\"allowReconnect\":1}", &m), ERR_OK);
    assert_false(m.may_reconnect);
    assert_int_equal(parse("{\"type\":7,\"error\":\"x\"}", &m), ERR_OK);
    assert_false(m.may_reconnect);
}

static void observations_are_texts(void **state)
{
    static const struct {
        const char *value; /* as it stands in the message */
        bool accepted, is_number;
        double number;
        const char *text;
    } table[] = {
        {"\"3\"",     true,  true,  3,    "3"    },
        {"\"16.5\"",  true,  true,  16.5, "16.5" },
        {"\"-61\"",   true,  true,  -61,  "-61"  },
        {"\"true\"",  true,  true,  1,    "true" },
        {"\"False\"", true,  true,  0,    "False"},
        {"\"on\"",    true,  true,  1,    "on"   },
        {"\"off\"",   true,  true,  0,    "off"  },
        {"\"\"",      true,  false, 0,    ""     },
        {"\"C\"",     true,  false, 0,    "C"    },
        {"\"NaN\"",   true,  false, 0,    "NaN"  },
        {"\"1,5\"",   true,  false, 0,    "1,5"  },
        {"7",         true,  true,  7,    ""     },
        {"true",      true,  true,  1,    ""     },
        {"null",      true,  false, 0,    ""     },
        {"\"1e400\"", false, false, 0,    ""     },
        {"1e300",     false, false, 0,    ""     },
        {"{}",        false, false, 0,    ""     },
        {"[1]",       false, false, 0,    ""     },
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct signalr_message m;
        char text[256];

        snprintf(text, sizeof text,
                 "{\"type\":1,\"target\":\"%s\",\"arguments\":[{\"mid\":\"EH123456\","
                 "\"dataType\":4,\"id\":109,\"timestamp\":\"2026-01-05T11:58:02Z\","
                 "\"value\":%s}]}",
                 i % 2 ? "ProductUpdate" : "productUpdate", table[i].value);
        print_message("%s\n", table[i].value);
        assert_int_equal(parse(text, &m), table[i].accepted ? ERR_OK : ERR_PARSE);
        if (!table[i].accepted)
            continue;
        assert_int_equal(m.kind, SIGNALR_OBSERVATION);
        assert_string_equal(m.serial, "EH123456");
        assert_int_equal(m.observation.id, 109);
        assert_true(m.observation.at_unix_ms == INT64_C(1767614282000));
        assert_int_equal(m.observation.is_number, table[i].is_number);
        assert_true(!table[i].is_number || m.observation.number == table[i].number);
        assert_string_equal(m.observation.text, table[i].text);
    }
}

static void observations_of_the_wrong_type(void **state)
{
    static const char *const table[] = {
        "{\"mid\":5,\"id\":1,\"value\":\"1\"}",
        "{\"mid\":\"\",\"id\":1,\"value\":\"1\"}",
        "{\"mid\":\"EH/../x\",\"id\":1,\"value\":\"1\"}",
        "{\"mid\":\"EH1234567890123456789\",\"id\":1,\"value\":\"1\"}",
        "{\"id\":1,\"value\":\"1\"}",
        "{\"mid\":\"EH1\",\"id\":\"1\",\"value\":\"1\"}",
        "{\"mid\":\"EH1\",\"id\":0,\"value\":\"1\"}",
        "{\"mid\":\"EH1\",\"id\":65536,\"value\":\"1\"}",
        "{\"mid\":\"EH1\",\"id\":1.5,\"value\":\"1\"}",
        "{\"mid\":\"EH1\",\"id\":1}",
        "5",
        "[]",
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct signalr_message m;
        char text[256];

        snprintf(text, sizeof text,
                 "{\"type\":1,\"target\":\"ProductUpdate\",\"arguments\":[%s]}",
                 table[i]);
        print_message("%s\n", table[i]);
        assert_int_equal(parse(text, &m), ERR_PARSE);
    }
}

/* .NET ticks have 18 digits, which a double does not hold (easee-api 5.1). */
static void ticks_are_exact(void **state)
{
    static const struct {
        const char *ticks;
        int64_t expected;
    } table[] = {
        {",\"ticks\":638605514168533970",                INT64_C(638605514168533970)},
        {",\"ticks\":638605514168533971",                INT64_C(638605514168533971)},
        {",\"ticks\" : 9223372036854775807 ",            INT64_MAX                  },
        {",\"ticks\":0",                                 0                          },
        {"",                                             0                          },
        {",\"ticks\":null",                              0                          },
        {",\"ticks\":\"638605514168533970\"",            0                          },
        {",\"ticks\":9223372036854775808",               0                          },
        {",\"ticks\":-5",                                0                          },
        {",\"ticks\":6.3e17",                            0                          },
        {",\"comment\":\"\\\"ticks\\\":7\",\"ticks\":8", 8                          },
        {",\"x\":{\"ticks\":9},\"ticks\":10",            10                         },
        {",\"x\":[{\"ticks\":9}]",                       0                          },
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct signalr_message m;
        char text[512];

        snprintf(text, sizeof text,
                 "{\"type\":1,\"ticks\":3,\"target\":\"CommandResponse\",\"arguments\":[ "
                 "{\"serialNumber\":\"EH123456\",\"id\":48,\"wasAccepted\":%s,"
                 "\"resultCode\":%u%s}]}",
                 i % 2 ? "true" : "false", (unsigned)i, table[i].ticks);
        print_message("%s\n", table[i].ticks);
        assert_int_equal(parse(text, &m), ERR_OK);
        assert_int_equal(m.kind, SIGNALR_VERDICT);
        assert_string_equal(m.serial, "EH123456");
        assert_int_equal(m.command_id, 48);
        assert_int_equal(m.accepted, i % 2);
        assert_true(m.ticks == table[i].expected);
    }
}

static void verdicts_of_the_wrong_type(void **state)
{
    static const char *const table[] = {
        "{\"id\":48,\"wasAccepted\":true}",
        "{\"serialNumber\":5,\"id\":48,\"wasAccepted\":true}",
        "{\"serialNumber\":\"EH1\",\"wasAccepted\":true}",
        "{\"serialNumber\":\"EH1\",\"id\":\"48\",\"wasAccepted\":true}",
        "{\"serialNumber\":\"EH1\",\"id\":-1,\"wasAccepted\":true}",
        "{\"serialNumber\":\"EH1\",\"id\":48}",
        "{\"serialNumber\":\"EH1\",\"id\":48,\"wasAccepted\":null}",
        "{\"serialNumber\":\"EH1\",\"id\":48,\"wasAccepted\":1}",
        "\"EH1\"",
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct signalr_message m;
        char text[256];

        snprintf(text, sizeof text,
                 "{\"type\":1,\"target\":\"commandresponse\",\"arguments\":[%s]}",
                 table[i]);
        print_message("%s\n", table[i]);
        assert_int_equal(parse(text, &m), ERR_PARSE);
    }
}

static void says_what_the_hub_wants(void **state)
{
    static const char subscribe[] =
        "{\"type\":1,\"invocationId\":\"12\",\"target\":\"SubscribeWithCurrentState\","
        "\"arguments\":[\"EH123456\",true]}" SEP;
    char buf[256];
    size_t len;

    (void)state;
    len = signalr_handshake(buf, sizeof buf);
    assert_string_equal(buf, "{\"protocol\":\"json\",\"version\":1}" SEP);
    assert_int_equal(len, strlen(buf));
    len = signalr_ping(buf, sizeof buf);
    assert_string_equal(buf, "{\"type\":6}" SEP);
    assert_int_equal(len, strlen(buf));
    len = signalr_subscribe(buf, sizeof buf, "EH123456", 12);
    assert_string_equal(buf, subscribe);
    assert_int_equal(len, strlen(buf));
    for (size_t size = 0; size < sizeof subscribe; size++)
        assert_int_equal(signalr_subscribe(buf, size, "EH123456", 12), 0);
    assert_int_equal(signalr_subscribe(buf, sizeof subscribe, "EH123456", 12),
                     sizeof subscribe - 1);
}

static void negotiation(void **state)
{
    static const struct {
        const char *body;
        enum err err;
        const char *id, *url, *token;
        bool websockets;
    } table[] = {
        {"{\"negotiateVersion\":0,\"connectionId\":\"AbC\",\"availableTransports\":"
         "[{\"transport\":\"WebSockets\",\"transferFormats\":[\"Text\"]},{}]}", ERR_OK,    "AbC", "",              "", true },
        {"{\"negotiateVersion\":1,\"connectionId\":\"a\",\"connectionToken\":\"b\","
         "\"availableTransports\":[{\"transport\":\"LongPolling\"}]}",          ERR_OK,    "b",   "",              "", false},
        {"{\"connectionId\":\"a\",\"connectionToken\":null}",                            ERR_OK,    "a",   "",              "", false},
        {"{\"url\":\"https://x/hub\",\"accessToken\":\"t\"}",                            ERR_OK,    "",    "https://x/hub",
         "t",                                                                                                                   false},
        {"{\"url\":\"https://x/hub\"}",                                                  ERR_OK,    "",    "https://x/hub", "", false},
        {"{\"connectionId\":\"\"}",                                                      ERR_PARSE, "",    "",              "", false},
        {"{\"connectionId\":5}",                                                         ERR_PARSE, "",    "",              "", false},
        {"{\"error\":\"no\"}",                                                           ERR_PARSE, "",    "",              "", false},
        {"{}",                                                                           ERR_PARSE, "",    "",              "", false},
        {"[]",                                                                           ERR_PARSE, "",    "",              "", false},
        {"<html>",                                                                       ERR_PARSE, "",    "",              "", false},
        {"",                                                                             ERR_PARSE, "",    "",              "", false},
    };
    static struct signalr_negotiation n;
    static char body[SIGNALR_TEXT_MAX + 64];

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        print_message("%s\n", table[i].body);
        memset(&n, 0x55, sizeof n);
        assert_int_equal(signalr_negotiated(table[i].body, strlen(table[i].body), &n),
                         table[i].err);
        if (table[i].err != ERR_OK) {
            assert_int_equal(n.id[0], 0x55); /* untouched */
            continue;
        }
        assert_string_equal(n.id, table[i].id);
        assert_string_equal(n.url, table[i].url);
        assert_string_equal(n.access_token, table[i].token);
        assert_int_equal(n.websockets, table[i].websockets);
    }
    /* What would have to be cut is not used. */
    for (int len = SIGNALR_TEXT_MAX - 1; len <= SIGNALR_TEXT_MAX; len++) {
        snprintf(body, sizeof body, "{\"connectionId\":\"%0*d\"}", len, 1);
        assert_int_equal(signalr_negotiated(body, strlen(body), &n),
                         len < SIGNALR_TEXT_MAX ? ERR_OK : ERR_PARSE);
    }
}

/* ---- policy ---- */

static const uint64_t start_ms = 1000 * SECONDS;

static struct hub new_hub(void)
{
    struct hub h;

    hub_init(&h, 42);
    hub_want(&h, true, start_ms);
    return h;
}

/* Sleeps until there is something to do; the wake-up must be worth it. */
static enum hub_step next(struct hub *h, uint64_t *now_ms)
{
    uint64_t at = hub_wake(h, *now_ms);
    enum hub_step step;

    assert_true(at != NEVER && at >= *now_ms);
    if (at > *now_ms) /* and not a moment earlier */
        assert_int_equal(hub_next(h, at - 1), HUB_NOTHING);
    *now_ms = at;
    step = hub_next(h, at);
    assert_int_not_equal(step, HUB_NOTHING);
    return step;
}

static void assert_between(uint64_t value, uint64_t lo, uint64_t hi)
{
    if (value < lo || value > hi)
        fail_msg("%llu is not within %llu to %llu", (unsigned long long)value,
                 (unsigned long long)lo, (unsigned long long)hi);
}

/* How long it waits after an attempt that ends as told. */
static uint64_t wait_after(struct hub *h, uint64_t *now_ms, unsigned http_status,
                           int64_t retry_after_s, bool may_reconnect)
{
    uint64_t down_ms = *now_ms;

    hub_down(h, http_status, retry_after_s, may_reconnect, down_ms);
    next(h, now_ms);
    return *now_ms - down_ms;
}

static void connects_only_when_wanted(void **state)
{
    struct hub h;

    (void)state;
    hub_init(&h, 0);
    assert_int_equal(hub_next(&h, start_ms), HUB_NOTHING);
    assert_true(hub_wake(&h, start_ms) == NEVER);
    hub_want(&h, true, start_ms);
    assert_true(hub_wake(&h, start_ms) == start_ms);
    assert_int_equal(hub_next(&h, start_ms), HUB_CONNECT);
    assert_int_equal(hub_next(&h, start_ms), HUB_NOTHING); /* one at a time */
    hub_want(&h, false, start_ms);
    hub_down(&h, 0, -1, true, start_ms);
    assert_true(hub_wake(&h, start_ms) == NEVER);
    assert_int_equal(hub_next(&h, start_ms + HOURS), HUB_NOTHING);
}

/* 1, 2, 4, ... 60 s, 75 to 125 % of it, without end. */
static void backs_off(void **state)
{
    struct hub h = new_hub();
    uint64_t now_ms = start_ms, ms = SECONDS;
    unsigned attempts = 0;
    bool varied = false;

    (void)state;
    assert_int_equal(next(&h, &now_ms), HUB_CONNECT);
    for (; now_ms < start_ms + 7 * 24 * HOURS; attempts++) {
        uint64_t waited = wait_after(&h, &now_ms, 0, -1, true);

        assert_between(waited, ms * 75 / 100, ms * 125 / 100);
        varied = varied || waited != ms;
        ms = 2 * ms < MINUTES ? 2 * ms : MINUTES;
    }
    assert_true(varied);
    assert_between(attempts, 8000, 13500);
}

/* A server that accepts and hangs up is no better than one that refuses. */
static void backs_off_from_short_connections(void **state)
{
    struct hub h = new_hub();
    uint64_t now_ms = start_ms, waited = 0;

    (void)state;
    next(&h, &now_ms);
    for (int i = 0; i < 8; i++) {
        hub_up(&h, now_ms);
        now_ms += 10;
        waited = wait_after(&h, &now_ms, 0, -1, true);
    }
    assert_between(waited, 45 * SECONDS, 75 * SECONDS);

    hub_up(&h, now_ms); /* one that lasts makes up for it */
    now_ms += MINUTES;
    assert_between(wait_after(&h, &now_ms, 0, -1, true), 750, 1250);
}

static void rejected_token_waits_for_another(void **state)
{
    struct hub h = new_hub();
    uint64_t now_ms = start_ms;

    (void)state;
    next(&h, &now_ms);
    hub_down(&h, 401, -1, true, now_ms);
    assert_true(hub_wake(&h, now_ms) == NEVER);
    assert_int_equal(hub_next(&h, now_ms + HOURS), HUB_NOTHING);
    hub_new_token(&h, now_ms + 10);
    assert_int_equal(next(&h, &now_ms), HUB_CONNECT);

    /* Tokens that are all rejected come to nothing faster than any other failure. */
    for (int i = 0; i < 8; i++) {
        hub_down(&h, 401, -1, true, now_ms);
        hub_new_token(&h, now_ms);
        next(&h, &now_ms);
    }
    hub_down(&h, 401, -1, true, now_ms);
    hub_new_token(&h, now_ms);
    assert_between(hub_wake(&h, now_ms) - now_ms, 45 * SECONDS, 75 * SECONDS);
}

static void new_token_does_not_shorten_the_wait(void **state)
{
    struct hub h = new_hub();
    uint64_t now_ms = start_ms;

    (void)state;
    next(&h, &now_ms);
    hub_down(&h, 429, 300, true, now_ms);
    hub_new_token(&h, now_ms + 1);
    assert_true(hub_wake(&h, now_ms + 1) == now_ms + 300 * SECONDS);
}

static void obeys_refusals(void **state)
{
    static const struct {
        unsigned status;
        int64_t retry_after_s;
        bool may_reconnect;
        uint64_t lo_s, hi_s;
    } table[] = {
        {429, -1,       true,  60,   60  },
        {429, 0,        true,  60,   60  },
        {429, 7,        true,  60,   60  },
        {429, 300,      true,  300,  300 },
        {429, 99999999, true,  3600, 3600},
        {403, -1,       true,  3600, 3600},
        {403, 7,        true,  3600, 3600},
        {503, 120,      true,  120,  120 },
        {0,   -1,       false, 60,   60  },
        {500, -1,       true,  0,    2   },
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct hub h = new_hub();
        uint64_t now_ms = start_ms;

        print_message("%u, Retry-After %lld\n", table[i].status,
                      (long long)table[i].retry_after_s);
        next(&h, &now_ms);
        assert_between(wait_after(&h, &now_ms, table[i].status, table[i].retry_after_s,
                                  table[i].may_reconnect),
                       table[i].lo_s * SECONDS, table[i].hi_s * SECONDS);
    }
}

static enum hub_step step_after(struct hub *h, uint64_t *now_ms, unsigned status)
{
    hub_down(h, status, -1, true, *now_ms);
    return next(h, now_ms);
}

static void negotiates_when_direct_is_refused(void **state)
{
    struct hub h = new_hub();
    uint64_t now_ms = start_ms;

    (void)state;
    assert_int_equal(next(&h, &now_ms), HUB_CONNECT);
    assert_int_equal(step_after(&h, &now_ms, 400), HUB_CONNECT);
    assert_int_equal(step_after(&h, &now_ms, 404), HUB_CONNECT);
    for (int i = 0; i < 5; i++) { /* these say nothing about the way */
        assert_int_equal(step_after(&h, &now_ms, 0), HUB_CONNECT);
        assert_int_equal(step_after(&h, &now_ms, 429), HUB_CONNECT);
    }
    assert_int_equal(step_after(&h, &now_ms, 400), HUB_NEGOTIATE);
    assert_int_equal(step_after(&h, &now_ms, 500), HUB_NEGOTIATE);
    assert_int_equal(step_after(&h, &now_ms, 500), HUB_NEGOTIATE);
    assert_int_equal(step_after(&h, &now_ms, 500), HUB_CONNECT); /* and back */
    assert_int_equal(step_after(&h, &now_ms, 404), HUB_CONNECT);
    assert_int_equal(step_after(&h, &now_ms, 404), HUB_CONNECT);
    assert_int_equal(step_after(&h, &now_ms, 404), HUB_NEGOTIATE);
    assert_int_equal(step_after(&h, &now_ms, 500), HUB_NEGOTIATE);
    assert_int_equal(step_after(&h, &now_ms, 500), HUB_NEGOTIATE);
    hub_up(&h, now_ms); /* what works is kept, and counts anew */
    assert_int_equal(step_after(&h, &now_ms, 0), HUB_NEGOTIATE);
    assert_int_equal(step_after(&h, &now_ms, 500), HUB_NEGOTIATE);
    assert_int_equal(step_after(&h, &now_ms, 500), HUB_NEGOTIATE);
    assert_int_equal(step_after(&h, &now_ms, 500), HUB_CONNECT);
}

static void pings_and_listens(void **state)
{
    struct hub h = new_hub();
    uint64_t now_ms = start_ms, up_ms;

    (void)state;
    next(&h, &now_ms);
    now_ms += 300;
    hub_up(&h, now_ms);
    up_ms = now_ms;
    for (unsigned i = 1; i <= 4; i++) {
        assert_int_equal(next(&h, &now_ms), HUB_PING);
        assert_true(now_ms == up_ms + i * 12 * SECONDS);
    }
    now_ms += SECONDS;
    hub_heard(&h, now_ms); /* at 49 s: dead at 109 s */
    for (unsigned i = 5; i <= 9; i++)
        assert_int_equal(next(&h, &now_ms), HUB_PING);
    assert_int_equal(next(&h, &now_ms), HUB_CLOSE);
    assert_true(now_ms == up_ms + 109 * SECONDS);
}

/* Also one that never gets as far as the handshake. */
static void gives_up_on_a_silent_start(void **state)
{
    struct hub h = new_hub();
    uint64_t now_ms = start_ms;

    (void)state;
    assert_int_equal(next(&h, &now_ms), HUB_CONNECT);
    assert_int_equal(next(&h, &now_ms), HUB_CLOSE); /* and no ping before */
    assert_true(now_ms == start_ms + MINUTES);
    hub_down(&h, 0, -1, true, now_ms);
    assert_int_equal(next(&h, &now_ms), HUB_CONNECT);
}

/* Whatever happens: one connection, no tight loop, a ping in time, an end of silence. */
static void a_month_of_anything(void **state)
{
    static const unsigned statuses[] = {0, 0, 400, 401, 403, 404, 429, 500, 503};
    unsigned seed = (unsigned)time(NULL), attempts = 0;
    uint64_t now_ms = start_ms, end_ms = start_ms + 30 * 24 * HOURS, last_ms = 0;
    struct hub h = new_hub();
    bool connected = false;

    (void)state;
    print_message("seed %u\n", seed);
    srand(seed);
    while (now_ms < end_ms) {
        uint64_t wake_ms = hub_wake(&h, now_ms);
        enum hub_step step;

        if (wake_ms == NEVER) {
            assert_true(h.token_rejected);
            now_ms += (uint64_t)rand() % (10 * MINUTES);
            hub_new_token(&h, now_ms);
            continue;
        }
        if (connected && rand() % 3 > 0 && wake_ms > now_ms + 1) { /* meanwhile */
            now_ms += (uint64_t)rand() % (wake_ms - now_ms);
            hub_heard(&h, now_ms);
            continue;
        }
        now_ms = wake_ms;
        step = hub_next(&h, now_ms);
        assert_int_not_equal(step, HUB_NOTHING);
        if (step == HUB_CONNECT || step == HUB_NEGOTIATE) {
            assert_false(connected);
            assert_true(last_ms == 0 || now_ms >= last_ms + 750);
            attempts++;
            connected = true;
            now_ms += (uint64_t)rand() % 2000;
            if (rand() % 2)
                hub_up(&h, now_ms);
        }
        if (step == HUB_CLOSE || rand() % 20 == 0) {
            hub_down(&h,
                     statuses[(size_t)rand() % (sizeof statuses / sizeof statuses[0])],
                     rand() % 100 - 50, rand() % 2, now_ms);
            connected = false;
            last_ms = now_ms;
        }
    }
    assert_true(attempts > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_at_every_point),
        cmocka_unit_test(splits_in_pieces_of_every_size),
        cmocka_unit_test(drops_what_is_too_long),
        cmocka_unit_test(refuses_more_than_it_holds),
        cmocka_unit_test(knows_every_kind),
        cmocka_unit_test(close_says_whether_to_come_back),
        cmocka_unit_test(observations_are_texts),
        cmocka_unit_test(observations_of_the_wrong_type),
        cmocka_unit_test(ticks_are_exact),
        cmocka_unit_test(verdicts_of_the_wrong_type),
        cmocka_unit_test(says_what_the_hub_wants),
        cmocka_unit_test(negotiation),
        cmocka_unit_test(connects_only_when_wanted),
        cmocka_unit_test(backs_off),
        cmocka_unit_test(backs_off_from_short_connections),
        cmocka_unit_test(rejected_token_waits_for_another),
        cmocka_unit_test(new_token_does_not_shorten_the_wait),
        cmocka_unit_test(obeys_refusals),
        cmocka_unit_test(negotiates_when_direct_is_refused),
        cmocka_unit_test(pings_and_listens),
        cmocka_unit_test(gives_up_on_a_silent_start),
        cmocka_unit_test(a_month_of_anything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
