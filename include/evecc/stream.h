/* SPDX-License-Identifier: MIT
 * stream.h - the live stream of all chargers of the account, on a thread of its own.
 *
 * The thread waits in libwebsockets' loop, which cannot be waited for together with
 * libcurl's; it owns the socket, the splitter and the hub policy, and posts what it
 * understood to the sync thread through one bounded mailbox.  While that is full the
 * socket is not read; a connection that has to wait longer than its buffers last is
 * closed, and the next one begins with a replay.  Only news of the connection itself
 * finds no room: it takes the place of the newest message, and STREAM_GAP says so. */
#ifndef EVECC_STREAM_H
#define EVECC_STREAM_H

#include "evecc/err.h"
#include "evecc/signalr.h"

struct stream;

struct stream_options {
    const char *url;     /* stream_url; borrowed for stream_new() */
    const char *ca_file; /* "" or NULL: the system's */
    void (*wake)(
        void *arg); /* called from the stream's thread when there is something to take */
    void *arg;
};

enum stream_event_kind {
    STREAM_UP,       /* connected and subscribed: a replay of the current state follows */
    STREAM_DOWN,     /* err, http_status */
    STREAM_REJECTED, /* the token was not accepted: give another with stream_set_token()
                      */
    STREAM_MESSAGE,  /* an observation or a verdict */
    STREAM_GAP       /* a message was lost: subscribing again replays the state */
};

struct stream_event {
    enum stream_event_kind kind;
    enum err err;
    uint16_t http_status;
    struct signalr_message message;
};

/* Returns owned, freed with stream_free().  ERR_CONFIG: the URL is not https, nor http to
 * loopback. */
enum err stream_new(struct stream **ret, const struct stream_options *opt);
enum err stream_start(struct stream *s);

/* From any thread.  The token for connections from now on (NULL: stay away); copied. */
void stream_set_token(struct stream *s, const char *access);
/* Adds a charger to those subscribed to; a repetition subscribes again (after silence).
 */
void stream_subscribe(struct stream *s, const char *serial);

/* The next event; false: none.  One taker. */
bool stream_take(struct stream *s, struct stream_event *ret);

/* Monotonic time of the thread's last progress; for the service watchdog. */
uint64_t stream_progress_ms(const struct stream *s);

/* Ends the thread within TIMEOUT_MS; false: it hangs. */
bool stream_stop(struct stream *s, uint32_t timeout_ms);
void stream_free(struct stream *s);

#endif
