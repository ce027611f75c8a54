/* SPDX-License-Identifier: MIT
 * http.h - the simulator on a socket: HTTP or HTTPS by libwebsockets. */
#ifndef EASEESIM_HTTP_H
#define EASEESIM_HTTP_H

#include "sim.h"

struct http_options {
    const char *address;
    int port;               /* 0: any */
    const char *cert, *key; /* NULL: plain HTTP */
};

struct http; /* the listener and its connections */

/* Listens.  NULL: WHY (JSON_WHY bytes) says what is wrong.  SIM is borrowed until
 * http_free(). */
struct http *http_new(struct sim *sim, const struct http_options *o, char *why);
int http_port(const struct http *h);

/* http_run() ends when FD, which H takes, becomes readable; false: no such watch. */
bool http_stop_on(struct http *h, int fd);

/* Serves until then, or until POST /sim/quit. */
void http_run(struct http *h);
void http_free(struct http *h);

/* Real time, as sim.h wants it. */
uint64_t http_real_us(void);
uint64_t http_unix_ms(void);

#endif
