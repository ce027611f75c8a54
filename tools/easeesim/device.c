/* SPDX-License-Identifier: MIT */
#include "device.h"

#include <math.h>

enum {
    MIN_A = 6,              /* below, a car cannot charge (IEC 61851, easee-api 9) */
    START_MS = 10 * 1000,   /* from offering current to closing the relays */
    START_AT_6_MS = 300000, /* the same with the quirk of some firmware */
    STOP_MS = 700,          /* from withdrawing the offer to opening the relays */
    SWITCH_MS = 5000,       /* relays open when fewer phases remain in a session */
    RAMP_FIRST_MS = 500,    /* a car answers the pilot after half a second, */
    RAMP_STEP_MS = 250,     /* then follows in steps */
    RAMP_UP_A = 2,          /* of so much */
    RAMP_DOWN_A = 8
};

/* reasonForNoCurrent (easee-api 6.5) */
enum {
    WHY_NOT_MAX_CIRCUIT = 1,
    WHY_NOT_DYNAMIC_CIRCUIT = 2,
    WHY_NOT_OFFLINE = 3,
    WHY_NOT_FUSE = 4,
    WHY_NOT_QUEUE = 5,
    WHY_NOT_PHASE = 11,
    WHY_LIMIT_FUSE = 25,
    WHY_LIMIT_MAX_CIRCUIT = 26,
    WHY_LIMIT_DYNAMIC_CIRCUIT = 27,
    WHY_LIMIT_BALANCING = 29,
    WHY_LIMIT_OFFLINE = 30,
    WHY_NOT_NO_CAR = 50,
    WHY_NOT_MAX_CHARGER = 51,
    WHY_NOT_DYNAMIC_CHARGER = 52,
    WHY_NOT_DISABLED = 53,
    WHY_NOT_AUTH = 55,
    WHY_NOT_ERROR = 56,
    WHY_LIMIT_CABLE = 75,
    WHY_LIMIT_MAX_CHARGER = 77,
    WHY_LIMIT_DYNAMIC_CHARGER = 78,
    WHY_CAR_IDLE = 79,
    WHY_LIMIT_CAR = 81
};

/* A limit and what to blame it for: for no current at all, or for less than wanted. */
struct limit {
    double a;
    int none, less;
};

enum { L1 = 1, L2 = 2, L3 = 4, ALL = 7 };

static bool is_it(const struct charger *c)
{
    return c->grid_type == 4 || c->grid_type == 5 ||
           (c->grid_type >= 32 && c->grid_type <= 35);
}

static unsigned count_phases(unsigned mask)
{
    return (mask & 1) + (mask >> 1 & 1) + (mask >> 2 & 1);
}

static void lower(struct limit *l, double a, int none, int less)
{
    if (a < l->a)
        *l = (struct limit){a, none, less};
}

/* Whole amps; what a car cannot use is nothing. */
static double usable(double a)
{
    a = floor(a);
    return a < MIN_A ? 0 : a;
}

/* The lowest limit wins; without the cloud the offline limit takes the dynamic one's
 * place. */
static struct limit circuit_limit(const struct circuit *k, bool online, int phase)
{
    struct limit l = {k->rated_a, WHY_NOT_FUSE, WHY_LIMIT_FUSE};

    lower(&l, k->max_a[phase], WHY_NOT_MAX_CIRCUIT, WHY_LIMIT_MAX_CIRCUIT);
    if (online)
        lower(&l, k->dynamic_a[phase], WHY_NOT_DYNAMIC_CIRCUIT,
              WHY_LIMIT_DYNAMIC_CIRCUIT);
    else
        lower(&l, k->offline_a[phase], WHY_NOT_OFFLINE, WHY_LIMIT_OFFLINE);
    l.a = usable(l.a);
    return l;
}

static struct limit charger_limit(const struct charger *c)
{
    struct limit l = {c->cable_a, WHY_NOT_MAX_CHARGER, WHY_LIMIT_CABLE};

    lower(&l, c->setting[SETTING_MAX], WHY_NOT_MAX_CHARGER, WHY_LIMIT_MAX_CHARGER);
    lower(&l, c->setting[SETTING_DYNAMIC], WHY_NOT_DYNAMIC_CHARGER,
          WHY_LIMIT_DYNAMIC_CHARGER);
    l.a = usable(l.a);
    return l;
}

/* Which phases a charge would use, of those with current (AVAILABLE).  On a TN grid a
 * single phase is L1 with P2=P3=0; on an IT grid every load lies between two conductors.
 */
static unsigned choose_wires(const struct charger *c, unsigned available)
{
    int mode = (int)c->setting[SETTING_PHASE_MODE];

    if (is_it(c)) {
        if (c->grid_type == 4 && mode != 1 && available == ALL)
            return ALL;
        for (unsigned pair = L1 | L2; pair < ALL; pair++) /* 3, 5, 6 */
            if (count_phases(pair) == 2 && (available & pair) == pair)
                return mode == 3 ? 0 : pair;
        return 0;
    }
    if (c->grid_type == 3)
        available &= L1;
    else if (c->grid_type == 2)
        available &= L1 | L2;
    if (mode == 3)
        return available == ALL ? ALL : 0;
    if (mode != 1) {
        if (available == ALL)
            return ALL;
        if (available == (L1 | L2) || available == (L2 | L3))
            return available;
    }
    return available & -available; /* the lowest phase */
}

/* Once a session runs on fewer phases it stays there: relays are spared (easee-api 9.1).
 */
static unsigned wires_now(const struct charger *c, unsigned available)
{
    unsigned wires = choose_wires(c, available);

    if (c->relay != 0 && (c->relay & available) == c->relay &&
        count_phases(wires) > count_phases(c->relay))
        return c->relay;
    return wires;
}

static bool permitted(const struct charger *c)
{
    return c->car.connected && !c->error && c->boot_ms == NEVER &&
           c->setting[SETTING_ENABLED] != 0 &&
           (c->setting[SETTING_AUTH_REQUIRED] == 0 || c->authorised) &&
           (c->online || c->setting[SETTING_OFFLINE_MODE] != 2);
}

static bool car_takes(const struct charger *c)
{
    return c->car.connected && !c->car.full && c->car.wants_a >= MIN_A;
}

static bool feeds(const struct charger *c)
{
    return permitted(c) && car_takes(c) && c->offer_a >= MIN_A;
}

/* The operating mode when no current flows. */
static enum op_mode rest_mode(const struct charger *c)
{
    if (c->error)
        return OP_ERROR;
    if (!c->car.connected)
        return OP_DISCONNECTED;
    if (c->setting[SETTING_AUTH_REQUIRED] != 0 && !c->authorised)
        return OP_AWAITING_AUTH;
    if (c->car.full)
        return OP_COMPLETED;
    if (c->offer_a >= MIN_A && !car_takes(c))
        return OP_READY;
    return OP_AWAITING_START;
}

static int reason_of(const struct charger *c, const struct limit *binding)
{
    if (c->error)
        return WHY_NOT_ERROR;
    if (!c->car.connected)
        return WHY_NOT_NO_CAR;
    if (c->setting[SETTING_ENABLED] == 0)
        return WHY_NOT_DISABLED;
    if (c->setting[SETTING_AUTH_REQUIRED] != 0 && !c->authorised)
        return WHY_NOT_AUTH;
    if (!c->online && c->setting[SETTING_OFFLINE_MODE] == 2)
        return WHY_NOT_OFFLINE;
    if (c->queued)
        return WHY_NOT_QUEUE;
    if (c->offer_a < MIN_A)
        return binding->none;
    if (!car_takes(c))
        return WHY_CAR_IDLE;
    if (c->car.wants_a == c->offer_a)
        return 0;
    return c->car.wants_a < c->offer_a ? WHY_LIMIT_CAR : binding->less;
}

static double target_a(const struct charger *c)
{
    if (c->stage != STAGE_CHARGING || c->relay == 0)
        return 0;
    return floor(fmin(c->offer_a, c->car.wants_a));
}

/* The conductors current flows in: a one-phase car uses the first of them only. */
static unsigned flowing(const struct charger *c)
{
    if (c->car.phases == 1 && !is_it(c))
        return c->relay & -c->relay;
    return c->relay;
}

static void follow_target(struct model *m, struct charger *c)
{
    double target = target_a(c);
    bool there = true;

    for (unsigned p = 0; p < 3; p++)
        if (c->current_a[p] != (flowing(c) >> p & 1 ? target : 0))
            there = false;
    if (there)
        c->ramp_ms = NEVER;
    else if (c->ramp_ms == NEVER)
        c->ramp_ms = m->now_ms + RAMP_FIRST_MS;
}

static void ramp(struct model *m, struct charger *c)
{
    double target = target_a(c);

    c->ramp_ms = NEVER;
    for (unsigned p = 0; p < 3; p++) {
        double goal = flowing(c) >> p & 1 ? target : 0, *a = &c->current_a[p];

        if (*a < goal)
            *a = fmin(goal, fmax(*a, MIN_A - RAMP_UP_A) + RAMP_UP_A);
        else
            *a = fmax(goal, *a - RAMP_DOWN_A);
        if (*a != goal)
            c->ramp_ms = m->now_ms + RAMP_STEP_MS;
    }
}

static void open_relays(struct charger *c)
{
    if (c->relay != 0)
        c->relay_switches += count_phases(c->relay);
    c->relay = 0;
    c->current_a[0] = c->current_a[1] = c->current_a[2] = 0;
    c->ramp_ms = NEVER;
}

static void close_relays(struct charger *c)
{
    c->relay = c->wires;
    c->relay_switches += count_phases(c->relay);
    c->stage = STAGE_CHARGING;
    c->stage_ms = NEVER;
    c->op_mode = OP_CHARGING;
}

static void enter(struct model *m, struct charger *c, enum stage stage, uint64_t ms)
{
    c->stage = stage;
    c->stage_ms = ms == NEVER ? NEVER : m->now_ms + ms;
}

static uint64_t start_delay(const struct model *m, const struct charger *c)
{
    return m->quirks.start_at_6_wait && c->offer_a == MIN_A ? START_AT_6_MS : START_MS;
}

/* Fewer phases than are closed: open, wait a little, close again. */
static void switch_phases(struct model *m, struct charger *c)
{
    bool to_one = count_phases(c->relay) > 1 && count_phases(c->wires) == 1;

    c->stuck = m->quirks.stuck_at_6 && to_one && c->offer_a == MIN_A;
    open_relays(c);
    enter(m, c, STAGE_STARTING, SWITCH_MS);
    c->op_mode = OP_AWAITING_START;
}

static void step(struct model *m, struct charger *c)
{
    bool feed = feeds(c);

    if (c->offer_a != MIN_A)
        c->stuck = false;
    switch (c->stage) {
    case STAGE_IDLE:
        if (feed && !c->stuck)
            enter(m, c, STAGE_STARTING, start_delay(m, c));
        c->op_mode = rest_mode(c);
        break;
    case STAGE_STARTING:
        if (!feed || c->stuck)
            enter(m, c, STAGE_IDLE, NEVER);
        else if (c->offer_a > MIN_A && c->stage_ms > m->now_ms + START_MS)
            enter(m, c, STAGE_STARTING, START_MS);
        c->op_mode = rest_mode(c);
        break;
    case STAGE_CHARGING:
        if (!feed)
            enter(m, c, STAGE_STOPPING, STOP_MS);
        else if (c->wires != c->relay)
            switch_phases(m, c);
        break;
    case STAGE_STOPPING:
        if (feed && c->wires == c->relay)
            enter(m, c, STAGE_CHARGING, NEVER);
        break;
    }
    follow_target(m, c);
}

/* Offers the charger its part of LEFT, the current not yet given away on each phase, when
 * SHARERS chargers, it among them, still want some. */
static void offer(const struct circuit *k, struct charger *c, bool online, double left[3],
                  unsigned sharers)
{
    struct limit own = charger_limit(c), binding = {INFINITY, WHY_NOT_PHASE, 0};
    struct limit phase[3];
    unsigned available = 0;

    for (int p = 0; p < 3; p++) {
        phase[p] = circuit_limit(k, online, p);
        lower(&phase[p], sharers ? usable(left[p] / sharers) : phase[p].a, WHY_NOT_QUEUE,
              WHY_LIMIT_BALANCING);
        if (phase[p].a > 0)
            available |= 1U << p;
    }
    c->wires = wires_now(c, available);
    for (int p = 0; p < 3; p++)
        if (c->wires >> p & 1)
            lower(&binding, phase[p].a, phase[p].none, phase[p].less);
    if (c->wires == 0) {
        binding = phase[0];
        if (available != 0)
            binding.none = WHY_NOT_PHASE;
        binding.a = 0;
    }
    c->share_a = binding.a;
    lower(&binding, own.a, own.none, own.less);
    c->offer_a = permitted(c) ? binding.a : 0;
    c->reason = reason_of(c, &binding);
    if (sharers && feeds(c))
        for (int p = 0; p < 3; p++)
            if (c->wires >> p & 1)
                left[p] -= fmin(c->offer_a, fmax(c->car.wants_a, MIN_A));
}

static bool shares(const struct charger *c)
{
    return permitted(c) && car_takes(c) && charger_limit(c).a >= MIN_A;
}

void device_decide(struct model *m, struct circuit *k)
{
    const struct charger *master = model_master(m, k);
    bool online = master && master->online;
    double left[3], most = 0;
    unsigned sharers = 0, served;

    for (int p = 0; p < 3; p++) {
        left[p] = circuit_limit(k, online, p).a;
        most = fmax(most, left[p]);
    }
    for (unsigned i = 0; i < m->n_chargers; i++)
        if (&m->circuit[m->charger[i].circuit] == k && shares(&m->charger[i]))
            sharers++;
    served = (unsigned)fmin(sharers, floor(most / MIN_A));
    for (unsigned i = 0; i < m->n_chargers; i++) {
        struct charger *c = &m->charger[i];
        bool sharer = shares(c);

        if (&m->circuit[c->circuit] != k)
            continue;
        c->queued = sharer && served == 0 && most > 0;
        offer(k, c, online, left, sharer ? served : 0);
        if (c->queued) {
            c->offer_a = 0;
            c->reason = WHY_NOT_QUEUE;
        }
        if (sharer && served > 0)
            served--;
        step(m, c);
    }
}

uint64_t device_wake(const struct charger *c)
{
    uint64_t t = c->stage_ms < c->ramp_ms ? c->stage_ms : c->ramp_ms;

    return c->boot_ms < t ? c->boot_ms : t;
}

void device_run(struct model *m, struct charger *c)
{
    if (c->boot_ms <= m->now_ms) {
        c->boot_ms = NEVER;
        model_set_online(m, c, true);
    }
    if (c->ramp_ms <= m->now_ms)
        ramp(m, c);
    if (c->stage_ms > m->now_ms)
        return;
    if (c->stage == STAGE_STARTING) {
        close_relays(c);
    } else {
        open_relays(c);
        enter(m, c, STAGE_IDLE, NEVER);
    }
    device_decide(m, &m->circuit[c->circuit]);
}

void device_drop(struct model *m, struct charger *c)
{
    open_relays(c);
    enter(m, c, STAGE_IDLE, NEVER);
}

int device_output_phase(const struct charger *c)
{
    static const int tn[8] = {0, 10, 12, 20, 14, 10, 21, 30};
    static const int it[8] = {0, 0, 0, 11, 0, 13, 15, 22};

    return (is_it(c) ? it : tn)[c->relay];
}

/* On IT a three-wire load draws from all conductors: power is that of three phases
 * between lines; between two conductors it is one phase at the line voltage. */
double device_power_w(const struct model *m, const struct charger *c)
{
    double w = 0;

    if (is_it(c))
        return m->voltage_v[0] * c->current_a[c->relay & L1 ? 0 : 1] *
               (c->relay == ALL ? sqrt(3) : 1);
    for (int p = 0; p < 3; p++)
        w += m->voltage_v[p] * c->current_a[p];
    return w;
}

void device_integrate(const struct model *m, struct charger *c, uint64_t dt_ms)
{
    double kwh = device_power_w(m, c) * (double)dt_ms / 3.6e9;

    c->session_kwh += kwh;
    c->lifetime_kwh += kwh;
    c->hour_kwh += kwh;
    c->temperature_c += (22 + device_power_w(m, c) / 1000 - c->temperature_c) *
                        (1 - exp(-(double)dt_ms / 1.2e6));
}

double device_terminal_a(const struct charger *c, int terminal)
{
    if (is_it(c))
        return terminal >= 2 && terminal <= 4 ? c->current_a[terminal - 2] : 0;
    if (terminal >= 3)
        return c->current_a[terminal - 3];
    /* the neutral carries what the phases do not balance */
    return count_phases(flowing(c)) == 1
               ? fmax(c->current_a[0], fmax(c->current_a[1], c->current_a[2]))
               : 0;
}

/* Conductor on a terminal: 0 earth, 1 neutral, 2 to 4 L1 to L3, -1 nothing. */
static int conductor(const struct charger *c, int terminal)
{
    static const int tn[6] = {-1, 0, 1, 2, 3, 4}, it[6] = {-1, 0, 2, 3, 4, -1};
    int wire = (is_it(c) ? it : tn)[terminal];

    if ((c->grid_type == 3 && wire > 2) || (c->grid_type == 2 && wire > 3) ||
        (c->grid_type == 5 && wire > 3))
        return -1;
    return wire;
}

double device_terminal_v(const struct model *m, const struct charger *c, int from, int to)
{
    int a = conductor(c, from), b = conductor(c, to);
    double v, w;

    if (a < 0 || b < 0)
        return 0;
    v = a < 2 ? 0 : m->voltage_v[a - 2];
    w = b < 2 ? 0 : m->voltage_v[b - 2];
    if (a >= 2 && b >= 2)
        v = is_it(c) ? (v + w) / 2 : (v + w) / 2 * sqrt(3);
    else
        v = is_it(c) ? w / sqrt(3) : w;
    return round(v * 10) / 10;
}
