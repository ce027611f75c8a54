/* SPDX-License-Identifier: MIT
 * load - Modbus clients that keep a server busy, and what they saw.
 *
 *   load [OPTION]... PORT
 *     -c N    connections (1)
 *     -d N    requests each keeps on its way (1)
 *     -n N    registers of a read (10)
 *     -w N    writes of ten registers among 100 requests (0)
 *     -r N    open loop: N requests a second, whether or not the ones before are
 * answered, and latency counted from when each was due; else each answer is followed by
 *             the next request
 *     -t S    seconds (1), after a tenth of them as warm-up
 *     -p PID  the server: its CPU time is measured as well
 *     -s      and its system calls (Linux tracepoints, for root)
 *
 * Prints requests per second, the quantiles 50, 99, 99.9 and 100 % of the latency in us,
 * and per request the server's CPU time in us and its system calls; - is not known. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECTIONS_MAX = 4096,
    DEPTH_MAX = 16,
    SAMPLES_MAX = 16 * 1000 * 1000,
    THREADS_MAX = 64,
    HEADER = 6,
    ADU_MAX = 260,
    READ = 12,
    WRITTEN = 10, /* registers */
    WRITE = 13 + 2 * WRITTEN,
    READ_ADDRESS = 7100,
    WRITE_ADDRESS = 7200
};

struct client {
    int fd;
    uint16_t asked, answered; /* transactions */
    size_t got, out;
    uint64_t since_ns[DEPTH_MAX]; /* sent, or due */
    uint8_t in[ADU_MAX * DEPTH_MAX];
    uint8_t request[WRITE * DEPTH_MAX];
};

static size_t connections = 1, depth = 1, registers = 10, writes;
static double rate, seconds = 1;
static struct client *clients;
static uint32_t *latency_ns;
static size_t samples;
static int epoll;

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- requests ---- */

static bool is_write(uint16_t transaction)
{
    return transaction * 37u % 100 < writes;
}

static void put16(uint8_t *at, size_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static size_t read_request(uint8_t *at)
{
    at[5] = READ - HEADER;
    at[7] = 3;
    put16(at + 8, READ_ADDRESS);
    put16(at + 10, registers);
    return READ;
}

/* 7200 to 7209: charging, another power limit each time, no other limit. */
static size_t write_request(uint8_t *at, uint16_t transaction)
{
    const uint16_t values[WRITTEN] = {
        0, 1, 0, (uint16_t)(5000 + transaction % 1000), 0xffff, 0xffff, 0xffff, 0xffff};

    at[5] = WRITE - HEADER;
    at[7] = 16;
    put16(at + 8, WRITE_ADDRESS);
    put16(at + 10, WRITTEN);
    at[12] = 2 * WRITTEN;
    for (size_t i = 0; i < WRITTEN; i++)
        put16(at + 13 + 2 * i, values[i]);
    return WRITE;
}

/* Adds a request to those C sends next. */
static void ask(struct client *c, uint64_t since_ns)
{
    uint8_t *at = c->request + c->out;

    c->since_ns[c->asked++ % DEPTH_MAX] = since_ns;
    memset(at, 0, HEADER);
    put16(at, c->asked);
    at[6] = 1;
    c->out += is_write(c->asked) ? write_request(at, c->asked) : read_request(at);
}

static void send_requests(struct client *c)
{
    if (c->out > 0 && send(c->fd, c->request, c->out, MSG_NOSIGNAL) != (ssize_t)c->out)
        fail("send");
    c->out = 0;
}

/* ---- answers ---- */

/* It must be the one that belongs to the oldest request. */
static void take(struct client *c, const uint8_t *adu, size_t size, uint64_t now)
{
    uint64_t since_ns = c->since_ns[c->answered++ % DEPTH_MAX];
    bool write = is_write(c->answered);
    uint8_t id[2];

    put16(id, c->answered);
    errno = EPROTO;
    if (memcmp(adu, id, sizeof id) != 0 || adu[7] != (write ? 16 : 3) ||
        size != (write ? 12 : 9 + 2 * registers))
        fail("wrong answer");
    if (samples < SAMPLES_MAX)
        latency_ns[samples++] = (uint32_t)(now - since_ns);
}

static void receive(struct client *c)
{
    ssize_t n = recv(c->fd, c->in + c->got, sizeof c->in - c->got, 0);
    uint64_t now = now_ns();
    size_t at = 0, size;

    if (n <= 0)
        fail("connection lost");
    c->got += (size_t)n;
    for (; c->got - at >= HEADER && c->got - at >= (size = HEADER + c->in[at + 5]);
         at += size) {
        take(c, c->in + at, size, now);
        if (rate == 0)
            ask(c, now);
    }
    c->got -= at;
    memmove(c->in, c->in + at, c->got);
    send_requests(c);
}

/* ---- the server ---- */

/* A counter of system calls for each of its threads. */
static size_t trace(const char *pid, int fd[static THREADS_MAX])
{
    struct perf_event_attr event = {.type = PERF_TYPE_TRACEPOINT, .size = sizeof event};
    FILE *id = fopen("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id", "re");
    char path[64];
    size_t count = 0;

    if (!id || fscanf(id, "%llu", &event.config) != 1)
        return 0;
    fclose(id);
    snprintf(path, sizeof path, "/proc/%s/task", pid);
    DIR *tasks = opendir(path);
    for (struct dirent *task; tasks && count < THREADS_MAX && (task = readdir(tasks));)
        if (task->d_name[0] != '.')
            fd[count++] = (int)syscall(SYS_perf_event_open, &event,
                                       strtol(task->d_name, NULL, 10), -1, -1, 0);
    closedir(tasks);
    return count;
}

/* Negative: not known. */
static double system_calls(const int *fd, size_t count)
{
    double sum = count > 0 ? 0 : -1;

    for (size_t i = 0; i < count; i++) {
        uint64_t calls;
        if (read(fd[i], &calls, sizeof calls) != sizeof calls)
            return -1;
        sum += (double)calls;
    }
    return sum;
}

/* ---- the run ---- */

static void open_client(struct client *c, uint16_t port)
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

/* Open loop: sends what is due until NOW; returns when the next one is. */
static uint64_t send_due(uint64_t start, uint64_t now)
{
    static uint64_t count;

    for (;; count++) {
        uint64_t due = start + (uint64_t)((double)count * 1e9 / rate);
        struct client *c = &clients[count % connections];

        if (due > now || (uint16_t)(c->asked - c->answered) == DEPTH_MAX)
            return due;
        ask(c, due);
        send_requests(c);
    }
}

/* Until END; START: of the schedule. */
static uint64_t run(uint64_t start, uint64_t end)
{
    uint64_t now;

    while ((now = now_ns()) < end) {
        uint64_t next = rate > 0 ? send_due(start, now) : now + 5000000000;
        uint64_t wait = next > now ? next - now : 0;
        struct timespec t = {(time_t)(wait / 1000000000), (long)(wait % 1000000000)};
        struct epoll_event events[64];
        int n = epoll_pwait2(epoll, events, 64, &t, NULL);

        errno = ETIMEDOUT;
        if (n <= 0 && rate == 0)
            fail("no answer for 5 s");
        for (int i = 0; i < n; i++)
            receive(events[i].data.ptr);
    }
    return now;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void print_quantile(double q)
{
    printf(" %.1f", latency_ns[(size_t)(q * (double)(samples - 1))] / 1000.0);
}

static void print_per_request(double sum)
{
    if (sum < 0)
        fputs(" -", stdout);
    else
        printf(" %.3f", sum / (double)samples);
}

int main(int argc, char **argv)
{
    const char *pid = NULL;
    bool traced = false;
    int option, counter[THREADS_MAX];
    struct rlimit files = {CONNECTIONS_MAX + 64, CONNECTIONS_MAX + 64};
    clockid_t cpu = 0;

    while ((option = getopt(argc, argv, "c:d:n:w:r:t:p:s")) != -1) {
        switch (option) {
        case 'c':
            connections = strtoul(optarg, NULL, 10);
            break;
        case 'd':
            depth = strtoul(optarg, NULL, 10);
            break;
        case 'n':
            registers = strtoul(optarg, NULL, 10);
            break;
        case 'w':
            writes = strtoul(optarg, NULL, 10);
            break;
        case 'r':
            rate = strtod(optarg, NULL);
            break;
        case 't':
            seconds = strtod(optarg, NULL);
            break;
        case 'p':
            pid = optarg;
            break;
        case 's':
            traced = true;
            break;
        default:
            return 2;
        }
    }
    if (optind != argc - 1 || connections < 1 || connections > CONNECTIONS_MAX ||
        depth < 1 || depth > DEPTH_MAX || registers < 1 || registers > 125 ||
        (pid && clock_getcpuclockid((pid_t)strtol(pid, NULL, 10), &cpu) != 0)) {
        fprintf(stderr, "load: the options are explained in load.c\n");
        return 2;
    }
    setrlimit(RLIMIT_NOFILE, &files);
    clients = calloc(connections, sizeof *clients);
    latency_ns = calloc(SAMPLES_MAX, sizeof *latency_ns);
    epoll = epoll_create1(0);
    if (!clients || !latency_ns || epoll < 0)
        fail("start");
    for (size_t i = 0; i < connections; i++)
        open_client(&clients[i], (uint16_t)strtoul(argv[optind], NULL, 10));

    uint64_t start = now_ns(), middle, end;
    for (size_t i = 0; rate == 0 && i < connections; i++) {
        for (size_t k = 0; k < depth; k++)
            ask(&clients[i], start);
        send_requests(&clients[i]);
    }
    middle = run(start, start + (uint64_t)(seconds * 1e8));
    samples = 0;
    size_t counters = traced && pid ? trace(pid, counter) : 0;
    uint64_t cpu_ns = pid ? clock_ns(cpu) : 0;
    end = run(start, middle + (uint64_t)(seconds * 1e9));
    cpu_ns = pid ? clock_ns(cpu) - cpu_ns : 0;
    double calls = system_calls(counter, counters);

    if (samples == 0) {
        errno = ETIMEDOUT;
        fail("no answer");
    }
    qsort(latency_ns, samples, sizeof latency_ns[0], ascending);
    printf("%.0f", (double)samples * 1e9 / (double)(end - middle));
    print_quantile(0.5);
    print_quantile(0.99);
    print_quantile(0.999);
    print_quantile(1);
    print_per_request(pid ? (double)cpu_ns / 1000 : -1);
    print_per_request(calls);
    putchar('\n');
    return 0;
}
