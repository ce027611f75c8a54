/* SPDX-License-Identifier: MIT
 * The stream against hubs on loopback, over real sockets and TLS.  How long it waits
 * between attempts, and for a silent hub, is the policy's: test_signalr.c.  One stream at
 * a time: libwebsockets loses memory when two of its contexts live at once. */
#include "evecc/stream.h"

#include "evecc/easee.h"

#include "web.h"
#include "web_tls.h"

#include <openssl/pem.h>
#include <openssl/sha.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <time.h>

#include <cmocka.h>

#define SEP      "\x1e"
#define COUNT(a) (sizeof(a) / sizeof(a)[0])

enum {
    PATIENCE_S = 30, /* longer than any wait of the policy in these tests */
    STOP_MS = 5000,
    MAILBOX = 256 /* events, of stream.c */
};

static char scratch[] = "/tmp/test_stream.XXXXXX";

static const char *ca_file(void)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/ca.pem", scratch);
    return path;
}

/* ---- the side of the hub ---- */

/* Says that the WebSocket is open, as the request asks (RFC 6455, 4.2.2). */
static bool socket_accept(struct web_link *l)
{
    char key[128] = "", answer[256];
    unsigned char digest[SHA_DIGEST_LENGTH], text[64];
    const char *at = strcasestr(l->request, "Sec-WebSocket-Key:");

    if (at == NULL || sscanf(at + 18, " %60s", key) != 1)
        return false;
    strcat(key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    SHA1((const unsigned char *)key, strlen(key), digest);
    EVP_EncodeBlock(text, digest, sizeof digest);
    snprintf(answer, sizeof answer,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
             "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
             (char *)text);
    return web_say(l, answer);
}

static bool socket_say(struct web_link *l, const char *text, size_t len)
{
    unsigned char head[4] = {0x81, (unsigned char)len, (unsigned char)(len >> 8),
                             (unsigned char)len};

    if (len >= 126)
        head[1] = 126;
    return web_send(l, head, len >= 126 ? 4 : 2) && web_send(l, text, len);
}

static bool say(struct web_link *l, const char *text)
{
    return socket_say(l, text, strlen(text));
}

static bool receive(struct web_link *l, unsigned char *ret, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = l->ssl != NULL ? SSL_read(l->ssl, ret + at, (int)(len - at))
                                   : recv(l->fd, ret + at, len - at, 0);

        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

/* The next text of the client; false: the end. */
static bool hear(struct web_link *l, char *ret, size_t size)
{
    unsigned char head[2], mask[4];
    size_t len;

    if (!receive(l, head, 2) || (head[0] & 15) != 1)
        return false;
    len = head[1] & 127u;
    if (len == 126) {
        if (!receive(l, head, 2))
            return false;
        len = (size_t)head[0] << 8 | head[1];
    }
    if (len >= size || !receive(l, mask, 4) || !receive(l, (unsigned char *)ret, len))
        return false;
    for (size_t i = 0; i < len; i++)
        ret[i] = (char)(ret[i] ^ mask[i % 4]);
    ret[len] = '\0';
    return true;
}

/* The next text of the client is TEXT. */
static bool hears(struct web_link *l, const char *text)
{
    char heard[512];

    return hear(l, heard, sizeof heard) && strcmp(heard, text) == 0;
}

static bool greet(struct web_link *l)
{
    return web_read(l) && socket_accept(l) &&
           hears(l, "{\"protocol\":\"json\",\"version\":1}" SEP) && say(l, "{}" SEP);
}

static bool hears_subscription(struct web_link *l, unsigned call, const char *serial)
{
    char text[256];

    snprintf(
        text, sizeof text,
        "{\"type\":1,\"invocationId\":\"%u\",\"target\":\"SubscribeWithCurrentState\","
        "\"arguments\":[\"%s\",true]}" SEP,
        call, serial);
    return hears(l, text);
}

#define UPDATE(value)                                                                \
    "{\"type\":1,\"target\":\"ProductUpdate\",\"arguments\":[{\"mid\":\"EH123456\"," \
    "\"dataType\":3,\"id\":120,\"timestamp\":\"2026-01-05T11:58:02Z\",\"value\":"    \
    "\"" value "\"}]}" SEP
#define RESPONSE                                                                   \
    "{\"type\":1,\"target\":\"CommandResponse\",\"arguments\":[{\"serialNumber\":" \
    "\"EH123456\",\"id\":22,\"wasAccepted\":true,\"resultCode\":0,"                \
    "\"ticks\":638605514168533970}]}" SEP

static void wait_for_the_end(struct web_link *l)
{
    char text[512];

    while (hear(l, text, sizeof text))
        continue;
}

/* ---- the stream's side ---- */

struct listener {
    struct stream *stream;
    atomic_uint wakes;
};

static void wake(void *arg)
{
    struct listener *l = arg;

    atomic_fetch_add(&l->wakes, 1);
}

static void open_stream(struct listener *l, const char *url, const char *ca)
{
    struct stream_options opt = {.url = url, .ca_file = ca, .wake = wake, .arg = l};

    atomic_init(&l->wakes, 0);
    assert_int_equal(stream_new(&l->stream, &opt), ERR_OK);
    assert_int_equal(stream_start(l->stream), ERR_OK);
    stream_subscribe(l->stream, "EH123456");
    stream_set_token(l->stream, "secret");
}

static void open_plain(struct listener *l, const struct web *w)
{
    char url[64];

    snprintf(url, sizeof url, "http://127.0.0.1:%u/hubs/chargers", w->port);
    open_stream(l, url, NULL);
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* The next event; fails when none comes. */
static struct stream_event next(struct listener *l)
{
    struct stream_event e;
    time_t until = time(NULL) + PATIENCE_S;

    while (!stream_take(l->stream, &e)) {
        if (time(NULL) > until)
            fail_msg("no event");
        pause_ms(2);
    }
    return e;
}

static struct stream_event expect(struct listener *l, enum stream_event_kind kind)
{
    struct stream_event e = next(l);

    if (e.kind != kind)
        fail_msg("event %d instead of %d, %s, status %u", (int)e.kind, (int)kind,
                 err_name(e.err), e.http_status);
    return e;
}

static void expect_update(struct listener *l, double value)
{
    struct stream_event e = expect(l, STREAM_MESSAGE);

    assert_int_equal(e.message.kind, SIGNALR_OBSERVATION);
    assert_string_equal(e.message.serial, "EH123456");
    assert_int_equal(e.message.observation.id, 120);
    assert_true(e.message.observation.number == value);
}

static void until_count(struct web *w, const unsigned *counter, unsigned n)
{
    time_t until = time(NULL) + PATIENCE_S;

    while (web_count(w, counter) < n) {
        assert_true(time(NULL) < until);
        pause_ms(2);
    }
}

static void end(struct listener *l)
{
    assert_true(stream_stop(l->stream, STOP_MS));
    stream_free(l->stream);
}

/* ---- connecting, subscribing ---- */

static void serve_replay(struct web_link *l)
{
    if (!greet(l) || !hears_subscription(l, 1, "EH123456"))
        return;
    say(l, UPDATE("1.5") UPDATE("2"));
    say(l, "{\"type\":3,\"invocationId\":\"1\",\"result\":null}" SEP "{\"type\":6}" SEP);
    say(l, "{\"type\":1,\"target\":\"ChargerUpdate\",\"arguments\":[]}" SEP "nonsense" SEP
           "{}" SEP RESPONSE);
    wait_for_the_end(l);
}

static void expect_replay(struct listener *l)
{
    struct stream_event e;

    expect(l, STREAM_UP);
    expect_update(l, 1.5);
    expect_update(l, 2);
    e = expect(l, STREAM_MESSAGE);
    assert_int_equal(e.message.kind, SIGNALR_VERDICT);
    assert_true(e.message.ticks == INT64_C(638605514168533970));
}

static void subscribes(void **state)
{
    struct web *w = web_start(serve_replay, NULL, NULL);
    struct listener l;

    (void)state;
    open_plain(&l, w);
    expect_replay(&l);
    assert_non_null(strstr(web_last(w), "GET /hubs/chargers HTTP/1.1\r\n"));
    assert_non_null(strcasestr(web_last(w), "\r\nauthorization: Bearer secret\r\n"));
    assert_non_null(strcasestr(web_last(w), "\r\nuser-agent: evecc/"));
    end(&l);
    assert_int_equal(web_count(w, &w->requests), 1);
    web_stop(w);
}

static void serve_more(struct web_link *l)
{
    if (greet(l) && hears_subscription(l, 1, "EH123456") && say(l, UPDATE("1")) &&
        hears_subscription(l, 2, "EH200001") && say(l, UPDATE("2")) &&
        hears_subscription(l, 3, "EH123456"))
        say(l, UPDATE("3"));
    wait_for_the_end(l);
}

static void subscribes_to_more_and_again(void **state)
{
    struct web *w = web_start(serve_more, NULL, NULL);
    struct listener l;

    (void)state;
    open_plain(&l, w);
    expect(&l, STREAM_UP);
    expect_update(&l, 1);
    stream_subscribe(l.stream, "EH200001");
    expect_update(&l, 2);
    stream_subscribe(l.stream, "EH123456");
    expect_update(&l, 3);
    end(&l);
    web_stop(w);
}

/* TOLD: the size of the pieces in which the hub speaks. */
static void serve_pieces(struct web_link *l)
{
    static const char all[] = UPDATE("1.5") UPDATE("2") RESPONSE;
    const size_t *piece = l->web->told;

    if (!greet(l) || !hears_subscription(l, 1, "EH123456"))
        return;
    for (size_t at = 0; at < sizeof all - 1; at += *piece)
        if (!socket_say(l, all + at,
                        sizeof all - 1 - at < *piece ? sizeof all - 1 - at : *piece))
            return;
    wait_for_the_end(l);
}

static void messages_in_pieces(void **state)
{
    static const size_t pieces[] = {1, 2, 7, 100, 131, 1000};

    (void)state;
    for (size_t i = 0; i < COUNT(pieces); i++) {
        struct web *w = web_start(serve_pieces, &pieces[i], NULL);
        struct listener l;

        print_message("pieces of %zu\n", pieces[i]);
        open_plain(&l, w);
        expect_replay(&l);
        end(&l);
        web_stop(w);
    }
}

/* ---- refusals and ends ---- */

/* Takes the second token only. */
static void serve_second_token(struct web_link *l)
{
    if (l->number == 1) {
        if (web_read(l))
            web_say(l, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    if (greet(l))
        say(l, UPDATE("7"));
    wait_for_the_end(l);
}

static void rejected_token(void **state)
{
    struct web *w = web_start(serve_second_token, NULL, NULL);
    struct stream_event e;
    struct listener l;

    (void)state;
    open_plain(&l, w);
    e = expect(&l, STREAM_REJECTED);
    assert_int_equal(e.err, ERR_UNAUTHORISED);
    assert_int_equal(e.http_status, 401);
    stream_set_token(l.stream, "other");
    expect(&l, STREAM_UP);
    expect_update(&l, 7);
    assert_non_null(strcasestr(web_last(w), "\r\nauthorization: Bearer other\r\n"));
    end(&l);
    assert_int_equal(web_count(w, &w->links), 2);
    web_stop(w);
}

static void serve_told(struct web_link *l)
{
    if (web_read(l))
        web_say(l, l->web->told);
}

static void refusals(void **state)
{
    static const struct {
        const char *answer;
        unsigned status;
    } table[] = {
        {"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 300\r\nContent-Length: "
         "0\r\n\r\n",                                            429},
        {"HTTP/1.1 403 Forbidden\r\nContent-Length: "
         "23\r\n\r\n{\"message\":\"Forbidden\"}",                403},
        {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", 503},
        {"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\n\r\n",   301},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",                200},
        {"nonsense\r\n\r\n",                                              0  },
        {"",                                                              0  },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct web *w = web_start(serve_told, table[i].answer, NULL);
        struct stream_event e;
        struct listener l;

        print_message("status %u\n", table[i].status);
        open_plain(&l, w);
        e = expect(&l, STREAM_DOWN);
        assert_int_not_equal(e.err, ERR_OK);
        if (table[i].status != 0)
            assert_int_equal(e.http_status, table[i].status);
        end(&l);
        assert_int_equal(web_count(w, &w->links), 1);
        web_stop(w);
    }
}

static void nobody_there(void **state)
{
    struct listener l;

    (void)state;
    open_stream(&l, "http://127.0.0.1:1/hubs/chargers", NULL);
    assert_int_equal(expect(&l, STREAM_DOWN).err, ERR_CONNECT);
    end(&l);
}

/* TOLD: what is said before the first connection ends. */
static void serve_twice(struct web_link *l)
{
    if (!greet(l) || !hears_subscription(l, l->number, "EH123456"))
        return;
    if (l->number == 1) {
        say(l, l->web->told);
        return;
    }
    say(l, UPDATE("2"));
    wait_for_the_end(l);
}

static void comes_back_and_subscribes_again(void **state)
{
    static const char *const ends[] = {
        UPDATE("1"),
        UPDATE("1") "{\"type\":7,\"error\":\"x\",\"allowReconnect\":true}" SEP};

    (void)state;
    for (size_t i = 0; i < COUNT(ends); i++) {
        struct web *w = web_start(serve_twice, ends[i], NULL);
        struct listener l;

        open_plain(&l, w);
        expect(&l, STREAM_UP);
        expect_update(&l, 1);
        expect(&l, STREAM_DOWN);
        expect(&l, STREAM_UP);
        expect_update(&l, 2);
        end(&l);
        web_stop(w);
    }
}

static void serve_refused_handshake(struct web_link *l)
{
    if (web_read(l) && socket_accept(l) &&
        hears(l, "{\"protocol\":\"json\",\"version\":1}" SEP))
        say(l, "{\"error\":\"no\"}" SEP);
    wait_for_the_end(l);
}

static void refused_handshake(void **state)
{
    struct web *w = web_start(serve_refused_handshake, NULL, NULL);
    struct listener l;

    (void)state;
    open_plain(&l, w);
    expect(&l, STREAM_DOWN);
    end(&l);
    web_stop(w);
}

/* ---- negotiation ---- */

static void serve_negotiation(struct web_link *l)
{
    char answer[512], body[256];

    if (!web_read(l))
        return;
    if (strncmp(l->request, "GET /hubs/chargers ", 19) == 0) {
        web_say(l, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    if (strncmp(l->request, "GET /other/?a=b%20c&id=to%2Fken ", 32) == 0 &&
        strcasestr(l->request, "Bearer another")) {
        if (socket_accept(l) && hears(l, "{\"protocol\":\"json\",\"version\":1}" SEP) &&
            say(l, "{}" SEP))
            say(l, UPDATE("9"));
        wait_for_the_end(l);
        return;
    }
    if (strstr(l->request, "POST /hubs/chargers/negotiate?negotiateVersion=1 ") &&
        strcasestr(l->request, "Bearer secret"))
        snprintf(body, sizeof body,
                 "{\"url\":\"http://127.0.0.1:%u/other/?a=b%%20c\",\"accessToken\":"
                 "\"another\"}",
                 l->web->port);
    else if (strstr(l->request, "POST /other/negotiate?a=b%20c&negotiateVersion=1 ") &&
             strcasestr(l->request, "Bearer another"))
        snprintf(body, sizeof body,
                 "{\"negotiateVersion\":1,\"connectionId\":\"x\",\"connectionToken\":"
                 "\"to/ken\",\"availableTransports\":[{\"transport\":\"WebSockets\"}]}");
    else
        return;
    snprintf(answer, sizeof answer,
             "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
             strlen(body), body);
    web_say(l, answer);
}

/* Refuses what is direct, and then never answers. */
static void serve_stuck_negotiation(struct web_link *l)
{
    if (!web_read(l))
        return;
    if (strncmp(l->request, "GET ", 4) == 0)
        web_say(l, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    else
        web_wait_open(l);
}

/* After three refusals of the direct way; to the end of the redirection, with its token.
 */
static void negotiates_when_it_must(void **state)
{
    struct web *w = web_start(serve_negotiation, NULL, NULL);
    struct listener l;

    (void)state;
    open_plain(&l, w);
    for (int i = 0; i < 3; i++)
        assert_int_equal(expect(&l, STREAM_DOWN).http_status, 404);
    expect(&l, STREAM_UP);
    expect_update(&l, 9);
    end(&l);
    web_stop(w);
}

static void stops_while_negotiating(void **state)
{
    struct web *w = web_start(serve_stuck_negotiation, NULL, NULL);
    struct listener l;

    (void)state;
    open_plain(&l, w);
    until_count(w, &w->requests, 4);
    assert_true(stream_stop(l.stream, 1000));
    stream_free(l.stream);
    web_stop(w);
}

/* ---- TLS ---- */

static void serve_requests(struct web_link *l)
{
    web_read(l);
}

static void tls(void **state)
{
    static const struct {
        const char *san, *host;
        bool ours, good;
    } table[] = {
        {"IP:127.0.0.1",    "127.0.0.1", true,  true },
        {"DNS:localhost",   "localhost", true,  true },
        {"DNS:example.org", "localhost", true,  false},
        {"IP:127.0.0.2",    "127.0.0.1", true,  false},
        {"DNS:localhost",   "localhost", false, false},
    };
    X509 *ours, *stranger;
    FILE *ca = fopen(ca_file(), "w");

    (void)state;
    web_key = EVP_EC_gen("P-256");
    ours = web_certificate("Test authority", NULL, -3600, 3600, NULL);
    stranger = web_certificate("Stranger", NULL, -3600, 3600, NULL);
    assert_non_null(ca);
    assert_int_equal(PEM_write_X509(ca, ours), 1);
    fclose(ca);
    for (size_t i = 0; i < COUNT(table); i++) {
        X509 *cert = web_certificate("server", table[i].san, -60, 3600,
                                     table[i].ours ? ours : stranger);
        SSL_CTX *ctx = web_tls(cert, 0);
        struct web *w =
            web_start(table[i].good ? serve_replay : serve_requests, NULL, ctx);
        struct listener l;
        char url[64];

        print_message("%s for %s\n", table[i].san, table[i].host);
        snprintf(url, sizeof url, "https://%s:%u/hubs/chargers", table[i].host, w->port);
        open_stream(&l, url, ca_file());
        if (table[i].good)
            expect_replay(&l);
        else
            expect(&l, STREAM_DOWN);
        end(&l);
        assert_int_equal(web_count(w, &w->requests), table[i].good);
        web_stop(w);
        SSL_CTX_free(ctx);
        X509_free(cert);
    }
    X509_free(ours);
    X509_free(stranger);
    EVP_PKEY_free(web_key);
    unlink(ca_file());
}

static void unsafe_urls(void **state)
{
    static const char *const urls[] = {
        "http://streams.easee.com/hubs/chargers",
        "http://127.example.org/hubs/chargers",
        "ftp://127.0.0.1/hubs/chargers",
        "ws://127.0.0.1/hubs/chargers",
        "/hubs/chargers",
        "",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(urls); i++) {
        struct stream *s;

        print_message("%s\n", urls[i]);
        assert_int_equal(
            stream_new(&s, &(struct stream_options){.url = urls[i], .wake = wake}),
            ERR_CONFIG);
    }
}

/* ---- nobody takes the mail ---- */

enum { FLOOD = 5000 };

static void serve_flood(struct web_link *l)
{
    if (!greet(l) || !hears_subscription(l, 1, "EH123456"))
        return;
    for (unsigned i = 0; i < FLOOD; i++) {
        char text[256];

        snprintf(text, sizeof text,
                 "{\"type\":1,\"target\":\"ProductUpdate\",\"arguments\":[{\"mid\":"
                 "\"EH123456\",\"dataType\":3,\"id\":120,\"timestamp\":"
                 "\"2026-01-05T11:58:02Z\",\"value\":\"%u\"}]}" SEP,
                 i);
        if (!say(l, text))
            return;
    }
    wait_for_the_end(l);
}

static void nothing_is_lost_when_nobody_takes_it(void **state)
{
    struct web *w = web_start(serve_flood, NULL, NULL);
    time_t until = time(NULL) + PATIENCE_S;
    struct listener l;

    (void)state;
    open_plain(&l, w);
    while (atomic_load(&l.wakes) < MAILBOX) {
        assert_true(time(NULL) < until);
        pause_ms(2);
    }
    expect(&l, STREAM_UP);
    for (unsigned i = 0; i < FLOOD; i++)
        expect_update(&l, i);
    end(&l);
    web_stop(w);
}

/* ---- the end ---- */

static void serve_silence(struct web_link *l)
{
    if (web_read(l))
        web_wait_open(l);
}

static void serve_silent_hub(struct web_link *l)
{
    if (web_read(l) && socket_accept(l))
        wait_for_the_end(l);
}

static void serve_nothing_at_all(struct web_link *l)
{
    web_wait_open(l);
}

/* While connecting, while the handshake is awaited, with a full box, and unstarted. */
static void stops_at_any_time(void **state)
{
    static web_handler *const handlers[] = {serve_silence, serve_silent_hub, serve_flood,
                                            serve_nothing_at_all};
    struct stream *s;

    (void)state;
    for (size_t i = 0; i < COUNT(handlers); i++) {
        struct web *w = web_start(handlers[i], NULL, NULL);
        struct listener l;

        open_plain(&l, w);
        until_count(w, &w->links, 1);
        assert_true(stream_stop(l.stream, 1000));
        assert_true(stream_progress_ms(l.stream) > 0);
        stream_free(l.stream);
        web_stop(w);
    }
    assert_int_equal(stream_new(&s, &(struct stream_options){.url = "https://127.0.0.1/",
                                                             .wake = wake}),
                     ERR_OK);
    assert_true(stream_stop(s, 0));
    stream_free(s);
    stream_free(NULL);
}

/* Without a token, or nobody to subscribe for, nobody is bothered. */
static void stays_away_without_reason(void **state)
{
    struct web *w = web_start(serve_replay, NULL, NULL);
    struct listener l = {0};
    char url[64];

    (void)state;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", w->port);
    assert_int_equal(
        stream_new(&l.stream,
                   &(struct stream_options){.url = url, .wake = wake, .arg = &l}),
        ERR_OK);
    assert_int_equal(stream_start(l.stream), ERR_OK);
    stream_set_token(l.stream, "secret");
    pause_ms(100); /* nothing to wait for: it is nothing that happens */
    stream_set_token(l.stream, NULL);
    stream_subscribe(l.stream, "EH123456");
    pause_ms(100);
    assert_int_equal(web_count(w, &w->links), 0);
    stream_set_token(l.stream, "secret");
    expect_replay(&l);
    end(&l);
    web_stop(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subscribes),
        cmocka_unit_test(subscribes_to_more_and_again),
        cmocka_unit_test(messages_in_pieces),
        cmocka_unit_test(rejected_token),
        cmocka_unit_test(refusals),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(comes_back_and_subscribes_again),
        cmocka_unit_test(refused_handshake),
        cmocka_unit_test(negotiates_when_it_must),
        cmocka_unit_test(stops_while_negotiating),
        cmocka_unit_test(tls),
        cmocka_unit_test(unsafe_urls),
        cmocka_unit_test(nothing_is_lost_when_nobody_takes_it),
        cmocka_unit_test(stops_at_any_time),
        cmocka_unit_test(stays_away_without_reason),
    };
    int failed;

    if (mkdtemp(scratch) == NULL)
        return 1;
    easee_prepare_process();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(scratch);
    return failed;
}
