/* SPDX-License-Identifier: MIT
 * telemetry.h - what one charger reports, observation by observation.
 *
 * Pure: no I/O, no clock, no allocation.  Observations come from REST or from the stream,
 * in any order; a value older than the one held for its id is dropped (easee-api 7.3).
 * Ids and units: easee-api 7.4; enumerations: 6.5. */
#ifndef EVECC_TELEMETRY_H
#define EVECC_TELEMETRY_H

#include "evecc/charger.h"

#include <stddef.h>

enum { OBSERVATION_TEXT_MAX = 64 };

/* One observation as the cloud gave it: a number, or a text, or (null, "") neither. */
struct observation {
    int64_t at_unix_ms; /* timestamp of the charger; 0: none given */
    double number;      /* finite when is_number */
    uint16_t id;
    bool is_number; /* also for booleans (0, 1) and numbers written as strings */
    char text[OBSERVATION_TEXT_MAX]; /* of a string, cut to fit; "" when it was none */
};

/* NUMBER times SCALE as a whole number, rounded to the nearest: the one way a double of
 * the cloud becomes an integer.  False when it is NaN, infinite or outside MIN to MAX,
 * which lie within +-2^53. */
bool telemetry_scale(double number, double scale, int64_t min, int64_t max, int64_t *ret);

/* What a charger is known to say.  Values that may be unknown are NA_*; currents whose
 * read-back may be 1000 A are in deciamps and mean nothing as a rating (easee-api 3.1).
 */
struct charger {
    struct telemetry telemetry;
    uint64_t reported_at_ms;     /* when the charger itself last said anything; NEVER */
    uint64_t circuit_at_ms;      /* when circuit_da was reported; NEVER */
    uint16_t circuit_da[PHASES]; /* 111-113: dynamic circuit current, NA_U16 unknown */
    uint16_t dynamic_da;         /* 48: dynamic charger current */
    uint16_t grid_type;          /* 21; NA_U16 unknown, 0 not detected */
    uint16_t error_code;         /* 119; 0 none */
    uint16_t authorisation_required; /* 42 */
    uint16_t equalizer;              /* 65: another load balancer is paired, 0, 1 */
    uint16_t derating;               /* 116 */
    uint16_t offline_da[PHASES];     /* 50-52 */
    /* As reported; what they mean depends on other observations. */
    uint16_t connected;           /* 250: to the cloud */
    uint16_t output_phase;        /* 110 */
    uint32_t terminal_ma[4];      /* 182-185: T2, T3, T4, T5 */
    uint16_t terminal_dv[4];      /* 194-197: T2-T3, T2-T4, T2-T5, T3-T4 */
    char pilot;                   /* 100: 'A' to 'F', 0 unknown */
    int64_t session_from_unix_ms; /* start of the newest session; 0 unknown */
    /* Timestamps of the newest value per id, in the order of the table in telemetry.c. */
    int64_t newest_unix_ms[48];
};

/* Nothing known. */
void charger_init(struct charger *c);

/* The ids worth asking for, comma separated, for `?ids=` (easee-api 6.4).  Static
 * storage. */
const char *telemetry_ids(void);

/* Takes one observation that arrived at NOW_MS, when the cloud's own clock showed
 * CLOUD_UNIX_MS (its Date header; 0: unknown, the observation then counts as just made).
 * Ages come from the two cloud times alone, so a wrong clock here does not matter.
 * Filters: lifetime energy never decreases; a zero session energy in mid-session is
 * ignored. Unknown ids, impossible values (NaN, negative energy) and older ones are
 * dropped. Returns true when anything changed or was refreshed. */
bool charger_observe(struct charger *c, const struct observation *o,
                     int64_t cloud_unix_ms, uint64_t now_ms);

/* Grid type G (observation 21) is a TN grid on which P2 = P3 = 0 means one phase. */
bool telemetry_grid_is_tn(uint16_t g);

/* IEC 61851 state letter for register 7100, 'A' to 'F', of an operation mode; NA_U16
 * unknown. */
uint16_t telemetry_iec_state(uint16_t op_mode);

#endif
