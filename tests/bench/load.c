/* SPDX-License-Identifier: MIT
 * load - a closed loop of Modbus clients: each reads ten registers, waits for the answer,
 * and asks again.
 *
 *   load PORT CONNECTIONS SECONDS ADDRESS
 *
 * Prints requests per second and the quantiles 50, 99, 99.9 and 100 % of the latency in
 * us. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

enum {
    CONNECTIONS_MAX = 1000,
    SAMPLES_MAX = 8 * 1000 * 1000, /* more than a second of any server here, times ten */
    REGISTERS = 10,
    REQUEST = 12,
    ANSWER = 9 + 2 * REGISTERS
};

struct client {
    int fd;
    uint16_t transaction;
    size_t got;
    uint64_t sent_ns;
    uint8_t answer[ANSWER];
};

static struct client clients[CONNECTIONS_MAX];
static uint32_t latency_ns[SAMPLES_MAX];
static size_t samples;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void ask(struct client *c, uint16_t address)
{
    uint8_t request[REQUEST] = {[5] = 6, [6] = 1, [7] = 3, [11] = REGISTERS};

    c->transaction++;
    request[0] = (uint8_t)(c->transaction >> 8);
    request[1] = (uint8_t)c->transaction;
    request[8] = (uint8_t)(address >> 8);
    request[9] = (uint8_t)address;
    c->got = 0;
    c->sent_ns = now_ns();
    if (send(c->fd, request, sizeof request, MSG_NOSIGNAL) != sizeof request)
        fail("send");
}

/* True when the answer is whole; it must be the one that belongs to the request. */
static bool answered(struct client *c)
{
    ssize_t n = recv(c->fd, c->answer + c->got, ANSWER - c->got, 0);

    if (n <= 0)
        fail("connection lost");
    c->got += (size_t)n;
    if (c->got < ANSWER)
        return false;
    if (c->answer[0] != c->transaction >> 8 || c->answer[1] != (uint8_t)c->transaction ||
        c->answer[7] != 3 || c->answer[8] != 2 * REGISTERS) {
        errno = EPROTO;
        fail("wrong answer");
    }
    return true;
}

static void open_client(struct client *c, uint16_t port, int epoll)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int on = 1;

    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0)
        fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) != 0)
        fail("epoll_ctl");
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static double quantile_us(double q)
{
    return latency_ns[(size_t)(q * (double)(samples - 1))] / 1000.0;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: load PORT CONNECTIONS SECONDS ADDRESS\n");
        return 2;
    }
    uint16_t port = (uint16_t)strtoul(argv[1], NULL, 10);
    size_t connections = strtoul(argv[2], NULL, 10);
    double seconds = strtod(argv[3], NULL);
    uint16_t address = (uint16_t)strtoul(argv[4], NULL, 10);
    int epoll = epoll_create1(0);

    if (connections < 1 || connections > CONNECTIONS_MAX) {
        fprintf(stderr, "load: 1 to %d connections\n", CONNECTIONS_MAX);
        return 2;
    }
    for (size_t i = 0; i < connections; i++)
        open_client(&clients[i], port, epoll);

    uint64_t start_ns = now_ns(), end_ns = start_ns + (uint64_t)(seconds * 1e9),
             now = start_ns;
    for (size_t i = 0; i < connections; i++)
        ask(&clients[i], address);
    while (now < end_ns) {
        struct epoll_event events[64];
        int n = epoll_wait(epoll, events, 64, 5000);

        if (n <= 0) {
            errno = ETIMEDOUT;
            fail("no answer for 5 s");
        }
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;

            if (!answered(c))
                continue;
            now = now_ns();
            if (samples < SAMPLES_MAX)
                latency_ns[samples++] = (uint32_t)(now - c->sent_ns);
            ask(c, address);
        }
    }
    qsort(latency_ns, samples, sizeof latency_ns[0], ascending);
    printf("%.0f %.1f %.1f %.1f %.1f\n", (double)samples * 1e9 / (double)(now - start_ns),
           quantile_us(0.5), quantile_us(0.99), quantile_us(0.999), quantile_us(1));
    return 0;
}
