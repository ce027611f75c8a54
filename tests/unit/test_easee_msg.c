/* SPDX-License-Identifier: MIT */
#include "evecc/easee_msg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static const char token_body[] =
    "{ \"accessToken\": \"eyJh.bGci.Oi-_\", \"expiresIn\": 3600, \"accessClaims\": "
    "[\"User\"],"
    " \"tokenType\": \"Bearer\", \"refreshToken\": \"eyJ2.x\" }";

static const char sites_body[] = "[{\"id\":1,\"siteKey\":null,\"name\":\"A\"},"
                                 "{\"id\":54321,\"siteKey\":\"ABCD-1234\",\"name\":"
                                 "\"Home\",\"address\":{\"zip\":\"0000\"}},"
                                 "{\"id\":54322,\"siteKey\":\"EFGH-5678\"}]";

/* Three circuits; on the second the master is listed last. */
static const char site_body[] =
    "{\"id\":54321,\"siteKey\":\"ABCD-1234\",\"name\":\"Hytta p\xc3\xa5 \\u001b "
    "fjellet\","
    "\"ratedCurrent\":25.0,\"circuits\":["
    "{\"id\":12345,\"siteId\":54321,\"circuitPanelId\":1,\"ratedCurrent\":32.0,"
    "\"chargers\":["
    "{\"id\":\"EH123456\",\"backPlate\":{\"id\":\"88\",\"masterBackPlateId\":\"88\"},"
    "\"productCode\":1}],\"masterBackplate\":null},"
    "{\"id\":12346,\"circuitPanelId\":2,\"ratedCurrent\":null,\"chargers\":["
    "{\"id\":\"EH200002\",\"backPlate\":{\"id\":\"91\",\"masterBackPlateId\":\"90\"},"
    "\"productCode\":null},"
    "{\"id\":\"EH200003\",\"backPlate\":null,\"productCode\":100},"
    "{\"id\":\"../evil?\"},"
    "{\"id\":\"EH200001\",\"backPlate\":{\"id\":\"90\",\"masterBackPlateId\":\"90\"},"
    "\"productCode\":2}]},"
    "{\"id\":12347,\"circuitPanelId\":3,\"chargers\":null}],"
    "\"equalizers\":[],\"vat\":0.0}";

static const char settings_body[] =
    "{ \"allowOfflineMaxCircuitCurrent\": false, \"equalizerId\": null,"
    " \"dynamicCircuitCurrentP1\": 16.0, \"dynamicCircuitCurrentP2\": null,"
    " \"dynamicCircuitCurrentP3\": 1000.0, \"maxCircuitCurrentP1\": 20.0,"
    " \"offlineMaxCircuitCurrentP1\": 8 }";

static const char commands_body[] =
    "[ { \"device\": \"EH123456\", \"commandId\": 48, \"ticks\": 638605514168533970 },"
    "  {\"x\":\"}],\\\"ticks\\\":1,\\\"\",\"y\":[{\"ticks\":2}],\"commandId\":22 , "
    "\"device\":null,"
    "\"ticks\" :\t9223372036854775807\n}, {\"commandId\":1} ]";

static const char observations_body[] =
    "{ \"observations\": [ { \"id\": 109, \"dataType\": 4, \"value\": 3,"
    " \"timestamp\": \"2026-01-05T11:58:02Z\" },"
    "{ \"id\": 48, \"dataType\": 3, \"value\": 16.5,"
    " \"timestamp\": \"2026-01-05T11:57:40.250Z\" },"
    "{ \"id\": 120, \"value\": \"6.92\" }, { \"id\": 250, \"value\": true },"
    "{ \"id\": 100, \"value\": \"C\" }, { \"id\": 96, \"value\": null, \"timestamp\": "
    "null },"
    "{ \"id\": 42, \"value\": \"True\", \"timestamp\": \"0001-01-01T00:00:00\" } ] }";

/* ---- requests ---- */

static void check_text(const char *buf, size_t len, const char *expected)
{
    assert_int_equal(len, strlen(expected));
    assert_string_equal(buf, expected);
}

static void test_requests_are_exact(void **state)
{
    const struct amps amps = {
        {10, 0, 255}
    };
    char buf[256];
    size_t len;

    (void)state;
    len = easee_msg_settings(buf, sizeof buf, amps);
    check_text(buf, len,
               "{\"dynamicCircuitCurrentP1\":10,\"dynamicCircuitCurrentP2\":0,"
               "\"dynamicCircuitCurrentP3\":255}");
    len = easee_msg_dynamic(buf, sizeof buf, amps, 65535);
    check_text(buf, len,
               "{\"phase1\":10,\"phase2\":0,\"phase3\":255,\"timeToLive\":65535}");
    len = easee_msg_login(buf, sizeof buf, "owner@example.org", "correct horse;#");
    check_text(buf, len,
               "{\"userName\":\"owner@example.org\",\"password\":\"correct horse;#\"}");
    len = easee_msg_refresh(buf, sizeof buf, "a", "b");
    check_text(buf, len, "{\"accessToken\":\"a\",\"refreshToken\":\"b\"}");
}

static void test_knobs_are_exact(void **state)
{
    static const struct {
        enum easee_knob knob;
        const char *circuit, *charger;
    } table[] = {
        {EASEE_DYNAMIC,
         "{\"dynamicCircuitCurrentP1\":16,\"dynamicCircuitCurrentP2\":0,"
         "\"dynamicCircuitCurrentP3\":255}",    "{\"dynamicChargerCurrent\":32}"},
        {EASEE_MAX,
         "{\"maxCircuitCurrentP1\":16,\"maxCircuitCurrentP2\":0,"
         "\"maxCircuitCurrentP3\":255}",        "{\"maxChargerCurrent\":32}"    },
        {EASEE_OFFLINE,
         "{\"offlineMaxCircuitCurrentP1\":16,\"offlineMaxCircuitCurrentP2\":0,"
         "\"offlineMaxCircuitCurrentP3\":255}", NULL                            },
    };
    char buf[256];

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        size_t len = easee_msg_knob(buf, sizeof buf, table[i].knob,
                                    (struct amps){
                                        {16, 0, 255}
        });

        check_text(buf, len, table[i].circuit);
        if (table[i].charger == NULL)
            continue;
        len = easee_msg_charger(buf, sizeof buf, table[i].knob, 32);
        check_text(buf, len, table[i].charger);
    }
    assert_int_equal(easee_msg_knob(buf, 40, EASEE_MAX, (struct amps){{0}}), 0);
    assert_int_equal(easee_msg_charger(buf, 8, EASEE_MAX, 6), 0);
}

static void test_any_byte_may_be_in_a_password(void **state)
{
    char password[256], buf[2048], expected[2048];
    size_t at;

    (void)state;
    for (unsigned i = 1; i < 256; i++)
        password[i - 1] = (char)i;
    password[255] = '\0';
    at = (size_t)sprintf(expected, "{\"userName\":\"\",\"password\":\"");
    for (unsigned i = 1; i < 256; i++) {
        if (i < 32)
            at += (size_t)sprintf(expected + at, "\\u%04x", i);
        else if (i == '"' || i == '\\')
            at += (size_t)sprintf(expected + at, "\\%c", (char)i);
        else
            expected[at++] = (char)i;
    }
    memcpy(expected + at, "\"}", 3);
    check_text(buf, easee_msg_login(buf, sizeof buf, "", password), expected);
}

/* Every size that is too small says so and is kept to; the first that fits is exact. */
static void test_requests_keep_within_the_buffer(void **state)
{
    char buf[128];
    size_t need = easee_msg_login(buf, sizeof buf, "u\"\n", "p");

    (void)state;
    assert_true(need > 0);
    for (size_t size = 0; size <= need; size++) {
        memset(buf, '#', sizeof buf);
        assert_int_equal(easee_msg_login(buf, size, "u\"\n", "p"), 0);
        assert_int_equal(buf[size], '#');
    }
    assert_int_equal(easee_msg_login(buf, need + 1, "u\"\n", "p"), need);
}

/* ---- tokens ---- */

static void test_token(void **state)
{
    static struct easee_token t;

    (void)state;
    assert_int_equal(easee_msg_token(token_body, strlen(token_body), &t), ERR_OK);
    assert_int_equal(t.expires_in_s, 3600);
    assert_string_equal(t.access, "eyJh.bGci.Oi-_");
    assert_string_equal(t.refresh, "eyJ2.x");
}

static void test_token_refuses_nonsense(void **state)
{
    static const char *const bad[] = {
        "",
        "null",
        "[]",
        "\"x\"",
        "{}",
        "<html><body>login</body></html>",
        "{\"accessToken\":\"a\",\"refreshToken\":\"b\"}",
        "{\"accessToken\":\"a\",\"refreshToken\":\"b\",\"expiresIn\":\"3600\"}",
        "{\"accessToken\":\"a\",\"refreshToken\":\"b\",\"expiresIn\":null}",
        "{\"accessToken\":\"a\",\"refreshToken\":\"b\",\"expiresIn\":0}",
        "{\"accessToken\":\"a\",\"refreshToken\":\"b\",\"expiresIn\":-5}",
        "{\"accessToken\":\"a\",\"refreshToken\":\"b\",\"expiresIn\":1e999}",
        "{\"accessToken\":\"a\",\"refreshToken\":\"b\",\"expiresIn\":1e12}",
        "{\"accessToken\":\"a\",\"refreshToken\":null,\"expiresIn\":9}",
        "{\"accessToken\":1,\"refreshToken\":\"b\",\"expiresIn\":9}",
        "{\"accessToken\":\"\",\"refreshToken\":\"b\",\"expiresIn\":9}",
        "{\"accessToken\":\"a\\r\\nX: y\",\"refreshToken\":\"b\",\"expiresIn\":9}",
        "{\"AccessToken\":\"a\",\"refreshToken\":\"b\",\"expiresIn\":9}",
        "{\"accessToken\":\"a\",\"refreshToken\":\"b\",\"expiresIn\":9}x",
        "{\"accessToken\":\"a\",\"refreshToken\":\"b\",\"expiresIn\":9}{}",
    };
    static struct easee_token t, before;

    (void)state;
    memset(&t, 0x5a, sizeof t);
    before = t;
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (easee_msg_token(bad[i], strlen(bad[i]), &t) != ERR_PARSE)
            fail_msg("accepted: %s", bad[i]);
        assert_memory_equal(&t, &before, sizeof t);
    }
}

static void test_token_accepts_what_it_may(void **state)
{
    static const char *const good[] = {
        "{\"accessToken\":\"a\",\"refreshToken\":\"b\",\"expiresIn\":86400.0}",
        "\xef\xbb\xbf{\"accessToken\":\"a\",\"refreshToken\":\"b\",\"expiresIn\":86400}",
        ("\r\n{\"more\":{\"expiresIn\":1},\"accessToken\":\"a\",\"refreshToken\":\"b\","
         "\"x\":1,"
         "\"expiresIn\":86400,\"accessToken\":\"later\"}\n"),
    };
    static struct easee_token t;

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        if (easee_msg_token(good[i], strlen(good[i]), &t) != ERR_OK)
            fail_msg("refused: %s", good[i]);
        assert_int_equal(t.expires_in_s, 86400);
        assert_string_equal(t.access, "a");
    }
}

static void test_token_length_is_bounded(void **state)
{
    static char body[3 * EASEE_TOKEN_MAX], token[EASEE_TOKEN_MAX + 1];
    static struct easee_token t;

    (void)state;
    for (size_t len = EASEE_TOKEN_MAX - 1; len <= EASEE_TOKEN_MAX; len++) {
        memset(token, 'x', len);
        token[len] = '\0';
        snprintf(body, sizeof body,
                 "{\"accessToken\":\"%s\",\"refreshToken\":\"%s\",\"expiresIn\":60}",
                 token, token);
        assert_int_equal(easee_msg_token(body, strlen(body), &t),
                         len < EASEE_TOKEN_MAX ? ERR_OK : ERR_PARSE);
    }
    assert_int_equal(strlen(t.refresh), EASEE_TOKEN_MAX - 1);
}

/* ---- problems ---- */

static void test_problems(void **state)
{
    static const char easee[] = "{\"errorCode\":5,\"errorCodeName\":\"X\","
                                "\"title\":\"No access\",\"status\":403,\"detail\":null}";
    static const struct {
        unsigned status;
        enum err err;
        const char *body, *detail;
    } table[] = {
        {400, ERR_CREDENTIALS,
         "{\"errorCode\":100,\"errorCodeName\":\"InvalidUserPassword\",\"type\":null,"
         "\"title\":\"Username or password is invalid\",\"status\":400}",              "Username or password is invalid"},
        {400, ERR_CREDENTIALS,  "{\"errorCode\":100}",                                 "{\"errorCode\":100}"            },
        {400, ERR_CREDENTIALS,  "{\"errorCodeName\":\"InvalidUserPassword\"}",
         "InvalidUserPassword"                                                                                          },
        {400, ERR_BAD_REQUEST,  "{\"errorCode\":\"100\",\"title\":\"t\"}",             "t"                              },
        {400, ERR_BAD_REQUEST,  "{\"errorCode\":101,\"title\":\"t\"}",                 "t"                              },
        {400, ERR_BAD_REQUEST,  "",                                                    ""                               },
        {401, ERR_UNAUTHORISED, "",                                                    ""                               },
        {403, ERR_BLOCKED,      "{\"message\":\"Forbidden\"}",                         "Forbidden"                      },
        {403, ERR_BLOCKED,      "",                                                    ""                               },
        {403, ERR_BLOCKED,      "Please fix your\tbackoff < 5 s\r\n",
         "Please fix your backoff < 5 s"                                                                                },
        {403, ERR_FORBIDDEN,    easee,                                                 "No access"                      },
        {404, ERR_NOT_FOUND,    "{}",                                                  "{}"                             },
        {405, ERR_BAD_REQUEST,  "",                                                    ""                               },
        {408, ERR_TIMEOUT,      "",                                                    ""                               },
        {409, ERR_BAD_REQUEST,  "",                                                    ""                               },
        {429, ERR_THROTTLED,    "",                                                    ""                               },
        {429, ERR_THROTTLED,    "{\"title\":\"Too many requests\"}",                   "Too many requests"              },
        {429, ERR_THROTTLED,    "<p style=\"display:block\">Slow down</p>",            "Slow down"                      },
        {429, ERR_BLOCKED,      "<html><p>Your IP is BLOCKED for 24 hours</p></html>",
         "Your IP is BLOCKED for 24 hours"                                                                              },
        {500, ERR_SERVER,       "{\"title\":\"Caf\xc3\xa9\"}",                         "Caf??"                          },
        {502, ERR_SERVER,       "<html>\n<h1>502  Bad Gateway</h1>",                   "502 Bad Gateway"                },
        {503, ERR_SERVER,       "\x1b[31m",                                            "[31m"                           },
        {504, ERR_UNREACHABLE,  "",                                                    ""                               },
        {301, ERR_REDIRECTED,   "",                                                    ""                               },
        {302, ERR_REDIRECTED,   "",                                                    ""                               },
        {304, ERR_REDIRECTED,   "",                                                    ""                               },
        {307, ERR_REDIRECTED,   "",                                                    ""                               },
        {418, ERR_BAD_REQUEST,  "",                                                    ""                               },
        {599, ERR_SERVER,       "",                                                    ""                               },
        {0,   ERR_PARSE,        "",                                                    ""                               },
        {100, ERR_PARSE,        "",                                                    ""                               },
        {999, ERR_PARSE,        "",                                                    ""                               },
    };
    char detail[64];

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        enum err err = easee_msg_problem(table[i].status, table[i].body,
                                         strlen(table[i].body), detail, sizeof detail);

        if (err != table[i].err || strcmp(detail, table[i].detail) != 0)
            fail_msg("row %zu: %u %s: %s, '%s'", i, table[i].status, table[i].body,
                     err_name(err), detail);
    }
    assert_int_equal(easee_msg_problem(404, "x", 1, NULL, 0), ERR_NOT_FOUND);
}

static void test_detail_is_cut_to_fit(void **state)
{
    char detail[16];

    (void)state;
    for (size_t size = 1; size < sizeof detail; size++) {
        memset(detail, '#', sizeof detail);
        easee_msg_problem(500, "a long story told by a server", 29, detail, size);
        assert_true(strlen(detail) < size);
        assert_int_equal(detail[size], '#');
    }
}

/* ---- discovery ---- */

static void test_find_site(void **state)
{
    const size_t len = strlen(sites_body);
    int64_t id = 7;

    (void)state;
    assert_int_equal(easee_msg_find_site(sites_body, len, "ABCD-1234", &id), ERR_OK);
    assert_int_equal(id, 54321);
    assert_int_equal(easee_msg_find_site(sites_body, len, "efgh-5678", &id), ERR_OK);
    assert_int_equal(id, 54322);
    assert_int_equal(easee_msg_find_site(sites_body, len, "ABCD", &id), ERR_SITE_UNKNOWN);
    assert_int_equal(easee_msg_find_site(sites_body, len, "", &id), ERR_SITE_UNKNOWN);
    assert_int_equal(easee_msg_find_site("{}", 2, "x", &id), ERR_PARSE);
    assert_int_equal(
        easee_msg_find_site("[{\"siteKey\":\"x\",\"id\":1.5}]", 26, "x", &id),
        ERR_SITE_UNKNOWN);
    assert_int_equal(id, 54322);
}

static struct easee_selector selector(int64_t site, int64_t circuit, int64_t panel,
                                      const char *key, const char *charger)
{
    struct easee_selector s = {.site_id = site, .circuit_id = circuit, .panel_id = panel};

    snprintf(s.site_key, sizeof s.site_key, "%s", key);
    snprintf(s.charger, sizeof s.charger, "%s", charger);
    return s;
}

static void test_find_circuit_selects(void **state)
{
    static const struct {
        int64_t site, circuit, panel;
        const char *key, *charger;
        enum err err;
        int64_t found;
    } table[] = {
        {54321, 12345, -1, "",          "",         ERR_OK,              12345},
        {54321, -1,    2,  "",          "",         ERR_OK,              12346},
        {-1,    -1,    1,  "abcd-1234", "",         ERR_OK,              12345},
        {-1,    -1,    -1, "",          "EH200002", ERR_OK,              12346},
        {54321, 12346, 2,  "ABCD-1234", "EH200002", ERR_OK,              12346},
        {-1,    12347, -1, "",          "",         ERR_OK,              12347},
        {54321, -1,    -1, "",          "",         ERR_CIRCUIT_UNKNOWN, 0    },
        {54321, 99,    -1, "",          "",         ERR_CIRCUIT_UNKNOWN, 0    },
        {54321, 12345, 2,  "",          "",         ERR_CIRCUIT_UNKNOWN, 0    },
        {-1,    12345, -1, "",          "EH200002", ERR_CIRCUIT_UNKNOWN, 0    },
        {-1,    -1,    -1, "",          "EH999999", ERR_CIRCUIT_UNKNOWN, 0    },
        {54322, 12345, -1, "",          "",         ERR_SITE_UNKNOWN,    0    },
        {-1,    12345, -1, "EFGH-5678", "",         ERR_SITE_UNKNOWN,    0    },
        {54321, 12345, -1, "EFGH-5678", "",         ERR_SITE_UNKNOWN,    0    },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct easee_selector s =
            selector(table[i].site, table[i].circuit, table[i].panel, table[i].key,
                     table[i].charger);
        struct easee_circuit c = {.circuit_id = 0};
        enum err err = easee_msg_find_circuit(site_body, strlen(site_body), &s, &c);

        if (err != table[i].err || c.circuit_id != table[i].found)
            fail_msg("row %zu: %s, circuit %lld", i, err_name(err),
                     (long long)c.circuit_id);
    }
}

static struct easee_circuit find(const char *body, const struct easee_selector sel)
{
    struct easee_circuit c;

    assert_int_equal(easee_msg_find_circuit(body, strlen(body), &sel, &c), ERR_OK);
    return c;
}

static void test_find_circuit_tells_all(void **state)
{
    struct easee_circuit c = find(site_body, selector(-1, 12345, -1, "", ""));

    (void)state;
    assert_int_equal(c.site_id, 54321);
    assert_int_equal(c.panel_id, 1);
    assert_int_equal(c.rated_da, 320);
    assert_int_equal(c.chargers, 1);
    assert_true(c.alone);
    assert_string_equal(c.site_key, "ABCD-1234");
    assert_string_equal(c.site_name, "Hytta p\xc3\xa5 ? fjellet");
    assert_string_equal(c.serial[0], "EH123456");
    assert_int_equal(c.product[0], 1);

    c = find(site_body, selector(-1, -1, 2, "", ""));
    assert_int_equal(c.rated_da, NA_U16);
    assert_false(c.alone);
    assert_int_equal(c.chargers, 3);
    assert_string_equal(c.serial[0], "EH200001"); /* the master, listed last */
    assert_string_equal(c.serial[1], "EH200002");
    assert_string_equal(c.serial[2], "EH200003");
    assert_int_equal(c.product[0], 2);
    assert_int_equal(c.product[1], NA_U16);
    assert_int_equal(c.product[2], 100);

    c = find(site_body, selector(-1, -1, -1, "", "EH200003"));
    assert_int_equal(c.chargers, 1);
    assert_false(c.alone);
    assert_string_equal(c.serial[0], "EH200003");

    c = find(site_body, selector(-1, 12347, -1, "", ""));
    assert_int_equal(c.chargers, 0);
    assert_false(c.alone);
}

static void test_master_by_name_and_many_chargers(void **state)
{
    char body[2048] =
        "{\"id\":1,\"name\":\"1234567890123456789012345678901234567890123456\xc3\xa5\","
        "\"circuits\":[{\"id\":2,\"masterChargerId\":\"EH11\",\"chargers\":[";
    struct easee_circuit c;

    (void)state;
    for (unsigned i = 0; i < 12; i++)
        sprintf(body + strlen(body), "%s{\"id\":\"EH%u\"}", i == 0 ? "" : ",", i);
    strcat(body, "]}]}");
    c = find(body, selector(1, -1, -1, "ANY", ""));
    assert_int_equal(c.chargers, EASEE_CHARGERS_MAX);
    assert_string_equal(c.serial[0], "EH11");
    assert_string_equal(c.serial[1], "EH0");
    assert_string_equal(c.serial[7], "EH6");
    /* Cut between two characters, not within one. */
    assert_string_equal(c.site_name, "1234567890123456789012345678901234567890123456");
}

static void test_find_circuit_survives_nonsense(void **state)
{
    static const struct {
        enum err err;
        const char *body;
    } table[] = {
        {ERR_PARSE,           ""                                                               },
        {ERR_PARSE,           "[]"                                                             },
        {ERR_PARSE,           "{}"                                                             },
        {ERR_PARSE,           "{\"id\":\"1\"}"                                                 },
        {ERR_PARSE,           "{\"id\":1.5,\"circuits\":[]}"                                   },
        {ERR_PARSE,           "{\"id\":1e17,\"circuits\":[]}"                                  },
        {ERR_PARSE,           "{\"id\":1,\"circuits\":{}}"                                     },
        {ERR_CIRCUIT_UNKNOWN, "{\"id\":1,\"circuits\":null}"                                   },
        {ERR_CIRCUIT_UNKNOWN, "{\"id\":1}"                                                     },
        {ERR_CIRCUIT_UNKNOWN,
         "{\"id\":1,\"circuits\":[null,3,\"x\",[],{},{\"id\":null}]}"                          },
        {ERR_OK,              "{\"id\":1,\"circuits\":[{\"id\":2,\"chargers\":[null,3,[[]]]}]}"},
        {ERR_OK,              "{\"id\":1,\"circuits\":[{\"id\":2,\"chargers\":\"x\"}]}"        },
        {ERR_OK,              "{\"id\":1,\"circuits\":[{\"id\":2,\"ratedCurrent\":1e9}]}"      },
    };
    const struct easee_selector any = selector(-1, -1, -1, "", "");

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct easee_circuit c = {.rated_da = 0};
        enum err err =
            easee_msg_find_circuit(table[i].body, strlen(table[i].body), &any, &c);

        if (err != table[i].err)
            fail_msg("%s: %s", table[i].body, err_name(err));
        if (err == ERR_OK) {
            assert_int_equal(c.chargers, 0);
            assert_int_equal(c.rated_da, NA_U16);
        }
    }
}

/* ---- currents ---- */

/* Two sites as /api/accounts/products lists them; one has nothing in it. */
static const char products_body[] =
    "[{\"id\":1,\"siteKey\":\"AAAA-0001\",\"ratedCurrent\":63.0,\"equalizers\":[{\"id\":"
    "\"QP1\"}],\"circuits\":[{\"id\":11,\"circuitPanelId\":1,\"ratedCurrent\":16.0,"
    "\"chargers\":[{\"id\":\"EH1\"}]},{\"id\":12,\"circuitPanelId\":2,\"chargers\":[]}]},"
    "{\"id\":2,\"siteKey\":\"AAAA-0002\",\"circuits\":[{\"id\":21,\"circuitPanelId\":1,"
    "\"chargers\":[{\"id\":\"EH2\"},{\"id\":\"EH3\"}]}]},"
    "{\"id\":3,\"siteKey\":\"AAAA-0003\",\"circuits\":null}]";

static void test_find_listed(void **state)
{
    static const struct {
        int64_t panel;
        const char *key, *charger;
        enum err err;
        int64_t found;
    } table[] = {
        {1,  "AAAA-0001", "",    ERR_OK,              11},
        {2,  "aaaa-0001", "",    ERR_OK,              12},
        {-1, "AAAA-0002", "",    ERR_OK,              21},
        {-1, "",          "EH3", ERR_OK,              21},
        {-1, "AAAA-0001", "",    ERR_CIRCUIT_UNKNOWN, 0 },
        {1,  "",          "",    ERR_CIRCUIT_UNKNOWN, 0 }, /* at two sites */
        {-1, "AAAA-0003", "",    ERR_CIRCUIT_UNKNOWN, 0 },
        {-1, "AAAA-0004", "",    ERR_SITE_UNKNOWN,    0 },
        {-1, "AAAA-0001", "EH3", ERR_CIRCUIT_UNKNOWN, 0 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct easee_selector sel = {
            .site_id = -1, .circuit_id = -1, .panel_id = table[i].panel};
        struct easee_circuit c = {0};

        print_message("row %zu\n", i);
        strcpy(sel.site_key, table[i].key);
        strcpy(sel.charger, table[i].charger);
        assert_int_equal(
            easee_msg_find_listed(products_body, strlen(products_body), &sel, &c),
            table[i].err);
        assert_int_equal(c.circuit_id, table[i].found);
    }
    assert_int_equal(easee_msg_find_listed("{}", 2, &(struct easee_selector){0},
                                           &(struct easee_circuit){0}),
                     ERR_PARSE);
    assert_int_equal(easee_msg_find_listed("[]", 2, &(struct easee_selector){0},
                                           &(struct easee_circuit){0}),
                     ERR_SITE_UNKNOWN);
}

static void test_all_circuits(void **state)
{
    struct easee_circuit c[8];
    size_t count = 99;

    (void)state;
    assert_int_equal(
        easee_msg_circuits(products_body, strlen(products_body), c, 8, &count), ERR_OK);
    assert_int_equal(count, 3);
    assert_int_equal(c[0].circuit_id, 11);
    assert_int_equal(c[0].site_rated_da, 630);
    assert_int_equal(c[0].rated_da, 160);
    assert_true(c[0].equalizer && c[0].alone);
    assert_true(c[1].equalizer && !c[1].alone && c[1].chargers == 0);
    assert_int_equal(c[2].site_id, 2);
    assert_int_equal(c[2].chargers, 2);
    assert_int_equal(c[2].site_rated_da, NA_U16);
    assert_false(c[2].equalizer || c[2].alone);
    assert_int_equal(
        easee_msg_circuits(products_body, strlen(products_body), c, 2, &count), ERR_OK);
    assert_int_equal(count, 2);
    assert_int_equal(easee_msg_circuits(site_body, strlen(site_body), c, 8, &count),
                     ERR_OK);
    assert_int_equal(count, 3);
    assert_int_equal(easee_msg_circuits("[]", 2, c, 8, &count), ERR_OK);
    assert_int_equal(count, 0);
    count = 99;
    assert_int_equal(easee_msg_circuits("[{}]", 4, c, 8, &count), ERR_PARSE);
    assert_int_equal(easee_msg_circuits("{\"message\":\"no\"}", 16, c, 8, &count),
                     ERR_PARSE);
    assert_int_equal(count, 99);
}

static void test_circuit_settings(void **state)
{
    static const char equalizer[] =
        "{\"dynamicCircuitCurrentP1\":0,\"equalizerId\":\"QP123456\"}";
    struct easee_settings s;

    (void)state;
    assert_int_equal(easee_msg_circuit_settings(settings_body, strlen(settings_body), &s),
                     ERR_OK);
    assert_int_equal(s.current_da[EASEE_DYNAMIC][0], 160);
    assert_int_equal(s.current_da[EASEE_DYNAMIC][1], NA_U16);
    assert_int_equal(s.current_da[EASEE_DYNAMIC][2], 10000);
    assert_int_equal(s.current_da[EASEE_MAX][0], 200);
    assert_int_equal(s.current_da[EASEE_OFFLINE][0], 80);
    assert_int_equal(s.current_da[EASEE_OFFLINE][2], NA_U16);
    assert_false(s.equalizer);
    assert_int_equal(easee_msg_circuit_settings(equalizer, strlen(equalizer), &s),
                     ERR_OK);
    assert_true(s.equalizer);
    assert_int_equal(easee_msg_circuit_settings("[]", 2, &s), ERR_PARSE);
    assert_int_equal(easee_msg_circuit_settings("{}", 2, &s), ERR_PARSE);
    assert_true(s.equalizer); /* untouched */
}

static void test_currents(void **state)
{
    static const struct {
        enum err err;
        uint16_t da[PHASES];
        const char *body;
    } table[] = {
        {ERR_OK,    {160, NA_U16, 10000}, settings_body                                    },
        {ERR_OK,    {160, 160, 0},        "{\"phase1\":16.0,\"phase2\":15.96,\"phase3\":0}"},
        {ERR_OK,    {60, NA_U16, NA_U16}, "{\"phase1\":6,\"phase2\":null}"                 },
        {ERR_OK,
         {NA_U16, NA_U16, 65534},
         "{\"phase1\":null,\"phase2\":null,\"phase3\":6553.4}"                             },
        {ERR_PARSE, {0},                  "{\"phase1\":6553.5,\"phase2\":1,\"phase3\":1}"  },
        {ERR_PARSE, {0},                  "{\"phase1\":-1,\"phase2\":1,\"phase3\":1}"      },
        {ERR_PARSE, {0},                  "{\"phase1\":\"16\",\"phase2\":1,\"phase3\":1}"  },
        {ERR_PARSE, {0},                  "{\"phase1\":1,\"phase2\":1,\"phase3\":true}"    },
        {ERR_PARSE, {0},                  "{\"phase1\":1e999,\"phase2\":1,\"phase3\":1}"   },
        {ERR_PARSE, {0},                  "{\"Phase1\":1,\"Phase2\":1,\"Phase3\":1}"       },
        {ERR_PARSE, {0},                  "{\"message\":\"Forbidden\"}"                    },
        {ERR_PARSE, {0},                  "[]"                                             },
        {ERR_PARSE, {0},                  ""                                               },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        uint16_t da[PHASES] = {0};
        enum err err = easee_msg_currents(table[i].body, strlen(table[i].body), da);

        if (err != table[i].err || memcmp(da, table[i].da, sizeof da) != 0)
            fail_msg("%s: %s, %u %u %u", table[i].body, err_name(err), da[0], da[1],
                     da[2]);
    }
}

/* ---- commands ---- */

static void test_commands(void **state)
{
    const size_t len = strlen(commands_body);
    struct easee_command c[4];
    size_t count;

    (void)state;
    assert_int_equal(easee_msg_commands(commands_body, len, c, 4, &count), ERR_OK);
    assert_int_equal(count, 3);
    assert_string_equal(c[0].device, "EH123456");
    assert_int_equal(c[0].command_id, 48);
    assert_true(c[0].ticks == INT64_C(638605514168533970));
    assert_string_equal(c[1].device, "");
    assert_true(c[1].ticks == INT64_MAX);
    assert_true(c[2].ticks == 0);
    assert_int_equal(easee_msg_commands(commands_body, len, c, 2, &count), ERR_OK);
    assert_int_equal(count, 2);
}

/* A thousand in a row: a double would hit one in 128. */
static void test_ticks_are_exact(void **state)
{
    char body[128];

    (void)state;
    for (int64_t i = 0; i < 1000; i++) {
        const int64_t ticks = INT64_C(638605514168533970) + i;
        struct easee_command c;
        size_t count;

        sprintf(body, "\xef\xbb\xbf{\"device\":\"EH1\",\"commandId\":22,\"ticks\":%lld}",
                (long long)ticks);
        assert_int_equal(easee_msg_commands(body, strlen(body), &c, 1, &count), ERR_OK);
        assert_true(c.ticks == ticks);
    }
}

static void test_commands_accepts_and_refuses(void **state)
{
    static const struct {
        enum err err;
        size_t count;
        const char *body;
    } table[] = {
        {ERR_OK,    0, ""                                                       },
        {ERR_OK,    0, " \r\n"                                                  },
        {ERR_OK,    0, "[]"                                                     },
        {ERR_OK,    0, "null"                                                   },
        {ERR_OK,    1, "{\"commandId\":48,\"ticks\":null}"                      },
        {ERR_OK,    1, "{\"commandId\":48,\"ticks\":0}"                         },
        {ERR_OK,    1, "[{\"commandId\":48.0}]"                                 },
        {ERR_PARSE, 9, "{}"                                                     },
        {ERR_PARSE, 9, "{\"ok\":true}"                                          },
        {ERR_PARSE, 9, "[1]"                                                    },
        {ERR_PARSE, 9, "[{\"commandId\":48},null]"                              },
        {ERR_PARSE, 9, "true"                                                   },
        {ERR_PARSE, 9, "\"queued\""                                             },
        {ERR_PARSE, 9, "{\"commandId\":\"48\"}"                                 },
        {ERR_PARSE, 9, "{\"commandId\":4294967344}"                             },
        {ERR_PARSE, 9, "{\"commandId\":48,\"ticks\":\"1\"}"                     },
        {ERR_PARSE, 9, "{\"commandId\":48,\"ticks\":-1}"                        },
        {ERR_PARSE, 9, "{\"commandId\":48,\"ticks\":1.5}"                       },
        {ERR_PARSE, 9, "{\"commandId\":48,\"ticks\":6e17}"                      },
        {ERR_PARSE, 9, "{\"commandId\":48,\"ticks\":9223372036854775808}"       },
        {ERR_PARSE, 9, "{\"commandId\":48,\"ticks\":99999999999999999999999999}"},
        {ERR_PARSE, 9, "[{\"commandId\":48}] []"                                },
        {ERR_PARSE, 9, "<html></html>"                                          },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct easee_command c[2], before[2];
        size_t count = 9;
        enum err err;

        memset(c, 0x5a, sizeof c);
        memcpy(before, c, sizeof c);
        err = easee_msg_commands(table[i].body, strlen(table[i].body), c, 2, &count);
        if (err != table[i].err || count != table[i].count)
            fail_msg("'%s': %s, %zu", table[i].body, err_name(err), count);
        if (err != ERR_OK)
            assert_memory_equal(c, before, sizeof c);
    }
}

/* ---- observations ---- */

static void test_observations(void **state)
{
    const size_t len = strlen(observations_body);
    struct observation o[8];
    size_t count;

    (void)state;
    assert_int_equal(easee_msg_observations(observations_body, len, o, 8, &count),
                     ERR_OK);
    assert_int_equal(count, 7);
    assert_int_equal(o[0].id, 109);
    assert_true(o[0].is_number && o[0].number == 3);
    assert_true(o[0].at_unix_ms == INT64_C(1767614282000));
    assert_string_equal(o[0].text, "");
    assert_true(o[1].number == 16.5);
    assert_true(o[1].at_unix_ms == INT64_C(1767614260250));
    assert_true(o[2].is_number && o[2].number == 6.92);
    assert_string_equal(o[2].text, "6.92");
    assert_true(o[3].is_number && o[3].number == 1);
    assert_false(o[4].is_number);
    assert_string_equal(o[4].text, "C");
    assert_false(o[5].is_number);
    assert_true(o[5].at_unix_ms == 0);
    assert_true(o[6].is_number && o[6].number == 1);
    assert_true(o[6].at_unix_ms == 0);
    assert_int_equal(easee_msg_observations(observations_body, len, o, 3, &count),
                     ERR_OK);
    assert_int_equal(count, 3);
}

static void test_observations_leave_nonsense_out(void **state)
{
    static const char body[] =
        "{\"observations\":[null,1,\"x\",[],{},{\"id\":5},{\"id\":0,\"value\":1},"
        "{\"id\":65536,\"value\":1},{\"id\":\"5\",\"value\":1},{\"id\":1.5,\"value\":1},"
        "{\"id\":5,\"value\":1e999},{\"id\":5,\"value\":{}},{\"id\":5,\"value\":[1]},"
        "{\"id\":6,\"value\":\"1e999\"},{\"id\":7,\"value\":\"0x10\"},"
        "{\"id\":8,\"value\":\"12abc\"},{\"id\":9,\"value\":\"\"},"
        "{\"id\":10,\"value\":\"nan\"},{\"id\":11,\"value\":\"-12.5\"},"
        "{\"id\":12,\"value\":"
        "\"x123456789012345678901234567890123456789012345678901234567890"
        "12\\u00e5\"},{\"id\":13,\"value\":\"a\\tb\"}]}";
    struct observation o[16];
    size_t count;

    (void)state;
    assert_int_equal(easee_msg_observations(body, strlen(body), o, 16, &count), ERR_OK);
    assert_int_equal(count, 7);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(o[i].id, 7 + i);
        assert_false(o[i].is_number);
    }
    assert_true(o[4].is_number && o[4].number == -12.5);
    assert_int_equal(strlen(o[5].text), OBSERVATION_TEXT_MAX - 1);
    assert_string_equal(o[6].text, "a?b");
}

static void test_observations_refuse_other_texts(void **state)
{
    static const char *const bad[] = {"",
                                      "[]",
                                      "{}",
                                      "{\"observations\":{}}",
                                      "{\"observations\":3}",
                                      "{\"Observations\":[]}",
                                      "{\"observations\":[]}}",
                                      "<html>",
                                      "{\"title\":\"Not Found\",\"status\":404}"};
    static const char none[] = "{\"observations\":null}";
    struct observation o[1];
    size_t count = 9;

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        if (easee_msg_observations(bad[i], strlen(bad[i]), o, 1, &count) != ERR_PARSE)
            fail_msg("accepted: %s", bad[i]);
    assert_int_equal(count, 9);
    assert_int_equal(easee_msg_observations(none, strlen(none), o, 1, &count), ERR_OK);
    assert_int_equal(count, 0);
}

/* ---- any text ---- */

static bool all_refuse(const char *body, size_t len)
{
    static struct easee_token t;
    const struct easee_selector any = selector(-1, -1, -1, "", "");
    struct easee_circuit circuit;
    struct easee_command c[4];
    struct observation o[8];
    uint16_t da[PHASES];
    size_t count;
    int64_t id;

    return easee_msg_token(body, len, &t) == ERR_PARSE &&
           easee_msg_find_site(body, len, "ABCD-1234", &id) == ERR_PARSE &&
           easee_msg_find_circuit(body, len, &any, &circuit) == ERR_PARSE &&
           easee_msg_currents(body, len, da) == ERR_PARSE &&
           (len == 0 || easee_msg_commands(body, len, c, 4, &count) == ERR_PARSE) &&
           easee_msg_observations(body, len, o, 8, &count) == ERR_PARSE;
}

/* No part of an answer is taken for the whole, and nothing behind its end is read: the
 * buffer is exactly as long as is told. */
static void test_every_truncation_is_refused(void **state)
{
    static const char *const bodies[] = {token_body,    sites_body,    site_body,
                                         settings_body, commands_body, observations_body};

    (void)state;
    for (size_t i = 0; i < COUNT(bodies); i++) {
        for (size_t len = 0; len < strlen(bodies[i]); len++) {
            char *cut = malloc(len + 1);

            assert_non_null(cut);
            memcpy(cut, bodies[i], len);
            cut[len] = '\0';
            if (!all_refuse(cut, len))
                fail_msg("accepted: %s", cut);
            free(cut);
        }
    }
}

static void test_hostile_texts(void **state)
{
    static char body[EASEE_BODY_MAX + 2];
    static const char nul[] = "{\"phase1\":1\0,\"phase2\":2,\"phase3\":3}";
    uint16_t da[PHASES];

    (void)state;
    memset(body, '[', EASEE_BODY_MAX);
    assert_true(all_refuse(body, EASEE_BODY_MAX));
    for (size_t i = 0; i < EASEE_BODY_MAX; i++)
        body[i] = "{\"\":"[i % 4];
    assert_true(all_refuse(body, EASEE_BODY_MAX));
    memset(body, ' ', EASEE_BODY_MAX + 1);
    memcpy(body, "{\"phase1\":1}", 12);
    body[EASEE_BODY_MAX] = '\0';
    assert_int_equal(easee_msg_currents(body, EASEE_BODY_MAX, da), ERR_OK);
    body[EASEE_BODY_MAX] = ' ';
    assert_int_equal(easee_msg_currents(body, EASEE_BODY_MAX + 1, da), ERR_PARSE);
    assert_true(all_refuse(nul, sizeof nul - 1));
}

/* ---- time and names ---- */

static void test_time(void **state)
{
    static const struct {
        const char *text;
        int64_t unix_ms; /* negative: refused */
    } table[] = {
        {"1970-01-01T00:00:00Z",         0                       },
        {"2024-08-29T18:03:36.853397Z",  INT64_C(1724954616853)  },
        {"2026-01-05T11:58:02Z",         INT64_C(1767614282000)  },
        {"2026-01-05T11:58:02",          INT64_C(1767614282000)  },
        {"2026-01-05T11:58:02.1",        INT64_C(1767614282100)  },
        {"2026-01-05T12:58:02+01:00",    INT64_C(1767614282000)  },
        {"2026-01-05T06:28:02.5-05:30",  INT64_C(1767614282500)  },
        {"2024-02-29T00:00:00Z",         INT64_C(1709164800000)  },
        {"2100-03-01T00:00:00Z",         INT64_C(4107542400000)  },
        {"9999-12-31T23:59:59.9999999Z", INT64_C(253402300799999)},
        {"2023-02-29T00:00:00Z",         -1                      },
        {"2100-02-29T00:00:00Z",         -1                      },
        {"2026-04-31T00:00:00Z",         -1                      },
        {"2026-13-01T00:00:00Z",         -1                      },
        {"2026-00-01T00:00:00Z",         -1                      },
        {"2026-01-00T00:00:00Z",         -1                      },
        {"2026-01-05T24:00:00Z",         -1                      },
        {"2026-01-05T23:60:00Z",         -1                      },
        {"2026-01-05T23:00:61Z",         -1                      },
        {"0001-01-01T00:00:00",          -1                      },
        {"2026-01-05 11:58:02Z",         -1                      },
        {"2026-01-05T11:58:02ZZ",        -1                      },
        {"2026-01-05T11:58:02+0100",     -1                      },
        {"2026-01-05T11:58:02+15:00",    -1                      },
        {"2026-01-05T11:58",             -1                      },
        {"2026-01-05",                   -1                      },
        {"+026-01-05T11:58:02Z",         -1                      },
        {"x",                            -1                      },
        {"",                             -1                      },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        int64_t ms = -1;

        if (easee_msg_time(table[i].text, &ms) != (table[i].unix_ms >= 0) ||
            ms != table[i].unix_ms)
            fail_msg("%s: %lld", table[i].text, (long long)ms);
    }
}

static void test_products(void **state)
{
    (void)state;
    assert_string_equal(easee_msg_product(1), "Easee Home");
    assert_string_equal(easee_msg_product(400), "Easee Charge One");
    assert_string_equal(easee_msg_product(NA_U16), "Easee");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_are_exact),
        cmocka_unit_test(test_knobs_are_exact),
        cmocka_unit_test(test_any_byte_may_be_in_a_password),
        cmocka_unit_test(test_requests_keep_within_the_buffer),
        cmocka_unit_test(test_token),
        cmocka_unit_test(test_token_refuses_nonsense),
        cmocka_unit_test(test_token_accepts_what_it_may),
        cmocka_unit_test(test_token_length_is_bounded),
        cmocka_unit_test(test_problems),
        cmocka_unit_test(test_detail_is_cut_to_fit),
        cmocka_unit_test(test_find_site),
        cmocka_unit_test(test_find_circuit_selects),
        cmocka_unit_test(test_find_circuit_tells_all),
        cmocka_unit_test(test_master_by_name_and_many_chargers),
        cmocka_unit_test(test_find_circuit_survives_nonsense),
        cmocka_unit_test(test_find_listed),
        cmocka_unit_test(test_all_circuits),
        cmocka_unit_test(test_circuit_settings),
        cmocka_unit_test(test_currents),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_ticks_are_exact),
        cmocka_unit_test(test_commands_accepts_and_refuses),
        cmocka_unit_test(test_observations),
        cmocka_unit_test(test_observations_leave_nonsense_out),
        cmocka_unit_test(test_observations_refuse_other_texts),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_hostile_texts),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_products),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
