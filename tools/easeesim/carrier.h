/* SPDX-License-Identifier: MIT
 * carrier.h - takes what waits in the hub's links to where their clients are: over a
 * WebSocket, as server-sent events, or in the answer to a poll. */
#ifndef EASEESIM_CARRIER_H
#define EASEESIM_CARRIER_H

#include "hub.h"
#include "message.h"

#include <libwebsockets.h>

/* The link that WSI carries; NULL. */
struct hub_link *carrier_link(struct hub *h, const struct lws *wsi);

/* Asks for a chance to write wherever something waits. */
void carrier_wake(struct hub *h);

/* Writes what fits one frame; negative: the connection is over. */
int carrier_write(struct hub *h, struct hub_link *l);

/* Makes R the answer to a poll.  False: there is nothing to say yet. */
bool carrier_answer_poll(struct hub *h, struct hub_link *l, struct response *r);

/* WSI is gone, and with it the link unless its client polls. */
void carrier_closed(struct hub *h, const struct lws *wsi);

#endif
