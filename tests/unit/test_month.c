/* SPDX-License-Identifier: MIT
 * A simulated month: two circuits, one session and their shared budgets against clients
 * with random wishes and a cloud that fails in every way it is known to fail.  Time jumps
 * from event to event.  Each invariant is checked against logs that the test keeps
 * itself; the seed of a failing month is printed, EVECC_TEST_SEED=N runs that one alone.
 */
#include "evecc/circuit.h"
#include "evecc/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECONDS 1000ull
#define MINUTES (60 * SECONDS)
#define HOURS   (60 * MINUTES)
#define DAYS    (24 * HOURS)

enum { CIRCUITS = 2, VOLTAGE = 230, SEEDS = 4, STEPS_MAX = 4000000 };
static const int64_t UNIX0 = 1790000000000;

/* ---- chance ---- */

static uint64_t chance;

static uint32_t below(uint32_t n)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (uint32_t)(chance >> 32) % n;
}

static uint64_t between(uint64_t least, uint64_t most)
{
    return least + below((uint32_t)(most - least + 1));
}

/* ---- what is simulated ---- */

enum weather {
    GOOD,
    FLAKY,
    ONLY_400,
    ONLY_401,
    ONLY_403,
    ONLY_429,
    ONLY_5XX,
    ONLY_TIMEOUTS,
    ONLY_LOST, /* accepted, never done */
    WEATHERS
};

/* One call that is out. */
struct call {
    bool out;
    uint64_t done_at_ms;
    struct request request;
    struct outcome outcome;
    uint64_t left_ms;
    bool applies;     /* a setpoint that reaches the charger */
    struct amps seen; /* what the charger had when a read left, */
    uint64_t seen_ms; /* and since when */
    unsigned token;   /* number of the token it carries */
};

/* A charger with its circuit's limit. */
struct device {
    struct amps limit;
    uint64_t limit_at_ms;
    struct amps coming; /* takes effect at coming_at_ms; NEVER */
    uint64_t coming_at_ms;
    uint16_t coming_ttl_min;
    uint64_t lapses_at_ms;  /* its time-to-live runs out; NEVER */
    bool swallows;          /* what is not new does not reach it */
    struct amps cloud;      /* what the cloud takes for its limit */
    uint64_t foreign_at_ms; /* somebody else, or a restart; NEVER */
};

/* A log of calls for one sliding window, kept independently of budget.c. */
enum { WINDOW_MAX = 512 };
struct window {
    uint64_t at_ms[WINDOW_MAX];
    unsigned next;
    uint64_t paused_until_ms;
};

struct place {
    struct circuit circuit;
    struct device device;
    struct call write, read;

    struct want want;
    uint64_t write_at_ms;  /* when the client writes next */
    uint64_t lookup_at_ms; /* when a circuit that was lost is found again; NEVER */
    unsigned chargers;
    unsigned burst; /* writes still to come at 10 Hz */
    unsigned id;
    uint64_t ids; /* wishes accepted so far */

    /* the test's own book */
    bool tripped, expired;
    struct amps ceiling; /* what was in force when that began */
    bool ceiling_known;
    struct amps held; /* left and was not surely lost */
    uint64_t held_at_ms;
    bool held_known, held_unsure;
    bool renewing;           /* what is out only renews the time-to-live */
    unsigned held_phases;    /* last number that was not 0 */
    uint64_t single_left_ms; /* a pause after one phase began; NEVER */
    uint64_t switched_ms[64];
    unsigned switches;
    struct window own;
    uint64_t wake_ms;     /* nothing to do before, unless something new is learned */
    struct amps reported; /* by the newest read, */
    uint64_t asked_ms;    /* which left then */
    uint64_t accepted_ms; /* the newest setpoint, by the cloud */
};

struct month {
    uint64_t now_ms, weather_until_ms;
    uint32_t seed;
    enum weather weather;
    bool quiet;
    struct budgets budgets;
    struct session session;
    unsigned token;
    struct {
        bool out;
        uint64_t done_at_ms;
        enum err err;
    } step;
    struct place place[CIRCUITS];
    struct window window[BUDGET_CLASSES];
    uint64_t quiet_since_ms;
    uint64_t sets, confirmations, trips, refusals; /* that the month was not idle */
    uint64_t renewals, nudges;
};

static struct month m;

#define CHECK(condition, ...)                                      \
    do {                                                           \
        if (!(condition)) {                                        \
            print_message("seed %u, day %.4f (%llu ms): ", m.seed, \
                          (double)m.now_ms / (double)DAYS,         \
                          (unsigned long long)m.now_ms);           \
            fail_msg(__VA_ARGS__);                                 \
        }                                                          \
    } while (0)

/* ---- books that are kept independently ---- */

static unsigned window_count(const struct window *w, uint64_t window_ms)
{
    unsigned n = 0;

    while (n < w->next && n < WINDOW_MAX &&
           m.now_ms - w->at_ms[(w->next - 1 - n) % WINDOW_MAX] < window_ms)
        n++;
    return n;
}

static void window_log(struct window *w)
{
    w->at_ms[w->next++ % WINDOW_MAX] = m.now_ms;
}

static void check_class(enum budget_class class, unsigned calls, unsigned reserve,
                        unsigned window_s, bool urgent)
{
    struct window *w = &m.window[class];
    unsigned n;

    window_log(w);
    n = window_count(w, window_s * SECONDS);
    CHECK(n <= calls, "%u calls of class %d in %u s", n, (int)class, window_s);
    CHECK(urgent || n <= calls - reserve, "class %d: the reserve is gone", (int)class);
    CHECK(m.now_ms >= w->paused_until_ms, "class %d: a Retry-After is not obeyed",
          (int)class);
}

static void check_budgets(enum budget_class class, bool urgent)
{
    switch (class) {
#define BUDGET(name, calls, reserve, window_s, meaning)       \
    case BUDGET_##name:                                       \
        check_class(class, calls, reserve, window_s, urgent); \
        break;
#include "evecc/budgets.def"
#undef BUDGET
    case BUDGET_CLASSES:
        break;
    }
    if (class != BUDGET_ALL)
        check_budgets(BUDGET_ALL, urgent);
}

static unsigned sum(struct amps a)
{
    return (unsigned)a.l[0] + a.l[1] + a.l[2];
}

/* A keeps every limit of the newest wish, whatever the phases (promise 3). */
static bool keeps(const struct want *w, struct amps a)
{
    for (unsigned i = 0; i < PHASES; i++)
        if (a.l[i] * 10u > w->current_da || a.l[i] * 10u > w->phase_da[i])
            return false;
    return (w->power_w == NA_U32 || sum(a) * (uint64_t)VOLTAGE <= w->power_w) &&
           (w->enable || sum(a) == 0);
}

/* A is one amp less than TARGET, for a moment, so that the charger notices. */
static bool is_nudge(const struct place *p, struct amps target, struct amps a)
{
    for (unsigned i = 0; i < PHASES; i++)
        if (a.l[i] != target.l[i] - (target.l[i] > 0))
            return false;
    return p->circuit.cfg.deadman_min != 0;
}

/* A is what the newest wish leads to, given what left before; not that of an older one.
 */
static bool is_newest(const struct place *p, const struct circuit_sent *before,
                      struct amps a)
{
    const struct want *w = &p->want;
    struct phase_wish wish = {
        .power_w = w->power_w,
        .current_da = w->current_da,
        .phase_da = {w->phase_da[0], w->phase_da[1], w->phase_da[2]},
        .mode = w->phase_mode,
        .enable = w->enable,
    };

    for (unsigned pause = PAUSE_SENT; pause <= PAUSE_UNSURE; pause++) {
        struct phase_choice choice;

        if ((pause == PAUSE_UNSURE) != before->unsure)
            continue;
        phase_choose(&p->circuit.cfg.phase, &before->phases, &wish,
                     (enum phase_pause)pause, m.now_ms, &choice);
        if (amps_equal(choice.target, a) ||
            (is_nudge(p, choice.target, a) &&
             (amps_equal(p->held, choice.target) || amps_equal(p->held, a))))
            return true;
    }
    return false;
}

static bool in_fallback(const struct place *p)
{
    return p->expired || (p->tripped && p->want.fallback_action != FALLBACK_HOLD);
}

/* N3: past the watchdog or the validity only the fallback leaves, and it never raises. */
static void check_fallback(const struct place *p, struct amps a)
{
    for (unsigned i = 0; i < PHASES; i++) {
        CHECK(p->want.fallback_action != FALLBACK_PAUSE || a.l[i] == 0,
              "circuit %u: sends %u A instead of pausing", p->id, a.l[i]);
        CHECK(p->want.fallback_action != FALLBACK_LIMIT ||
                  a.l[i] * 10u <= p->want.fallback_da,
              "circuit %u: %u A is above the fallback", p->id, a.l[i]);
        CHECK(!p->ceiling_known || a.l[i] <= p->ceiling.l[i],
              "circuit %u: the fallback raises to %u A", p->id, a.l[i]);
    }
    CHECK(p->ceiling_known || p->want.fallback_action != FALLBACK_HOLD,
          "circuit %u: nothing to hold, but %u A sent", p->id, a.l[0]);
}

static void check_phases(struct place *p, struct amps a)
{
    const struct phase_config *cfg = &p->circuit.cfg.phase;
    unsigned phases = phase_count(a), recent = 0;

    for (unsigned i = 0; i < PHASES; i++)
        CHECK(a.l[i] == 0 ||
                  (a.l[i] >= cfg->min_current_a && a.l[i] <= cfg->max_current_a),
              "circuit %u: %u A", p->id, a.l[i]);
    CHECK(phases != 3 || (a.l[0] == a.l[1] && a.l[1] == a.l[2]), "phases not equal");
    CHECK(phases <= cfg->phases_wired, "more phases than wired");
    if (phases == 0 || p->held_phases == 0 || phases == p->held_phases)
        return;
    for (unsigned i = 0; i < p->switches && i < 64; i++)
        if (m.now_ms - p->switched_ms[i] < DAYS)
            recent++;
    CHECK(recent < cfg->switches_per_day, "circuit %u: %u switches in 24 h", p->id,
          recent + 1);
    CHECK(p->switches == 0 ||
              m.now_ms - p->switched_ms[(p->switches - 1) % 64] >= cfg->dwell_ms,
          "circuit %u: dwell not kept", p->id);
    CHECK(phases != 3 || p->single_left_ms != NEVER,
          "circuit %u: three phases without a pause", p->id);
}

static void check_intervals(const struct place *p, struct amps a, bool urgent,
                            bool unsure)
{
    const struct circuit_config *cfg = &p->circuit.cfg;
    uint64_t gap = m.now_ms - p->held_at_ms;

    if (!p->held_known || urgent)
        return;
    CHECK(gap >= cfg->decrease_interval_ms, "circuit %u: %llu ms after the last", p->id,
          (unsigned long long)gap);
    if (!p->held_unsure && !unsure && !amps_lower(p->held, a))
        CHECK(gap >= cfg->increase_interval_ms, "circuit %u: raised after %llu ms", p->id,
              (unsigned long long)gap);
}

/* The setpoint that left was neither refused nor surely lost. */
static void book_held(struct place *p, struct amps a, uint64_t sent_at_ms)
{
    unsigned phases = phase_count(a);

    if (phases == 0 && p->held_known && phase_count(p->held) == 1)
        p->single_left_ms = sent_at_ms;
    if (phases != 0) {
        if (p->held_phases != 0 && phases != p->held_phases)
            p->switched_ms[p->switches++ % 64] = sent_at_ms;
        p->held_phases = phases;
        p->single_left_ms = NEVER;
    }
    /* A renewal of the time-to-live changes nothing for the car. */
    if (p->renewing)
        return;
    p->held_at_ms = sent_at_ms;
    p->held = a;
    p->held_known = true;
    p->held_unsure = true; /* until confirmed */
}

static void check_wishes(struct place *p)
{
    static struct status s;
    const struct wish_counts *w = &s.wishes;

    circuit_status(&p->circuit, &m.budgets, m.now_ms, &s);
    CHECK(w->accepted == p->ids, "circuit %u: %llu wishes of %llu", p->id,
          (unsigned long long)w->accepted, (unsigned long long)p->ids);
    CHECK(w->accepted == w->confirmed + w->merged + w->expired + w->rejected + w->pending,
          "circuit %u: %llu accepted, but %llu confirmed %llu merged %llu expired %llu "
          "rejected %llu pending",
          p->id, (unsigned long long)w->accepted, (unsigned long long)w->confirmed,
          (unsigned long long)w->merged, (unsigned long long)w->expired,
          (unsigned long long)w->rejected, (unsigned long long)w->pending);
    CHECK(w->pending <= 1, "circuit %u: more than one wish pending", p->id);
    if (circuit_events(&p->circuit) & CIRCUIT_CONFIRMED) {
        m.confirmations++;
        p->held_unsure = false;
        CHECK(p->asked_ms >= p->accepted_ms ||
                  p->device.limit_at_ms >= s.progress.sent_at_ms,
              "circuit %u: confirmed by what was true before", p->id);
        CHECK(s.progress.confirmed_known && amps_equal(s.progress.confirmed, p->reported),
              "circuit %u: confirmed what nobody reported", p->id);
    }
}

/* ---- the client ---- */

static void random_limits(struct want *w)
{
    static const uint8_t modes[] = {PHASE_MODE_AUTO, PHASE_MODE_AUTO, PHASE_MODE_SINGLE,
                                    PHASE_MODE_THREE};

    w->power_w = below(5) == 0 ? NA_U32 : below(12000);
    w->current_da = below(4) == 0 ? (uint16_t)below(330) : NA_U16;
    for (unsigned i = 0; i < PHASES; i++)
        w->phase_da[i] = NA_U16;
    if (below(8) == 0)
        for (unsigned i = 0; i < PHASES; i++)
            w->phase_da[i] = (uint16_t)below(330);
    w->phase_mode = modes[below(4)];
    w->enable = below(12) != 0;
    w->urgent = below(10) == 0;
}

static void random_watch(struct want *w)
{
    w->validity_s = below(4) == 0 ? (uint16_t)between(30, 3600) : 0;
    w->watchdog_s = below(2) == 0 ? (uint16_t)between(10, 600) : 0;
    w->fallback_action = (uint8_t)below(3);
    w->fallback_da = (uint16_t)between(0, 200);
    w->fallback_phases = (uint8_t)(below(2) == 0 ? 0 : below(2) == 0 ? 1 : 3);
}

static void client_writes(struct place *p)
{
    struct want *w = &p->want;

    w->fed_at_ms = m.now_ms;
    if (below(8) == 0 && w->id != 0) { /* only a heartbeat, or an action */
        if (below(20) == 0) {
            w->resends++;
            p->held_unsure = true;
        }
        if (below(20) == 0)
            w->refreshes++;
        if (below(20) == 0) {
            w->clears++;
            p->tripped = false;
        }
    } else {
        uint64_t skipped = below(10) == 0 ? below(5) : 0; /* merged before we looked */

        if (below(3) != 0)
            random_limits(w);
        if (below(20) == 0)
            random_watch(w);
        w->id += 1 + skipped;
        w->seq = (uint16_t)w->id;
        w->accepted_at_ms = m.now_ms;
        p->ids = w->id;
        p->tripped = p->expired = false;
    }
    circuit_want(&p->circuit, w, m.now_ms);
    p->wake_ms = 0;
}

static void plan_write(struct place *p)
{
    if (m.quiet) {
        p->write_at_ms = NEVER;
        return;
    }
    if (p->burst > 0) {
        p->burst--;
        p->write_at_ms = m.now_ms + 100;
        return;
    }
    switch (below(20)) {
    case 0:
        p->burst = below(100);
        p->write_at_ms = m.now_ms + 100;
        break;
    case 1:
        p->write_at_ms = m.now_ms + between(10 * MINUTES, 4 * HOURS);
        break;
    default:
        p->write_at_ms = m.now_ms + between(1 * SECONDS, 10 * MINUTES);
    }
}

/* What the watchdog and the validity should have done by now. */
static void watch(struct place *p)
{
    const struct want *w = &p->want;
    bool trips = !p->tripped && w->watchdog_s != 0 &&
                 m.now_ms >= w->fed_at_ms + w->watchdog_s * SECONDS;
    bool expires = !p->expired && w->validity_s != 0 &&
                   m.now_ms >= w->accepted_at_ms + w->validity_s * SECONDS;

    if (w->id == 0 || (!trips && !expires))
        return;
    if (!in_fallback(p)) {
        p->ceiling = p->circuit.sent.amps;
        p->ceiling_known = p->circuit.sent.known;
    }
    p->tripped = p->tripped || trips;
    p->expired = p->expired || expires;
    m.trips += trips;
}

/* ---- the cloud ---- */

struct answer {
    enum err err;
    uint16_t http_status;
};

static struct answer random_failure(void)
{
    static const struct answer answers[] = {
        {ERR_BAD_REQUEST,  400},
        {ERR_UNAUTHORISED, 401},
        {ERR_FORBIDDEN,    403},
        {ERR_NOT_FOUND,    404},
        {ERR_THROTTLED,    429},
        {ERR_SERVER,       500},
        {ERR_SERVER,       502},
        {ERR_SERVER,       503},
        {ERR_UNREACHABLE,  504},
        {ERR_TIMEOUT,      0  },
        {ERR_BROKEN,       0  },
        {ERR_CONNECT,      0  },
        {ERR_RESOLVE,      0  },
        {ERR_TLS_EXPIRED,  0  },
        {ERR_PARSE,        200},
        {ERR_TOO_LARGE,    200},
        {ERR_REDIRECTED,   302},
    };

    if (below(400) == 0)
        return (struct answer){ERR_BLOCKED, 403};
    return answers[below(sizeof answers / sizeof answers[0])];
}

static struct answer answer_now(void)
{
    static const struct answer ok = {ERR_OK, 200};

    switch (m.weather) {
    case FLAKY:
        return below(3) == 0 ? random_failure() : ok;
    case ONLY_400:
        return (struct answer){ERR_BAD_REQUEST, 400};
    case ONLY_401:
        return (struct answer){ERR_UNAUTHORISED, 401};
    case ONLY_403:
        return (struct answer){ERR_FORBIDDEN, 403};
    case ONLY_429:
        return (struct answer){ERR_THROTTLED, 429};
    case ONLY_5XX:
        return (struct answer){ERR_SERVER, (uint16_t)(500 + below(4))};
    case ONLY_TIMEOUTS:
        return (struct answer){ERR_TIMEOUT, 0};
    default:
        return below(2) == 0 ? ok : (struct answer){ERR_OK, 202};
    }
}

/* The call may have reached the cloud, or has. */
static bool may_have_arrived(enum err err)
{
    return err == ERR_OK || err == ERR_SERVER || err == ERR_UNREACHABLE ||
           err == ERR_TIMEOUT || err == ERR_BROKEN || err == ERR_PARSE ||
           err == ERR_TOO_LARGE || err == ERR_REDIRECTED || err == ERR_SYSTEM;
}

static void start_call(struct place *p, struct call *call, const struct request *r)
{
    struct answer a = answer_now();
    bool slow = a.err == ERR_TIMEOUT || below(50) == 0;

    call->out = true;
    call->left_ms = m.now_ms;
    call->request = *r;
    call->seen = p->device.limit;
    call->seen_ms = p->device.limit_at_ms;
    call->token = m.token;
    call->done_at_ms = m.now_ms + (slow ? between(5000, 20000) : between(30, 900));
    call->outcome = (struct outcome){
        .kind = r->kind, .err = a.err, .http_status = a.http_status, .retry_after_s = -1};
    if (a.err == ERR_THROTTLED && below(3) != 0)
        call->outcome.retry_after_s = (int64_t)below(600);
    call->applies = a.err == ERR_OK ? m.weather != ONLY_LOST && below(30) != 0
                                    : may_have_arrived(a.err) && below(2) == 0;
}

/* What is in force ends as the charger's maximum, the worst of what is believed.  In good
 * weather that happens only to a charger that did not heed the last setpoint either. */
static void lapse(struct place *p)
{
    struct device *d = &p->device;

    CHECK(!m.quiet || p->circuit.not_confirmed ||
              m.now_ms < m.quiet_since_ms + 3 * HOURS ||
              m.now_ms < m.session.blocked_until_ms + 3 * HOURS,
          "circuit %u: a time-to-live of %u/%u/%u was not renewed", p->id, d->limit.l[0],
          d->limit.l[1], d->limit.l[2]);
    d->lapses_at_ms = NEVER;
    d->limit = d->cloud = (struct amps){
        {32, 32, 32}
    };
    d->limit_at_ms = m.now_ms;
    p->held_unsure = true;
}

static void device_run(struct place *p)
{
    struct device *d = &p->device;

    if (m.now_ms >= d->coming_at_ms) {
        if (!amps_equal(d->limit, d->coming))
            d->limit_at_ms = m.now_ms;
        d->limit = d->cloud = d->coming;
        d->coming_at_ms = NEVER;
        d->lapses_at_ms =
            d->coming_ttl_min != 0 ? m.now_ms + d->coming_ttl_min * MINUTES : NEVER;
    }
    if (m.now_ms >= d->lapses_at_ms)
        lapse(p);
    if (m.now_ms >= d->foreign_at_ms) {
        p->held_unsure = true;
        d->limit_at_ms = m.now_ms;
        d->limit = (struct amps){
            {40, 40, 40}
        }; /* as after a restart */
        if (below(2) == 0)
            for (unsigned i = 0; i < 2; i++)
                d->limit.l[i] = (uint8_t)below(33);
        d->cloud = d->limit;
        d->foreign_at_ms = m.quiet ? NEVER : m.now_ms + between(1 * HOURS, 40 * HOURS);
    }
}

static void observe(struct place *p, unsigned charger, uint16_t id, double number,
                    uint64_t at_ms)
{
    struct observation o = {.at_unix_ms = UNIX0 + (int64_t)at_ms,
                            .number = number,
                            .id = id,
                            .is_number = true};

    circuit_observe(&p->circuit, charger, &o, UNIX0 + (int64_t)m.now_ms, m.now_ms);
}

static void pass_throttle(enum budget_class class, int64_t retry_after_s)
{
    uint64_t s = retry_after_s < 0 ? 90 : (uint64_t)retry_after_s;
    struct window *w = &m.window[class];

    s = s < 30 ? 30 : s;
    if (w->paused_until_ms < m.now_ms + s * SECONDS)
        w->paused_until_ms = m.now_ms + s * SECONDS;
}

static enum budget_class class_of(enum request_kind kind)
{
    return kind == REQUEST_SET        ? BUDGET_WRITE
           : kind == REQUEST_READBACK ? BUDGET_READBACK
                                      : BUDGET_OBSERVE;
}

static void tell_session(const struct call *call)
{
    if (call->outcome.err == ERR_UNAUTHORISED && call->token == m.token)
        session_rejected(&m.session, m.now_ms);
    else if (call->outcome.err == ERR_BLOCKED)
        session_blocked(&m.session, m.now_ms);
    else if (call->outcome.http_status != 0 && call->outcome.err != ERR_UNAUTHORISED)
        session_accepted(&m.session);
}

static void end_call(struct place *p, struct call *call)
{
    struct outcome *o = &call->outcome;

    call->out = false;
    tell_session(call);
    if (o->err == ERR_THROTTLED)
        pass_throttle(class_of(o->kind), o->retry_after_s);
    if (o->kind == REQUEST_SET) {
        if (may_have_arrived(o->err))
            book_held(p, call->request.amps, call->left_ms);
        m.refusals += o->err == ERR_BAD_REQUEST;
        if (o->err == ERR_OK)
            p->accepted_ms = m.now_ms;
        if (call->applies &&
            (!p->device.swallows || !amps_equal(p->device.cloud, call->request.amps))) {
            p->device.coming = p->device.cloud = call->request.amps;
            p->device.coming_ttl_min = call->request.ttl_min;
            p->device.coming_at_ms = m.now_ms + between(100, 2500);
            o->ticks = (int64_t)m.now_ms;
        }
    }
    if (o->kind == REQUEST_READBACK && o->err == ERR_OK) {
        p->reported = call->seen;
        p->asked_ms = call->left_ms;
        for (unsigned i = 0; i < PHASES; i++)
            o->reported_da[i] = (uint16_t)(call->seen.l[i] * 10);
        if (below(10) == 0)
            o->reported_da[below(PHASES)] = below(2) == 0 ? NA_U16 : 10000;
    }
    if (o->kind == REQUEST_OBSERVE && o->err == ERR_OK) {
        unsigned charger = call->request.charger;

        p->reported = call->seen;
        p->asked_ms = call->left_ms;
        observe(p, charger, 21, 1, 1);
        observe(p, charger, 109, sum(call->seen) == 0 ? 2 : 3, call->seen_ms);
        for (uint16_t i = 0; i < PHASES; i++)
            observe(p, charger, (uint16_t)(111 + i), call->seen.l[i], call->seen_ms);
    }
    circuit_done(&p->circuit, &m.budgets, o, m.now_ms);
    if (!p->circuit.found && p->lookup_at_ms == NEVER)
        p->lookup_at_ms = m.now_ms + 15 * MINUTES;
    p->wake_ms = 0;
}

static void end_step(void)
{
    m.step.out = false;
    if (m.step.err != ERR_OK) {
        session_failed(&m.session, m.step.err, -1, m.now_ms);
        return;
    }
    m.token++;
    session_granted(&m.session, (int64_t)between(600, 7200), m.now_ms);
}

static void start_step(void)
{
    struct answer a = answer_now();

    if (m.weather == FLAKY && below(50) == 0)
        a.err = ERR_CREDENTIALS;
    m.step.out = true;
    m.step.err = m.weather == ONLY_400 || m.weather == ONLY_403 ? ERR_OK : a.err;
    m.step.done_at_ms = m.now_ms + between(50, 5000);
}

static void change_weather(void)
{
    m.weather = m.quiet || below(2) == 0 ? GOOD : (enum weather)below(WEATHERS);
    m.weather_until_ms = m.now_ms + (m.weather == GOOD ? between(1 * HOURS, 8 * HOURS)
                                                       : between(1 * MINUTES, 2 * HOURS));
}

/* ---- one step ---- */

static void check_set(struct place *p, const struct circuit_sent *before,
                      const struct request *r, unsigned press)
{
    bool lower = !p->held_known || p->held_unsure || amps_lower(p->held, r->amps);
    bool urgent = (lower || before->unsure) && (p->want.urgent || in_fallback(p));
    bool renewal;

    m.sets++;
    CHECK(p->want.id != 0, "circuit %u: sent without a wish", p->id);
    CHECK(!p->write.out, "circuit %u: two writes out", p->id);
    CHECK(keeps(&p->want, r->amps), "circuit %u: %u/%u/%u is above the newest wish",
          p->id, r->amps.l[0], r->amps.l[1], r->amps.l[2]);
    if (in_fallback(p))
        check_fallback(p, r->amps);
    else
        CHECK(is_newest(p, before, r->amps),
              "circuit %u: %u/%u/%u is not what the newest wish leads to", p->id,
              r->amps.l[0], r->amps.l[1], r->amps.l[2]);
    CHECK(r->ttl_min == p->circuit.cfg.deadman_min ||
              (r->ttl_min == 0 && r->amps.l[0] <= p->circuit.cfg.phase.min_current_a),
          "time-to-live %u", r->ttl_min);
    renewal = before->known && !before->unsure && amps_equal(before->amps, r->amps);
    m.renewals += renewal;
    p->renewing = renewal;
    if (p->held_known && !p->held_unsure && !before->unsure)
        CHECK((press >= 2) == lower, "circuit %u: press %u, decrease %d", p->id, press,
              lower);
    check_phases(p, r->amps);
    if (!renewal)
        check_intervals(p, r->amps, urgent, before->unsure);
    check_budgets(BUDGET_WRITE, urgent);
    window_log(&p->own);
    CHECK(window_count(&p->own, 600 * SECONDS) <= 40, "circuit %u: its own budget",
          p->id);
}

/* Starts what circuit P has to do; PRESS is how pressing it is. */
static bool start(struct place *p, unsigned press)
{
    struct circuit_sent before = p->circuit.sent;
    struct request r;

    if (!circuit_next(&p->circuit, &m.budgets, m.now_ms, &r)) {
        CHECK(press == 0, "circuit %u: press %u, but nothing to do", p->id, press);
        return false;
    }
    CHECK(m.now_ms >= p->wake_ms, "circuit %u: it would have slept until %llu", p->id,
          (unsigned long long)p->wake_ms);
    CHECK((press > 0) == (r.kind == REQUEST_SET), "circuit %u: press %u, request %d",
          p->id, press, (int)r.kind);
    if (r.kind == REQUEST_SET) {
        check_set(p, &before, &r, press);
        start_call(p, &p->write, &r);
        return true;
    }
    CHECK(!p->read.out, "circuit %u: two reads out", p->id);
    check_budgets(class_of(r.kind), false);
    start_call(p, &p->read, &r);
    return true;
}

/* As the daemon does: the most pressing circuit first. */
static bool start_one(void)
{
    unsigned press[CIRCUITS], first;

    for (unsigned i = 0; i < CIRCUITS; i++)
        press[i] = circuit_press(&m.place[i].circuit, &m.budgets, m.now_ms);
    first = press[1] > press[0] ? 1 : 0;
    return start(&m.place[first], press[first]) ||
           start(&m.place[1 - first], press[1 - first]);
}

static void happen(struct place *p)
{
    device_run(p);
    if (p->write.out && m.now_ms >= p->write.done_at_ms)
        end_call(p, &p->write);
    if (p->read.out && m.now_ms >= p->read.done_at_ms)
        end_call(p, &p->read);
    watch(p);
    if (m.now_ms >= p->lookup_at_ms) {
        p->lookup_at_ms = NEVER;
        circuit_found(&p->circuit, p->chargers, p->chargers == 1, m.now_ms);
        p->wake_ms = 0;
    }
    if (m.now_ms >= p->write_at_ms) {
        client_writes(p);
        plan_write(p);
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_of(struct place *p, bool usable)
{
    uint64_t at = least(least(p->write_at_ms, p->device.lapses_at_ms),
                        least(p->device.coming_at_ms, p->device.foreign_at_ms));

    at = least(at, p->lookup_at_ms);
    p->wake_ms = circuit_wake(&p->circuit, &m.budgets, m.now_ms);
    CHECK(!usable || p->wake_ms > m.now_ms, "circuit %u: wakes without anything to do",
          p->id);
    if (p->wake_ms <= m.now_ms)
        p->wake_ms = m.now_ms + 1 * MINUTES;
    at = least(at, p->wake_ms);
    if (!usable)
        p->wake_ms = 0;
    if (p->write.out)
        at = least(at, p->write.done_at_ms);
    if (p->read.out)
        at = least(at, p->read.done_at_ms);
    return at;
}

static void step(uint64_t until_ms)
{
    bool usable = session_usable(&m.session, m.now_ms);
    uint64_t at = least(until_ms, m.weather_until_ms);

    if (usable)
        while (start_one())
            ;
    for (unsigned i = 0; i < CIRCUITS; i++) {
        at = least(at, next_of(&m.place[i], usable));
        check_wishes(&m.place[i]);
    }
    if (!m.step.out && session_next(&m.session, m.now_ms) != SESSION_NOTHING)
        start_step();
    at = least(at, m.step.out ? m.step.done_at_ms : session_wake(&m.session, m.now_ms));

    m.now_ms = at;
    if (m.now_ms >= m.weather_until_ms)
        change_weather();
    if (m.step.out && m.now_ms >= m.step.done_at_ms)
        end_step();
    for (unsigned i = 0; i < CIRCUITS; i++)
        happen(&m.place[i]);
}

static void run(uint64_t until_ms)
{
    static unsigned steps;

    for (steps = 0; m.now_ms < until_ms; steps++) {
        CHECK(steps < STEPS_MAX, "time stands still");
        step(until_ms);
    }
}

/* ---- a month ---- */

static void set_up(uint32_t seed)
{
    memset(&m, 0, sizeof m);
    chance = seed * 0x9e3779b97f4a7c15u + 1;
    m.seed = seed;
    m.now_ms = between(0, 1 * DAYS);
    m.weather_until_ms = m.now_ms;
    budgets_init(&m.budgets);
    session_init(&m.session, seed);
    for (unsigned i = 0; i < CIRCUITS; i++) {
        struct place *p = &m.place[i];
        unsigned wired = i == 0 || below(3) != 0 ? 3 : 1;
        unsigned switches = (unsigned)between(1, 48);
        unsigned deadman = below(3) == 0 ? 10 : 0;
        unsigned chargers = i == 0 ? 1 : (unsigned)between(1, 3);
        struct circuit_config cfg = {
            .phase = {.dwell_ms = 600 * SECONDS,
                      .pause_ms = 60 * SECONDS,
                      .single_phase_max_w = 3680,
                      .voltage_v = VOLTAGE,
                      .max_current_a = i == 0 ? 16 : 32,
                      .min_current_a = 6,
                      .phases_wired = (uint8_t)wired,
                      .switches_per_day = (uint8_t)switches},
            .increase_interval_ms = 30 * SECONDS,
            .decrease_interval_ms = 15 * SECONDS,
            .deadman_min = (uint16_t)deadman,
        };

        p->id = i;
        p->device = (struct device){.limit = {{40, 40, 40}},
                                    .coming_at_ms = NEVER,
                                    .lapses_at_ms = NEVER,
                                    .swallows = below(2) == 0,
                                    .foreign_at_ms = m.now_ms + between(0, 2 * DAYS)};
        p->single_left_ms = NEVER;
        p->lookup_at_ms = NEVER;
        p->chargers = chargers;
        p->write_at_ms = m.now_ms + between(0, 2 * HOURS);
        random_limits(&p->want);
        circuit_init(&p->circuit, &cfg, seed + i);
        circuit_found(&p->circuit, chargers, chargers == 1, m.now_ms);
    }
}

/* One last wish, good weather, nobody interferes. */
static void calm_down(void)
{
    m.quiet = true;
    m.quiet_since_ms = m.now_ms;
    m.weather_until_ms = m.now_ms;
    for (unsigned i = 0; i < CIRCUITS; i++) {
        struct place *p = &m.place[i];

        p->device.foreign_at_ms = NEVER;
        p->write_at_ms = NEVER;
        p->want.validity_s = p->want.watchdog_s = 0;
        random_limits(&p->want);
        p->want.id++;
        p->want.accepted_at_ms = p->want.fed_at_ms = m.now_ms;
        p->ids = p->want.id;
        p->tripped = p->expired = false;
        circuit_want(&p->circuit, &p->want, m.now_ms);
        p->wake_ms = 0;
    }
}

static void stir_up(void)
{
    m.quiet = false;
    m.weather_until_ms = m.now_ms;
    for (unsigned i = 0; i < CIRCUITS; i++) {
        m.place[i].device.foreign_at_ms = m.now_ms + between(0, 2 * DAYS);
        plan_write(&m.place[i]);
    }
}

static bool is_or_nudge(const struct place *p, struct amps target, struct amps a)
{
    return amps_equal(a, target) || is_nudge(p, target, a);
}

/* N2: the newest wish has arrived, unless it was refused, or waits for its phases. */
static void check_settled(struct place *p, bool dwell_over)
{
    static struct status s;
    bool dwell;

    circuit_status(&p->circuit, &m.budgets, m.now_ms, &s);
    dwell = !dwell_over && p->circuit.choice.binding == BINDING_PHASE_DWELL;
    if (s.progress.stage == STAGE_REFUSED)
        return;
    CHECK(s.wishes.pending == (dwell ? 1 : 0), "circuit %u: stage %u, %u pending", p->id,
          s.progress.stage, (unsigned)s.wishes.pending);
    CHECK(is_or_nudge(p, s.progress.target, p->device.limit) &&
              is_or_nudge(p, s.progress.target, s.progress.sent) &&
              is_or_nudge(p, s.progress.target, s.progress.confirmed),
          "circuit %u: target %u/%u/%u sent %u/%u/%u confirmed %u/%u/%u charger %u/%u/%u",
          p->id, s.progress.target.l[0], s.progress.target.l[1], s.progress.target.l[2],
          s.progress.sent.l[0], s.progress.sent.l[1], s.progress.sent.l[2],
          s.progress.confirmed.l[0], s.progress.confirmed.l[1], s.progress.confirmed.l[2],
          p->device.limit.l[0], p->device.limit.l[1], p->device.limit.l[2]);
}

static void month(uint32_t seed)
{
    uint64_t start_ms;

    set_up(seed);
    start_ms = m.now_ms;
    for (unsigned day = 1; day <= 31; day++) {
        stir_up();
        run(start_ms + day * DAYS - 5 * HOURS);
        calm_down();
        run(start_ms + day * DAYS);
        /* A block may last a day: then there was no time to settle. */
        if (m.session.blocked_until_ms + 3 * HOURS < m.now_ms)
            for (unsigned i = 0; i < CIRCUITS; i++)
                check_settled(&m.place[i], false);
    }
    run(m.now_ms + 2 * DAYS);
    for (unsigned i = 0; i < CIRCUITS; i++)
        check_settled(&m.place[i], true);
    CHECK(m.sets > 1000 && m.confirmations > 500 && m.trips > 20 && m.refusals > 10,
          "an idle month: %llu setpoints, %llu confirmed, %llu trips, %llu refused",
          (unsigned long long)m.sets, (unsigned long long)m.confirmations,
          (unsigned long long)m.trips, (unsigned long long)m.refusals);
}

static void months(void **state)
{
    const char *text = getenv("EVECC_TEST_SEED");

    (void)state;
    if (text != NULL) {
        month((uint32_t)strtoul(text, NULL, 0));
        return;
    }
    for (uint32_t seed = 1; seed <= SEEDS; seed++)
        month(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(months)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
