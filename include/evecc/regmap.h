/* SPDX-License-Identifier: MIT
 * regmap.h - the register map of one circuit: what a read shows, what a write means.
 *
 * Pure: no I/O, no clock, no allocation.  The map itself is registers.def.
 *
 * One image of REGMAP_COUNT registers serves functions 3 and 4.  The control block is
 * held as the client wrote it; everything else is rendered from facts.  A write is
 * checked whole, then applied whole, as one wish; or refused without any effect.
 *
 * Rules (registers.md, conventions)
 *   - an address without a row reads FFFFh and may be written without effect;
 *   - a read-only register in a written span: EX_ADDRESS; half a u32, or a value outside
 *     its row's range that is not "no opinion": EX_VALUE;
 *   - outside the window: EX_ADDRESS, also when only part of a span is outside;
 *   - writing 7202 (W, u32) or 7217 (W, u16) sets the power limit, the other mirrors it;
 *     when one frame carries both, 7202 counts;
 *   - function 22 is a write of (current AND and) OR (or AND NOT and). */
#ifndef EVECC_REGMAP_H
#define EVECC_REGMAP_H

#include "evecc/charger.h"
#include "evecc/mbap.h"

enum {
    REGMAP_FIRST = 7000,
    REGMAP_COUNT = 500,
    REGMAP_CONTROL = 7200,
    REGMAP_CONTROL_COUNT = 40,
    REGMAP_MAJOR = 1,
    REGMAP_MINOR = 1
};

/* REG_<name>: the address of each row. */
enum reg {
#define REG(name, addr, type, words, access, unit, range, source, meaning) \
    REG_##name = (addr),
#include "evecc/registers.def"
#undef REG
};

enum reg_type { REG_U16, REG_I16, REG_U32, REG_U64, REG_TEXT };
enum reg_access { REG_RO, REG_RW, REG_RWN }; /* RWN: also "no opinion" (all ones) */

/* Values a client may write: low to high, without hole_low to hole_high. */
struct reg_range {
    uint32_t low, high;
    uint32_t hole_low, hole_high; /* hole_low > hole_high: no hole */
};

/* One row of the table: for the documents, the command line tool and the tests. */
struct reg_row {
    const char *name; /* as in registers.def, e.g. "POWER_LIMIT" */
    const char *unit; /* "W", "0.1 A", "s", ""... */
    const char *meaning;
    struct reg_range range; /* of writable rows */
    uint16_t addr;
    uint8_t words;
    uint8_t type;   /* enum reg_type */
    uint8_t access; /* enum reg_access */
};

/* The table in ascending order of addresses; RET_COUNT rows.  Static storage. */
const struct reg_row *regmap_rows(size_t *ret_count);

/* The row that covers ADDR, NULL: none. */
const struct reg_row *regmap_row(uint16_t addr);

/* Register 7006: changes when address, type, words or access of any row change. */
uint16_t regmap_layout_hash(void);

/* What does not change while the gateway runs (7000-7059) and the start values of the
 * control block that come from the configuration. */
struct regmap_setup {
    uint16_t index, circuits; /* 7007 (from 1), 7008 */
    uint16_t profile;         /* 7009 */
    uint16_t min_current_da, max_current_da;
    uint16_t phases_wired, voltage_v;
    uint32_t capabilities; /* bits the configuration alone decides */
    char version[17];
    uint16_t watchdog_s, fallback_action, fallback_da, fallback_phases; /* 7210-7213 */
};

/* Counters of the Modbus side, kept by the server: part of 7400-7439. */
struct modbus_counts {
    uint32_t open, accepted, refused;
    uint32_t requests, exceptions, writes_accepted, writes_refused;
};

/* Everything a rendering needs. */
struct regmap_facts {
    const struct status *status;
    const struct cloud_counts *cloud;
    const struct modbus_counts *modbus;
    const char *owner; /* address in plain text; not looked at from owner_until_ms on */
    uint64_t owner_until_ms;
    uint64_t started_at_ms;
    uint64_t now_ms;
    uint64_t unix_s;
};

struct regmap {
    /* What a read answers; host byte order, high word first. */
    uint16_t image[REGMAP_COUNT];
    uint16_t control[REGMAP_CONTROL_COUNT]; /* as written */
    struct regmap_setup setup;
    struct want want;
};

/* A map without a wish, its control block at the start values.  Copies SETUP. */
void regmap_init(struct regmap *m, const struct regmap_setup *setup);

/* The control block says W again, the newest wish before a restart. */
void regmap_restore(struct regmap *m, const struct want *w);

/* Judges the addresses and values of REQ; nothing is changed. */
enum modbus_exception regmap_check(const struct regmap *m,
                                   const struct mbap_request *req);

/* Applies the write of REQ, which regmap_check() has passed, at NOW_MS.  Updates
 * m->control and m->want; returns true when m->want changed (also when only the watchdog
 * was fed).  A frame that touches 7201-7208 or 7217 makes a new wish (want.id + 1) even
 * when it repeats the values: the client has spoken.  7200 alone renames the newest. */
bool regmap_apply(struct regmap *m, const struct mbap_request *req, uint64_t now_ms);

/* Renders the whole image from the table. */
void regmap_render(struct regmap *m, const struct regmap_facts *f);

#endif
