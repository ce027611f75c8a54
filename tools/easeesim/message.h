/* SPDX-License-Identifier: MIT
 * message.h - one HTTP request and its answer, apart from any socket. */
#ifndef EASEESIM_MESSAGE_H
#define EASEESIM_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hub_link;

enum {
    METHOD_SIZE = 8,
    PATH_SIZE = 1024,
    QUERY_SIZE = 2048,
    AUTH_SIZE = 4096,
    AGENT_SIZE = 256,
    TYPE_SIZE = 128,
    IP_SIZE = 64,
    BODY_MAX = 64 * 1024, /* of a request; more is answered 413 */
    HEADERS_MAX = 8,
    HEADER_SIZE = 256
};

struct request {
    char method[METHOD_SIZE], path[PATH_SIZE], query[QUERY_SIZE];
    char authorization[AUTH_SIZE], user_agent[AGENT_SIZE], ip[IP_SIZE],
        content_type[TYPE_SIZE];
    char host[HEADER_SIZE], accept[TYPE_SIZE];
    bool tls, too_large, upgrade; /* to a WebSocket */
    char *body;                   /* NUL-terminated at body[body_len]; NULL: none */
    size_t body_len;
};

/* What happens on the wire instead of a whole answer. */
enum wire {
    WIRE_ANSWER,
    WIRE_RESET,    /* the connection is reset, nothing is sent */
    WIRE_TRUNCATE, /* the headers promise the whole body, half of it comes, then the end
                    */
    WIRE_SILENT,   /* nothing ever comes; the connection stays */
    WIRE_LINK      /* the answer is what comes through LINK, as its transport has it */
};

struct header {
    char name[64], value[HEADER_SIZE];
};

struct response {
    int status;
    enum wire wire;
    uint64_t delay_ms; /* of real time, before anything is sent */
    const char *type;  /* Content-Type; NULL: none */
    char *body;        /* owned; NULL: empty */
    size_t body_len;
    unsigned n_headers;
    struct header header[HEADERS_MAX];
    struct hub_link *link; /* not owned */
};

/* The first value of NAME in the query, as it stands there.  False: none that fits. */
bool request_query(const struct request *q, const char *name, char *ret, size_t size);

void response_release(struct response *r);

/* Takes BODY, which may be NULL. */
void response_set(struct response *r, int status, const char *type, char *body);
/* Copies TEXT. */
void response_text(struct response *r, int status, const char *type, const char *text);
/* The name's first occurrence is replaced; more than HEADERS_MAX are dropped. */
void response_header(struct response *r, const char *name, const char *value);
const char *response_get_header(const struct response *r, const char *name);

#endif
