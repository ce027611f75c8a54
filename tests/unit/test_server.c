/* SPDX-License-Identifier: MIT
 * test_server.c - real sockets on loopback, one epoll set, and a clock the test moves. */
#include "evecc/log.h"
#include "evecc/owner.h"
#include "evecc/server.h"
#include "evecc/sys.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { UNIT = 1, CLIENTS = 512, START_MS = 1000000, PATIENCE_MS = 20000 };

struct fixture {
    struct config cfg;
    struct config_listener listener[2];
    struct config_circuit circuit[1];
    struct exchange *x;
    struct gateway *g;
    struct server *s;
    struct modbus_counts *counts;
    int epoll;
    uint64_t now_ms;
    unsigned events; /* served so far */
};

static int prepare(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    f->listener[0] = (struct config_listener){.name = "native",
                                              .address = "127.0.0.1",
                                              .max_clients = CLIENTS,
                                              .max_clients_per_address = CLIENTS,
                                              .frame_timeout = 1000,
                                              .queue = 8,
                                              .stall_timeout = 5};
    f->listener[1] = f->listener[0];
    f->circuit[0] = (struct config_circuit){.name = "garage",
                                            .unit = UNIT,
                                            .max_current = 16,
                                            .min_current = 6,
                                            .phases = 3,
                                            .voltage = 230};
    f->cfg.listener = f->listener;
    f->cfg.listeners = 1;
    f->cfg.circuit = f->circuit;
    f->cfg.circuits = 1;
    f->x = exchange_new(1);
    f->now_ms = START_MS;
    f->epoll = epoll_create1(0);
    *state = f;
    return gateway_new(&f->g, &f->cfg, f->x, f->now_ms) == ERR_OK && f->epoll >= 0 ? 0
                                                                                   : -1;
}

static void serve(struct fixture *f)
{
    char why[256] = "";
    if (server_new(&f->s, &f->cfg, f->g, f->epoll, why, sizeof why) != ERR_OK)
        fail_msg("%s", why);
    f->counts = gateway_counts(f->g);
}

static int start(void **state)
{
    if (prepare(state) != 0)
        return -1;
    serve(*state);
    return 0;
}

static int stop(void **state)
{
    struct fixture *f = *state;
    server_free(f->s);
    gateway_free(f->g);
    exchange_free(f->x);
    close(f->epoll);
    free(f);
    return 0;
}

/* One wake-up of the loop; true when something happened. */
static bool wake_up(struct fixture *f, int timeout_ms)
{
    struct epoll_event event[32];
    int n = epoll_wait(f->epoll, event, 32, timeout_ms);
    for (int i = 0; i < n; i++)
        server_event(f->s, event[i].data.ptr, event[i].events, f->now_ms, 1700000000);
    server_tick(f->s, f->now_ms);
    f->events += n > 0 ? (unsigned)n : 0;
    return n > 0;
}

/* Until nothing is left to do.  Loopback delivers before send() returns. */
static void settle(struct fixture *f)
{
    while (wake_up(f, 0))
        ;
}

static int64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static unsigned port_of(const char *address)
{
    return (unsigned)atoi(strrchr(address, ':') + 1);
}

static int connect_to(int family, const char *host, unsigned port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
                              .sin6_port = htons((uint16_t)port)};
    bool is_v6 = family == AF_INET6;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(
        inet_pton(family, host, is_v6 ? (void *)&v6.sin6_addr : &v4.sin_addr), 1);
    if (connect(fd, is_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4,
                is_v6 ? sizeof v6 : sizeof v4) == 0)
        return fd;
    close(fd);
    return -1;
}

static int client(struct fixture *f)
{
    int fd = connect_to(AF_INET, "127.0.0.1", port_of(server_address(f->s, 0)));
    assert_true(fd >= 0);
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void put(int fd, const void *bytes, size_t n)
{
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

/* Reads exactly N bytes, serving meanwhile.  False: the server closed before. */
static bool get(struct fixture *f, int fd, uint8_t *ret, size_t n)
{
    int64_t until = wall_ms() + PATIENCE_MS;
    for (size_t have = 0; have < n;) {
        ssize_t r = recv(fd, ret + have, n - have, MSG_DONTWAIT);
        if (r > 0) {
            have += (size_t)r;
        } else if (r == 0 || errno != EAGAIN) {
            return false;
        } else {
            wake_up(f, 10);
            assert_true(wall_ms() < until);
        }
    }
    return true;
}

static bool is_closed(struct fixture *f, int fd)
{
    uint8_t byte;
    int64_t until = wall_ms() + PATIENCE_MS;
    settle(f);
    ssize_t r;
    while ((r = recv(fd, &byte, 1, MSG_DONTWAIT)) < 0 && errno == EAGAIN &&
           wall_ms() < until)
        wake_up(f, 10);
    return r == 0 || (r < 0 && errno == ECONNRESET);
}

/* Nothing came and it is open. */
static bool is_silent(struct fixture *f, int fd)
{
    uint8_t byte;
    settle(f);
    return recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

enum { READ_SIZE = 12, ANSWER_SIZE = 9 + 2 * 10, BIG_ANSWER_SIZE = 9 + 2 * 125 };

/* Reads COUNT registers of the identity block. */
static void read_request(uint8_t adu[static READ_SIZE], unsigned transaction,
                         unsigned count)
{
    memcpy(adu,
           (uint8_t[]){(uint8_t)(transaction >> 8), (uint8_t)transaction, 0, 0, 0, 6,
                       UNIT, 3, 7000 >> 8, 7000 & 0xff, 0, (uint8_t)count},
           READ_SIZE);
}

static void assert_read_answer(const uint8_t *answer, unsigned transaction,
                               unsigned count)
{
    assert_int_equal(answer[0] << 8 | answer[1], transaction & 0xffff);
    assert_int_equal(answer[5], 3 + 2 * count);
    assert_int_equal(answer[7], 3);
    assert_memory_equal(answer + 9, "EVGW", 4);
}

static void ask(struct fixture *f, int fd, unsigned transaction)
{
    uint8_t adu[READ_SIZE], answer[ANSWER_SIZE];
    read_request(adu, transaction, 10);
    put(fd, adu, sizeof adu);
    assert_true(get(f, fd, answer, sizeof answer));
    assert_read_answer(answer, transaction, 10);
}

static void answers_and_keeps_the_connection(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    for (unsigned i = 0; i < 100; i++)
        ask(f, fd, i * 655);
    assert_int_equal(f->counts->open, 1);
    assert_int_equal(f->counts->accepted, 1);
    assert_int_equal(f->counts->requests, 100);
    close(fd);
    settle(f);
    assert_int_equal(f->counts->open, 0);
}

/* At depth 1 a request is one event, and nothing is left over to wake up for. */
static void one_event_per_request_and_none_when_idle(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    ask(f, fd, 1);
    f->events = 0;
    for (unsigned i = 0; i < 50; i++)
        ask(f, fd, i);
    assert_int_equal(f->events, 50);
    assert_false(wake_up(f, 0));
    assert_true(server_wake(f->s) == NEVER);
    close(fd);
}

static void pipelined(struct fixture *f, unsigned depth, unsigned count)
{
    int fd = client(f);
    size_t answer_size = 9 + 2 * count;
    uint8_t *adus = malloc((size_t)depth * READ_SIZE),
            *answers = malloc(depth * answer_size);
    for (unsigned i = 0; i < depth; i++)
        read_request(adus + i * READ_SIZE, i, count);
    put(fd, adus, (size_t)depth * READ_SIZE);
    assert_true(get(f, fd, answers, depth * answer_size));
    for (unsigned i = 0; i < depth; i++)
        assert_read_answer(answers + i * answer_size, i, count);
    assert_true(is_silent(f, fd));
    free(adus);
    free(answers);
    close(fd);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    pipelined(*state, 3, 10);
    pipelined(*state, 16, 10);
    pipelined(*state, 16, 125);
    pipelined(*state, 64, 125);
    pipelined(*state, 5000, 10); /* */
}

static void answers_of_one_turn_leave_together(void **state)
{
    struct fixture *f = *state;
    uint8_t adus[16 * READ_SIZE], answers[16 * ANSWER_SIZE + 1];
    int fd = client(f);
    settle(f);
    for (unsigned i = 0; i < 16; i++)
        read_request(adus + i * READ_SIZE, i, 10);
    put(fd, adus, sizeof adus);
    f->events = 0;
    assert_true(wake_up(f, 1000));
    assert_int_equal(f->events, 1);
    assert_int_equal(recv(fd, answers, sizeof answers, MSG_DONTWAIT), 16 * ANSWER_SIZE);
    close(fd);
}

/* C-10: wherever the stream is cut, the answers are the same. */
static void every_split_point(void **state)
{
    static const uint8_t stream[] = {
        0, 1, 0, 0, 0, 6,  UNIT, 3,    0x1b, 0x58, 0,    10,                /* read */
        0, 2, 0, 0, 0, 9,  UNIT, 16,   0x1c, 0x21, 0,    1,  2,    0,    1, /* write */
        0, 3, 0, 0, 0, 2,  UNIT, 0x41,                                      /* refused */
        0, 4, 0, 0, 0, 13, UNIT, 23,   0x1b, 0x58, 0,    1,  0x1c, 0x21, 0,
        1, 2, 0, 1, 0, 5,  0,    0,    0,    5,    UNIT, 43, 14,   4,    0};
    uint8_t whole[256], answers[256];
    size_t size = 0;
    struct fixture *f = *state;
    int fd = client(f);

    put(fd, stream, sizeof stream);
    settle(f);
    size = (size_t)recv(fd, whole, sizeof whole, MSG_DONTWAIT);
    assert_int_equal(size, ANSWER_SIZE + 12 + 9 + 11 + 21);
    for (size_t cut = 1; cut < sizeof stream; cut++) {
        put(fd, stream, cut);
        settle(f);
        put(fd, stream + cut, sizeof stream - cut);
        assert_true(get(f, fd, answers, size));
        if (memcmp(answers, whole, size) != 0)
            fail_msg("cut at %zu", cut);
    }
    for (size_t i = 0; i < sizeof stream; i++) {
        put(fd, stream + i, 1);
        settle(f);
    }
    assert_true(get(f, fd, answers, size));
    assert_memory_equal(answers, whole, size);
    assert_true(server_wake(f->s) == NEVER);
    close(fd);
}

/* C-15, A-26 */
static void half_close_is_answered_before_we_close(void **state)
{
    struct fixture *f = *state;
    uint8_t adus[3 * READ_SIZE], answers[3 * ANSWER_SIZE];
    int fd = client(f);
    for (unsigned i = 0; i < 3; i++)
        read_request(adus + i * READ_SIZE, i, 10);
    put(fd, adus, sizeof adus);
    shutdown(fd, SHUT_WR);
    assert_true(get(f, fd, answers, sizeof answers));
    assert_read_answer(answers + 2 * ANSWER_SIZE, 2, 10);
    assert_true(is_closed(f, fd));
    assert_int_equal(f->counts->open, 0);
    close(fd);
}

static void fin_in_mid_frame_closes_at_once(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    put(fd, "\0\1\0\0", 4);
    shutdown(fd, SHUT_WR);
    assert_true(is_closed(f, fd));
    assert_true(server_wake(f->s) == NEVER);
    close(fd);
}

/* C-03, A-07, A-38, A-39: closed without an answer; what came before is answered. */
static void broken_streams_are_closed(void **state)
{
    static const struct {
        const char *what;
        size_t size;
        uint8_t bytes[24];
    } rows[] = {
        {"length 0",     12, {0, 1, 0, 0, 0, 0, UNIT, 6, 0x1c, 0x21, 0, 0}               },
        {"length 1",     12, {0, 1, 0, 0, 0, 1, UNIT, 6, 0x1c, 0x21, 0, 0}               },
        {"length 255",   12, {0, 1, 0, 0, 0, 255, UNIT, 6, 0x1c, 0x21, 0, 0}             },
        {"length 256",   12, {0, 1, 0, 0, 1, 0, UNIT, 6, 0x1c, 0x21, 0, 0}               },
        {"length 65535", 12, {0, 1, 0, 0, 255, 255, UNIT, 6, 0x1c, 0x21, 0, 0}           },
        {"all ones",     12, {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}},
        {"HTTP",         18, "GET / HTTP/1.1\r\n\r\n"                                    },
        {"TLS",          11, {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}                     },
        {"SSH",          14, "SSH-2.0-client"                                            },
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int fd = client(f);
        put(fd, rows[i].bytes, rows[i].size);
        if (!is_closed(f, fd))
            fail_msg("%s", rows[i].what);
        close(fd);

        uint8_t both[READ_SIZE + sizeof rows[i].bytes], answer[ANSWER_SIZE];
        fd = client(f);
        read_request(both, 9, 10);
        memcpy(both + READ_SIZE, rows[i].bytes, rows[i].size);
        put(fd, both, READ_SIZE + rows[i].size);
        assert_true(get(f, fd, answer, sizeof answer));
        assert_read_answer(answer, 9, 10);
        assert_true(is_closed(f, fd));
        close(fd);
    }
    assert_int_equal(f->counts->open, 0);
    assert_int_equal(f->counts->writes_accepted, 0);
}

/* C-06, A-11 */
static void foreign_protocols_are_ignored_and_closed_the_third_time(void **state)
{
    static const uint8_t foreign[] = {0, 1, 0, 1, 0, 6, UNIT, 6, 0x1c, 0x21, 0, 0};
    struct fixture *f = *state;
    int fd = client(f);
    for (int i = 0; i < 2; i++) {
        put(fd, foreign, sizeof foreign);
        assert_true(is_silent(f, fd));
        ask(f, fd, 7);
    }
    put(fd, foreign, sizeof foreign);
    assert_true(is_closed(f, fd));
    assert_int_equal(f->counts->writes_accepted, 0);
    assert_int_equal(f->counts->requests, 2);
    close(fd);
}

/* the clock runs from the first byte, whatever drips in later. */
static void a_frame_must_be_whole_in_a_second(void **state)
{
    struct fixture *f = *state;
    uint8_t adu[READ_SIZE];
    int slow = client(f), good = client(f);
    read_request(adu, 1, 10);

    put(slow, adu, 1);
    settle(f);
    assert_int_equal(server_wake(f->s), START_MS + 1000);
    for (int i = 1; i < 4; i++) {
        f->now_ms += 300;
        put(slow, adu + i, 1);
        assert_true(is_silent(f, slow));
        ask(f, good, 1);
    }
    f->now_ms = START_MS + 999;
    assert_true(is_silent(f, slow));
    assert_int_equal(server_wake(f->s), START_MS + 1000);
    f->now_ms = START_MS + 1000;
    assert_true(is_closed(f, slow));
    assert_true(server_wake(f->s) == NEVER);
    ask(f, good, 1);

    /* whole in time: nothing is due; the next frame has a second of its own */
    put(good, adu, 6);
    settle(f);
    f->now_ms += 999;
    put(good, adu + 6, READ_SIZE - 6);
    put(good, adu, 1);
    uint8_t answer[ANSWER_SIZE];
    assert_true(get(f, good, answer, sizeof answer));
    settle(f);
    assert_int_equal(server_wake(f->s), f->now_ms + 1000);
    close(slow);
    close(good);
}

/* A client that pipelines reads of 125 registers and takes no answer. */
struct flood {
    unsigned asked; /* whole requests sent */
    size_t cut;     /* bytes sent of the next one */
};

static ssize_t flood_on(struct flood *w, int fd)
{
    uint8_t adu[READ_SIZE];
    read_request(adu, w->asked, 125);
    ssize_t n = send(fd, adu + w->cut, sizeof adu - w->cut, MSG_DONTWAIT | MSG_NOSIGNAL);
    w->cut += n > 0 ? (size_t)n : 0;
    if (w->cut == sizeof adu) {
        w->asked++;
        w->cut = 0;
    }
    return n;
}

/* Until the server has stopped reading and every buffer in between is full. */
static void flood(struct fixture *f, struct flood *w, int fd)
{
    int64_t until = wall_ms() + PATIENCE_MS;
    for (unsigned full = 0; full < 20 || server_wake(f->s) == NEVER;) {
        if (flood_on(w, fd) > 0)
            full = 0;
        else
            full += !wake_up(f, 1);
        assert_true(wall_ms() < until);
    }
}

static int small_client(struct fixture *f)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port =
                                   htons((uint16_t)port_of(server_address(f->s, 0))),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), size = 2048;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

/* C-11: reading stops, nobody else notices, nothing is lost. */
static void a_slow_reader_gets_every_answer_in_order(void **state)
{
    struct fixture *f = *state;
    int slow = small_client(f), good = client(f);
    uint8_t answer[BIG_ANSWER_SIZE];
    struct flood w = {0};

    flood(f, &w, slow);
    assert_true(f->counts->requests < w.asked); /* the rest waits in the sockets */
    assert_int_equal(server_wake(f->s), f->now_ms + 1000);
    for (unsigned i = 0; i < 10; i++)
        ask(f, good, i);

    unsigned i = 0;
    for (; i < w.asked; i++) {
        assert_true(get(f, slow, answer, sizeof answer));
        assert_read_answer(answer, i, 125);
    }
    while (w.asked == i) /* the one that was cut, or one more */
        assert_true(flood_on(&w, slow) > 0);
    assert_true(get(f, slow, answer, sizeof answer));
    assert_read_answer(answer, i, 125);
    assert_true(server_wake(f->s) == NEVER);
    ask(f, slow, 77);
    close(slow);
    close(good);
}

/* However little it takes, as long as it takes something; the first looks may see the
 * kernel still moving bytes to the other side. */
static void who_takes_nothing_for_five_seconds_is_closed(void **state)
{
    struct fixture *f = *state;
    int slow = small_client(f), good = client(f);
    uint8_t answers[8 * BIG_ANSWER_SIZE];
    struct flood w = {0};
    unsigned seconds;

    flood(f, &w, slow);
    for (seconds = 0; seconds < 30; seconds++) {
        if (seconds % 4 == 0)
            assert_true(get(f, slow, answers, sizeof answers));
        f->now_ms += 1000;
        settle(f);
        assert_int_equal(f->counts->open, 2);
    }
    assert_true(get(f, slow, answers, sizeof answers));
    flood(f, &w, slow);
    for (seconds = 0; f->counts->open == 2; seconds++) {
        f->now_ms += 1000;
        settle(f);
    }
    assert_in_range(seconds, 5, 6);
    assert_true(server_wake(f->s) == NEVER);
    ask(f, good, 3);
    close(slow);
    close(good);
}

static void a_reset_while_stalled_is_noticed(void **state)
{
    struct fixture *f = *state;
    int slow = small_client(f);
    struct flood w = {0};
    flood(f, &w, slow);
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(slow, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(slow);
    int64_t until = wall_ms() + PATIENCE_MS;
    while (f->counts->open > 0 && wall_ms() < until)
        wake_up(f, 10);
    assert_int_equal(f->counts->open, 0);
    assert_true(server_wake(f->s) == NEVER);
}

static void write_enable(struct fixture *f, int fd, const uint8_t *expected, size_t n)
{
    static const uint8_t adu[] = {0, 9, 0, 0, 0, 6, UNIT, 6, 0x1c, 0x21, 0, 0};
    uint8_t answer[READ_SIZE];
    put(fd, adu, sizeof adu);
    assert_true(get(f, fd, answer, n));
    assert_memory_equal(answer, expected, n);
}

static void set_acl(struct acl *acl, const char *text)
{
    char bad[64];
    assert_true(acl_parse(text, acl, bad));
}

/* C-43, A-46 */
static void only_the_allow_list_gets_in(void **state)
{
    struct fixture *f = *state;
    set_acl(&f->listener[0].allow, "192.0.2.0/24");
    serve(f);
    int fd = client(f);
    assert_true(is_closed(f, fd));
    assert_int_equal(f->counts->refused, 1);
    assert_int_equal(f->counts->accepted, 0);
    assert_int_equal(f->counts->open, 0);
    close(fd);
}

static void only_the_write_list_writes(void **state)
{
    static const uint8_t refused[] = {0, 9, 0, 0, 0, 3, UNIT, 0x86, EX_FUNCTION};
    static const uint8_t done[] = {0, 9, 0, 0, 0, 6, UNIT, 6, 0x1c, 0x21, 0, 0};
    struct fixture *f = *state;
    f->cfg.listeners = 2;
    set_acl(&f->listener[0].write, "192.0.2.0/24");
    set_acl(&f->listener[1].write, "127.0.0.0/8");
    serve(f);
    int reader = client(f);
    int writer = connect_to(AF_INET, "127.0.0.1", port_of(server_address(f->s, 1)));
    ask(f, reader, 1);
    write_enable(f, reader, refused, sizeof refused);
    write_enable(f, writer, done, sizeof done);
    assert_int_equal(f->counts->writes_accepted, 1);
    close(reader);
    close(writer);
}

static void both_families_reach_the_wildcard(void **state)
{
    struct fixture *f = *state;
    uint8_t answer[ANSWER_SIZE], adu[READ_SIZE];
    strcpy(f->listener[0].address, "::");
    serve(f);
    unsigned port = port_of(server_address(f->s, 0));
    read_request(adu, 4, 10);
    int v4 = connect_to(AF_INET, "127.0.0.1", port);
    assert_true(v4 >= 0);
    put(v4, adu, sizeof adu);
    assert_true(get(f, v4, answer, sizeof answer));
    int v6 = connect_to(AF_INET6, "::1", port);
    if (v6 >= 0) { /* not every build machine has it */
        put(v6, adu, sizeof adu);
        assert_true(get(f, v6, answer, sizeof answer));
        assert_string_equal(strrchr(server_address(f->s, 0), ']') ? "[::]" : "", "[::]");
        close(v6);
    }
    close(v4);
}

/* From 127.0.0.HOST. */
static int client_at(struct fixture *f, unsigned host)
{
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(0x7f000000 | host)},
                       to = {.sin_family = AF_INET,
                             .sin_port =
                                 htons((uint16_t)port_of(server_address(f->s, 0))),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* C-40, C-42, C-47 */
static void who_is_idle_longest_makes_room(void **state)
{
    struct fixture *f = *state;
    f->listener[0].max_clients = 3;
    f->listener[0].max_clients_per_address = 2;
    f->listener[0].idle_timeout = 60;
    serve(f);
    int a = client_at(f, 2), b = client_at(f, 3), c = client_at(f, 3);
    ask(f, a, 1);
    ask(f, b, 1);
    ask(f, c, 1);
    f->now_ms += 9000;
    ask(f, b, 2); /* c has been idle longer, a longest */
    int d = client_at(f, 4);
    assert_true(is_closed(f, d)); /* nobody idle beyond the guard */
    f->now_ms += 1000;
    int e = client_at(f, 3); /* two of that address: its own goes */
    assert_true(is_closed(f, c));
    ask(f, e, 3);
    ask(f, a, 3);
    f->now_ms += 9000;
    int g = client_at(f, 4);
    assert_true(is_closed(f, b));
    ask(f, g, 4);
    assert_int_equal(f->counts->refused, 1);
    assert_int_equal(f->counts->open, 3);

    /* a and e spoke last at the same time */
    assert_int_equal(server_wake(f->s), START_MS + 10000 + 60000);
    f->now_ms = START_MS + 10000 + 60000 - 1;
    assert_true(is_silent(f, a));
    ask(f, a, 5);
    f->now_ms++;
    assert_true(is_closed(f, e));
    assert_int_equal(f->counts->open, 2);
    int all[] = {a, b, c, d, e, g};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        close(all[i]);
}

/* C-41: places of their own, and nobody closes them. */
static void marked_clients_keep_their_place(void **state)
{
    struct fixture *f = *state;
    f->listener[0].max_clients = 2;
    f->listener[0].max_clients_per_address = 2;
    f->listener[0].idle_timeout = 60;
    set_acl(&f->listener[0].priority, "127.0.0.9");
    serve(f);
    int flood[4], marked[2];
    for (unsigned i = 0; i < 4; i++) {
        flood[i] = client_at(f, 20 + i);
        settle(f);
    }
    for (unsigned i = 0; i < 2; i++) {
        marked[i] = client_at(f, 9);
        ask(f, marked[i], i);
    }
    int third = client_at(f, 9);
    assert_true(is_closed(f, third));
    f->now_ms += 3600 * 1000;
    settle(f);
    assert_int_equal(f->counts->open, 2);
    third = client_at(f, 9);
    assert_true(is_closed(f, third));
    for (unsigned i = 0; i < 2; i++) {
        ask(f, marked[i], i);
        close(marked[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        close(flood[i]);
}

/* However many others are ready before it, a marked client waits for one turn of few. */
static void marked_clients_are_served_first(void **state)
{
    enum { OTHERS = 30, DEPTH = 80 };
    struct fixture *f = *state;
    set_acl(&f->listener[0].priority, "127.0.0.9");
    serve(f);
    int other[OTHERS], marked = client_at(f, 9);
    static uint8_t adus[DEPTH * READ_SIZE];
    uint8_t adu[READ_SIZE], answer[ANSWER_SIZE];
    for (unsigned i = 0; i < DEPTH; i++)
        read_request(adus + i * READ_SIZE, i, 1);
    for (unsigned i = 0; i < OTHERS; i++)
        other[i] = client_at(f, 20 + i);
    settle(f);
    for (unsigned i = 0; i < OTHERS; i++)
        put(other[i], adus, sizeof adus);
    read_request(adu, 7, 10);
    put(marked, adu, sizeof adu);

    struct epoll_event event[64];
    int n = epoll_wait(f->epoll, event, 64, 0);
    assert_int_equal(n, OTHERS + 1);
    unsigned before = f->counts->requests;
    server_event(f->s, event[0].data.ptr, event[0].events, f->now_ms, 1700000000);
    assert_int_equal(f->counts->requests - before, DEPTH + 1);
    assert_int_equal(recv(marked, answer, sizeof answer, MSG_DONTWAIT), sizeof answer);
    assert_read_answer(answer, 7, 10);
    for (int i = 1; i < n; i++)
        server_event(f->s, event[i].data.ptr, event[i].events, f->now_ms, 1700000000);
    server_tick(f->s, f->now_ms);
    settle(f);
    assert_int_equal(f->counts->requests, OTHERS * DEPTH + 1);
    close(marked);
    for (unsigned i = 0; i < OTHERS; i++)
        close(other[i]);
}

/* */
static void the_first_writer_owns_the_circuit(void **state)
{
    static const uint8_t refused[] = {0, 9, 0, 0, 0, 3, UNIT, 0x86, EX_FUNCTION};
    static const uint8_t done[] = {0, 9, 0, 0, 0, 6, UNIT, 6, 0x1c, 0x21, 0, 0};
    struct fixture *f = *state;
    f->circuit[0].owner = OWNER_FIRST;
    f->circuit[0].owner_timeout = 30;
    serve(f);
    int a = client_at(f, 2), b = client_at(f, 3), same = client_at(f, 2);
    write_enable(f, a, done, sizeof done);
    write_enable(f, b, refused, sizeof refused);
    ask(f, b, 1);
    f->now_ms += 29999;
    write_enable(f, b, refused, sizeof refused);
    write_enable(f, same, done, sizeof done);
    f->now_ms += 30000;
    write_enable(f, b, done, sizeof done);
    write_enable(f, a, refused, sizeof refused);
    assert_int_equal(f->counts->writes_accepted, 3);
    assert_int_equal(f->counts->writes_refused, 3);
    close(a);
    close(b);
    close(same);
}

static void hundreds_of_clients(void **state)
{
    enum { EXTRA = 3 };
    struct fixture *f = *state;
    int fd[CLIENTS], extra[EXTRA];
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 2 * CLIENTS + 64) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur < 2 * CLIENTS + 64)
        skip();
    for (unsigned i = 0; i < CLIENTS; i++) {
        fd[i] = client(f);
        if (i % 50 == 0)
            settle(f);
    }
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < CLIENTS; i++)
            ask(f, fd[i], i);
    assert_int_equal(f->counts->open, CLIENTS);

    for (unsigned i = 0; i < EXTRA; i++) {
        extra[i] = client(f);
        assert_true(is_closed(f, extra[i]));
        close(extra[i]);
    }
    assert_int_equal(f->counts->refused, EXTRA);
    for (unsigned i = 0; i < EXTRA; i++)
        close(fd[i * 100]);
    settle(f);
    for (unsigned i = 0; i < EXTRA; i++) {
        fd[i * 100] = client(f);
        ask(f, fd[i * 100], i);
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        close(fd[i]);
    settle(f);
    assert_int_equal(f->counts->open, 0);
    assert_int_equal(f->counts->accepted, CLIENTS + EXTRA);
}

static void connect_and_leave_leaks_nothing(void **state)
{
    struct fixture *f = *state;
    int before = dup(0);
    close(before);
    for (unsigned i = 0; i < 2000; i++) { /* C-49, A-22 */
        int fd = client(f);
        if (i % 3 == 0)
            ask(f, fd, i);
        else if (i % 3 == 1)
            put(fd, "x", 1);
        close(fd);
        if (i % 7 == 0)
            settle(f);
    }
    settle(f);
    int after = dup(0);
    close(after);
    assert_int_equal(after, before);
    assert_int_equal(f->counts->open, 0);
    assert_true(server_wake(f->s) == NEVER);
}

/* The server's end of FD: this process holds both. */
static int other_end(int fd)
{
    struct sockaddr_in ours, theirs;
    socklen_t size = sizeof ours;
    getsockname(fd, (struct sockaddr *)&ours, &size);
    for (int i = 3; i < 64; i++) {
        size = sizeof theirs;
        if (i != fd && getpeername(i, (struct sockaddr *)&theirs, &size) == 0 &&
            theirs.sin_port == ours.sin_port)
            return i;
    }
    return -1;
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;
    assert_int_equal(getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

static void socket_options(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    ask(f, fd, 1);
    int peer = other_end(fd);
    assert_true(peer >= 0);
    assert_int_equal(option(peer, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(option(peer, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(option(peer, IPPROTO_TCP, TCP_KEEPIDLE), 30);
    assert_int_equal(option(peer, IPPROTO_TCP, TCP_KEEPINTVL), 10);
    assert_int_equal(option(peer, IPPROTO_TCP, TCP_KEEPCNT), 3);
    assert_int_equal(option(peer, IPPROTO_TCP, TCP_USER_TIMEOUT), 20000);
    close(fd);
}

static void a_port_that_is_taken_is_explained(void **state)
{
    struct fixture *f = *state;
    struct server *second = NULL;
    char why[256] = "", port[16];
    unsigned taken = port_of(server_address(f->s, 0));
    f->listener[0].port = taken;
    snprintf(port, sizeof port, "port %u", taken);
    assert_int_equal(server_new(&second, &f->cfg, f->g, f->epoll, why, sizeof why),
                     ERR_SYSTEM);
    assert_null(second);
    print_message("%s\n", why);
    assert_non_null(strstr(why, "listener native"));
    assert_non_null(strstr(why, port));
    assert_non_null(strstr(why, "already in use"));
    assert_non_null(strstr(why, "set another port"));

    strcpy(f->listener[0].address, "::");
    assert_int_equal(server_new(&second, &f->cfg, f->g, f->epoll, why, sizeof why),
                     ERR_SYSTEM);
    assert_non_null(strstr(why, "already in use"));

    strcpy(f->listener[0].address, "192.0.2.77");
    assert_int_equal(server_new(&second, &f->cfg, f->g, f->epoll, why, sizeof why),
                     ERR_SYSTEM);
    print_message("%s\n", why);
    assert_non_null(strstr(why, "no network interface has this address"));
    int fd = client(f);
    ask(f, fd, 1); /* the first server goes on */
    close(fd);
}

static void restart_binds_at_once(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    ask(f, fd, 1);
    f->listener[0].port = port_of(server_address(f->s, 0));
    server_free(f->s); /* closes first: TIME_WAIT is on our side */
    f->s = NULL;
    serve(f);
    close(fd);
    fd = client(f);
    ask(f, fd, 2);
    close(fd);
}

/* Before anything else of the test takes the numbers a service manager uses. */
static int reserve(void **state)
{
    for (int fd = SYS_LISTEN_FIRST; fd < SYS_LISTEN_FIRST + 2; fd++)
        if (dup2(STDERR_FILENO, fd) < 0)
            return -1;
    return prepare(state);
}

/* Opens FD on loopback as a service manager does; returns its port. */
static unsigned open_for_service(int fd)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof addr;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(s, 8), 0);
    getsockname(s, (struct sockaddr *)&addr, &size);
    assert_int_equal(dup2(s, fd), fd);
    close(s);
    return ntohs(addr.sin_port);
}

/* As open_for_service(), on a port that is free on 127.0.0.2 as well: others run beside
 * us. */
static unsigned open_where_second_is_free(int fd)
{
    for (;;) {
        unsigned port = open_for_service(fd);
        struct sockaddr_in addr = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1)};
        int s = socket(AF_INET, SOCK_STREAM, 0);
        int bound = bind(s, (struct sockaddr *)&addr, sizeof addr);
        close(s);
        if (bound == 0)
            return port;
    }
}

static void hand_over(const char *fds)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", fds, 1);
}

/* Clients that connected before the gateway ran are served as well. */
static void a_socket_of_the_service_manager_is_used(void **state)
{
    struct fixture *f = *state;
    f->listener[0].port = open_for_service(SYS_LISTEN_FIRST + 1);
    unsigned other = open_for_service(SYS_LISTEN_FIRST);
    int early = connect_to(AF_INET, "127.0.0.1", f->listener[0].port);
    hand_over("2");
    serve(f);
    assert_int_equal(port_of(server_address(f->s, 0)), f->listener[0].port);
    assert_null(server_address(f->s, 1));
    ask(f, early, 1);
    int fd = client(f);
    ask(f, fd, 2);
    close(fd);
    close(early);
    assert_int_equal(connect_to(AF_INET, "127.0.0.1", other), -1); /* nobody's: closed */
}

/* Another address or port than the listener's is not it. */
static void a_socket_must_be_the_listeners(void **state)
{
    struct fixture *f = *state;
    char why[256];
    unsigned port = open_where_second_is_free(SYS_LISTEN_FIRST);
    strcpy(f->listener[0].address, "127.0.0.2");
    f->listener[0].port = port;
    hand_over("1");
    serve(f);
    assert_non_null(strstr(server_address(f->s, 0), "127.0.0.2:"));
    assert_int_equal(connect_to(AF_INET, "127.0.0.1", port), -1);

    /* The same on failure: nothing stays open. */
    struct server *second = NULL;
    port = open_for_service(SYS_LISTEN_FIRST);
    hand_over("1");
    assert_int_equal(server_new(&second, &f->cfg, f->g, f->epoll, why, sizeof why),
                     ERR_SYSTEM);
    assert_int_equal(connect_to(AF_INET, "127.0.0.1", port), -1);
}

static void stop_listening_keeps_connections(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
    ask(f, fd, 1);
    unsigned port = port_of(server_address(f->s, 0));
    server_stop_listening(f->s);
    assert_int_equal(connect_to(AF_INET, "127.0.0.1", port), -1);
    ask(f, fd, 2);
    assert_true(server_wake(f->s) == NEVER);
    close(fd);
}

/* no descriptors left.  The newcomer waits, nothing spins, others are served. */
static void out_of_descriptors(void **state)
{
    struct fixture *f = *state;
    struct rlimit limit, tight;
    int good = client(f);
    ask(f, good, 1);
    int late = client(f);
    uint8_t adu[READ_SIZE], answer[ANSWER_SIZE];
    read_request(adu, 2, 10);
    put(late, adu, sizeof adu);

    getrlimit(RLIMIT_NOFILE, &limit);
    tight = limit;
    tight.rlim_cur = (rlim_t)late + 1;
    setrlimit(RLIMIT_NOFILE, &tight);
    f->events = 0;
    settle(f);
    assert_int_equal(f->events, 1); /* and then it looks away */
    ask(f, good, 3);
    assert_true(server_wake(f->s) <= f->now_ms + 1000);

    f->now_ms = server_wake(f->s);
    f->events = 0;
    assert_false(wake_up(f, 0)); /* it listens again from here on */
    settle(f);                   /* and fails again, once */
    assert_int_equal(f->events, 1);
    setrlimit(RLIMIT_NOFILE, &limit);
    f->now_ms = server_wake(f->s);
    assert_true(get(f, late, answer, sizeof answer));
    assert_true(server_wake(f->s) == NEVER);
    close(good);
    close(late);
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_and_keeps_the_connection, start, stop),
        cmocka_unit_test_setup_teardown(one_event_per_request_and_none_when_idle, start,
                                        stop),
        cmocka_unit_test_setup_teardown(pipelined_requests_are_answered_in_order, start,
                                        stop),
        cmocka_unit_test_setup_teardown(answers_of_one_turn_leave_together, start, stop),
        cmocka_unit_test_setup_teardown(every_split_point, start, stop),
        cmocka_unit_test_setup_teardown(half_close_is_answered_before_we_close, start,
                                        stop),
        cmocka_unit_test_setup_teardown(fin_in_mid_frame_closes_at_once, start, stop),
        cmocka_unit_test_setup_teardown(broken_streams_are_closed, start, stop),
        cmocka_unit_test_setup_teardown(
            foreign_protocols_are_ignored_and_closed_the_third_time, start, stop),
        cmocka_unit_test_setup_teardown(a_frame_must_be_whole_in_a_second, start, stop),
        cmocka_unit_test_setup_teardown(a_slow_reader_gets_every_answer_in_order, start,
                                        stop),
        cmocka_unit_test_setup_teardown(who_takes_nothing_for_five_seconds_is_closed,
                                        start, stop),
        cmocka_unit_test_setup_teardown(a_reset_while_stalled_is_noticed, start, stop),
        cmocka_unit_test_setup_teardown(only_the_allow_list_gets_in, prepare, stop),
        cmocka_unit_test_setup_teardown(only_the_write_list_writes, prepare, stop),
        cmocka_unit_test_setup_teardown(both_families_reach_the_wildcard, prepare, stop),
        cmocka_unit_test_setup_teardown(who_is_idle_longest_makes_room, prepare, stop),
        cmocka_unit_test_setup_teardown(marked_clients_keep_their_place, prepare, stop),
        cmocka_unit_test_setup_teardown(marked_clients_are_served_first, prepare, stop),
        cmocka_unit_test_setup_teardown(the_first_writer_owns_the_circuit, prepare, stop),
        cmocka_unit_test_setup_teardown(hundreds_of_clients, start, stop),
        cmocka_unit_test_setup_teardown(connect_and_leave_leaks_nothing, start, stop),
        cmocka_unit_test_setup_teardown(socket_options, start, stop),
        cmocka_unit_test_setup_teardown(a_port_that_is_taken_is_explained, start, stop),
        cmocka_unit_test_setup_teardown(restart_binds_at_once, start, stop),
        cmocka_unit_test_setup_teardown(a_socket_of_the_service_manager_is_used, reserve,
                                        stop),
        cmocka_unit_test_setup_teardown(a_socket_must_be_the_listeners, reserve, stop),
        cmocka_unit_test_setup_teardown(stop_listening_keeps_connections, start, stop),
        cmocka_unit_test_setup_teardown(out_of_descriptors, start, stop),
    };
    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
