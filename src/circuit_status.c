/* SPDX-License-Identifier: MIT
 *
 * What is known of a circuit, in the words of the status and acknowledgement registers.
 */
#include "circuit_parts.h"

#include <string.h>

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
            t.cars_charging =
                (uint16_t)(t.cars_charging + (o->op_mode == OP_MODE_CHARGING));
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
        if (o->op_mode == OP_MODE_CHARGING && t.op_mode != OP_MODE_CHARGING) {
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

    if (t->op_mode == OP_MODE_ERROR || t->no_current_reason == REASON_CHARGER_ERROR)
        faults |= FAULT_CHARGER_ERROR;
    if (t->op_mode == OP_MODE_OFFLINE || t->online == 0)
        faults |= FAULT_CHARGER_OFFLINE;
    if (t->op_mode == OP_MODE_OVER_CURRENT)
        faults |= FAULT_OVER_CURRENT;
    if (t->no_current_reason == REASON_GRID_TYPE ||
        t->no_current_reason == REASON_PHASE_NOT_CONNECTED ||
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
        faults |= c->lost == ERR_CONFIG ? FAULT_CONFIGURATION : FAULT_NOT_FOUND;
    if (c->foreign)
        faults |= FAULT_FOREIGN_CONTROL;
    if (c->not_confirmed)
        faults |= FAULT_NOT_CONFIRMED;
    return faults;
}

static uint32_t capabilities(const struct circuit *c)
{
    uint32_t bits = CAPABILITY_PER_PHASE_LIMITS;

    if (circuit_may_switch(c) && c->cfg.phase.switches_per_day > 0)
        bits |= CAPABILITY_PHASE_SWITCHING;
    if (telemetry_grid_is_tn(c->charger[0].grid_type))
        bits |= CAPABILITY_TN_GRID;
    if (c->found && c->alone)
        bits |= CAPABILITY_ALONE;
    if (c->cfg.deadman_min != 0)
        bits |= CAPABILITY_CLOUD_TTL;
    if (c->live)
        bits |= CAPABILITY_LIVE_STREAM;
    if (c->charger[0].offline_da[0] != NA_U16)
        bits |= CAPABILITY_OFFLINE_FALLBACK;
    if (c->charger[0].authorisation_required == 1)
        bits |= CAPABILITY_AUTHORISATION;
    return bits;
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

/* The charger has reported, since the setpoint left, that it acts on it: it offers just
 * that, or less and says why. */
static bool effective(const struct circuit *c)
{
    const struct telemetry *t = &c->charger[0].telemetry;
    uint16_t target_da = (uint16_t)(c->confirmed.l[0] * 10u);

    if (!circuit_settled(c))
        return false;
    if (phase_count(c->confirmed) == 0)
        return t->state_at_ms != NEVER && t->state_at_ms >= c->sent.at_ms &&
               t->op_mode != OP_MODE_CHARGING;
    if (t->limits_at_ms == NEVER || t->limits_at_ms < c->sent.at_ms ||
        t->effective_da == NA_U16 || t->effective_da > target_da)
        return false;
    return t->effective_da == target_da ||
           binding_of_reason(t->no_current_reason) != BINDING_NONE;
}

static enum stage stage(const struct circuit *c)
{
    if (c->want.id == 0)
        return STAGE_NONE;
    if (circuit_wish_replaced(c) || c->expired)
        return STAGE_SUPERSEDED;
    if (c->refused_wish == c->want.id && c->refused_until_ms != 0 &&
        amps_equal(circuit_next_amps(c), c->refused))
        return STAGE_REFUSED;
    if (c->foreign && c->sent.unsure && amps_equal(circuit_next_amps(c), c->sent.amps))
        return STAGE_OVERRIDDEN;
    if (circuit_settled(c))
        return effective(c) ? STAGE_EFFECTIVE : STAGE_CONFIRMED;
    if (!c->sent.known || !amps_equal(circuit_next_amps(c), c->sent.amps))
        return STAGE_WAITING;
    if (c->writing)
        return STAGE_SENT;
    if (c->sent.awaiting)
        return STAGE_ACCEPTED;
    return c->not_confirmed ? STAGE_TIMED_OUT : STAGE_WAITING;
}

static enum binding binding(const struct circuit *c, const struct budgets *b,
                            uint64_t now_ms)
{
    const struct charger *g = &c->charger[0];
    enum binding theirs;

    if (c->want.id == 0)
        return BINDING_NONE;
    if (c->foreign && c->sent.unsure)
        return BINDING_OTHER_CONTROLLER;
    if (!c->writing && circuit_must_send(c, now_ms) &&
        circuit_send_at(c, b, now_ms) > now_ms)
        return BINDING_BUDGET;
    if (!circuit_settled(c) || phase_count(c->confirmed) == 0 ||
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

/* When a setpoint can leave: the one that waits, or an ordinary decrease if one were
 * wanted. */
static uint64_t may_send_at(const struct circuit *c, const struct budgets *b,
                            uint64_t now_ms)
{
    uint64_t at = circuit_must_send(c, now_ms) ? circuit_send_at(c, b, now_ms) : NEVER;

    if (at != NEVER)
        return at;
    at = c->sent.at_ms != NEVER ? c->sent.at_ms + c->cfg.decrease_interval_ms : 0;
    return later(later(at, c->retry_at_ms),
                 now_ms + later(budgets_wait_ms(b, BUDGET_WRITE, now_ms, false),
                                budget_wait_ms(&c->own, now_ms, false)));
}

static void fill_progress(const struct circuit *c, const struct budgets *b,
                          uint64_t now_ms, struct progress *p)
{
    const struct budget *write = &b->of[BUDGET_WRITE];
    uint64_t at = may_send_at(c, b, now_ms);

    memset(p, 0, sizeof *p);
    p->wish_id = c->want.id;
    p->sent_at_ms = c->sent.renewed_at_ms != 0 ? c->sent.renewed_at_ms : c->sent.at_ms;
    p->confirmed_at_ms = c->confirmed_at_ms;
    p->tripped_at_ms = c->tripped ? c->tripped_at_ms : NEVER;
    p->dwell_until_ms = c->want.id != 0 ? c->choice.dwell_until_ms : NEVER;
    p->next_call_at_ms = at > now_ms ? at : NEVER;
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
    p->pending = circuit_must_send(c, now_ms);
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
    ret->wishes.pending = circuit_wish_pending(c) ? 1 : 0;
    ret->faults = faults(c);
    ret->capabilities = capabilities(c);
}
