/* SPDX-License-Identifier: MIT
 *
 * Time-to-live: a setpoint that lapses in the cloud when nobody renews it.
 *
 * It is renewed at half its life by the same value.  Whether the cloud forwards a value
 * that has not changed is not documented (easee-api 4.2, 11.2), so a renewal counts only
 * when it became a command: the charger answered one, or, without the stream, the cloud
 * named one.  If it did not, the value is sent one amp lower, which is a change, and then
 * as wanted.
 *
 * At the minimum current and in a pause there is no such neighbour that is within the
 * limit and keeps the charge as it is.  What may lapse there could end at the charger's
 * maximum (easee-api 11.1), so as long as repeating is not known to be heard these
 * setpoints have no time-to-live: nothing is allowed beyond them but the least current.
 * A repetition with one is tried all the same; if it is swallowed, nothing was lost. */
#include "circuit_parts.h"

static uint64_t life_ms(const struct circuit *c)
{
    return c->cfg.deadman_min * (uint64_t)MINUTES;
}

static bool has_neighbour(const struct circuit *c, struct amps a)
{
    return phase_count(a) > 0 && a.l[0] > c->cfg.phase.min_current_a;
}

struct amps circuit_nudged(const struct circuit *c, struct amps a)
{
    if (!amps_equal(a, c->nudge))
        return a;
    for (unsigned i = 0; i < PHASES; i++)
        if (a.l[i] > 0)
            a.l[i]--;
    return a;
}

void circuit_renew_begin(struct circuit *c, struct amps next, uint64_t now_ms)
{
    struct circuit_sent *s = &c->sent;
    bool repeated = s->known && amps_equal(next, s->amps);

    /* If the charger had it already, and this is swallowed, its life began before. */
    s->lives_from_ms = repeated ? now_ms - life_ms(c) / 2 : now_ms;
    s->renewed_at_ms = 0;
    s->renewing = false;
    s->ttl_min =
        c->renewals == RENEWALS_HEARD || has_neighbour(c, next) ? c->cfg.deadman_min : 0;
}

uint64_t circuit_renew_at(const struct circuit *c)
{
    const struct circuit_sent *s = &c->sent;

    if (c->cfg.deadman_min == 0 || !s->known || s->unsure || circuit_changing(c) ||
        s->renewing || (s->ttl_min == 0 && c->renewals != RENEWALS_UNKNOWN))
        return NEVER;
    /* One that was lost leaves time for some more. */
    return later(s->lives_from_ms + life_ms(c) / 2,
                 s->renewed_at_ms != 0 ? s->renewed_at_ms + life_ms(c) / 8 : 0);
}

static uint64_t lapse_at(const struct circuit *c)
{
    if (!c->sent.known || c->sent.unsure || c->sent.ttl_min == 0)
        return NEVER;
    return c->sent.lives_from_ms + life_ms(c);
}

static uint64_t verdict_at(const struct circuit *c)
{
    return c->sent.renewing && !c->writing ? c->sent.renewed_at_ms + VERDICT_MS : NEVER;
}

uint64_t circuit_renew_wake(const struct circuit *c)
{
    return earlier(lapse_at(c), verdict_at(c));
}

void circuit_renew_check(struct circuit *c, uint64_t now_ms)
{
    if (now_ms >= verdict_at(c))
        circuit_renew_ended(c, c->sent.ticks != 0 && !c->live);
    /* Lapsed, as far as we can tell: the charger may have anything. */
    if (now_ms >= lapse_at(c))
        c->sent.unsure = true;
    if (c->renewals == RENEWALS_SWALLOWED && now_ms >= circuit_renew_at(c) &&
        has_neighbour(c, c->sent.amps))
        c->nudge = c->sent.amps;
}

void circuit_renew_start(struct circuit *c, uint64_t now_ms)
{
    c->sent.renewing = true;
    c->sent.renewed_at_ms = now_ms;
}

void circuit_renew_done(struct circuit *c)
{
    if (!c->live)
        circuit_renew_ended(c, c->sent.ticks != 0);
}

void circuit_renew_ended(struct circuit *c, bool heard)
{
    c->sent.renewing = false;
    if (heard) {
        c->renewals = RENEWALS_HEARD;
        c->sent.ttl_min = c->cfg.deadman_min;
        c->sent.lives_from_ms = c->sent.renewed_at_ms;
        c->not_confirmed = false;
        return;
    }
    if (c->renewals != RENEWALS_SWALLOWED)
        c->events |= CIRCUIT_SWALLOWED;
    c->renewals = RENEWALS_SWALLOWED;
    if (c->sent.ttl_min != 0 && !has_neighbour(c, c->sent.amps))
        c->not_confirmed = true; /* it will lapse */
}
