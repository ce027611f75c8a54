/* SPDX-License-Identifier: MIT
 *
 * What is known, for the Modbus thread and for the log. */
#include "sync_parts.h"

#include "evecc/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { STALE_MS = 20 * 60 * 1000 }; /* easee-api 7.3 */

const char *sync_name(const struct unit *u)
{
    return u->cfg.name;
}

void sync_note_error(struct sync *s, const char *what, enum err err, unsigned http,
                     const char *detail, uint64_t now_ms)
{
    uint32_t missed;

    s->counts.errors += err == ERR_PARSE; /* all others: count_reply() */
    snprintf(s->counts.last_error, sizeof s->counts.last_error, "%s: %s", what,
             err_text(err));
    if (!log_limit_pass(&s->error_lines, 1000, now_ms, &missed))
        return;
    log_warning("%s failed err=%s http=%u detail=\"%s\" missed=%" PRIu32 ": %s", what,
                err_name(err), http, detail, missed, err_remedy(err));
}

static void sync_log_events(struct unit *u)
{
    const struct circuit *c = &u->circuit;
    uint32_t events = circuit_events(&u->circuit);
    const uint8_t *sent = c->sent.amps.l;

    if (events & CIRCUIT_CONFIRMED) /* of the call, not of the wish: it may be repeated */
        log_info("confirmed circuit=%s amps=%u/%u/%u after=%" PRIu64 "ms", sync_name(u),
                 sent[0], sent[1], sent[2], c->confirmed_at_ms - c->sent.at_ms);
    if (events & CIRCUIT_WATCHDOG)
        log_warning("watchdog circuit=%s no write for %us, fallback in force",
                    sync_name(u), c->want.watchdog_s);
    if (events & CIRCUIT_EXPIRED)
        log_warning("setpoint expired circuit=%s validity=%us, fallback in force",
                    sync_name(u), c->want.validity_s);
    if (events & CIRCUIT_REFUSED)
        log_error("refused circuit=%s amps=%u/%u/%u err=%s: %s", sync_name(u),
                  c->refused.l[0], c->refused.l[1], c->refused.l[2], err_name(c->result),
                  err_remedy(c->result));
    if (events & CIRCUIT_TIMED_OUT)
        log_error("not confirmed circuit=%s amps=%u/%u/%u: %s", sync_name(u), sent[0],
                  sent[1], sent[2], err_remedy(ERR_NOT_CONFIRMED));
    if (events & CIRCUIT_OVERRIDDEN)
        log_warning("overridden circuit=%s wanted=%u/%u/%u reported=%u/%u/%u (0.1 A)%s",
                    sync_name(u), sent[0], sent[1], sent[2], c->charger[0].circuit_da[0],
                    c->charger[0].circuit_da[1], c->charger[0].circuit_da[2],
                    c->foreign ? ", retrying slowly" : "");
    if (events & CIRCUIT_SWALLOWED)
        log_warning("time-to-live circuit=%s a repeated setpoint does not reach the "
                    "charger: one amp less for a moment renews it, the least current and "
                    "a pause have none",
                    sync_name(u));
    if (events & CIRCUIT_FOREIGN_COMMAND)
        log_info("command of another controller circuit=%s", sync_name(u));
    if (events & CIRCUIT_RECOVERED)
        log_info("in control again circuit=%s", sync_name(u));
}

static enum connection connection(const struct sync *s, const struct unit *u,
                                  uint64_t now_ms)
{
    uint64_t said_at = u->circuit.charger[0].reported_at_ms;

    if (s->session.blocked_until_ms > now_ms)
        return CONNECTION_BLOCKED;
    if (!session_usable(&s->session, now_ms))
        return s->session.out != SESSION_NOTHING ? CONNECTION_LOGGING_IN
                                                 : CONNECTION_NONE;
    if (said_at == NEVER || now_ms > said_at + STALE_MS)
        return CONNECTION_STALE;
    return u->circuit.live && u->circuit.told[0] ? CONNECTION_STREAMING
                                                 : CONNECTION_POLLING;
}

static uint64_t put_off(uint64_t at, uint64_t until_ms)
{
    return at == NEVER || at < until_ms ? until_ms : at;
}

/* A block, or a login that has to wait, holds back every circuit. */
static void show_restraint(const struct sync *s, struct progress *p, uint64_t now_ms)
{
    uint64_t until_ms = s->session.blocked_until_ms;

    if (!session_usable(&s->session, now_ms) && s->session.not_before_ms > until_ms)
        until_ms = s->session.not_before_ms;
    if (until_ms <= now_ms)
        return;
    p->backoff_until_ms = put_off(p->backoff_until_ms, until_ms);
    p->next_call_at_ms = put_off(p->next_call_at_ms, until_ms);
}

static void show_unit(struct sync *s, size_t i, uint64_t now_ms)
{
    struct unit *u = &s->unit[i];
    struct status now = {0};

    circuit_status(&u->circuit, s->budgets, now_ms, &now);
    now.connection = (uint8_t)connection(s, u, now_ms);
    if (u->circuit.found) {
        snprintf(now.telemetry.serial, sizeof now.telemetry.serial, "%s",
                 u->where.serial[0]);
        snprintf(now.telemetry.model, sizeof now.telemetry.model, "%s",
                 easee_msg_product(u->where.product[0]));
    }
    if (s->session.credentials_refused)
        now.faults |= FAULT_LOGIN_REFUSED;
    if (s->session.blocked_until_ms > now_ms)
        now.faults |= FAULT_BLOCKED;
    if (s->session_err != ERR_OK && !session_usable(&s->session, now_ms)) {
        now.progress.result = (int16_t)s->session_err;
        now.progress.http_status = s->session_http;
    }
    show_restraint(s, &now.progress, now_ms);
    /* Padding that differs costs one copy too many, nothing else.
     * NOLINTNEXTLINE(bugprone-suspicious-memory-comparison) */
    if (memcmp(&now, &u->shown, sizeof now) == 0)
        return;
    u->shown = now;
    exchange_put_status(s->exchange, i, &now);
}

void sync_show(struct sync *s, uint64_t now_ms)
{
    struct cloud_counts *n = &s->counts;

    n->watchdog_trips = n->reasserts = n->foreign_commands = 0;
    for (size_t i = 0; i < s->units; i++) {
        const struct circuit_counts *c = &s->unit[i].circuit.counts;

        sync_log_events(&s->unit[i]);
        show_unit(s, i, now_ms);
        n->watchdog_trips += c->trips;
        n->reasserts += c->reasserts;
        n->foreign_commands += c->foreign_commands;
    }
    /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): the same. */
    if (memcmp(n, &s->counts_shown, sizeof *n) == 0)
        return;
    s->counts_shown = *n;
    exchange_put_counts(s->exchange, n);
}
