/* SPDX-License-Identifier: MIT
 * server.h - Modbus TCP connections: bytes in, frames to the gateway, answers out.
 *
 * Owned by the Modbus thread; never blocks.  Sockets are served from the caller's epoll
 * set, level-triggered.  Bounded per client: one frame of input, `queue` of answers not
 * yet taken (then its socket is not read), one turn of work at a time.  Bounded per
 * listener: the places of its pool (pool.h).
 *
 * A frame must be whole `frame_timeout` after its first byte; a client that takes no
 * answer for `stall_timeout` is closed; three frames of another protocol close it
 * (reliability C-06).
 *
 * Marked clients (`priority`) have an epoll set of their own inside the caller's, which
 * is looked at again after at most one turn and 64 requests of others. */
#ifndef EVECC_SERVER_H
#define EVECC_SERVER_H

#include "evecc/config.h"
#include "evecc/err.h"
#include "evecc/gateway.h"

#include <stdint.h>

struct server;

/* Opens every listener of CFG (borrowed for the call) and adds it to the epoll set EPOLL.
 * Sockets that the service manager has opened (sys_listen_fds()) are taken: one with the
 * address and port of a listener becomes that listener, any other is closed and logged.
 * epoll_event.data.ptr of every event that belongs to the server is not NULL and is given
 * to server_event().  On failure nothing stays open and WHY (WHY_SIZE bytes) says which
 * listener failed, why, and what to do. */
enum err server_new(struct server **ret, const struct config *cfg,
                    struct gateway *gateway, int epoll, char *why, size_t why_size);

/* Closes listeners and connections.  NULL is fine. */
void server_free(struct server *s);

/* Closes the listeners, keeps the connections. */
void server_stop_listening(struct server *s);

/* Serves one event of the epoll set. */
void server_event(struct server *s, void *ptr, uint32_t events, uint64_t now_ms,
                  uint64_t unix_s);

/* Closes what has timed out.  To be called after the events of a wake-up. */
void server_tick(struct server *s, uint64_t now_ms);

/* When server_tick() has something to do; NEVER. */
uint64_t server_wake(const struct server *s);

/* Address and port of listener I as bound, e.g. "[::]:502"; NULL past the last.  Points
 * into the server. */
const char *server_address(const struct server *s, size_t i);

#endif
