/* SPDX-License-Identifier: MIT */
#include "circuit_parts.h"

#include <string.h>

enum {
    SILENT_MS = 20 * MINUTES,   /* easee-api 7.3 */
    OBSERVATION_LIMIT_L1 = 111, /* easee-api 7.4, DynamicCircuitCurrentP1 */
    OBSERVATION_LIMIT_L3 = 113,
    OBSERVE_MS = 60 * SECONDS,   /* at most once a minute per charger */
    GRID_WAIT_MS = 10 * SECONDS, /* for the grid type, before the first setpoint */
    START_BOOST_A = 7
};

static const struct budget_rule own_rule = {
    .window_ms = 600 * SECONDS, .calls = 40, .reserve = 8};

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

bool circuit_wish_pending(const struct circuit *c)
{
    return c->want.id > c->ended_wish;
}

void circuit_wish_end(struct circuit *c, uint64_t *count)
{
    if (!circuit_wish_pending(c))
        return;
    (*count)++;
    c->ended_wish = c->want.id;
}

static bool fallback_in_force(const struct circuit *c)
{
    return c->tripped || c->expired;
}

/* A fallback other than hold stands in the wish's place. */
bool circuit_wish_replaced(const struct circuit *c)
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
    c->slow_until_ms = 0;
}

static void new_wish(struct circuit *c, const struct want *w)
{
    uint64_t came = w->id - c->want.id;

    c->wishes.accepted += came;
    c->wishes.merged += came - 1 + (circuit_wish_pending(c) ? 1 : 0);
    c->tripped = false;
    c->tripped_at_ms = NEVER;
    c->expired = false;
    c->not_confirmed = false;
    c->repeats = 0;
}

bool circuit_changing(const struct circuit *c)
{
    return (c->writing && !c->sent.renewing) || c->sent.awaiting;
}

/* The target of the newest wish was confirmed, and is not just a step on the way to it.
 */
bool circuit_settled(const struct circuit *c)
{
    return c->want.id != 0 && c->confirmed_known && c->sent.known && !c->sent.unsure &&
           !circuit_changing(c) && amps_equal(c->confirmed, c->sent.amps) &&
           amps_equal(c->confirmed, c->choice.target) &&
           c->choice.binding != BINDING_PHASE_DWELL;
}

static void settle(struct circuit *c)
{
    if (!circuit_settled(c) || circuit_wish_replaced(c))
        return;
    c->confirmed_seq = c->want.seq;
    circuit_wish_end(c, &c->wishes.confirmed);
}

/* From now on nothing above what is allowed and sent at this moment; so hold, too, ends
 * with the lower of an expired wish and what was sent before it. */
static void begin_fallback(struct circuit *c)
{
    c->ceiling = c->choice.target;
    for (unsigned i = 0; i < PHASES && c->sent.known; i++)
        if (c->sent.amps.l[i] < c->ceiling.l[i])
            c->ceiling.l[i] = c->sent.amps.l[i];
    if (c->want.fallback_action != FALLBACK_HOLD)
        circuit_wish_end(c, &c->wishes.expired);
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
        c->trip_due_ms = watchdog_at(c);
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
        circuit_wish_end(c, &c->wishes.expired);
    }
}

void circuit_want(struct circuit *c, const struct want *w, uint64_t now_ms)
{
    uint64_t before = c->want.id;

    /* What was due when this write came is decided first: it cannot undo a watchdog that
     * had to trip before, and one that came in time is in time however late it is looked
     * at. */
    if (c->tripped && w->fed_at_ms < c->trip_due_ms) {
        c->tripped = false;
        c->tripped_at_ms = NEVER;
        c->want.fed_at_ms = w->fed_at_ms;
    }
    check_fallback(c, w->fed_at_ms);
    if (w->id > before)
        new_wish(c, w);
    c->want = *w;
    if (w->id < before)
        c->want.id = before;

    if (w->clears != c->clears)
        clear_latches(c);
    if (w->resends != c->resends && c->sent.known) {
        c->sent.unsure = true;
        c->slow_until_ms = 0;
    }
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

    if (!circuit_wish_replaced(c))
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

bool circuit_may_switch(const struct circuit *c)
{
    return c->found && c->alone && c->cfg.phase.phases_wired == PHASES &&
           telemetry_grid_is_tn(c->charger[0].grid_type);
}

/* The pause before three phases is over early when the charger has said so since. */
static enum phase_pause pause_of(const struct circuit *c)
{
    const struct telemetry *t = &c->charger[0].telemetry;
    bool idle = c->chargers == 1 && c->confirmed_known &&
                phase_count(c->confirmed) == 0 && t->state_at_ms != NEVER &&
                c->confirmed_at_ms != NEVER && t->state_at_ms >= c->confirmed_at_ms &&
                t->op_mode != OP_MODE_CHARGING && t->op_mode != NA_U16;

    if (c->sent.unsure)
        return PAUSE_UNSURE;
    return idle ? PAUSE_SEEN : PAUSE_SENT;
}

/* Before the first setpoint it may charge by itself: from three phases it is switched.
 * One may be all that the car has. */
static void take_over_phases(struct circuit *c)
{
    const struct telemetry *t = &c->charger[0].telemetry;

    if (c->sent.known || !c->cfg.phase.may_switch)
        return;
    c->sent.phases.phases =
        t->op_mode == OP_MODE_CHARGING && t->phases_in_use == PHASES ? PHASES : 0;
    c->sent.phases.last_phases = c->sent.phases.phases;
}

void circuit_decide(struct circuit *c, uint64_t now_ms)
{
    struct phase_wish wish;

    if (c->want.id == 0)
        return;
    check_fallback(c, now_ms);
    circuit_answer_check(c, now_ms);
    circuit_renew_check(c, now_ms);
    if (c->expired && c->want.fallback_action == FALLBACK_HOLD) {
        c->choice.target = c->ceiling;
        c->choice.binding = BINDING_FALLBACK;
        c->choice.again_at_ms = c->choice.dwell_until_ms = NEVER;
        circuit_answer_recover(c, now_ms);
        return;
    }
    wish = wish_in_force(c);
    c->cfg.phase.may_switch = circuit_may_switch(c);
    take_over_phases(c);
    phase_choose(&c->cfg.phase, &c->sent.phases, &wish, pause_of(c), now_ms, &c->choice);
    if (circuit_wish_replaced(c))
        apply_ceiling(c);
    circuit_answer_known(c, now_ms);
    settle(c);
    circuit_answer_recover(c, now_ms);
}

/* Whether what left last has arrived is not known, nor what is in force if not. */
void circuit_restore(struct circuit *c, const struct want *w,
                     const struct circuit_sent *sent, uint64_t energy_wh, uint64_t now_ms)
{
    struct phase_wish wish;

    c->want = *w;
    c->wishes.accepted = w->id != 0;
    c->ended_wish = w->id != 0 ? w->id - 1 : 0;
    c->charger[0].telemetry.energy_wh = energy_wh;
    c->sent.phases = sent->phases;
    c->sent.amps = sent->amps;
    memset(&c->sent.before, 0xff, sizeof c->sent.before);
    c->sent.known = c->sent.unsure = sent->known;
    c->sent.at_ms = c->sent.lives_from_ms = sent->at_ms;
    c->sent.ttl_min = c->cfg.deadman_min; /* if it had none, renewing does no harm */
    c->sent.wish = w->id;
    c->sent.wished_at_ms = w->accepted_at_ms;
    c->sent.seq = w->seq;
    if (w->id == 0)
        return;
    /* What was allowed: a fallback that is due by now must not raise it. */
    wish = wish_in_force(c);
    phase_choose(&c->cfg.phase, &c->sent.phases, &wish, PAUSE_UNSURE, now_ms, &c->choice);
    if (sent->known)
        c->choice.target = sent->amps;
    circuit_decide(c, now_ms);
}

/* ---- what to send, and when ---- */

/* The currents that should leave next. */
struct amps circuit_next_amps(const struct circuit *c)
{
    struct amps a = c->choice.target;
    bool starting = c->sent.known && phase_count(c->sent.amps) == 0;

    if (c->cfg.start_boost && starting && !fallback_in_force(c) &&
        c->cfg.phase.max_current_a >= START_BOOST_A)
        for (unsigned i = 0; i < PHASES; i++)
            if (a.l[i] == START_BOOST_A - 1)
                a.l[i] = START_BOOST_A;
    return circuit_nudged(c, a);
}

/* The setpoint in force would be repeated, just to renew its time-to-live. */
static bool would_renew(const struct circuit *c)
{
    return c->sent.known && !c->sent.unsure &&
           amps_equal(circuit_next_amps(c), c->sent.amps);
}

/* After an expiry with hold, and with nothing sent, there is nothing to hold. */
static bool has_target(const struct circuit *c)
{
    if (c->want.id == 0 || !c->found)
        return false;
    return c->sent.known || !(c->expired && c->want.fallback_action == FALLBACK_HOLD);
}

bool circuit_must_send(const struct circuit *c, uint64_t now_ms)
{
    if (!has_target(c))
        return false;
    return !c->sent.known || c->sent.unsure ||
           !amps_equal(circuit_next_amps(c), c->sent.amps) ||
           now_ms >= circuit_renew_at(c);
}

static bool is_decrease(const struct circuit *c)
{
    struct amps next = circuit_next_amps(c);

    /* Before the first setpoint the charger may carry anything. */
    return !c->sent.known || amps_lower(c->sent.amps, next) ||
           (c->sent.unsure && amps_lower(c->sent.before, next));
}

static bool is_urgent(const struct circuit *c)
{
    return is_decrease(c) && (circuit_wish_replaced(c) || c->want.urgent);
}

bool circuit_insists(const struct circuit *c)
{
    return circuit_wish_replaced(c) || phase_count(circuit_next_amps(c)) == 0 ||
           (c->sent.known && is_decrease(c)) || would_renew(c);
}

/* When what was refused may be tried again. */
static uint64_t refused_until(const struct circuit *c)
{
    bool was_in_force = c->sent.known && amps_equal(c->refused, c->sent.amps);

    if (circuit_insists(c))
        return c->insist_at_ms;
    return c->refused_for_good && c->refused_wish == c->want.id && !was_in_force
               ? NEVER
               : c->refused_until_ms;
}

/* The earliest instant the next setpoint may leave as far as this circuit alone is
 * concerned. */
static uint64_t own_send_at(const struct circuit *c)
{
    struct amps next = circuit_next_amps(c);
    uint64_t at = c->retry_at_ms;

    if (c->refused_until_ms != 0 && amps_equal(next, c->refused))
        at = later(at, refused_until(c));
    if (c->sent.unsure && amps_equal(next, c->slow))
        at = later(at, c->slow_until_ms);
    if (c->cfg.phase.phases_wired == PHASES && !c->observed &&
        c->charger[0].grid_type == NA_U16)
        at = later(at, c->grid_wait_until_ms);
    if (c->sent.at_ms != NEVER && !is_urgent(c) && !would_renew(c))
        at = later(at, c->sent.at_ms + (is_decrease(c) ? c->cfg.decrease_interval_ms
                                                       : c->cfg.increase_interval_ms));
    return at;
}

uint64_t circuit_send_at(const struct circuit *c, const struct budgets *b,
                         uint64_t now_ms)
{
    bool urgent = is_urgent(c);

    if (c->writing || !has_target(c))
        return NEVER;
    if (!circuit_must_send(c, now_ms))
        return circuit_renew_at(c);
    return later(own_send_at(c),
                 now_ms + later(budgets_wait_ms(b, BUDGET_WRITE, now_ms, urgent),
                                budget_wait_ms(&c->own, now_ms, urgent)));
}

unsigned circuit_press(struct circuit *c, const struct budgets *b, uint64_t now_ms)
{
    circuit_decide(c, now_ms);
    if (circuit_send_at(c, b, now_ms) > now_ms)
        return 0;
    return is_urgent(c) ? 3 : is_decrease(c) ? 2 : 1;
}

static void start_setpoint(struct circuit *c, struct amps next, uint64_t now_ms)
{
    struct circuit_sent *s = &c->sent;

    circuit_renew_begin(c, next, now_ms);
    /* Where it is not known which of two the charger has, it may carry the higher. */
    for (unsigned i = 0; i < PHASES; i++)
        if (!s->unsure || s->before.l[i] < s->amps.l[i])
            s->before.l[i] = s->amps.l[i];
    s->amps = next;
    s->known = true;
    s->unsure = s->awaiting = false;
    s->wish = c->want.id;
    s->wished_at_ms = c->want.accepted_at_ms;
    s->seq = c->want.seq;
    s->whole = !circuit_wish_replaced(c) && c->choice.binding != BINDING_PHASE_DWELL &&
               amps_equal(next, c->choice.target);
    s->at_ms = now_ms;
    s->readback_at_ms = NEVER;
    c->mismatch_at_ms = NEVER;
    if (!amps_equal(next, circuit_nudged(c, c->nudge)))
        c->nudge = (struct amps){{0}};
    phase_applied(&s->phases, next, now_ms);
    if (c->choice.switching && phase_count(next) == 0)
        phase_pausing(&s->phases);
}

static void start_write(struct circuit *c, struct budgets *b, uint64_t now_ms,
                        struct request *ret)
{
    budgets_take(b, BUDGET_WRITE, now_ms);
    budget_take(&c->own, now_ms);
    c->undo = c->sent;
    if (would_renew(c))
        circuit_renew_start(c, now_ms);
    else
        start_setpoint(c, circuit_next_amps(c), now_ms);
    c->sent.ticks = 0;
    c->sent.early = 0;
    c->sent.answered = false;
    c->writing = true;
    *ret = (struct request){.kind = REQUEST_SET,
                            .amps = c->sent.amps,
                            .ttl_min =
                                c->sent.renewing ? c->cfg.deadman_min : c->sent.ttl_min};
}

static uint64_t observe_at(const struct circuit *c, unsigned charger)
{
    uint64_t at = c->observe_at_ms[charger], said = c->charger[charger].reported_at_ms;

    if (!c->live)
        return at;
    if (said == NEVER || said < c->heard_at_ms[charger])
        said = c->heard_at_ms[charger];
    return later(at, said + (c->told[charger] ? SILENT_MS : OBSERVE_MS));
}

static uint64_t read_at(const struct circuit *c, const struct budgets *b, uint64_t now_ms,
                        struct request *ret)
{
    uint64_t best = NEVER;

    if (c->reading || !c->found)
        return NEVER;
    if (c->sent.readback_at_ms != NEVER) {
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
    c->sent.readback_at_ms =
        c->sent.awaiting ? now_ms + ((uint64_t)READBACK_FIRST_MS << c->sent.readbacks)
                         : NEVER;
    c->sent.readbacks++;
}

bool circuit_next(struct circuit *c, struct budgets *b, uint64_t now_ms,
                  struct request *ret)
{
    struct request read = {.kind = REQUEST_READBACK};

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

uint64_t circuit_decide_at(const struct circuit *c)
{
    uint64_t at = earlier(earlier(watchdog_at(c), expiry_at(c)), circuit_answer_wake(c));

    if (c->want.id != 0)
        at = earlier(at, earlier(circuit_renew_wake(c), c->choice.again_at_ms));
    return at;
}

uint64_t circuit_wake(struct circuit *c, const struct budgets *b, uint64_t now_ms)
{
    struct request unused = {.kind = REQUEST_READBACK};

    circuit_decide(c, now_ms);
    return earlier(circuit_decide_at(c), earlier(circuit_send_at(c, b, now_ms),
                                                 read_at(c, b, now_ms, &unused)));
}

/* ---- facts ---- */

void circuit_found(struct circuit *c, unsigned chargers, bool alone, uint64_t now_ms)
{
    for (unsigned i = 0; c->found && i < CHARGERS_MAX; i++)
        charger_init(&c->charger[i]);
    c->found = true;
    c->lost = ERR_OK;
    c->alone = alone;
    c->chargers = (uint8_t)earlier(chargers, CHARGERS_MAX);
    c->grid_wait_until_ms = now_ms + GRID_WAIT_MS;
    for (unsigned i = 0; i < c->chargers; i++) {
        c->observe_at_ms[i] = now_ms;
        c->heard_at_ms[i] = now_ms;
        c->told[i] = false;
    }
}

void circuit_moved(struct circuit *c)
{
    if (!c->sent.known)
        return;
    c->sent.unsure = true;
    c->sent.awaiting = c->sent.renewing = false;
    c->sent.readback_at_ms = NEVER;
    memset(&c->sent.before, 0xff, sizeof c->sent.before);
    c->confirmed_known = false;
    c->mismatch_at_ms = NEVER;
    c->refused_until_ms = 0;
    c->slow_until_ms = 0;
    c->repeats = 0;
    c->not_confirmed = false;
    c->foreign = false;
    c->reasserted = 0;
    c->renewals = RENEWALS_UNKNOWN;
}

void circuit_stream(struct circuit *c, bool live, uint64_t now_ms)
{
    /* It shows what reaches the charger better than the cloud's answers do. */
    if (live && !c->live && c->renewals == RENEWALS_SWALLOWED)
        c->renewals = RENEWALS_UNKNOWN;
    c->live = live;
    for (unsigned i = 0; i < c->chargers; i++) {
        c->heard_at_ms[i] = now_ms;
        c->told[i] = false;
    }
}

void circuit_told(struct circuit *c, unsigned charger)
{
    c->told[charger] = true;
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

uint32_t circuit_events(struct circuit *c)
{
    uint32_t events = c->events;

    c->events = 0;
    return events;
}
