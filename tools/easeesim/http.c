/* SPDX-License-Identifier: MIT */
#include "http.h"

#include "carrier.h"
#include "json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libwebsockets.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    HEAD_SIZE = 8192,
    CHUNK_SIZE = 32 * 1024,
    PROMISED = 64,
    CONNECTIONS = 512,
    PAGE_MAX = 16 * 1024, /* with which a WebSocket is refused */
    TICK_US = 1000        /* a fast world is looked at so often */
};

#define UNTIL_CLOSED SIZE_MAX /* instead of a Content-Length */

struct http {
    struct sim *sim;
    struct lws_context *context;
    struct lws_vhost *vhost;
    lws_sorted_usec_list_t timer;
    bool stop;
};

/* One request on its way through a connection; lws zeroes it for a new connection. */
struct conn {
    struct request *request; /* owned; NULL: none */
    struct response response;
    size_t sent; /* of the body */
    bool answered, head_sent;
};

uint64_t http_real_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t http_unix_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static struct http *http_of(struct lws *wsi)
{
    return lws_context_user(lws_get_context(wsi));
}

/* After anything that the hub may have news of. */
static void look_around(struct http *h);

static void on_timer(lws_sorted_usec_list_t *timer)
{
    struct http *h = lws_container_of(timer, struct http, timer);

    sim_run(h->sim, http_real_us(), http_unix_ms());
    look_around(h);
}

static void look_around(struct http *h)
{
    uint64_t at_us = sim_wake_us(h->sim), now_us = http_real_us();

    carrier_wake(&h->sim->hub);
    if (at_us == NEVER)
        lws_sul_cancel(&h->timer);
    else
        lws_sul_schedule(
            h->context, 0, &h->timer, on_timer,
            (lws_usec_t)(at_us > now_us + TICK_US ? at_us - now_us : TICK_US));
}

static void forget(struct conn *c)
{
    if (c->request)
        free(c->request->body);
    free(c->request);
    response_release(&c->response);
    *c = (struct conn){0};
}

/* Text of header TOKEN; empty when absent or too long. */
static void copy_header(struct lws *wsi, enum lws_token_indexes token, char *to,
                        size_t size)
{
    if (lws_hdr_copy(wsi, to, (int)size, token) < 0)
        to[0] = '\0';
}

/* The query as it came, its parts joined again. */
static void copy_query(struct lws *wsi, char *to, size_t size)
{
    size_t used = 0;
    int n;

    to[0] = '\0';
    for (int i = 0; used + 2 < size; i++) {
        n = lws_hdr_copy_fragment(wsi, to + used + (used > 0), (int)(size - used - 1),
                                  WSI_TOKEN_HTTP_URI_ARGS, i);
        if (n < 0)
            break;
        if (used > 0)
            to[used++] = '&';
        used += (size_t)n;
    }
    to[used] = '\0';
}

static const char *method_name(int method)
{
    switch (method) {
    case LWSHUMETH_GET:
        return "GET";
    case LWSHUMETH_POST:
        return "POST";
    case LWSHUMETH_OPTIONS:
        return "OPTIONS";
    case LWSHUMETH_PUT:
        return "PUT";
    case LWSHUMETH_PATCH:
        return "PATCH";
    case LWSHUMETH_DELETE:
        return "DELETE";
    case LWSHUMETH_HEAD:
        return "HEAD";
    }
    return NULL;
}

/* False: no request we could answer. */
static bool read_head(struct lws *wsi, struct request *q)
{
    char *uri;
    int len, method = lws_http_get_uri_and_method(wsi, &uri, &len);
    const char *name = method_name(method);

    if (!name || len < 0 || (size_t)len >= sizeof q->path)
        return false;
    snprintf(q->method, sizeof q->method, "%s", name);
    memcpy(q->path, uri, (size_t)len);
    q->path[len] = '\0';
    copy_query(wsi, q->query, sizeof q->query);
    copy_header(wsi, WSI_TOKEN_HTTP_AUTHORIZATION, q->authorization,
                sizeof q->authorization);
    copy_header(wsi, WSI_TOKEN_HTTP_USER_AGENT, q->user_agent, sizeof q->user_agent);
    copy_header(wsi, WSI_TOKEN_HTTP_ACCEPT, q->accept, sizeof q->accept);
    copy_header(wsi, WSI_TOKEN_HOST, q->host, sizeof q->host);
    copy_header(wsi, WSI_TOKEN_HTTP_CONTENT_TYPE, q->content_type,
                sizeof q->content_type);
    lws_get_peer_simple(wsi, q->ip, sizeof q->ip);
    q->tls = lws_is_ssl(wsi);
    return true;
}

/* Ends the connection with a reset: the kernel sends one when a socket is disconnected.
 */
static int reset(struct lws *wsi)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};

    if (connect(lws_get_socket_fd(wsi), &none, sizeof none) < 0)
        perror("easeesim: reset");
    return -1;
}

/* The simulated world's time, which clients take for the cloud's. */
static bool add_date(struct lws *wsi, const struct response *r, unsigned char **p,
                     unsigned char *end)
{
    time_t now = (time_t)(sim_unix_ms(http_of(wsi)->sim) / 1000);
    char text[64];
    struct tm tm;
    size_t len;

    if (response_get_header(r, "Date"))
        return true;
    len = strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    return lws_add_http_header_by_token(wsi, WSI_TOKEN_HTTP_DATE, (unsigned char *)text,
                                        (int)len, p, end) == 0;
}

static bool add_headers(struct lws *wsi, const struct response *r, size_t promised,
                        unsigned char **p, unsigned char *end)
{
    char name[sizeof r->header[0].name + 1];

    if (lws_add_http_header_status(wsi, (unsigned)r->status, p, end) ||
        (promised == UNTIL_CLOSED
             ? lws_add_http_header_by_token(wsi, WSI_TOKEN_CONNECTION,
                                            (const unsigned char *)"close", 5, p, end)
             : lws_add_http_header_content_length(wsi, promised, p, end)) ||
        !add_date(wsi, r, p, end))
        return false;
    if (r->type && !response_get_header(r, "Content-Type") &&
        lws_add_http_header_by_token(wsi, WSI_TOKEN_HTTP_CONTENT_TYPE,
                                     (const unsigned char *)r->type, (int)strlen(r->type),
                                     p, end))
        return false;
    for (unsigned i = 0; i < r->n_headers; i++) {
        const struct header *h = &r->header[i];

        snprintf(name, sizeof name, "%s:", h->name);
        if (lws_add_http_header_by_name(wsi, (const unsigned char *)name,
                                        (const unsigned char *)h->value,
                                        (int)strlen(h->value), p, end))
            return false;
    }
    return lws_finalize_http_header(wsi, p, end) == 0;
}

static int write_head(struct lws *wsi, struct conn *c)
{
    unsigned char buf[LWS_PRE + HEAD_SIZE], *start = buf + LWS_PRE, *p = start;
    const struct response *r = &c->response;
    size_t promised = r->body_len;

    if (r->wire == WIRE_TRUNCATE && promised == 0)
        promised = PROMISED;
    if (r->wire == WIRE_LINK)
        promised = UNTIL_CLOSED;
    if (!add_headers(wsi, r, promised, &p, buf + sizeof buf))
        return -1;
    c->head_sent = true;
    if (lws_write(wsi, start, (size_t)(p - start),
                  promised ? LWS_WRITE_HTTP_HEADERS
                           : LWS_WRITE_HTTP_HEADERS | LWS_WRITE_H2_STREAM_END) < 0)
        return -1;
    return 0;
}

static int complete(struct lws *wsi, struct conn *c)
{
    struct http *h = http_of(wsi);

    forget(c);
    if (h->sim->quit)
        h->stop = true;
    return lws_http_transaction_completed(wsi) ? -1 : 0;
}

static int send_response(struct lws *wsi, struct conn *c)
{
    if (c->response.wire == WIRE_RESET)
        return reset(wsi);
    if (c->response.wire != WIRE_SILENT)
        lws_callback_on_writable(wsi);
    return 0;
}

/* Events as they come, or the answer to a poll once there is one. */
static int write_link(struct lws *wsi, struct conn *c)
{
    struct hub *h = &http_of(wsi)->sim->hub;
    struct hub_link *l = carrier_link(h, wsi);

    if (!l)
        return -1;
    if (l->transport == HUB_POLLING)
        return carrier_answer_poll(h, l, &c->response) ? send_response(wsi, c) : 0;
    if (c->head_sent)
        return carrier_write(h, l);
    if (write_head(wsi, c) < 0)
        return -1;
    lws_callback_on_writable(wsi);
    return 0;
}

/* Sends what the socket takes now. */
static int write_some(struct lws *wsi, struct conn *c)
{
    unsigned char buf[LWS_PRE + CHUNK_SIZE];
    const struct response *r = &c->response;
    size_t len = r->wire == WIRE_TRUNCATE ? r->body_len / 2 : r->body_len, n;

    if (!c->answered || r->wire == WIRE_SILENT)
        return 0;
    if (r->wire == WIRE_LINK)
        return write_link(wsi, c);
    if (!c->head_sent) {
        if (write_head(wsi, c) < 0)
            return -1;
        /* Without a body the client has it all now and may ask again at once: before the
         * next turn, or libwebsockets waits for ever. */
        if (len == 0 && r->wire != WIRE_TRUNCATE)
            return complete(wsi, c);
        lws_callback_on_writable(wsi);
        return 0;
    }
    n = len - c->sent < CHUNK_SIZE ? len - c->sent : CHUNK_SIZE;
    if (n > 0) {
        memcpy(buf + LWS_PRE, r->body + c->sent, n);
        c->sent += n;
        if (lws_write(wsi, buf + LWS_PRE, n,
                      c->sent == r->body_len ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < 0)
            return -1;
    }
    if (c->sent < len) {
        lws_callback_on_writable(wsi);
        return 0;
    }
    return r->wire == WIRE_TRUNCATE ? -1 : complete(wsi, c);
}

/* The request is whole. */
static int handle(struct lws *wsi, struct conn *c)
{
    struct http *h = http_of(wsi);

    if (!c->request || c->answered)
        return 0;
    c->answered = true;
    sim_answer(h->sim, c->request, http_real_us(), http_unix_ms(), &c->response);
    if (c->response.link)
        c->response.link->carrier = wsi;
    lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0); /* slow on purpose is not an error */
    look_around(h);
    if (c->response.delay_ms == 0)
        return send_response(wsi, c);
    lws_set_timer_usecs(wsi, (lws_usec_t)c->response.delay_ms * 1000);
    return 0;
}

static int begin(struct lws *wsi, struct conn *c)
{
    char length[24];

    forget(c);
    c->request = calloc(1, sizeof *c->request);
    if (!c->request || !read_head(wsi, c->request))
        return -1;
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0) {
        lws_return_http_status(wsi, HTTP_STATUS_LENGTH_REQUIRED, NULL);
        return -1;
    }
    copy_header(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, length, sizeof length);
    if (strtoull(length, NULL, 10) > 0)
        return 0; /* the body comes next */
    return handle(wsi, c);
}

static int add_body(struct conn *c, const void *in, size_t len)
{
    struct request *q = c->request;
    char *body;

    if (!q || c->answered || q->too_large)
        return 0;
    if (q->body_len + len > BODY_MAX) {
        q->too_large = true;
        return 0;
    }
    body = realloc(q->body, q->body_len + len + 1);
    if (!body)
        return -1;
    memcpy(body + q->body_len, in, len);
    q->body = body;
    q->body_len += len;
    body[q->body_len] = '\0';
    return 0;
}

/* A WebSocket is asked for: 0 lets it through, 1 has answered something else, negative
 * hangs up.  An answer is written here and now, so delays on purpose do not count. */
static int upgrade(struct lws *wsi)
{
    struct http *h = http_of(wsi);
    struct conn c = {.request = calloc(1, sizeof *c.request)};
    unsigned char buf[LWS_PRE + PAGE_MAX];
    int result = -1;

    if (!c.request || !read_head(wsi, c.request))
        goto out;
    c.request->upgrade = true;
    sim_answer(h->sim, c.request, http_real_us(), http_unix_ms(), &c.response);
    if (c.response.link) {
        c.response.link->carrier = wsi;
        look_around(h);
        result = 0;
    } else if (c.response.wire == WIRE_SILENT) {
        result = 1;
    } else if (c.response.wire == WIRE_RESET) {
        result = reset(wsi);
    } else if (c.response.body_len <= PAGE_MAX && write_head(wsi, &c) == 0) {
        memcpy(buf + LWS_PRE, c.response.body_len ? c.response.body : "",
               c.response.body_len);
        result =
            c.response.body_len == 0 || lws_write(wsi, buf + LWS_PRE, c.response.body_len,
                                                  LWS_WRITE_HTTP_FINAL) >= 0
                ? 1
                : -1;
    }
out:
    forget(&c);
    return result;
}

static int hear(struct lws *wsi, const void *in, size_t len)
{
    struct http *h = http_of(wsi);
    struct hub_link *l = carrier_link(&h->sim->hub, wsi);

    if (!l)
        return -1;
    sim_run(h->sim, http_real_us(), http_unix_ms());
    hub_receive(&h->sim->hub, l, in, len);
    look_around(h);
    return 0;
}

static int say(struct lws *wsi)
{
    struct hub *h = &http_of(wsi)->sim->hub;
    struct hub_link *l = carrier_link(h, wsi);

    return l ? carrier_write(h, l) : -1;
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user,
                    void *in, size_t len)
{
    struct conn *c = user;

    switch (reason) {
    case LWS_CALLBACK_HTTP:
        return begin(wsi, c);
    case LWS_CALLBACK_HTTP_BODY:
        return add_body(c, in, len);
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
        return handle(wsi, c);
    case LWS_CALLBACK_TIMER:
        return send_response(wsi, c);
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return write_some(wsi, c);
    case LWS_CALLBACK_HTTP_DROP_PROTOCOL:
    case LWS_CALLBACK_CLOSED_HTTP:
        if (c)
            forget(c);
        if (reason == LWS_CALLBACK_CLOSED_HTTP)
            carrier_closed(&http_of(wsi)->sim->hub, wsi);
        return 0;
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return upgrade(wsi);
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
        return carrier_link(&http_of(wsi)->sim->hub, wsi) ? 0 : -1;
    case LWS_CALLBACK_ESTABLISHED:
        lws_callback_on_writable(wsi);
        return 0;
    case LWS_CALLBACK_RECEIVE:
        return hear(wsi, in, len);
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return say(wsi);
    case LWS_CALLBACK_CLOSED:
        carrier_closed(&http_of(wsi)->sim->hub, wsi);
        return 0;
    default:
        return 0;
    }
}

/* lws only says that it could not listen; this says why. */
static bool may_listen(const struct http_options *o, char *why)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE,
                             .ai_socktype = SOCK_STREAM},
                    *a = NULL;
    char port[8];
    int fd, on = 1;
    bool good;

    snprintf(port, sizeof port, "%d", o->port);
    if (getaddrinfo(o->address, port, &hints, &a) != 0) {
        snprintf(why, JSON_WHY, "address %.60s: not a numeric IP address", o->address);
        return false;
    }
    fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    good = fd >= 0 && bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 1) == 0;
    if (!good)
        snprintf(why, JSON_WHY, "%.60s port %d: %s", o->address, o->port,
                 strerror(errno));
    if (fd >= 0)
        close(fd);
    freeaddrinfo(a);
    return good;
}

static bool readable(const char *file, char *why)
{
    if (access(file, R_OK) == 0)
        return true;
    snprintf(why, JSON_WHY, "%.80s: %s", file, strerror(errno));
    return false;
}

static int stop(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                size_t len)
{
    struct http *h = lws_context_user(lws_get_context(wsi));

    (void)user, (void)in, (void)len;
    if (reason == LWS_CALLBACK_RAW_RX_FILE)
        h->stop = true;
    return 0;
}

struct http *http_new(struct sim *sim, const struct http_options *o, char *why)
{
    static const struct lws_protocols protocols[] = {
        {"http", callback, sizeof(struct conn), 0, 0, NULL, 0},
        {"stop", stop,     0,                   0, 0, NULL, 0},
        {NULL,   NULL,     0,                   0, 0, NULL, 0}
    };
    struct lws_context_creation_info info = {
        .port = o->port,
        .iface = o->address,
        .protocols = protocols,
        .server_string = "easeesim",
        .alpn = "http/1.1",
        .max_http_header_data = 16384,
        .max_http_header_pool = CONNECTIONS,
        .fd_limit_per_thread = CONNECTIONS + 64,
        .keepalive_timeout = 120,
        .timeout_secs = 20,
    };
    struct http *h;

    if (!may_listen(o, why))
        return NULL;
    if (o->cert) {
        if (!readable(o->cert, why) || !readable(o->key, why))
            return NULL;
        info.ssl_cert_filepath = o->cert;
        info.ssl_private_key_filepath = o->key;
        info.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
    }
    if (!strchr(o->address, ':'))
        info.options |= LWS_SERVER_OPTION_DISABLE_IPV6;
    h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->sim = sim;
    info.user = h;
    info.options |= LWS_SERVER_OPTION_EXPLICIT_VHOSTS;
    h->context = lws_create_context(&info);
    if (h->context)
        h->vhost = lws_create_vhost(h->context, &info);
    if (!h->vhost) {
        snprintf(why, JSON_WHY, "cannot listen%s",
                 o->cert ? "; are --cert and --key PEM files that belong together?" : "");
        http_free(h);
        return NULL;
    }
    return h;
}

int http_port(const struct http *h)
{
    return lws_get_vhost_listen_port(h->vhost);
}

void http_run(struct http *h)
{
    while (!h->stop && lws_service(h->context, 0) >= 0)
        ;
}

bool http_stop_on(struct http *h, int fd)
{
    lws_sock_file_fd_type file = {.filefd = fd};

    return lws_adopt_descriptor_vhost(h->vhost, LWS_ADOPT_RAW_FILE_DESC, file, "stop",
                                      NULL) != NULL;
}

void http_free(struct http *h)
{
    if (h && h->context)
        lws_context_destroy(h->context);
    free(h);
}
