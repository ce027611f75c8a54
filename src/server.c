/* SPDX-License-Identifier: MIT */
#include "evecc/server.h"

#include "evecc/instant.h"
#include "evecc/log.h"
#include "evecc/net.h"
#include "evecc/pool.h"
#include "evecc/sys.h"
#include "evecc/writers.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TURN_BYTES = 1024, /* read from one client before the next one's turn: 85 requests,
                          answered by 22 KB at most */
    QUEUE_MAX = 64 * 1024,
    FOREIGN_MAX = 3, /* frames of another protocol */
    ACCEPTS_PER_TURN = 16,
    MARKED_SHARE = 64, /* requests and newcomers of others before marked clients are
                          looked after */
    MARKED_EVENTS = 64,
    STALL_LOOKS = 5,       /* at a client that takes no answers, before it is closed */
    ACCEPT_PAUSE_MS = 250, /* while there are no descriptors or memory left */
    REFUSE_LOG_MS = 10000,
    RESERVED_DESCRIPTORS = 40, /* the cloud's side (16 calls and the stream), files, and
                                  the newcomer who is refused */
    SOCKETS_MAX = NET_SOCKETS_MAX * CONFIG_LISTENERS_MAX
};

/* What epoll hands back; the first member of what it stands for. */
struct source {
    int fd; /* -1: closed */
    enum { LISTENER, CLIENT, MARKED } kind;
};

TAILQ_HEAD(clients, client);

/* One [listener NAME]: its options and its clients. */
struct service {
    struct acl allow, write, priority;
    size_t queue; /* bytes of answers a client may leave untaken */
    uint32_t frame_ms, look_ms;
    struct pool pool;
    /* One deadline each, so both lists stay in the order of due_ms by appending: whoever
     * is due stands in front, and nobody has to look for it. */
    struct clients unfinished, stalled;
};

struct listener {
    struct source source;
    struct service *service;
    uint64_t resume_at_ms; /* NEVER: it accepts */
    char address[NET_TEXT];
};

/* What a client that does not take its answers leaves behind: exists only that long. */
struct backlog {
    size_t sent, answers; /* answer[sent..answers) still has to leave */
    size_t requests;      /* bytes of request[], received and not yet answered */
    int in_kernel;        /* bytes of answers there when the client was last looked at */
    unsigned unmoved;     /* looks since they became less */
    uint8_t request[MBAP_ADU_MAX + TURN_BYTES];
    uint8_t answer[];
};

struct client {
    struct source source;
    bool may_write;
    uint8_t foreign; /* frames of another protocol so far */
    uint16_t held;   /* bytes of an unfinished frame in part[] */
    struct service *service;
    struct pool_member member;
    uint64_t due_ms;      /* closed then; meaningful in a list */
    struct clients *list; /* late or stalled; NULL: nothing is due */
    struct backlog *backlog;
    TAILQ_ENTRY(client) entry;
    uint8_t part[MBAP_ADU_MAX];
};

struct server {
    int epoll;
    struct source marked; /* an epoll set of its own for marked clients; -1: none */
    unsigned work;        /* done for others since they were looked after */
    struct gateway *gateway;
    struct modbus_counts *counts;
    struct writers *writers;
    struct service *service; /* one per listener of the configuration */
    size_t services;
    struct listener listener[SOCKETS_MAX];
    size_t listeners;
    struct log_limit refuse_log, accept_log, evict_log;

    struct client *client; /* a place for each; those never used take no memory */
    size_t clients, used;
    struct clients closed; /* in this wake-up: events for them may be on their way */
    struct clients unused;

    /* One turn of one client. */
    size_t answers;
    uint8_t request[MBAP_ADU_MAX + TURN_BYTES];
    uint8_t answer[QUEUE_MAX];
};

/* Read once per wake-up. */
struct moment {
    uint64_t now_ms, unix_s;
};

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
    pool_leave(&c->service->pool, &c->member);
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
    else if (s->used < s->clients)
        c = &s->client[s->used++];
    return c;
}

static struct client *client_of(struct pool_member *m)
{
    return (struct client *)(void *)((char *)m - offsetof(struct client, member));
}

/* Answers */

static void answer(struct server *s, struct client *c, const uint8_t *adu, size_t size,
                   const struct moment *at)
{
    struct gateway_report report;
    int circuit = gateway_circuit(s->gateway, adu[MBAP_HEADER - 1]);
    bool may_write =
        c->may_write && circuit >= 0 &&
        writers_allow(s->writers, (size_t)circuit, c->member.address, at->now_ms);
    s->answers += gateway_answer(s->gateway, adu, size, may_write, at->now_ms, at->unix_s,
                                 s->answer + s->answers, &report);
    s->work++;
    if (report.write && c->may_write && circuit >= 0) {
        uint64_t until_ms;
        writers_note(s->writers, c->source.fd, c->member.address, &report, at->now_ms);
        const char *owner = writers_owner(s->writers, (size_t)circuit, &until_ms);
        gateway_set_owner(s->gateway, (size_t)circuit, owner, until_ms);
    }
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static bool listen_for(int epoll, int op, struct source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(epoll, op, source->fd, &event) == 0;
}

static bool client_wants(struct server *s, int op, struct client *c, uint32_t events)
{
    return listen_for(c->member.marked ? s->marked.fd : s->epoll, op, &c->source, events);
}

/* Bytes sent to C that it has not acknowledged. */
static int in_kernel(const struct client *c)
{
    int bytes = 0;
    ioctl(c->source.fd, SIOCOUTQ, &bytes);
    return bytes;
}

/* C has taken some of its answers, LEFT bytes are in the kernel. */
static void taken(struct client *c, int left, uint64_t now_ms)
{
    c->backlog->in_kernel = left;
    c->backlog->unmoved = 0;
    pool_touch(&c->service->pool, &c->member, now_ms);
    watch(c, &c->service->stalled, now_ms + c->service->look_ms);
}

/* Keeps the SIZE bytes of ANSWER that C did not take; until it has, it is not read. */
static void stall(struct server *s, struct client *c, const uint8_t *answer_left,
                  size_t size, uint64_t now_ms)
{
    struct backlog *b = malloc(sizeof *b + size);
    if (!b || !client_wants(s, EPOLL_CTL_MOD, c, EPOLLOUT)) {
        free(b);
        close_client(s, c);
        return;
    }
    b->sent = 0;
    b->answers = size;
    b->requests = 0;
    memcpy(b->answer, answer_left, size);
    c->backlog = b;
    taken(c, in_kernel(c), now_ms);
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
        if (s->answers > c->service->queue - MBAP_ADU_MAX && !flush(s, c, at->now_ms))
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
        watch(c, &c->service->unfinished, at->now_ms + c->service->frame_ms);
}

static void receive(struct server *s, struct client *c, const struct moment *at)
{
    memcpy(s->request, c->part, c->held);
    ssize_t got = recv(c->source.fd, s->request + c->held, TURN_BYTES, 0);
    if (got > 0) {
        pool_touch(&c->service->pool, &c->member, at->now_ms);
        serve(s, c, c->held + (size_t)got, at);
    } else if (got == 0 || !would_block()) {
        close_client(s, c); /* whatever came before its FIN has been answered */
    }
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
    taken(c, in_kernel(c), at->now_ms);
    if (b->sent < b->answers)
        return;
    if (!client_wants(s, EPOLL_CTL_MOD, c, EPOLLIN)) {
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
    char who[NET_TEXT];
    s->counts->refused++;
    if (log_limit_pass(&s->refuse_log, REFUSE_LOG_MS, now_ms, &missed))
        log_info("connection refused peer=%s why=\"%s\" missed=%u", net_text(peer, who),
                 why, missed);
}

/* C gives its place to somebody else. */
static void evict(struct server *s, struct client *c, uint64_t now_ms)
{
    uint32_t missed;
    char who[NET_TEXT];
    if (log_limit_pass(&s->evict_log, REFUSE_LOG_MS, now_ms, &missed))
        log_info("idle connection closed for a new one peer=%s missed=%u",
                 net_peer_text(c->source.fd, who), missed);
    close_client(s, c);
}

/* Why a connection from PEER is not served; NULL: a client serves FD. */
static const char *admit(struct server *s, struct service *v, int fd,
                         const struct sockaddr *peer, uint64_t now_ms)
{
    struct client newcomer = {
        .source = {.fd = fd, .kind = CLIENT},
        .may_write = acl_allows(&v->write, peer),
        .service = v,
        .member.marked = acl_has(&v->priority, peer)
    };
    struct pool_member *leaves;
    if (!acl_address(peer, newcomer.member.address) || !acl_allows(&v->allow, peer))
        return "not in the allow list";
    if (!pool_admits(&v->pool, &newcomer.member, now_ms, &leaves))
        return "too many connections";
    if (leaves)
        evict(s, client_of(leaves), now_ms);
    struct client *c = new_client(s);
    if (!c)
        return "too many connections in one turn";
    *c = newcomer;
    if (!client_wants(s, EPOLL_CTL_ADD, c, EPOLLIN)) {
        c->source.fd = -1;
        TAILQ_INSERT_HEAD(&s->unused, c, entry);
        return "no memory";
    }
    pool_enter(&v->pool, &c->member, now_ms);
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
    listen_for(s->epoll, EPOLL_CTL_MOD, &l->source, 0);
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
        s->work++;
        const char *why_not =
            admit(s, l->service, fd, (const struct sockaddr *)&peer, now_ms);
        if (why_not) {
            close(fd);
            refuse(s, &peer, why_not, now_ms);
        } else {
            s->counts->accepted++;
            s->counts->open++;
        }
    }
}

/* The life of the server */

/* Takes FD. */
static bool add_listener(struct server *s, struct service *v, int fd)
{
    struct listener *l = &s->listener[s->listeners++];
    assert(s->listeners <= SOCKETS_MAX);
    *l = (struct listener){
        .source = {.fd = fd, .kind = LISTENER},
          .service = v, .resume_at_ms = NEVER
    };
    net_listening_text(fd, l->address);
    return listen_for(s->epoll, EPOLL_CTL_ADD, &l->source, EPOLLIN);
}

static bool open_service(struct server *s, const struct config_listener *cfg,
                         struct net_inherited *in, char *why, size_t why_size)
{
    struct service *v = &s->service[s->services++];
    int fd[NET_SOCKETS_MAX];
    *v = (struct service){.allow = cfg->allow,
                          .write = cfg->write,
                          .priority = cfg->priority,
                          .queue = cfg->queue * 1024u,
                          .frame_ms = cfg->frame_timeout,
                          .look_ms = cfg->stall_timeout * 1000 / STALL_LOOKS};
    TAILQ_INIT(&v->unfinished);
    TAILQ_INIT(&v->stalled);
    size_t count = net_listen(cfg, in, fd, why, why_size);
    bool good = count > 0;
    for (size_t i = 0; i < count; i++)
        if (!add_listener(s, v, fd[i])) {
            snprintf(why, why_size, "listener %s: %s", cfg->name, strerror(errno));
            good = false;
        }
    return good;
}

static size_t places_of(const struct config_listener *cfg)
{
    return cfg->max_clients * (cfg->priority.count > 0 ? 2u : 1u);
}

/* Gives each pool its places: as many as configured, or their share of what the
 * descriptors allow, so that marked clients and the cloud's side never want for one. */
static bool make_room(struct server *s, const struct config *cfg)
{
    size_t wanted = 0, possible, reserved = RESERVED_DESCRIPTORS + s->listeners;
    for (size_t i = 0; i < cfg->listeners; i++)
        wanted += places_of(&cfg->listener[i]);
    possible = sys_descriptors(wanted + reserved);
    possible = possible > reserved ? possible - reserved : 0;
    if (possible < wanted)
        log_warning("too few descriptors for all connections wanted=%zu possible=%zu; "
                    "raise LimitNOFILE or lower max_clients",
                    wanted, possible);
    for (size_t i = 0; i < cfg->listeners; i++) {
        const struct config_listener *l = &cfg->listener[i];
        size_t places = l->max_clients;
        if (possible < wanted)
            places = 1 + (places - 1) * possible / wanted;
        pool_init(&s->service[i].pool, (uint32_t)places, l->max_clients_per_address,
                  UINT64_C(1000) * l->idle_timeout);
        s->clients += places * (l->priority.count > 0 ? 2u : 1u);
    }
    s->clients += ACCEPTS_PER_TURN * s->listeners; /* who leaves in a wake-up keeps its
                                                      place in the table until it ends */
    s->client = calloc(s->clients, sizeof *s->client);
    return s->client;
}

static bool open_marked(struct server *s, const struct config *cfg, char *why,
                        size_t why_size)
{
    size_t marked = 0;
    for (size_t i = 0; i < cfg->listeners; i++)
        marked += cfg->listener[i].priority.count;
    if (marked == 0)
        return true;
    s->marked.fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->marked.fd >= 0 && listen_for(s->epoll, EPOLL_CTL_ADD, &s->marked, EPOLLIN))
        return true;
    snprintf(why, why_size, "epoll set of the marked clients: %s", strerror(errno));
    return false;
}

enum err server_new(struct server **ret, const struct config *cfg,
                    struct gateway *gateway, int epoll, char *why, size_t why_size)
{
    struct net_inherited inherited;
    struct server *s = calloc(1, sizeof *s);
    snprintf(why, why_size, "no memory for the Modbus server");
    if (!s)
        return ERR_SYSTEM;
    s->epoll = epoll;
    s->gateway = gateway;
    s->counts = gateway_counts(gateway);
    s->marked = (struct source){.fd = -1, .kind = MARKED};
    TAILQ_INIT(&s->closed);
    TAILQ_INIT(&s->unused);
    s->writers = writers_new(cfg);
    s->service = calloc(cfg->listeners, sizeof *s->service);
    net_inherit(&inherited);
    bool good = s->writers && s->service;
    for (size_t i = 0; good && i < cfg->listeners; i++)
        good = open_service(s, &cfg->listener[i], &inherited, why, why_size);
    net_close_unused(&inherited);
    if (!good || !make_room(s, cfg) || !open_marked(s, cfg, why, why_size)) {
        server_free(s);
        return ERR_SYSTEM;
    }
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
    for (size_t i = 0; s->client && i < s->used; i++)
        close_client(s, &s->client[i]);
    if (s->marked.fd >= 0)
        close(s->marked.fd);
    free(s->client);
    free(s->service);
    writers_free(s->writers);
    free(s);
}

/* Events */

static void serve_client(struct server *s, struct client *c, const struct moment *at)
{
    if (c->source.fd < 0)
        return; /* closed by an event before this one */
    if (c->backlog)
        drain(s, c, at);
    else
        receive(s, c, at);
}

static void serve_marked(struct server *s, const struct moment *at)
{
    struct epoll_event event[MARKED_EVENTS];
    int n = epoll_wait(s->marked.fd, event, MARKED_EVENTS, 0);
    for (int i = 0; i < n; i++)
        serve_client(s, event[i].data.ptr, at);
    s->work = 0;
}

void server_event(struct server *s, void *ptr, uint32_t events, uint64_t now_ms,
                  uint64_t unix_s)
{
    struct source *source = ptr;
    const struct moment at = {.now_ms = now_ms, .unix_s = unix_s};

    (void)events; /* a reset or a hang-up shows when we read or send */
    if (source->kind == MARKED)
        serve_marked(s, &at);
    else if (source->kind == CLIENT)
        serve_client(s, ptr, &at);
    else if (source->fd >= 0)
        accept_clients(s, ptr, now_ms);
    if (s->work >= MARKED_SHARE && s->marked.fd >= 0)
        serve_marked(s, &at);
}

/* Timers */

static void close_unfinished(struct server *s, struct service *v, uint64_t now_ms)
{
    struct client *c;
    while ((c = TAILQ_FIRST(&v->unfinished)) && c->due_ms <= now_ms)
        close_client(s, c);
}

/* epoll reports room only when half of the kernel's buffer is free: a slow client may
 * have taken some of its answers before. */
static void close_stalled(struct server *s, struct service *v, uint64_t now_ms)
{
    struct client *c;
    while ((c = TAILQ_FIRST(&v->stalled)) && c->due_ms <= now_ms) {
        struct backlog *b = c->backlog;
        int left = in_kernel(c);
        assert(b); /* who has none has nothing to stall on */
        if (left < b->in_kernel)
            taken(c, left, now_ms);
        else if (++b->unmoved < STALL_LOOKS)
            watch(c, &v->stalled, now_ms + v->look_ms);
        else
            close_client(s, c);
    }
}

void server_tick(struct server *s, uint64_t now_ms)
{
    for (size_t i = 0; i < s->services; i++) {
        struct service *v = &s->service[i];
        struct pool_member *idle;
        close_unfinished(s, v, now_ms);
        close_stalled(s, v, now_ms);
        while ((idle = pool_overdue(&v->pool, now_ms)))
            close_client(s, client_of(idle));
    }
    TAILQ_CONCAT(&s->unused, &s->closed, entry); /* no event can name them any more */
    for (size_t i = 0; i < s->listeners; i++) {
        struct listener *l = &s->listener[i];
        if (l->resume_at_ms <= now_ms) {
            l->resume_at_ms = NEVER;
            listen_for(s->epoll, EPOLL_CTL_MOD, &l->source, EPOLLIN);
        }
    }
}

static uint64_t first_due(const struct clients *list)
{
    const struct client *c = TAILQ_FIRST(list);
    return c ? c->due_ms : NEVER;
}

uint64_t server_wake(const struct server *s)
{
    uint64_t wake = NEVER;
    for (size_t i = 0; i < s->services; i++) {
        const struct service *v = &s->service[i];
        wake = earlier(wake, first_due(&v->unfinished));
        wake = earlier(wake, first_due(&v->stalled));
        wake = earlier(wake, pool_wake(&v->pool));
    }
    for (size_t i = 0; i < s->listeners; i++)
        wake = earlier(wake, s->listener[i].resume_at_ms);
    return wake;
}

const char *server_address(const struct server *s, size_t i)
{
    return i < s->listeners ? s->listener[i].address : NULL;
}
