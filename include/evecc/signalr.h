/* SPDX-License-Identifier: MIT
 * signalr.h - the SignalR JSON hub protocol as Easee's stream speaks it (easee-api 7).
 *
 * Pure but for the memory cJSON takes and gives back within a call: no I/O, no clock.
 * Three parts: a splitter of bytes into messages (record separator 1Eh), the meaning of
 * one message, and the policy of the connection: when to connect, ping, give up on a
 * silent one, and try again. */
#ifndef EVECC_SIGNALR_H
#define EVECC_SIGNALR_H

#include "evecc/err.h"
#include "evecc/telemetry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SIGNALR_MESSAGE_MAX = 64 * 1024,
    SIGNALR_TEXT_MAX = 256,
    SIGNALR_SEPARATOR = 0x1e
};

/* Bytes in, messages out.  A message may come in many pieces, a piece may hold many
 * messages. */
struct signalr_splitter {
    size_t len;    /* bytes held */
    size_t next;   /* of them, given out */
    bool skipping; /* in a message longer than SIGNALR_MESSAGE_MAX: dropped up to its end
                    */
    uint32_t dropped;
    char bytes[SIGNALR_MESSAGE_MAX + 1];
};

void signalr_init(struct signalr_splitter *s);
/* Takes up to N bytes; returns how many: all, once signalr_next() has been called dry. */
size_t signalr_feed(struct signalr_splitter *s, const char *bytes, size_t n);
/* The next whole message, NUL-terminated in place of its separator; valid until the next
 * call with S.  False: none yet. */
bool signalr_next(struct signalr_splitter *s, const char **ret_text, size_t *ret_len);

enum signalr_kind {
    SIGNALR_IGNORED,   /* another target or type: legal, of no interest */
    SIGNALR_HANDSHAKE, /* {}: accepted */
    SIGNALR_REFUSED, /* {"error": ...} as answer to the handshake, or a failed completion
                      */
    SIGNALR_PING,
    SIGNALR_CLOSE,
    SIGNALR_COMPLETION,
    SIGNALR_OBSERVATION, /* ProductUpdate */
    SIGNALR_VERDICT      /* CommandResponse */
};

struct signalr_message {
    enum signalr_kind kind;
    char serial[SERIAL_MAX + 1];    /* OBSERVATION, VERDICT */
    struct observation observation; /* OBSERVATION */
    int64_t ticks;                  /* VERDICT; 0: none */
    int32_t command_id;             /* VERDICT */
    bool accepted;                  /* VERDICT */
    bool may_reconnect;             /* CLOSE */
    char text[SIGNALR_TEXT_MAX];    /* error of REFUSED and CLOSE, invocation id of
                                       COMPLETION; plain    printable ASCII */
};

/* What TEXT (NUL-terminated at LEN) means; ERR_PARSE: not a hub message. */
enum err signalr_parse(const char *text, size_t len, struct signalr_message *ret);

/* Messages to send, with their separator; return the length, 0 when BUF is too small. */
size_t signalr_handshake(char *buf, size_t size);
size_t signalr_subscribe(char *buf, size_t size, const char *serial, unsigned invocation);
size_t signalr_ping(char *buf, size_t size);

/* The answer to negotiate (easee-api 7.1): the id to connect with, or where to go
 * instead. */
struct signalr_negotiation {
    char id[SIGNALR_TEXT_MAX];  /* connectionToken, else connectionId */
    char url[SIGNALR_TEXT_MAX]; /* of a redirect; "" */
    char access_token[4096];    /* that goes with it; "" */
    bool websockets;
};
enum err signalr_negotiated(const char *body, size_t len,
                            struct signalr_negotiation *ret);

/* ---- policy of the connection ---- */

enum hub_step {
    HUB_NOTHING,
    HUB_CONNECT,   /* a WebSocket directly, without negotiation */
    HUB_NEGOTIATE, /* then a WebSocket with its id */
    HUB_PING,
    HUB_CLOSE /* silent for too long: give it up */
};

/* Invariants: one connection at most; endless reconnects, 1 s doubling to 60 s, +-25 % of
 * jitter (429: Retry-After, at least 60 s; blocked: 1 h); after three direct attempts in
 * a row that failed with an HTTP status other than 401 it negotiates, and back; a
 * rejected token waits for another one; ping every 12 s; dead after 60 s of silence. */
struct hub {
    uint64_t retry_at_ms, heard_at_ms, pinged_at_ms, up_at_ms;
    uint32_t random;
    uint16_t failures, direct_failures;
    bool connecting, up, negotiate, token_rejected, wanted;
};

void hub_init(struct hub *h, uint32_t seed);
void hub_want(struct hub *h, bool wanted,
              uint64_t now_ms); /* there is somebody to subscribe for */
void hub_new_token(struct hub *h, uint64_t now_ms);
enum hub_step hub_next(struct hub *h, uint64_t now_ms);
uint64_t hub_wake(const struct hub *h, uint64_t now_ms);
void hub_up(struct hub *h, uint64_t now_ms);    /* the handshake was accepted */
void hub_heard(struct hub *h, uint64_t now_ms); /* anything came */
/* The attempt failed or the connection ended: HTTP_STATUS 0 when there was none;
 * MAY_RECONNECT false: the server asked not to, one minute at least. */
void hub_down(struct hub *h, unsigned http_status, int64_t retry_after_s,
              bool may_reconnect, uint64_t now_ms);

#endif
