/* SPDX-License-Identifier: MIT
 *
 * A circuit is an object of flat members, each a text of decimal numbers: 64 bits stay
 * exact, an array is one member, and one table serves both directions. */
#include "evecc/state.h"

#include "json.h"

#include <string.h>

#define DAY_MS INT64_C(86400000)

enum {
    DIGITS_MAX = 20,
    TEXT_MAX = PHASE_SWITCHES_MAX * (DIGITS_MAX + 1) + 1,
    BEHIND_MIN_MS = 5000,
    ENERGY_WH = 1000
};

static const int64_t earliest_unix_ms = INT64_C(1767225600000); /* 2026-01-01 */
static const int64_t most_off_ms = 30 * DAY_MS;

enum kind {
    VALUE,     /* 0 to high */
    ADDED,     /* the same; 0 where it was saved before there was one */
    COUNTED,   /* the same, but no reason to save */
    PHASE,     /* 0, 1, 3 */
    ID,        /* 0 to INT64_MAX, or -1 */
    TIME,      /* not after the saving clock; or high */
    WISH_TIME, /* the same, but no reason to save; 0 when the clocks are not trusted */
    SERIAL     /* letters and digits, or "-" for none */
};

struct serial {
    char text[SERIAL_MAX + 1];
};

struct field {
    const char *name;
    size_t offset, size, bytes; /* `bytes` in all, `size` each */
    enum kind kind;
    uint64_t high;
};

static const struct field fields[] = {
#define SIZE_OF(member) sizeof(((struct state_circuit *)NULL)->member)
#define FIELD(k, type, member, most)                                                \
    {                                                                               \
        .name = #member, .offset = offsetof(struct state_circuit, member),          \
        .size = sizeof(type), .bytes = SIZE_OF(member), .kind = (k), .high = (most) \
    }
    FIELD(COUNTED, uint64_t, want.id, INT64_MAX),
    FIELD(WISH_TIME, uint64_t, want.accepted_at_ms, NEVER),
    FIELD(WISH_TIME, uint64_t, want.fed_at_ms, NEVER),
    FIELD(VALUE, uint32_t, want.power_w, NA_U32),
    FIELD(VALUE, uint16_t, want.current_da, NA_U16),
    FIELD(VALUE, uint16_t, want.phase_da, NA_U16),
    FIELD(COUNTED, uint16_t, want.seq, UINT16_MAX),
    FIELD(VALUE, uint16_t, want.validity_s, UINT16_MAX),
    FIELD(VALUE, uint16_t, want.watchdog_s, UINT16_MAX),
    FIELD(VALUE, uint16_t, want.fallback_da, NA_U16),
    FIELD(VALUE, uint8_t, want.fallback_action, FALLBACK_LIMIT),
    FIELD(PHASE, uint8_t, want.fallback_phases, 0),
    FIELD(PHASE, uint8_t, want.phase_mode, 0),
    FIELD(VALUE, bool, want.enable, 1),
    FIELD(VALUE, bool, want.urgent, 1),
    FIELD(VALUE, uint16_t, start.watchdog_s, UINT16_MAX),
    FIELD(VALUE, uint16_t, start.fallback_da, NA_U16),
    FIELD(VALUE, uint8_t, start.fallback_action, FALLBACK_LIMIT),
    FIELD(PHASE, uint8_t, start.fallback_phases, 0),
    FIELD(TIME, uint64_t, phases.switched_at_ms, 0),
    FIELD(TIME, uint64_t, phases.paused_since_ms, 0),
    FIELD(PHASE, uint8_t, phases.phases, 0),
    FIELD(PHASE, uint8_t, phases.last_phases, 0),
    FIELD(ADDED, bool, phases.switching, 1),
    FIELD(VALUE, uint8_t, phases.next, PHASE_SWITCHES_MAX - 1),
    FIELD(VALUE, uint8_t, phases.held, PHASE_SWITCHES_MAX),
    FIELD(VALUE, uint8_t, sent.l, UINT8_MAX),
    FIELD(VALUE, bool, sent_known, 1),
    FIELD(TIME, uint64_t, sent_at_ms, NEVER),
    FIELD(ID, int64_t, where.site_id, 0),
    FIELD(ID, int64_t, where.circuit_id, 0),
    FIELD(ID, int64_t, where.panel_id, 0),
    FIELD(VALUE, uint16_t, where.rated_da, NA_U16),
    FIELD(VALUE, uint8_t, where.chargers, EASEE_CHARGERS_MAX),
    FIELD(VALUE, bool, where.alone, 1),
    FIELD(VALUE, uint16_t, where.product, NA_U16),
    FIELD(SERIAL, struct serial, where.serial, 0),
    FIELD(COUNTED, uint64_t, energy_wh, NA_U64),
#undef FIELD
};

enum { FIELDS = sizeof fields / sizeof fields[0] };

/* A new member belongs into the table, or has a reason to stay out of it.  In units of 8:
 * not every machine fills up at the end. */
_Static_assert((sizeof(struct want) + 7) / 8 == 8, "struct want has changed");
_Static_assert((sizeof(struct phase_memory) + 7) / 8 == 50,
               "struct phase_memory has changed");

/* ---- values ---- */

static size_t count_of(const struct field *f)
{
    return f->bytes / f->size;
}

static const void *place(const struct field *f, const struct state_circuit *c, size_t i)
{
    return (const char *)c + f->offset + i * f->size;
}

static uint64_t get(const struct field *f, const struct state_circuit *c, size_t i)
{
    const void *at = place(f, c, i);
    uint64_t u64;
    uint32_t u32;
    uint16_t u16;

    switch (f->size) {
    case sizeof u64:
        return memcpy(&u64, at, sizeof u64), u64;
    case sizeof u32:
        return memcpy(&u32, at, sizeof u32), u32;
    case sizeof u16:
        return memcpy(&u16, at, sizeof u16), u16;
    default:
        return *(const uint8_t *)at;
    }
}

static void put(const struct field *f, struct state_circuit *c, size_t i, uint64_t value)
{
    char *at = (char *)c + f->offset + i * f->size;
    uint32_t u32 = (uint32_t)value;
    uint16_t u16 = (uint16_t)value;

    switch (f->size) {
    case sizeof value:
        memcpy(at, &value, sizeof value);
        break;
    case sizeof u32:
        memcpy(at, &u32, sizeof u32);
        break;
    case sizeof u16:
        memcpy(at, &u16, sizeof u16);
        break;
    default:
        *(uint8_t *)at = (uint8_t)value;
    }
}

/* VALUE in decimal at AT; returns the end. */
static char *print(char *at, uint64_t value)
{
    char digits[DIGITS_MAX];
    size_t n = 0;

    do
        digits[n++] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    while (n > 0)
        *at++ = digits[--n];
    *at = '\0';
    return at;
}

/* One number at AT, written as print() does; returns its end, NULL: there is none. */
static const char *scan(const char *at, uint64_t *ret)
{
    uint64_t value = 0;
    const char *begin = at;

    for (; *at >= '0' && *at <= '9'; at++) {
        unsigned digit = (unsigned)(*at - '0');

        if (value > (UINT64_MAX - digit) / 10 || (value == 0 && at != begin))
            return NULL;
        value = value * 10 + digit;
    }
    if (at == begin)
        return NULL;
    *ret = value;
    return at;
}

/* ---- time ---- */

bool state_elapsed(const struct state_clock *saved, const struct state_clock *now,
                   uint64_t *ret_ms)
{
    *ret_ms = 0;
    if (saved->boot_id[0] != '\0' && strcmp(saved->boot_id, now->boot_id) == 0 &&
        now->now_ms >= saved->now_ms) {
        *ret_ms = now->now_ms - saved->now_ms;
        return true;
    }
    if (saved->unix_ms < earliest_unix_ms || now->unix_ms < saved->unix_ms ||
        now->unix_ms - saved->unix_ms > most_off_ms)
        return false;
    *ret_ms = (uint64_t)(now->unix_ms - saved->unix_ms);
    return true;
}

uint64_t state_shift(uint64_t at_ms, uint64_t saved_ms, uint64_t elapsed_ms,
                     uint64_t now_ms)
{
    uint64_t ago_ms;

    if (at_ms == 0 || at_ms == NEVER)
        return at_ms;
    if (at_ms > saved_ms + elapsed_ms)
        return now_ms + (at_ms - saved_ms - elapsed_ms);
    ago_ms = saved_ms + elapsed_ms - at_ms;
    return now_ms > ago_ms ? now_ms - ago_ms : 0;
}

/* ---- one circuit ---- */

/* Number I of F as text at AT; returns the end. */
static char *encode_value(char *at, const struct field *f, const struct state_circuit *c,
                          size_t i, const struct state_clock *clock)
{
    uint64_t value;
    size_t len;

    if (f->kind == SERIAL) {
        const char *serial = place(f, c, i);

        len = strnlen(serial, SERIAL_MAX);
        memcpy(at, len > 0 ? serial : "-", len > 0 ? len : 1);
        at += len > 0 ? len : 1;
        *at = '\0';
        return at;
    }
    value = get(f, c, i);
    /* A wish may be younger than the clock that was read before it came. */
    if ((f->kind == TIME || f->kind == WISH_TIME) && value > clock->now_ms &&
        value != f->high)
        value = clock->now_ms;
    return print(at, value);
}

static bool encode_circuit(cJSON *list, const struct state_circuit *c,
                           const struct state_clock *clock)
{
    cJSON *item = cJSON_CreateObject();
    char text[TEXT_MAX];
    bool ok;

    if (!cJSON_AddItemToArray(list, item)) {
        cJSON_Delete(item);
        return false;
    }
    ok = cJSON_AddStringToObject(item, "name", c->name) != NULL &&
         cJSON_AddStringToObject(item, "key", c->key) != NULL;
    for (const struct field *f = fields; ok && f < fields + FIELDS; f++) {
        char *end = text;

        for (size_t i = 0; i < count_of(f); i++) {
            if (i > 0)
                *end++ = ' ';
            end = encode_value(end, f, c, i, clock);
        }
        ok = cJSON_AddStringToObject(item, f->name, text) != NULL;
    }
    return ok;
}

struct shift {
    struct state_clock saved;
    uint64_t elapsed_ms, now_ms;
    bool trusted;
};

/* VALUE as it counts now; false: it cannot be. */
static bool judge(const struct field *f, uint64_t *value, const struct shift *s)
{
    switch (f->kind) {
    case VALUE:
    case ADDED:
    case COUNTED:
        return *value <= f->high;
    case PHASE:
        return *value == 0 || *value == 1 || *value == 3;
    case ID:
        return *value <= INT64_MAX || *value == UINT64_MAX;
    case TIME:
    case WISH_TIME:
        if (*value > s->saved.now_ms && *value != f->high)
            return false;
        *value = state_shift(*value, s->saved.now_ms, s->elapsed_ms, s->now_ms);
        if (f->kind == WISH_TIME && *value != NEVER && !s->trusted)
            *value = 0;
        return true;
    case SERIAL:
        break;
    }
    return false;
}

static const char *text_of(const cJSON *item, const char *name)
{
    return json_string(json_member(item, name));
}

/* Returns the end of the serial at AT, NULL: it is none. */
static const char *scan_serial(const char *at, char ret[SERIAL_MAX + 1])
{
    size_t len = strcspn(at, " ");

    memset(ret, 0, SERIAL_MAX + 1);
    if (len == 1 && *at == '-')
        return at + 1;
    if (len > SERIAL_MAX)
        return NULL;
    memcpy(ret, at, len);
    return json_is_serial(ret) ? at + len : NULL;
}

/* Value I of F from its text at AT; returns the end, NULL: it is not one. */
static const char *decode_value(const char *at, const struct field *f, size_t i,
                                const struct shift *s, struct state_circuit *c)
{
    uint64_t value;

    if (f->kind == SERIAL)
        return scan_serial(at, (char *)c + f->offset + i * f->size);
    at = scan(at, &value);
    if (at == NULL || !judge(f, &value, s))
        return NULL;
    put(f, c, i, value);
    return at;
}

static bool decode_field(const cJSON *item, const struct field *f, const struct shift *s,
                         struct state_circuit *c)
{
    const char *at = text_of(item, f->name);

    if (f->kind == ADDED && json_member(item, f->name) == NULL)
        return true;
    for (size_t i = 0; i < count_of(f); i++) {
        if (i > 0 && *at++ != ' ')
            return false;
        at = decode_value(at, f, i, s, c);
        if (at == NULL)
            return false;
    }
    return *at == '\0';
}

static bool decode_circuit(const cJSON *item, const struct shift *s,
                           struct state_circuit *c)
{
    for (const struct field *f = fields; f < fields + FIELDS; f++)
        if (!decode_field(item, f, s, c))
            return false;
    return true;
}

static const cJSON *find(const cJSON *list, const struct state_circuit *c)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, list)
    {
        if (strcmp(text_of(item, "name"), c->name) == 0 &&
            strcmp(text_of(item, "key"), c->key) == 0)
            return item;
    }
    return NULL;
}

/* ---- all of them ---- */

void state_init(struct state_circuit *c, const char *name, const char *key)
{
    memset(c, 0, sizeof *c);
    memcpy(c->name, name, strnlen(name, sizeof c->name - 1));
    memcpy(c->key, key, strnlen(key, sizeof c->key - 1));
    c->want.accepted_at_ms = c->want.fed_at_ms = c->sent_at_ms = NEVER;
    c->where.site_id = c->where.circuit_id = c->where.panel_id = -1;
    c->energy_wh = NA_U64;
}

/* A time that may not be wrong by LIMIT_S (0: it does not matter) is half of that off. */
static bool behind(uint64_t saved_ms, uint64_t now_ms, uint64_t limit_s)
{
    uint64_t most_ms = limit_s * 1000 / 2;

    return limit_s != 0 && now_ms > saved_ms &&
           now_ms - saved_ms >= (most_ms > BEHIND_MIN_MS ? most_ms : BEHIND_MIN_MS);
}

static bool charged(uint64_t saved_wh, uint64_t now_wh)
{
    return now_wh != NA_U64 && (saved_wh == NA_U64 || now_wh >= saved_wh + ENERGY_WH);
}

bool state_due(const struct state_circuit *saved, const struct state_circuit *now)
{
    const struct want *a = &saved->want, *b = &now->want;

    for (const struct field *f = fields; f < fields + FIELDS; f++)
        if (f->kind != COUNTED && f->kind != WISH_TIME &&
            memcmp(place(f, saved, 0), place(f, now, 0), f->bytes) != 0)
            return true;
    return (a->id == 0) != (b->id == 0) ||
           behind(a->fed_at_ms, b->fed_at_ms, b->watchdog_s) ||
           behind(a->accepted_at_ms, b->accepted_at_ms, b->validity_s) ||
           charged(saved->energy_wh, now->energy_wh);
}

void state_reconfigure(struct state_circuit *c, const struct state_start *start)
{
    struct want *w = &c->want;

    if (start->watchdog_s != c->start.watchdog_s)
        w->watchdog_s = start->watchdog_s;
    if (start->fallback_da != c->start.fallback_da)
        w->fallback_da = start->fallback_da;
    if (start->fallback_action != c->start.fallback_action)
        w->fallback_action = start->fallback_action;
    if (start->fallback_phases != c->start.fallback_phases)
        w->fallback_phases = start->fallback_phases;
    c->start = *start;
}

enum err state_encode(const struct state_circuit *circuits, size_t count,
                      const struct state_clock *clock, char **ret, size_t *ret_len)
{
    cJSON *root = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(root, "circuits");
    char now[DIGITS_MAX + 1], wall[DIGITS_MAX + 1], *text = NULL;
    bool ok;

    print(now, clock->now_ms);
    print(wall, (uint64_t)clock->unix_ms);
    ok = list != NULL && cJSON_AddStringToObject(root, "boot", clock->boot_id) != NULL &&
         cJSON_AddStringToObject(root, "now_ms", now) != NULL &&
         cJSON_AddStringToObject(root, "unix_ms", wall) != NULL;
    for (size_t i = 0; ok && i < count; i++)
        ok = encode_circuit(list, &circuits[i], clock);
    if (ok)
        text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    if (text == NULL)
        return ERR_SYSTEM;
    *ret = text;
    *ret_len = strlen(text);
    return ERR_OK;
}

static bool decode_clock(const cJSON *root, struct state_clock *ret)
{
    const char *boot = text_of(root, "boot"), *end;
    uint64_t wall;

    if (strlen(boot) >= sizeof ret->boot_id)
        return false;
    memcpy(ret->boot_id, boot, strlen(boot) + 1);
    end = scan(text_of(root, "now_ms"), &ret->now_ms);
    if (end == NULL || *end != '\0' || ret->now_ms > INT64_MAX)
        return false;
    end = scan(text_of(root, "unix_ms"), &wall);
    if (end == NULL || *end != '\0')
        return false;
    ret->unix_ms = (int64_t)wall;
    return true;
}

enum err state_decode(const char *text, size_t len, const struct state_clock *clock,
                      struct state_circuit *ret, size_t count, bool *ret_trusted)
{
    cJSON *root = cJSON_ParseWithLengthOpts(text, len + 1, NULL, true);
    const cJSON *list = json_member(root, "circuits");
    struct shift s = {.now_ms = clock->now_ms};
    enum err err = ERR_PARSE;

    if (!cJSON_IsArray(list) || !decode_clock(root, &s.saved))
        goto out;
    s.trusted = state_elapsed(&s.saved, clock, &s.elapsed_ms);
    /* All are judged before the first is changed. */
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < count; i++) {
            struct state_circuit c = ret[i];
            const cJSON *item = find(list, &c);

            if (item != NULL && !decode_circuit(item, &s, &c))
                goto out;
            if (pass == 1)
                ret[i] = c;
        }
    }
    *ret_trusted = s.trusted;
    err = ERR_OK;
out:
    cJSON_Delete(root);
    return err;
}
