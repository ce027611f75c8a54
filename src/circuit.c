/* SPDX-License-Identifier: MIT */
#include "evecc/circuit.h"

#include <string.h>

#define SECONDS 1000u
#define MINUTES (60u * SECONDS)

enum {
    VERDICT_MS = 20 * SECONDS,       /* accepted to confirmed (easee-api 7.2) */
    READBACK_FIRST_MS = 1 * SECONDS, /* a charger answers within 0.5 to 1 s */
    READBACK_LIVE_MS = 6 * SECONDS,  /* the stream brings the verdict earlier */
    SILENT_MS = 20 * MINUTES,        /* easee-api 7.3 */
    TICKS_APART = 20 * 1000 * 1000,  /* 2 s in ticks of 100 ns */
    COMMAND_CIRCUIT_CURRENT = 22,    /* easee-api 5.4 */
    OBSERVATION_LIMIT_L1 = 111,      /* easee-api 7.4, DynamicCircuitCurrentP1 */
    OBSERVATION_LIMIT_L3 = 113,
    OBSERVE_MS = 60 * SECONDS,      /* at most once a minute per charger */
    OBSERVE_GONE_MS = 15 * MINUTES, /* an endpoint that was taken away */
    GRID_WAIT_MS = 10 * SECONDS,    /* for the grid type, before the first setpoint */
    SLOW_MS = 15 * MINUTES,         /* retry of what the charger or others do not heed */
    FORBIDDEN_MS = 60 * MINUTES,    /* easee-api 5.6, 403 */
    BACKOFF_FIRST_MS = 1 * SECONDS,
    BACKOFF_LAST_MS = 5 * MINUTES, /* reliability F-18 */
    UNAVAILABLE_MS = 60 * SECONDS, /* easee-api 5.6, 502 and 503 */
    REASSERTS = 3,
    REASSERT_WINDOW_MS = 10 * MINUTES,
    MISMATCH_MS = 3 * SECONDS, /* three phases are reported one after the other */
    START_BOOST_A = 7
};

static const struct budget_rule own_rule = {
    .window_ms = 600 * SECONDS, .calls = 40, .reserve = 8};

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint32_t next_random(struct circuit *c)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 17;
    c->random ^= c->random << 5;
    return c->random;
}

/* Exponential back-off after c->failures failures in a row, 75 to 125 %. */
static uint64_t backoff_ms(struct circuit *c)
{
    uint64_t ms = BACKOFF_FIRST_MS;

    for (unsigned i = 1; i < c->failures && ms < BACKOFF_LAST_MS; i++)
        ms *= 2;
    ms = earlier(ms, BACKOFF_LAST_MS);
    return ms * (75 + next_random(c) % 51) / 100;
}

void circuit_init(struct circuit *c, const struct circuit_config *cfg, uint32_t seed)
{
    memset(c, 0, sizeof *c);
    c->cfg = *cfg;
    c->cfg.phase.may_switch = false;
    c->random = seed != 0 ? seed : 1;
    c->tripped_at_ms = NEVER;
    c->confirmed_at_ms = NEVER;
    c->sent.at_ms = NEVER;
    c->sent.readback_at_ms = NEVER;
    c->mismatch_at_ms = NEVER;
    c->round_trip_ms = NA_U16;
    c->choice.again_at_ms = NEVER;
    c->choice.dwell_until_ms = NEVER;
    budget_init(&c->own, &own_rule, 1);
    for (unsigned i = 0; i < CHARGERS_MAX; i++)
        charger_init(&c->charger[i]);
}

/* ---- the wish ---- */

static bool wish_pending(const struct circuit *c)
{
    return c->want.id > c->ended_wish;
}

/* The newest wish ends, if it has not yet. */
static void end_wish(struct circuit *c, uint64_t *count)
{
    if (!wish_pending(c))
        return;
    (*count)++;
    c->ended_wish = c->want.id;
}

static bool fallback_in_force(const struct circuit *c)
{
    return c->tripped || c->expired;
}

/* A fallback other than hold stands in the wish's place. */
static bool wish_replaced(const struct circuit *c)
{
    return fallback_in_force(c) && c->want.fallback_action != FALLBACK_HOLD;
}

static void clear_latches(struct circuit *c)
{
    c->tripped = false;
    c->tripped_at_ms = NEVER;
    c->foreign = false;
    c->reasserted = 0;
    c->not_confirmed = false;
    c->repeats = 0;
}

static void new_wish(struct circuit *c, const struct want *w)
{
    uint64_t came = w->id - c->want.id;

    c->wishes.accepted += came;
    c->wishes.merged += came - 1 + (wish_pending(c) ? 1 : 0);
    c->tripped = false;
    c->tripped_at_ms = NEVER;
    c->expired = false;
    c->not_confirmed = false;
    c->repeats = 0;
}

/* The target of the newest wish was confirmed, and is not just a step on the way to it.
 */
static bool settled(const struct circuit *c)
{
    return c->want.id != 0 && c->confirmed_known && c->sent.known && !c->sent.unsure &&
           !c->writing && !c->sent.awaiting && amps_equal(c->confirmed, c->sent.amps) &&
           amps_equal(c->confirmed, c->choice.target) &&
           c->choice.binding != BINDING_PHASE_DWELL;
}

static void settle(struct circuit *c)
{
    if (!settled(c) || wish_replaced(c))
        return;
    c->confirmed_seq = c->want.seq;
    end_wish(c, &c->wishes.confirmed);
}

/* From now on nothing above what is allowed and sent at this moment. */
static void begin_fallback(struct circuit *c)
{
    c->ceiling = c->choice.target;
    for (unsigned i = 0; i < PHASES && c->sent.known; i++)
        if (c->sent.amps.l[i] < c->ceiling.l[i])
            c->ceiling.l[i] = c->sent.amps.l[i];
    if (c->want.fallback_action != FALLBACK_HOLD)
        end_wish(c, &c->wishes.expired);
}

static uint64_t watchdog_at(const struct circuit *c)
{
    if (c->want.id == 0 || c->want.watchdog_s == 0 || c->tripped)
        return NEVER;
    return c->want.fed_at_ms + c->want.watchdog_s * (uint64_t)SECONDS;
}

static uint64_t expiry_at(const struct circuit *c)
{
    if (c->want.id == 0 || c->want.validity_s == 0 || c->expired)
        return NEVER;
    return c->want.accepted_at_ms + c->want.validity_s * (uint64_t)SECONDS;
}

static void check_fallback(struct circuit *c, uint64_t now_ms)
{
    if (now_ms >= watchdog_at(c)) {
        begin_fallback(c);
        c->tripped = true;
        c->tripped_at_ms = now_ms;
        c->counts.trips++;
        c->events |= CIRCUIT_WATCHDOG;
    }
    if (now_ms >= expiry_at(c)) {
        begin_fallback(c);
        c->expired = true;
        c->events |= CIRCUIT_EXPIRED;
        /* Past its validity a wish is never sent (N3), whatever the fallback is. */
        end_wish(c, &c->wishes.expired);
    }
}

void circuit_want(struct circuit *c, const struct want *w, uint64_t now_ms)
{
    uint64_t before = c->want.id;

    /* What was due when this write came is decided first: it cannot undo a watchdog that
     * had to trip before, and one that came in time is in time however late it is looked
     * at. */
    check_fallback(c, w->fed_at_ms);
    if (w->id > before)
        new_wish(c, w);
    c->want = *w;
    if (w->id < before)
        c->want.id = before;

    if (w->clears != c->clears)
        clear_latches(c);
    if (w->resends != c->resends && c->sent.known)
        c->sent.unsure = true;
    if (w->refreshes != c->refreshes)
        for (unsigned i = 0; i < c->chargers; i++)
            c->observe_at_ms[i] = earlier(c->observe_at_ms[i], now_ms);
    c->clears = w->clears;
    c->resends = w->resends;
    c->refreshes = w->refreshes;
    circuit_decide(c, now_ms);
}

/* ---- what follows from it ---- */

static uint8_t kept_phase_mode(const struct circuit *c)
{
    uint8_t phases =
        c->sent.phases.phases != 0 ? c->sent.phases.phases : c->sent.phases.last_phases;

    if (phases == 0)
        return c->want.phase_mode;
    return phases == 1 ? PHASE_MODE_SINGLE : PHASE_MODE_THREE;
}

static struct phase_wish wish_in_force(const struct circuit *c)
{
    const struct want *w = &c->want;
    struct phase_wish wish = {
        .power_w = w->power_w,
        .current_da = w->current_da,
        .phase_da = {w->phase_da[0], w->phase_da[1], w->phase_da[2]},
        .mode = w->phase_mode,
        .enable = w->enable
    };

    if (!wish_replaced(c))
        return wish;
    if (w->fallback_action == FALLBACK_PAUSE || phase_count(c->ceiling) == 0) {
        wish.enable = false;
        return wish;
    }
    wish.power_w = NA_U32;
    wish.current_da = w->fallback_da;
    memset(wish.phase_da, 0xff, sizeof wish.phase_da);
    wish.mode = w->fallback_phases != 0 ? w->fallback_phases : kept_phase_mode(c);
    /* Three phases under a ceiling on one would be cut to one, then wanted again. */
    if (phase_count(c->ceiling) == 1)
        wish.mode = PHASE_MODE_SINGLE;
    return wish;
}

/* The fallback never raises a current above what was allowed when it began.  What is left
 * of three phases is one only where one may not be used (wish_in_force()): a pause. */
static void apply_ceiling(struct circuit *c)
{
    struct amps *target = &c->choice.target;
    unsigned phases = phase_count(*target);

    for (unsigned i = 0; i < PHASES; i++)
        if (target->l[i] > c->ceiling.l[i])
            target->l[i] = c->ceiling.l[i];
    if (phase_count(*target) < phases)
        memset(target, 0, sizeof *target);
    c->choice.binding = BINDING_FALLBACK;
}

static bool may_switch(const struct circuit *c)
{
    return c->found && c->alone && c->cfg.phase.phases_wired == PHASES &&
           telemetry_grid_is_tn(c->charger[0].grid_type);
}

/* The pause before three phases is over early when the charger has said so since. */
static bool seen_idle(const struct circuit *c)
{
    const struct telemetry *t = &c->charger[0].telemetry;

    return c->chargers == 1 && c->confirmed_known && phase_count(c->confirmed) == 0 &&
           t->state_at_ms != NEVER && c->confirmed_at_ms != NEVER &&
           t->state_at_ms >= c->confirmed_at_ms && t->op_mode != 3 &&
           t->op_mode != NA_U16;
}

static void confirm(struct circuit *c, uint64_t now_ms)
{
    uint64_t trip = now_ms - c->sent.wished_at_ms;

    c->sent.awaiting = false;
    c->sent.unsure = false;
    c->sent.readback_at_ms = NEVER;
    c->mismatch_at_ms = NEVER;
    c->confirmed = c->sent.amps;
    c->confirmed_known = true;
    c->confirmed_at_ms = now_ms;
    c->confirmed_seq = c->sent.seq;
    c->not_confirmed = false;
    c->repeats = 0;
    c->result = ERR_OK;
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
    if (!c->sent.known || c->writing || at == NEVER || at < c->sent.at_ms)
        return;
    if (reports(master->circuit_da, c->sent.amps)) {
        c->mismatch_at_ms = NEVER;
        if (c->sent.awaiting || c->sent.unsure)
            confirm(c, now_ms);
        else if (c->foreign && now_ms >= c->slow_until_ms) {
            c->foreign = false;
            c->events |= CIRCUIT_RECOVERED;
        }
        return;
    }
    if (!c->sent.awaiting && !c->sent.unsure && c->confirmed_known &&
        at > c->confirmed_at_ms && c->mismatch_at_ms == NEVER)
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
        return;
    }
    c->foreign = true;
    c->slow_until_ms = now_ms + SLOW_MS;
}

/* The same value as was refused is refused without asking, for a while. */
static void refuse_again(struct circuit *c, uint64_t now_ms)
{
    if (!wish_pending(c) || now_ms >= c->refused_until_ms ||
        !amps_equal(c->choice.target, c->refused))
        return;
    c->refused_wish = c->want.id;
    end_wish(c, &c->wishes.rejected);
}

void circuit_decide(struct circuit *c, uint64_t now_ms)
{
    struct phase_wish wish;

    if (c->want.id == 0)
        return;
    check_fallback(c, now_ms);
    if (c->reported)
        check_report(c, now_ms);
    if (c->sent.awaiting && now_ms >= c->sent.accepted_at_ms + VERDICT_MS)
        verdict_missing(c, now_ms);
    if (c->mismatch_at_ms != NEVER && now_ms >= c->mismatch_at_ms + MISMATCH_MS)
        overridden(c, now_ms);
    if (c->expired && c->want.fallback_action == FALLBACK_HOLD) {
        c->choice.target = c->ceiling;
        c->choice.binding = BINDING_FALLBACK;
        c->choice.again_at_ms = c->choice.dwell_until_ms = NEVER;
        return;
    }
    wish = wish_in_force(c);
    c->cfg.phase.may_switch = may_switch(c);
    phase_choose(&c->cfg.phase, &c->sent.phases, &wish, seen_idle(c), now_ms, &c->choice);
    if (wish_replaced(c))
        apply_ceiling(c);
    refuse_again(c, now_ms);
    settle(c);
}

/* ---- what to send, and when ---- */

/* The currents that should leave next. */
static struct amps next_amps(const struct circuit *c)
{
    struct amps a = c->choice.target;
    bool starting = c->sent.known && phase_count(c->sent.amps) == 0;

    if (c->cfg.start_boost && starting && !fallback_in_force(c) &&
        c->cfg.phase.max_current_a >= START_BOOST_A)
        for (unsigned i = 0; i < PHASES; i++)
            if (a.l[i] == START_BOOST_A - 1)
                a.l[i] = START_BOOST_A;
    return a;
}

/* The time-to-live in the cloud is renewed at half its life. */
static uint64_t refresh_at(const struct circuit *c)
{
    if (c->cfg.deadman_min == 0 || !c->sent.known)
        return NEVER;
    return c->sent.at_ms + c->cfg.deadman_min * (uint64_t)MINUTES / 2;
}

/* After an expiry with hold, and with nothing sent, there is nothing to hold. */
static bool has_target(const struct circuit *c)
{
    if (c->want.id == 0 || !c->found)
        return false;
    return c->sent.known || !(c->expired && c->want.fallback_action == FALLBACK_HOLD);
}

static bool must_send(const struct circuit *c, uint64_t now_ms)
{
    if (!has_target(c))
        return false;
    return !c->sent.known || c->sent.unsure || !amps_equal(next_amps(c), c->sent.amps) ||
           now_ms >= refresh_at(c);
}

static bool is_decrease(const struct circuit *c)
{
    struct amps next = next_amps(c);

    /* Before the first setpoint the charger may carry anything. */
    return !c->sent.known || amps_lower(c->sent.amps, next) ||
           (c->sent.unsure && amps_lower(c->sent.before, next));
}

static bool is_urgent(const struct circuit *c)
{
    return is_decrease(c) && (wish_replaced(c) || c->want.urgent);
}

/* The earliest instant the next setpoint may leave as far as this circuit alone is
 * concerned. */
static uint64_t own_send_at(const struct circuit *c)
{
    struct amps next = next_amps(c);
    uint64_t at = c->retry_at_ms;

    if (c->refused_until_ms != 0 && amps_equal(next, c->refused))
        at = later(at, c->refused_for_good && c->refused_wish == c->want.id
                           ? NEVER
                           : c->refused_until_ms);
    if (c->sent.known && amps_equal(next, c->sent.amps))
        at = later(at, c->slow_until_ms);
    if (c->cfg.phase.phases_wired == PHASES && !c->observed)
        at = later(at, c->grid_wait_until_ms);
    if (c->sent.at_ms != NEVER && !is_urgent(c))
        at = later(at, c->sent.at_ms + (is_decrease(c) ? c->cfg.decrease_interval_ms
                                                       : c->cfg.increase_interval_ms));
    return at;
}

static uint64_t send_at(const struct circuit *c, const struct budgets *b, uint64_t now_ms)
{
    bool urgent = is_urgent(c);

    if (c->writing || !has_target(c))
        return NEVER;
    if (!must_send(c, now_ms))
        return refresh_at(c);
    return later(own_send_at(c),
                 now_ms + later(budgets_wait_ms(b, BUDGET_WRITE, now_ms, urgent),
                                budget_wait_ms(&c->own, now_ms, urgent)));
}

unsigned circuit_press(struct circuit *c, const struct budgets *b, uint64_t now_ms)
{
    circuit_decide(c, now_ms);
    if (send_at(c, b, now_ms) > now_ms)
        return 0;
    return is_urgent(c) ? 3 : is_decrease(c) ? 2 : 1;
}

static void start_write(struct circuit *c, struct budgets *b, uint64_t now_ms,
                        struct request *ret)
{
    struct amps next = next_amps(c);

    budgets_take(b, BUDGET_WRITE, now_ms);
    budget_take(&c->own, now_ms);
    c->undo = c->sent;
    if (!c->sent.unsure)
        c->sent.before = c->sent.amps;
    c->sent.amps = next;
    c->sent.known = true;
    c->sent.unsure = false;
    c->sent.awaiting = false;
    c->sent.wish = c->want.id;
    c->sent.wished_at_ms = c->want.accepted_at_ms;
    c->sent.seq = c->want.seq;
    c->sent.at_ms = now_ms;
    c->sent.readback_at_ms = NEVER;
    c->sent.ticks = 0;
    c->sent.early = 0;
    c->mismatch_at_ms = NEVER;
    c->writing = true;
    phase_applied(&c->sent.phases, next, now_ms);
    *ret = (struct request){
        .kind = REQUEST_SET, .amps = next, .ttl_min = c->cfg.deadman_min};
}

static uint64_t observe_at(const struct circuit *c, unsigned charger)
{
    uint64_t at = c->observe_at_ms[charger], said = c->charger[charger].reported_at_ms;

    if (!c->live)
        return at;
    if (said == NEVER || said < c->heard_at_ms[charger])
        said = c->heard_at_ms[charger];
    return later(at, said + SILENT_MS);
}

static uint64_t read_at(const struct circuit *c, const struct budgets *b, uint64_t now_ms,
                        struct request *ret)
{
    uint64_t best = NEVER;

    if (c->reading || !c->found)
        return NEVER;
    if (c->sent.awaiting && c->sent.readback_at_ms != NEVER) {
        best = later(c->sent.readback_at_ms,
                     now_ms + budgets_wait_ms(b, BUDGET_READBACK, now_ms, false));
        *ret = (struct request){.kind = REQUEST_READBACK};
    }
    for (unsigned i = 0; i < c->chargers; i++) {
        uint64_t at = later(observe_at(c, i),
                            now_ms + budgets_wait_ms(b, BUDGET_OBSERVE, now_ms, false));
        if (at < best) {
            best = at;
            *ret = (struct request){.kind = REQUEST_OBSERVE, .charger = (uint8_t)i};
        }
    }
    return best;
}

static void start_read(struct circuit *c, struct budgets *b, uint64_t now_ms,
                       const struct request *r)
{
    c->reading = true;
    c->reading_since_ms = now_ms;
    c->reading_charger = r->charger;
    if (r->kind == REQUEST_OBSERVE) {
        budgets_take(b, BUDGET_OBSERVE, now_ms);
        c->observe_at_ms[r->charger] = now_ms + OBSERVE_MS;
        if (c->live)
            c->heard_at_ms[r->charger] = now_ms;
        return;
    }
    budgets_take(b, BUDGET_READBACK, now_ms);
    /* 1, 2, 4, 8, ... s after the cloud accepted */
    c->sent.readback_at_ms = now_ms + ((uint64_t)READBACK_FIRST_MS << c->sent.readbacks);
    c->sent.readbacks++;
}

bool circuit_next(struct circuit *c, struct budgets *b, uint64_t now_ms,
                  struct request *ret)
{
    struct request read;

    if (circuit_press(c, b, now_ms) > 0) {
        start_write(c, b, now_ms, ret);
        return true;
    }
    if (read_at(c, b, now_ms, &read) <= now_ms) {
        start_read(c, b, now_ms, &read);
        *ret = read;
        return true;
    }
    return false;
}

uint64_t circuit_wake(struct circuit *c, const struct budgets *b, uint64_t now_ms)
{
    struct request unused;
    uint64_t at;

    circuit_decide(c, now_ms);
    at = earlier(send_at(c, b, now_ms), read_at(c, b, now_ms, &unused));
    at = earlier(at, earlier(watchdog_at(c), expiry_at(c)));
    at = earlier(at, c->want.id != 0 ? c->choice.again_at_ms : NEVER);
    if (c->sent.awaiting)
        at = earlier(at, c->sent.accepted_at_ms + VERDICT_MS);
    if (c->mismatch_at_ms != NEVER)
        at = earlier(at, c->mismatch_at_ms + MISMATCH_MS);
    return at;
}

/* ---- how it ended ---- */

static void refused(struct circuit *c, enum err err, uint64_t now_ms)
{
    c->refused = c->sent.amps;
    c->refused_until_ms = now_ms + (err == ERR_FORBIDDEN ? FORBIDDEN_MS : SLOW_MS);
    c->refused_wish = c->sent.wish;
    c->refused_for_good = err == ERR_BAD_REQUEST || err == ERR_REJECTED;
    if (err == ERR_FORBIDDEN)
        c->retry_at_ms = c->refused_until_ms;
    if (err == ERR_NOT_FOUND)
        c->lost = err;
    c->events |= CIRCUIT_REFUSED;
    if (c->want.id == c->sent.wish)
        end_wish(c, &c->wishes.rejected);
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
    default: /* it may have arrived all the same */
        c->sent.unsure = true;
        break;
    }
    c->failures++;
    c->retry_at_ms = now_ms + backoff_ms(c);
    if (o->http_status == 502 || o->http_status == 503)
        c->retry_at_ms = later(c->retry_at_ms, now_ms + UNAVAILABLE_MS);
}

/* The charger's own verdict on what was sent. */
static void judge_sent(struct circuit *c, bool accepted, uint64_t now_ms)
{
    if (accepted) {
        confirm(c, now_ms);
        return;
    }
    c->result = ERR_REJECTED;
    refused(c, ERR_REJECTED, now_ms);
    c->sent = c->undo;
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
    if (c->lost == ERR_NOT_FOUND)
        c->lost = ERR_OK;
    c->sent.ticks = o->ticks;
    c->sent.awaiting = true;
    c->sent.accepted_at_ms = now_ms;
    c->sent.readbacks = 0;
    c->sent.readback_at_ms = now_ms + (c->live ? READBACK_LIVE_MS : READBACK_FIRST_MS);
    if (c->sent.early != 0)
        judge_sent(c, c->sent.early > 0, now_ms);
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

/* ---- facts ---- */

void circuit_found(struct circuit *c, unsigned chargers, bool alone, uint64_t now_ms)
{
    c->found = true;
    c->lost = ERR_OK;
    c->alone = alone;
    c->chargers = (uint8_t)earlier(chargers, CHARGERS_MAX);
    c->grid_wait_until_ms = now_ms + GRID_WAIT_MS;
    for (unsigned i = 0; i < c->chargers; i++) {
        c->observe_at_ms[i] = now_ms;
        c->heard_at_ms[i] = now_ms;
    }
}

void circuit_stream(struct circuit *c, bool live, uint64_t now_ms)
{
    c->live = live;
    for (unsigned i = 0; i < c->chargers; i++)
        c->heard_at_ms[i] = now_ms;
}

/* The answer to a settings POST names no ticks, and now and then they differ a little;
 * charger and command are what remains then (easee-api 3.2, 7.2). */
static bool may_be(int64_t sent, int64_t answered)
{
    int64_t apart = sent > answered ? sent - answered : answered - sent;

    return sent == 0 || answered == 0 || apart <= TICKS_APART;
}

void circuit_verdict(struct circuit *c, const struct verdict *v, uint64_t now_ms)
{
    bool ours = v->command == COMMAND_CIRCUIT_CURRENT && v->charger == 0 &&
                (c->writing || (c->sent.awaiting && may_be(c->sent.ticks, v->ticks)));

    if (!ours) {
        c->counts.foreign_commands++;
        c->events |= CIRCUIT_FOREIGN_COMMAND;
    } else if (c->writing) {
        c->sent.early = v->accepted ? 1 : -1;
    } else {
        judge_sent(c, v->accepted, now_ms);
    }
    circuit_decide(c, now_ms);
}

void circuit_lost(struct circuit *c, enum err err)
{
    c->found = false;
    c->lost = err;
}

void circuit_observe(struct circuit *c, unsigned charger, const struct observation *o,
                     int64_t cloud_unix_ms, uint64_t now_ms)
{
    if (charger >= CHARGERS_MAX)
        return;
    /* Only a new report of the limit is news of it: an old one says nothing of a setpoint
     * that became unsure since.  It is looked at when all that came with it was taken. */
    if (charger_observe(&c->charger[charger], o, cloud_unix_ms, now_ms) && charger == 0 &&
        o->id >= OBSERVATION_LIMIT_L1 && o->id <= OBSERVATION_LIMIT_L3)
        c->reported = true;
}

/* ---- what to show ---- */

/* Sums over the chargers of the circuit; unknown as long as one of them is. */
static uint64_t sum_u64(uint64_t a, uint64_t b, uint64_t unknown)
{
    return a == unknown || b == unknown ? unknown : a + b;
}

static struct telemetry all_chargers(const struct circuit *c)
{
    struct telemetry t = c->charger[0].telemetry;
    bool count = t.cars_connected == NA_U16;

    if (c->chargers <= 1)
        return t;
    if (count)
        t.cars_connected = t.cars_charging = 0;
    for (unsigned i = 0; i < c->chargers; i++) {
        const struct telemetry *o = &c->charger[i].telemetry;

        if (count) {
            t.cars_connected = (uint16_t)(t.cars_connected + (o->vehicle == 1));
            t.cars_charging = (uint16_t)(t.cars_charging + (o->op_mode == 3));
        }
        if (i == 0)
            continue;
        t.power_w = (uint32_t)sum_u64(t.power_w, o->power_w, NA_U32);
        t.energy_wh = sum_u64(t.energy_wh, o->energy_wh, NA_U64);
        t.session_wh = (uint32_t)sum_u64(t.session_wh, o->session_wh, NA_U32);
        for (unsigned p = 0; p < PHASES; p++)
            t.current_ma[p] =
                (uint32_t)sum_u64(t.current_ma[p], o->current_ma[p], NA_U32);
        /* Ages are those of the oldest part; NEVER is the largest and wins. */
        if (o->power_at_ms == NEVER ||
            (t.power_at_ms != NEVER && o->power_at_ms < t.power_at_ms))
            t.power_at_ms = o->power_at_ms;
        if (o->op_mode == 3 && t.op_mode != 3) {
            t.op_mode = o->op_mode;
            t.phases_in_use = o->phases_in_use;
            t.phase_bits = o->phase_bits;
        }
        t.vehicle = t.vehicle == 1 || o->vehicle == 1 ? 1 : t.vehicle;
        t.updates = (uint16_t)(t.updates + o->updates);
    }
    return t;
}

static uint32_t charger_faults(const struct charger *g)
{
    const struct telemetry *t = &g->telemetry;
    uint32_t faults = 0;

    if (t->op_mode == 5 || t->no_current_reason == 56)
        faults |= FAULT_CHARGER_ERROR;
    if (t->op_mode == 0 || t->online == 0)
        faults |= FAULT_CHARGER_OFFLINE;
    if (t->op_mode == 160)
        faults |= FAULT_OVER_CURRENT;
    if (t->no_current_reason == 7 || t->no_current_reason == 11 ||
        (g->grid_type >= 30 && g->grid_type != NA_U16))
        faults |= FAULT_GRID;
    return faults;
}

static uint32_t faults(const struct circuit *c)
{
    uint32_t faults = 0;

    for (unsigned i = 0; i < c->chargers; i++)
        faults |= charger_faults(&c->charger[i]);
    if (c->lost != ERR_OK)
        faults |= FAULT_NOT_FOUND;
    if (c->foreign)
        faults |= FAULT_FOREIGN_CONTROL;
    if (c->not_confirmed)
        faults |= FAULT_NOT_CONFIRMED;
    return faults;
}

static uint32_t capabilities(const struct circuit *c)
{
    uint32_t bits = CAPABILITY_PER_PHASE_LIMITS;

    if (may_switch(c))
        bits |= CAPABILITY_PHASE_SWITCHING;
    if (telemetry_grid_is_tn(c->charger[0].grid_type))
        bits |= CAPABILITY_TN_GRID;
    if (c->found && c->alone)
        bits |= CAPABILITY_ALONE;
    if (c->cfg.deadman_min != 0)
        bits |= CAPABILITY_CLOUD_TTL;
    if (c->charger[0].offline_da[0] != NA_U16)
        bits |= CAPABILITY_OFFLINE_FALLBACK;
    if (c->charger[0].authorisation_required == 1)
        bits |= CAPABILITY_AUTHORISATION;
    return bits;
}

/* The car is offered no more than the target, as reported since it was confirmed. */
static bool effective(const struct circuit *c)
{
    const struct telemetry *t = &c->charger[0].telemetry;

    if (!settled(c) || c->confirmed_at_ms == NEVER)
        return false;
    if (phase_count(c->confirmed) == 0)
        return t->state_at_ms != NEVER && t->state_at_ms >= c->confirmed_at_ms &&
               t->op_mode != 3;
    return t->limits_at_ms != NEVER && t->limits_at_ms >= c->confirmed_at_ms &&
           t->effective_da != NA_U16 && t->effective_da != 0 &&
           t->effective_da <= c->confirmed.l[0] * 10u;
}

static enum stage stage(const struct circuit *c)
{
    if (c->want.id == 0)
        return STAGE_NONE;
    if (wish_replaced(c) || c->expired)
        return STAGE_SUPERSEDED;
    if (c->refused_wish == c->want.id && c->refused_until_ms != 0 &&
        amps_equal(next_amps(c), c->refused))
        return STAGE_REFUSED;
    if (c->foreign)
        return STAGE_OVERRIDDEN;
    if (settled(c))
        return effective(c) ? STAGE_EFFECTIVE : STAGE_CONFIRMED;
    if (!c->sent.known || !amps_equal(next_amps(c), c->sent.amps))
        return STAGE_WAITING;
    if (c->writing)
        return STAGE_SENT;
    if (c->sent.awaiting)
        return STAGE_ACCEPTED;
    return c->not_confirmed ? STAGE_TIMED_OUT : STAGE_WAITING;
}

/* What a charger that offers less than it may gives as its reason (easee-api 6.5). */
static enum binding binding_of_reason(uint16_t reason)
{
    static const struct {
        uint8_t reason, binding;
    } table[] = {
        {1,  BINDING_CIRCUIT       },
        {4,  BINDING_CIRCUIT       },
        {25, BINDING_CIRCUIT       },
        {26, BINDING_CIRCUIT       },
        {3,  BINDING_OFFLINE       },
        {30, BINDING_OFFLINE       },
        {5,  BINDING_LOAD_BALANCING},
        {6,  BINDING_LOAD_BALANCING},
        {10, BINDING_LOAD_BALANCING},
        {28, BINDING_LOAD_BALANCING},
        {29, BINDING_LOAD_BALANCING},
        {51, BINDING_CHARGER       },
        {52, BINDING_CHARGER       },
        {53, BINDING_CHARGER       },
        {77, BINDING_CHARGER       },
        {78, BINDING_CHARGER       },
        {54, BINDING_SCHEDULE      },
        {76, BINDING_SCHEDULE      },
        {55, BINDING_AUTHORISATION },
        {75, BINDING_CABLE         },
    };

    for (unsigned i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].reason == reason)
            return table[i].binding;
    return BINDING_NONE;
}

static enum binding binding(const struct circuit *c, const struct budgets *b,
                            uint64_t now_ms)
{
    const struct charger *g = &c->charger[0];
    enum binding theirs;

    if (c->want.id == 0)
        return BINDING_NONE;
    if (c->foreign)
        return BINDING_OTHER_CONTROLLER;
    if (!c->writing && must_send(c, now_ms) && send_at(c, b, now_ms) > now_ms)
        return BINDING_BUDGET;
    if (!settled(c) || phase_count(c->confirmed) == 0 ||
        g->telemetry.state_at_ms == NEVER ||
        g->telemetry.effective_da >= c->confirmed.l[0] * 10u)
        return c->choice.binding;
    if (g->telemetry.online == 0)
        return BINDING_OFFLINE;
    if (g->derating == 1)
        return BINDING_DERATING;
    theirs = binding_of_reason(g->telemetry.no_current_reason);
    return theirs != BINDING_NONE ? theirs : c->choice.binding;
}

static void fill_progress(const struct circuit *c, const struct budgets *b,
                          uint64_t now_ms, struct progress *p)
{
    const struct budget *write = &b->of[BUDGET_WRITE];
    uint64_t at = send_at(c, b, now_ms);

    memset(p, 0, sizeof *p);
    p->wish_id = c->want.id;
    p->sent_at_ms = c->sent.at_ms;
    p->confirmed_at_ms = c->confirmed_at_ms;
    p->tripped_at_ms = fallback_in_force(c) && c->tripped ? c->tripped_at_ms : NEVER;
    p->dwell_until_ms = c->want.id != 0 ? c->choice.dwell_until_ms : NEVER;
    p->next_call_at_ms = at != NEVER && at > now_ms ? at : NEVER;
    p->backoff_until_ms = later(later(write->paused_until_ms, c->retry_at_ms),
                                b->of[BUDGET_ALL].paused_until_ms);
    if (p->backoff_until_ms <= now_ms)
        p->backoff_until_ms = NEVER;
    p->target_known = c->want.id != 0;
    if (p->target_known) {
        memcpy(p->requested_da, c->choice.requested_da, sizeof p->requested_da);
        p->requested_phases = c->choice.requested_phases;
        p->target = c->choice.target;
    } else {
        memset(p->requested_da, 0xff, sizeof p->requested_da);
        p->requested_phases = NA_U16;
    }
    p->sent = c->sent.amps;
    p->sent_known = c->sent.known;
    p->confirmed = c->confirmed;
    p->confirmed_known = c->confirmed_known;
    p->pending = must_send(c, now_ms);
    p->stage = (uint8_t)stage(c);
    p->binding = (uint8_t)binding(c, b, now_ms);
    p->seq = c->want.seq;
    p->confirmed_seq = c->confirmed_seq;
    p->result = (int16_t)(c->lost != ERR_OK ? c->lost : c->result);
    p->http_status = c->http_status;
    p->calls_left = (uint16_t)budget_left(write, now_ms);
    p->calls_window_s = (uint16_t)(write->rule[0].window_ms / SECONDS);
    p->round_trip_ms = c->round_trip_ms;
    p->phase_switches_24h = (uint16_t)phase_switches_24h(&c->sent.phases, now_ms);
}

void circuit_status(const struct circuit *c, const struct budgets *b, uint64_t now_ms,
                    struct status *ret)
{
    ret->telemetry = all_chargers(c);
    fill_progress(c, b, now_ms, &ret->progress);
    ret->wishes = c->wishes;
    ret->wishes.pending = wish_pending(c) ? 1 : 0;
    ret->faults = faults(c);
    ret->capabilities = capabilities(c);
}

uint32_t circuit_events(struct circuit *c)
{
    uint32_t events = c->events;

    c->events = 0;
    return events;
}
