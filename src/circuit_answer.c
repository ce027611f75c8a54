/* SPDX-License-Identifier: MIT
 *
 * What became of a setpoint: the cloud's answer, the charger's verdict, what is read back
 * and what the charger reports by itself; when nothing comes, or something else does. */
#include "circuit_parts.h"

#include "evecc/backoff.h"

enum {
    READBACK_LIVE_MS = 6 * SECONDS, /* the stream brings the verdict earlier */
    TICKS_APART = 20 * 1000 * 1000, /* 2 s in ticks of 100 ns */
    COMMAND_CIRCUIT_CURRENT = 22,   /* easee-api 5.4 */
    UNCONFIGURED_DA = 10000,        /* 1000.0 A (easee-api 3.1), or NA_U16 */
    OBSERVE_GONE_MS = 15 * MINUTES, /* an endpoint that was taken away */
    SLOW_MS = 15 * MINUTES,         /* retry of what the charger or others do not heed */
    FORBIDDEN_MS = 60 * MINUTES,    /* easee-api 5.6, 403 */
    BACKOFF_FIRST_MS = 1 * SECONDS,
    BACKOFF_LAST_MS = 5 * MINUTES, /* reliability F-18 */
    UNAVAILABLE_MS = 60 * SECONDS, /* easee-api 5.6, 502 and 503 */
    REASSERTS = 3,
    REASSERT_WINDOW_MS = 10 * MINUTES,
    MISMATCH_MS = 3 * SECONDS /* three phases are reported one after the other */
};

/* ---- the charger ---- */

static void confirm(struct circuit *c, uint64_t now_ms)
{
    uint64_t trip = now_ms - c->sent.wished_at_ms;

    c->sent.awaiting = false;
    c->sent.unsure = false;
    c->sent.readback_at_ms = NEVER;
    c->mismatch_at_ms = NEVER;
    c->nudge = (struct amps){{0}};
    c->confirmed = c->sent.amps;
    c->confirmed_known = true;
    c->confirmed_at_ms = now_ms;
    if (c->sent.whole)
        c->confirmed_seq = c->sent.seq;
    c->not_confirmed = false;
    c->repeats = 0;
    if (!c->foreign)
        c->slow_until_ms = 0;
    c->result = ERR_OK;
    c->refusals = 0;
    if (amps_equal(c->confirmed, c->refused))
        c->refused_until_ms = 0;
    if (circuit_wish_pending(c)) /* not when it was only asserted again */
        c->round_trip_ms = (uint16_t)earlier(trip, 65534);
    c->events |= CIRCUIT_CONFIRMED;
}

static bool reports(const uint16_t da[PHASES], struct amps a)
{
    for (unsigned i = 0; i < PHASES; i++)
        if (da[i] != a.l[i] * 10u)
            return false;
    return true;
}

/* What the charger itself reports of the circuit's limit: a confirmation, or somebody
 * else's. */
static void check_report(struct circuit *c, uint64_t now_ms)
{
    const struct charger *master = &c->charger[0];
    uint64_t at = master->circuit_at_ms;

    c->reported = false;
    if (!c->sent.known || (c->writing && !c->sent.renewing) || at == NEVER ||
        at < c->sent.at_ms)
        return;
    if (reports(master->circuit_da, c->sent.amps)) {
        c->mismatch_at_ms = NEVER;
        if (c->sent.awaiting || c->sent.unsure)
            confirm(c, now_ms);
        return;
    }
    /* News from a charger that had not heeded us is worth another try, too. */
    if (!c->sent.awaiting && (!c->sent.unsure || c->not_confirmed) &&
        c->confirmed_known && at > c->confirmed_at_ms && c->mismatch_at_ms == NEVER)
        c->mismatch_at_ms = now_ms;
}

static void verdict_missing(struct circuit *c, uint64_t now_ms)
{
    c->sent.awaiting = false;
    c->sent.readback_at_ms = NEVER;
    c->sent.unsure = true;
    c->result = ERR_NOT_CONFIRMED;
    if (c->repeats++ == 0)
        return; /* the same once more (reliability F-33) */
    c->not_confirmed = true;
    c->slow = c->sent.amps;
    c->slow_until_ms = now_ms + SLOW_MS;
    c->events |= CIRCUIT_TIMED_OUT;
}

/* Somebody else set another value: ours is re-asserted a few times, then slowly. */
static void overridden(struct circuit *c, uint64_t now_ms)
{
    c->mismatch_at_ms = NEVER;
    c->sent.unsure = true;
    c->result = ERR_OVERRIDDEN;
    c->counts.foreign_commands++;
    c->events |= CIRCUIT_OVERRIDDEN;
    if (!c->foreign && now_ms - c->reasserted_from_ms >= REASSERT_WINDOW_MS) {
        c->reasserted = 0;
        c->reasserted_from_ms = now_ms;
    }
    if (!c->foreign && c->reasserted < REASSERTS) {
        c->reasserted++;
        c->counts.reasserts++;
        c->slow_until_ms = 0;
        return;
    }
    c->foreign = true;
    c->slow = c->sent.amps;
    c->slow_until_ms = now_ms + SLOW_MS;
}

void circuit_answer_check(struct circuit *c, uint64_t now_ms)
{
    if (c->reported)
        check_report(c, now_ms);
    if (c->sent.awaiting && now_ms >= c->sent.accepted_at_ms + VERDICT_MS)
        verdict_missing(c, now_ms);
    if (c->mismatch_at_ms != NEVER && now_ms >= c->mismatch_at_ms + MISMATCH_MS)
        overridden(c, now_ms);
}

void circuit_answer_known(struct circuit *c, uint64_t now_ms)
{
    if (!circuit_wish_pending(c) || now_ms >= c->refused_until_ms ||
        !amps_equal(c->choice.target, c->refused) || circuit_insists(c))
        return;
    c->refused_wish = c->want.id;
    circuit_wish_end(c, &c->wishes.rejected);
}

/* Our value has held since the last interference. */
static uint64_t recovered_at(const struct circuit *c)
{
    return c->foreign && circuit_settled(c) ? c->slow_until_ms : NEVER;
}

void circuit_answer_recover(struct circuit *c, uint64_t now_ms)
{
    if (now_ms < recovered_at(c))
        return;
    c->foreign = false;
    c->reasserted = 0;
    c->events |= CIRCUIT_RECOVERED;
}

uint64_t circuit_answer_wake(const struct circuit *c)
{
    uint64_t at = recovered_at(c);

    if (c->sent.awaiting)
        at = earlier(at, c->sent.accepted_at_ms + VERDICT_MS);
    if (c->mismatch_at_ms != NEVER)
        at = earlier(at, c->mismatch_at_ms + MISMATCH_MS);
    return at;
}

/* ---- the cloud ---- */

static uint64_t wait_ms(struct circuit *c, unsigned failures)
{
    return backoff_ms(BACKOFF_FIRST_MS, BACKOFF_LAST_MS, failures, &c->random);
}

static void refused(struct circuit *c, enum err err, uint64_t now_ms)
{
    c->refused = c->sent.amps;
    c->refused_until_ms = now_ms + (err == ERR_FORBIDDEN ? FORBIDDEN_MS : SLOW_MS);
    c->refused_wish = c->sent.wish;
    c->refused_for_good = err == ERR_BAD_REQUEST || err == ERR_REJECTED;
    if (c->refusals < UINT8_MAX)
        c->refusals++;
    c->insist_at_ms = err == ERR_REJECTED || err == ERR_NOT_FOUND
                          ? now_ms + wait_ms(c, c->refusals)
                          : c->refused_until_ms;
    if (err == ERR_FORBIDDEN)
        c->retry_at_ms = c->refused_until_ms;
    if (err == ERR_NOT_FOUND) /* to be looked up again */
        circuit_lost(c, err);
    c->events |= CIRCUIT_REFUSED;
    if (c->want.id == c->sent.wish)
        circuit_wish_end(c, &c->wishes.rejected);
}

/* `c->undo` holds again when the setpoint surely did not reach the charger. */
static void set_failed(struct circuit *c, struct budgets *b, const struct outcome *o,
                       uint64_t now_ms)
{
    switch (o->err) {
    case ERR_UNAUTHORISED: /* the session's business; then the newest value is sent */
    case ERR_BLOCKED:
        c->sent = c->undo;
        return;
    case ERR_THROTTLED:
        c->sent = c->undo;
        budget_throttled(&b->of[BUDGET_WRITE], o->retry_after_s, now_ms);
        return;
    case ERR_BAD_REQUEST:
    case ERR_NOT_FOUND:
    case ERR_FORBIDDEN:
    case ERR_REJECTED:
        refused(c, o->err, now_ms);
        c->sent = c->undo;
        return;
    case ERR_RESOLVE:
    case ERR_CONNECT:
    case ERR_TLS:
    case ERR_TLS_EXPIRED:
    case ERR_TLS_HOST:
    case ERR_TLS_CA:
        c->sent = c->undo;
        break;
    default: /* it may have arrived all the same; that it was repeated changes nothing */
        if (c->sent.renewing)
            c->sent = c->undo;
        else
            c->sent.unsure = true;
        break;
    }
    c->failures++;
    c->retry_at_ms = now_ms + wait_ms(c, c->failures);
    if (o->http_status == 502 || o->http_status == 503)
        c->retry_at_ms = later(c->retry_at_ms, now_ms + UNAVAILABLE_MS);
}

/* The charger's own verdict on what was sent. */
static void judge_sent(struct circuit *c, bool accepted, uint64_t now_ms)
{
    if (accepted) {
        if (c->sent.renewing)
            circuit_renew_ended(c, true);
        else
            confirm(c, now_ms);
        return;
    }
    c->result = ERR_REJECTED;
    refused(c, ERR_REJECTED, now_ms);
    c->sent = c->undo;
}

/* The answer to a settings POST names no ticks, and now and then they differ a little;
 * charger and command are what remains then (easee-api 3.2, 7.2). */
static bool may_be(int64_t sent, int64_t answered)
{
    int64_t apart = sent > answered ? sent - answered : answered - sent;

    return sent == 0 || answered == 0 || apart <= TICKS_APART;
}

/* A verdict that overtook the cloud's answer is for what was sent, or for what was sent
 * before. */
static bool early_is_ours(const struct circuit *c)
{
    if (c->sent.ticks != 0 && c->sent.early_ticks != 0)
        return may_be(c->sent.ticks, c->sent.early_ticks);
    return !c->undo.awaiting;
}

static void set_done(struct circuit *c, struct budgets *b, const struct outcome *o,
                     uint64_t now_ms)
{
    c->writing = false;
    c->http_status = o->http_status;
    c->result = o->err;
    if (o->err != ERR_OK) {
        set_failed(c, b, o, now_ms);
        return;
    }
    c->failures = 0;
    c->retry_at_ms = 0;
    c->sent.ticks = o->ticks;
    if (c->sent.renewing) {
        circuit_renew_done(c);
    } else {
        c->sent.awaiting = true;
        c->sent.accepted_at_ms = now_ms;
        c->sent.readbacks = 0;
        c->sent.readback_at_ms =
            now_ms + (c->live ? READBACK_LIVE_MS : READBACK_FIRST_MS);
    }
    if (c->sent.early != 0 && early_is_ours(c)) {
        c->sent.answered = true;
        judge_sent(c, c->sent.early > 0, now_ms);
    }
}

/* DA says of three phases what they are, and that is not A. */
static bool differs(const uint16_t da[PHASES], struct amps a)
{
    for (unsigned i = 0; i < PHASES; i++)
        if (da[i] >= UNCONFIGURED_DA)
            return false;
    return !reports(da, a);
}

static void readback_done(struct circuit *c, struct budgets *b, const struct outcome *o,
                          uint64_t now_ms)
{
    if (o->err == ERR_THROTTLED)
        budget_throttled(&b->of[BUDGET_READBACK], o->retry_after_s, now_ms);
    /* Null, 1000.0, an older value, or one asked for before the cloud accepted ours say
     * nothing yet: it is asked again. */
    if (o->err == ERR_OK && c->sent.awaiting &&
        c->reading_since_ms >= c->sent.accepted_at_ms &&
        reports(o->reported_da, c->sent.amps))
        confirm(c, now_ms);
    if (o->err == ERR_OK && !circuit_changing(c) && !c->sent.unsure &&
        c->reading_since_ms >= c->sent.at_ms && c->mismatch_at_ms == NEVER &&
        differs(o->reported_da, c->sent.amps))
        c->mismatch_at_ms = now_ms;
}

static void observe_done(struct circuit *c, struct budgets *b, const struct outcome *o,
                         uint64_t now_ms)
{
    c->observed = c->observed || (o->err != ERR_UNAUTHORISED && o->err != ERR_BLOCKED);
    if (o->err == ERR_THROTTLED)
        budget_throttled(&b->of[BUDGET_OBSERVE], o->retry_after_s, now_ms);
    if (o->err == ERR_NOT_FOUND || o->err == ERR_FORBIDDEN)
        c->observe_at_ms[c->reading_charger] = now_ms + OBSERVE_GONE_MS;
}

void circuit_done(struct circuit *c, struct budgets *b, const struct outcome *o,
                  uint64_t now_ms)
{
    if (o->kind == REQUEST_SET) {
        set_done(c, b, o, now_ms);
    } else {
        c->reading = false;
        if (o->kind == REQUEST_READBACK)
            readback_done(c, b, o, now_ms);
        else
            observe_done(c, b, o, now_ms);
    }
    circuit_decide(c, now_ms);
}

/* ---- verdicts ---- */

/* One verdict is due for each call: on its heels, or whenever it comes with our ticks. */
static bool is_expected(const struct circuit *c, const struct verdict *v, uint64_t now_ms)
{
    const struct circuit_sent *s = &c->sent;

    if (v->command != COMMAND_CIRCUIT_CURRENT || v->charger != 0 || !s->known ||
        s->answered || !may_be(s->ticks, v->ticks))
        return false;
    return c->writing || (s->ticks != 0 && s->ticks == v->ticks) ||
           now_ms < later(s->at_ms, s->renewed_at_ms) + VERDICT_MS;
}

void circuit_verdict(struct circuit *c, const struct verdict *v, uint64_t now_ms)
{
    if (!is_expected(c, v, now_ms)) {
        c->counts.foreign_commands++;
        c->events |= CIRCUIT_FOREIGN_COMMAND;
        /* If it brings back a value that was reported before ours, no report follows. */
        if (v->accepted && v->charger == 0 && c->sent.known && !circuit_changing(c))
            c->sent.readback_at_ms = now_ms + READBACK_FIRST_MS;
    } else if (c->writing) {
        c->sent.early = v->accepted ? 1 : -1;
        c->sent.early_ticks = v->ticks;
    } else {
        c->sent.answered = true;
        if (c->sent.awaiting || c->sent.renewing || (c->sent.unsure && v->accepted))
            judge_sent(c, v->accepted, now_ms);
    }
    circuit_decide(c, now_ms);
}
