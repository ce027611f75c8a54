/* SPDX-License-Identifier: MIT
 * easee.h - HTTPS calls to the Easee cloud, many at a time, none of them waiting for
 * another.
 *
 * Owned by the sync thread; easee_wake() alone may be called from any thread.  It carries
 * texts and knows nothing of their meaning; whether to ask is the core's decision, and
 * nothing is retried here.
 *
 * libcurl's traps are closed (reliability 1.4): no redirects, https only (http to
 * loopback), bodies capped in the write callback, bounded times, TLS 1.2 or newer with
 * verification, no proxy, .netrc or cookies, calls that must not be repeated on a fresh
 * connection. */
#ifndef EVECC_EASEE_H
#define EVECC_EASEE_H

#include "evecc/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EASEE_CALLS_MAX = 16, EASEE_PATH_MAX = 256 };

struct easee;

struct easee_options {
    const char *api_url;         /* without a trailing slash; borrowed for easee_new() */
    const char *ca_file;         /* "" or NULL: the system's */
    uint32_t connect_timeout_ms; /* 0: 5000 */
    uint32_t timeout_ms;         /* of a whole call; 0: 10000 */
};

struct easee_call {
    uint64_t tag;     /* returned with the reply; the caller's own */
    const char *path; /* "/api/..."; copied */
    const char *body; /* JSON to POST, copied; NULL: GET */
    bool authorised;  /* carries the token */
    bool once;        /* must not be repeated by the library: own, fresh connection */
};

struct easee_reply {
    uint64_t tag;
    /* ERR_OK: an HTTP answer came whole, whatever its status but 3xx, ERR_REDIRECTED. */
    enum err err;
    uint16_t http_status;   /* 0: none; known, too, when an answer broke off */
    uint16_t transmissions; /* times the request left; 2: libcurl repeated it */
    int64_t retry_after_s;  /* negative: no such header, or not understood */
    int64_t date_unix_ms;   /* the cloud's clock (Date header); 0: none */
    /* NUL-terminated, "" when err is not ERR_OK.  Points into the client until the next
     * easee_take(). */
    const char *body;
    size_t len;
    char detail[128]; /* what went wrong in libcurl's words: plain ASCII, no secrets */
};

/* Cleans the environment of what libcurl and OpenSSL would obey (proxies, key log,
 * trust), bounds name resolution (RES_OPTIONS) and ignores SIGPIPE.  To be called once,
 * before any thread is started. */
void easee_prepare_process(void);

/* A client for OPT->api_url.  Returns owned, freed with easee_free().  ERR_CONFIG when
 * the URL is not https, or http to another host than loopback. */
enum err easee_new(struct easee **ret, const struct easee_options *opt);

/* Ends all calls without waiting.  NULL is fine. */
void easee_free(struct easee *e);

/* The bearer token for authorised calls that start from now on; copied, and wiped when
 * replaced.  NULL: none. */
void easee_set_token(struct easee *e, const char *access);

/* How many more calls can be started now. */
unsigned easee_room(const struct easee *e);

/* Starts a call.  On failure nothing is sent: ERR_SYSTEM, no room or no memory;
 * ERR_CONFIG, no path of ours; ERR_UNAUTHORISED, no token for an authorised call. */
enum err easee_start(struct easee *e, const struct easee_call *call);

/* Sends and receives what is ready, then waits up to TIMEOUT_MS (negative: for ever) for
 * more or for easee_wake().  Returns at once when a call has ended. */
void easee_run(struct easee *e, int timeout_ms);

/* The next call that has ended; false: none.  RET's body is valid until the next
 * easee_take() or easee_free(). */
bool easee_take(struct easee *e, struct easee_reply *ret);

/* Makes easee_run() return.  Any thread, also before it waits. */
void easee_wake(struct easee *e);

#endif
