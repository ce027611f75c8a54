/* SPDX-License-Identifier: MIT */
#include "http.h"

#include "json.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libwebsockets.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_SIZE = 8192, CHUNK_SIZE = 32 * 1024, PROMISED = 64, CONNECTIONS = 512 };

struct http {
    struct sim *sim;
    struct lws_context *context;
    struct lws_vhost *vhost;
    volatile sig_atomic_t stop;
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

static bool add_headers(struct lws *wsi, const struct response *r, size_t promised,
                        unsigned char **p, unsigned char *end)
{
    char name[sizeof r->header[0].name + 1];

    if (lws_add_http_header_status(wsi, (unsigned)r->status, p, end) ||
        lws_add_http_header_content_length(wsi, promised, p, end))
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
    struct http *h = lws_context_user(lws_get_context(wsi));

    forget(c);
    if (h->sim->quit)
        http_stop(h);
    return lws_http_transaction_completed(wsi) ? -1 : 0;
}

/* Sends what the socket takes now. */
static int write_some(struct lws *wsi, struct conn *c)
{
    unsigned char buf[LWS_PRE + CHUNK_SIZE];
    const struct response *r = &c->response;
    size_t len = r->wire == WIRE_TRUNCATE ? r->body_len / 2 : r->body_len, n;

    if (!c->answered || r->wire == WIRE_SILENT)
        return 0;
    if (!c->head_sent) {
        if (write_head(wsi, c) < 0)
            return -1;
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

static int send_response(struct lws *wsi, struct conn *c)
{
    if (c->response.wire == WIRE_RESET)
        return reset(wsi);
    if (c->response.wire == WIRE_ANSWER || c->response.wire == WIRE_TRUNCATE)
        lws_callback_on_writable(wsi);
    return 0;
}

/* The request is whole. */
static int handle(struct lws *wsi, struct conn *c)
{
    struct http *h = lws_context_user(lws_get_context(wsi));

    if (!c->request || c->answered)
        return 0;
    c->answered = true;
    sim_answer(h->sim, c->request, http_real_us(), http_unix_ms(), &c->response);
    lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0); /* slow on purpose is not an error */
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
        return 0;
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
        return -1; /* no WebSocket here */
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

struct http *http_new(struct sim *sim, const struct http_options *o, char *why)
{
    static const struct lws_protocols protocols[] = {
        {"http", callback, sizeof(struct conn), 0, 0, NULL, 0},
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
        .gid = -1,
        .uid = -1,
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

void http_stop(struct http *h)
{
    h->stop = 1;
    lws_cancel_service(h->context);
}

void http_free(struct http *h)
{
    if (h && h->context)
        lws_context_destroy(h->context);
    free(h);
}
