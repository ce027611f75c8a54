/* SPDX-License-Identifier: MIT */
#include "hub.h"

#include "json.h"
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ASP.NET Core's own (easee-api 7.2). */
#define PING_US      UINT64_C(15000000)
#define SILENCE_US   UINT64_C(30000000)
#define HANDSHAKE_US UINT64_C(15000000)

enum {
    SEPARATOR = 0x1e,
    OUT_MAX = 8 * 1024 * 1024, /* a client that does not read is cut off */
    PIECE_MAX = 40             /* of a message that is split over frames */
};

enum { INVOCATION = 1, COMPLETION = 3, PING = 6, CLOSE = 7 };

static const char *const transports[HUB_TRANSPORTS] = {"WebSockets", "ServerSentEvents",
                                                       "LongPolling"};
static const char *const frame_names[] = {"one", "many", "split"};

static uint64_t next_random(struct hub *h)
{
    uint64_t z = h->rng += UINT64_C(0x9E3779B97F4A7C15); /* splitmix64 */

    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static void compose_id(struct hub *h, char ret[static HUB_ID_SIZE])
{
    static const char digit[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    for (size_t i = 0; i + 2 < HUB_ID_SIZE; i++)
        ret[i] = digit[next_random(h) % 64];
    ret[HUB_ID_SIZE - 2] = '\0';
}

/* ---- saying ---- */

static void put(struct hub_link *l, const char *bytes, size_t n)
{
    if (l->out_len + n > l->out_size) {
        size_t size = 2 * (l->out_len + n);
        char *out = size <= OUT_MAX ? realloc(l->out, size) : NULL;

        if (!out) {
            l->cut = true;
            return;
        }
        l->out = out;
        l->out_size = size;
    }
    memcpy(l->out + l->out_len, bytes, n);
    l->out_len += n;
}

static void put_message(struct hub *h, struct hub_link *l, const char *text)
{
    static const char separator = SEPARATOR;

    if (!l->connected || l->ended || l->cut || h->on.silent)
        return;
    put(l, text, strlen(text));
    put(l, &separator, 1);
    l->said_us = h->real_us;
    l->messages_out++;
}

/* Takes MESSAGE. */
static void say(struct hub *h, struct hub_link *l, cJSON *message)
{
    char *text = cJSON_PrintUnformatted(message);

    if (text)
        put_message(h, l, text);
    cJSON_free(text);
    cJSON_Delete(message);
}

static cJSON *message(int type)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddNumberToObject(o, "type", type);
    return o;
}

/* An invocation of TARGET in the client; takes ARGUMENT. */
static cJSON *invocation(const char *target, cJSON *argument)
{
    cJSON *o = message(INVOCATION);

    cJSON_AddStringToObject(o, "target", target);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(o, "arguments"), argument);
    return o;
}

/* What a client has to ignore, and what it has to survive. */
static void make_noise(struct hub *h, struct hub_link *l)
{
    static const char *const unknown[] = {
        "{\"type\":1,\"target\":\"ChargerUpdate\",\"arguments\":[{\"id\":\"EH123456\"}]}",
        "{\"type\":1,\"target\":\"SomethingNew\",\"arguments\":[]}",
        "{\"type\":1,\"target\":\"productUpdates\",\"arguments\":[null,1,\"x\"]}",
        "{\"type\":2,\"invocationId\":\"77\",\"item\":{}}",
        "{\"type\":8,\"sequenceId\":1}",
        "{\"type\":99,\"more\":[[{}]]}",
    };
    static const char *const garbage[] = {
        "",
        "{",
        "[]",
        "null",
        "\"text\"",
        "{\"type\":\"1\"}",
        "{\"type\":1e300,\"target\":\"ProductUpdate\"}",
        "{\"type\":1,\"target\":\"ProductUpdate\"}",
        "{\"type\":1,\"target\":\"ProductUpdate\",\"arguments\":{}}",
        "{\"type\":1,\"target\":\"ProductUpdate\",\"arguments\":[{\"mid\":5,\"id\":\"x\"}"
        "]}",
        "{\"type\":1,\"target\":\"ProductUpdate\",\"arguments\":[{\"mid\":\"EH123456\","
        "\"dataType\":3,\"id\":120,\"timestamp\":\"never\",\"value\":\"NaN\"}]}",
        "{\"type\":1,\"target\":\"CommandResponse\",\"arguments\":[{\"serialNumber\":"
        "null,"
        "\"id\":-1,\"wasAccepted\":\"yes\",\"ticks\":1e400}]}",
        "\xff\xfe\x01{}}}",
    };

    if (h->on.unknown_targets)
        put_message(h, l, unknown[h->noise % (sizeof unknown / sizeof unknown[0])]);
    if (h->on.garbage)
        put_message(h, l, garbage[h->noise % (sizeof garbage / sizeof garbage[0])]);
    h->noise++;
}

static void say_data(struct hub *h, struct hub_link *l, cJSON *data)
{
    make_noise(h, l);
    if (h->on.no_data)
        cJSON_Delete(data);
    else
        say(h, l, data);
}

static void say_close(struct hub *h, struct hub_link *l, const char *error, bool again)
{
    cJSON *o = message(CLOSE);

    if (error)
        cJSON_AddStringToObject(o, "error", error);
    if (again)
        cJSON_AddTrueToObject(o, "allowReconnect");
    say(h, l, o);
    l->ended = true;
}

/* ---- updates and responses ---- */

/* Values are texts here, whatever they are (easee-api 7.2). */
static void value_text(const struct seen *s, enum kind kind, char ret[static TEXT_SIZE])
{
    switch (kind) {
    case KIND_BOOL:
        snprintf(ret, TEXT_SIZE, "%d", s->value != 0);
        break;
    case KIND_INT:
        snprintf(ret, TEXT_SIZE, "%.0f", floor(s->value));
        break;
    case KIND_REAL:
        snprintf(ret, TEXT_SIZE, "%.10g", s->value);
        break;
    case KIND_TEXT:
        snprintf(ret, TEXT_SIZE, "%s", s->text);
        break;
    }
}

static cJSON *update(const struct model *m, const struct charger *c, unsigned obs,
                     const struct seen *s)
{
    cJSON *o = cJSON_CreateObject();
    char text[TEXT_SIZE], stamp[STAMP_SIZE];

    value_text(s, obs_info[obs].kind, text);
    model_stamp(m, s->at_ms, stamp);
    cJSON_AddStringToObject(o, "mid", c->serial);
    cJSON_AddNumberToObject(o, "dataType", obs_info[obs].kind);
    cJSON_AddNumberToObject(o, "id", obs_info[obs].id);
    cJSON_AddStringToObject(o, "timestamp", stamp);
    cJSON_AddStringToObject(o, "value", text);
    return invocation("ProductUpdate", o);
}

void hub_observed(void *hub, const struct charger *c, unsigned obs,
                  const struct seen *before)
{
    struct hub *h = hub;
    unsigned charger = (unsigned)(c - h->model->charger);

    for (unsigned i = 0; i < HUB_LINKS; i++) {
        struct hub_link *l = &h->link[i];

        if (!l->used || !l->subscribed[charger])
            continue;
        for (int n = h->on.duplicates ? 2 : 1; n > 0; n--)
            say_data(h, l, update(h->model, c, obs, &c->seen[obs]));
        if (h->on.out_of_order && before->known)
            say_data(h, l, update(h->model, c, obs, before));
    }
}

void hub_answered(void *hub, const struct command *q)
{
    struct hub *h = hub;
    char stamp[STAMP_SIZE];

    model_stamp(h->model, q->answered_ms, stamp);
    for (unsigned i = 0; i < HUB_LINKS; i++) {
        struct hub_link *l = &h->link[i];
        cJSON *o;

        if (!l->used || !l->subscribed[q->charger] || h->on.no_responses)
            continue;
        o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "serialNumber", h->model->charger[q->charger].serial);
        cJSON_AddNumberToObject(o, "id", q->order.id);
        cJSON_AddStringToObject(o, "timestamp", stamp);
        cJSON_AddStringToObject(o, "deliveredAt", stamp);
        cJSON_AddBoolToObject(o, "wasAccepted", q->verdict == VERDICT_EXECUTED);
        cJSON_AddNumberToObject(o, "resultCode",
                                q->verdict == VERDICT_EXECUTED ? 0 : (int)q->verdict);
        cJSON_AddStringToObject(o, "comment", "");
        json_add_i64(o, "ticks", q->ticks + h->ticks_off);
        say_data(h, l, invocation("CommandResponse", o));
    }
}

/* ---- hearing ---- */

static void replay(struct hub *h, struct hub_link *l, const struct charger *c)
{
    for (unsigned i = 0; i < OBSERVATIONS; i++)
        if (c->seen[i].known)
            say_data(h, l, update(h->model, c, i, &c->seen[i]));
}

/* The charger if the client may see it. */
static struct charger *visible(const struct hub *h, const struct hub_link *l,
                               const cJSON *serial)
{
    struct model *m = h->model;
    struct charger *c =
        cJSON_IsString(serial) ? model_charger(m, serial->valuestring) : NULL;

    return c && m->site[m->circuit[c->circuit].site].account == l->account ? c : NULL;
}

/* What TARGET does.  Returns what is wrong; NULL: nothing. */
static const char *invoke(struct hub *h, struct hub_link *l, const char *target,
                          const cJSON *arguments)
{
    const struct charger *c = visible(h, l, cJSON_GetArrayItem(arguments, 0));
    bool subscribe = strcmp(target, "SubscribeWithCurrentState") == 0 ||
                     strcmp(target, "SubscribeToMyProduct") == 0;

    if (!subscribe && strcmp(target, "Unsubscribe") != 0)
        return "Method does not exist.";
    if (!c)
        return "No access to this product.";
    if (subscribe && h->on.refuse_subscription)
        return "Subscribing failed.";
    l->subscribed[c - h->model->charger] = subscribe;
    if (subscribe && cJSON_IsTrue(cJSON_GetArrayItem(arguments, 1)))
        replay(h, l, c);
    return NULL;
}

static void complete(struct hub *h, struct hub_link *l, const char *call,
                     const char *error)
{
    cJSON *o = message(COMPLETION);

    cJSON_AddStringToObject(o, "invocationId", call);
    if (error)
        cJSON_AddStringToObject(o, "error", error);
    else
        cJSON_AddNullToObject(o, "result");
    say(h, l, o);
}

static void hear_handshake(struct hub *h, struct hub_link *l, const cJSON *o)
{
    const char *protocol =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "protocol"));
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(o, "version");
    bool good = protocol && strcmp(protocol, "json") == 0 && cJSON_IsNumber(version) &&
                version->valuedouble == 1 && !h->on.refuse_handshake;

    l->greeted = good;
    put_message(h, l, good ? "{}" : "{\"error\":\"The handshake was refused.\"}");
    l->ended = !good;
}

static void hear(struct hub *h, struct hub_link *l, const char *text)
{
    cJSON *o = cJSON_Parse(text);
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(o, "type");
    const char *target =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "target"));
    const char *call =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "invocationId"));

    l->messages_in++;
    if (!cJSON_IsObject(o)) {
        say_close(h, l, "Connection closed with an error.", false);
    } else if (!l->greeted) {
        hear_handshake(h, l, o);
    } else if (cJSON_IsNumber(type) && type->valueint == INVOCATION && target) {
        const char *error =
            invoke(h, l, target, cJSON_GetObjectItemCaseSensitive(o, "arguments"));

        if (call)
            complete(h, l, call, error);
    } else if (cJSON_IsNumber(type) && type->valueint == CLOSE) {
        l->ended = true;
    }
    cJSON_Delete(o);
}

void hub_receive(struct hub *h, struct hub_link *l, const char *bytes, size_t n)
{
    char *end;

    l->heard_us = h->real_us;
    if (!l->in)
        l->in = malloc(HUB_IN_MAX);
    if (!l->in || l->in_len + n > HUB_IN_MAX) {
        l->cut = true;
        return;
    }
    memcpy(l->in + l->in_len, bytes, n);
    l->in_len += n;
    while (!l->ended && (end = memchr(l->in, SEPARATOR, l->in_len)) != NULL) {
        size_t used = (size_t)(end - l->in) + 1;

        *end = '\0';
        hear(h, l, l->in);
        memmove(l->in, l->in + used, l->in_len -= used);
    }
}

size_t hub_take(struct hub *h, struct hub_link *l, char *ret, size_t max)
{
    const char *end = l->out_len ? memchr(l->out, SEPARATOR, l->out_len) : NULL;
    size_t n = l->out_len, one = end ? (size_t)(end - l->out) + 1 : n;

    if (h->frames == HUB_ONE)
        n = one;
    else if (h->frames == HUB_SPLIT && n > 0)
        n = 1 + next_random(h) % PIECE_MAX;
    if (n > l->out_len)
        n = l->out_len;
    if (n > max)
        n = max;
    if (n > 0) {
        memcpy(ret, l->out, n);
        memmove(l->out, l->out + n, l->out_len -= n);
    }
    return n;
}

/* ---- links ---- */

void hub_close(struct hub_link *l)
{
    free(l->in);
    free(l->out);
    *l = (struct hub_link){0};
}

struct hub_link *hub_open(struct hub *h, unsigned account)
{
    struct hub_link *l = h->link;

    while (l < h->link + HUB_LINKS && l->used)
        l++;
    if (l == h->link + HUB_LINKS)
        return NULL;
    *l = (struct hub_link){
        .used = true, .account = account, .heard_us = h->real_us, .said_us = h->real_us};
    compose_id(h, l->name);
    compose_id(h, l->id);
    return l;
}

struct hub_link *hub_find(struct hub *h, const char *id)
{
    for (unsigned i = 0; i < HUB_LINKS; i++)
        if (h->link[i].used && strcmp(h->link[i].id, id) == 0)
            return &h->link[i];
    return NULL;
}

void hub_connect(struct hub *h, struct hub_link *l, enum hub_transport transport)
{
    l->connected = true;
    l->transport = transport;
    l->heard_us = l->said_us = h->real_us;
    h->connects++;
}

static uint64_t patience_us(const struct hub_link *l)
{
    return l->greeted ? SILENCE_US : HANDSHAKE_US;
}

void hub_run(struct hub *h, uint64_t real_us)
{
    h->real_us = real_us;
    for (unsigned i = 0; i < HUB_LINKS; i++) {
        struct hub_link *l = &h->link[i];

        if (!l->used)
            continue;
        if (l->greeted && real_us >= l->said_us + PING_US) {
            say(h, l, message(PING));
            l->said_us = real_us; /* also when it may say nothing */
        }
        if (real_us < l->heard_us + patience_us(l))
            continue;
        if (!l->carrier)
            hub_close(l);
        else if (!l->ended && !h->on.silent)
            say_close(h, l, "Connection closed with an error.", false);
    }
}

uint64_t hub_wake_us(const struct hub *h)
{
    uint64_t t = NEVER;

    for (unsigned i = 0; i < HUB_LINKS; i++) {
        const struct hub_link *l = &h->link[i];

        if (!l->used)
            continue;
        if (l->greeted && l->said_us + PING_US < t)
            t = l->said_us + PING_US;
        if (!l->ended && !h->on.silent && l->heard_us + patience_us(l) < t)
            t = l->heard_us + patience_us(l);
    }
    return t;
}

static void cut_all(struct hub *h)
{
    for (unsigned i = 0; i < HUB_LINKS; i++) {
        struct hub_link *l = &h->link[i];

        if (l->used && !l->carrier)
            hub_close(l);
        l->cut = l->used;
    }
}

void hub_reset(struct hub *h, struct model *m, uint64_t seed)
{
    cut_all(h);
    h->on = (struct hub_switches){
#define HUB(name, initial, meaning) .name = (initial),
#include "hub.def"
#undef HUB
    };
    h->frames = HUB_ONE;
    h->ticks_off = 0;
    h->model = m;
    h->rng = seed ^ UINT64_C(0x687562); /* another stream than the model's */
    h->connects = 0;
    h->noise = 0;
}

/* ---- changes from outside ---- */

#define HUB(name, initial, meaning) " " #name
const char hub_change_names[] =
    "frames: one, many or split; ticks_off: a whole number; drop: true; close: "
    "{error, allow_reconnect}; true or false for each of"
#include "hub.def"
    ;
#undef HUB

/* False: V is about something else. */
static bool set_switch(struct hub_switches *on, const cJSON *v)
{
#define HUB(member, initial, meaning)      \
    if (strcmp(v->string, #member) == 0) { \
        on->member = cJSON_IsTrue(v);      \
        return true;                       \
    }
#include "hub.def"
#undef HUB
    return false;
}

static bool close_all(struct hub *h, const cJSON *v)
{
    const char *error =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(v, "error"));
    const cJSON *again = cJSON_GetObjectItemCaseSensitive(v, "allow_reconnect");

    if (!cJSON_IsObject(v) || (again && !cJSON_IsBool(again)))
        return false;
    for (unsigned i = 0; i < HUB_LINKS; i++)
        if (h->link[i].greeted)
            say_close(h, &h->link[i], error, cJSON_IsTrue(again));
    return true;
}

static bool set_frames(struct hub *h, const cJSON *v)
{
    for (unsigned i = 0; i < sizeof frame_names / sizeof frame_names[0]; i++)
        if (cJSON_IsString(v) && strcmp(v->valuestring, frame_names[i]) == 0) {
            h->frames = (enum hub_frames)i;
            return true;
        }
    return false;
}

static bool change_one(struct hub *h, const cJSON *v)
{
    if (set_switch(&h->on, v))
        return cJSON_IsBool(v);
    if (strcmp(v->string, "frames") == 0)
        return set_frames(h, v);
    if (strcmp(v->string, "close") == 0)
        return close_all(h, v);
    if (strcmp(v->string, "drop") == 0) {
        if (cJSON_IsTrue(v))
            cut_all(h);
        return cJSON_IsBool(v);
    }
    if (strcmp(v->string, "ticks_off") == 0 && cJSON_IsNumber(v)) {
        h->ticks_off = v->valueint;
        return true;
    }
    return false;
}

bool hub_change(struct hub *h, const cJSON *change)
{
    const cJSON *v;

    if (!cJSON_IsObject(change))
        return false;
    cJSON_ArrayForEach(v, change) if (!change_one(h, v)) return false;
    return true;
}

static cJSON *link_json(const struct hub *h, const struct hub_link *l)
{
    cJSON *o = cJSON_CreateObject(), *list;

    cJSON_AddStringToObject(o, "id", l->id);
    cJSON_AddStringToObject(o, "transport", transports[l->transport]);
    cJSON_AddBoolToObject(o, "greeted", l->greeted);
    json_add_i64(o, "messages_in", (int64_t)l->messages_in);
    json_add_i64(o, "messages_out", (int64_t)l->messages_out);
    list = cJSON_AddArrayToObject(o, "subscribed");
    for (unsigned i = 0; i < h->model->n_chargers; i++)
        if (l->subscribed[i])
            cJSON_AddItemToArray(list, cJSON_CreateString(h->model->charger[i].serial));
    return o;
}

cJSON *hub_json(const struct hub *h)
{
    cJSON *o = cJSON_CreateObject(), *list;

#define HUB(name, initial, meaning) cJSON_AddBoolToObject(o, #name, h->on.name);
#include "hub.def"
#undef HUB
    cJSON_AddStringToObject(o, "frames", frame_names[h->frames]);
    json_add_i64(o, "ticks_off", h->ticks_off);
    json_add_i64(o, "connects", (int64_t)h->connects);
    list = cJSON_AddArrayToObject(o, "connections");
    for (unsigned i = 0; i < HUB_LINKS; i++)
        if (h->link[i].used && h->link[i].connected)
            cJSON_AddItemToArray(list, link_json(h, &h->link[i]));
    return o;
}
