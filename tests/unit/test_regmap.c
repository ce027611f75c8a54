/* SPDX-License-Identifier: MIT
 * The register map.  What it must be is written down here a second time, by hand, from
 * the binding map and not from registers.def.  C-nn and A-nn are the rules and attacks of
 * the reliability catalogue. */
#include "evecc/regmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t seed = 7006;

static uint32_t random32(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

/* The map by hand. */

enum { U16 = REG_U16, I16 = REG_I16, U32 = REG_U32, U64 = REG_U64, TEXT = REG_TEXT };
enum { RO = REG_RO, RW = REG_RW, RWN = REG_RWN };

struct expected {
    uint16_t addr;
    uint8_t type, words, access;
    uint32_t low, high, hole_low, hole_high; /* hole_high 0: no hole */
};

static const struct expected map[] = {
    {7000, U32,  2,  RO,  0, 0,          0, 0},
    {7002, U16,  1,  RO,  0, 0,          0, 0},
    {7003, U16,  1,  RO,  0, 0,          0, 0},
    {7004, U16,  1,  RO,  0, 0,          0, 0},
    {7005, U16,  1,  RO,  0, 0,          0, 0},
    {7006, U16,  1,  RO,  0, 0,          0, 0},
    {7007, U16,  1,  RO,  0, 0,          0, 0},
    {7008, U16,  1,  RO,  0, 0,          0, 0},
    {7009, U16,  1,  RO,  0, 0,          0, 0},
    {7010, U32,  2,  RO,  0, 0,          0, 0},
    {7012, U16,  1,  RO,  0, 0,          0, 0},
    {7013, U16,  1,  RO,  0, 0,          0, 0},
    {7014, U16,  1,  RO,  0, 0,          0, 0},
    {7015, U16,  1,  RO,  0, 0,          0, 0},
    {7016, U16,  1,  RO,  0, 0,          0, 0},
    {7020, TEXT, 8,  RO,  0, 0,          0, 0},
    {7028, TEXT, 8,  RO,  0, 0,          0, 0},
    {7036, TEXT, 8,  RO,  0, 0,          0, 0},
    {7044, TEXT, 8,  RO,  0, 0,          0, 0},
    {7052, TEXT, 8,  RO,  0, 0,          0, 0},

    {7100, U16,  1,  RO,  0, 0,          0, 0},
    {7102, U16,  1,  RO,  0, 0,          0, 0},
    {7103, U16,  1,  RO,  0, 0,          0, 0},
    {7104, U16,  1,  RO,  0, 0,          0, 0},
    {7105, U16,  1,  RO,  0, 0,          0, 0},
    {7106, U16,  1,  RO,  0, 0,          0, 0},
    {7107, U16,  1,  RO,  0, 0,          0, 0},
    {7108, U32,  2,  RO,  0, 0,          0, 0},
    {7110, U32,  2,  RO,  0, 0,          0, 0},
    {7112, U32,  2,  RO,  0, 0,          0, 0},
    {7114, U32,  2,  RO,  0, 0,          0, 0},
    {7116, U16,  1,  RO,  0, 0,          0, 0},
    {7117, U16,  1,  RO,  0, 0,          0, 0},
    {7118, U16,  1,  RO,  0, 0,          0, 0},
    {7119, I16,  1,  RO,  0, 0,          0, 0},
    {7120, U64,  4,  RO,  0, 0,          0, 0},
    {7124, U32,  2,  RO,  0, 0,          0, 0},
    {7126, U32,  2,  RO,  0, 0,          0, 0},
    {7128, U32,  2,  RO,  0, 0,          0, 0},
    {7130, U16,  1,  RO,  0, 0,          0, 0},
    {7131, U16,  1,  RO,  0, 0,          0, 0},
    {7132, U16,  1,  RO,  0, 0,          0, 0},
    {7133, U16,  1,  RO,  0, 0,          0, 0},
    {7134, U16,  1,  RO,  0, 0,          0, 0},
    {7135, U16,  1,  RO,  0, 0,          0, 0},
    {7136, U16,  1,  RO,  0, 0,          0, 0},
    {7137, U16,  1,  RO,  0, 0,          0, 0},

    {7200, U16,  1,  RW,  0, 65535,      0, 0},
    {7201, U16,  1,  RW,  0, 1,          0, 0},
    {7202, U32,  2,  RWN, 0, 4294967294, 0, 0},
    {7204, U16,  1,  RWN, 0, 65534,      0, 0},
    {7205, U16,  1,  RWN, 0, 65534,      0, 0},
    {7206, U16,  1,  RWN, 0, 65534,      0, 0},
    {7207, U16,  1,  RWN, 0, 65534,      0, 0},
    {7208, U16,  1,  RW,  0, 3,          2, 2},
    {7209, U16,  1,  RW,  0, 65534,      0, 0},
    {7210, U16,  1,  RW,  0, 65534,      1, 9},
    {7211, U16,  1,  RW,  0, 2,          0, 0},
    {7212, U16,  1,  RW,  0, 65534,      0, 0},
    {7213, U16,  1,  RW,  0, 3,          2, 2},
    {7214, U16,  1,  RW,  0, 65535,      0, 0},
    {7215, U16,  1,  RW,  0, 1,          0, 0},
    {7216, U16,  1,  RW,  0, 3,          0, 0},
    {7217, U16,  1,  RWN, 0, 65534,      0, 0},

    {7300, U16,  1,  RO,  0, 0,          0, 0},
    {7301, U16,  1,  RO,  0, 0,          0, 0},
    {7302, U16,  1,  RO,  0, 0,          0, 0},
    {7303, U16,  1,  RO,  0, 0,          0, 0},
    {7304, U16,  1,  RO,  0, 0,          0, 0},
    {7305, U16,  1,  RO,  0, 0,          0, 0},
    {7306, U16,  1,  RO,  0, 0,          0, 0},
    {7307, U16,  1,  RO,  0, 0,          0, 0},
    {7308, U16,  1,  RO,  0, 0,          0, 0},
    {7309, U16,  1,  RO,  0, 0,          0, 0},
    {7310, U16,  1,  RO,  0, 0,          0, 0},
    {7311, U16,  1,  RO,  0, 0,          0, 0},
    {7312, U16,  1,  RO,  0, 0,          0, 0},
    {7313, U16,  1,  RO,  0, 0,          0, 0},
    {7314, U16,  1,  RO,  0, 0,          0, 0},
    {7315, U16,  1,  RO,  0, 0,          0, 0},
    {7316, U16,  1,  RO,  0, 0,          0, 0},
    {7317, U16,  1,  RO,  0, 0,          0, 0},
    {7318, U16,  1,  RO,  0, 0,          0, 0},
    {7319, U16,  1,  RO,  0, 0,          0, 0},
    {7320, U16,  1,  RO,  0, 0,          0, 0},
    {7321, U16,  1,  RO,  0, 0,          0, 0},
    {7322, U16,  1,  RO,  0, 0,          0, 0},
    {7323, U16,  1,  RO,  0, 0,          0, 0},
    {7324, U16,  1,  RO,  0, 0,          0, 0},
    {7325, U16,  1,  RO,  0, 0,          0, 0},
    {7326, U16,  1,  RO,  0, 0,          0, 0},
    {7327, U16,  1,  RO,  0, 0,          0, 0},
    {7328, U16,  1,  RO,  0, 0,          0, 0},
    {7329, U16,  1,  RO,  0, 0,          0, 0},
    {7330, U16,  1,  RO,  0, 0,          0, 0},
    {7331, U16,  1,  RO,  0, 0,          0, 0},
    {7332, U16,  1,  RO,  0, 0,          0, 0},
    {7333, U16,  1,  RO,  0, 0,          0, 0},
    {7334, U16,  1,  RO,  0, 0,          0, 0},
    {7335, U16,  1,  RO,  0, 0,          0, 0},
    {7336, U16,  1,  RO,  0, 0,          0, 0},
    {7337, U16,  1,  RO,  0, 0,          0, 0},
    {7338, U16,  1,  RO,  0, 0,          0, 0},
    {7340, TEXT, 20, RO,  0, 0,          0, 0},

    {7400, U32,  2,  RO,  0, 0,          0, 0},
    {7402, U32,  2,  RO,  0, 0,          0, 0},
    {7404, U32,  2,  RO,  0, 0,          0, 0},
    {7406, U32,  2,  RO,  0, 0,          0, 0},
    {7408, U32,  2,  RO,  0, 0,          0, 0},
    {7410, U32,  2,  RO,  0, 0,          0, 0},
    {7412, U32,  2,  RO,  0, 0,          0, 0},
    {7414, U32,  2,  RO,  0, 0,          0, 0},
    {7416, U32,  2,  RO,  0, 0,          0, 0},
    {7418, U32,  2,  RO,  0, 0,          0, 0},
    {7420, U32,  2,  RO,  0, 0,          0, 0},
    {7422, U32,  2,  RO,  0, 0,          0, 0},
    {7424, U32,  2,  RO,  0, 0,          0, 0},
    {7426, U32,  2,  RO,  0, 0,          0, 0},
    {7428, U32,  2,  RO,  0, 0,          0, 0},
    {7430, U32,  2,  RO,  0, 0,          0, 0},
    {7432, U32,  2,  RO,  0, 0,          0, 0},
    {7434, U32,  2,  RO,  0, 0,          0, 0},
    {7436, U32,  2,  RO,  0, 0,          0, 0},
    {7438, U32,  2,  RO,  0, 0,          0, 0},
    {7440, TEXT, 20, RO,  0, 0,          0, 0},
};

enum { MAP_ROWS = sizeof map / sizeof map[0] };

static const struct expected *expected_at(unsigned addr)
{
    for (size_t i = 0; i < MAP_ROWS; i++)
        if (map[i].addr <= addr && addr < map[i].addr + (unsigned)map[i].words)
            return &map[i];
    return NULL;
}

static bool expected_legal(const struct expected *e, uint32_t v)
{
    if (e->access == RWN && v == (e->words == 2 ? 0xFFFFFFFF : 0xFFFF))
        return true;
    if (e->hole_high != 0 && v >= e->hole_low && v <= e->hole_high)
        return false;
    return v >= e->low && v <= e->high;
}

/* Requests, maps and facts. */

struct write {
    struct mbap_request req;
    uint8_t bytes[2 * 125];
};

static void write_words(struct write *w, unsigned addr, const uint16_t *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        w->bytes[2 * i] = (uint8_t)(v[i] >> 8);
        w->bytes[2 * i + 1] = (uint8_t)v[i];
    }
    w->req = (struct mbap_request){.function = FC_WRITE_MULTIPLE,
                                   .write_addr = (uint16_t)addr,
                                   .write_count = (uint16_t)n,
                                   .values = w->bytes};
}

static struct mbap_request mask_write(unsigned addr, uint16_t and_mask, uint16_t or_mask)
{
    return (struct mbap_request){.function = FC_MASK_WRITE,
                                 .write_addr = (uint16_t)addr,
                                 .write_count = 1,
                                 .and_mask = and_mask,
                                 .or_mask = or_mask};
}

/* Checks and, when that is legal, applies. */
static enum modbus_exception put(struct regmap *m, unsigned addr, const uint16_t *v,
                                 size_t n, uint64_t now_ms)
{
    struct write w;

    write_words(&w, addr, v, n);
    enum modbus_exception answer = regmap_check(m, &w.req);
    if (answer == EX_NONE)
        regmap_apply(m, &w.req, now_ms);
    return answer;
}

static enum modbus_exception put16(struct regmap *m, unsigned addr, unsigned v,
                                   uint64_t now_ms)
{
    const uint16_t value = (uint16_t)v;

    return put(m, addr, &value, 1, now_ms);
}

static enum modbus_exception put32(struct regmap *m, unsigned addr, uint32_t v,
                                   uint64_t now_ms)
{
    const uint16_t values[] = {(uint16_t)(v >> 16), (uint16_t)v};

    return put(m, addr, values, 2, now_ms);
}

static enum modbus_exception mask(struct regmap *m, unsigned addr, uint16_t and_mask,
                                  uint16_t or_mask)
{
    struct mbap_request req = mask_write(addr, and_mask, or_mask);
    enum modbus_exception answer = regmap_check(m, &req);

    if (answer == EX_NONE)
        regmap_apply(m, &req, 0);
    return answer;
}

static const struct regmap_setup setup = {.index = 2,
                                          .circuits = 5,
                                          .profile = 0,
                                          .min_current_da = 60,
                                          .max_current_da = 160,
                                          .phases_wired = 3,
                                          .voltage_v = 230,
                                          .capabilities = 0x13,
                                          .version = "1.2.3",
                                          .watchdog_s = 60,
                                          .fallback_action = 2,
                                          .fallback_da = 80,
                                          .fallback_phases = 1};

static struct status status;
static struct cloud_counts cloud;
static struct modbus_counts modbus;
static struct regmap_facts facts;

/* Nothing is known. */
static void forget(void)
{
    struct telemetry *t = &status.telemetry;
    struct progress *p = &status.progress;

    memset(t, 0xFF, sizeof *t); /* NEVER, NA_U16, NA_U32, NA_U64 */
    t->temperature_dc = NA_I16;
    t->model[0] = t->serial[0] = t->firmware[0] = '\0';
    *p = (struct progress){
        .sent_at_ms = NEVER,
        .confirmed_at_ms = NEVER,
        .tripped_at_ms = NEVER,
        .dwell_until_ms = NEVER,
        .next_call_at_ms = NEVER,
        .backoff_until_ms = NEVER,
        .requested_da = {NA_U16, NA_U16, NA_U16},
        .requested_phases = NA_U16,
        .round_trip_ms = NA_U16
    };
    status.faults = status.capabilities = 0;
    status.connection = CONNECTION_NONE;
    cloud = (struct cloud_counts){0};
    modbus = (struct modbus_counts){0};
    facts = (struct regmap_facts){.status = &status, .cloud = &cloud, .modbus = &modbus};
}

static void fresh(struct regmap *m)
{
    forget();
    regmap_init(m, &setup);
}

static unsigned get16(struct regmap *m, unsigned addr)
{
    regmap_render(m, &facts);
    return m->image[addr - 7000];
}

static uint32_t get32(struct regmap *m, unsigned addr)
{
    return (uint32_t)get16(m, addr) << 16 | get16(m, addr + 1);
}

static void assert_text(struct regmap *m, unsigned addr, unsigned words, const char *text)
{
    char read[64] = "";

    for (unsigned i = 0; i < words; i++) {
        unsigned v = get16(m, addr + i);
        read[2 * i] = (char)(v >> 8);
        read[2 * i + 1] = (char)v;
    }
    assert_string_equal(read, text);
    for (size_t i = strlen(text); i < 2 * words; i++)
        assert_int_equal(read[i], 0);
}

/* The table. */

static void table_is_the_map(void **state)
{
    size_t count;
    const struct reg_row *rows = regmap_rows(&count);

    (void)state;
    for (size_t i = 0; i < MAP_ROWS && i < count; i++) {
        const struct expected *e = &map[i];
        if (rows[i].addr != e->addr || rows[i].type != e->type ||
            rows[i].words != e->words || rows[i].access != e->access)
            fail_msg("row %zu, %s at %u: expected %u", i, rows[i].name, rows[i].addr,
                     e->addr);
        assert_true(rows[i].name[0] != '\0' && rows[i].meaning[0] != '\0');
    }
    assert_int_equal(count, MAP_ROWS);
}

static void row_of_every_address(void **state)
{
    (void)state;
    for (unsigned addr = 0; addr <= 0xFFFF; addr++) {
        const struct reg_row *row = regmap_row((uint16_t)addr);
        const struct expected *e = expected_at(addr);

        assert_int_equal(row != NULL, e != NULL);
        if (e != NULL)
            assert_int_equal(row->addr, e->addr);
    }
}

/* The hash belongs to map version 1.1: if this fails the map changed, and so must its
 * version. */
static void layout_hash(void **state)
{
    struct regmap m;

    (void)state;
    fresh(&m);
    assert_int_equal(REGMAP_MAJOR, 1);
    assert_int_equal(REGMAP_MINOR, 1);
    assert_int_equal(regmap_layout_hash(), 0xB457);
    assert_int_equal(get16(&m, 7006), 0xB457);
}

/* Reading. */

/* C-22, C-37, A-34: the window is read whole, nothing outside of it. */
static void read_addresses(void **state)
{
    struct regmap m;

    (void)state;
    fresh(&m);
    for (unsigned addr = 0; addr <= 0xFFFF; addr++)
        for (unsigned count = 1; count <= 125; count += addr % 1000 < 5 ? 1 : 31) {
            const struct mbap_request req = {.function = FC_READ_HOLDING,
                                             .read_addr = (uint16_t)addr,
                                             .read_count = (uint16_t)count};
            bool inside = addr >= 7000 && addr + count - 1 <= 7499;
            assert_int_equal(regmap_check(&m, &req), inside ? EX_NONE : EX_ADDRESS);
        }
    const struct {
        unsigned addr, count;
        enum modbus_exception answer;
    } edges[] = {
        {7000,  125, EX_NONE   },
        {7375,  125, EX_NONE   },
        {7376,  125, EX_ADDRESS},
        {6999,  1,   EX_ADDRESS},
        {6999,  2,   EX_ADDRESS},
        {7499,  1,   EX_NONE   },
        {7499,  2,   EX_ADDRESS},
        {7500,  1,   EX_ADDRESS},
        {65535, 1,   EX_ADDRESS},
        {65535, 2,   EX_ADDRESS},
        {65411, 125, EX_ADDRESS},
        {65412, 125, EX_ADDRESS}
    };
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        const struct mbap_request req = {.function = FC_READ_INPUT,
                                         .read_addr = (uint16_t)edges[i].addr,
                                         .read_count = (uint16_t)edges[i].count};
        assert_int_equal(regmap_check(&m, &req), edges[i].answer);
    }
}

static const uint16_t known_from_the_start[] = {
    7000, 7002, 7003, 7004, 7005, 7006, 7007, 7008, 7009, 7010, 7012, 7013, 7014,
    7015, 7016, 7020, 7052, 7128, 7130, 7300, 7301, 7302, 7303, 7304, 7322, 7326,
    7327, 7328, 7329, 7330, 7331, 7332, 7333, 7334, 7335, 7337, 7338};

static bool is_known_from_the_start(unsigned addr)
{
    for (size_t i = 0; i < sizeof known_from_the_start / sizeof known_from_the_start[0];
         i++)
        if (known_from_the_start[i] == addr)
            return true;
    return addr >= 7400;
}

/* 0 is a measured zero: what is not known reads as not available, and so do the gaps. */
static void unknown_is_not_available(void **state)
{
    struct regmap m;

    (void)state;
    fresh(&m);
    regmap_render(&m, &facts);
    for (unsigned addr = 7000; addr < 7500; addr++) {
        const struct expected *e = expected_at(addr);
        unsigned v = m.image[addr - 7000];

        if (e == NULL)
            assert_int_equal(v, 0xFFFF);
        else if (e->access == RO && !is_known_from_the_start(e->addr)) {
            unsigned na = e->type == TEXT ? 0 : e->type == I16 ? 0x8000 : 0xFFFF;
            if (v != na)
                fail_msg("%u reads %04X", addr, v);
        }
    }
}

static void measured_zero_is_zero(void **state)
{
    struct regmap m;

    (void)state;
    fresh(&m);
    memset(&status, 0, sizeof status);
    status.progress.target_known = status.progress.sent_known = true;
    status.progress.confirmed_known = true;
    regmap_render(&m, &facts);
    for (unsigned addr = 7102; addr <= 7137; addr++)
        assert_int_equal(m.image[addr - 7000], 0);
    for (unsigned addr = 7302; addr <= 7322; addr++)
        assert_int_equal(m.image[addr - 7000], 0);
}

static void identity(void **state)
{
    struct regmap m;

    (void)state;
    fresh(&m);
    status.capabilities = 0x64;
    strcpy(status.telemetry.model, "Easee Home");
    strcpy(status.telemetry.serial, "EH12345");
    strcpy(status.telemetry.firmware, "0123456789ABCDEF"); /* all 16 */
    assert_int_equal(get32(&m, 7000), 0x45564757);
    assert_int_equal(get16(&m, 7002), 7000);
    assert_int_equal(get16(&m, 7003), 500);
    assert_int_equal(get16(&m, 7004), 1);
    assert_int_equal(get16(&m, 7005), 1);
    assert_int_equal(get16(&m, 7007), 2);
    assert_int_equal(get16(&m, 7008), 5);
    assert_int_equal(get16(&m, 7009), 0);
    assert_int_equal(get32(&m, 7010), 0x77);
    assert_int_equal(get16(&m, 7012), 60);
    assert_int_equal(get16(&m, 7013), 160);
    assert_int_equal(get16(&m, 7014), 10);
    assert_int_equal(get16(&m, 7015), 3);
    assert_int_equal(get16(&m, 7016), 230);
    assert_text(&m, 7020, 8, "Easee");
    assert_text(&m, 7028, 8, "Easee Home");
    assert_text(&m, 7036, 8, "EH12345");
    assert_text(&m, 7044, 8, "0123456789ABCDEF");
    assert_text(&m, 7052, 8, "1.2.3");
}

/* C-36: every value at its address, high word first. */
static void telemetry(void **state)
{
    struct regmap m;

    (void)state;
    fresh(&m);
    facts.now_ms = 1000000;
    status.telemetry = (struct telemetry){
        .power_at_ms = 999001,
        .state_at_ms = 998000,
        .limits_at_ms = 997000,
        .energy_wh = 0x0102030405060708,
        .session_wh = 0x11121314,
        .session_s = 0x21222324,
        .power_w = 0x31323334,
        .current_ma = {0x41424344, 0x51525354, 0x61626364},
        .voltage_dv = {2301,       2302,       2303      },
        .op_mode = 3,
        .no_current_reason = 52,
        .phases_in_use = 2,
        .phase_bits = 5,
        .vehicle = 1,
        .authorisation = 2,
        .online = 1,
        .effective_da = 155,
        .cars_connected = 4,
        .cars_charging = 3,
        .updates = 777,
        .temperature_dc = -123
    };
    status.faults = 0x0000FEDC;
    status.connection = CONNECTION_STREAMING;
    assert_in_range(get16(&m, 7100), 'A', 'F');
    assert_int_equal(get16(&m, 7101), 0xFFFF);
    assert_int_equal(get16(&m, 7102), 3);
    assert_int_equal(get16(&m, 7103), 52);
    assert_int_equal(get16(&m, 7104), 2);
    assert_int_equal(get16(&m, 7105), 5);
    assert_int_equal(get16(&m, 7106), 1);
    assert_int_equal(get16(&m, 7107), 2);
    assert_int_equal(get16(&m, 7108), 0x3132);
    assert_int_equal(get16(&m, 7109), 0x3334);
    assert_int_equal(get32(&m, 7110), 0x41424344);
    assert_int_equal(get32(&m, 7112), 0x51525354);
    assert_int_equal(get32(&m, 7114), 0x61626364);
    assert_int_equal(get16(&m, 7116), 2301);
    assert_int_equal(get16(&m, 7117), 2302);
    assert_int_equal(get16(&m, 7118), 2303);
    assert_int_equal(get16(&m, 7119), 0x10000 - 123);
    assert_int_equal(get32(&m, 7120), 0x01020304);
    assert_int_equal(get32(&m, 7122), 0x05060708);
    assert_int_equal(get32(&m, 7124), 0x11121314);
    assert_int_equal(get32(&m, 7126), 0x21222324);
    assert_int_equal(get32(&m, 7128), 0xFEDC);
    assert_int_equal(get16(&m, 7130), 3);
    assert_int_equal(get16(&m, 7131), 1);
    assert_int_equal(get16(&m, 7132), 0); /* 999 ms old */
    assert_int_equal(get16(&m, 7133), 2);
    assert_int_equal(get16(&m, 7134), 3);
    assert_int_equal(get16(&m, 7135), 777);
    assert_int_equal(get16(&m, 7136), 4);
    assert_int_equal(get16(&m, 7137), 3);
    assert_int_equal(get16(&m, 7321), 155);
}

static void acknowledgement(void **state)
{
    struct regmap m;

    (void)state;
    fresh(&m);
    facts.now_ms = 1000000;
    status.progress = (struct progress){
        .sent_at_ms = 990000,
        .confirmed_at_ms = 980000,
        .tripped_at_ms = NEVER,
        .dwell_until_ms = 1000001,
        .next_call_at_ms = 1002000,
        .backoff_until_ms = 1003500,
        .requested_da = {107,          106, 105},
        .requested_phases = 3,
        .target = {{10, 11, 12}        },
        .sent = {{13, 0, 0}},
        .confirmed = {{0, 0, 0}  },
        .target_known = true,
        .sent_known = true,
        .confirmed_known = true,
        .pending = true,
        .stage = STAGE_EFFECTIVE,
        .binding = BINDING_CABLE,
        .seq = 99,
        .confirmed_seq = 42,
        .result = 35,
        .http_status = 429,
        .calls_left = 7,
        .calls_window_s = 60,
        .round_trip_ms = 1234,
        .phase_switches_24h = 9
    };
    static const struct {
        unsigned addr, value;
    } expected[] = {
        {7301, 5   },
        {7302, 42  },
        {7303, 35  },
        {7304, 429 },
        {7305, 107 },
        {7306, 106 },
        {7307, 105 },
        {7308, 3   },
        {7309, 100 },
        {7310, 110 },
        {7311, 120 },
        {7312, 3   },
        {7313, 130 },
        {7314, 0   },
        {7315, 0   },
        {7316, 1   },
        {7317, 0   },
        {7318, 0   },
        {7319, 0   },
        {7320, 0   },
        {7322, 16  },
        {7324, 10  },
        {7325, 20  },
        {7330, 1   },
        {7331, 2   },
        {7332, 7   },
        {7333, 60  },
        {7334, 4   },
        {7335, 1   },
        {7336, 1234},
        {7337, 9   }
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        if (get16(&m, expected[i].addr) != expected[i].value)
            fail_msg("%u reads %u", expected[i].addr, get16(&m, expected[i].addr));
}

static void owner(void **state)
{
    struct regmap m;

    (void)state;
    fresh(&m);
    facts.now_ms = 5000;
    facts.owner = "2001:db8:1111:2222:3333:4444:5555:6666";
    facts.owner_until_ms = 6001;
    assert_int_equal(get16(&m, 7338), 2);
    assert_text(&m, 7340, 20, "2001:db8:1111:2222:3333:4444:5555:6666");
    facts.now_ms = 6001;
    assert_int_equal(get16(&m, 7338), 0);
    assert_text(&m, 7340, 20, "");
}

/* The order is the documented one; counters wrap by themselves. */
static void diagnostics(void **state)
{
    struct regmap m;

    (void)state;
    fresh(&m);
    facts.started_at_ms = 5000;
    facts.now_ms = 5000 + 0xFFFFFFFFull * 1000 + 3999; /* 136 years later it wraps */
    facts.unix_s = 0x100000007;
    modbus = (struct modbus_counts){.open = 103,
                                    .accepted = 104,
                                    .refused = 105,
                                    .requests = 106,
                                    .exceptions = 107,
                                    .writes_accepted = 108,
                                    .writes_refused = 109};
    cloud = (struct cloud_counts){.watchdog_trips = 110,
                                  .calls = 111,
                                  .errors = 112,
                                  .throttled = 113,
                                  .forbidden = 114,
                                  .logins = 115,
                                  .refreshes = 116,
                                  .stream_connects = 117,
                                  .foreign_commands = 118,
                                  .reasserts = 119,
                                  .telemetry_gaps = 0x12345678};
    strcpy(cloud.last_error, "0123456789012345678901234567890123456789");
    assert_int_equal(get32(&m, 7400), 2);
    assert_int_equal(get32(&m, 7402), 7);
    for (unsigned i = 2; i < 19; i++)
        assert_int_equal(get32(&m, 7400 + 2 * i), 101 + i);
    assert_int_equal(get32(&m, 7438), 0x12345678);
    assert_text(&m, 7440, 20, "0123456789012345678901234567890123456789");
    strcpy(cloud.last_error, "odd");
    assert_text(&m, 7440, 20, "odd");
    strcpy(cloud.last_error, "");
    assert_text(&m, 7440, 20, "");
}

/* Ages end at 65534, remaining times are rounded up. */
static void ages_and_remaining_times(void **state)
{
    static const struct {
        uint64_t now_ms, at_ms;
        unsigned age, left;
    } cases[] = {
        {5000,           NEVER,    65535, 0    },
        {5000,           5000,     0,     0    },
        {5000,           4001,     0,     0    },
        {5000,           4000,     1,     0    },
        {5000,           5001,     0,     1    },
        {5000,           6000,     0,     1    },
        {5000,           6001,     0,     2    },
        {65533999,       0,        65533, 0    },
        {65534000,       0,        65534, 0    },
        {65536000,       0,        65534, 0    },
        {UINT64_MAX - 1, 0,        65534, 0    },
        {0,              65534000, 0,     65534},
        {0,              99999999, 0,     65534}
    };
    struct regmap m;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fresh(&m);
        facts.now_ms = cases[i].now_ms;
        status.telemetry.power_at_ms = cases[i].at_ms;
        status.progress.backoff_until_ms = cases[i].at_ms;
        assert_int_equal(get16(&m, 7132), cases[i].age);
        assert_int_equal(get16(&m, 7334), cases[i].left);
    }
}

/* Writing. */

static void start_values(void **state)
{
    static const uint16_t start[] = {0,      1,      0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF,
                                     0xFFFF, 0xFFFF, 0,      0,      60,     2,
                                     80,     1,      0,      0,      0,      0xFFFF};
    struct regmap m;

    (void)state;
    fresh(&m);
    for (unsigned i = 0; i < 18; i++)
        assert_int_equal(get16(&m, 7200 + i), start[i]);
    for (unsigned i = 18; i < 40; i++)
        assert_int_equal(get16(&m, 7200 + i), 0xFFFF);
    assert_int_equal(m.want.id, 0);
    assert_true(m.want.accepted_at_ms == NEVER && m.want.fed_at_ms == NEVER);
    assert_true(m.want.enable);
    assert_int_equal(m.want.power_w, NA_U32);
    assert_int_equal(m.want.current_da, NA_U16);
    assert_int_equal(m.want.phase_da[2], NA_U16);
    assert_int_equal(m.want.watchdog_s, 60);
    assert_int_equal(m.want.fallback_action, FALLBACK_LIMIT);
    assert_int_equal(m.want.fallback_da, 80);
    assert_int_equal(m.want.fallback_phases, 1);
}

/* C-24, C-37, A-44: one register at every address. */
static void write_addresses(void **state)
{
    (void)state;
    for (unsigned addr = 0; addr <= 0xFFFF; addr++) {
        const struct expected *e = expected_at(addr);
        enum modbus_exception expected = EX_ADDRESS;
        struct regmap m, before;

        fresh(&m);
        before = m;
        if (addr >= 7000 && addr <= 7499 && (e == NULL || e->access != RO))
            expected = e != NULL && e->words == 2 ? EX_VALUE : EX_NONE;
        assert_int_equal(put16(&m, addr, 0, 1234), expected);
        if (addr < 7200 || addr > 7239 || expected != EX_NONE)
            assert_memory_equal(&m, &before, sizeof m);
        else
            assert_int_equal(m.want.fed_at_ms, 1234);
    }
}

/* C-34, A-43: every value of every control register. */
static void write_values(void **state)
{
    struct regmap m;

    (void)state;
    fresh(&m);
    for (unsigned addr = 7200; addr <= 7217; addr++) {
        const struct expected *e = expected_at(addr);
        if (e->words == 2)
            continue;
        for (unsigned v = 0; v <= 0xFFFF; v++) {
            struct write w;
            const uint16_t word = (uint16_t)v;

            write_words(&w, addr, &word, 1);
            w.req.function = FC_WRITE_SINGLE;
            if (regmap_check(&m, &w.req) != (expected_legal(e, v) ? EX_NONE : EX_VALUE))
                fail_msg("%u = %u", addr, v);
        }
    }
    const uint32_t watts[] = {0, 1, 7400, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF};
    for (size_t i = 0; i < sizeof watts / sizeof watts[0]; i++) {
        assert_int_equal(put32(&m, 7202, watts[i], 0), EX_NONE);
        assert_int_equal(m.want.power_w, watts[i]);
        assert_int_equal(get32(&m, 7202), watts[i]);
    }
}

/* C-33: half a u32 is refused, however the frame is cut. */
static void half_a_u32(void **state)
{
    static const uint16_t zeros[20];
    static const struct {
        unsigned addr, count;
        enum modbus_exception answer;
    } cases[] = {
        {7202, 1,  EX_VALUE},
        {7203, 1,  EX_VALUE},
        {7200, 3,  EX_VALUE},
        {7203, 5,  EX_VALUE},
        {7202, 2,  EX_NONE },
        {7201, 3,  EX_NONE },
        {7202, 3,  EX_NONE },
        {7200, 4,  EX_NONE },
        {7200, 18, EX_NONE }
    };
    struct regmap m, before;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fresh(&m);
        before = m;
        assert_int_equal(put(&m, cases[i].addr, zeros, cases[i].count, 0),
                         cases[i].answer);
        if (cases[i].answer != EX_NONE)
            assert_memory_equal(&m, &before, sizeof m);
    }
    fresh(&m);
    assert_int_equal(mask(&m, 7202, 0xFFFF, 0), EX_VALUE);
    assert_int_equal(mask(&m, 7203, 0xFFFF, 0), EX_VALUE);
}

/* C-31: address before value, in spans of both kinds of mistake. */
static void address_before_value(void **state)
{
    uint16_t words[123];
    struct regmap m, before;

    (void)state;
    fresh(&m);
    before = m;
    memset(words, 0xFF, sizeof words);
    assert_int_equal(put(&m, 7201, words, 39, 0), EX_VALUE);    /* 7201 is not 0 or 1 */
    assert_int_equal(put(&m, 7201, words, 123, 0), EX_ADDRESS); /* and reaches 7300 */
    assert_int_equal(put(&m, 7137, words, 65, 0), EX_ADDRESS);  /* begins read-only */
    assert_int_equal(put(&m, 7203, words, 98, 0), EX_ADDRESS);  /* half a u32 and 7300 */
    assert_int_equal(put(&m, 7000, words, 1, 0), EX_ADDRESS);   /* half a read-only u32 */
    assert_int_equal(put(&m, 7490, words, 11, 0), EX_ADDRESS);  /* leaves the window */
    assert_int_equal(put(&m, 65535, words, 1, 0), EX_ADDRESS);
    assert_int_equal(put(&m, 65535, words, 2, 0), EX_ADDRESS); /* */
    assert_memory_equal(&m, &before, sizeof m);

    /* C-28: both ranges of function 23 before the value, and nothing is written */
    struct write w;
    const uint16_t bad = 2;
    write_words(&w, 7201, &bad, 1);
    w.req.function = FC_READ_WRITE;
    w.req.read_addr = 7499;
    w.req.read_count = 2;
    assert_int_equal(regmap_check(&m, &w.req), EX_ADDRESS);
    w.req.read_count = 1;
    assert_int_equal(regmap_check(&m, &w.req), EX_VALUE);
    w.req.write_addr = 7300;
    assert_int_equal(regmap_check(&m, &w.req), EX_ADDRESS);
}

/* C-27: the example of APP 6.16, on a register that takes anything. */
static void mask_writes(void **state)
{
    struct regmap m, before;

    (void)state;
    fresh(&m);
    assert_int_equal(put16(&m, 7214, 0x12, 0), EX_NONE);
    assert_int_equal(mask(&m, 7214, 0xF2, 0x25), EX_NONE);
    assert_int_equal(get16(&m, 7214), 0x17);
    for (unsigned i = 0; i < 10000; i++) {
        uint16_t old = (uint16_t)random32(), and_mask = (uint16_t)random32();
        uint16_t or_mask = (uint16_t)random32();
        assert_int_equal(put16(&m, 7200, old, 0), EX_NONE);
        assert_int_equal(mask(&m, 7200, and_mask, or_mask), EX_NONE);
        assert_int_equal(m.want.seq, (old & and_mask) | (or_mask & ~and_mask & 0xFFFF));
    }

    before = m;
    assert_int_equal(mask(&m, 7201, 0xFFFF, 0xFFFF),
                     EX_NONE); /* changes nothing: legal */
    assert_int_equal(mask(&m, 7201, 0xFFFD, 0x0002), EX_VALUE); /* would be 3 */
    assert_int_equal(mask(&m, 7201, 0xFFFE, 0x0000), EX_NONE);
    assert_false(m.want.enable);
    assert_int_equal(m.want.id, before.want.id + 2);
    assert_int_equal(mask(&m, 7300, 0, 0), EX_ADDRESS);
    assert_int_equal(mask(&m, 6999, 0, 0), EX_ADDRESS);
    assert_int_equal(mask(&m, 7101, 0, 0), EX_NONE); /* reserved */
    assert_int_equal(mask(&m, 7216, 0xFFFE, 1), EX_NONE);
    assert_int_equal(m.want.clears, 1);
}

/* Wishes. */

static void what_makes_a_wish(void **state)
{
    (void)state;
    for (unsigned addr = 7200; addr <= 7239; addr++) {
        bool wish = (addr >= 7201 && addr <= 7208) || addr == 7217;
        struct regmap m;
        enum modbus_exception answer;

        fresh(&m);
        if (addr == 7202 || addr == 7203)
            answer = put32(&m, 7202, 7400, 500);
        else
            answer = put16(&m, addr, 0, 500);
        assert_int_equal(answer, EX_NONE);
        assert_int_equal(m.want.id, wish ? 1 : 0);
        assert_int_equal(m.want.accepted_at_ms == 500, wish);
        assert_int_equal(m.want.fed_at_ms, 500);
        /* the same again: the client has spoken again */
        assert_int_equal(put16(&m, addr == 7202 || addr == 7203 ? 7204 : addr, 0, 600),
                         EX_NONE);
        assert_int_equal(m.want.id, wish ? 2 : 0);
        assert_int_equal(m.want.fed_at_ms, 600);
    }
}

static void apply_tells_what_changed(void **state)
{
    const uint16_t zeros[63] = {0};
    struct regmap m;
    struct write w;

    (void)state;
    fresh(&m);
    write_words(&w, 7138, zeros, 62); /* the gap before the block */
    assert_int_equal(regmap_check(&m, &w.req), EX_NONE);
    assert_false(regmap_apply(&m, &w.req, 7));
    write_words(&w, 7240, zeros, 60); /* and behind it */
    assert_int_equal(regmap_check(&m, &w.req), EX_NONE);
    assert_false(regmap_apply(&m, &w.req, 7));
    assert_true(m.want.fed_at_ms == NEVER);
    write_words(&w, 7239, zeros, 61); /* its last register, which is reserved, feeds */
    assert_true(regmap_apply(&m, &w.req, 8));
    assert_int_equal(m.want.fed_at_ms, 8);
    assert_int_equal(m.want.id, 0);
    write_words(&w, 7138, zeros, 63); /* across its start: 7200 */
    assert_int_equal(regmap_check(&m, &w.req), EX_NONE);
    assert_true(regmap_apply(&m, &w.req, 9));
    assert_int_equal(m.want.fed_at_ms, 9);

    const struct mbap_request read = {
        .function = FC_READ_HOLDING, .read_addr = 7200, .read_count = 18};
    assert_false(regmap_apply(&m, &read, 10));
    assert_int_equal(m.want.fed_at_ms, 9); /* reads never feed */
}

/* One frame with everything is one wish. */
static void whole_block(void **state)
{
    const uint16_t block[] = {77,  1,  0, 7400, 160, 150, 140, 130, 3,
                              900, 30, 1, 100,  3,   5,   1,   2,   9999};
    struct regmap m;

    (void)state;
    fresh(&m);
    assert_int_equal(put(&m, 7200, block, 18, 42), EX_NONE);
    const struct want *w = &m.want;
    assert_int_equal(w->id, 1);
    assert_int_equal(w->accepted_at_ms, 42);
    assert_int_equal(w->fed_at_ms, 42);
    assert_int_equal(w->seq, 77);
    assert_true(w->enable);
    assert_int_equal(w->power_w, 7400); /* 7202 counts, not 7217 */
    assert_int_equal(w->current_da, 160);
    assert_int_equal(w->phase_da[0], 150);
    assert_int_equal(w->phase_da[1], 140);
    assert_int_equal(w->phase_da[2], 130);
    assert_int_equal(w->phase_mode, PHASE_MODE_THREE);
    assert_int_equal(w->validity_s, 900);
    assert_int_equal(w->watchdog_s, 30);
    assert_int_equal(w->fallback_action, FALLBACK_PAUSE);
    assert_int_equal(w->fallback_da, 100);
    assert_int_equal(w->fallback_phases, 3);
    assert_true(w->urgent);
    assert_int_equal(w->resends, 1);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(get16(&m, 7200 + i), block[i]);
    assert_int_equal(get16(&m, 7216), 0);
    assert_int_equal(get16(&m, 7217), 7400);
    assert_int_equal(get16(&m, 7300), 77);
    assert_int_equal(get16(&m, 7326), 5);
}

static void power_limits_mirror(void **state)
{
    static const struct {
        uint32_t w;
        unsigned shown;
    } cases[] = {
        {0,          0    },
        {7400,       7400 },
        {65533,      65533},
        {65534,      65534},
        {65535,      65534},
        {65536,      65534},
        {100000,     65534},
        {0xFFFFFFFE, 65534},
        {0xFFFFFFFF, 65535}
    };
    struct regmap m;

    (void)state;
    fresh(&m);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(put32(&m, 7202, cases[i].w, 0), EX_NONE);
        assert_int_equal(get16(&m, 7217), cases[i].shown);
    }
    for (unsigned v = 0; v <= 0xFFFF; v += 5) {
        assert_int_equal(put16(&m, 7217, v, 0), EX_NONE);
        assert_int_equal(m.want.power_w, v == 0xFFFF ? NA_U32 : v);
    }
    assert_int_equal(put16(&m, 7217, 0xFFFF, 0), EX_NONE);
    assert_int_equal(get32(&m, 7202), 0xFFFFFFFF);
    /* other writes leave a limit that 7217 cannot show alone */
    assert_int_equal(put32(&m, 7202, 100000, 0), EX_NONE);
    assert_int_equal(put16(&m, 7214, 1, 0), EX_NONE);
    assert_int_equal(get32(&m, 7202), 100000);
}

/* Every register of the block, as a client sees it, but for the heartbeat and the
 * reserved ones. */
static void what_was_written_is_restored(void **state)
{
    const uint16_t block[] = {77,  0,  1, 34464, 200, 190, 0xFFFF, 170, 3,
                              300, 45, 1, 90,    3,   999, 1,      2};
    struct regmap before, after;

    (void)state;
    fresh(&before);
    fresh(&after);
    assert_int_equal(put(&before, 7200, block, sizeof block / sizeof block[0], 4711),
                     EX_NONE);
    regmap_restore(&after, &before.want);
    for (unsigned addr = 7200; addr <= 7217; addr++)
        if (addr != 7214)
            assert_int_equal(get16(&after, addr), get16(&before, addr));
    assert_memory_equal(&after.want, &before.want, sizeof before.want);
    assert_int_equal(get16(&after, 7217), 65534); /* 100000 W */
    assert_int_equal(put16(&after, 7204, 160, 4712), EX_NONE);
    assert_int_equal(after.want.id, before.want.id + 1);
    assert_int_equal(after.want.power_w, 100000);
}

static void sequence_names_the_newest(void **state)
{
    const uint16_t frame[] = {11, 1, 0, 5000};
    struct regmap m;

    (void)state;
    fresh(&m);
    assert_int_equal(put(&m, 7200, frame, 4, 100), EX_NONE);
    assert_int_equal(get16(&m, 7300), 11);
    assert_int_equal(put32(&m, 7202, 6000, 200), EX_NONE);
    assert_int_equal(put16(&m, 7200, 12, 300), EX_NONE);
    assert_int_equal(m.want.id, 2);
    assert_int_equal(m.want.accepted_at_ms, 200);
    assert_int_equal(m.want.fed_at_ms, 300);
    assert_int_equal(m.want.seq, 12);
    assert_int_equal(get16(&m, 7300), 12);
}

static void actions_are_counted(void **state)
{
    struct regmap m;

    (void)state;
    fresh(&m);
    for (unsigned action = 0; action <= 3; action++)
        for (unsigned times = 0; times < action; times++) {
            assert_int_equal(put16(&m, 7216, action, 0), EX_NONE);
            assert_int_equal(get16(&m, 7216), 0);
        }
    assert_int_equal(put16(&m, 7214, 3, 0), EX_NONE); /* repeats no action */
    assert_int_equal(m.want.clears, 1);
    assert_int_equal(m.want.resends, 2);
    assert_int_equal(m.want.refreshes, 3);
    assert_int_equal(m.want.id, 0);
}

/* Acknowledgement of the newest wish. */

/* What the status says is about wish_id; a newer wish waits, whatever the older one
 * reached. */
static void stage_is_of_the_newest_wish(void **state)
{
    struct regmap m;

    (void)state;
    fresh(&m);
    assert_int_equal(get16(&m, 7301), STAGE_NONE);
    assert_int_equal(get16(&m, 7335), 0);

    assert_int_equal(put32(&m, 7202, 7400, 0), EX_NONE);
    assert_int_equal(get16(&m, 7301), STAGE_WAITING);
    assert_int_equal(get16(&m, 7335), 1);

    status.progress.wish_id = 1;
    status.progress.stage = STAGE_EFFECTIVE;
    assert_int_equal(get16(&m, 7301), STAGE_EFFECTIVE);
    assert_int_equal(get16(&m, 7335), 0);

    assert_int_equal(put16(&m, 7214, 1, 0), EX_NONE); /* a heartbeat is no wish */
    assert_int_equal(get16(&m, 7301), STAGE_EFFECTIVE);
    assert_int_equal(put32(&m, 7202, 7400, 0), EX_NONE); /* the same watts are one */
    assert_int_equal(get16(&m, 7301), STAGE_WAITING);
    assert_int_equal(get16(&m, 7335), 1);
}

static void watchdog(void **state)
{
    struct regmap m;

    (void)state;
    fresh(&m);
    facts.now_ms = 10000;
    assert_int_equal(put16(&m, 7214, 1, 10000), EX_NONE);
    assert_int_equal(get16(&m, 7327), 0); /* no wish yet */
    assert_int_equal(get16(&m, 7328), 0);

    assert_int_equal(put32(&m, 7202, 7400, 10000), EX_NONE);
    status.progress.wish_id = 1;
    assert_int_equal(get16(&m, 7327), 1);
    assert_int_equal(get16(&m, 7328), 60);
    facts.now_ms = 69001;
    assert_int_equal(get16(&m, 7328), 1);
    assert_int_equal(put16(&m, 7214, 2, 69001), EX_NONE); /* fed */
    assert_int_equal(get16(&m, 7328), 60);
    assert_int_equal(get16(&m, 7323), 0);
    facts.now_ms = 130000;
    assert_int_equal(get16(&m, 7327), 1); /* due, but the circuit has not said so */
    assert_int_equal(get16(&m, 7328), 0);
    assert_int_equal(get16(&m, 7323), 60);

    status.progress.tripped_at_ms = 129001;
    assert_int_equal(get16(&m, 7327), 2);
    assert_int_equal(get16(&m, 7328), 0);
    assert_int_equal(put32(&m, 7202, 7000, 130000),
                     EX_NONE); /* a new wish arms it again */
    assert_int_equal(get16(&m, 7327), 1);
    assert_int_equal(get16(&m, 7328), 60);

    assert_int_equal(put16(&m, 7210, 0, 130000), EX_NONE);
    assert_int_equal(get16(&m, 7327), 0);
    assert_int_equal(get16(&m, 7328), 0);
    assert_int_equal(put16(&m, 7210, 65534, 130000), EX_NONE);
    assert_int_equal(get16(&m, 7328), 65534);
}

static void validity(void **state)
{
    struct regmap m;

    (void)state;
    fresh(&m);
    facts.now_ms = 20000;
    assert_int_equal(put16(&m, 7209, 100, 5000), EX_NONE);
    assert_int_equal(get16(&m, 7329), 0); /* no wish */
    assert_int_equal(put16(&m, 7204, 100, 20000), EX_NONE);
    assert_int_equal(get16(&m, 7329), 100);
    facts.now_ms = 119500;
    assert_int_equal(get16(&m, 7329), 1);
    assert_int_equal(put16(&m, 7214, 1, 119500),
                     EX_NONE); /* counts from the wish alone */
    assert_int_equal(get16(&m, 7329), 1);
    facts.now_ms = 120000;
    assert_int_equal(get16(&m, 7329), 0);
    assert_int_equal(put16(&m, 7209, 0, 120000), EX_NONE);
    assert_int_equal(get16(&m, 7329), 0);
}

/* Properties. */

/* What the hand-written map says of a write, and whether it would be refused. */
static enum modbus_exception judge(unsigned addr, const uint16_t *v, unsigned n)
{
    if (addr < 7000 || addr + n > 7500)
        return EX_ADDRESS;
    for (unsigned a = addr; a < addr + n; a++)
        if (expected_at(a) != NULL && expected_at(a)->access == RO)
            return EX_ADDRESS;
    for (unsigned a = addr; a < addr + n; a++) {
        const struct expected *e = expected_at(a);
        if (e == NULL)
            continue;
        if (e->addr < addr || e->addr + (unsigned)e->words > addr + n)
            return EX_VALUE;
        uint32_t value = v[e->addr - addr];
        if (e->words == 2)
            value = value << 16 | v[e->addr + 1u - addr];
        if (!expected_legal(e, value))
            return EX_VALUE;
    }
    return EX_NONE;
}

static uint16_t likely_word(void)
{
    static const uint16_t edges[] = {0, 1, 2, 3, 4, 9, 10, 160, 65534, 65535};

    return random32() % 8 != 0 ? edges[random32() % (random32() % 4 ? 2 : 10)]
                               : (uint16_t)random32();
}

/* C-32: random writes.  The check agrees with the map above; a refused one changes
 * nothing; an accepted one reads back whole and changes nothing else. */
static void random_writes(void **state)
{
    unsigned accepted = 0, refused = 0;
    struct regmap m, before;

    (void)state;
    fresh(&m);
    for (uint64_t now_ms = 1; now_ms <= 200000; now_ms++) {
        uint16_t words[123];
        unsigned n = 1 + random32() % (random32() % 4 ? 6 : 123);
        unsigned addr = random32() % 16 ? 7190 + random32() % 60 : random32() % 0x10000;

        for (unsigned i = 0; i < n; i++)
            words[i] = likely_word();
        before = m;
        enum modbus_exception answer = put(&m, addr, words, n, now_ms);
        if (answer != judge(addr, words, n))
            fail_msg("write of %u from %u: %d", n, addr, answer);
        if (answer != EX_NONE) {
            assert_memory_equal(&m, &before, sizeof m);
            refused++;
            continue;
        }
        accepted++;
        bool both = addr <= 7202 && addr + n > 7217; /* 7202 counts */
        regmap_render(&m, &facts);
        for (unsigned a = addr; a < addr + n; a++)
            if (expected_at(a) == NULL)
                assert_int_equal(m.image[a - 7000], 0xFFFF);
            else if (a == 7216)
                assert_int_equal(m.image[a - 7000], 0);
            else if (a != 7217 || !both)
                assert_int_equal(m.image[a - 7000], words[a - addr]);
        for (unsigned a = 7200; a < 7240; a++) {
            bool power = a == 7202 || a == 7203 || a == 7217; /* they mirror each other */
            if ((a < addr || a >= addr + n) && !power)
                assert_int_equal(m.control[a - 7200], before.control[a - 7200]);
        }
        assert_true(m.want.id - before.want.id <= 1);
        assert_int_equal(m.want.power_w, get32(&m, 7202));
    }
    print_message("%u accepted, %u refused\n", accepted, refused);
    assert_true(accepted > 10000 && refused > 10000);
}

/* C-28: write, then read, in one request: the image shows the new values. */
static void write_before_read(void **state)
{
    const uint16_t values[] = {1, 0, 3680};
    struct regmap m;
    struct write w;

    (void)state;
    fresh(&m);
    write_words(&w, 7201, values, 3);
    w.req.function = FC_READ_WRITE;
    w.req.read_addr = 7200;
    w.req.read_count = 125;
    assert_int_equal(regmap_check(&m, &w.req), EX_NONE);
    assert_true(regmap_apply(&m, &w.req, 5));
    assert_int_equal(get32(&m, 7202), 3680);
    assert_int_equal(m.want.id, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_the_map),
        cmocka_unit_test(row_of_every_address),
        cmocka_unit_test(layout_hash),
        cmocka_unit_test(read_addresses),
        cmocka_unit_test(unknown_is_not_available),
        cmocka_unit_test(measured_zero_is_zero),
        cmocka_unit_test(identity),
        cmocka_unit_test(telemetry),
        cmocka_unit_test(acknowledgement),
        cmocka_unit_test(owner),
        cmocka_unit_test(diagnostics),
        cmocka_unit_test(ages_and_remaining_times),
        cmocka_unit_test(start_values),
        cmocka_unit_test(write_addresses),
        cmocka_unit_test(write_values),
        cmocka_unit_test(half_a_u32),
        cmocka_unit_test(address_before_value),
        cmocka_unit_test(mask_writes),
        cmocka_unit_test(what_makes_a_wish),
        cmocka_unit_test(apply_tells_what_changed),
        cmocka_unit_test(whole_block),
        cmocka_unit_test(power_limits_mirror),
        cmocka_unit_test(what_was_written_is_restored),
        cmocka_unit_test(sequence_names_the_newest),
        cmocka_unit_test(actions_are_counted),
        cmocka_unit_test(stage_is_of_the_newest_wish),
        cmocka_unit_test(watchdog),
        cmocka_unit_test(validity),
        cmocka_unit_test(random_writes),
        cmocka_unit_test(write_before_read),
    };

    print_message("seed %u\n", seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
