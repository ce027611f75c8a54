/* SPDX-License-Identifier: MIT
 * circuit.h - decides what to tell the cloud about one circuit next, and when.
 *
 * Pure: no I/O, no clock, no allocation.  Feed it facts, ask it for a request, report how
 * the request ended.  NOW_MS is monotonic milliseconds and never goes back.
 *
 * Setpoints go out on the writing lane; the verdict comes from a read-back 1 s after the
 * cloud accepted, then less often, or from the charger's own report.  Without one for 20
 * s the same setpoint is sent once more, then the fault is shown and a slow retry kept.
 *
 * Invariants
 *   - without a wish nothing is sent; only the newest is sent, older ones are merged;
 *   - at most one request of each lane is out: one that writes, one that reads;
 *   - a first change leaves at once; then a decrease keeps decrease_interval_ms and an
 *     increase increase_interval_ms since the last; urgent decreases and the watchdog's
 *     fallback wait for neither and may use the budget's reserve; unchanged values are
 *     not sent;
 *   - budgets are never exceeded;
 *   - 2xx means accepted; only a read-back that was asked for since, or a report of the
 *     charger, means confirmed (N5);
 *   - every accepted wish ends in exactly one of confirmed, merged, expired, rejected,
 *     or is pending;
 *   - a time-to-live in the cloud (deadman_min) is renewed before it runs out, or not
 *     given at all (circuit_renew.c). */
#ifndef EVECC_CIRCUIT_H
#define EVECC_CIRCUIT_H

#include "evecc/budget.h"
#include "evecc/charger.h"
#include "evecc/err.h"
#include "evecc/phase.h"
#include "evecc/telemetry.h"

enum { CHARGERS_MAX = 8 }; /* on one circuit */

struct circuit_config {
    struct phase_config phase; /* may_switch is set by the circuit from facts */
    uint64_t increase_interval_ms;
    uint64_t decrease_interval_ms;
    uint16_t deadman_min; /* time-to-live of each setpoint in the cloud; 0: none */
    bool start_boost;     /* start a paused charger at 7 A when 6 A is asked */
};

enum request_kind {
    REQUEST_SET,      /* POST the three currents, with ttl_min when that is not 0 */
    REQUEST_READBACK, /* GET the circuit's settings */
    REQUEST_OBSERVE   /* GET the observations of chargers[charger] */
};

struct request {
    enum request_kind kind;
    struct amps amps;
    uint16_t ttl_min;
    uint8_t charger; /* index as given to circuit_found() */
};

/* How a request ended. */
struct outcome {
    enum request_kind kind;
    enum err err; /* ERR_OK: answered 200 or 202 and understood */
    uint16_t http_status;
    int64_t retry_after_s; /* negative: none */
    int64_t ticks;         /* REQUEST_SET: of the command it became; 0: not told */
    /* REQUEST_READBACK: dynamic currents, NA_U16 for null */
    uint16_t reported_da[PHASES];
};

/* A CommandResponse of the stream (easee-api 7.2): what a charger made of a command. */
struct verdict {
    int64_t ticks;   /* 0: none */
    int32_t command; /* easee-api 5.4 */
    uint8_t charger; /* index as given to circuit_found() */
    bool accepted;
};

/* Something worth a line in the log; the core itself does not log. */
enum circuit_event {
    CIRCUIT_NO_EVENT = 0,
    CIRCUIT_CONFIRMED = 1u << 0,
    CIRCUIT_REFUSED = 1u << 1,
    CIRCUIT_TIMED_OUT = 1u << 2,
    CIRCUIT_WATCHDOG = 1u << 3,
    CIRCUIT_EXPIRED = 1u << 4,
    CIRCUIT_OVERRIDDEN = 1u << 5,
    CIRCUIT_RECOVERED = 1u << 6,
    CIRCUIT_FOREIGN_COMMAND = 1u << 7,
    CIRCUIT_SWALLOWED = 1u << 8 /* renewing the time-to-live did not reach the charger */
};

/* The setpoint in force as far as we know.  UNSURE: the charger may still have BEFORE,
 * because a call ended without a verdict, or has something else, because somebody
 * interfered; the setpoint must be sent again. */
struct circuit_sent {
    struct phase_memory phases;
    struct amps amps, before;
    bool known, unsure;
    bool awaiting; /* accepted by the cloud, not confirmed by the charger yet */
    uint8_t readbacks;
    int8_t early; /* verdict that came before the cloud's answer: 0 none, 1 yes, -1 no */
    int64_t early_ticks;
    bool answered; /* by the charger, with a verdict */
    bool
        whole; /* it is all that the wish asks for, not a step on the way or a fallback */
    uint16_t seq;
    int64_t ticks;           /* of the command it became; 0: not told */
    uint64_t wish;           /* want.id it stands for, */
    uint64_t wished_at_ms;   /* and when that was accepted */
    uint64_t at_ms;          /* when it left; NEVER */
    uint64_t accepted_at_ms; /* when the cloud accepted it */
    uint64_t readback_at_ms; /* the next read-back; NEVER */
    uint16_t ttl_min;        /* time-to-live it was given; 0: none, it stays */
    bool renewing;           /* repeated to renew that; no sign of its arrival yet */
    uint64_t lives_from_ms;  /* the time-to-live runs since then, if not longer */
    uint64_t renewed_at_ms;  /* last attempt to renew it; 0: none */
};

/* Whether a value that the charger has already reaches it once more (easee-api 4.2). */
enum renewals { RENEWALS_UNKNOWN, RENEWALS_HEARD, RENEWALS_SWALLOWED };

struct circuit_counts {
    uint32_t trips, reasserts, foreign_commands;
};

/* Held by value, looked into by circuit.c and its tests only. */
struct circuit {
    struct circuit_config cfg;
    struct want want;
    struct wish_counts wishes;
    uint64_t ended_wish; /* want.id of the newest wish that is no longer pending */

    /* where it is */
    struct charger charger[CHARGERS_MAX];
    uint8_t chargers;
    bool found, alone;
    enum err lost;               /* why it was not found, or is gone */
    uint64_t grid_wait_until_ms; /* the first setpoint waits for the grid type until */

    /* what follows from the wish */
    struct phase_choice choice;
    bool tripped, expired; /* the watchdog, the validity: the fallback is in force */
    struct amps ceiling;   /* what was allowed when the fallback began: it never raises */
    uint64_t tripped_at_ms, trip_due_ms;
    uint32_t clears, resends, refreshes; /* of struct want, as seen last */

    struct circuit_sent sent, undo; /* what left last; what was so before it */
    struct amps confirmed;
    bool confirmed_known;
    uint64_t confirmed_at_ms;
    uint16_t confirmed_seq, round_trip_ms;

    /* lanes: one request that writes, one that reads */
    bool writing, reading;
    uint8_t reading_charger;
    uint64_t reading_since_ms;

    /* time-to-live */
    enum renewals renewals;
    struct amps nudge; /* the target that is sent one amp lower first, since repeating it
                          does not help; 0: none */

    /* verdict */
    bool not_confirmed;
    uint8_t repeats;        /* of a setpoint that was not confirmed */
    uint64_t slow_until_ms; /* `slow`, which nobody heeded, is not sent again before */
    struct amps slow;

    /* errors */
    enum err result;
    uint16_t http_status, failures;
    uint64_t retry_at_ms;
    struct amps refused; /* the cloud will not have it before refused_until_ms, */
    uint64_t refused_until_ms, refused_wish; /* nor ever again for this wish if */
    bool refused_for_good;
    uint8_t refusals;      /* in a row; of one that must arrive (circuit_insists()) */
    uint64_t insist_at_ms; /* the next attempt */
    uint32_t random;
    struct budget
        own; /* 40 setpoints in 600 s: 4 a minute in the long run (easee-api 8.5) */

    /* somebody else */
    bool foreign;
    uint8_t reasserted;
    uint64_t reasserted_from_ms;
    bool reported;           /* by the charger: its limit, not looked at yet */
    uint64_t mismatch_at_ms; /* since when the charger reports another value; NEVER */

    bool live; /* the stream tells, polling would only repeat it */
    uint64_t observe_at_ms[CHARGERS_MAX]; /* not before */
    uint64_t
        heard_at_ms[CHARGERS_MAX]; /* last observation of any kind, or the subscription */
    bool told[CHARGERS_MAX]; /* by the stream that is up: its subscription is good */
    bool observed;           /* the first charger answered, or failed to, at least once */

    struct circuit_counts counts;
    uint32_t events; /* bits of enum circuit_event, taken by circuit_events() */
};

/* SEED varies the jitter of back-offs between circuits. */
void circuit_init(struct circuit *c, const struct circuit_config *cfg, uint32_t seed);

/* Before a restart the newest wish was W and what left last SENT, of which phases, amps,
 * known and at_ms count; the meter had counted to ENERGY_WH (NA_U64: not known).  The
 * wish is pending again, with its age, and what was sent is sent once more. */
void circuit_restore(struct circuit *c, const struct want *w,
                     const struct circuit_sent *sent, uint64_t energy_wh,
                     uint64_t now_ms);

/* The newest wish.  An id that is not higher than the last one only updates the watchdog,
 * its settings and the actions. */
void circuit_want(struct circuit *c, const struct want *w, uint64_t now_ms);

/* Discovery found the circuit with CHARGERS chargers (1 to CHARGERS_MAX; more are not
 * observed); ALONE: it is exactly one.  Found again, it has other chargers. */
void circuit_found(struct circuit *c, unsigned chargers, bool alone, uint64_t now_ms);

/* Discovery failed for good until it is tried again: ERR_SITE_UNKNOWN,
 * ERR_CIRCUIT_UNKNOWN... */
void circuit_lost(struct circuit *c, enum err err);

/* What was found is not what was driven before: nothing is known of what is in force
 * there, and a refusal says nothing. */
void circuit_moved(struct circuit *c);

/* One observation of charger number CHARGER; as charger_observe(). */
void circuit_observe(struct circuit *c, unsigned charger, const struct observation *o,
                     int64_t cloud_unix_ms, uint64_t now_ms);

/* A command response for a charger of this circuit, matched by ticks, else by charger and
 * command; one that matches nothing of ours is somebody else's, and counted. */
void circuit_verdict(struct circuit *c, const struct verdict *v, uint64_t now_ms);

/* The stream is up with all chargers subscribed (LIVE), or away.  While it is up a
 * charger is read by REST only when it was silent for 20 minutes, or for a minute if the
 * stream has told nothing of it yet; circuit_next() then returns that read, and the
 * caller also subscribes again. */
void circuit_stream(struct circuit *c, bool live, uint64_t now_ms);

/* What comes next of charger number CHARGER was told by the stream. */
void circuit_told(struct circuit *c, unsigned charger);

/* Re-decides what is wanted at NOW_MS: watchdog, validity, phases, dwell.  Called by
 * circuit_next() and circuit_wake(); separate for tests. */
void circuit_decide(struct circuit *c, uint64_t now_ms);

/* How pressing the next setpoint is, to choose between circuits that share a budget:
 * 0 nothing to send now, 1 an increase, 2 a decrease, 3 an urgent decrease or a fallback.
 */
unsigned circuit_press(struct circuit *c, const struct budgets *b, uint64_t now_ms);

/* The next request to start now, counted against B and against the circuit's own budget.
 * False: none now.  The caller starts it and reports with circuit_done(). */
bool circuit_next(struct circuit *c, struct budgets *b, uint64_t now_ms,
                  struct request *ret);

/* When circuit_next() may have something to do, if nothing new is learned; NEVER. */
uint64_t circuit_wake(struct circuit *c, const struct budgets *b, uint64_t now_ms);

/* The part of circuit_wake() that needs no call: when something is decided by time alone.
 */
uint64_t circuit_decide_at(const struct circuit *c);

/* A request ended.  ERR_UNAUTHORISED and ERR_BLOCKED: it did not count, ask again later.
 */
void circuit_done(struct circuit *c, struct budgets *b, const struct outcome *o,
                  uint64_t now_ms);

/* Fills RET but for .connection, which is the session's to say. */
void circuit_status(const struct circuit *c, const struct budgets *b, uint64_t now_ms,
                    struct status *ret);

/* Events since the last call, bits of enum circuit_event. */
uint32_t circuit_events(struct circuit *c);

#endif
