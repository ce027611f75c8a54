/* SPDX-License-Identifier: MIT */
#include "evecc/regmap.h"

#include "evecc/phase.h"
#include "evecc/telemetry.h"

#include <string.h>

/* The table as data. */

#define RANGE_BUT(low, high, hole_low, hole_high) \
    {                                             \
        low, high, hole_low, hole_high            \
    }
#define RANGE(low, high) RANGE_BUT(low, high, 1, 0)
#define ANY              RANGE(0, UINT32_MAX)

static const struct reg_row rows[] = {
#define REG(name, addr, type, words, access, unit, range, source, meaning) \
    {#name, unit, meaning, range, addr, words, REG_##type, REG_##access},
#include "evecc/registers.def"
#undef REG
};

#undef ANY
#undef RANGE
#undef RANGE_BUT

enum {
    ROWS = sizeof rows / sizeof rows[0],
    CONTROL_END = REGMAP_CONTROL + REGMAP_CONTROL_COUNT
};

/* An enumerator without a value is one more than the last: FREE_<name> is the first
 * address that the row before <name> leaves free, WINDOW_FREE the one after the last row.
 */
enum {
    WINDOW_BEFORE = REGMAP_FIRST - 1,
#define REG(name, addr, type, words, ...) FREE_##name, LAST_##name = addr + words - 1,
#include "evecc/registers.def"
#undef REG
    WINDOW_FREE
};
_Static_assert(WINDOW_FREE <= REGMAP_FIRST + REGMAP_COUNT,
               "a row ends outside the window");

#define WORDS(type) ((type) == REG_U64 ? 4 : (type) == REG_U32 ? 2 : 1)
#define REG(name, addr, type, words, access, ...)                                     \
    _Static_assert(addr >= FREE_##name, #name ": not ascending, or an overlap");      \
    _Static_assert(REG_##type == REG_TEXT || words == WORDS(REG_##type),              \
                   #name ": size");                                                   \
    _Static_assert(REG_##access == REG_RO || (addr >= REGMAP_CONTROL && words <= 2 && \
                                              addr + words <= CONTROL_END),           \
                   #name                                                              \
                   ": only the control block is written, 16 or 32 bits at a time");
#include "evecc/registers.def"
#undef REG
#undef WORDS

const struct reg_row *regmap_rows(size_t *ret_count)
{
    *ret_count = ROWS;
    return rows;
}

/* One number per row, scattered by multiplication. */
uint16_t regmap_layout_hash(void)
{
    uint32_t hash = 0;

#define REG(name, addr, type, words, access, ...)                                   \
    hash ^= ((uint32_t)addr << 16 | REG_##type << 12 | REG_##access << 8 | words) * \
            2654435761u;
#include "evecc/registers.def"
#undef REG
    return (uint16_t)(hash >> 16);
}

static unsigned row_end(const struct reg_row *row)
{
    return row->addr + row->words;
}

/* The first row that ends after ADDR, rows + ROWS when there is none. */
static const struct reg_row *row_from(unsigned addr)
{
    size_t low = 0, high = ROWS;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (row_end(&rows[middle]) > addr)
            high = middle;
        else
            low = middle + 1;
    }
    return rows + low;
}

const struct reg_row *regmap_row(uint16_t addr)
{
    const struct reg_row *row = row_from(addr);

    return row < rows + ROWS && row->addr <= addr ? row : NULL;
}

/* The control block. */

static uint16_t written16(const struct regmap *m, unsigned addr)
{
    return m->control[addr - REGMAP_CONTROL];
}

static uint32_t written32(const struct regmap *m, unsigned addr)
{
    return (uint32_t)written16(m, addr) << 16 | written16(m, addr + 1);
}

static void write16(struct regmap *m, unsigned addr, uint16_t v)
{
    m->control[addr - REGMAP_CONTROL] = v;
}

static void write32(struct regmap *m, unsigned addr, uint32_t v)
{
    write16(m, addr, (uint16_t)(v >> 16));
    write16(m, addr + 1, (uint16_t)v);
}

/* Everything in the wish that the control block says as it stands. */
static void read_control(struct regmap *m)
{
    struct want *w = &m->want;

    w->seq = written16(m, REG_SEQUENCE);
    w->enable = written16(m, REG_ENABLE) != 0;
    w->power_w = written32(m, REG_POWER_LIMIT);
    w->current_da = written16(m, REG_CURRENT_LIMIT);
    for (unsigned i = 0; i < PHASES; i++)
        w->phase_da[i] = written16(m, REG_CURRENT_LIMIT_L1 + i);
    w->phase_mode = (uint8_t)written16(m, REG_PHASE_MODE);
    w->validity_s = written16(m, REG_VALIDITY);
    w->watchdog_s = written16(m, REG_WATCHDOG);
    w->fallback_action = (uint8_t)written16(m, REG_FALLBACK_ACTION);
    w->fallback_da = written16(m, REG_FALLBACK_CURRENT);
    w->fallback_phases = (uint8_t)written16(m, REG_FALLBACK_PHASES);
    w->urgent = written16(m, REG_URGENT) != 0;
}

void regmap_init(struct regmap *m, const struct regmap_setup *setup)
{
    *m = (struct regmap){
        .setup = *setup, .want = {.accepted_at_ms = NEVER, .fed_at_ms = NEVER}
    };
    memset(m->image, 0xFF, sizeof m->image);
    write16(m, REG_ENABLE, 1);
    write32(m, REG_POWER_LIMIT, NA_U32);
    write16(m, REG_POWER_LIMIT_SHORT, NA_U16);
    write16(m, REG_CURRENT_LIMIT, NA_U16);
    for (unsigned i = 0; i < PHASES; i++)
        write16(m, REG_CURRENT_LIMIT_L1 + i, NA_U16);
    write16(m, REG_WATCHDOG, setup->watchdog_s);
    write16(m, REG_FALLBACK_ACTION, setup->fallback_action);
    write16(m, REG_FALLBACK_CURRENT, setup->fallback_da);
    write16(m, REG_FALLBACK_PHASES, setup->fallback_phases);
    read_control(m);
}

static uint16_t short_power(uint32_t power_w)
{
    return power_w == NA_U32 ? NA_U16 : power_w > 65534 ? 65534 : (uint16_t)power_w;
}

void regmap_restore(struct regmap *m, const struct want *w)
{
    write16(m, REG_SEQUENCE, w->seq);
    write16(m, REG_ENABLE, w->enable);
    write32(m, REG_POWER_LIMIT, w->power_w);
    write16(m, REG_POWER_LIMIT_SHORT, short_power(w->power_w));
    write16(m, REG_CURRENT_LIMIT, w->current_da);
    for (unsigned i = 0; i < PHASES; i++)
        write16(m, REG_CURRENT_LIMIT_L1 + i, w->phase_da[i]);
    write16(m, REG_PHASE_MODE, w->phase_mode);
    write16(m, REG_VALIDITY, w->validity_s);
    write16(m, REG_WATCHDOG, w->watchdog_s);
    write16(m, REG_FALLBACK_ACTION, w->fallback_action);
    write16(m, REG_FALLBACK_CURRENT, w->fallback_da);
    write16(m, REG_FALLBACK_PHASES, w->fallback_phases);
    write16(m, REG_URGENT, w->urgent);
    m->want = *w;
}

/* Writing. */

/* What REQ puts at ADDR, an address of the control block inside its span. */
static uint16_t new16(const struct regmap *m, const struct mbap_request *req,
                      unsigned addr)
{
    if (req->function == FC_MASK_WRITE) /* APP 6.16 */
        return (uint16_t)((written16(m, addr) & req->and_mask) |
                          (req->or_mask & ~req->and_mask));

    const size_t i = addr - req->write_addr;
    const uint8_t *v = req->values + 2 * i;
    return (uint16_t)(v[0] << 8 | v[1]);
}

/* COUNT registers from ADDR are inside the window. */
static bool inside(unsigned addr, unsigned count)
{
    return addr >= REGMAP_FIRST && addr + count <= REGMAP_FIRST + REGMAP_COUNT;
}

static bool legal(const struct reg_row *row, uint32_t v)
{
    const struct reg_range *range = &row->range;

    if (row->access == REG_RWN && v == (row->words == 2 ? NA_U32 : NA_U16))
        return true;
    return range->low <= v && v <= range->high &&
           !(range->hole_low <= v && v <= range->hole_high);
}

/* ROW is written whole by REQ, with a value it takes. */
static bool check_row(const struct regmap *m, const struct mbap_request *req,
                      const struct reg_row *row)
{
    if (row->addr < req->write_addr ||
        row_end(row) > (unsigned)req->write_addr + req->write_count)
        return false;

    uint32_t v = new16(m, req, row->addr);
    if (row->words == 2)
        v = v << 16 | new16(m, req, row->addr + 1u);
    return legal(row, v);
}

static enum modbus_exception check_write(const struct regmap *m,
                                         const struct mbap_request *req)
{
    const unsigned end = (unsigned)req->write_addr + req->write_count;
    enum modbus_exception answer = EX_NONE;

    for (const struct reg_row *row = row_from(req->write_addr);
         row < rows + ROWS && row->addr < end; row++) {
        if (row->access == REG_RO) /* comes before any value (APP 6, state diagrams) */
            return EX_ADDRESS;
        if (!check_row(m, req, row))
            answer = EX_VALUE;
    }
    return answer;
}

enum modbus_exception regmap_check(const struct regmap *m, const struct mbap_request *req)
{
    if (req->read_count > 0 && !inside(req->read_addr, req->read_count))
        return EX_ADDRESS;
    if (req->write_count == 0)
        return EX_NONE;
    if (!inside(req->write_addr, req->write_count))
        return EX_ADDRESS;
    return check_write(m, req);
}

/* REQ writes to some of FIRST to LAST. */
static bool touches(const struct mbap_request *req, unsigned first, unsigned last)
{
    return req->write_addr <= last &&
           first < (unsigned)req->write_addr + req->write_count;
}

/* 7202 and 7217 are one limit; 7202 counts when a frame carries both. */
static void mirror_power(struct regmap *m, const struct mbap_request *req)
{
    if (touches(req, REG_POWER_LIMIT, REG_POWER_LIMIT + 1)) {
        write16(m, REG_POWER_LIMIT_SHORT, short_power(written32(m, REG_POWER_LIMIT)));
    } else if (touches(req, REG_POWER_LIMIT_SHORT, REG_POWER_LIMIT_SHORT)) {
        uint16_t w = written16(m, REG_POWER_LIMIT_SHORT);
        write32(m, REG_POWER_LIMIT, w == NA_U16 ? NA_U32 : w);
    }
}

static void take_action(struct regmap *m)
{
    switch (written16(m, REG_ACTION)) {
    case 1:
        m->want.clears++;
        break;
    case 2:
        m->want.resends++;
        break;
    case 3:
        m->want.refreshes++;
        break;
    }
    write16(m, REG_ACTION, 0);
}

bool regmap_apply(struct regmap *m, const struct mbap_request *req, uint64_t now_ms)
{
    const unsigned first = req->write_addr, end = first + req->write_count;

    if (!touches(req, REGMAP_CONTROL, CONTROL_END - 1))
        return false;
    for (unsigned addr = first; addr < end; addr++)
        if (addr >= REGMAP_CONTROL && addr < CONTROL_END)
            write16(m, addr, new16(m, req, addr));
    mirror_power(m, req);
    take_action(m);
    read_control(m);
    m->want.fed_at_ms = now_ms;
    if (touches(req, REG_ENABLE, REG_PHASE_MODE) ||
        touches(req, REG_POWER_LIMIT_SHORT, REG_POWER_LIMIT_SHORT)) {
        m->want.id++;
        m->want.accepted_at_ms = now_ms;
    }
    return true;
}

/* Rendering: the sources of registers.def are made of these. */

static uint16_t saturated(uint64_t v)
{
    return v < 65534 ? (uint16_t)v : 65534;
}

static uint16_t age_s(uint64_t now_ms, uint64_t at_ms)
{
    if (at_ms == NEVER)
        return NA_U16;
    return at_ms < now_ms ? saturated((now_ms - at_ms) / 1000) : 0;
}

/* Rounded up: 0 only when nothing is left. */
static uint16_t left_s(uint64_t now_ms, uint64_t until_ms)
{
    if (until_ms == NEVER || until_ms <= now_ms)
        return 0;
    return saturated((until_ms - now_ms + 999) / 1000);
}

static uint16_t current_da(bool known, uint8_t amps)
{
    return known ? (uint16_t)(10 * amps) : NA_U16;
}

static uint16_t phases(bool known, struct amps amps)
{
    return known ? (uint16_t)phase_count(amps) : NA_U16;
}

/* A wish was accepted that the status does not speak of yet. */
static bool newer(const struct regmap *m, const struct progress *p)
{
    return m->want.id > p->wish_id;
}

static uint16_t stage(const struct regmap *m, const struct progress *p)
{
    return newer(m, p) ? STAGE_WAITING : p->stage;
}

enum { WATCHDOG_OFF = 0, WATCHDOG_ARMED = 1, WATCHDOG_TRIPPED = 2 };

static uint16_t watchdog_state(const struct regmap *m, const struct progress *p)
{
    if (m->want.id == 0 || m->want.watchdog_s == 0)
        return WATCHDOG_OFF;
    /* A new wish arms it again. */
    return newer(m, p) || p->tripped_at_ms == NEVER ? WATCHDOG_ARMED : WATCHDOG_TRIPPED;
}

static uint16_t watchdog_left_s(const struct regmap *m, const struct progress *p,
                                uint64_t now_ms)
{
    if (watchdog_state(m, p) != WATCHDOG_ARMED)
        return 0;
    return left_s(now_ms, m->want.fed_at_ms + m->want.watchdog_s * UINT64_C(1000));
}

static uint16_t validity_left_s(const struct regmap *m, uint64_t now_ms)
{
    if (m->want.id == 0)
        return 0;
    return left_s(now_ms, m->want.accepted_at_ms + m->want.validity_s * UINT64_C(1000));
}

static void put_U16(uint16_t *at, unsigned words, uint16_t v)
{
    (void)words;
    at[0] = v;
}

static void put_I16(uint16_t *at, unsigned words, int16_t v)
{
    put_U16(at, words, (uint16_t)v);
}

static void put_U32(uint16_t *at, unsigned words, uint32_t v)
{
    (void)words;
    at[0] = (uint16_t)(v >> 16);
    at[1] = (uint16_t)v;
}

static void put_U64(uint16_t *at, unsigned words, uint64_t v)
{
    put_U32(at, words, (uint32_t)(v >> 32));
    put_U32(at + 2, words, (uint32_t)v);
}

/* Two characters per register, the first in the high byte, filled up with zeros. */
static void put_TEXT(uint16_t *at, unsigned words, const char *text)
{
    for (unsigned i = 0; i < words; i++) {
        uint8_t high = (uint8_t)*text, low = high ? (uint8_t)text[1] : 0;
        at[i] = (uint16_t)(high << 8 | low);
        text += low ? 2 : high ? 1 : 0;
    }
}

void regmap_render(struct regmap *m, const struct regmap_facts *f)
{
    const struct telemetry *t = &f->status->telemetry;
    const struct progress *p = &f->status->progress;

    memset(m->image, 0xFF, sizeof m->image);
#define REG(name, addr, type, words, access, unit, range, source, meaning) \
    put_##type(&m->image[REG_##name - REGMAP_FIRST], words, source);
#include "evecc/registers.def"
#undef REG
}
