/* SPDX-License-Identifier: MIT */
#include "evecc/signalr.h"

#include "evecc/backoff.h"
#include "json.h"

#include <string.h>

enum {
    TYPE_INVOCATION = 1,
    TYPE_COMPLETION = 3,
    TYPE_PING = 6,
    TYPE_CLOSE = 7,

    PING_MS = 12 * 1000,
    SILENCE_MS = 60 * 1000,
    RETRY_FIRST_MS = 1000,
    RETRY_LAST_MS = 60 * 1000,
    THROTTLED_MS = 60 * 1000,
    BLOCKED_MS = 3600 * 1000,
    STABLE_MS = 60 * 1000, /* a connection that lived so long was no failure */
    DIRECT_ATTEMPTS = 3
};

/* ---- bytes into messages ---- */

void signalr_init(struct signalr_splitter *s)
{
    s->len = s->next = 0;
    s->skipping = false;
    s->dropped = 0;
}

/* Makes room by forgetting what was given out. */
static void compact(struct signalr_splitter *s)
{
    memmove(s->bytes, s->bytes + s->next, s->len - s->next);
    s->len -= s->next;
    s->next = 0;
}

size_t signalr_feed(struct signalr_splitter *s, const char *bytes, size_t n)
{
    size_t room;

    compact(s);
    room = SIGNALR_MESSAGE_MAX - s->len;
    if (n > room)
        n = room;
    memcpy(s->bytes + s->len, bytes, n);
    s->len += n;
    return n;
}

bool signalr_next(struct signalr_splitter *s, const char **ret_text, size_t *ret_len)
{
    for (;;) {
        char *start = s->bytes + s->next;
        char *end = memchr(start, SIGNALR_SEPARATOR, s->len - s->next);
        bool skipped = s->skipping;

        if (end == NULL) {
            if (s->len - s->next < SIGNALR_MESSAGE_MAX)
                return false;
            /* Too long for any message of the hub: dropped up to its end. */
            s->dropped += !s->skipping;
            s->skipping = true;
            s->next = s->len = 0;
            return false;
        }
        s->next = (size_t)(end - s->bytes) + 1;
        s->skipping = false;
        if (skipped || end == start)
            continue;
        *end = '\0';
        *ret_text = start;
        *ret_len = (size_t)(end - start);
        return true;
    }
}

/* ---- messages ---- */

static enum err observation(const cJSON *argument, struct signalr_message *m)
{
    const char *serial = json_string(json_member(argument, "mid"));

    if (!json_is_serial(serial) || !json_observation(argument, &m->observation))
        return ERR_PARSE;
    memcpy(m->serial, serial, strlen(serial) + 1);
    m->kind = SIGNALR_OBSERVATION;
    return ERR_OK;
}

/* TEXT: the whole message, in which the digits of ticks stand. */
static enum err verdict(const cJSON *argument, const char *text,
                        struct signalr_message *m)
{
    const char *serial = json_string(json_member(argument, "serialNumber"));
    const cJSON *accepted = json_member(argument, "wasAccepted");
    int64_t id;

    if (!json_is_serial(serial) || !cJSON_IsBool(accepted) ||
        !json_integer(json_member(argument, "id"), 0, INT32_MAX, &id))
        return ERR_PARSE;
    memcpy(m->serial, serial, strlen(serial) + 1);
    m->command_id = (int32_t)id;
    m->accepted = cJSON_IsTrue(accepted);
    text = json_raw_member(text, "arguments");
    if (text != NULL)
        text = json_raw_member(json_raw_skip(text + 1), "ticks");
    if (text != NULL && !json_raw_integer(text, &m->ticks))
        m->ticks = 0;
    m->kind = SIGNALR_VERDICT;
    return ERR_OK;
}

static enum err invocation(const cJSON *root, const char *text, struct signalr_message *m)
{
    const char *target = json_string(json_member(root, "target"));
    const cJSON *arguments = json_member(root, "arguments");

    /* The specification minds the case of targets, the clients do not (easee-api 7.2). */
    if (json_same_text(target, "ProductUpdate"))
        return observation(cJSON_GetArrayItem(arguments, 0), m);
    if (json_same_text(target, "CommandResponse"))
        return verdict(cJSON_GetArrayItem(arguments, 0), text, m);
    return ERR_OK;
}

static void copy_error(const cJSON *root, struct signalr_message *m)
{
    json_copy_plain(m->text, sizeof m->text, json_string(json_member(root, "error")));
}

static enum err understand(const cJSON *root, const char *text, struct signalr_message *m)
{
    const cJSON *error = json_member(root, "error");
    int64_t type;

    if (!cJSON_IsObject(root))
        return ERR_PARSE;
    if (json_member(root, "type") == NULL) {
        m->kind = error != NULL ? SIGNALR_REFUSED : SIGNALR_HANDSHAKE;
        copy_error(root, m);
        return ERR_OK;
    }
    if (!json_integer(json_member(root, "type"), 0, INT32_MAX, &type))
        return ERR_PARSE;
    switch (type) {
    case TYPE_INVOCATION:
        return invocation(root, text, m);
    case TYPE_COMPLETION:
        m->kind = error != NULL ? SIGNALR_REFUSED : SIGNALR_COMPLETION;
        if (error != NULL)
            copy_error(root, m);
        else
            json_copy_plain(m->text, sizeof m->text,
                            json_string(json_member(root, "invocationId")));
        return ERR_OK;
    case TYPE_PING:
        m->kind = SIGNALR_PING;
        return ERR_OK;
    case TYPE_CLOSE:
        m->kind = SIGNALR_CLOSE;
        m->may_reconnect = cJSON_IsTrue(json_member(root, "allowReconnect"));
        copy_error(root, m);
        return ERR_OK;
    default:
        return ERR_OK;
    }
}

enum err signalr_parse(const char *text, size_t len, struct signalr_message *ret)
{
    struct signalr_message m = {.kind = SIGNALR_IGNORED};
    cJSON *root = json_parse(text, len);
    enum err err = understand(root, text, &m);

    cJSON_Delete(root);
    if (err == ERR_OK)
        *ret = m;
    return err;
}

static size_t finish(struct json_out *o)
{
    json_put(o, (const char[]){SIGNALR_SEPARATOR}, 1);
    return json_finish(o);
}

size_t signalr_handshake(char *buf, size_t size)
{
    struct json_out o = json_start(buf, size);

    json_put_text(&o, "{\"protocol\":\"json\",\"version\":1}");
    return finish(&o);
}

size_t signalr_subscribe(char *buf, size_t size, const char *serial, unsigned invocation)
{
    struct json_out o = json_start(buf, size);

    json_put_text(&o, "{\"type\":1,\"invocationId\":\"");
    json_put_number(&o, invocation);
    json_put_text(&o, "\",\"target\":\"SubscribeWithCurrentState\",\"arguments\":[");
    json_put_string(&o, serial);
    json_put_text(&o, ",true]}");
    return finish(&o);
}

size_t signalr_ping(char *buf, size_t size)
{
    struct json_out o = json_start(buf, size);

    json_put_text(&o, "{\"type\":6}");
    return finish(&o);
}

/* A text of the negotiation that has to be used whole or not at all. */
static bool take_text(const cJSON *item, char *ret, size_t size)
{
    const char *text = json_string(item);

    if (strlen(text) >= size)
        return false;
    memcpy(ret, text, strlen(text) + 1);
    return true;
}

enum err signalr_negotiated(const char *body, size_t len, struct signalr_negotiation *ret)
{
    struct signalr_negotiation n = {0};
    cJSON *root = json_parse(body, len);
    const cJSON *id = json_member(root, "connectionToken"), *transport;
    bool good;

    if (json_absent(id))
        id = json_member(root, "connectionId");
    good = take_text(id, n.id, sizeof n.id) &&
           take_text(json_member(root, "url"), n.url, sizeof n.url) &&
           take_text(json_member(root, "accessToken"), n.access_token,
                     sizeof n.access_token) &&
           (n.id[0] != '\0' || n.url[0] != '\0');
    cJSON_ArrayForEach(transport, json_member(root, "availableTransports"))
    {
        if (strcmp(json_string(json_member(transport, "transport")), "WebSockets") == 0)
            n.websockets = true;
    }
    cJSON_Delete(root);
    if (!good)
        return ERR_PARSE;
    *ret = n;
    return ERR_OK;
}

/* ---- policy ---- */

static uint64_t retry_ms(struct hub *h)
{
    return backoff_ms(RETRY_FIRST_MS, RETRY_LAST_MS, h->failures, &h->random);
}

void hub_init(struct hub *h, uint32_t seed)
{
    memset(h, 0, sizeof *h);
    h->random = seed != 0 ? seed : 1;
}

void hub_want(struct hub *h, bool wanted, uint64_t now_ms)
{
    if (wanted && !h->wanted)
        h->retry_at_ms = later(h->retry_at_ms, now_ms);
    h->wanted = wanted;
}

void hub_new_token(struct hub *h, uint64_t now_ms)
{
    if (h->token_rejected)
        h->retry_at_ms = later(h->retry_at_ms, now_ms);
    h->token_rejected = false;
}

static bool may_connect(const struct hub *h)
{
    return h->wanted && !h->token_rejected && !h->connecting && !h->up;
}

enum hub_step hub_next(struct hub *h, uint64_t now_ms)
{
    if (may_connect(h) && now_ms >= h->retry_at_ms) {
        h->connecting = true;
        h->heard_at_ms = now_ms;
        return h->negotiate ? HUB_NEGOTIATE : HUB_CONNECT;
    }
    if ((h->connecting || h->up) && now_ms >= h->heard_at_ms + SILENCE_MS)
        return HUB_CLOSE;
    if (h->up && now_ms >= h->pinged_at_ms + PING_MS) {
        h->pinged_at_ms = now_ms;
        return HUB_PING;
    }
    return HUB_NOTHING;
}

uint64_t hub_wake(const struct hub *h, uint64_t now_ms)
{
    uint64_t at = NEVER;

    if (may_connect(h))
        at = h->retry_at_ms;
    if (h->connecting || h->up)
        at = earlier(at, h->heard_at_ms + SILENCE_MS);
    if (h->up)
        at = earlier(at, h->pinged_at_ms + PING_MS);
    return at == NEVER ? NEVER : later(at, now_ms);
}

void hub_up(struct hub *h, uint64_t now_ms)
{
    h->connecting = false;
    h->up = true;
    h->up_at_ms = h->heard_at_ms = h->pinged_at_ms = now_ms;
    h->direct_failures = 0;
}

void hub_heard(struct hub *h, uint64_t now_ms)
{
    h->heard_at_ms = now_ms;
}

/* Direct connections that the server answers with something else than a WebSocket: it may
 * want to be negotiated with; and after as many of those, directly again. */
static void choose_way(struct hub *h, unsigned http_status)
{
    if (http_status == 0 || http_status == 401 || http_status == 429)
        return;
    if (++h->direct_failures < DIRECT_ATTEMPTS)
        return;
    h->direct_failures = 0;
    h->negotiate = !h->negotiate;
}

void hub_down(struct hub *h, unsigned http_status, int64_t retry_after_s,
              bool may_reconnect, uint64_t now_ms)
{
    uint64_t wait;

    if (h->up && now_ms >= h->up_at_ms + STABLE_MS)
        h->failures = 0;
    if (h->failures < UINT16_MAX)
        h->failures++;
    choose_way(h, http_status);
    h->connecting = h->up = false;
    wait = retry_ms(h);
    if (http_status == 401)
        h->token_rejected = true;
    if (http_status == 403)
        wait = later(wait, BLOCKED_MS);
    if (http_status == 429)
        wait = later(wait, THROTTLED_MS);
    if (retry_after_s > 0)
        wait = later(wait, earlier((uint64_t)retry_after_s, 3600) * 1000);
    if (!may_reconnect)
        wait = later(wait, THROTTLED_MS);
    h->retry_at_ms = now_ms + wait;
}
