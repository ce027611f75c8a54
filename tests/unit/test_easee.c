/* SPDX-License-Identifier: MIT */
#include "evecc/easee.h"

#include "evecc/easee_msg.h"

#include "web.h"
#include "web_tls.h"

#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* Long enough to never end by itself on a busy machine, short enough to be a test. */
enum { PATIENCE_S = 20 };

static char scratch[] = "/tmp/test_easee.XXXXXX"; /* our own folder */

static const char *file(const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", scratch, name);
    return path;
}

/* ---- the client ---- */

static struct easee *client_of(const char *url, const char *ca_file, uint32_t timeout_ms)
{
    struct easee_options opt = {.api_url = url,
                                .ca_file = ca_file,
                                .timeout_ms = timeout_ms,
                                .connect_timeout_ms = timeout_ms};
    struct easee *e;

    assert_int_equal(easee_new(&e, &opt), ERR_OK);
    return e;
}

static struct easee *client(const struct web *w)
{
    char url[64];

    snprintf(url, sizeof url, "http://127.0.0.1:%u", w->port);
    return client_of(url, NULL, PATIENCE_S * 1000);
}

static void start(struct easee *e, uint64_t tag, const char *path, const char *body,
                  bool once)
{
    const struct easee_call call = {.tag = tag, .path = path, .body = body, .once = once};

    assert_int_equal(easee_start(e, &call), ERR_OK);
}

/* The next reply; fails when none comes. */
static struct easee_reply next(struct easee *e)
{
    struct easee_reply r;
    time_t until = time(NULL) + 2 * PATIENCE_S;

    while (!easee_take(e, &r)) {
        if (time(NULL) > until)
            fail_msg("no reply");
        easee_run(e, 1000);
    }
    return r;
}

static struct easee_reply get(struct easee *e, const char *path)
{
    start(e, 1, path, NULL, false);
    return next(e);
}

/* ---- handlers ---- */

/* Answers every request with its own number. */
static void serve_ok(struct web_link *l)
{
    while (web_read(l)) {
        char answer[128];

        snprintf(answer, sizeof answer,
                 "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nlink %5u", l->number);
        if (!web_say(l, answer))
            return;
    }
}

/* Answers every request with what it is told, then closes. */
static void serve_told(struct web_link *l)
{
    if (web_read(l))
        web_say(l, l->web->told);
}

static void serve_silence(struct web_link *l)
{
    if (web_read(l))
        web_wait_open(l);
}

/* One answer per connection; a second request is taken and the connection dropped. */
static void serve_once(struct web_link *l)
{
    if (web_read(l) && web_say(l, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
        web_read(l);
}

static void serve_nothing(struct web_link *l)
{
    web_read(l);
}

/* Hangs on one path until the gate opens. */
static void serve_gate(struct web_link *l)
{
    while (web_read(l)) {
        if (strstr(l->request, " /hang ") != NULL)
            web_wait_open(l);
        if (!web_say(l, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
            return;
    }
}

/* TOLD: a beginning and what follows it for ever. */
static void serve_endless(struct web_link *l)
{
    const char *const *told = l->web->told;

    if (web_read(l) && web_say(l, told[0]))
        while (web_say(l, told[1]))
            continue;
}

/* One byte at a time, as slow as the client is patient. */
static void serve_drip(struct web_link *l)
{
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};

    if (!web_read(l) || !web_say(l, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"))
        return;
    while (web_say(l, "x"))
        nanosleep(&pause, NULL);
}

/* ---- what is sent ---- */

static void test_requests(void **state)
{
    struct web *w = web_start(serve_ok, NULL, NULL);
    struct easee *e = client(w);
    const struct easee_call post = {
        .tag = 7, .path = "/api/x?y=1,2", .body = "{\"a\":1}", .authorised = true};
    const struct easee_call secret = {.path = "/api/y", .authorised = true};
    struct easee_reply r;

    (void)state;
    assert_int_equal(easee_start(e, &post), ERR_UNAUTHORISED);
    easee_set_token(e, "first.token");
    assert_int_equal(easee_start(e, &post), ERR_OK);
    r = next(e);
    assert_int_equal(r.tag, 7);
    assert_int_equal(r.err, ERR_OK);
    assert_int_equal(r.http_status, 200);
    assert_int_equal(r.transmissions, 1);
    assert_int_equal(r.retry_after_s, -1);
    assert_int_equal(r.date_unix_ms, 0);
    assert_int_equal(r.len, 10);
    assert_string_equal(r.body, "link     1");
    assert_non_null(strstr(web_last(w), "POST /api/x?y=1,2 HTTP/1.1\r\n"));
    assert_non_null(strstr(web_last(w), "\r\nAuthorization: Bearer first.token\r\n"));
    assert_non_null(strstr(web_last(w), "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(web_last(w), "\r\nAccept: application/json\r\n"));
    assert_non_null(strstr(web_last(w), "\r\nUser-Agent: evecc/"));
    assert_non_null(strstr(web_last(w), "\r\n\r\n{\"a\":1}"));
    assert_null(strcasestr(web_last(w), "Expect"));
    assert_null(strcasestr(web_last(w), "Accept-Encoding"));
    assert_null(strcasestr(web_last(w), "Cookie"));

    /* The same slot again: nothing of the POST is left, and the token is the new one. */
    easee_set_token(e, "second.token");
    assert_int_equal(easee_start(e, &secret), ERR_OK);
    next(e);
    assert_non_null(strstr(web_last(w), "GET /api/y HTTP/1.1\r\n"));
    assert_non_null(strstr(web_last(w), "Bearer second.token\r\n"));
    assert_null(strstr(web_last(w), "Content-"));
    get(e, "/open");
    assert_null(strstr(web_last(w), "Authorization"));
    easee_set_token(e, NULL);
    assert_int_equal(easee_start(e, &secret), ERR_UNAUTHORISED);
    assert_int_equal(web_count(w, &w->links), 1);
    easee_free(e);
    web_stop(w);
}

static void test_longest_request(void **state)
{
    static char token[EASEE_TOKEN_MAX], body[3 * EASEE_TOKEN_MAX];
    struct web *w = web_start(serve_ok, NULL, NULL);
    struct easee *e = client(w);
    struct easee_call call = {.path = "/", .body = body, .authorised = true};

    (void)state;
    memset(token, 't', sizeof token - 1);
    assert_true(easee_msg_refresh(body, sizeof body, token, token) > 0);
    easee_set_token(e, token);
    assert_int_equal(easee_start(e, &call), ERR_OK);
    assert_int_equal(next(e).err, ERR_OK);
    assert_non_null(strstr(web_last(w), body));
    assert_non_null(strstr(web_last(w), token));
    easee_free(e);
    web_stop(w);
}

static void test_urls(void **state)
{
    static const struct {
        const char *url;
        enum err err;
    } table[] = {
        {"https://api.easee.com",           ERR_OK    },
        {"https://api.easee.com/",          ERR_OK    },
        {"HTTPS://192.0.2.1:8443/base",     ERR_OK    },
        {"http://127.0.0.1:8787",           ERR_OK    },
        {"http://127.9.9.9",                ERR_OK    },
        {"http://[::1]:8787",               ERR_OK    },
        {"http://localhost:8787",           ERR_OK    },
        {"http://api.easee.com",            ERR_CONFIG},
        {"http://128.0.0.1",                ERR_CONFIG},
        {"http://[::2]",                    ERR_CONFIG},
        {"http://127.0.0.1.example.org",    ERR_CONFIG},
        {"http://localhost.example.org",    ERR_CONFIG},
        {"http://127.0.0.1@example.org",    ERR_CONFIG},
        {"https://user:secret@example.org", ERR_CONFIG},
        {"https://example.org/?q",          ERR_CONFIG},
        {"https://example.org/#f",          ERR_CONFIG},
        {"ftp://127.0.0.1",                 ERR_CONFIG},
        {"file:///etc/passwd",              ERR_CONFIG},
        {"api.easee.com",                   ERR_CONFIG},
        {"https://",                        ERR_CONFIG},
        {"",                                ERR_CONFIG},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        const struct easee_options opt = {.api_url = table[i].url};
        struct easee *e = NULL;

        if (easee_new(&e, &opt) != table[i].err)
            fail_msg("%s", table[i].url);
        easee_free(e);
    }
}

static void test_paths(void **state)
{
    static const char *const bad[] = {"", "x", "/a b", "/a\r\nX: y", "/a#b", "/\xc3\xa5"};
    char longest[EASEE_PATH_MAX + 1];
    struct web *w = web_start(serve_ok, NULL, NULL);
    struct easee *e = client(w);
    struct easee_call call = {.path = longest};

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        const struct easee_call wrong = {.path = bad[i]};

        if (easee_start(e, &wrong) != ERR_CONFIG)
            fail_msg("accepted: %s", bad[i]);
    }
    memset(longest, '/', sizeof longest);
    longest[EASEE_PATH_MAX] = '\0';
    assert_int_equal(easee_start(e, &call), ERR_CONFIG);
    longest[EASEE_PATH_MAX - 1] = '\0';
    assert_int_equal(easee_start(e, &call), ERR_OK);
    assert_int_equal(next(e).err, ERR_OK);
    easee_free(e);
    web_stop(w);
}

/* ---- what comes back ---- */

static void test_answers(void **state)
{
    static const struct {
        const char *answer;
        enum err err;
        uint16_t status;
        const char *body;
    } table[] = {
        {"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n[]",                       ERR_OK,         202, "[]"           },
        {"HTTP/1.1 204 No Content\r\n\r\n",                                            ERR_OK,         204, ""             },
        {"HTTP/1.1 200 OK\r\n\r\nuntil the end",                                       ERR_OK,         200, "until the end"},
        {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",                     ERR_OK,         401, ""             },
        {"HTTP/1.1 503 x\r\nContent-Length: 4\r\n\r\nlate",                            ERR_OK,         503, "late"         },
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1",
         ERR_OK,                                                                                       200, "1"            },
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
         ERR_OK,                                                                                       200, "{}"           },
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: "
         "b\r\n\r\n",                                                         ERR_OK,         200, "{}"           },
        {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
         ERR_OK,                                                                                       200, "abc"          },
        {"HTTP/1.1 304 Not Modified\r\n\r\n",                                          ERR_REDIRECTED, 304, ""             },
        {"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: "
         "1\r\n\r\nx",                                                        ERR_REDIRECTED, 302, ""             },
        {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":",                      ERR_BROKEN,     200, ""             },
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{",               ERR_BROKEN,     200,
         ""                                                                                                                },
        {"HTTP/1.1 200 OK\r\nContent-Len",                                             ERR_BROKEN,     0,   NULL           },
        {"HTTP/1.1 200 OK\r\nContent-Length: 262145\r\n\r\n",                          ERR_TOO_LARGE,  200, ""             },
        {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",                     ERR_TOO_LARGE,  200,
         ""                                                                                                                },
        {"<html>no HTTP at all</html>\r\n",                                            ERR_PARSE,      0,   NULL           },
        {"",                                                                           ERR_BROKEN,     0,   ""             },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct web *w = web_start(serve_told, table[i].answer, NULL);
        struct easee *e = client(w);
        struct easee_reply r = get(e, "/");

        if (r.err != table[i].err ||
            (table[i].body != NULL &&
             (r.http_status != table[i].status || strcmp(r.body, table[i].body) != 0)))
            fail_msg("row %zu: %s, %u, '%s' (%s)", i, err_name(r.err), r.http_status,
                     r.body, r.detail);
        assert_int_equal(strlen(r.body), r.len);
        assert_int_equal(r.detail[0] == '\0', r.err == ERR_OK);
        assert_int_equal(r.transmissions, 1);
        easee_free(e);
        web_stop(w);
    }
}

static void test_redirects_are_not_followed(void **state)
{
    struct web *other = web_start(serve_ok, NULL, NULL);
    char answer[128];
    struct web *w = web_start(serve_told, answer, NULL);
    struct easee *e;

    (void)state;
    snprintf(
        answer, sizeof answer,
        "HTTP/1.1 307 x\r\nLocation: http://127.0.0.1:%u/\r\nContent-Length: 0\r\n\r\n",
        other->port);
    e = client(w);
    start(e, 1, "/", "{\"password\":\"x\"}", false);
    assert_int_equal(next(e).err, ERR_REDIRECTED);
    assert_int_equal(web_count(other, &other->links), 0);
    easee_free(e);
    web_stop(w);
    web_stop(other);
}

static void test_headers_for_waiting(void **state)
{
    static const struct {
        const char *headers;
        int64_t retry_after_s, date_unix_ms;
    } table[] = {
        {"",                                                        -1,        0                     },
        {"Retry-After: 7\r\n",                                      7,         0                     },
        {"retry-after:\t0 \r\n",                                    0,         0                     },
        {"RETRY-AFTER: 99999999999999999999\r\n",                   INT32_MAX, 0                     },
        {"Retry-After: -1\r\n",                                     -1,        0                     },
        {"Retry-After: soon\r\n",                                   -1,        0                     },
        {"Retry-After: 7 or so\r\n",                                -1,        0                     },
        {"Retry-After:\r\n",                                        -1,        0                     },
        {"Date: Mon, 05 Jan 2026 11:58:02 GMT\r\n",                 -1,        INT64_C(1767614282000)},
        {"Date: yesterday\r\n",                                     -1,        0                     },
 /* A date counts from the cloud's clock; without one it says nothing. */
        {"Date: Mon, 05 Jan 2026 11:58:02 GMT\r\n"
         "Retry-After: Mon, 05 Jan 2026 12:00:02 GMT\r\n", 120,       INT64_C(1767614282000)},
        {"Date: Mon, 05 Jan 2026 11:58:02 GMT\r\n"
         "Retry-After: Mon, 05 Jan 2026 11:00:02 GMT\r\n", 0,         INT64_C(1767614282000)},
        {"Retry-After: Mon, 05 Jan 2026 12:00:02 GMT\r\n",          -1,        0                     },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        char answer[256];
        struct web *w = web_start(serve_told, answer, NULL);
        struct easee *e = client(w);
        struct easee_reply r;

        snprintf(answer, sizeof answer, "HTTP/1.1 429 x\r\n%sContent-Length: 0\r\n\r\n",
                 table[i].headers);
        r = get(e, "/");
        if (r.http_status != 429 || r.retry_after_s != table[i].retry_after_s ||
            r.date_unix_ms != table[i].date_unix_ms)
            fail_msg("row %zu: %lld, %lld", i, (long long)r.retry_after_s,
                     (long long)r.date_unix_ms);
        easee_free(e);
        web_stop(w);
    }
}

static void serve_size(struct web_link *l)
{
    size_t len = *(const size_t *)l->web->told;
    char *body = calloc(1, len + 64);

    if (body == NULL || !web_read(l))
        abort();
    memset(body + sprintf(body, "HTTP/1.1 200 OK\r\n\r\n"), 'x', len);
    web_send(l, body, 19 + len);
    free(body);
}

static void test_largest_body(void **state)
{
    (void)state;
    for (size_t len = EASEE_BODY_MAX - 1; len <= EASEE_BODY_MAX + 1; len++) {
        struct web *w = web_start(serve_size, &len, NULL);
        struct easee *e = client(w);
        struct easee_reply r = get(e, "/");

        assert_int_equal(r.err, len <= EASEE_BODY_MAX ? ERR_OK : ERR_TOO_LARGE);
        assert_int_equal(r.len, len <= EASEE_BODY_MAX ? len : 0);
        easee_free(e);
        web_stop(w);
    }
}

static void test_endless_answers(void **state)
{
    static const char *const table[][2] = {
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
         "40\r\n0123456789012345678901234567890123456789012345678901234567890123\r\n"            },
        {"HTTP/1.1 200 OK\r\n\r\n",
         "0123456789012345678901234567890123456789012345678901234567890123456789"                },
        {"HTTP/1.1 200 OK\r\n",
         "X-Filler: "
         "0123456789012345678901234567890123456789012345678901234567890123\r\n"                  },
        {"HTTP/1.1 100 Continue\r\n\r\n",                         "HTTP/1.1 100 Continue\r\n\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct web *w = web_start(serve_endless, table[i], NULL);
        struct easee *e = client(w);
        struct easee_reply r = get(e, "/");

        if (r.err != ERR_TOO_LARGE)
            fail_msg("row %zu: %s (%s)", i, err_name(r.err), r.detail);
        easee_free(e);
        web_stop(w);
    }
}

/* ---- connections ---- */

static void test_connections_are_kept(void **state)
{
    struct web *w = web_start(serve_ok, NULL, NULL);
    struct easee *e = client(w);

    (void)state;
    start(e, 1, "/", "{}", true); /* its own, which nobody uses after it */
    assert_string_equal(next(e).body, "link     1");
    for (unsigned i = 0; i < 5; i++)
        assert_string_equal(get(e, "/").body, "link     2");
    start(e, 1, "/", "{}", true); /* nor does it use one that is there */
    assert_string_equal(next(e).body, "link     3");
    assert_string_equal(get(e, "/").body, "link     2");
    easee_free(e);
    web_stop(w);
}

/* The first connection is told to wait, the others are dropped. */
static void serve_wait_once(struct web_link *l)
{
    if (web_read(l) && l->number == 1)
        web_say(l, "HTTP/1.1 429 x\r\nRetry-After: 7\r\n"
                   "Date: Mon, 05 Jan 2026 11:58:02 GMT\r\n\r\nlater");
}

static void test_nothing_is_left_of_the_call_before(void **state)
{
    struct web *w = web_start(serve_wait_once, NULL, NULL);
    struct easee *e = client(w);
    struct easee_reply r = get(e, "/");

    (void)state;
    assert_int_equal(r.retry_after_s, 7);
    assert_int_equal(r.len, 5);
    for (unsigned i = 0; i < 3; i++) {
        r = get(e, "/");
        assert_int_equal(r.err, ERR_BROKEN);
        assert_int_equal(r.http_status, 0);
        assert_int_equal(r.retry_after_s, -1);
        assert_int_equal(r.date_unix_ms, 0);
        assert_int_equal(r.len, 0);
    }
    easee_free(e);
    web_stop(w);
}

/* libcurl sends a POST again when a kept connection dies under it: that is counted. */
static void test_hidden_repetition_is_counted(void **state)
{
    struct web *w = web_start(serve_once, NULL, NULL);
    struct easee *e = client(w);
    struct easee_reply r;

    (void)state;
    start(e, 1, "/", "{}", false);
    r = next(e);
    assert_int_equal(r.err, ERR_OK);
    assert_int_equal(r.transmissions, 1);
    start(e, 1, "/", "{}", false);
    r = next(e);
    assert_int_equal(r.err, ERR_OK);
    assert_int_equal(r.transmissions, 2);
    assert_int_equal(web_count(w, &w->requests), 3);
    easee_free(e);
    web_stop(w);
}

static void test_once_is_once(void **state)
{
    struct web *w = web_start(serve_nothing, NULL, NULL);
    struct easee *e = client(w);
    struct easee_reply r;

    (void)state;
    start(e, 1, "/", "{}", true);
    r = next(e);
    assert_int_equal(r.err, ERR_BROKEN);
    assert_int_equal(r.transmissions, 1);
    assert_int_equal(web_count(w, &w->requests), 1);
    easee_free(e);
    web_stop(w);
}

static void test_nobody_there(void **state)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* bound, not listening: nobody else's */
    char url[128];
    struct easee_reply r;
    struct easee *e;

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", ntohs(addr.sin_port));
    e = client_of(url, NULL, 0);
    r = get(e, "/");
    assert_int_equal(r.err, ERR_CONNECT);
    assert_int_equal(r.http_status, 0);
    assert_int_equal(r.transmissions, 0);
    easee_free(e);
    close(fd);

    /* A label of more than 63 characters is refused before anybody is asked. */
    e = client_of(
        "https://"
        "0123456789012345678901234567890123456789012345678901234567890123.invalid",
        NULL, 0);
    r = get(e, "/");
    assert_int_equal(r.err, ERR_RESOLVE);
    assert_int_equal(r.transmissions, 0);
    easee_free(e);
}

static void test_time_is_bounded(void **state)
{
    static web_handler *const table[] = {serve_silence, serve_drip};

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct web *w = web_start(table[i], NULL, NULL);
        char url[64];
        struct easee *e;
        struct easee_reply r;

        snprintf(url, sizeof url, "http://127.0.0.1:%u", w->port);
        e = client_of(url, NULL, 300);
        r = get(e, "/");
        assert_int_equal(r.err, ERR_TIMEOUT);
        assert_int_equal(r.transmissions, 1);
        assert_int_equal(r.len, 0);
        easee_free(e);
        web_stop(w);
    }
}

/* A time-out on a connection that was kept is no failed look-up. */
static void serve_then_silence(struct web_link *l)
{
    if (web_read(l) && web_say(l, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
        serve_silence(l);
}

static void test_timeout_on_a_kept_connection(void **state)
{
    struct web *w = web_start(serve_then_silence, NULL, NULL);
    char url[64];
    struct easee *e;

    (void)state;
    snprintf(url, sizeof url, "http://localhost:%u", w->port);
    e = client_of(url, NULL, 500);
    assert_int_equal(get(e, "/").err, ERR_OK);
    assert_int_equal(get(e, "/").err, ERR_TIMEOUT);
    easee_free(e);
    web_stop(w);
}

/* ---- many at a time ---- */

static void test_one_that_hangs_delays_nobody(void **state)
{
    struct web *w = web_start(serve_gate, NULL, NULL);
    struct easee *e = client(w);
    const struct easee_call more = {.path = "/"};
    struct easee_reply r;
    unsigned tags = 0;

    (void)state;
    start(e, 0, "/hang", NULL, false);
    for (unsigned i = 1; i < EASEE_CALLS_MAX; i++)
        start(e, i, "/", NULL, false);
    assert_int_equal(easee_room(e), 0);
    assert_int_equal(easee_start(e, &more), ERR_SYSTEM);
    for (unsigned i = 1; i < EASEE_CALLS_MAX; i++) {
        r = next(e);
        assert_int_equal(r.err, ERR_OK);
        assert_int_equal(easee_room(e), i);
        tags |= 1u << r.tag;
    }
    assert_int_equal(tags, 0xfffe);
    for (unsigned i = 0; i < 100; i++) /* and still nobody waits */
        assert_int_equal(get(e, "/").tag, 1);
    web_open(w);
    assert_int_equal(next(e).tag, 0);
    assert_int_equal(easee_room(e), EASEE_CALLS_MAX);
    assert_false(easee_take(e, &r));
    easee_free(e);
    web_stop(w);
}

/* All can be started again while the last reply is still being looked at. */
static void test_reply_does_not_take_room(void **state)
{
    struct web *w = web_start(serve_ok, NULL, NULL);
    struct easee *e = client(w);
    struct easee_reply r = get(e, "/");

    (void)state;
    for (unsigned i = 0; i < EASEE_CALLS_MAX; i++)
        start(e, i, "/", NULL, false);
    assert_string_equal(r.body, "link     1");
    for (unsigned i = 0; i < EASEE_CALLS_MAX; i++)
        assert_int_equal(next(e).err, ERR_OK);
    easee_free(e);
    web_stop(w);
}

static void test_free_does_not_wait(void **state)
{
    struct web *w = web_start(serve_gate, NULL, NULL);
    struct easee *e = client(w);
    time_t began = time(NULL);

    (void)state;
    for (unsigned i = 0; i < EASEE_CALLS_MAX; i++)
        start(e, i, "/hang", "{}", false);
    while (web_count(w, &w->requests) < EASEE_CALLS_MAX)
        easee_run(e, 10);
    easee_free(e);
    easee_free(NULL);
    assert_true(time(NULL) - began < PATIENCE_S);
    web_stop(w);
}

static void *wake_main(void *arg)
{
    easee_wake(arg);
    return NULL;
}

static void test_wake(void **state)
{
    struct web *w = web_start(serve_gate, NULL, NULL);
    struct easee *e = client(w);
    time_t began = time(NULL);
    pthread_t thread;

    (void)state;
    easee_wake(e); /* before it waits, and with nothing under way */
    easee_run(e, PATIENCE_S * 1000);
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(pthread_create(&thread, NULL, wake_main, e), 0);
        easee_run(e, PATIENCE_S * 1000);
        pthread_join(thread, NULL);
    }
    start(e, 1, "/hang", NULL, false);
    while (web_count(w, &w->requests) < 1)
        easee_run(e, 10);
    assert_int_equal(pthread_create(&thread, NULL, wake_main, e), 0);
    easee_run(e, -1);
    pthread_join(thread, NULL);
    assert_true(time(NULL) - began < PATIENCE_S);
    easee_free(e);
    web_stop(w);
}

/* ---- a hostile environment ---- */

/* Set for the whole program before easee_prepare_process(), as a hostile parent would. */
static const char *const hostile[] = {"http_proxy", "https_proxy",   "HTTPS_PROXY",
                                      "ALL_PROXY",  "SSL_CERT_FILE", "SSLKEYLOGFILE"};

static void test_environment_is_cleaned(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(hostile); i++)
        assert_null(getenv(hostile[i]));
    assert_string_equal(getenv("RES_OPTIONS"), "timeout:1 attempts:1");
}

/* Nor does it matter what is set later, or lies in the home folder. */
static void test_environment_is_ignored(void **state)
{
    struct web *w = web_start(serve_ok, NULL, NULL);
    struct easee *e = client(w);
    FILE *netrc = fopen(file(".netrc"), "w");

    (void)state;
    assert_non_null(netrc);
    fputs("machine 127.0.0.1 login thief password loot\n", netrc);
    fclose(netrc);
    setenv("HOME", scratch, 1);
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "socks5://127.0.0.1:1", 1);
    assert_int_equal(get(e, "/").err, ERR_OK);
    assert_null(strstr(web_last(w), "Authorization"));
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
    easee_free(e);
    web_stop(w);
}

/* ---- TLS ---- */

static X509 *authority,
    *stranger; /* two certificate authorities; the first one is trusted */

static int tls_set_up(void **state)
{
    FILE *ca = fopen(file("ca.pem"), "w");

    (void)state;
    web_key = EVP_EC_gen("P-256");
    authority = web_certificate("Test authority", NULL, -3600, 3600, NULL);
    stranger = web_certificate("Stranger", NULL, -3600, 3600, NULL);
    if (ca == NULL || PEM_write_X509(ca, authority) != 1)
        return -1;
    return fclose(ca);
}

static int tls_tear_down(void **state)
{
    (void)state;
    X509_free(authority);
    X509_free(stranger);
    EVP_PKEY_free(web_key);
    return 0;
}

/* Nothing is asked, and so nothing secret is told, before the certificate was found good.
 */
static void test_tls(void **state)
{
    static const struct {
        const char *host, *san, *ca;
        long from_s, to_s;
        char issuer; /* 'a'uthority, 's'tranger, or 0, itself */
        int max_version;
        enum err err;
    } table[] = {
        {"localhost", "DNS:localhost",   "ca.pem",   -60,  3600, 'a', 0,              ERR_OK         },
        {"127.0.0.1", "IP:127.0.0.1",    "ca.pem",   -60,  3600, 'a', TLS1_2_VERSION, ERR_OK         },
        {"localhost", "DNS:localhost",   "ca.pem",   -120, -60,  'a', 0,              ERR_TLS_EXPIRED},
        {"localhost", "DNS:localhost",   "ca.pem",   600,  3600, 'a', 0,              ERR_TLS_EXPIRED},
        {"localhost", "DNS:example.org", "ca.pem",   -60,  3600, 'a', 0,              ERR_TLS_HOST   },
        {"127.0.0.1", "DNS:localhost",   "ca.pem",   -60,  3600, 'a', 0,              ERR_TLS_HOST   },
        {"localhost", "DNS:localhost",   "ca.pem",   -60,  3600, 's', 0,              ERR_TLS_CA     },
        {"localhost", "DNS:localhost",   "ca.pem",   -60,  3600, 0,   0,              ERR_TLS_CA     },
        {"localhost", "DNS:localhost",   NULL,       -60,  3600, 'a', 0,              ERR_TLS_CA     },
        {"localhost", "DNS:localhost",   "none.pem", -60,  3600, 'a', 0,              ERR_TLS_CA     },
        {"localhost", "DNS:localhost",   "ca.pem",   -60,  3600, 'a', TLS1_1_VERSION, ERR_TLS        },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        X509 *issuer = table[i].issuer == 'a'   ? authority
                       : table[i].issuer == 's' ? stranger
                                                : NULL;
        X509 *cert = web_certificate("server", table[i].san, table[i].from_s,
                                     table[i].to_s, issuer);
        SSL_CTX *ctx = web_tls(cert, table[i].max_version);
        struct web *w = web_start(serve_ok, NULL, ctx);
        struct easee_reply r;
        struct easee *e;
        char url[64];

        snprintf(url, sizeof url, "https://%s:%u", table[i].host, w->port);
        e = client_of(url, table[i].ca != NULL ? file(table[i].ca) : NULL,
                      PATIENCE_S * 1000);
        start(e, 1, "/", "{\"password\":\"secret\"}", false);
        r = next(e);
        if (r.err != table[i].err)
            fail_msg("row %zu: %s (%s)", i, err_name(r.err), r.detail);
        assert_int_equal(web_count(w, &w->requests), r.err == ERR_OK);
        assert_int_equal(r.transmissions, r.err == ERR_OK);
        if (r.err == ERR_OK) { /* and it is kept */
            assert_string_equal(get(e, "/").body, "link     1");
            assert_int_equal(access(file("keys.log"), F_OK), -1);
        }
        easee_free(e);
        web_stop(w);
        SSL_CTX_free(ctx);
        X509_free(cert);
    }
}

static void serve_plain(struct web_link *l)
{
    char hello[1];

    if (recv(l->fd, hello, sizeof hello, 0) == sizeof hello)
        web_say(l, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
}

static void test_tls_with_something_else(void **state)
{
    static const struct {
        web_handler *serve;
        enum err err;
    } table[] = {
        {serve_plain,   ERR_TLS    },
        {serve_silence, ERR_TIMEOUT},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct web *w = web_start(table[i].serve, NULL, NULL);
        struct easee_reply r;
        struct easee *e;
        char url[64];

        snprintf(url, sizeof url, "https://localhost:%u", w->port);
        e = client_of(url, file("ca.pem"), 500);
        r = get(e, "/");
        if (r.err != table[i].err)
            fail_msg("row %zu: %s (%s)", i, err_name(r.err), r.detail);
        assert_int_equal(r.transmissions, 0);
        easee_free(e);
        web_stop(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_longest_request),
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_redirects_are_not_followed),
        cmocka_unit_test(test_headers_for_waiting),
        cmocka_unit_test(test_largest_body),
        cmocka_unit_test(test_endless_answers),
        cmocka_unit_test(test_connections_are_kept),
        cmocka_unit_test(test_nothing_is_left_of_the_call_before),
        cmocka_unit_test(test_hidden_repetition_is_counted),
        cmocka_unit_test(test_once_is_once),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_time_is_bounded),
        cmocka_unit_test(test_timeout_on_a_kept_connection),
        cmocka_unit_test(test_one_that_hangs_delays_nobody),
        cmocka_unit_test(test_reply_does_not_take_room),
        cmocka_unit_test(test_free_does_not_wait),
        cmocka_unit_test(test_wake),
        cmocka_unit_test(test_environment_is_cleaned),
        cmocka_unit_test(test_environment_is_ignored),
        cmocka_unit_test_setup_teardown(test_tls, tls_set_up, tls_tear_down),
        cmocka_unit_test_setup_teardown(test_tls_with_something_else, tls_set_up,
                                        tls_tear_down),
    };
    static const char *const files[] = {".netrc", "ca.pem", "keys.log"};
    int failed;

    if (mkdtemp(scratch) == NULL)
        return 1;
    for (size_t i = 0; i < COUNT(hostile); i++)
        setenv(hostile[i], "http://127.0.0.1:1", 1);
    setenv("SSLKEYLOGFILE", file("keys.log"), 1);
    easee_prepare_process();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < COUNT(files); i++)
        unlink(file(files[i]));
    rmdir(scratch);
    return failed;
}
