/* SPDX-License-Identifier: MIT */
#include "evecc/easee.h"

#include "evecc/config.h"
#include "evecc/easee_msg.h"

#include <curl/curl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

/* Who asks: the cloud has blocked clients that could not be told apart (easee-api 1.1).
 * Whoever publishes a build adds an address to write to. */
#ifndef EVECC_CONTACT
#define EVECC_CONTACT "Modbus TCP gateway"
#endif

enum {
    SLOTS = EASEE_CALLS_MAX + 1, /* one holds the reply that was taken last */
    URL_MAX = 512,
    REQUEST_MAX = 4 * EASEE_TOKEN_MAX, /* a refresh carries two tokens */
    HEADERS_MAX = 64 * 1024,
    IDLE_CONNECTIONS = 4,
    IDLE_S = 60,
    CONNECT_TIMEOUT_MS = 5000,
    TIMEOUT_MS = 10000
};

enum state { FREE, RUNNING, TAKEN };

struct call {
    CURL *curl;
    enum state state;
    uint64_t tag;
    bool too_large;
    bool headers_whole;
    uint16_t transmissions;
    size_t headers_len;
    char date[40], retry_after[40]; /* as received, cut */
    size_t len;
    char error[CURL_ERROR_SIZE];
    struct curl_slist header[4];
    /* These hold secrets, and are wiped when the slot is free again. */
    char authorization[EASEE_TOKEN_MAX + 32];
    char request[REQUEST_MAX];
    char body[EASEE_BODY_MAX + 1];
};

struct easee {
    CURLM *multi;
    unsigned running; /* of the calls; also those that have ended but were not taken */
    char url[URL_MAX];
    char token[EASEE_TOKEN_MAX];
    struct call calls[SLOTS];
};

/* ---- the process ---- */

void easee_prepare_process(void)
{
    /* Nothing around us may redirect the traffic, record its keys or choose whom to
     * trust. */
    static const char *const obeyed[] = {
        "SSLKEYLOGFILE", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE",
        "NETRC",         "http_proxy",    "https_proxy",  "HTTPS_PROXY",
        "HTTP_PROXY",    "all_proxy",     "ALL_PROXY",    "no_proxy",
        "NO_PROXY",      "HOSTALIASES",   "LOCALDOMAIN"};

    for (size_t i = 0; i < sizeof obeyed / sizeof obeyed[0]; i++)
        unsetenv(obeyed[i]);
    /* Else dead name servers hold a look-up for up to half a minute (reliability 1.4). */
    setenv("RES_OPTIONS", "timeout:1 attempts:1", 1);
    /* With NOSIGNAL libcurl leaves this to us. */
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* ---- what libcurl calls ---- */

/* What was not acknowledged when a call is given up is not to arrive: the kernel would
 * repeat it for minutes after the socket was closed, and an old setpoint came after a
 * newer one. */
static int on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    (void)arg;
    (void)purpose;
    return setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0
               ? CURL_SOCKOPT_OK
               : CURL_SOCKOPT_ERROR;
}

/* Before every request, also when libcurl repeats one whose kept connection had died. */
/* NOLINTNEXTLINE(readability-non-const-parameter): libcurl's type */
static int on_request(void *arg, char *peer, char *local, int peer_port, int local_port)
{
    struct call *c = arg;

    (void)peer;
    (void)local;
    (void)peer_port;
    (void)local_port;
    c->transmissions++;
    return CURL_PREREQFUNC_OK;
}

static void keep_value(char *ret, size_t size, const char *line, size_t len,
                       const char *name)
{
    size_t at = strlen(name);

    if (len <= at || strncasecmp(line, name, at) != 0)
        return;
    while (at < len && (line[at] == ' ' || line[at] == '\t'))
        at++;
    while (len > at && (unsigned char)line[len - 1] <= ' ')
        len--;
    snprintf(ret, size, "%.*s", (int)(len - at < size ? len - at : size), line + at);
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    struct call *c = arg;
    size_t len = size * count;

    c->headers_len += len;
    if (c->headers_len > HEADERS_MAX) {
        c->too_large = true;
        return 0;
    }
    if (len > 5 && memcmp(line, "HTTP/", 5) == 0) { /* another, after 100 Continue */
        c->date[0] = c->retry_after[0] = '\0';
        c->headers_whole = false;
    }
    if (len > 0 &&
        (line[0] == '\r' || line[0] == '\n')) /* trailers may follow the body */
        c->headers_whole = true;
    keep_value(c->date, sizeof c->date, line, len, "Date:");
    keep_value(c->retry_after, sizeof c->retry_after, line, len, "Retry-After:");
    return len;
}

/* CURLOPT_MAXFILESIZE does not see chunked bodies (reliability 1.4). */
static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct call *c = arg;
    size_t len = size * count;

    if (len > EASEE_BODY_MAX - c->len) {
        c->too_large = true;
        return 0;
    }
    memcpy(c->body + c->len, data, len);
    c->len += len;
    return len;
}

/* ---- start and end ---- */

static bool url_has(CURLU *u, CURLUPart part)
{
    char *text = NULL;

    curl_url_get(u, part, &text, 0);
    curl_free(text);
    return text != NULL;
}

/* https, or http to this machine; nothing hidden in it. */
static bool url_is_safe(const char *url)
{
    char *scheme = NULL, *host = NULL;
    CURLU *u = curl_url();
    bool safe = u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                (strcmp(scheme, "https") == 0 ||
                 (strcmp(scheme, "http") == 0 && config_is_loopback(host))) &&
                !url_has(u, CURLUPART_USER) && !url_has(u, CURLUPART_PASSWORD) &&
                !url_has(u, CURLUPART_QUERY) && !url_has(u, CURLUPART_FRAGMENT);

    curl_free(scheme);
    curl_free(host);
    curl_url_cleanup(u);
    return safe;
}

#define SET(option, value) (curl_easy_setopt(c->curl, option, value) == CURLE_OK)

/* What is the same for every call of the slot. */
static bool set_up(struct call *c, const struct easee_options *opt)
{
    const long connect_ms =
        opt->connect_timeout_ms ? (long)opt->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    const long total_ms = opt->timeout_ms ? (long)opt->timeout_ms : TIMEOUT_MS;
    const char *scheme = strncasecmp(opt->api_url, "https:", 6) == 0 ? "https" : "http";
    const char *ca_file = opt->ca_file != NULL ? opt->ca_file : "";

    /* A limit on the speed would only cut answers that take long to begin (reliability
     * F-37): the whole call is bounded.  QUICK_EXIT: a look-up that takes longer than the
     * call is left to end by itself instead of being waited for, with all other calls. */
    c->curl = curl_easy_init();
    return c->curl != NULL && SET(CURLOPT_PRIVATE, c) &&
           SET(CURLOPT_ERRORBUFFER, c->error) &&
           SET(CURLOPT_USERAGENT, "evecc/" EVECC_VERSION " (" EVECC_CONTACT ")") &&
           SET(CURLOPT_PROTOCOLS_STR, scheme) &&
           SET(CURLOPT_REDIR_PROTOCOLS_STR, scheme) && SET(CURLOPT_FOLLOWLOCATION, 0L) &&
           SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) && SET(CURLOPT_PROXY, "") &&
           SET(CURLOPT_NOPROXY, "*") && SET(CURLOPT_NOSIGNAL, 1L) &&
           SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) &&
           SET(CURLOPT_CONNECTTIMEOUT_MS, connect_ms) &&
           SET(CURLOPT_TIMEOUT_MS, total_ms) && SET(CURLOPT_QUICK_EXIT, 1L) &&
           SET(CURLOPT_TCP_KEEPALIVE, 1L) && SET(CURLOPT_MAXAGE_CONN, (long)IDLE_S) &&
           SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) &&
           SET(CURLOPT_SSL_VERIFYPEER, 1L) && SET(CURLOPT_SSL_VERIFYHOST, 2L) &&
           (ca_file[0] == '\0' || SET(CURLOPT_CAINFO, ca_file)) &&
           /* A directory would have every connection read all authorities again: 20 ms
            * (performance 5). */
           SET(CURLOPT_CAPATH, NULL) &&
           SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)EASEE_BODY_MAX) &&
           SET(CURLOPT_SOCKOPTFUNCTION, on_socket) &&
           SET(CURLOPT_PREREQFUNCTION, on_request) && SET(CURLOPT_PREREQDATA, c) &&
           SET(CURLOPT_HEADERFUNCTION, on_header) && SET(CURLOPT_HEADERDATA, c) &&
           SET(CURLOPT_WRITEFUNCTION, on_body) && SET(CURLOPT_WRITEDATA, c);
}

enum err easee_new(struct easee **ret, const struct easee_options *opt)
{
    struct easee *e;
    size_t len = strlen(opt->api_url);
    bool good;

    while (len > 0 && opt->api_url[len - 1] == '/')
        len--;
    if (!url_is_safe(opt->api_url) || len + EASEE_PATH_MAX >= URL_MAX)
        return ERR_CONFIG;
    /* Mostly bodies, and pages that are not used are not there. */
    e = calloc(1, sizeof *e);
    if (e == NULL)
        return ERR_SYSTEM;
    memcpy(e->url, opt->api_url, len);
    e->multi = curl_multi_init();
    good = e->multi != NULL && curl_multi_setopt(e->multi, CURLMOPT_MAXCONNECTS,
                                                 (long)IDLE_CONNECTIONS) == CURLM_OK;
    for (size_t i = 0; i < SLOTS; i++)
        good = good && set_up(&e->calls[i], opt);
    if (!good) {
        easee_free(e);
        return ERR_SYSTEM;
    }
    *ret = e;
    return ERR_OK;
}

static void make_free(struct call *c)
{
    explicit_bzero(c->authorization, strlen(c->authorization));
    explicit_bzero(c->request, strlen(c->request));
    explicit_bzero(c->body, c->len);
    c->len = 0;
    c->state = FREE;
}

void easee_free(struct easee *e)
{
    if (e == NULL)
        return;
    for (size_t i = 0; i < SLOTS; i++) {
        struct call *c = &e->calls[i];

        if (c->state == RUNNING)
            curl_multi_remove_handle(e->multi, c->curl);
        curl_easy_cleanup(c->curl);
        make_free(c);
    }
    curl_multi_cleanup(e->multi);
    explicit_bzero(e->token, sizeof e->token);
    free(e);
}

void easee_set_token(struct easee *e, const char *access)
{
    explicit_bzero(e->token, sizeof e->token);
    if (access != NULL)
        snprintf(e->token, sizeof e->token, "%s", access);
}

/* ---- a call ---- */

unsigned easee_room(const struct easee *e)
{
    return EASEE_CALLS_MAX - e->running;
}

static struct call *free_slot(struct easee *e)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (e->calls[i].state == FREE)
            return &e->calls[i];
    return NULL;
}

/* Part of a path is what the cloud or the configuration named. */
static bool path_is_safe(const char *path)
{
    size_t len = strnlen(path, EASEE_PATH_MAX);

    for (size_t i = 0; i < len; i++)
        if (path[i] <= ' ' || path[i] > '~' || path[i] == '#')
            return false;
    return path[0] == '/' && len < EASEE_PATH_MAX;
}

static void add_header(struct call *c, size_t *count, char *text)
{
    struct curl_slist *h = &c->header[(*count)++];

    h->data = text;
    h->next = NULL;
    if (h > c->header)
        h[-1].next = h;
}

static bool set_request(struct call *c, const struct easee_call *call, const char *url,
                        const char *token)
{
    static char accept[] = "Accept: application/json",
                no_expect[] = "Expect:", json[] = "Content-Type: application/json";
    size_t headers = 0;

    add_header(c, &headers, accept);
    if (call->authorised) {
        snprintf(c->authorization, sizeof c->authorization, "Authorization: Bearer %s",
                 token);
        add_header(c, &headers, c->authorization);
    }
    if (call->body != NULL) {
        memcpy(c->request, call->body, strlen(call->body) + 1);
        add_header(c, &headers, json);
        add_header(c, &headers, no_expect);
    }
    return SET(CURLOPT_URL, url) && SET(CURLOPT_HTTPHEADER, c->header) &&
           (call->body == NULL
                ? SET(CURLOPT_HTTPGET, 1L)
                : SET(CURLOPT_POST, 1L) && SET(CURLOPT_POSTFIELDS, c->request) &&
                      SET(CURLOPT_POSTFIELDSIZE, (long)strlen(c->request))) &&
           SET(CURLOPT_FRESH_CONNECT, (long)call->once) &&
           SET(CURLOPT_FORBID_REUSE, (long)call->once);
}

enum err easee_start(struct easee *e, const struct easee_call *call)
{
    struct call *c = free_slot(e);
    char url[URL_MAX];

    if (!path_is_safe(call->path))
        return ERR_CONFIG;
    if (call->authorised && e->token[0] == '\0')
        return ERR_UNAUTHORISED;
    if (easee_room(e) == 0 || c == NULL ||
        (call->body != NULL && strlen(call->body) >= REQUEST_MAX))
        return ERR_SYSTEM;
    snprintf(url, sizeof url, "%s%s", e->url, call->path);
    c->tag = call->tag;
    c->too_large = c->headers_whole = false;
    c->transmissions = 0;
    c->headers_len = 0;
    c->date[0] = c->retry_after[0] = c->error[0] = '\0';
    if (!set_request(c, call, url, e->token) ||
        curl_multi_add_handle(e->multi, c->curl) != CURLM_OK) {
        make_free(c);
        return ERR_SYSTEM;
    }
    c->state = RUNNING;
    e->running++;
    return ERR_OK;
}

void easee_run(struct easee *e, int timeout_ms)
{
    int running = 0;

    curl_multi_perform(e->multi, &running);
    if (running < 0 || (unsigned)running < e->running || timeout_ms == 0)
        return;
    curl_multi_poll(e->multi, NULL, 0, timeout_ms < 0 ? INT_MAX : timeout_ms, NULL);
    curl_multi_perform(e->multi, &running);
}

void easee_wake(struct easee *e)
{
    curl_multi_wakeup(e->multi);
}

/* ---- a reply ---- */

/* libcurl says 60 for every certificate it does not like; OpenSSL says why (x509_vfy.h).
 * 1 and 0: the certificate is good, but for another host. */
static enum err certificate_err(const struct call *c)
{
    long why = 0;

    curl_easy_getinfo(c->curl, CURLINFO_SSL_VERIFYRESULT, &why);
    switch (why) {
    case 9:  /* not yet valid */
    case 10: /* expired */
        return ERR_TLS_EXPIRED;
    case 0:
    case 1:
    case 62: /* host name mismatch */
    case 64: /* IP address mismatch */
        return ERR_TLS_HOST;
    case 2:  /* issuer not found */
    case 18: /* self-signed */
    case 19: /* self-signed in the chain */
    case 20: /* issuer not found here */
    case 21: /* first one cannot be verified */
    case 24: /* invalid authority */
    case 27: /* not trusted */
        return ERR_TLS_CA;
    default:
        return ERR_TLS;
    }
}

/* Still looking up the name when time was up? */
static bool was_resolving(const struct call *c)
{
    curl_off_t lookup_us = 0;

    curl_easy_getinfo(c->curl, CURLINFO_NAMELOOKUP_TIME_T, &lookup_us);
    return c->transmissions == 0 && lookup_us == 0;
}

static enum err err_of(const struct call *c, CURLcode rc)
{
    if (c->too_large)
        return ERR_TOO_LARGE;
    switch (rc) {
    case CURLE_OK:
        return ERR_OK;
    case CURLE_COULDNT_RESOLVE_HOST:
        return ERR_RESOLVE;
    case CURLE_COULDNT_CONNECT:
        return ERR_CONNECT;
    case CURLE_OPERATION_TIMEDOUT:
        return was_resolving(c) ? ERR_RESOLVE : ERR_TIMEOUT;
    case CURLE_PEER_FAILED_VERIFICATION:
        return certificate_err(c);
    case CURLE_SSL_CACERT_BADFILE:
        return ERR_TLS_CA;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_INVALIDCERTSTATUS:
        return ERR_TLS;
    case CURLE_FILESIZE_EXCEEDED:
        return ERR_TOO_LARGE;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9: no header at all */
    case CURLE_BAD_CONTENT_ENCODING:
        return ERR_PARSE;
    case CURLE_OUT_OF_MEMORY:
    case CURLE_FAILED_INIT:
        return ERR_SYSTEM;
    default:
        return ERR_BROKEN;
    }
}

static int64_t unix_s(const char *date)
{
    time_t t = date[0] != '\0' ? curl_getdate(date, NULL) : -1;

    return t > 0 ? (int64_t)t : 0;
}

/* Seconds, or a date, which counts from the cloud's own clock: ours may be wrong, and
 * CURLINFO_RETRY_AFTER would ask it.  What cannot be understood is as good as absent. */
static int64_t retry_after_s(const struct call *c)
{
    size_t digits = strspn(c->retry_after, "0123456789");
    int64_t until = unix_s(c->retry_after), now = unix_s(c->date);

    if (digits > 0 && c->retry_after[digits] == '\0')
        return digits < 10 ? (int64_t)strtoll(c->retry_after, NULL, 10) : INT32_MAX;
    if (digits > 0 || until == 0 || now == 0)
        return -1;
    return until > now ? until - now : 0;
}

static void copy_ascii(char *ret, size_t size, const char *text)
{
    size_t i = 0;

    for (; text[i] != '\0' && i + 1 < size; i++)
        ret[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    ret[i] = '\0';
}

static void fill_reply(struct call *c, CURLcode rc, struct easee_reply *ret)
{
    long status = 0;

    memset(ret, 0, sizeof *ret);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    ret->tag = c->tag;
    ret->err = err_of(c, rc);
    ret->http_status = status > 0 && status <= UINT16_MAX ? (uint16_t)status : 0;
    ret->transmissions = c->transmissions;
    ret->retry_after_s = retry_after_s(c);
    ret->date_unix_ms = unix_s(c->date) * 1000;
    /* libcurl is content when the connection ends among the headers: an empty 200. */
    if (ret->err == ERR_OK && !c->headers_whole)
        ret->err = ERR_BROKEN;
    if (ret->err == ERR_OK && status / 100 == 3)
        ret->err = ERR_REDIRECTED;
    if (ret->err == ERR_OK) {
        ret->len = c->len;
    } else {
        const char *words = rc == CURLE_OK ? err_text(ret->err) : curl_easy_strerror(rc);

        copy_ascii(ret->detail, sizeof ret->detail,
                   c->error[0] != '\0' ? c->error : words);
    }
    c->body[c->len] = '\0';
    ret->body = ret->err == ERR_OK ? c->body : "";
}

bool easee_take(struct easee *e, struct easee_reply *ret)
{
    struct call *c = NULL;
    CURLMsg *m;
    CURLcode rc;
    int left;

    for (size_t i = 0; i < SLOTS; i++)
        if (e->calls[i].state == TAKEN)
            make_free(&e->calls[i]);
    do
        m = curl_multi_info_read(e->multi, &left);
    while (m != NULL && m->msg != CURLMSG_DONE);
    if (m == NULL)
        return false;
    rc = m->data.result; /* gone once the handle is removed */
    curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c);
    curl_multi_remove_handle(e->multi, c->curl);
    e->running--;
    c->state = TAKEN;
    fill_reply(c, rc, ret);
    return true;
}
