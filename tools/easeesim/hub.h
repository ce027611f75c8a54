/* SPDX-License-Identifier: MIT
 * hub.h - the stream of changes: SignalR's JSON hub protocol, whatever carries it
 * (easee-api 7).
 *
 * No sockets: bytes from a client go in, bytes for it wait in its link until the carrier
 * takes them.  Keep-alive is judged by the clients' clocks, so it runs in real time
 * however fast the world does; real time is a parameter. */
#ifndef EASEESIM_HUB_H
#define EASEESIM_HUB_H

#include "model.h"

#include <cjson/cJSON.h>

enum { HUB_LINKS = 64, HUB_ID_SIZE = 24, HUB_IN_MAX = 32 * 1024 };

enum hub_transport {
    HUB_WEBSOCKETS,
    HUB_EVENTS, /* server-sent */
    HUB_POLLING,
    HUB_TRANSPORTS
};

/* How messages lie in frames. */
enum hub_frames { HUB_ONE, HUB_MANY, HUB_SPLIT };

/* One client.  Negotiated first, then carried by a connection, or by one after the other.
 */
struct hub_link {
    bool used;
    bool connected; /* has come with its id */
    bool greeted;   /* the handshake is done */
    bool ended;     /* nothing more is said; what waits is sent, then it is over */
    bool cut;       /* over at once, without a word */
    enum hub_transport transport;
    char name[HUB_ID_SIZE], id[HUB_ID_SIZE]; /* connectionId; what to connect with */
    unsigned account;
    void *carrier; /* who takes OUT; NULL: nobody now */
    bool subscribed[CHARGERS_MAX];
    char *in, *out; /* owned */
    size_t in_len, out_len, out_size;
    uint64_t heard_us, said_us;
    uint64_t messages_in, messages_out;
};

struct hub_switches {
#define HUB(name, initial, meaning) bool name;
#include "hub.def"
#undef HUB
};

struct hub {
    struct hub_switches on;
    enum hub_frames frames;
    int64_t ticks_off; /* added to the ticks of each response */
    struct model *model;
    uint64_t real_us, rng, connects;
    unsigned noise; /* which of the useless messages is next */
    struct hub_link link[HUB_LINKS];
};

/* Forgets everything; links that are carried end. */
void hub_reset(struct hub *h, struct model *m, uint64_t seed);

/* Real time passes: pings, and the end of those who are silent. */
void hub_run(struct hub *h, uint64_t real_us);
/* When hub_run() has something to do; NEVER. */
uint64_t hub_wake_us(const struct hub *h);

/* A new link for ACCOUNT, to be connected by its id.  NULL: too many. */
struct hub_link *hub_open(struct hub *h, unsigned account);
struct hub_link *hub_find(struct hub *h, const char *id);
void hub_connect(struct hub *h, struct hub_link *l, enum hub_transport transport);
/* The link is gone, as far as its client is concerned. */
void hub_close(struct hub_link *l);

/* BYTES came from the client. */
void hub_receive(struct hub *h, struct hub_link *l, const char *bytes, size_t n);

/* The next frame for the client: up to MAX of the bytes that wait go to RET.  0: none. */
size_t hub_take(struct hub *h, struct hub_link *l, char *ret, size_t max);

/* What happens in the model. */
void hub_observed(void *hub, const struct charger *c, unsigned obs,
                  const struct seen *before);
void hub_answered(void *hub, const struct command *q);

/* Applies {"silent":true,"frames":"split","ticks_off":70,"close":{...},"drop":true}.
 * False: a member is unknown or of the wrong kind. */
bool hub_change(struct hub *h, const cJSON *change);
cJSON *hub_json(const struct hub *h);

extern const char hub_change_names[]; /* for a complaint */

#endif
