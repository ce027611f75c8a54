/* SPDX-License-Identifier: MIT
 *
 * Where the circuits are: each is looked up once, by its charger or its site, and one
 * answer may place several of them. */
#include "sync_parts.h"

#include "evecc/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    LOOKUP_FIRST_MS = 5 * 1000,
    LOOKUP_LAST_MS = 5 * 60 * 1000,
    LOOKUP_LOST_MS = 15 * 60 * 1000,   /* it was found, and answers 404 again */
    LOOKUP_UNKNOWN_MS = 60 * 60 * 1000 /* not in this account: nothing will change soon */
};

/* How the circuit of U is looked up next: by its charger, by its site, or first the
 * site's id by its key. */
static enum job_kind lookup_of(const struct unit *u, char path[EASEE_PATH_MAX])
{
    const struct easee_selector *sel = &u->selector;

    if (sel->charger[0] != '\0') {
        snprintf(path, EASEE_PATH_MAX, "/api/chargers/%s/site", sel->charger);
        return JOB_SITE;
    }
    if (sel->site_id >= 0) {
        snprintf(path, EASEE_PATH_MAX, "/api/sites/%" PRId64 "?detailed=true",
                 sel->site_id);
        return JOB_SITE;
    }
    snprintf(path, EASEE_PATH_MAX, "/api/sites");
    return JOB_SITES;
}

static enum budget_class lookup_class(const struct unit *u)
{
    bool whole_site = u->selector.charger[0] == '\0' && u->selector.site_id >= 0;

    return whole_site ? BUDGET_DISCOVER : BUDGET_LOOKUP;
}

uint64_t sync_lookup_at(const struct sync *s, const struct unit *u, uint64_t now_ms)
{
    uint64_t wait = budgets_wait_ms(s->budgets, lookup_class(u), now_ms, false);

    if ((u->circuit.found && !u->remembered) || s->looking_up)
        return NEVER;
    return later(u->lookup_at_ms, now_ms + wait);
}

void sync_start_lookup(struct sync *s, uint64_t now_ms)
{
    char path[EASEE_PATH_MAX];

    for (size_t i = 0; i < s->units && easee_room(s->easee) > SYNC_READ_ROOM; i++) {
        struct unit *u = &s->unit[i];
        struct job job = {.unit = i};

        if (sync_lookup_at(s, u, now_ms) > now_ms)
            continue;
        job.kind = lookup_of(u, path);
        budgets_take(s->budgets, lookup_class(u), now_ms);
        s->looking_up = sync_start_job(s, &job, path, NULL);
        return;
    }
}

void sync_unit_found(struct sync *s, struct unit *u, uint64_t now_ms)
{
    const struct easee_circuit *w = &u->where;
    char name[48];

    circuit_found(&u->circuit, w->chargers, w->alone, now_ms);
    circuit_stream(&u->circuit, s->streaming, now_ms);
    for (unsigned i = 0; i < w->chargers; i++)
        stream_subscribe(s->stream, w->serial[i]);
    log_info("%s circuit=%s site=%" PRId64 " (%s) id=%" PRId64 " panel=%" PRId64
             " chargers=%u%s",
             u->remembered ? "remembered" : "found", sync_name(u), w->site_id,
             log_safe(w->site_name, name, sizeof name), w->circuit_id, w->panel_id,
             w->chargers, w->alone ? "" : ", shared: no phase switching");
    if (w->rated_da != NA_U16 && w->rated_da < u->cfg.max_current * 10)
        log_warning(
            "circuit=%s max_current=%uA is above the %uA the cloud has as its fuse",
            sync_name(u), u->cfg.max_current, w->rated_da / 10u);
}

static bool same_place(const struct easee_circuit *a, const struct easee_circuit *b)
{
    bool same = a->site_id == b->site_id && a->circuit_id == b->circuit_id &&
                a->chargers == b->chargers && a->alone == b->alone;

    for (unsigned i = 0; same && i < a->chargers; i++)
        same = strcmp(a->serial[i], b->serial[i]) == 0;
    return same;
}

/* Two sections that drive one circuit would overwrite each other for ever: the first
 * keeps it. */
static bool taken(const struct sync *s, const struct unit *u)
{
    for (size_t i = 0; i < s->units; i++) {
        const struct unit *other = &s->unit[i];

        if (other == u || !other->circuit.found ||
            other->where.circuit_id != u->where.circuit_id)
            continue;
        log_error("circuit=%s is the same circuit as %s (id %" PRId64
                  "): remove one of the two sections",
                  sync_name(u), sync_name(other), u->where.circuit_id);
        return true;
    }
    return false;
}

static enum err place_unit(struct sync *s, struct unit *u, const struct easee_reply *r,
                           uint64_t now_ms)
{
    const struct easee_circuit before = u->where;
    enum err err = easee_msg_find_circuit(r->body, r->len, &u->selector, &u->where);
    bool known = u->circuit.found && same_place(&before, &u->where);

    if (err != ERR_OK)
        return err;
    u->remembered = false;
    if (known)
        return ERR_OK;
    if (!same_place(&before, &u->where))
        circuit_moved(&u->circuit);
    if (!taken(s, u)) {
        sync_unit_found(s, u, now_ms);
        return ERR_OK;
    }
    circuit_lost(&u->circuit, ERR_CONFIG);
    u->lookup_at_ms = now_ms + LOOKUP_UNKNOWN_MS;
    return ERR_CONFIG;
}

/* It may have moved: looked up at once, but not in a loop where only its setpoints answer
 * 404. */
void sync_lost(struct unit *u, uint64_t now_ms)
{
    u->lookup_at_ms = later(now_ms, u->lost_until_ms);
    u->lost_until_ms = u->lookup_at_ms + LOOKUP_LOST_MS;
    u->remembered = false;
}

/* One answer may place several circuits: all that still search look into it. */
static enum err place_units(struct sync *s, const struct job *job,
                            const struct easee_reply *r, uint64_t now_ms)
{
    enum err own = ERR_PARSE;

    for (size_t i = 0; i < s->units; i++) {
        struct unit *u = &s->unit[i];
        enum err err;

        if (u->circuit.found && !u->remembered)
            continue;
        if (job->kind == JOB_SITES) {
            if (u->selector.site_key[0] == '\0')
                continue;
            err = easee_msg_find_site(r->body, r->len, u->selector.site_key,
                                      &u->selector.site_id);
        } else {
            err = place_unit(s, u, r, now_ms);
        }
        if (i == job->unit)
            own = err;
    }
    return own;
}

/* Nothing will change soon. */
static bool is_final(enum err err)
{
    return err == ERR_SITE_UNKNOWN || err == ERR_CIRCUIT_UNKNOWN ||
           err == ERR_NOT_FOUND || err == ERR_FORBIDDEN || err == ERR_BAD_REQUEST;
}

/* A remembered circuit goes on until an answer says that it is not there, or its
 * setpoints do: that the question itself is refused, as the one for the state is since
 * 2026-09-01 (easee-api 10), tells nothing of it. */
static bool is_lost(const struct unit *u, enum err err)
{
    return err == ERR_SITE_UNKNOWN || err == ERR_CIRCUIT_UNKNOWN ||
           !(u->remembered && u->circuit.found);
}

void sync_lookup_done(struct sync *s, const struct job *job, const struct easee_reply *r,
                      uint64_t now_ms)
{
    struct unit *u = &s->unit[job->unit];
    char detail[128];
    enum err err = sync_judge(r, detail, sizeof detail);
    uint64_t delay = LOOKUP_FIRST_MS;

    s->looking_up = false;
    sync_report(s, job, err, now_ms);
    if (err == ERR_OK)
        err = place_units(s, job, r, now_ms);
    if (err == ERR_OK) {
        s->lookup_failures = 0;
        return;
    }
    sync_note_error(s, "looking up the circuit", err, r->http_status, detail, now_ms);
    if (err == ERR_UNAUTHORISED || err == ERR_BLOCKED || err == ERR_CONFIG)
        return;
    if (err == ERR_THROTTLED)
        budget_throttled(&s->budgets->of[lookup_class(u)], r->retry_after_s, now_ms);
    for (unsigned i = 0; i < s->lookup_failures && delay < LOOKUP_LAST_MS; i++)
        delay *= 2;
    if (!is_final(err)) {
        s->lookup_failures++;
    } else {
        delay = LOOKUP_UNKNOWN_MS;
        if (is_lost(u, err)) {
            u->remembered = false;
            circuit_lost(&u->circuit, err == ERR_NOT_FOUND ? ERR_SITE_UNKNOWN : err);
            log_error("circuit=%s %s: %s", sync_name(u), err_text(err), err_remedy(err));
        }
    }
    u->lookup_at_ms = now_ms + earlier(delay, LOOKUP_UNKNOWN_MS);
}
