/* SPDX-License-Identifier: MIT
 * A stream of requests to one register map: refused ones change nothing, accepted ones
 * keep what the control block promises. */
#include "evecc/regmap.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

static unsigned control(const struct regmap *m, unsigned addr)
{
    return m->control[addr - REGMAP_CONTROL];
}

static void check_control(const struct regmap *m)
{
    const struct want *w = &m->want;
    uint32_t power = (uint32_t)control(m, 7202) << 16 | control(m, 7203);
    unsigned shown = power == NA_U32 ? NA_U16 : power > 65534 ? 65534 : power;

    check(control(m, 7201) <= 1 && w->enable == (control(m, 7201) == 1));
    check(w->power_w == power && control(m, 7217) == shown);
    check(w->phase_mode == 0 || w->phase_mode == 1 || w->phase_mode == 3);
    check(w->watchdog_s == 0 || (w->watchdog_s >= 10 && w->watchdog_s <= 65534));
    check(w->fallback_action <= 2 && control(m, 7211) == w->fallback_action);
    check(w->fallback_phases == 0 || w->fallback_phases == 1 || w->fallback_phases == 3);
    check(control(m, 7215) <= 1 && control(m, 7216) == 0);
    check(w->seq == control(m, 7200));
}

static void check_image(struct regmap *m, uint64_t now_ms)
{
    static const struct status status;
    static const struct cloud_counts cloud;
    static const struct modbus_counts modbus;
    const struct regmap_facts facts = {
        .status = &status, .cloud = &cloud, .modbus = &modbus, .now_ms = now_ms};

    regmap_render(m, &facts);
    for (unsigned addr = 7200; addr <= 7217; addr++)
        check(m->image[addr - REGMAP_FIRST] == control(m, addr));
    for (unsigned addr = 7218; addr < 7240; addr++)
        check(m->image[addr - REGMAP_FIRST] == NA_U16);
    check(m->image[7300 - REGMAP_FIRST] == m->want.seq);
}

static void serve(struct regmap *m, const struct mbap_request *req, uint64_t now_ms)
{
    const struct regmap before = *m;
    enum modbus_exception answer = regmap_check(m, req);

    check(memcmp(m, &before, sizeof *m) == 0);
    if (answer != EX_NONE) {
        check(answer == EX_ADDRESS || answer == EX_VALUE);
    } else if (regmap_apply(m, req, now_ms)) {
        check(m->want.fed_at_ms == now_ms && m->want.id - before.want.id <= 1);
        check_control(m);
        check_image(m, now_ms);
    } else {
        check(memcmp(m, &before, sizeof *m) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct regmap_setup setup = {
        .watchdog_s = 60, .fallback_action = 2, .fallback_da = 60};
    struct regmap m;
    size_t found;

    regmap_init(&m, &setup);
    for (uint64_t now_ms = 1; mbap_next(data, size, &found) == MBAP_FRAME; now_ms++) {
        struct mbap_request req;

        if (mbap_parse(data, found, &req) == EX_NONE)
            serve(&m, &req, now_ms);
        data += found;
        size -= found;
    }
    return 0;
}
