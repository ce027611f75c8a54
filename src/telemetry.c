/* SPDX-License-Identifier: MIT */
#include "evecc/telemetry.h"

#include <string.h>

/* A charger's clock may run ahead of the cloud's by this much; what lies further in the
 * future would lock out every later value. */
enum { SKEW_MS = 5000 };

/* The times of struct charger that an observation renews. */
enum stamp { STAMP_NONE, STAMP_POWER, STAMP_STATE, STAMP_LIMITS, STAMP_CIRCUIT };

enum taken { TAKEN_NOT, TAKEN_SAME, TAKEN_CHANGED };

struct row {
    uint16_t id;
    uint8_t size; /* of the field */
    uint8_t stamp;
    size_t offset; /* of the field in struct charger */
    double scale;  /* the field's unit in the cloud's */
    int64_t min, max;
    /* Takes the value into the field; AT_UNIX_MS as in charger_observe(), 0 unknown. */
    enum taken (*take)(struct charger *c, const struct row *row,
                       const struct observation *o, int64_t at_unix_ms);
};

static enum taken take_number(struct charger *, const struct row *,
                              const struct observation *, int64_t);
static enum taken take_energy(struct charger *, const struct row *,
                              const struct observation *, int64_t);
static enum taken take_session(struct charger *, const struct row *,
                               const struct observation *, int64_t);
static enum taken take_presence(struct charger *, const struct row *,
                                const struct observation *, int64_t);
static enum taken take_firmware(struct charger *, const struct row *,
                                const struct observation *, int64_t);
static enum taken take_pilot(struct charger *, const struct row *,
                             const struct observation *, int64_t);
static enum taken take_start(struct charger *, const struct row *,
                             const struct observation *, int64_t);

/* easee-api 7.4, as far as registers.md has a place for it.
 * X(id, how to take it, field of struct charger, scale, min, max, stamp) */
#define OBSERVATIONS(X)                                             \
    X(21, number, grid_type, 1, 0, 999, NONE)                       \
    X(42, number, authorisation_required, 1, 0, 1, NONE)            \
    X(48, number, dynamic_da, 10, 0, 65530, LIMITS)                 \
    X(50, number, offline_da[0], 10, 0, 65530, NONE)                \
    X(51, number, offline_da[1], 10, 0, 65530, NONE)                \
    X(52, number, offline_da[2], 10, 0, 65530, NONE)                \
    X(65, presence, equalizer, 1, 0, 1, NONE)                       \
    X(76, number, telemetry.cars_connected, 1, 0, 999, NONE)        \
    X(77, number, telemetry.cars_charging, 1, 0, 999, NONE)         \
    X(80, firmware, telemetry.firmware, 1, 0, INT32_MAX, NONE)      \
    X(96, number, telemetry.no_current_reason, 1, 0, 65534, NONE)   \
    X(100, pilot, pilot, 1, 0, 0, NONE)                             \
    X(109, number, telemetry.op_mode, 1, 0, 65534, STATE)           \
    X(110, number, output_phase, 1, 0, 99, NONE)                    \
    X(111, number, circuit_da[0], 10, 0, 65530, CIRCUIT)            \
    X(112, number, circuit_da[1], 10, 0, 65530, CIRCUIT)            \
    X(113, number, circuit_da[2], 10, 0, 65530, CIRCUIT)            \
    X(114, number, telemetry.effective_da, 10, 0, 65530, LIMITS)    \
    X(116, number, derating, 1, 0, 1, NONE)                         \
    X(119, number, error_code, 1, 0, 65534, NONE)                   \
    X(120, number, telemetry.power_w, 1000, 0, 1000000, POWER)      \
    X(121, session, telemetry.session_wh, 1000, 0, INT32_MAX, NONE) \
    X(124, energy, telemetry.energy_wh, 1000, 0, 10000000000, NONE) \
    X(150, number, telemetry.temperature_dc, 10, -1000, 3000, NONE) \
    X(182, number, terminal_ma[0], 1000, 0, 1000000, NONE)          \
    X(183, number, terminal_ma[1], 1000, 0, 1000000, NONE)          \
    X(184, number, terminal_ma[2], 1000, 0, 1000000, NONE)          \
    X(185, number, terminal_ma[3], 1000, 0, 1000000, NONE)          \
    X(194, number, terminal_dv[0], 10, 0, 10000, NONE)              \
    X(195, number, terminal_dv[1], 10, 0, 10000, NONE)              \
    X(196, number, terminal_dv[2], 10, 0, 10000, NONE)              \
    X(197, number, terminal_dv[3], 10, 0, 10000, NONE)              \
    X(223, start, session_from_unix_ms, 1, 0, 0, NONE)              \
    X(250, number, connected, 1, 0, 1, NONE)

#define X(id, take, field, scale, min, max, stamp) SLOT_##id,
enum slot { OBSERVATIONS(X) SLOTS };
#undef X

_Static_assert(SLOTS <= sizeof((struct charger *)0)->newest_unix_ms / sizeof(int64_t),
               "a timestamp for each");

static const struct row rows[] = {
#define X(id, take, field, scale, min, max, stamp) \
    {id,                                           \
     sizeof((struct charger *)0)->field,           \
     STAMP_##stamp,                                \
     offsetof(struct charger, field),              \
     scale,                                        \
     min,                                          \
     max,                                          \
     take_##take},
    OBSERVATIONS(X)
#undef X
};

const char *telemetry_ids(void)
{
#define X(id, take, field, scale, min, max, stamp) "," #id
    static const char ids[] = OBSERVATIONS(X);
#undef X

    return ids + 1;
}

static const struct row *row_of(uint16_t id)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (rows[i].id == id)
            return &rows[i];
    return NULL;
}

void charger_init(struct charger *c)
{
    struct telemetry *t = &c->telemetry;

    memset(c, 0, sizeof *c);
    t->power_at_ms = t->state_at_ms = t->limits_at_ms = c->circuit_at_ms =
        c->reported_at_ms = NEVER;
    t->energy_wh = NA_U64;
    t->session_wh = t->session_s = t->power_w = NA_U32;
    t->op_mode = t->no_current_reason = t->phases_in_use = t->phase_bits = NA_U16;
    t->vehicle = t->authorisation = t->online = t->effective_da = NA_U16;
    t->cars_connected = t->cars_charging = NA_U16;
    t->temperature_dc = NA_I16;
    c->dynamic_da = c->grid_type = c->error_code = c->authorisation_required = NA_U16;
    c->equalizer = c->derating = c->connected = c->output_phase = NA_U16;
    for (unsigned i = 0; i < PHASES; i++) {
        t->current_ma[i] = NA_U32;
        t->voltage_dv[i] = c->circuit_da[i] = c->offline_da[i] = NA_U16;
    }
    for (unsigned i = 0; i < 4; i++) {
        c->terminal_ma[i] = NA_U32;
        c->terminal_dv[i] = NA_U16;
    }
}

/* ---- one value ---- */

bool telemetry_scale(double number, double scale, int64_t min, int64_t max, int64_t *ret)
{
    double scaled = number * scale, rest;
    int64_t value;

    if (!(scaled > (double)min - 1 && scaled < (double)max + 1)) /* nor NaN */
        return false;
    value = (int64_t)scaled;
    rest = scaled - (double)value;
    value += rest >= 0.5 ? 1 : rest <= -0.5 ? -1 : 0;
    if (value < min || value > max)
        return false;
    *ret = value;
    return true;
}

static enum taken store(struct charger *c, const struct row *row, int64_t value)
{
    void *field = (char *)c + row->offset;
    uint16_t u16 = (uint16_t)value;
    uint32_t u32 = (uint32_t)value;
    uint64_t u64 = (uint64_t)value;
    const void *from = row->size == 2   ? (const void *)&u16
                       : row->size == 4 ? (const void *)&u32
                                        : &u64;

    if (memcmp(field, from, row->size) == 0)
        return TAKEN_SAME;
    memcpy(field, from, row->size);
    return TAKEN_CHANGED;
}

static bool value_of(const struct row *row, const struct observation *o, int64_t *ret)
{
    return o->is_number &&
           telemetry_scale(o->number, row->scale, row->min, row->max, ret);
}

static enum taken take_number(struct charger *c, const struct row *row,
                              const struct observation *o, int64_t at_unix_ms)
{
    int64_t value;

    (void)at_unix_ms;
    return value_of(row, o, &value) ? store(c, row, value) : TAKEN_NOT;
}

/* Register 7120 never decreases, whatever the meter says (easee-api 10). */
static enum taken take_energy(struct charger *c, const struct row *row,
                              const struct observation *o, int64_t at_unix_ms)
{
    uint64_t held = c->telemetry.energy_wh;
    int64_t value;

    (void)at_unix_ms;
    if (!value_of(row, o, &value) || (held != NA_U64 && (uint64_t)value < held))
        return TAKEN_NOT;
    return store(c, row, value);
}

/* The cloud says 0 now and then in mid-session (easee-api 10).  A zero is believed
 * without a car, and when the session is younger than the energy held. */
static enum taken take_session(struct charger *c, const struct row *row,
                               const struct observation *o, int64_t at_unix_ms)
{
    uint32_t held = c->telemetry.session_wh;
    int64_t value;

    (void)at_unix_ms;
    if (!value_of(row, o, &value))
        return TAKEN_NOT;
    if (value == 0 && held != NA_U32 && held > 0 && c->telemetry.vehicle == 1 &&
        c->session_from_unix_ms <= c->newest_unix_ms[SLOT_121])
        return TAKEN_NOT;
    return store(c, row, value);
}

/* Whether something is named at all. */
static enum taken take_presence(struct charger *c, const struct row *row,
                                const struct observation *o, int64_t at_unix_ms)
{
    (void)at_unix_ms;
    return store(c, row, o->text[0] != '\0' || (o->is_number && o->number != 0));
}

static enum taken take_firmware(struct charger *c, const struct row *row,
                                const struct observation *o, int64_t at_unix_ms)
{
    char text[FIRMWARE_MAX + 1] = "";
    size_t len = 0;
    int64_t number;

    (void)at_unix_ms;
    if (o->text[0] != '\0') {
        while (len < FIRMWARE_MAX && o->text[len] >= ' ' && o->text[len] <= '~') {
            text[len] = o->text[len];
            len++;
        }
    } else if (value_of(row, o, &number)) {
        for (int64_t n = number; len == 0 || n > 0; n /= 10)
            len++;
        for (size_t i = len; i > 0; number /= 10)
            text[--i] = (char)('0' + number % 10);
    }
    if (len == 0)
        return TAKEN_NOT;
    if (strcmp(text, c->telemetry.firmware) == 0)
        return TAKEN_SAME;
    memcpy(c->telemetry.firmware, text, sizeof text);
    return TAKEN_CHANGED;
}

static enum taken take_pilot(struct charger *c, const struct row *row,
                             const struct observation *o, int64_t at_unix_ms)
{
    (void)row;
    (void)at_unix_ms;
    if (o->text[0] < 'A' || o->text[0] > 'F')
        return TAKEN_NOT;
    if (c->pilot == o->text[0])
        return TAKEN_SAME;
    c->pilot = o->text[0];
    return TAKEN_CHANGED;
}

/* ChargingSessionStart: that it was reported, and when, is all we need of it. */
static enum taken take_start(struct charger *c, const struct row *row,
                             const struct observation *o, int64_t at_unix_ms)
{
    (void)row;
    (void)o;
    if (at_unix_ms == 0)
        return TAKEN_NOT;
    if (at_unix_ms <= c->session_from_unix_ms)
        return TAKEN_SAME;
    c->session_from_unix_ms = at_unix_ms;
    return TAKEN_CHANGED;
}

/* ---- what several values mean together ---- */

bool telemetry_grid_is_tn(uint16_t g)
{
    switch (g) {
    case 1:
    case 2:
    case 3:
    case 30:
    case 31:
    case 36:
    case 37:
    case 38:
        return true;
    default:
        return false;
    }
}

static bool grid_is_it(uint16_t g)
{
    return g == 4 || g == 5 || (g >= 32 && g <= 35);
}

uint16_t telemetry_iec_state(uint16_t op_mode)
{
    switch (op_mode) {
    case OP_MODE_NO_VEHICLE:
        return 'A';
    case OP_MODE_HELD_BACK:
    case OP_MODE_COMPLETED:
    case OP_MODE_OFFERED:
    case OP_MODE_AWAITS_AUTHORISATION:
    case OP_MODE_ENDS_AUTHORISATION:
    case OP_MODE_AWAITS_BALANCING:
    case OP_MODE_AWAITS_SMART_START:
    case OP_MODE_SCHEDULED:
    case OP_MODE_EQUALIZER_PAUSED:
        return 'B';
    case OP_MODE_CHARGING:
        return 'C';
    case OP_MODE_ERROR:
    case OP_MODE_ERRATIC_VEHICLE:
    case OP_MODE_TOO_HOT:
    case OP_MODE_DEAD_BOARD:
    case OP_MODE_OVER_CURRENT:
    case OP_MODE_PEN_FAULT:
        return 'F';
    default:
        return NA_U16;
    }
}

/* The operation mode knows best; the pilot helps where it says nothing of the car. */
static uint16_t vehicle(const struct charger *c)
{
    uint16_t state = telemetry_iec_state(c->telemetry.op_mode);

    if (state == NA_U16 || state == 'F')
        state = (uint8_t)c->pilot;
    if (state == 'A')
        return 0;
    return state >= 'B' && state <= 'D' ? 1 : NA_U16;
}

static uint16_t authorisation(const struct charger *c)
{
    uint16_t mode = c->telemetry.op_mode;

    if (mode == OP_MODE_AWAITS_AUTHORISATION || mode == OP_MODE_ENDS_AUTHORISATION)
        return 1;
    if (c->authorisation_required != 1)
        return c->authorisation_required; /* 0 or unknown */
    if (mode == OP_MODE_NO_VEHICLE)
        return 1;
    return mode == OP_MODE_HELD_BACK || mode == OP_MODE_CHARGING ||
                   mode == OP_MODE_COMPLETED || mode == OP_MODE_OFFERED
               ? 2
               : NA_U16;
}

/* There is no such observation (easee-api 7.4): the newer word of two counts. */
static uint16_t online(const struct charger *c)
{
    uint16_t mode = c->telemetry.op_mode;

    if (mode == OP_MODE_OFFLINE &&
        c->newest_unix_ms[SLOT_109] >= c->newest_unix_ms[SLOT_250])
        return 0;
    if (c->connected != NA_U16)
        return c->connected;
    return mode == NA_U16 ? NA_U16 : mode != OP_MODE_OFFLINE;
}

/* Observation 110: the tens digit counts the phases (easee-api 6.5). */
static void set_phases(struct telemetry *t, uint16_t output_phase)
{
    static const struct {
        uint8_t output_phase, bits;
    } table[] = {
        {0,  0},
        {10, 1},
        {11, 3},
        {12, 2},
        {13, 5},
        {14, 4},
        {15, 6},
        {20, 3},
        {21, 6},
        {22, 7},
        {30, 7}
    };

    t->phases_in_use = t->phase_bits = NA_U16;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].output_phase == output_phase) {
            t->phases_in_use = output_phase / 10;
            t->phase_bits = table[i].bits;
        }
    }
}

/* T2 is N and T3 to T5 are the lines on a TN grid; on IT T2 to T4 are the lines, and only
 * voltages between lines exist: L1-L2, L2-L3, L3-L1 (easee-api 6.2). */
static void set_lines(struct charger *c)
{
    static const uint8_t tn_current[] = {1, 2, 3}, tn_voltage[] = {0, 1, 2};
    static const uint8_t it_current[] = {0, 1, 2}, it_voltage[] = {0, 3, 1};
    bool it = grid_is_it(c->grid_type);

    for (unsigned i = 0; i < PHASES; i++) {
        c->telemetry.current_ma[i] = c->terminal_ma[it ? it_current[i] : tn_current[i]];
        c->telemetry.voltage_dv[i] = c->terminal_dv[it ? it_voltage[i] : tn_voltage[i]];
    }
}

/* The duration grows while the car is there and stays when it has gone. */
static void set_session(struct charger *c, uint16_t vehicle_before, int64_t at_unix_ms,
                        int64_t now_unix_ms)
{
    struct telemetry *t = &c->telemetry;
    int64_t until = t->vehicle == 1 ? now_unix_ms : at_unix_ms;
    int64_t session_s;

    if (vehicle_before == 0 && t->vehicle == 1 && at_unix_ms > c->session_from_unix_ms)
        c->session_from_unix_ms = at_unix_ms;
    if ((vehicle_before != 1 && t->vehicle != 1) || c->session_from_unix_ms == 0 ||
        until < c->session_from_unix_ms)
        return;
    session_s = (until - c->session_from_unix_ms) / 1000;
    t->session_s = session_s < NA_U32 ? (uint32_t)session_s : NA_U32 - 1;
}

static void newer(uint64_t *at, uint64_t at_ms)
{
    if (*at == NEVER || *at < at_ms)
        *at = at_ms;
}

static void set_stamp(struct charger *c, enum stamp stamp, uint64_t at_ms)
{
    switch (stamp) {
    case STAMP_NONE:
        break;
    case STAMP_POWER:
        newer(&c->telemetry.power_at_ms, at_ms);
        break;
    case STAMP_STATE:
        newer(&c->telemetry.state_at_ms, at_ms);
        break;
    case STAMP_CIRCUIT:
        newer(&c->circuit_at_ms, at_ms);
        newer(&c->telemetry.limits_at_ms, at_ms);
        break;
    case STAMP_LIMITS:
        newer(&c->telemetry.limits_at_ms, at_ms);
        break;
    }
}

/* ---- time ---- */

/* When the value was made on the cloud's clock; 0 when nobody can tell. */
static int64_t made_at(const struct observation *o, int64_t cloud_unix_ms)
{
    if (cloud_unix_ms == 0)
        return o->at_unix_ms;
    if (o->at_unix_ms == 0)
        return cloud_unix_ms;
    return o->at_unix_ms < cloud_unix_ms + SKEW_MS ? o->at_unix_ms
                                                   : cloud_unix_ms + SKEW_MS;
}

/* The same point on our monotonic clock. */
static uint64_t on_our_clock(int64_t at_unix_ms, int64_t cloud_unix_ms, uint64_t now_ms)
{
    int64_t age_ms =
        at_unix_ms != 0 && cloud_unix_ms != 0 ? cloud_unix_ms - at_unix_ms : 0;

    if (age_ms <= 0)
        return now_ms;
    return (uint64_t)age_ms < now_ms ? now_ms - (uint64_t)age_ms : 0;
}

bool charger_observe(struct charger *c, const struct observation *o,
                     int64_t cloud_unix_ms, uint64_t now_ms)
{
    const struct row *row = row_of(o->id);
    int64_t at = made_at(o, cloud_unix_ms);
    uint16_t vehicle_before = c->telemetry.vehicle;
    enum taken taken;
    uint64_t made_ms;
    int64_t *newest;
    bool fresh;

    if (row == NULL)
        return false;
    newest = &c->newest_unix_ms[row - rows];
    if (cloud_unix_ms != 0 && *newest > cloud_unix_ms + SKEW_MS)
        *newest = 0; /* taken when the cloud's clock was not known */
    if (at != 0 && at < *newest)
        return false;
    taken = row->take(c, row, o, at);
    fresh = at == 0 || at > *newest;
    if (taken == TAKEN_NOT || (taken == TAKEN_SAME && !fresh))
        return false;
    if (at != 0)
        *newest = at;
    made_ms = on_our_clock(at, cloud_unix_ms, now_ms);
    if (c->reported_at_ms == NEVER || made_ms > c->reported_at_ms)
        c->reported_at_ms = made_ms;
    set_stamp(c, row->stamp, made_ms);

    c->telemetry.vehicle = vehicle(c);
    c->telemetry.authorisation = authorisation(c);
    c->telemetry.online = online(c);
    set_phases(&c->telemetry, c->output_phase);
    set_lines(c);
    set_session(c, vehicle_before, at, cloud_unix_ms != 0 ? cloud_unix_ms : at);
    c->telemetry.updates++;
    return true;
}
