/* SPDX-License-Identifier: MIT */
#include "evecc/phase.h"

static const uint64_t DAY_MS = 24 * 3600 * 1000;

/* The lowest of several limits, and which it was; the first of equals. */
struct limit {
    uint16_t da;
    uint8_t binding;
};

/* What one number of phases allows. */
struct share {
    uint8_t phases, amps, binding;
    bool switching;
};

static void lower(struct limit *l, uint64_t da, enum binding why)
{
    if (da < l->da) {
        l->da = (uint16_t)da;
        l->binding = (uint8_t)why;
    }
}

/* What the client asks for on phase number PHASE when PHASES_USED carry current. */
static struct limit asked(const struct phase_config *cfg, const struct phase_wish *wish,
                          unsigned phases_used, unsigned phase)
{
    struct limit l = {NA_U16, BINDING_NONE};

    if (!wish->enable)
        lower(&l, 0, BINDING_ENABLE);
    if (wish->power_w != NA_U32)
        lower(&l, wish->power_w * 10ull / (cfg->voltage_v * phases_used), BINDING_POWER);
    lower(&l, wish->current_da, BINDING_CURRENT);
    lower(&l, wish->phase_da[phase], BINDING_PER_PHASE);
    return l;
}

static struct share share(const struct phase_config *cfg, const struct phase_wish *wish,
                          unsigned phases)
{
    struct limit l = asked(cfg, wish, phases, 0);
    bool single = wish->mode == PHASE_MODE_SINGLE;

    for (unsigned i = 1; i < phases; i++) {
        struct limit other = asked(cfg, wish, phases, i);

        lower(&l, other.da, (enum binding)other.binding);
    }
    lower(&l, cfg->max_current_a * 10u, BINDING_CONFIGURED_MAX);
    if (phases == 1 && cfg->phases_wired == PHASES && !single)
        lower(&l, cfg->single_phase_max_w * 10ull / cfg->voltage_v,
              BINDING_CONFIGURED_MAX);
    if (phases == PHASES && single) {
        /* Three phases stand in for one: no more power than that one would carry. */
        struct share one = share(cfg, wish, 1);

        lower(&l, one.amps * 10u / PHASES, (enum binding)one.binding);
    }
    if (l.da / 10 >= cfg->min_current_a)
        return (struct share){(uint8_t)phases, (uint8_t)(l.da / 10), l.binding, false};
    return (struct share){0, 0, l.da > 0 ? BINDING_MIN_CURRENT : l.binding, false};
}

/* The number of phases that the rules want, dwell aside. */
static unsigned pick(const struct phase_config *cfg, const struct phase_wish *wish)
{
    if (cfg->phases_wired == 1)
        return 1;
    if (!cfg->may_switch || wish->mode == PHASE_MODE_THREE)
        return PHASES;
    if (wish->mode == PHASE_MODE_SINGLE || wish->power_w <= cfg->single_phase_max_w)
        return 1;
    return share(cfg, wish, PHASES).amps > 0 ? PHASES : 1;
}

/* Change number N of the newest, counted from 1; at most as many as are held. */
static uint64_t newest(const struct phase_memory *mem, unsigned n)
{
    return mem->switched_at_ms[(mem->next + PHASE_SWITCHES_MAX - n) % PHASE_SWITCHES_MAX];
}

/* From when on the number of phases may change again; NEVER: it may not. */
static uint64_t dwell_end(const struct phase_config *cfg, const struct phase_memory *mem)
{
    unsigned n = cfg->switches_per_day;
    uint64_t dwell = mem->held > 0 ? newest(mem, 1) + cfg->dwell_ms : 0;
    uint64_t cap = 0;

    if (n == 0)
        return NEVER;
    if (mem->held >= n)
        cap = newest(mem, n) + DAY_MS;
    return dwell > cap ? dwell : cap;
}

/* From three phases to one at exactly 6 A some chargers stop, until the limit is another
 * one: through a pause it is (easee-api 9). */
enum { STICKS_A = 6 };

static bool needs_pause(struct share wanted)
{
    return wanted.phases == PHASES || wanted.amps == STICKS_A;
}

/* From when on another number of phases may follow, if that needs a pause: the charger
 * must have stopped charging before. */
static uint64_t pause_end(const struct phase_config *cfg, const struct phase_memory *mem,
                          enum phase_pause pause, uint64_t now_ms)
{
    if (mem->phases != 0 || pause == PAUSE_UNSURE)
        return now_ms + cfg->pause_ms;
    return pause == PAUSE_SEEN ? now_ms : mem->paused_since_ms + cfg->pause_ms;
}

/* What may flow until the change to three phases, or from three, is allowed. */
static struct share hold(const struct phase_config *cfg, const struct phase_memory *mem,
                         const struct phase_wish *wish)
{
    if (mem->last_phases == 1 && !cfg->may_switch)
        return (struct share){0, 0, BINDING_PHASE_DWELL, false};
    return share(cfg, wish, mem->last_phases);
}

/* Replaces WANTED by what may flow while its number of phases has to wait. */
static struct share delayed(const struct phase_config *cfg,
                            const struct phase_memory *mem, const struct phase_wish *wish,
                            struct share wanted, enum phase_pause pause, uint64_t now_ms,
                            uint64_t *ret_until_ms)
{
    struct share meanwhile = {0, 0, BINDING_PHASE_DWELL, true};
    uint64_t until_ms = dwell_end(cfg, mem);

    if (now_ms < until_ms)
        meanwhile = hold(cfg, mem, wish);
    else if (needs_pause(wanted))
        until_ms = pause_end(cfg, mem, pause, now_ms);
    if (now_ms >= until_ms)
        return wanted;
    *ret_until_ms = until_ms;
    if (meanwhile.phases * meanwhile.amps < wanted.phases * wanted.amps)
        meanwhile.binding = BINDING_PHASE_DWELL;
    return meanwhile;
}

static struct amps amps_of(struct share s)
{
    struct amps a = {{0}};

    for (unsigned i = 0; i < s.phases; i++)
        a.l[i] = s.amps;
    return a;
}

static void request(const struct phase_config *cfg, const struct phase_wish *wish,
                    unsigned phases, struct phase_choice *ret)
{
    ret->requested_phases = 0;
    for (unsigned i = 0; i < PHASES; i++) {
        ret->requested_da[i] = i < phases ? asked(cfg, wish, phases, i).da : 0;
        if (ret->requested_da[i] > 0)
            ret->requested_phases = (uint8_t)phases;
    }
}

void phase_choose(const struct phase_config *cfg, const struct phase_memory *mem,
                  const struct phase_wish *wish, enum phase_pause pause, uint64_t now_ms,
                  struct phase_choice *ret)
{
    unsigned phases = pick(cfg, wish);
    struct share s = share(cfg, wish, phases);
    uint64_t until_ms = NEVER;

    if (cfg->phases_wired == PHASES && s.phases > 0 && mem->last_phases > 0 &&
        mem->last_phases != s.phases)
        s = delayed(cfg, mem, wish, s, pause, now_ms, &until_ms);

    request(cfg, wish, phases, ret);
    ret->target = amps_of(s);
    ret->binding = s.binding;
    ret->again_at_ms = until_ms;
    ret->dwell_until_ms = until_ms;
    ret->switching = s.switching;
}

void phase_applied(struct phase_memory *mem, struct amps applied, uint64_t now_ms)
{
    uint8_t phases = (uint8_t)phase_count(applied);

    if (phases == 0) {
        mem->paused_since_ms = now_ms;
        mem->phases = 0;
        return;
    }
    if (mem->last_phases != 0 && (mem->last_phases != phases || mem->switching)) {
        mem->switched_at_ms[mem->next] = now_ms;
        mem->next = (uint8_t)((mem->next + 1) % PHASE_SWITCHES_MAX);
        if (mem->held < PHASE_SWITCHES_MAX)
            mem->held++;
    }
    mem->switching = false;
    mem->phases = phases;
    mem->last_phases = phases;
}

void phase_pausing(struct phase_memory *mem)
{
    mem->switching = true;
}

unsigned phase_count(struct amps a)
{
    if (a.l[1] > 0 || a.l[2] > 0)
        return PHASES;
    return a.l[0] > 0 ? 1 : 0;
}

unsigned phase_switches_24h(const struct phase_memory *mem, uint64_t now_ms)
{
    unsigned n = 0;

    while (n < mem->held && now_ms - newest(mem, n + 1) < DAY_MS)
        n++;
    return n;
}

bool amps_equal(struct amps a, struct amps b)
{
    return a.l[0] == b.l[0] && a.l[1] == b.l[1] && a.l[2] == b.l[2];
}

bool amps_lower(struct amps a, struct amps b)
{
    return b.l[0] < a.l[0] || b.l[1] < a.l[1] || b.l[2] < a.l[2];
}
