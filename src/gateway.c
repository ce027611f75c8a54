/* SPDX-License-Identifier: MIT */
#include "evecc/gateway.h"

#include "evecc/reply.h"
#include "evecc/telemetry.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ages and times in the image may be this old; everything else is rendered when it
 * changes. */
enum { RENDER_MS = 100 };

enum { UNITS = 256, NO_CIRCUIT = -1 };

/* One circuit as Modbus clients see it. */
struct view {
    struct regmap map;
    modbus_mapping_t mapping; /* functions 3 and 4 on map.image */
    struct status status;
    uint64_t status_seen;
    uint64_t counts_rendered; /* gateway.counts_seen when the image was rendered */
    uint64_t rendered_at_ms;
    bool stale;
    char owner[INET6_ADDRSTRLEN];
    uint64_t owner_until_ms;
};

struct gateway {
    struct exchange *exchange;
    struct reply *reply;
    struct modbus_counts modbus;
    struct cloud_counts cloud;
    uint64_t counts_seen;
    uint64_t started_at_ms;
    int16_t circuit_of[UNITS]; /* unit identifier -> index, NO_CIRCUIT */
    struct view view[];
};

/* Registers.md: 0 and 255 mean the only circuit where there is one. */
static void route_units(struct gateway *g, const struct config *cfg)
{
    for (size_t unit = 0; unit < UNITS; unit++)
        g->circuit_of[unit] = NO_CIRCUIT;
    if (cfg->circuits == 1)
        g->circuit_of[0] = g->circuit_of[UNITS - 1] = 0;
    for (size_t i = 0; i < cfg->circuits; i++)
        g->circuit_of[cfg->circuit[i].unit % UNITS] = (int16_t)i;
}

/* What is shown until the cloud has said something. */
static struct status unknown_status(void)
{
    struct charger nothing;
    charger_init(&nothing);
    return (struct status){
        .telemetry = nothing.telemetry,
        .progress = {.sent_at_ms = NEVER,
                     .confirmed_at_ms = NEVER,
                     .tripped_at_ms = NEVER,
                     .dwell_until_ms = NEVER,
                     .next_call_at_ms = NEVER,
                     .backoff_until_ms = NEVER,
                     .requested_da = {NA_U16, NA_U16, NA_U16},
                     .requested_phases = NA_U16,
                     .round_trip_ms = NA_U16},
    };
}

static struct regmap_setup setup_of(const struct config *cfg, size_t i)
{
    const struct config_circuit *c = &cfg->circuit[i];
    struct regmap_setup setup = {
        .index = (uint16_t)(i + 1),
        .circuits = (uint16_t)cfg->circuits,
        .min_current_da = (uint16_t)(c->min_current * 10),
        .max_current_da = (uint16_t)(c->max_current * 10),
        .phases_wired = (uint16_t)c->phases,
        .voltage_v = (uint16_t)c->voltage,
        .watchdog_s = (uint16_t)c->watchdog,
        .fallback_action = (uint16_t)c->fallback_action,
        .fallback_da = (uint16_t)(c->fallback_current * 10),
        .fallback_phases = (uint16_t)c->fallback_phases,
    };
    setup.capabilities = CAPABILITY_PER_PHASE_LIMITS;
    if (c->deadman > 0)
        setup.capabilities |= CAPABILITY_CLOUD_TTL;
    snprintf(setup.version, sizeof setup.version, "%s", EVECC_VERSION);
    return setup;
}

static void view_init(struct view *v, const struct regmap_setup *setup)
{
    regmap_init(&v->map, setup);
    v->mapping = (modbus_mapping_t){.start_registers = REGMAP_FIRST,
                                    .nb_registers = REGMAP_COUNT,
                                    .tab_registers = v->map.image,
                                    .start_input_registers = REGMAP_FIRST,
                                    .nb_input_registers = REGMAP_COUNT,
                                    .tab_input_registers = v->map.image};
    v->status = unknown_status();
    v->stale = true;
}

enum err gateway_new(struct gateway **ret, const struct config *cfg, struct exchange *x,
                     uint64_t now_ms)
{
    struct gateway *g = calloc(1, sizeof *g + cfg->circuits * sizeof g->view[0]);
    if (!g)
        return ERR_SYSTEM;
    enum err err = reply_new(&g->reply);
    if (err != ERR_OK) {
        gateway_free(g);
        return err;
    }
    g->exchange = x;
    g->started_at_ms = now_ms;
    route_units(g, cfg);
    for (size_t i = 0; i < cfg->circuits; i++) {
        struct regmap_setup setup = setup_of(cfg, i);
        view_init(&g->view[i], &setup);
    }
    *ret = g;
    return ERR_OK;
}

void gateway_restore(struct gateway *g, size_t circuit, const struct want *w)
{
    regmap_restore(&g->view[circuit].map, w);
    g->view[circuit].stale = true;
}

void gateway_set_owner(struct gateway *g, size_t circuit, const char *address,
                       uint64_t until_ms)
{
    struct view *v = &g->view[circuit];
    if (v->owner_until_ms == until_ms)
        return;
    snprintf(v->owner, sizeof v->owner, "%s", address);
    v->owner_until_ms = until_ms;
    v->stale = true;
}

void gateway_free(struct gateway *g)
{
    if (g)
        reply_free(g->reply);
    free(g);
}

struct modbus_counts *gateway_counts(struct gateway *g)
{
    return &g->modbus;
}

int gateway_circuit(const struct gateway *g, uint8_t unit)
{
    return g->circuit_of[unit];
}

/* Takes what is new for circuit I from the sync thread. */
static void learn(struct gateway *g, size_t i)
{
    struct view *v = &g->view[i];
    if (exchange_take_status(g->exchange, i, &v->status_seen, &v->status))
        v->stale = true;
    exchange_take_counts(g->exchange, &g->counts_seen, &g->cloud);
}

static void render(struct gateway *g, struct view *v, uint64_t now_ms, uint64_t unix_s)
{
    regmap_render(&v->map, &(struct regmap_facts){.status = &v->status,
                                                  .cloud = &g->cloud,
                                                  .modbus = &g->modbus,
                                                  .owner = v->owner,
                                                  .owner_until_ms = v->owner_until_ms,
                                                  .started_at_ms = g->started_at_ms,
                                                  .now_ms = now_ms,
                                                  .unix_s = unix_s});
    v->counts_rendered = g->counts_seen;
    v->rendered_at_ms = now_ms;
    v->stale = false;
}

static bool is_fresh(const struct gateway *g, const struct view *v, uint64_t now_ms)
{
    return !v->stale && v->counts_rendered == g->counts_seen &&
           now_ms - v->rendered_at_ms < RENDER_MS;
}

static bool is_write(uint8_t function)
{
    return function == FC_WRITE_SINGLE || function == FC_WRITE_MULTIPLE ||
           function == FC_MASK_WRITE || function == FC_READ_WRITE;
}

/* May REQ be carried out?  Unit, function, shape and right, then addresses and values: a
 * request wrong in two ways gets the earlier answer (C-31). */
static enum modbus_exception judge(const struct gateway *g, const uint8_t *adu,
                                   size_t size, bool may_write, struct mbap_request *req)
{
    int circuit = gateway_circuit(g, adu[MBAP_HEADER - 1]);
    if (circuit == NO_CIRCUIT)
        return EX_UNIT;
    enum modbus_exception ex = mbap_parse(adu, size, req);
    if (ex != EX_NONE)
        return ex;
    if (is_write(req->function) && !may_write)
        return EX_FUNCTION;
    if (req->function == FC_ENCAPSULATED)
        return EX_NONE;
    return regmap_check(&g->view[circuit].map, req);
}

/* Makes REQ's write the newest wish. */
static void accept_write(struct gateway *g, size_t i, const struct mbap_request *req,
                         uint64_t now_ms, struct gateway_report *report)
{
    struct view *v = &g->view[i];
    struct want before = v->map.want;
    if (regmap_apply(&v->map, req, now_ms))
        exchange_put_want(g->exchange, i, &v->map.want);
    if (v->map.want.id != before.id) {
        report->wrote = true;
        report->before = before;
        report->after = v->map.want;
    }
    /* Also because libmodbus writes the client's words into the image, and not all of
     * them read back (7216, reserved registers). */
    v->stale = true;
    g->modbus.writes_accepted++;
}

/* libmodbus writes the words of function 23 into the image before it reads it.  Words
 * that do not read back as written would show in this very answer, so it gets what does.
 */
static void settle_values(const struct regmap *map, const struct mbap_request *req,
                          const uint8_t *adu, uint8_t ret_adu[static MBAP_ADU_MAX],
                          size_t size)
{
    memcpy(ret_adu, adu, size);
    uint8_t *word = ret_adu + (req->values - adu);
    for (unsigned i = 0; i < req->write_count; i++, word += 2) {
        uint16_t value = map->image[req->write_addr - REGMAP_FIRST + i];
        word[0] = (uint8_t)(value >> 8);
        word[1] = (uint8_t)value;
    }
}

static size_t answer_registers(struct gateway *g, size_t i, const uint8_t *adu,
                               size_t size, const struct mbap_request *req,
                               uint64_t now_ms, uint64_t unix_s,
                               uint8_t out[static MBAP_ADU_MAX],
                               struct gateway_report *report)
{
    struct view *v = &g->view[i];
    uint8_t settled[MBAP_ADU_MAX];

    if (req->write_count > 0)
        accept_write(g, i, req, now_ms, report);
    if (req->read_count > 0) {
        learn(g, i);
        if (!is_fresh(g, v, now_ms))
            render(g, v, now_ms, unix_s);
    }
    if (req->read_count > 0 && req->write_count > 0) {
        settle_values(&v->map, req, adu, settled, size);
        adu = settled;
    }
    return reply_build(g->reply, adu, size, &v->mapping, out);
}

static size_t answer_identity(struct gateway *g, size_t i, const uint8_t *adu,
                              const struct mbap_request *req,
                              uint8_t out[static MBAP_ADU_MAX])
{
    learn(g, i);
    const char *model = g->view[i].status.telemetry.model;
    return mbap_identify(
        adu, req,
        &(struct mbap_identity){.vendor = "evecc",
                                .product_code = "EVGW",
                                .revision = EVECC_VERSION,
                                .vendor_url = "",
                                .product_name = "evecc Modbus gateway for Easee",
                                .model = model[0] ? model : "Easee",
                                .application = "eveccd"},
        out);
}

/* libmodbus adds 80h where APP 7 sets the high bit: wrong for codes that have it already
 * (upstream issue 845). */
static size_t refuse(struct gateway *g, const uint8_t *adu, enum modbus_exception ex,
                     uint8_t out[static MBAP_ADU_MAX])
{
    size_t size = adu[MBAP_HEADER] < 0x80 ? reply_exception(g->reply, adu, ex, out) : 0;
    return size > 0 ? size : mbap_exception(adu, ex, out);
}

static enum modbus_exception exception_of(const uint8_t *answer)
{
    return answer[MBAP_HEADER] & 0x80 ? (enum modbus_exception)answer[MBAP_HEADER + 1]
                                      : EX_NONE;
}

size_t gateway_answer(struct gateway *g, const uint8_t *adu, size_t size, bool may_write,
                      uint64_t now_ms, uint64_t unix_s, uint8_t out[static MBAP_ADU_MAX],
                      struct gateway_report *report)
{
    struct gateway_report ours;
    struct mbap_request req;
    size_t n;

    assert(size > MBAP_HEADER && size <= MBAP_ADU_MAX);
    if (!report)
        report = &ours;
    report->wrote = false;
    report->write = is_write(adu[MBAP_HEADER]);
    report->circuit = (size_t)gateway_circuit(g, adu[MBAP_HEADER - 1]);

    g->modbus.requests++;
    enum modbus_exception ex = judge(g, adu, size, may_write, &req);
    if (ex != EX_NONE) {
        n = refuse(g, adu, ex, out);
    } else {
        size_t i = report->circuit;
        if (req.function == FC_ENCAPSULATED)
            n = answer_identity(g, i, adu, &req, out);
        else
            n = answer_registers(g, i, adu, size, &req, now_ms, unix_s, out, report);
    }
    assert(n >
           0); /* reply_new() saw libmodbus answer, and only legal requests get to it */

    report->exception = exception_of(out);
    if (report->exception != EX_NONE) {
        g->modbus.exceptions++;
        if (report->write)
            g->modbus.writes_refused++;
    }
    return n;
}
