/* SPDX-License-Identifier: MIT */
#include "evecc/server.h"

#include "evecc/log.h"
#include "evecc/sys.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <modbus/modbus.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TURN_BYTES = 4096,        /* read from one client before the next one's turn */
    ANSWERS_MAX = 8192,       /* a client may leave untaken */
    FRAME_DEADLINE_MS = 1000, /* from the first byte of a frame to its last */
    STALL_DEADLINE_MS = 5000, /* without taking a byte of its answers */
    FOREIGN_MAX = 3,          /* frames of another protocol */
    ACCEPTS_PER_TURN = 64,
    ACCEPT_PAUSE_MS = 250,  /* while there are no descriptors or memory left */
    LOG_INTERVAL_MS = 1000, /* per circuit */
    REFUSE_LOG_MS = 10000,
    SOCKETS_MAX = 2 * CONFIG_LISTENERS_MAX,     /* "::" may take one for each family */
    HOST_TEXT = INET6_ADDRSTRLEN + IF_NAMESIZE, /* fe80::1%eth0 */
    PORT_TEXT = 6,
    ADDRESS_TEXT = HOST_TEXT + PORT_TEXT + 3 /* [host]:port */
};

/* Keepalive as C-45: a peer that vanished is gone within a minute. */
enum { KEEP_IDLE_S = 30, KEEP_INTERVAL_S = 10, KEEP_PROBES = 3, USER_TIMEOUT_MS = 20000 };

/* What epoll hands back; the first member of what it stands for. */
struct source {
    int fd; /* -1: closed */
    bool listens;
};

struct listener {
    struct source source;
    struct acl allow, write;
    uint64_t resume_at_ms; /* NEVER: it accepts */
    char address[ADDRESS_TEXT];
};

/* What a client that does not take its answers leaves behind: exists only that long. */
struct backlog {
    size_t sent, answers; /* answer[sent..answers) still has to leave */
    size_t requests;      /* bytes of request[], received and not yet answered */
    uint8_t answer[ANSWERS_MAX];
    uint8_t request[MBAP_ADU_MAX + TURN_BYTES];
};

TAILQ_HEAD(clients, client);

struct client {
    struct source source;
    bool may_write;
    uint8_t foreign;      /* frames of another protocol so far */
    uint16_t held;        /* bytes of an unfinished frame in part[] */
    uint64_t due_ms;      /* closed then; meaningful in a list */
    struct clients *list; /* late or stalled; NULL: nothing is due */
    struct backlog *backlog;
    TAILQ_ENTRY(client) entry;
    uint8_t part[MBAP_ADU_MAX];
};

struct server {
    int epoll;
    struct gateway *gateway;
    struct modbus_counts *counts;
    struct listener listener[SOCKETS_MAX];
    size_t listeners;
    unsigned inherited; /* sockets from SYS_LISTEN_FIRST on, until server_new() returns */

    /* One deadline each, so both lists stay in the order of due_ms by appending: whoever
     * is due stands in front, and nobody has to look for it. */
    struct clients unfinished, stalled;
    struct clients
        closed; /* in this wake-up: events for them may still be on their way */
    struct clients unused;
    size_t used; /* of client[]; the rest was never touched and takes no memory */

    struct log_limit *setpoint_log; /* per circuit */
    struct log_limit refuse_log, accept_log;

    /* One turn of one client. */
    size_t answers;
    uint8_t request[MBAP_ADU_MAX + TURN_BYTES];
    uint8_t answer[ANSWERS_MAX];

    struct client client[SERVER_CLIENTS_MAX];
};

/* Read once per wake-up. */
struct moment {
    uint64_t now_ms, unix_s;
};

/* "192.0.2.1:502" or "[2001:db8::1]:502"; IPv4 on an IPv6 socket is shown as IPv4. */
static const char *address_text(const struct sockaddr_storage *addr,
                                char ret[static ADDRESS_TEXT])
{
    char host[HOST_TEXT] = "?", port[PORT_TEXT] = "?";
    getnameinfo((const struct sockaddr *)addr, sizeof *addr, host, sizeof host, port,
                sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    const char *v4 = strncmp(host, "::ffff:", 7) == 0 ? host + 7 : host;
    snprintf(ret, ADDRESS_TEXT, strchr(v4, ':') ? "[%s]:%s" : "%s:%s", v4, port);
    return ret;
}

/* Clients: when they are closed */

static void unwatch(struct client *c)
{
    if (c->list)
        TAILQ_REMOVE(c->list, c, entry);
    c->list = NULL;
}

static void watch(struct client *c, struct clients *list, uint64_t due_ms)
{
    unwatch(c);
    c->due_ms = due_ms;
    c->list = list;
    TAILQ_INSERT_TAIL(list, c, entry);
}

static void close_client(struct server *s, struct client *c)
{
    if (c->source.fd < 0)
        return;
    unwatch(c);
    close(c->source.fd);
    c->source.fd = -1;
    free(c->backlog);
    c->backlog = NULL;
    s->counts->open--;
    TAILQ_INSERT_TAIL(&s->closed, c, entry);
}

static struct client *new_client(struct server *s)
{
    struct client *c = TAILQ_FIRST(&s->unused);
    if (c)
        TAILQ_REMOVE(&s->unused, c, entry);
    else if (s->used < SERVER_CLIENTS_MAX)
        c = &s->client[s->used++];
    return c;
}

/* Answers */

static bool same_setpoint(const struct want *a, const struct want *b)
{
    return a->power_w == b->power_w && a->current_da == b->current_da &&
           memcmp(a->phase_da, b->phase_da, sizeof a->phase_da) == 0 &&
           a->phase_mode == b->phase_mode && a->enable == b->enable;
}

/* "7400" or "none". */
static const char *limit_text(uint32_t value, uint32_t none, char ret[static 12])
{
    if (value == none)
        return "none";
    snprintf(ret, 12, "%u", value);
    return ret;
}

/* Who changed a setpoint, from what, to what. */
static void log_setpoint(struct server *s, const struct client *c,
                         const struct gateway_report *r, uint64_t now_ms)
{
    uint32_t missed;
    if (!log_limit_pass(&s->setpoint_log[r->circuit], LOG_INTERVAL_MS, now_ms, &missed))
        return;

    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    char who[ADDRESS_TEXT], was_w[12], is_w[12], was_da[12], is_da[12];
    getpeername(c->source.fd, (struct sockaddr *)&peer, &size);
    log_info("setpoint changed circuit=%zu peer=%s power_w=%s->%s current_da=%s->%s "
             "enable=%d->%d phase_mode=%u->%u missed=%u",
             r->circuit + 1, address_text(&peer, who),
             limit_text(r->before.power_w, NA_U32, was_w),
             limit_text(r->after.power_w, NA_U32, is_w),
             limit_text(r->before.current_da, NA_U16, was_da),
             limit_text(r->after.current_da, NA_U16, is_da), r->before.enable,
             r->after.enable, r->before.phase_mode, r->after.phase_mode, missed);
}

static void answer(struct server *s, struct client *c, const uint8_t *adu, size_t size,
                   const struct moment *at)
{
    struct gateway_report report;
    s->answers += gateway_answer(s->gateway, adu, size, c->may_write, at->now_ms,
                                 at->unix_s, s->answer + s->answers, &report);
    if (report.wrote && !same_setpoint(&report.before, &report.after))
        log_setpoint(s, c, &report, at->now_ms);
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static bool listen_for(struct server *s, int op, struct source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(s->epoll, op, source->fd, &event) == 0;
}

/* Keeps the SIZE bytes of ANSWER that C did not take; until it has, it is not read. */
static void stall(struct server *s, struct client *c, const uint8_t *answer_left,
                  size_t size, uint64_t now_ms)
{
    struct backlog *b = malloc(sizeof *b);
    if (!b || !listen_for(s, EPOLL_CTL_MOD, &c->source, EPOLLOUT)) {
        free(b);
        close_client(s, c);
        return;
    }
    b->sent = 0;
    b->answers = size;
    b->requests = 0;
    memcpy(b->answer, answer_left, size);
    c->backlog = b;
    watch(c, &s->stalled, now_ms + STALL_DEADLINE_MS);
}

/* Sends the answers of this turn.  False: C takes no more for now, or is closed. */
static bool flush(struct server *s, struct client *c, uint64_t now_ms)
{
    size_t size = s->answers;
    s->answers = 0;
    if (size == 0)
        return true;
    ssize_t sent = send(c->source.fd, s->answer, size, MSG_NOSIGNAL);
    if (sent == (ssize_t)size)
        return true;
    if (sent < 0 && !would_block()) {
        close_client(s, c);
        return false;
    }
    size_t taken = sent < 0 ? 0 : (size_t)sent;
    stall(s, c, s->answer + taken, size - taken, now_ms);
    return false;
}

/* Answers what is whole among the first N bytes of s->request and sends it.  Stops when C
 * takes no more.  Returns how many bytes are dealt with. */
static size_t answer_frames(struct server *s, struct client *c, size_t n,
                            const struct moment *at)
{
    size_t done = 0, size;
    for (;;) {
        enum mbap_verdict verdict = mbap_next(s->request + done, n - done, &size);
        if (verdict == MBAP_MORE) {
            flush(s, c, at->now_ms);
            return done;
        }
        if (verdict == MBAP_SKIP && ++c->foreign >= FOREIGN_MAX)
            verdict = MBAP_BROKEN;
        if (verdict == MBAP_BROKEN) {
            flush(s, c, at->now_ms); /* requests before it were good */
            close_client(s, c);
            return done;
        }
        if (verdict == MBAP_FRAME)
            answer(s, c, s->request + done, size, at);
        done += size;
        if (s->answers > ANSWERS_MAX - MBAP_ADU_MAX && !flush(s, c, at->now_ms))
            return done;
    }
}

/* One turn of C: s->request holds N bytes, what it had kept before and what came. */
static void serve(struct server *s, struct client *c, size_t n, const struct moment *at)
{
    size_t held = c->held;
    size_t done = answer_frames(s, c, n, at);
    const uint8_t *rest = s->request + done;

    c->held = 0;
    n -= done;
    if (c->source.fd < 0)
        return;
    if (c->backlog) {
        memcpy(c->backlog->request, rest, n);
        c->backlog->requests = n;
        return;
    }
    assert(n < MBAP_ADU_MAX); /* mbap_next() finds a longer one whole or broken */
    memcpy(c->part, rest, n);
    c->held = (uint16_t)n;
    if (n == 0)
        unwatch(c);
    else if (done > 0 || held == 0) /* a frame that has begun in this turn */
        watch(c, &s->unfinished, at->now_ms + FRAME_DEADLINE_MS);
}

static void receive(struct server *s, struct client *c, const struct moment *at)
{
    memcpy(s->request, c->part, c->held);
    ssize_t got = recv(c->source.fd, s->request + c->held, TURN_BYTES, 0);
    if (got > 0)
        serve(s, c, c->held + (size_t)got, at);
    else if (got == 0 || !would_block())
        close_client(s, c); /* whatever came before its FIN has been answered */
}

/* C takes answers again.  Once it has them all, goes on with the requests left over. */
static void drain(struct server *s, struct client *c, const struct moment *at)
{
    struct backlog *b = c->backlog;
    ssize_t sent =
        send(c->source.fd, b->answer + b->sent, b->answers - b->sent, MSG_NOSIGNAL);
    if (sent < 0) {
        if (!would_block())
            close_client(s, c);
        return;
    }
    b->sent += (size_t)sent;
    if (b->sent < b->answers) {
        watch(c, &s->stalled, at->now_ms + STALL_DEADLINE_MS);
        return;
    }
    if (!listen_for(s, EPOLL_CTL_MOD, &c->source, EPOLLIN)) {
        close_client(s, c);
        return;
    }
    size_t n = b->requests;
    memcpy(s->request, b->request, n);
    unwatch(c);
    c->backlog = NULL;
    free(b);
    serve(s, c, n, at);
}

/* Newcomers */

static void refuse(struct server *s, const struct sockaddr_storage *peer, const char *why,
                   uint64_t now_ms)
{
    uint32_t missed;
    char who[ADDRESS_TEXT];
    s->counts->refused++;
    if (log_limit_pass(&s->refuse_log, REFUSE_LOG_MS, now_ms, &missed))
        log_info("connection refused peer=%s why=\"%s\" missed=%u",
                 address_text(peer, who), why, missed);
}

/* Why a connection from PEER is not served; NULL: RET will serve FD. */
static const char *admit(struct server *s, const struct listener *l, int fd,
                         const struct sockaddr_storage *peer)
{
    if (!acl_allows(&l->allow, (const struct sockaddr *)peer))
        return "not in the allow list";
    struct client *c = new_client(s);
    if (!c)
        return "too many connections";
    *c = (struct client){.source.fd = fd,
                         .may_write =
                             acl_allows(&l->write, (const struct sockaddr *)peer)};
    if (!listen_for(s, EPOLL_CTL_ADD, &c->source, EPOLLIN)) {
        c->source.fd = -1;
        TAILQ_INSERT_HEAD(&s->unused, c, entry);
        return "no memory";
    }
    return NULL;
}

/* Nothing can be accepted for want of descriptors or memory, and the listener would
 * report it again at once: look away for a moment. */
static void pause_listener(struct server *s, struct listener *l, uint64_t now_ms)
{
    uint32_t missed;
    if (log_limit_pass(&s->accept_log, REFUSE_LOG_MS, now_ms, &missed))
        log_warning("connections cannot be accepted listener=%s error=\"%s\" missed=%u",
                    l->address, strerror(errno), missed);
    listen_for(s, EPOLL_CTL_MOD, &l->source, 0);
    l->resume_at_ms = now_ms + ACCEPT_PAUSE_MS;
}

static void accept_clients(struct server *s, struct listener *l, uint64_t now_ms)
{
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof peer;
        int fd = accept4(l->source.fd, (struct sockaddr *)&peer, &size,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && errno == ECONNABORTED)
            continue;
        if (fd < 0) {
            if (!would_block())
                pause_listener(s, l, now_ms);
            return;
        }
        const char *why_not = admit(s, l, fd, &peer);
        if (why_not) {
            close(fd);
            refuse(s, &peer, why_not, now_ms);
        } else {
            s->counts->accepted++;
            s->counts->open++;
        }
    }
}

/* Listeners */

/* "[::]:502": what FD listens on, "?:?" when it does not. */
static const char *listening_text(int fd, char ret[static ADDRESS_TEXT])
{
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof bound, flag_size = sizeof(int);
    int listens = 0;
    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &flag_size);
    if (listens)
        getsockname(fd, (struct sockaddr *)&bound, &size);
    return address_text(&bound, ret);
}

/* The socket the service manager has opened at NODE and SERVICE, -1: none. */
static int inherited_at(const struct server *s, const char *node, const char *service)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *info;
    struct sockaddr_storage addr = {0};
    char wanted[ADDRESS_TEXT], has[ADDRESS_TEXT];

    if (s->inherited == 0 || getaddrinfo(node, service, &hints, &info) != 0)
        return -1;
    memcpy(&addr, info->ai_addr, info->ai_addrlen);
    freeaddrinfo(info);
    address_text(&addr, wanted);
    for (int fd = SYS_LISTEN_FIRST; fd < SYS_LISTEN_FIRST + (int)s->inherited; fd++)
        if (strcmp(listening_text(fd, has), wanted) == 0)
            return fd;
    return -1;
}

/* True: one of our listeners has FD. */
static bool is_used(const struct server *s, int fd)
{
    for (size_t i = 0; i < s->listeners; i++)
        if (s->listener[i].source.fd == fd)
            return true;
    return false;
}

/* Clients of a socket nobody serves would be connected and never answered. */
static void close_unused(struct server *s)
{
    char address[ADDRESS_TEXT];
    for (int fd = SYS_LISTEN_FIRST; fd < SYS_LISTEN_FIRST + (int)s->inherited; fd++)
        if (!is_used(s, fd)) {
            log_warning(
                "socket of the service manager belongs to no listener address=%s: "
                "make eveccd.socket and the configuration agree",
                listening_text(fd, address));
            close(fd);
        }
    s->inherited = 0;
}

static int listen_tcp(const struct server *s, const char *node, unsigned port)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port & 0xffff);
    int ready = inherited_at(s, node, service);
    if (ready >= 0)
        return ready;
    modbus_t *ctx = modbus_new_tcp_pi(node, service);
    if (!ctx)
        return -1;
    int fd = modbus_tcp_pi_listen(ctx, SOMAXCONN);
    int error = errno;
    modbus_free(ctx);
    errno = error;
    return fd;
}

/* Accepted sockets inherit these from FD, at no cost per connection. */
static bool set_options(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY,      1              },
        {SOL_SOCKET,  SO_KEEPALIVE,     1              },
        {IPPROTO_TCP, TCP_KEEPIDLE,     KEEP_IDLE_S    },
        {IPPROTO_TCP, TCP_KEEPINTVL,    KEEP_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT,      KEEP_PROBES    },
        {IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                       sizeof options[i].value) != 0)
            return false;
    return fcntl(fd, F_SETFL, O_NONBLOCK) == 0; /* SO_REUSEADDR, CLOEXEC: libmodbus */
}

/* Takes FD. */
static bool add_listener(struct server *s, int fd, const struct config_listener *cfg)
{
    struct listener *l = &s->listener[s->listeners];
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof bound;

    assert(s->listeners < SOCKETS_MAX);
    *l = (struct listener){
        .source = {.fd = fd, .listens = true},
        .allow = cfg->allow,
        .write = cfg->write,
        .resume_at_ms = NEVER
    };
    if (!set_options(fd) || getsockname(fd, (struct sockaddr *)&bound, &size) != 0 ||
        !listen_for(s, EPOLL_CTL_ADD, &l->source, EPOLLIN)) {
        int error = errno;
        close(fd);
        errno = error;
        return false;
    }
    address_text(&bound, l->address);
    s->listeners++;
    return true;
}

static unsigned port_of(int fd)
{
    struct sockaddr_in6 bound = {0};
    socklen_t size = sizeof bound;
    getsockname(fd, (struct sockaddr *)&bound, &size);
    return ntohs(bound.sin6_port);
}

static bool is_v6_only(int fd)
{
    int only = 0;
    socklen_t size = sizeof only;
    getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &size);
    return only != 0;
}

/* "::" means every address of both families.  libmodbus opens one socket: an IPv6 one
 * that also takes IPv4, unless the system says otherwise (net.ipv6.bindv6only); and none
 * at all (ECONNREFUSED) where no interface but the loopback has an IPv6 address, because
 * it asks getaddrinfo() for AI_ADDRCONFIG.  In both cases IPv4 gets a socket of its own.
 */
static bool open_everywhere(struct server *s, const struct config_listener *cfg)
{
    unsigned port = cfg->port;
    int fd = listen_tcp(s, cfg->address, port);
    bool v6 = fd >= 0;
    if (!v6 && (errno == EADDRINUSE || errno == EACCES))
        return false;
    if (v6) {
        bool both = !is_v6_only(fd);
        port = port_of(fd);
        if (!add_listener(s, fd, cfg))
            return false;
        if (both)
            return true;
    }
    fd = listen_tcp(s, "0.0.0.0", port);
    if (fd < 0)
        return v6 && errno == ECONNREFUSED; /* no IPv4 here */
    return add_listener(s, fd, cfg);
}

static bool open_listener(struct server *s, const struct config_listener *cfg)
{
    struct in6_addr addr;
    if (inet_pton(AF_INET6, cfg->address, &addr) == 1 && IN6_IS_ADDR_UNSPECIFIED(&addr))
        return open_everywhere(s, cfg);
    int fd = listen_tcp(s, cfg->address, cfg->port);
    return fd >= 0 && add_listener(s, fd, cfg);
}

static void explain(const struct config_listener *cfg, int error, char *why,
                    size_t why_size)
{
    const char *text = strerror(error), *remedy = "check the options address and port";
    switch (error) {
    case EADDRINUSE:
        remedy = "another program has this port: stop it, or set another port";
        break;
    case EACCES:
        remedy =
            "ports below 1024 are opened by eveccd.socket: make it active, and name the "
            "same address and port in it; or set a higher port";
        break;
    case EADDRNOTAVAIL:
    case ECONNREFUSED: /* getaddrinfo() failed in libmodbus */
        text = "no network interface has this address";
        remedy = "correct the option address; :: is every address";
        break;
    }
    snprintf(why, why_size, "listener %s: cannot listen on address %s port %u: %s; %s",
             cfg->name, cfg->address, (unsigned)cfg->port, text, remedy);
}

/* The life of the server */

enum err server_new(struct server **ret, const struct config *cfg,
                    struct gateway *gateway, int epoll, char *why, size_t why_size)
{
    struct server *s = calloc(1, sizeof *s);
    if (s)
        s->setpoint_log = calloc(cfg->circuits, sizeof *s->setpoint_log);
    if (!s || !s->setpoint_log) {
        free(s);
        snprintf(why, why_size, "no memory for the Modbus server");
        return ERR_SYSTEM;
    }
    s->epoll = epoll;
    s->gateway = gateway;
    s->counts = gateway_counts(gateway);
    TAILQ_INIT(&s->unfinished);
    TAILQ_INIT(&s->stalled);
    TAILQ_INIT(&s->closed);
    TAILQ_INIT(&s->unused);
    s->inherited = sys_listen_fds();
    for (size_t i = 0; i < cfg->listeners; i++)
        if (!open_listener(s, &cfg->listener[i])) {
            explain(&cfg->listener[i], errno, why, why_size);
            close_unused(s);
            server_free(s);
            return ERR_SYSTEM;
        }
    close_unused(s);
    *ret = s;
    return ERR_OK;
}

void server_stop_listening(struct server *s)
{
    for (size_t i = 0; i < s->listeners; i++) {
        struct listener *l = &s->listener[i];
        if (l->source.fd >= 0)
            close(l->source.fd);
        l->source.fd = -1;
        l->resume_at_ms = NEVER;
    }
}

void server_free(struct server *s)
{
    if (!s)
        return;
    server_stop_listening(s);
    for (size_t i = 0; i < s->used; i++)
        if (s->client[i].source.fd >= 0)
            close_client(s, &s->client[i]);
    free(s->setpoint_log);
    free(s);
}

void server_event(struct server *s, void *ptr, uint32_t events, uint64_t now_ms,
                  uint64_t unix_s)
{
    struct source *source = ptr;
    const struct moment at = {.now_ms = now_ms, .unix_s = unix_s};

    (void)events; /* a reset or a hang-up shows when we read or send */
    if (source->fd < 0)
        return; /* closed by an event before this one */
    if (source->listens) {
        accept_clients(s, ptr, now_ms);
        return;
    }
    struct client *c = ptr;
    if (c->backlog)
        drain(s, c, &at);
    else
        receive(s, c, &at);
}

static void close_due(struct server *s, struct clients *list, uint64_t now_ms)
{
    struct client *c;
    while ((c = TAILQ_FIRST(list)) && c->due_ms <= now_ms)
        close_client(s, c);
}

void server_tick(struct server *s, uint64_t now_ms)
{
    close_due(s, &s->unfinished, now_ms);
    close_due(s, &s->stalled, now_ms);
    TAILQ_CONCAT(&s->unused, &s->closed, entry); /* no event can name them any more */
    for (size_t i = 0; i < s->listeners; i++) {
        struct listener *l = &s->listener[i];
        if (l->resume_at_ms <= now_ms) {
            l->resume_at_ms = NEVER;
            listen_for(s, EPOLL_CTL_MOD, &l->source, EPOLLIN);
        }
    }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t server_wake(const struct server *s)
{
    const struct client *unfinished = TAILQ_FIRST(&s->unfinished);
    const struct client *stalled = TAILQ_FIRST(&s->stalled);
    uint64_t wake = NEVER;
    if (unfinished)
        wake = earlier(wake, unfinished->due_ms);
    if (stalled)
        wake = earlier(wake, stalled->due_ms);
    for (size_t i = 0; i < s->listeners; i++)
        wake = earlier(wake, s->listener[i].resume_at_ms);
    return wake;
}

const char *server_address(const struct server *s, size_t i)
{
    return i < s->listeners ? s->listener[i].address : NULL;
}
