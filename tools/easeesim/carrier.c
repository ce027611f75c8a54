/* SPDX-License-Identifier: MIT */
#include "carrier.h"

#include <stdlib.h>
#include <string.h>

enum { FRAME_MAX = 16 * 1024, POLL_MAX = 1024 * 1024 };

struct hub_link *carrier_link(struct hub *h, const struct lws *wsi)
{
    for (unsigned i = 0; i < HUB_LINKS; i++)
        if (h->link[i].used && h->link[i].carrier == wsi)
            return &h->link[i];
    return NULL;
}

void carrier_wake(struct hub *h)
{
    for (unsigned i = 0; i < HUB_LINKS; i++) {
        struct hub_link *l = &h->link[i];

        if (l->used && l->carrier && (l->out_len > 0 || l->ended || l->cut))
            lws_callback_on_writable(l->carrier);
    }
}

/* Bytes as they come through a WebSocket, or as events, of which each is a message. */
static size_t compose(struct hub *h, struct hub_link *l, unsigned char *to)
{
    static const char head[] = "data: ", tail[] = "\r\n\r\n";
    char bytes[FRAME_MAX];
    size_t n = hub_take(h, l, bytes, FRAME_MAX), len = 0;

    if (n > 0 && l->transport == HUB_EVENTS) {
        memcpy(to, head, len = sizeof head - 1);
        memcpy(to + len, bytes, n);
        memcpy(to + len + n, tail, sizeof tail - 1);
        return len + n + sizeof tail - 1;
    }
    memcpy(to, bytes, n);
    return n;
}

int carrier_write(struct hub *h, struct hub_link *l)
{
    unsigned char buf[LWS_PRE + FRAME_MAX + 16];
    bool socket = l->transport == HUB_WEBSOCKETS;
    size_t n;

    if (l->cut)
        return -1;
    n = compose(h, l, buf + LWS_PRE);
    if (n == 0) {
        if (l->ended && socket)
            lws_close_reason(l->carrier, LWS_CLOSE_STATUS_NORMAL, NULL, 0);
        return l->ended ? -1 : 0;
    }
    if (lws_write(l->carrier, buf + LWS_PRE, n,
                  socket ? LWS_WRITE_TEXT : LWS_WRITE_HTTP) < (int)n)
        return -1;
    lws_callback_on_writable(l->carrier);
    return 0;
}

bool carrier_answer_poll(struct hub *h, struct hub_link *l, struct response *r)
{
    size_t len = 0, n;
    char *body;

    if (l->out_len == 0 && !l->ended && !l->cut)
        return false;
    l->carrier = NULL;
    r->wire = l->cut ? WIRE_RESET : WIRE_ANSWER;
    if (l->out_len == 0 || l->cut) {
        response_set(r, 204, NULL, NULL);
        hub_close(l);
        return true;
    }
    body = malloc(POLL_MAX + 1);
    while (body && (n = hub_take(h, l, body + len, POLL_MAX - len)) > 0)
        len += n;
    if (body)
        body[len] = '\0';
    response_set(r, 200, "text/plain", body);
    return true;
}

void carrier_closed(struct hub *h, const struct lws *wsi)
{
    struct hub_link *l = carrier_link(h, wsi);

    if (!l)
        return;
    l->carrier = NULL;
    if (l->transport != HUB_POLLING)
        hub_close(l);
}
