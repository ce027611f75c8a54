/* SPDX-License-Identifier: MIT */
#include "evecc/writers.h"

#include "evecc/log.h"
#include "evecc/net.h"
#include "evecc/owner.h"

#include <arpa/inet.h>
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SETPOINT_LOG_MS = 1000, REFUSED_LOG_MS = 10000 };

struct circuit {
    char name[CONFIG_NAME_MAX];
    enum owner_rule rule;
    uint32_t timeout_ms;
    struct owner owner;
    char owner_text[INET6_ADDRSTRLEN];
    struct log_limit changes, owners, refusals;
};

struct writers {
    size_t circuits;
    struct circuit circuit[];
};

struct writers *writers_new(const struct config *cfg)
{
    struct writers *w = calloc(1, sizeof *w + cfg->circuits * sizeof w->circuit[0]);
    if (!w)
        return NULL;
    w->circuits = cfg->circuits;
    for (size_t i = 0; i < cfg->circuits; i++) {
        snprintf(w->circuit[i].name, sizeof w->circuit[i].name, "%s",
                 cfg->circuit[i].name);
        w->circuit[i].rule = (enum owner_rule)cfg->circuit[i].owner;
        w->circuit[i].timeout_ms = cfg->circuit[i].owner_timeout * 1000;
    }
    return w;
}

void writers_free(struct writers *w)
{
    free(w);
}

bool writers_allow(const struct writers *w, size_t circuit,
                   const uint8_t address[static 16], uint64_t now_ms)
{
    const struct circuit *c = &w->circuit[circuit];
    assert(circuit < w->circuits);
    return owner_allows(&c->owner, c->rule, address, now_ms);
}

static bool same_setpoint(const struct want *a, const struct want *b)
{
    return a->power_w == b->power_w && a->current_da == b->current_da &&
           memcmp(a->phase_da, b->phase_da, sizeof a->phase_da) == 0 &&
           a->phase_mode == b->phase_mode && a->enable == b->enable;
}

/* "7400" or "none". */
static const char *limit_text(uint32_t value, uint32_t none, char ret[static 12])
{
    if (value == none)
        return "none";
    snprintf(ret, 12, "%u", value);
    return ret;
}

/* "none/none/130" */
static const char *phases_text(const uint16_t da[static PHASES], char ret[static 36])
{
    char l[PHASES][12];
    snprintf(ret, 36, "%s/%s/%s", limit_text(da[0], NA_U16, l[0]),
             limit_text(da[1], NA_U16, l[1]), limit_text(da[2], NA_U16, l[2]));
    return ret;
}

/* Who changed a setpoint, from what, to what. */
static void log_setpoint(struct circuit *c, int fd, const struct gateway_report *r,
                         uint64_t now_ms)
{
    uint32_t missed;
    char who[NET_TEXT], was_w[12], is_w[12], was_da[12], is_da[12];
    char was_phases[36], is_phases[36];
    if (!log_limit_pass(&c->changes, SETPOINT_LOG_MS, now_ms, &missed))
        return;
    log_info("setpoint changed circuit=%s peer=%s power_w=%s->%s current_da=%s->%s "
             "phase_da=%s->%s enable=%d->%d phase_mode=%u->%u missed=%u",
             c->name, net_peer_text(fd, who),
             limit_text(r->before.power_w, NA_U32, was_w),
             limit_text(r->after.power_w, NA_U32, is_w),
             limit_text(r->before.current_da, NA_U16, was_da),
             limit_text(r->after.current_da, NA_U16, is_da),
             phases_text(r->before.phase_da, was_phases),
             phases_text(r->after.phase_da, is_phases), r->before.enable, r->after.enable,
             r->before.phase_mode, r->after.phase_mode, missed);
}

/* The address of the new owner in plain text, IPv4 as such. */
static void name_owner(struct circuit *c)
{
    static const char mapped[] = "::ffff:";
    char *text = c->owner_text;
    if (!inet_ntop(AF_INET6, c->owner.address, text, sizeof c->owner_text))
        text[0] = '\0';
    if (strncmp(text, mapped, strlen(mapped)) == 0 && strchr(text, '.'))
        memmove(text, text + strlen(mapped), strlen(text + strlen(mapped)) + 1);
}

static void log_owner(struct circuit *c, int fd, uint64_t now_ms)
{
    uint32_t missed;
    char who[NET_TEXT];
    if (log_limit_pass(&c->owners, SETPOINT_LOG_MS, now_ms, &missed))
        log_info("circuit has a new owner circuit=%s peer=%s missed=%u", c->name,
                 net_peer_text(fd, who), missed);
}

static void log_refusal(struct circuit *c, int fd, uint64_t now_ms)
{
    uint32_t missed;
    char who[NET_TEXT];
    if (!log_limit_pass(&c->refusals, REFUSED_LOG_MS, now_ms, &missed))
        return;
    log_warning("write refused, the circuit has an owner circuit=%s peer=%s owner=%s "
                "for_s=%" PRIu64 " missed=%u",
                c->name, net_peer_text(fd, who), c->owner_text,
                (c->owner.until_ms - now_ms) / 1000, missed);
}

void writers_note(struct writers *w, int fd, const uint8_t address[static 16],
                  const struct gateway_report *r, uint64_t now_ms)
{
    struct circuit *c = &w->circuit[r->circuit];
    if (!owner_allows(&c->owner, c->rule, address, now_ms))
        log_refusal(c, fd, now_ms);
    else if (r->exception == EX_NONE && c->rule != OWNER_NONE &&
             owner_wrote(&c->owner, address, now_ms, c->timeout_ms)) {
        name_owner(c);
        log_owner(c, fd, now_ms);
    }
    if (r->wrote && !same_setpoint(&r->before, &r->after))
        log_setpoint(c, fd, r, now_ms);
}

const char *writers_owner(const struct writers *w, size_t circuit, uint64_t *ret_until_ms)
{
    assert(circuit < w->circuits);
    *ret_until_ms = w->circuit[circuit].owner.until_ms;
    return w->circuit[circuit].owner_text;
}
