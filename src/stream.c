/* SPDX-License-Identifier: MIT
 *
 * Why libwebsockets: libcurl in Debian 12 speaks no WebSocket; it is the C library for it
 * that Debian keeps up with.  Its loop cannot be waited for together with libcurl's (this
 * build has no external poll), so it gets a thread, and that thread owns everything but
 * the mailbox and the orders, which stand under one lock. */
#include "evecc/stream.h"

#include "evecc/config.h"
#include "evecc/easee.h"
#include "evecc/easee_msg.h"
#include "evecc/sys.h"

#include <curl/curl.h>
#include <errno.h>
#include <libwebsockets.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    MAILBOX = 256,
    SERIALS_MAX = 2048,
    RX_BYTES = 4096,
    OUT_BYTES = 256,
    PROGRESS_MS = 20 * 1000,
    REDIRECTS_MAX = 3,
    STOP_MS = 100, /* how long a negotiation may notice nothing of the end */
    URL_MAX = 512
};

/* Where to connect: the pieces libwebsockets wants, and the token that goes there. */
struct target {
    bool tls;
    uint16_t port;
    char host[256];
    char path[URL_MAX];
    char token[EASEE_TOKEN_MAX];
};

struct subscription {
    char serial[SERIAL_MAX + 1];
    bool due; /* to be asked for on the connection that is up */
};

struct stream {
    char url[URL_MAX], ca_file[URL_MAX];
    void (*wake)(void *arg);
    void *wake_arg;

    pthread_t thread;
    bool started;
    int exit_fd;
    atomic_bool stop;
    atomic_uint_least64_t progress_ms;

    pthread_mutex_t lock;
    /* under the lock: orders */
    bool token_changed;
    char token[EASEE_TOKEN_MAX];
    size_t subscriptions;
    struct subscription *subscription;
    /* under the lock: the mailbox */
    struct stream_event mail[MAILBOX];
    unsigned first, held;
    bool gap;
    bool paused; /* the socket is not read until there is room again */

    /* the thread's own */
    struct lws_context *context;
    lws_sorted_usec_list_t timer;
    struct lws *wsi;
    struct hub hub;
    struct signalr_splitter splitter;
    struct target target;
    bool handshake_due, ping_due, closing, open;
    unsigned http_status;
    int64_t retry_after_s;
    bool may_reconnect;
    unsigned calls;
};

/* ---- the mailbox ---- */

static bool post(struct stream *s, const struct stream_event *e)
{
    bool posted;

    pthread_mutex_lock(&s->lock);
    posted = s->held < MAILBOX;
    if (posted) {
        s->mail[(s->first + s->held) % MAILBOX] = *e;
        s->held++;
    }
    pthread_mutex_unlock(&s->lock);
    if (posted)
        s->wake(s->wake_arg);
    return posted;
}

/* News of the connection itself must not wait behind a full box. */
static void post_news(struct stream *s, enum stream_event_kind kind, enum err err)
{
    struct stream_event e = {
        .kind = kind, .err = err, .http_status = (uint16_t)s->http_status};

    if (post(s, &e))
        return;
    pthread_mutex_lock(&s->lock);
    s->mail[(s->first + s->held - 1) % MAILBOX] = e;
    s->gap = true;
    pthread_mutex_unlock(&s->lock);
    s->wake(s->wake_arg);
}

static bool room(struct stream *s)
{
    bool has_room;

    pthread_mutex_lock(&s->lock);
    has_room = s->held < MAILBOX;
    s->paused = !has_room;
    pthread_mutex_unlock(&s->lock);
    return has_room;
}

bool stream_take(struct stream *s, struct stream_event *ret)
{
    bool taken = true, resume;

    pthread_mutex_lock(&s->lock);
    if (s->gap) {
        s->gap = false;
        *ret = (struct stream_event){.kind = STREAM_GAP};
    } else if (s->held > 0) {
        *ret = s->mail[s->first];
        s->first = (s->first + 1) % MAILBOX;
        s->held--;
    } else {
        taken = false;
    }
    resume = s->paused && s->held < MAILBOX / 2;
    if (resume)
        s->paused = false;
    pthread_mutex_unlock(&s->lock);
    if (resume)
        lws_cancel_service(s->context);
    return taken;
}

/* ---- where to connect ---- */

static bool take_part(CURLU *u, CURLUPart part, unsigned flags, char *ret, size_t size)
{
    char *text = NULL;
    bool fits = curl_url_get(u, part, &text, flags) == CURLUE_OK && strlen(text) < size;

    if (fits)
        memcpy(ret, text, strlen(text) + 1);
    curl_free(text);
    return fits;
}

/* https anywhere, http to loopback only: a token goes there. */
static bool parse_target(const char *url, struct target *ret)
{
    CURLU *u = curl_url();
    char scheme[8], port[8], query[URL_MAX / 2] = "";
    struct target t = {.port = 0};
    size_t len;
    bool good = u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
                take_part(u, CURLUPART_SCHEME, 0, scheme, sizeof scheme) &&
                take_part(u, CURLUPART_HOST, 0, t.host, sizeof t.host) &&
                take_part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, port, sizeof port) &&
                take_part(u, CURLUPART_PATH, 0, t.path, sizeof t.path);

    if (good) {
        t.tls = strcmp(scheme, "https") == 0;
        t.port = (uint16_t)strtoul(port, NULL, 10);
        good = t.tls || (strcmp(scheme, "http") == 0 && config_is_loopback(t.host));
        len = strlen(t.path);
        if (take_part(u, CURLUPART_QUERY, 0, query, sizeof query))
            good = good && (size_t)snprintf(t.path + len, sizeof t.path - len, "?%s",
                                            query) < sizeof t.path - len;
    }
    curl_url_cleanup(u);
    if (good)
        *ret = t;
    return good;
}

static bool add_id(struct target *t, const char *id)
{
    char *escaped = curl_easy_escape(NULL, id, 0);
    size_t len = strlen(t->path);
    const char *mark = strchr(t->path, '?') != NULL ? "&" : "?";
    bool fits = escaped != NULL &&
                (size_t)snprintf(t->path + len, sizeof t->path - len, "%sid=%s", mark,
                                 escaped) < sizeof t->path - len;

    curl_free(escaped);
    return fits;
}

/* ---- negotiation: one HTTP call, and again where it redirects to ---- */

/* Where to POST for TARGET: client and path. */
static enum err negotiation_client(const struct stream *s, const struct target *t,
                                   char path[EASEE_PATH_MAX], struct easee **ret)
{
    const char *query = strchr(t->path, '?');
    int base = query != NULL ? (int)(query - t->path) : (int)strlen(t->path);
    char url[URL_MAX];
    struct easee_options opt = {.api_url = url, .ca_file = s->ca_file};
    int len;

    while (base > 0 && t->path[base - 1] == '/')
        base--;
    len = snprintf(path, EASEE_PATH_MAX, "%.*s/negotiate%s%snegotiateVersion=1", base,
                   t->path, query != NULL ? query : "?", query != NULL ? "&" : "");
    snprintf(url, sizeof url, "%s://%s:%u", t->tls ? "https" : "http", t->host, t->port);
    return len < EASEE_PATH_MAX ? easee_new(ret, &opt) : ERR_PARSE;
}

/* Bounded by the call's own time-out, and by the wish to end. */
static enum err wait_for_reply(struct stream *s, struct easee *client,
                               struct easee_reply *ret)
{
    while (!easee_take(client, ret)) {
        if (atomic_load(&s->stop))
            return ERR_BROKEN;
        atomic_store(&s->progress_ms, sys_now_ms());
        easee_run(client, STOP_MS);
    }
    return ret->err;
}

static enum err negotiate_once(struct stream *s, struct signalr_negotiation *ret)
{
    char path[EASEE_PATH_MAX];
    struct easee *client = NULL;
    struct easee_call call = {.path = path, .body = "", .authorised = true, .once = true};
    struct easee_reply reply = {.retry_after_s = -1};
    enum err err = negotiation_client(s, &s->target, path, &client);

    if (err == ERR_OK) {
        easee_set_token(client, s->target.token);
        err = easee_start(client, &call);
    }
    if (err == ERR_OK)
        err = wait_for_reply(s, client, &reply);
    s->http_status = reply.http_status;
    s->retry_after_s = reply.retry_after_s;
    if (err == ERR_OK && reply.http_status != 200)
        err = reply.http_status == 401 ? ERR_UNAUTHORISED : ERR_SERVER;
    if (err == ERR_OK)
        err = signalr_negotiated(reply.body, reply.len, ret);
    easee_free(client);
    return err;
}

/* To where N points, with the token that it gives, or else the one we have. */
static bool follow(struct stream *s, const struct signalr_negotiation *n)
{
    struct target t;

    if (!parse_target(n->url, &t))
        return false;
    snprintf(t.token, sizeof t.token, "%s",
             n->access_token[0] != '\0' ? n->access_token : s->target.token);
    s->target = t;
    return true;
}

static enum err negotiate(struct stream *s)
{
    struct signalr_negotiation n;

    for (unsigned i = 0; i <= REDIRECTS_MAX; i++) {
        enum err err = negotiate_once(s, &n);

        if (err != ERR_OK)
            return err;
        if (n.url[0] == '\0')
            return n.websockets && add_id(&s->target, n.id) ? ERR_OK : ERR_PARSE;
        if (!follow(s, &n))
            return ERR_PARSE;
    }
    return ERR_REDIRECTED;
}

/* ---- the connection ---- */

static void attempt_failed(struct stream *s, enum err err)
{
    uint64_t now_ms = sys_now_ms();

    if (s->http_status == 401)
        err = ERR_UNAUTHORISED;
    hub_down(&s->hub, s->http_status, s->retry_after_s, s->may_reconnect, now_ms);
    s->wsi = NULL;
    s->open = false;
    post_news(s, err == ERR_UNAUTHORISED ? STREAM_REJECTED : STREAM_DOWN, err);
}

static void begin_attempt(struct stream *s)
{
    s->http_status = 0;
    s->retry_after_s = -1;
    s->may_reconnect = true;
    s->closing = s->ping_due = s->open = false;
    s->handshake_due = true;
    signalr_init(&s->splitter);
    pthread_mutex_lock(&s->lock);
    parse_target(s->url, &s->target);
    memcpy(s->target.token, s->token, sizeof s->target.token);
    pthread_mutex_unlock(&s->lock);
}

static void connect_socket(struct stream *s, bool negotiated)
{
    struct lws_client_connect_info info = {.context = s->context,
                                           .address = s->target.host,
                                           .port = s->target.port,
                                           .path = s->target.path,
                                           .host = s->target.host,
                                           .alpn = "http/1.1",
                                           .local_protocol_name = "signalr",
                                           .pwsi = &s->wsi,
                                           .userdata = s};
    enum err err = ERR_OK;

    begin_attempt(s);
    if (negotiated)
        err = negotiate(s);
    if (s->target.host[0] == '[') { /* libwebsockets wants an IPv6 address bare */
        memmove(s->target.host, s->target.host + 1, strlen(s->target.host));
        s->target.host[strlen(s->target.host) - 1] = '\0';
    }
    info.port = s->target.port;
    info.ssl_connection =
        LCCSCF_HTTP_NO_FOLLOW_REDIRECT | (s->target.tls ? LCCSCF_USE_SSL : 0);
    if (err != ERR_OK)
        attempt_failed(s, err);
    else if (lws_client_connect_via_info(&info) == NULL && s->hub.connecting)
        attempt_failed(s, ERR_CONNECT);
}

static void subscribe_all(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->subscriptions; i++)
        s->subscription[i].due = true;
    pthread_mutex_unlock(&s->lock);
}

static void on_message(struct stream *s, const struct signalr_message *m)
{
    struct stream_event e = {.kind = STREAM_MESSAGE};

    switch (m->kind) {
    case SIGNALR_HANDSHAKE:
        if (s->open)
            break;
        s->open = true;
        hub_up(&s->hub, sys_now_ms());
        subscribe_all(s);
        post_news(s, STREAM_UP, ERR_OK);
        lws_callback_on_writable(s->wsi);
        break;
    case SIGNALR_REFUSED:
        s->closing = !s->open; /* a refused subscription leaves the others alone */
        break;
    case SIGNALR_CLOSE:
        s->may_reconnect = m->may_reconnect;
        s->closing = true;
        break;
    case SIGNALR_OBSERVATION:
    case SIGNALR_VERDICT:
        e.message = *m;
        post(s, &e); /* there is room: drain() has looked */
        break;
    default:
        break;
    }
}

/* Gives out whole messages while the mailbox takes them. */
static void drain(struct stream *s)
{
    struct signalr_message m;
    const char *text;
    size_t len;

    while (room(s) && signalr_next(&s->splitter, &text, &len))
        if (signalr_parse(text, len, &m) == ERR_OK)
            on_message(s, &m);
}

static void on_receive(struct stream *s, const char *bytes, size_t n)
{
    hub_heard(&s->hub, sys_now_ms());
    while (n > 0) {
        size_t fed = signalr_feed(&s->splitter, bytes, n);

        bytes += fed;
        n -= fed;
        drain(s);
        if (fed == 0) { /* nobody takes the mail: a new connection replays it */
            s->closing = true;
            return;
        }
    }
    pthread_mutex_lock(&s->lock);
    if (s->paused)
        lws_rx_flow_control(s->wsi, 0);
    pthread_mutex_unlock(&s->lock);
}

/* The next thing to say, 0: nothing. */
static size_t next_text(struct stream *s, char *buf, size_t size)
{
    size_t len = 0;

    if (s->handshake_due) {
        s->handshake_due = false;
        return signalr_handshake(buf, size);
    }
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; s->open && i < s->subscriptions && len == 0; i++) {
        if (!s->subscription[i].due)
            continue;
        s->subscription[i].due = false;
        len = signalr_subscribe(buf, size, s->subscription[i].serial, ++s->calls);
    }
    pthread_mutex_unlock(&s->lock);
    if (len == 0 && s->ping_due) {
        s->ping_due = false;
        len = signalr_ping(buf, size);
    }
    return len;
}

/* Says one thing; -1 closes the connection. */
static int on_writable(struct stream *s)
{
    unsigned char buf[LWS_PRE + OUT_BYTES];
    size_t len;

    if (s->closing)
        return -1;
    len = next_text(s, (char *)buf + LWS_PRE, OUT_BYTES);
    if (len == 0)
        return 0;
    if (lws_write(s->wsi, buf + LWS_PRE, len, LWS_WRITE_TEXT) < (int)len)
        return -1;
    lws_callback_on_writable(s->wsi);
    return 0;
}

static int add_headers(struct stream *s, struct lws *wsi, unsigned char **at, size_t len)
{
    static const char agent[] = "evecc/" EVECC_VERSION;
    unsigned char *end = *at + len;
    char bearer[EASEE_TOKEN_MAX + 8];
    int failed;

    snprintf(bearer, sizeof bearer, "Bearer %s", s->target.token);
    failed = lws_add_http_header_by_name(wsi, (const unsigned char *)"authorization:",
                                         (const unsigned char *)bearer,
                                         (int)strlen(bearer), at, end) ||
             lws_add_http_header_by_name(
                 wsi, (const unsigned char *)"user-agent:", (const unsigned char *)agent,
                 sizeof agent - 1, at, end);
    explicit_bzero(bearer, sizeof bearer);
    return failed ? -1 : 0;
}

static void note_refusal(struct stream *s, struct lws *wsi)
{
    char seconds[16];

    s->http_status = lws_http_client_http_response(wsi);
    if (lws_hdr_copy(wsi, seconds, sizeof seconds, WSI_TOKEN_HTTP_RETRY_AFTER) > 0)
        s->retry_after_s = strtol(seconds, NULL, 10);
}

static void schedule(struct stream *s);

/* New orders: a token, a subscription, room in the mailbox, the end. */
static void take_orders(struct stream *s)
{
    uint64_t now_ms = sys_now_ms();
    bool resume, wanted;

    pthread_mutex_lock(&s->lock);
    if (s->token_changed)
        hub_new_token(&s->hub, now_ms);
    s->token_changed = false;
    wanted = s->token[0] != '\0' && s->subscriptions > 0;
    resume = !s->paused;
    pthread_mutex_unlock(&s->lock);
    hub_want(&s->hub, wanted, now_ms);
    if (s->wsi != NULL && s->open) {
        if (resume) {
            drain(s);
            lws_rx_flow_control(s->wsi, 1);
        }
        lws_callback_on_writable(s->wsi);
    }
    schedule(s);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user,
                    void *in, size_t len)
{
    struct stream *s = lws_context_user(lws_get_context(wsi));

    (void)user;
    switch (reason) {
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
        take_orders(s);
        return 0;
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
        return add_headers(s, wsi, in, len);
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        hub_heard(&s->hub, sys_now_ms());
        lws_callback_on_writable(wsi);
        break;
    case LWS_CALLBACK_CLIENT_RECEIVE:
        on_receive(s, in, len);
        if (s->closing)
            return -1;
        break;
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return on_writable(s);
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        note_refusal(s, wsi);
        attempt_failed(s, s->http_status != 0 ? ERR_SERVER : ERR_CONNECT);
        break;
    case LWS_CALLBACK_CLIENT_CLOSED:
        attempt_failed(s, ERR_BROKEN);
        break;
    default:
        return 0;
    }
    schedule(s);
    return 0;
}

/* ---- the thread ---- */

static void step(struct stream *s, uint64_t now_ms)
{
    switch (hub_next(&s->hub, now_ms)) {
    case HUB_CONNECT:
        connect_socket(s, false);
        break;
    case HUB_NEGOTIATE:
        connect_socket(s, true);
        break;
    case HUB_PING:
        s->ping_due = true;
        lws_callback_on_writable(s->wsi);
        break;
    case HUB_CLOSE:
        s->closing = true;
        hub_heard(&s->hub, now_ms); /* asked to close; not again in the next moment */
        if (s->wsi != NULL)
            lws_set_timeout(s->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
        break;
    case HUB_NOTHING:
        break;
    }
}

static void on_timer(lws_sorted_usec_list_t *timer)
{
    struct stream *s = lws_container_of(timer, struct stream, timer);

    step(s, sys_now_ms());
    schedule(s);
}

static void schedule(struct stream *s)
{
    uint64_t now_ms = sys_now_ms(), at = hub_wake(&s->hub, now_ms);

    /* At least once a while, so that the service watchdog sees the thread move. */
    if (at > now_ms + PROGRESS_MS)
        at = now_ms + PROGRESS_MS;
    lws_sul_schedule(s->context, 0, &s->timer, on_timer,
                     (lws_usec_t)(at - now_ms + 1) * LWS_US_PER_MS);
}

static void *run(void *arg)
{
    struct stream *s = arg;

    take_orders(s);
    while (!atomic_load(&s->stop)) {
        atomic_store(&s->progress_ms, sys_now_ms());
        if (lws_service(s->context, 0) < 0)
            break;
    }
    eventfd_write(s->exit_fd, 1);
    return NULL;
}

static const struct lws_protocols protocols[] = {
    {.name = "signalr",           .callback = callback, .rx_buffer_size = RX_BYTES},
    {.name = NULL},
};

enum err stream_new(struct stream **ret, const struct stream_options *opt)
{
    static const char system_ca[] = "/etc/ssl/certs/ca-certificates.crt";
    struct lws_context_creation_info info = {.port = CONTEXT_PORT_NO_LISTEN,
                                             .protocols = protocols,
                                             .options =
                                                 LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
                                             .connect_timeout_secs = 10,
                                             .timeout_secs = 10,
                                             .fd_limit_per_thread = 16};
    struct stream *s = calloc(1, sizeof *s);
    struct target target;
    enum err err = ERR_SYSTEM;

    if (s == NULL)
        return ERR_SYSTEM;
    pthread_mutex_init(&s->lock, NULL);
    s->exit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->wake = opt->wake;
    s->wake_arg = opt->arg;
    snprintf(s->url, sizeof s->url, "%s", opt->url);
    snprintf(s->ca_file, sizeof s->ca_file, "%s",
             opt->ca_file != NULL ? opt->ca_file : "");
    s->subscription = calloc(SERIALS_MAX, sizeof s->subscription[0]);
    hub_init(&s->hub, sys_random());
    if (!parse_target(s->url, &target)) {
        err = ERR_CONFIG;
        goto out;
    }
    lws_set_log_level(0, NULL);
    info.user = s;
    info.client_ssl_ca_filepath = s->ca_file[0] != '\0' ? s->ca_file : system_ca;
    info.ssl_client_options_set = SSL_OP_NO_SSLv3 | SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1;
    s->context = lws_create_context(&info);
    if (s->exit_fd < 0 || s->subscription == NULL || s->context == NULL)
        goto out;
    *ret = s;
    return ERR_OK;
out:
    stream_free(s);
    return err;
}

enum err stream_start(struct stream *s)
{
    int error;

    atomic_store(&s->progress_ms, sys_now_ms());
    error = pthread_create(&s->thread, NULL, run, s);
    if (error != 0) {
        errno = error;
        return ERR_SYSTEM;
    }
    s->started = true;
    return ERR_OK;
}

void stream_set_token(struct stream *s, const char *access)
{
    pthread_mutex_lock(&s->lock);
    explicit_bzero(s->token, sizeof s->token);
    snprintf(s->token, sizeof s->token, "%s", access != NULL ? access : "");
    s->token_changed = true;
    pthread_mutex_unlock(&s->lock);
    lws_cancel_service(s->context);
}

void stream_subscribe(struct stream *s, const char *serial)
{
    size_t i = 0;

    pthread_mutex_lock(&s->lock);
    while (i < s->subscriptions && strcmp(s->subscription[i].serial, serial) != 0)
        i++;
    if (i < SERIALS_MAX) {
        snprintf(s->subscription[i].serial, sizeof s->subscription[i].serial, "%s",
                 serial);
        s->subscription[i].due = true;
        if (i == s->subscriptions)
            s->subscriptions++;
    }
    pthread_mutex_unlock(&s->lock);
    lws_cancel_service(s->context);
}

uint64_t stream_progress_ms(const struct stream *s)
{
    return atomic_load(&s->progress_ms);
}

bool stream_stop(struct stream *s, uint32_t timeout_ms)
{
    struct pollfd ended = {.fd = s->exit_fd, .events = POLLIN};

    if (!s->started)
        return true;
    atomic_store(&s->stop, true);
    lws_cancel_service(s->context);
    if (poll(&ended, 1, (int)timeout_ms) <= 0)
        return false;
    pthread_join(s->thread, NULL);
    s->started = false;
    return true;
}

void stream_free(struct stream *s)
{
    if (s == NULL)
        return;
    if (s->context != NULL)
        lws_context_destroy(s->context);
    if (s->exit_fd >= 0)
        close(s->exit_fd);
    pthread_mutex_destroy(&s->lock);
    explicit_bzero(s->token, sizeof s->token);
    explicit_bzero(&s->target, sizeof s->target);
    free(s->subscription);
    free(s);
}
