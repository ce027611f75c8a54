/* SPDX-License-Identifier: MIT
 *
 * What the stream tells, and what it is told. */
#include "sync_parts.h"

#include "evecc/log.h"

#include <string.h>

enum {
    STREAM_REJECTED_MS = 10 * 60 * 1000, /* a hub that refuses every token */
    STREAM_LINES_MS = 10 * 60 * 1000
};

static void stream_state(struct sync *s, bool streaming, uint64_t now_ms)
{
    s->streaming = streaming;
    for (size_t i = 0; i < s->units; i++)
        circuit_stream(&s->unit[i].circuit, streaming, now_ms);
}

/* The circuit and the charger on it that SERIAL is; a charger is on one circuit only. */
static struct circuit *find_charger(struct sync *s, const char *serial,
                                    unsigned *ret_charger)
{
    for (size_t i = 0; i < s->units; i++) {
        struct unit *u = &s->unit[i];

        for (unsigned k = 0; u->circuit.found && k < u->where.chargers; k++) {
            if (strcmp(u->where.serial[k], serial) == 0) {
                *ret_charger = k;
                return &u->circuit;
            }
        }
    }
    return NULL;
}

static void stream_message(struct sync *s, const struct signalr_message *m,
                           uint64_t now_ms)
{
    unsigned charger;
    struct circuit *c = find_charger(s, m->serial, &charger);

    if (c == NULL)
        return;
    circuit_told(c, charger);
    if (m->kind == SIGNALR_OBSERVATION)
        circuit_observe(c, charger, &m->observation, sync_cloud_now(s, now_ms), now_ms);
    else
        circuit_verdict(c,
                        &(struct verdict){.ticks = m->ticks,
                                          .command = m->command_id,
                                          .charger = (uint8_t)charger,
                                          .accepted = m->accepted},
                        now_ms);
}

void sync_subscribe_again(struct sync *s, const struct unit *u, unsigned charger,
                          uint64_t now_ms)
{
    const char *serial = u->where.serial[charger];
    uint32_t missed;

    if (log_limit_pass(&s->silent_lines, STREAM_LINES_MS, now_ms, &missed))
        log_warning("silent circuit=%s charger=%s: subscribing again missed=%u",
                    sync_name(u), serial, missed);
    s->counts.telemetry_gaps++;
    stream_subscribe(s->stream, serial);
}

/* The token may be spent for the hub though REST takes it, which goes on meanwhile: one
 * refresh, then patience. */
static void stream_rejected(struct sync *s, uint64_t now_ms)
{
    if (s->stream_retry_at_ms == NEVER && s->stream_token == s->token_generation)
        session_renew(&s->session, now_ms);
    s->stream_retry_at_ms = now_ms + STREAM_REJECTED_MS;
}

static void stream_event(struct sync *s, const struct stream_event *e, uint64_t now_ms)
{
    uint32_t missed;

    switch (e->kind) {
    case STREAM_UP:
        s->counts.stream_connects++;
        s->stream_retry_at_ms = NEVER;
        stream_state(s, true, now_ms);
        log_info("stream up");
        break;
    case STREAM_DOWN:
    case STREAM_REJECTED:
        /* It is tried again for ever: said once in a while, not each time. */
        if (s->streaming)
            log_info("stream down: polling until it is back");
        else if (log_limit_pass(&s->stream_lines, STREAM_LINES_MS, now_ms, &missed))
            log_warning(
                "stream not to be had, polling instead err=%s http=%u attempts=%u",
                err_name(e->err), e->http_status, missed + 1);
        stream_state(s, false, now_ms);
        if (e->kind == STREAM_REJECTED)
            stream_rejected(s, now_ms);
        break;
    case STREAM_GAP:
        s->counts.telemetry_gaps++;
        for (size_t i = 0; i < s->units; i++)
            for (unsigned k = 0;
                 s->unit[i].circuit.found && k < s->unit[i].where.chargers; k++)
                stream_subscribe(s->stream, s->unit[i].where.serial[k]);
        break;
    case STREAM_MESSAGE:
        stream_message(s, &e->message, now_ms);
        break;
    }
}

void sync_take_stream(struct sync *s, uint64_t now_ms)
{
    struct stream_event e;
    bool again = s->stream_retry_at_ms != NEVER && now_ms >= s->stream_retry_at_ms;

    while (stream_take(s->stream, &e))
        stream_event(s, &e, now_ms);
    if (now_ms < s->session.blocked_until_ms) { /* each call prolongs the block */
        if (s->stream_token != 0)
            stream_set_token(s->stream, NULL);
        s->stream_token = 0;
        s->stream_retry_at_ms = NEVER;
        return;
    }
    if (s->token_generation == 0 || (s->stream_token == s->token_generation && !again))
        return;
    if (s->stream_token == 0) { /* a crash loop must not hammer the hub */
        struct budget *connects = &s->budgets->of[BUDGET_STREAM];
        uint64_t wait = budget_wait_ms(connects, now_ms, false);

        if (wait > 0) {
            if (again)
                s->stream_retry_at_ms = now_ms + wait;
            return;
        }
        budget_take(connects, now_ms);
    }
    s->stream_token = s->token_generation;
    if (again)
        s->stream_retry_at_ms = now_ms + STREAM_REJECTED_MS;
    stream_set_token(s->stream, s->token.access);
}
