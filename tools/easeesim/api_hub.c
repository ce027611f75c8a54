/* SPDX-License-Identifier: MIT
 * The hub as its HTTP side sees it: negotiating, connecting, and the two transports that
 * are plain HTTP (easee-api 7.1; SignalR's transport protocols). */
#include "api.h"

#include "json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char home[] = "chargers", elsewhere[] = "elsewhere";

static bool is_hub(struct call *call)
{
    bool known = strcmp(call->arg[0], home) == 0 || strcmp(call->arg[0], elsewhere) == 0;

    if (!known)
        response_set(call->response, 404, NULL, NULL);
    return known;
}

/* A new connection, within the limit of them.  NULL: answered. */
static struct hub_link *open_link(struct call *call)
{
    struct sim *s = call->sim;
    char key[LIMIT_KEY_SIZE], seconds[24];
    uint64_t wait_ms;
    struct hub_link *l;

    snprintf(key, sizeof key, "account %u", call->account);
    wait_ms = limits_take(&s->limits, LIMIT_connect, key, s->model.now_ms);
    if (wait_ms > 0) {
        limits_excess(&s->limits, call->request->ip, s->model.now_ms);
        snprintf(seconds, sizeof seconds, "%" PRIu64, sim_client_s(s, wait_ms));
        response_header(call->response, "Retry-After", seconds);
        response_set(call->response, 429, NULL, NULL);
        return NULL;
    }
    l = hub_open(&s->hub, call->account);
    if (!l)
        response_set(call->response, 503, NULL, NULL);
    return l;
}

static void add_transport(cJSON *list, const char *name, bool on, bool binary)
{
    cJSON *o, *formats;

    if (!on)
        return;
    o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "transport", name);
    formats = cJSON_AddArrayToObject(o, "transferFormats");
    cJSON_AddItemToArray(formats, cJSON_CreateString("Text"));
    if (binary)
        cJSON_AddItemToArray(formats, cJSON_CreateString("Binary"));
    cJSON_AddItemToArray(list, o);
}

static void redirect(struct call *call)
{
    struct sim *s = call->sim;
    const struct token_pair *p =
        tokens_issue(&s->tokens, call->account, s->model.now_ms, sim_unix_ms(s));
    cJSON *o = cJSON_CreateObject();
    char url[HEADER_SIZE + 32];

    snprintf(url, sizeof url, "%s://%s/hubs/%s", call->request->tls ? "https" : "http",
             call->request->host, elsewhere);
    cJSON_AddStringToObject(o, "url", url);
    cJSON_AddStringToObject(o, "accessToken", p->access);
    api_json(call, 200, o);
}

void api_hub_negotiate(struct call *call)
{
    const struct hub_switches *on = &call->sim->hub.on;
    char version[8] = "0";
    struct hub_link *l;
    cJSON *o, *list;

    if (!is_hub(call))
        return;
    if (on->redirect && strcmp(call->arg[0], home) == 0) {
        redirect(call);
        return;
    }
    l = open_link(call);
    if (!l)
        return;
    request_query(call->request, "negotiateVersion", version, sizeof version);
    o = cJSON_CreateObject();
    if (strtol(version, NULL, 10) > 0) {
        cJSON_AddNumberToObject(o, "negotiateVersion", 1);
        cJSON_AddStringToObject(o, "connectionId", l->name);
        cJSON_AddStringToObject(o, "connectionToken", l->id);
    } else {
        cJSON_AddNumberToObject(o, "negotiateVersion", 0);
        cJSON_AddStringToObject(o, "connectionId", l->id);
    }
    list = cJSON_AddArrayToObject(o, "availableTransports");
    add_transport(list, "WebSockets", on->websockets, true);
    add_transport(list, "ServerSentEvents", on->sse, false);
    add_transport(list, "LongPolling", on->long_polling, true);
    api_extra(call, o);
    api_json(call, 200, o);
}

/* The connection that ?id= names.  NULL: answered. */
static struct hub_link *named_link(struct call *call)
{
    char id[HUB_ID_SIZE] = "";
    struct hub_link *l = NULL;

    if (!request_query(call->request, "id", id, sizeof id))
        response_text(call->response, 400, "text/plain", "Connection ID required");
    else if ((l = hub_find(&call->sim->hub, id)) == NULL || l->account != call->account)
        response_text(call->response, 404, "text/plain", "No Connection with that ID");
    else
        return l;
    return NULL;
}

static enum hub_transport transport_of(const struct request *q)
{
    if (q->upgrade)
        return HUB_WEBSOCKETS;
    return strstr(q->accept, "text/event-stream") ? HUB_EVENTS : HUB_POLLING;
}

static bool offered(const struct hub *h, enum hub_transport t)
{
    return t == HUB_WEBSOCKETS ? h->on.websockets
           : t == HUB_EVENTS   ? h->on.sse
                               : h->on.long_polling;
}

static struct hub_link *link_to_connect(struct call *call, enum hub_transport t)
{
    const struct hub *h = &call->sim->hub;
    char id[QUERY_SIZE];

    if (t == HUB_WEBSOCKETS && h->on.direct &&
        !request_query(call->request, "id", id, sizeof id))
        return open_link(call);
    return named_link(call);
}

void api_hub_connect(struct call *call)
{
    enum hub_transport t = transport_of(call->request);
    struct hub *h = &call->sim->hub;
    struct response *r = call->response;
    struct hub_link *l;

    if (!is_hub(call))
        return;
    if (!offered(h, t)) {
        response_text(r, 404, "text/plain", "This transport is not supported here");
        return;
    }
    l = link_to_connect(call, t);
    if (!l)
        return;
    if (l->carrier || (l->connected && (t != HUB_POLLING || l->transport != t))) {
        response_text(r, 409, "text/plain", "The connection is in use");
        return;
    }
    if (l->connected && l->ended && l->out_len == 0) {
        response_set(r, 204, NULL, NULL);
        hub_close(l);
        return;
    }
    l->heard_us = h->real_us;
    r->wire = WIRE_LINK;
    r->status = t == HUB_WEBSOCKETS ? 101 : 200;
    r->link = l;
    if (t == HUB_EVENTS)
        r->type = "text/event-stream";
    if (l->connected)
        return;
    hub_connect(h, l, t);
    if (t == HUB_POLLING) { /* the first poll only connects */
        r->wire = WIRE_ANSWER;
        r->link = NULL;
    }
}

void api_hub_send(struct call *call)
{
    struct hub_link *l;

    if (!is_hub(call) || !(l = named_link(call)))
        return;
    if (!l->connected || l->transport == HUB_WEBSOCKETS) {
        response_text(call->response, 400, "text/plain", "Not for this transport");
        return;
    }
    if (call->request->body)
        hub_receive(&call->sim->hub, l, call->request->body, call->request->body_len);
    response_set(call->response, 200, NULL, NULL);
}

void api_hub_end(struct call *call)
{
    struct hub_link *l;

    if (!is_hub(call) || !(l = named_link(call)))
        return;
    if (!l->connected || l->transport != HUB_POLLING) {
        response_text(call->response, 400, "text/plain", "Not for this transport");
        return;
    }
    l->ended = true;
    response_set(call->response, 202, NULL, NULL);
}
