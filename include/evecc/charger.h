/* SPDX-License-Identifier: MIT
 * charger.h - the words every module shares: a wish, and what is known of a circuit.
 *
 * Wishes travel right (Modbus -> cloud) in a struct want, facts travel left in a struct
 * status; no variable does both.  Both are plain values: copied whole, never shared.
 *
 * Units are in the names: _w watt, _wh watt hour, _da 0.1 A, _ma milliampere, _dv 0.1 V,
 * _dc 0.1 degree Celsius, _s and _ms seconds and milliseconds.  A field called *_at_ms is
 * a point on the monotonic clock, NEVER when it has not happened yet.  Values that may be
 * unknown use the register map's own "not available" (NA_*), so they need no flag. */
#ifndef EVECC_CHARGER_H
#define EVECC_CHARGER_H

#include "evecc/instant.h"

#include <stdbool.h>
#include <stdint.h>

enum { PHASES = 3 };

#define NA_U16 UINT16_MAX
#define NA_I16 INT16_MIN
#define NA_U32 UINT32_MAX
#define NA_U64 UINT64_MAX

/* Whole amps on L1, L2, L3: the only thing that is ever sent (easee-api 3.2). */
struct amps {
    uint8_t l[PHASES];
};

/* Register 7208. */
enum phase_mode { PHASE_MODE_AUTO = 0, PHASE_MODE_SINGLE = 1, PHASE_MODE_THREE = 3 };

/* Register 7211 and the option fallback_action. */
enum fallback_action { FALLBACK_HOLD = 0, FALLBACK_PAUSE = 1, FALLBACK_LIMIT = 2 };

/* The newest wish for one circuit, as the control block (7200-7239) holds it.  Written
 * only by an accepted register write.  NA_U32 and NA_U16 in a limit: the client has no
 * opinion. */
struct want {
    uint64_t id; /* 0: no wish yet, nothing is ever sent; else +1 per accepted wish */
    uint64_t accepted_at_ms; /* when wish `id` was accepted */
    uint64_t fed_at_ms; /* last accepted write to the control block: feeds the watchdog */
    uint32_t power_w;   /* 7202 */
    uint16_t current_da;       /* 7204 */
    uint16_t phase_da[PHASES]; /* 7205-7207 */
    uint16_t seq;              /* 7200, the client's own number; 0: not used */
    uint16_t validity_s;       /* 7209, counted from accepted_at_ms; 0: until changed */
    uint16_t watchdog_s;       /* 7210, 0: off */
    uint16_t fallback_da;      /* 7212 */
    uint8_t fallback_action;   /* 7211, enum fallback_action */
    uint8_t fallback_phases;   /* 7213: 0 keep, 1, 3 */
    uint8_t phase_mode;        /* 7208, enum phase_mode */
    bool enable;               /* 7201 */
    bool urgent;               /* 7215 */
    /* 7216: how often each action was asked for.  Counters, so that no request is lost
     * when a newer want replaces this one before it was looked at. */
    uint32_t clears;
    uint32_t resends;
    uint32_t refreshes;
};

/* Register 7301: how far the last accepted command has come. */
enum stage {
    STAGE_NONE = 0,
    STAGE_WAITING = 1, /* dwell, interval, budget or back-off */
    STAGE_SENT = 2,
    STAGE_ACCEPTED = 3,  /* by the cloud */
    STAGE_CONFIRMED = 4, /* by the charger */
    STAGE_EFFECTIVE = 5,
    STAGE_REFUSED = 6,
    STAGE_TIMED_OUT = 7,
    STAGE_SUPERSEDED = 8,
    STAGE_OVERRIDDEN = 9 /* by another controller */
};

/* Register 7322: what holds the target down. */
enum binding {
    BINDING_NONE = 0,
    BINDING_POWER = 1,
    BINDING_CURRENT = 2,
    BINDING_PER_PHASE = 3,
    BINDING_ENABLE = 4,
    BINDING_FALLBACK = 5,
    BINDING_CONFIGURED_MAX = 6,
    BINDING_MIN_CURRENT = 7, /* below the minimum current became 0 */
    BINDING_PHASE_DWELL = 8,
    BINDING_BUDGET = 9, /* interval or budget */
    BINDING_CIRCUIT = 10,
    BINDING_CHARGER = 11,
    BINDING_LOAD_BALANCING = 12,
    BINDING_OTHER_CONTROLLER = 13,
    BINDING_SCHEDULE = 14,
    BINDING_AUTHORISATION = 15,
    BINDING_CABLE = 16,
    BINDING_DERATING = 17,
    BINDING_OFFLINE = 18
};

/* Register 7128. */
enum fault {
    FAULT_CHARGER_ERROR = 1u << 0,
    FAULT_CHARGER_OFFLINE = 1u << 1,
    FAULT_OVER_CURRENT = 1u << 2,
    FAULT_GRID = 1u << 3,
    FAULT_LOGIN_REFUSED = 1u << 4,
    FAULT_NOT_FOUND = 1u << 5, /* circuit or site */
    FAULT_BLOCKED = 1u << 6,   /* by the cloud */
    FAULT_FOREIGN_CONTROL = 1u << 7,
    FAULT_NOT_CONFIRMED = 1u << 8,
    FAULT_CONFIGURATION = 1u << 9
};

/* Register 7130. */
enum connection {
    CONNECTION_NONE = 0,
    CONNECTION_LOGGING_IN = 1,
    CONNECTION_POLLING = 2,
    CONNECTION_STREAMING = 3,
    CONNECTION_STALE = 4,
    CONNECTION_BLOCKED = 5
};

/* Register 7010. */
enum capability {
    CAPABILITY_PHASE_SWITCHING = 1u << 0,
    CAPABILITY_PER_PHASE_LIMITS = 1u << 1,
    CAPABILITY_TN_GRID = 1u << 2,
    CAPABILITY_ALONE = 1u << 3, /* charger alone on its circuit */
    CAPABILITY_CLOUD_TTL = 1u << 4,
    CAPABILITY_OFFLINE_FALLBACK = 1u << 5,
    CAPABILITY_LIVE_STREAM = 1u << 6,
    CAPABILITY_AUTHORISATION = 1u << 7
};

enum { SERIAL_MAX = 16, MODEL_MAX = 16, FIRMWARE_MAX = 16, LAST_ERROR_MAX = 40 };

/* chargerOpMode and reasonForNoCurrent (easee-api 6.5), as far as something is decided by
 * them; others are shown as they come, by the names in words.def. */
enum op_mode {
    OP_MODE_OFFLINE = 0,
    OP_MODE_NO_VEHICLE = 1,
    OP_MODE_HELD_BACK = 2,
    OP_MODE_CHARGING = 3,
    OP_MODE_COMPLETED = 4,
    OP_MODE_ERROR = 5,
    OP_MODE_OFFERED = 6,
    OP_MODE_AWAITS_AUTHORISATION = 7,
    OP_MODE_ENDS_AUTHORISATION = 8,
    OP_MODE_AWAITS_BALANCING = 103,
    OP_MODE_AWAITS_SMART_START = 105,
    OP_MODE_SCHEDULED = 106,
    OP_MODE_EQUALIZER_PAUSED = 108,
    OP_MODE_ERRATIC_VEHICLE = 157,
    OP_MODE_TOO_HOT = 158,
    OP_MODE_DEAD_BOARD = 159,
    OP_MODE_OVER_CURRENT = 160,
    OP_MODE_PEN_FAULT = 161
};

enum no_current_reason {
    REASON_GRID_TYPE = 7,
    REASON_PHASE_NOT_CONNECTED = 11,
    REASON_CHARGER_ERROR = 56
};

/* What the charger says, in the units of registers 7100-7137.  Unknown ones are NA_*. */
struct telemetry {
    uint64_t power_at_ms;  /* when the cloud gave us the newest power */
    uint64_t state_at_ms;  /* ... the newest operation mode */
    uint64_t limits_at_ms; /* ... the newest limits */
    uint64_t energy_wh;    /* 7120, never decreasing */
    uint32_t session_wh;
    uint32_t session_s;
    uint32_t power_w;
    uint32_t current_ma[PHASES];
    uint16_t voltage_dv[PHASES];
    uint16_t op_mode;           /* enum op_mode, or any other */
    uint16_t no_current_reason; /* enum no_current_reason, or any other */
    uint16_t phases_in_use;     /* 0 to 3 */
    uint16_t phase_bits;        /* bit 0 L1, bit 1 L2, bit 2 L3 */
    uint16_t vehicle;           /* 0, 1 */
    uint16_t authorisation;     /* 0 not needed, 1 waiting, 2 given */
    uint16_t online;            /* 0, 1 */
    uint16_t effective_da;      /* 7321: what the charger offers to the car */
    uint16_t cars_connected;
    uint16_t cars_charging;
    uint16_t updates; /* 7135, +1 per update from the cloud, wraps */
    int16_t temperature_dc;
    char serial[SERIAL_MAX + 1];
    char model[MODEL_MAX + 1];
    char firmware[FIRMWARE_MAX + 1];
};

/* How far the newest wish has come: registers 7300-7337. */
struct progress {
    uint64_t wish_id;    /* want.id all of this is about; a newer wish was not seen yet */
    uint64_t sent_at_ms; /* last call that carried a setpoint */
    uint64_t confirmed_at_ms; /* last confirmation by the charger */
    uint64_t tripped_at_ms;   /* watchdog; NEVER: not tripped */
    uint64_t dwell_until_ms;  /* phases may change again at; NEVER: no dwell is running */
    uint64_t next_call_at_ms; /* a setpoint could leave at; NEVER: nothing holds it */
    uint64_t backoff_until_ms;     /* 429, 403, errors; NEVER: none */
    uint16_t requested_da[PHASES]; /* the client's own minimum; NA_U16: none or no wish */
    uint16_t requested_phases;
    struct amps target, sent, confirmed;
    bool target_known, sent_known, confirmed_known;
    bool pending;           /* a newer target than the one sent is waiting */
    uint8_t stage;          /* enum stage */
    uint8_t binding;        /* enum binding */
    uint16_t seq;           /* of the last command accepted by the gateway */
    uint16_t confirmed_seq; /* of the last command that reached STAGE_CONFIRMED */
    int16_t result;         /* enum err: why the last call ended as it did */
    uint16_t http_status;   /* of the last call, 0: none */
    uint16_t calls_left, calls_window_s;
    uint16_t round_trip_ms; /* write to confirmation; NA_U16 none, 65534 longer */
    uint16_t phase_switches_24h;
};

/* One wish ends in exactly one of these; accepted = the sum of the others. */
struct wish_counts {
    uint64_t accepted, confirmed, merged, expired, rejected, pending;
};

/* What is known of one circuit.  Written only by the sync thread. */
struct status {
    struct telemetry telemetry;
    struct progress progress;
    struct wish_counts wishes;
    uint32_t faults;       /* bits of enum fault */
    uint32_t capabilities; /* bits of enum capability, but those of the configuration */
    uint8_t connection;    /* enum connection */
};

/* Counters of the gateway as a whole that the sync thread keeps: 7440 and part of
 * 7400-7439. */
struct cloud_counts {
    uint32_t calls, errors, throttled, forbidden, logins, refreshes, stream_connects;
    uint32_t foreign_commands, reasserts, telemetry_gaps, watchdog_trips;
    char last_error[LAST_ERROR_MAX + 1]; /* plain ASCII */
};

#endif
