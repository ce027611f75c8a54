/* SPDX-License-Identifier: MIT
 *
 * What outlives the process: the circuits in the file `state`, the token in the file
 * `token`, budgets and restraint in the account.  It is saved before what it decided is
 * sent.  A disk that does not take it is no reason to stop: it is tried again. */
#include "sync_parts.h"

#include "evecc/log.h"
#include "evecc/saved_token.h"
#include "evecc/sys.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RETRY_MS = 5 * 1000,
    LINES_MS = 60 * 1000,
    DURABLE_MS = 200,     /* what the manual promises of an answered wish */
    VERIFY_MS = 60 * 1000 /* a crash loop does not come to look a circuit up again */
};

static const char state_file[] = "state";

/* ---- circuits ---- */

static void describe(struct state_circuit *ret, const struct config_circuit *cfg)
{
    char key[STATE_KEY_MAX];

    snprintf(key, sizeof key, "%s|%s|%s", cfg->site, cfg->circuit, cfg->charger);
    state_init(ret, cfg->name, key);
    ret->start =
        (struct state_start){.watchdog_s = (uint16_t)cfg->watchdog,
                             .fallback_da = (uint16_t)(cfg->fallback_current * 10),
                             .fallback_action = (uint8_t)cfg->fallback_action,
                             .fallback_phases = (uint8_t)cfg->fallback_phases};
}

static void copy_place(struct easee_circuit *ret, const struct easee_circuit *w)
{
    ret->site_id = w->site_id;
    ret->circuit_id = w->circuit_id;
    ret->panel_id = w->panel_id;
    ret->rated_da = w->rated_da;
    ret->alone = w->alone;
    ret->chargers = w->chargers;
    memset(ret->serial, 0, sizeof ret->serial);
    memset(ret->product, 0, sizeof ret->product);
    for (unsigned i = 0; i < w->chargers; i++) {
        snprintf(ret->serial[i], sizeof ret->serial[i], "%s", w->serial[i]);
        ret->product[i] = w->product[i];
    }
}

static void collect(struct state_circuit *ret, const struct unit *u)
{
    const struct circuit *c = &u->circuit;

    if (u->written)
        ret->want = c->want;
    ret->phases = c->sent.phases;
    ret->sent = c->sent.amps;
    ret->sent_known = c->sent.known;
    ret->sent_at_ms = c->sent.at_ms;
    if (c->found)
        copy_place(&ret->where, &u->where);
    /* Which of several chargers had counted how much would be lost in the sum. */
    ret->energy_wh = c->chargers == 1 ? c->charger[0].telemetry.energy_wh : NA_U64;
}

static void restore_unit(struct sync *s, struct unit *u, struct state_circuit *from,
                         uint64_t now_ms)
{
    struct circuit_sent sent = {.phases = from->phases,
                                .amps = from->sent,
                                .known = from->sent_known,
                                .at_ms = from->sent_at_ms};

    if (from->want.fed_at_ms != NEVER) {
        circuit_restore(&u->circuit, &from->want, &sent, from->energy_wh, now_ms);
        u->written = true;
        log_info("restored circuit=%s wish=%" PRIu64 " age=%" PRIu64 "s", sync_name(u),
                 from->want.id, (now_ms - from->want.fed_at_ms) / 1000);
    }
    if (from->where.chargers > 0) {
        u->where = from->where;
        if (u->selector.site_id < 0)
            u->selector.site_id = u->where.site_id;
        u->remembered = true;
        u->lookup_at_ms = now_ms + VERIFY_MS;
        sync_unit_found(s, u, now_ms);
    }
}

static void restore_state(struct sync *s, const struct state_clock *clock)
{
    bool old = false, trusted = true;
    char *text = NULL;
    size_t len;
    enum err err = store_read(s->store, state_file, STATE_VERSION, &text, &len, &old);

    if (err == ERR_NOT_FOUND)
        return;
    for (size_t i = 0; i < s->units; i++)
        describe(&s->kept[i], &s->unit[i].cfg);
    if (err == ERR_OK)
        err = state_decode(text, len, clock, s->kept, s->units, &trusted);
    free(text);
    if (err != ERR_OK) {
        sync_note_error(s, "reading the saved state", err, 0,
                        "damaged or of a newer version, starting without", clock->now_ms);
        return;
    }
    if (old)
        log_warning("the newest saved state is damaged: the one before it counts");
    if (!trusted)
        log_warning("the clock is not plausible: saved setpoints with a watchdog or "
                    "validity count as expired");
    for (size_t i = 0; i < s->units; i++) {
        struct state_circuit as_configured;

        describe(&as_configured, &s->unit[i].cfg);
        state_reconfigure(&s->kept[i], &as_configured.start);
        restore_unit(s, &s->unit[i], &s->kept[i], clock->now_ms);
    }
}

static bool save_state(struct sync *s, const struct state_clock *clock)
{
    char *text;
    size_t len;
    bool ok;

    for (size_t i = 0; i < s->units; i++)
        collect(&s->kept[i], &s->unit[i]);
    if (state_encode(s->kept, s->units, clock, &text, &len) != ERR_OK) {
        errno = ENOMEM;
        return false;
    }
    ok = store_write(s->store, state_file, STATE_VERSION, text, len) == ERR_OK;
    free(text);
    return ok;
}

/* What is kept is what was saved, but for an attempt that failed. */
static bool state_is_due(const struct sync *s)
{
    bool due = s->keep_failing;

    for (size_t i = 0; i < s->units && !due; i++) {
        struct state_circuit now = s->kept[i];

        collect(&now, &s->unit[i]);
        due = state_due(&s->kept[i], &now);
    }
    return due;
}

/* ---- the token ---- */

static bool save_token(struct sync *s, const struct state_clock *clock)
{
    const struct token_owner owner = {s->api_url, s->token_username, s->token_mark};
    struct saved_token t = {.token = s->token,
                            .expires_at_ms = s->session.expires_at_ms,
                            .refresh_at_ms = s->session.refresh_at_ms};
    bool ok = saved_token_write(s->store, &owner, &t, clock) == ERR_OK;

    explicit_bzero(&t, sizeof t);
    return ok;
}

static void restore_token(struct sync *s, const struct state_clock *clock)
{
    const struct token_owner owner = {s->api_url, s->username, s->mark};
    struct saved_token t = {0};

    if (saved_token_read(s->store, &owner, clock, &t)) { /* else it is a login */
        s->token = t.token;
        snprintf(s->token_username, sizeof s->token_username, "%s", s->username);
        s->token_mark = s->mark;
        session_resume(&s->session, t.expires_at_ms, t.refresh_at_ms);
        s->token_generation = s->token_kept = 1;
        easee_set_token(s->easee, s->token.access);
        log_info("token from before the restart is used on");
    }
    explicit_bzero(&t, sizeof t);
}

/* ---- all of it ---- */

enum err sync_keep_open(struct sync *s, const char *state_dir, struct store *store)
{
    struct state_clock clock;
    char why[256];

    sys_clock(&clock);
    s->store = store;
    s->keep_at_ms = NEVER;
    s->kept = calloc(s->units, sizeof s->kept[0]);
    if (s->kept == NULL)
        return ERR_SYSTEM;
    if (account_open(&s->account, state_dir, sys_clock, why, sizeof why) != ERR_OK) {
        if (s->account == NULL)
            return ERR_SYSTEM;
        log_warning("call budgets do not outlive a restart: %s", why);
    }
    s->budgets = account_budgets(s->account);
    s->mark = account_mark(s->username, s->password);
    if (store != NULL) {
        restore_token(s, &clock);
        restore_state(s, &clock);
    }
    for (size_t i = 0; i < s->units; i++) {
        describe(&s->kept[i], &s->unit[i].cfg);
        collect(&s->kept[i], &s->unit[i]);
    }
    return ERR_OK;
}

void sync_keep_close(struct sync *s)
{
    account_free(s->account);
    free(s->kept);
}

uint64_t sync_lock_account(struct sync *s)
{
    uint64_t now_ms = account_lock(s->account);

    account_restore_session(s->account, &s->session, s->mark);
    return now_ms;
}

void sync_unlock_account(struct sync *s)
{
    account_keep_session(s->account, &s->session, s->mark);
    account_unlock(s->account);
}

static void note_saving(struct sync *s, bool saved, uint64_t now_ms)
{
    int error = errno;
    uint32_t missed;

    if (saved) {
        if (s->keep_failing)
            log_info("the state can be saved again");
        s->keep_failing = false;
        s->keep_at_ms = NEVER;
        return;
    }
    s->keep_failing = true;
    s->keep_at_ms = now_ms + RETRY_MS;
    snprintf(s->counts.last_error, sizeof s->counts.last_error, "state not saved: %s",
             strerror(error));
    if (log_limit_pass(&s->keep_lines, LINES_MS, now_ms, &missed))
        log_error("the state cannot be saved, a restart would forget it: %s",
                  strerror(error));
}

static void note_slowness(struct sync *s, uint64_t took_ms, uint64_t now_ms)
{
    uint32_t missed;

    if (took_ms > DURABLE_MS && log_limit_pass(&s->slow_lines, LINES_MS, now_ms, &missed))
        log_warning("slow disk: saving took=%" PRIu64 "ms missed=%" PRIu32
                    ", a setpoint that was answered meanwhile waited for it",
                    took_ms, missed);
}

void sync_keep(struct sync *s, uint64_t now_ms)
{
    bool token = s->token_kept != s->token_generation, state;
    struct state_clock clock;

    if (s->store == NULL || (s->keep_failing && now_ms < s->keep_at_ms))
        return;
    state = state_is_due(s);
    if (!token && !state)
        return;
    sys_clock(&clock);
    if (token && save_token(s, &clock)) {
        s->token_kept = s->token_generation;
        token = false;
    }
    if (state && save_state(s, &clock))
        state = false;
    note_saving(s, !token && !state, now_ms);
    note_slowness(s, sys_now_ms() - clock.now_ms, now_ms);
}
