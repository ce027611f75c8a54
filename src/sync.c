/* SPDX-License-Identifier: MIT
 *
 * One loop: take the newest wishes, take the answers, ask session, discovery and circuits
 * what is due, start that, publish what is known, wait.  The clock is read once per turn.
 */
#include "evecc/sync.h"

#include "evecc/circuit.h"
#include "evecc/easee.h"
#include "evecc/log.h"
#include "evecc/session.h"
#include "evecc/stream.h"
#include "evecc/sys.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    WAIT_MAX_MS = 10 * 1000,   /* shows the service watchdog that the thread lives */
    COUNTDOWN_MS = 5 * 1000,   /* how old a shown "calls left" may be */
    READ_ROOM = 4,             /* calls that reads leave free for setpoints and logins */
    FINISH_MS = 2 * 1000,      /* a setpoint on its way may end before the thread does */
    STALE_MS = 20 * 60 * 1000, /* easee-api 7.3 */
    STREAM_REJECTED_MS = 10 * 60 * 1000, /* a hub that refuses every token */
    STREAM_STOP_MS = 500,
    LOOKUP_FIRST_MS = 5 * 1000,
    LOOKUP_LAST_MS = 5 * 60 * 1000,
    LOOKUP_UNKNOWN_MS =
        60 * 60 * 1000, /* not in this account: nothing will change soon */
    OBSERVATIONS_MAX = 96,
    BODY_MAX = 2 * EASEE_TOKEN_MAX + 128
};

enum job_kind { JOB_NONE, JOB_LOGIN, JOB_REFRESH, JOB_SITES, JOB_SITE, JOB_REQUEST };

/* A call on its way; its index is the tag. */
struct job {
    enum job_kind kind;
    size_t unit;    /* JOB_REQUEST, JOB_SITE(S): whose */
    unsigned token; /* generation of the token it carried */
    struct request request;
};

/* One circuit with all this thread knows of it. */
struct unit {
    struct circuit circuit;
    struct config_circuit cfg;
    struct easee_selector selector; /* cfg.selector, completed by what was found */
    struct easee_circuit where;     /* once circuit.found */
    uint64_t lookup_at_ms;          /* next attempt to find it */
    uint64_t want_seen;
    uint64_t wake_ms;
    struct status shown;
};

struct sync {
    struct exchange *exchange;
    struct easee *easee;
    struct session session;
    struct budgets budgets;
    struct cloud_counts counts, counts_shown;
    struct job job[EASEE_CALLS_MAX];
    struct observation observation[OBSERVATIONS_MAX];
    struct easee_token token;
    unsigned token_generation;
    enum err session_err; /* why the last login or refresh failed */
    uint16_t session_http;
    bool looking_up;
    unsigned lookup_failures;
    int64_t cloud_ahead_ms; /* the cloud's clock less our monotonic one; 0: not known */
    struct stream *stream;
    bool streaming;
    unsigned stream_token;       /* generation it was given */
    uint64_t stream_retry_at_ms; /* give it the same token again; NEVER */
    size_t turn; /* where the search for the next setpoint begins: nobody starves */
    struct log_limit error_lines;

    pthread_t thread;
    bool started;
    int exit_fd;
    atomic_bool stop;
    atomic_uint_least64_t progress_ms;

    pthread_mutex_t credentials_lock;
    bool credentials_changed;
    char username[CONFIG_TEXT_MAX], password[CONFIG_PASSWORD_MAX];

    size_t units;
    struct unit unit[];
};

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- words for the log ---- */

static const char *name_of(const struct unit *u)
{
    return u->cfg.name;
}

static void note_error(struct sync *s, const char *what, enum err err, unsigned http,
                       const char *detail, uint64_t now_ms)
{
    uint32_t missed;

    snprintf(s->counts.last_error, sizeof s->counts.last_error, "%s: %s", what,
             err_text(err));
    if (!log_limit_pass(&s->error_lines, 1000, now_ms, &missed))
        return;
    log_warning("%s failed err=%s http=%u detail=\"%s\" missed=%" PRIu32 ": %s", what,
                err_name(err), http, detail, missed, err_remedy(err));
}

static void log_events(struct unit *u)
{
    const struct circuit *c = &u->circuit;
    uint32_t events = circuit_events(&u->circuit);
    const uint8_t *sent = c->sent.amps.l;

    if (events & CIRCUIT_CONFIRMED)
        log_info("confirmed circuit=%s amps=%u/%u/%u after=%ums", name_of(u), sent[0],
                 sent[1], sent[2], c->round_trip_ms);
    if (events & CIRCUIT_WATCHDOG)
        log_warning("watchdog circuit=%s no write for %us, fallback in force", name_of(u),
                    c->want.watchdog_s);
    if (events & CIRCUIT_EXPIRED)
        log_warning("setpoint expired circuit=%s validity=%us, fallback in force",
                    name_of(u), c->want.validity_s);
    if (events & CIRCUIT_REFUSED)
        log_error("refused circuit=%s amps=%u/%u/%u err=%s: %s", name_of(u),
                  c->refused.l[0], c->refused.l[1], c->refused.l[2], err_name(c->result),
                  err_remedy(c->result));
    if (events & CIRCUIT_TIMED_OUT)
        log_error("not confirmed circuit=%s amps=%u/%u/%u: %s", name_of(u), sent[0],
                  sent[1], sent[2], err_remedy(ERR_NOT_CONFIRMED));
    if (events & CIRCUIT_OVERRIDDEN)
        log_warning("overridden circuit=%s wanted=%u/%u/%u reported=%u/%u/%u (0.1 A)%s",
                    name_of(u), sent[0], sent[1], sent[2], c->charger[0].circuit_da[0],
                    c->charger[0].circuit_da[1], c->charger[0].circuit_da[2],
                    c->foreign ? ", retrying slowly" : "");
    if (events & CIRCUIT_RECOVERED)
        log_info("in control again circuit=%s", name_of(u));
}

/* ---- starting calls ---- */

static bool start_job(struct sync *s, const struct job *job, const char *path,
                      const char *body)
{
    struct easee_call call = {.path = path,
                              .body = body,
                              .authorised =
                                  job->kind != JOB_LOGIN && job->kind != JOB_REFRESH,
                              .once = job->kind == JOB_LOGIN || job->kind == JOB_REFRESH};
    size_t i = 0;

    while (i < EASEE_CALLS_MAX && s->job[i].kind != JOB_NONE)
        i++;
    if (i == EASEE_CALLS_MAX)
        return false;
    call.tag = i;
    if (easee_start(s->easee, &call) != ERR_OK)
        return false;
    s->job[i] = *job;
    s->job[i].token = s->token_generation;
    log_debug("call %s %s", body != NULL ? "POST" : "GET", path);
    return true;
}

static void start_session(struct sync *s, uint64_t now_ms)
{
    static const char *const path[] = {[SESSION_LOGIN] = "/api/accounts/login",
                                       [SESSION_REFRESH] = "/api/accounts/refresh_token"};
    char body[BODY_MAX];
    struct job job;
    enum session_step step;
    size_t len;

    if (easee_room(s->easee) == 0)
        return;
    step = session_next(&s->session, now_ms);
    if (step == SESSION_NOTHING)
        return;
    if (step == SESSION_LOGIN) {
        pthread_mutex_lock(&s->credentials_lock);
        len = easee_msg_login(body, sizeof body, s->username, s->password);
        pthread_mutex_unlock(&s->credentials_lock);
        s->counts.logins++;
    } else {
        len = easee_msg_refresh(body, sizeof body, s->token.access, s->token.refresh);
        s->counts.refreshes++;
    }
    job = (struct job){.kind = step == SESSION_LOGIN ? JOB_LOGIN : JOB_REFRESH};
    budget_take(&s->budgets.of[BUDGET_ALL], now_ms);
    if (len == 0 || !start_job(s, &job, path[step], body))
        session_failed(&s->session, ERR_SYSTEM, -1, now_ms);
    explicit_bzero(body, sizeof body);
}

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

static uint64_t lookup_at(const struct sync *s, const struct unit *u, uint64_t now_ms)
{
    uint64_t wait = budgets_wait_ms(&s->budgets, lookup_class(u), now_ms, false);

    if (u->circuit.found || s->looking_up)
        return NEVER;
    return u->lookup_at_ms > now_ms + wait ? u->lookup_at_ms : now_ms + wait;
}

static void start_lookup(struct sync *s, uint64_t now_ms)
{
    char path[EASEE_PATH_MAX];

    for (size_t i = 0; i < s->units && easee_room(s->easee) > READ_ROOM; i++) {
        struct unit *u = &s->unit[i];
        struct job job = {.unit = i};

        if (lookup_at(s, u, now_ms) > now_ms)
            continue;
        job.kind = lookup_of(u, path);
        budgets_take(&s->budgets, lookup_class(u), now_ms);
        s->looking_up = start_job(s, &job, path, NULL);
        return;
    }
}

static bool start_request(struct sync *s, size_t i, const struct request *r)
{
    const struct easee_circuit *where = &s->unit[i].where;
    struct job job = {.kind = JOB_REQUEST, .unit = i, .request = *r};
    char path[EASEE_PATH_MAX], body[256];
    const char *post = NULL;
    bool ttl = r->kind == REQUEST_SET && r->ttl_min != 0;

    if (r->kind == REQUEST_OBSERVE && s->unit[i].circuit.live) {
        log_warning("silent circuit=%s charger=%s: subscribing again",
                    name_of(&s->unit[i]), where->serial[r->charger]);
        s->counts.telemetry_gaps++;
        stream_subscribe(s->stream, where->serial[r->charger]);
    }
    if (r->kind == REQUEST_OBSERVE)
        snprintf(path, sizeof path, "/state/%s/observations?ids=%s",
                 where->serial[r->charger], telemetry_ids());
    else
        snprintf(path, sizeof path, "/api/sites/%" PRId64 "/circuits/%" PRId64 "/%s",
                 where->site_id, where->circuit_id, ttl ? "dynamicCurrent" : "settings");
    if (r->kind == REQUEST_SET) {
        if (ttl)
            easee_msg_dynamic(body, sizeof body, r->amps, r->ttl_min);
        else
            easee_msg_settings(body, sizeof body, r->amps);
        post = body;
        log_info("send circuit=%s amps=%u/%u/%u", name_of(&s->unit[i]), r->amps.l[0],
                 r->amps.l[1], r->amps.l[2]);
    }
    return start_job(s, &job, path, post);
}

static void start_next(struct sync *s, size_t i, uint64_t now_ms)
{
    struct circuit *c = &s->unit[i].circuit;
    struct request r;

    if (!circuit_next(c, &s->budgets, now_ms, &r) || start_request(s, i, &r))
        return;
    circuit_done(
        c, &s->budgets,
        &(struct outcome){.kind = r.kind, .err = ERR_CONNECT, .retry_after_s = -1},
        now_ms);
}

/* The circuit whose setpoint is the most pressing, in turn among equals; s->units: none.
 */
static size_t most_pressing(struct sync *s, uint64_t now_ms)
{
    unsigned best_press = 0;
    size_t best = s->units;

    for (size_t k = 0; k < s->units; k++) {
        size_t i = (s->turn + k) % s->units;
        unsigned press = circuit_press(&s->unit[i].circuit, &s->budgets, now_ms);

        if (press > best_press) {
            best_press = press;
            best = i;
        }
    }
    return best;
}

static void start_requests(struct sync *s, uint64_t now_ms)
{
    size_t i;

    while (easee_room(s->easee) > 0 && (i = most_pressing(s, now_ms)) < s->units) {
        s->turn = i + 1;
        start_next(s, i, now_ms);
    }
    for (i = 0; i < s->units && easee_room(s->easee) > READ_ROOM; i++)
        start_next(s, i, now_ms);
}

/* ---- taking answers ---- */

/* What REPLY means as a whole; DETAIL gets the other side's words. */
static enum err judge(const struct easee_reply *r, char *detail, size_t size)
{
    snprintf(detail, size, "%s", r->detail);
    if (r->err != ERR_OK)
        return r->err;
    if (r->http_status == 200 || r->http_status == 202)
        return ERR_OK;
    return easee_msg_problem(r->http_status, r->body, r->len, detail, size);
}

static void session_done(struct sync *s, const struct job *job,
                         const struct easee_reply *r, uint64_t now_ms)
{
    const char *what = job->kind == JOB_LOGIN ? "login" : "token refresh";
    char detail[128];
    enum err err = judge(r, detail, sizeof detail);

    if (err == ERR_OK)
        err = easee_msg_token(r->body, r->len, &s->token);
    s->session_err = err;
    s->session_http = r->http_status;
    if (err != ERR_OK) {
        session_failed(&s->session, err, r->retry_after_s, now_ms);
        note_error(s, what, err, r->http_status, detail, now_ms);
        return;
    }
    s->token_generation++;
    easee_set_token(s->easee, s->token.access);
    session_granted(&s->session, s->token.expires_in_s, now_ms);
    log_info("%s ok expires=%" PRId64 "s", what, s->token.expires_in_s);
}

/* Tells the session what an ordinary call showed about the token and the account. */
static void report_to_session(struct sync *s, const struct job *job, enum err err,
                              uint64_t now_ms)
{
    if (err == ERR_OK) {
        session_accepted(&s->session);
    } else if (err == ERR_UNAUTHORISED && job->token == s->token_generation) {
        session_rejected(&s->session, now_ms);
    } else if (err == ERR_BLOCKED) {
        session_blocked(&s->session, now_ms);
    }
}

static void unit_found(struct sync *s, struct unit *u, uint64_t now_ms)
{
    const struct easee_circuit *w = &u->where;
    char name[48];

    circuit_found(&u->circuit, w->chargers, w->alone, now_ms);
    circuit_stream(&u->circuit, s->streaming, now_ms);
    for (unsigned i = 0; i < w->chargers; i++)
        stream_subscribe(s->stream, w->serial[i]);
    log_info("found circuit=%s site=%" PRId64 " (%s) id=%" PRId64 " panel=%" PRId64
             " chargers=%u%s",
             name_of(u), w->site_id, log_safe(w->site_name, name, sizeof name),
             w->circuit_id, w->panel_id, w->chargers,
             w->alone ? "" : ", shared: no phase switching");
    if (w->rated_da != NA_U16 && w->rated_da < u->cfg.max_current * 10)
        log_warning(
            "circuit=%s max_current=%uA is above the %uA the cloud has as its fuse",
            name_of(u), u->cfg.max_current, w->rated_da / 10u);
}

/* One answer may place several circuits: all that still search look into it. */
static enum err place_units(struct sync *s, const struct job *job,
                            const struct easee_reply *r, uint64_t now_ms)
{
    enum err own = ERR_PARSE;

    for (size_t i = 0; i < s->units; i++) {
        struct unit *u = &s->unit[i];
        enum err err;

        if (u->circuit.found)
            continue;
        if (job->kind == JOB_SITES) {
            if (u->selector.site_key[0] == '\0')
                continue;
            err = easee_msg_find_site(r->body, r->len, u->selector.site_key,
                                      &u->selector.site_id);
        } else {
            err = easee_msg_find_circuit(r->body, r->len, &u->selector, &u->where);
            if (err == ERR_OK)
                unit_found(s, u, now_ms);
        }
        if (i == job->unit)
            own = err;
    }
    return own;
}

static void lookup_done(struct sync *s, const struct job *job,
                        const struct easee_reply *r, uint64_t now_ms)
{
    struct unit *u = &s->unit[job->unit];
    char detail[128];
    enum err err = judge(r, detail, sizeof detail);
    uint64_t delay = LOOKUP_FIRST_MS;

    s->looking_up = false;
    report_to_session(s, job, err, now_ms);
    if (err == ERR_OK)
        err = place_units(s, job, r, now_ms);
    if (err == ERR_OK) {
        s->lookup_failures = 0;
        return;
    }
    note_error(s, "looking up the circuit", err, r->http_status, detail, now_ms);
    if (err == ERR_UNAUTHORISED || err == ERR_BLOCKED)
        return;
    if (err == ERR_THROTTLED)
        budget_throttled(&s->budgets.of[lookup_class(u)], r->retry_after_s, now_ms);
    for (unsigned i = 0; i < s->lookup_failures && delay < LOOKUP_LAST_MS; i++)
        delay *= 2;
    if (err == ERR_SITE_UNKNOWN || err == ERR_CIRCUIT_UNKNOWN || err == ERR_NOT_FOUND ||
        err == ERR_FORBIDDEN || err == ERR_BAD_REQUEST) {
        circuit_lost(&u->circuit, err == ERR_NOT_FOUND ? ERR_SITE_UNKNOWN : err);
        log_error("circuit=%s %s: %s", name_of(u), err_text(err), err_remedy(err));
        delay = LOOKUP_UNKNOWN_MS;
    } else {
        s->lookup_failures++;
    }
    u->lookup_at_ms = now_ms + earlier(delay, LOOKUP_UNKNOWN_MS);
}

/* The cloud's own clock, which no step of ours can move; 0: not known yet. */
static int64_t cloud_now(const struct sync *s, uint64_t now_ms)
{
    return s->cloud_ahead_ms != 0 ? (int64_t)now_ms + s->cloud_ahead_ms : 0;
}

static enum err take_observations(struct sync *s, const struct job *job,
                                  const struct easee_reply *r, uint64_t now_ms)
{
    size_t count;
    enum err err =
        easee_msg_observations(r->body, r->len, s->observation, OBSERVATIONS_MAX, &count);

    for (size_t i = 0; err == ERR_OK && i < count; i++)
        circuit_observe(&s->unit[job->unit].circuit, job->request.charger,
                        &s->observation[i], cloud_now(s, now_ms), now_ms);
    return err;
}

static void request_done(struct sync *s, const struct job *job,
                         const struct easee_reply *r, uint64_t now_ms)
{
    static const char *const what[] = {[REQUEST_SET] = "setpoint",
                                       [REQUEST_READBACK] = "read-back",
                                       [REQUEST_OBSERVE] = "observations"};
    struct unit *u = &s->unit[job->unit];
    struct outcome o = {.kind = job->request.kind,
                        .http_status = r->http_status,
                        .retry_after_s = r->retry_after_s};
    struct easee_command command[4];
    char detail[128];
    size_t commands;

    o.err = judge(r, detail, sizeof detail);
    report_to_session(s, job, o.err, now_ms);
    if (o.err == ERR_OK) {
        if (o.kind == REQUEST_SET) {
            o.err = easee_msg_commands(r->body, r->len, command, 4, &commands);
            o.ticks = o.err == ERR_OK && commands > 0 ? command[0].ticks : 0;
        } else if (o.kind == REQUEST_READBACK)
            o.err = easee_msg_currents(r->body, r->len, o.reported_da);
        else
            o.err = take_observations(s, job, r, now_ms);
    }
    if (o.err != ERR_OK)
        note_error(s, what[o.kind], o.err, r->http_status, detail, now_ms);
    circuit_done(&u->circuit, &s->budgets, &o, now_ms);
}

static void count_reply(struct sync *s, const struct job *job,
                        const struct easee_reply *r, uint64_t now_ms)
{
    s->counts.calls += r->transmissions;
    if (r->err != ERR_OK || r->http_status >= 300)
        s->counts.errors++;
    if (r->http_status == 429)
        s->counts.throttled++;
    if (r->http_status == 403)
        s->counts.forbidden++;
    /* What libcurl sent a second time by itself counts against the budget all the same.
     */
    for (unsigned i = 1; i < r->transmissions; i++)
        budget_take(&s->budgets.of[BUDGET_ALL], now_ms);
    if (r->transmissions > 1 && job->kind == JOB_REQUEST &&
        job->request.kind == REQUEST_SET)
        budget_take(&s->budgets.of[BUDGET_WRITE], now_ms);
}

static void finish_jobs(struct sync *s, uint64_t now_ms)
{
    struct easee_reply reply;

    while (easee_take(s->easee, &reply)) {
        struct job job = s->job[reply.tag];

        s->job[reply.tag].kind = JOB_NONE;
        if (reply.date_unix_ms != 0)
            s->cloud_ahead_ms = reply.date_unix_ms - (int64_t)now_ms;
        count_reply(s, &job, &reply, now_ms);
        switch (job.kind) {
        case JOB_LOGIN:
        case JOB_REFRESH:
            session_done(s, &job, &reply, now_ms);
            break;
        case JOB_SITES:
        case JOB_SITE:
            lookup_done(s, &job, &reply, now_ms);
            break;
        case JOB_REQUEST:
            request_done(s, &job, &reply, now_ms);
            break;
        case JOB_NONE:
            break;
        }
    }
}

/* ---- the stream ---- */

static void stream_state(struct sync *s, bool streaming, uint64_t now_ms)
{
    s->streaming = streaming;
    for (size_t i = 0; i < s->units; i++)
        circuit_stream(&s->unit[i].circuit, streaming, now_ms);
}

/* The circuit and the charger on it that SERIAL is; a charger is on one circuit only. */
static struct circuit *find_charger(struct sync *s, const char *serial,
                                    unsigned *ret_charger)
{
    for (size_t i = 0; i < s->units; i++) {
        struct unit *u = &s->unit[i];

        for (unsigned k = 0; u->circuit.found && k < u->where.chargers; k++) {
            if (strcmp(u->where.serial[k], serial) == 0) {
                *ret_charger = k;
                return &u->circuit;
            }
        }
    }
    return NULL;
}

static void stream_message(struct sync *s, const struct signalr_message *m,
                           uint64_t now_ms)
{
    unsigned charger;
    struct circuit *c = find_charger(s, m->serial, &charger);

    if (c == NULL)
        return;
    if (m->kind == SIGNALR_OBSERVATION)
        circuit_observe(c, charger, &m->observation, cloud_now(s, now_ms), now_ms);
    else
        circuit_verdict(c,
                        &(struct verdict){.ticks = m->ticks,
                                          .command = m->command_id,
                                          .charger = (uint8_t)charger,
                                          .accepted = m->accepted},
                        now_ms);
}

/* The token may be spent for the hub though REST takes it: one refresh, then patience. */
static void stream_rejected(struct sync *s, uint64_t now_ms)
{
    if (s->stream_retry_at_ms == NEVER && s->stream_token == s->token_generation)
        session_rejected(&s->session, now_ms);
    s->stream_retry_at_ms = now_ms + STREAM_REJECTED_MS;
}

static void stream_event(struct sync *s, const struct stream_event *e, uint64_t now_ms)
{
    switch (e->kind) {
    case STREAM_UP:
        s->counts.stream_connects++;
        s->stream_retry_at_ms = NEVER;
        stream_state(s, true, now_ms);
        log_info("stream up");
        break;
    case STREAM_DOWN:
    case STREAM_REJECTED:
        if (s->streaming)
            log_info("stream down: polling until it is back");
        else
            note_error(s, "stream", e->err, e->http_status, "", now_ms);
        stream_state(s, false, now_ms);
        if (e->kind == STREAM_REJECTED)
            stream_rejected(s, now_ms);
        break;
    case STREAM_GAP:
        s->counts.telemetry_gaps++;
        for (size_t i = 0; i < s->units; i++)
            for (unsigned k = 0;
                 s->unit[i].circuit.found && k < s->unit[i].where.chargers; k++)
                stream_subscribe(s->stream, s->unit[i].where.serial[k]);
        break;
    case STREAM_MESSAGE:
        stream_message(s, &e->message, now_ms);
        break;
    }
}

static void take_stream(struct sync *s, uint64_t now_ms)
{
    struct stream_event e;
    bool again = s->stream_retry_at_ms != NEVER && now_ms >= s->stream_retry_at_ms;

    while (stream_take(s->stream, &e))
        stream_event(s, &e, now_ms);
    if (s->token_generation == 0 || (s->stream_token == s->token_generation && !again))
        return;
    s->stream_token = s->token_generation;
    if (again)
        s->stream_retry_at_ms = now_ms + STREAM_REJECTED_MS;
    stream_set_token(s->stream, s->token.access);
}

/* ---- the exchange ---- */

static void take_wants(struct sync *s, uint64_t now_ms)
{
    for (size_t i = 0; i < s->units; i++) {
        struct unit *u = &s->unit[i];
        struct want w;

        if (exchange_take_want(s->exchange, i, &u->want_seen, &w))
            circuit_want(&u->circuit, &w, now_ms);
    }
}

static void take_credentials(struct sync *s, uint64_t now_ms)
{
    bool changed;

    pthread_mutex_lock(&s->credentials_lock);
    changed = s->credentials_changed;
    s->credentials_changed = false;
    pthread_mutex_unlock(&s->credentials_lock);
    if (changed)
        session_reset(&s->session, now_ms);
}

static enum connection connection(const struct sync *s, const struct unit *u,
                                  uint64_t now_ms)
{
    uint64_t said_at = u->circuit.charger[0].reported_at_ms;

    if (s->session.blocked_until_ms > now_ms)
        return CONNECTION_BLOCKED;
    if (!session_usable(&s->session, now_ms))
        return s->session.out != SESSION_NOTHING ? CONNECTION_LOGGING_IN
                                                 : CONNECTION_NONE;
    if (said_at == NEVER || now_ms > said_at + STALE_MS)
        return CONNECTION_STALE;
    return s->streaming ? CONNECTION_STREAMING : CONNECTION_POLLING;
}

static void show_unit(struct sync *s, size_t i, uint64_t now_ms)
{
    struct unit *u = &s->unit[i];
    struct status now = {0};

    circuit_status(&u->circuit, &s->budgets, now_ms, &now);
    now.connection = (uint8_t)connection(s, u, now_ms);
    if (u->circuit.found) {
        snprintf(now.telemetry.serial, sizeof now.telemetry.serial, "%s",
                 u->where.serial[0]);
        snprintf(now.telemetry.model, sizeof now.telemetry.model, "%s",
                 easee_msg_product(u->where.product[0]));
    }
    if (s->session.credentials_refused)
        now.faults |= FAULT_LOGIN_REFUSED;
    if (s->session.blocked_until_ms > now_ms)
        now.faults |= FAULT_BLOCKED;
    if (s->session_err != ERR_OK && !session_usable(&s->session, now_ms)) {
        now.progress.result = (int16_t)s->session_err;
        now.progress.http_status = s->session_http;
    }
    if (memcmp(&now, &u->shown, sizeof now) == 0)
        return;
    u->shown = now;
    exchange_put_status(s->exchange, i, &now);
}

static void show(struct sync *s, uint64_t now_ms)
{
    struct cloud_counts *n = &s->counts;

    n->watchdog_trips = n->reasserts = n->foreign_commands = 0;
    for (size_t i = 0; i < s->units; i++) {
        const struct circuit_counts *c = &s->unit[i].circuit.counts;

        log_events(&s->unit[i]);
        show_unit(s, i, now_ms);
        n->watchdog_trips += c->trips;
        n->reasserts += c->reasserts;
        n->foreign_commands += c->foreign_commands;
    }
    if (memcmp(n, &s->counts_shown, sizeof *n) == 0)
        return;
    s->counts_shown = *n;
    exchange_put_counts(s->exchange, n);
}

/* ---- the thread ---- */

static int wait_ms(struct sync *s, uint64_t now_ms)
{
    /* What is due and did not start waits for a token, or for a call to end. */
    bool able = session_usable(&s->session, now_ms) && easee_room(s->easee) > READ_ROOM;
    const struct budget *write = &s->budgets.of[BUDGET_WRITE];
    uint64_t at = earlier(now_ms + WAIT_MAX_MS, session_wake(&s->session, now_ms));

    if (budget_left(write, now_ms) + write->rule[0].reserve < write->rule[0].calls)
        at = earlier(at, now_ms + COUNTDOWN_MS);
    at = earlier(at, s->stream_retry_at_ms);
    for (size_t i = 0; i < s->units; i++) {
        uint64_t wake = earlier(circuit_wake(&s->unit[i].circuit, &s->budgets, now_ms),
                                lookup_at(s, &s->unit[i], now_ms));

        if (able || wake > now_ms)
            at = earlier(at, wake);
    }
    return at <= now_ms ? 0 : (int)(at - now_ms);
}

static bool writing(const struct sync *s)
{
    for (size_t i = 0; i < EASEE_CALLS_MAX; i++)
        if (s->job[i].kind == JOB_REQUEST && s->job[i].request.kind == REQUEST_SET)
            return true;
    return false;
}

/* One turn without waiting. */
static void turn(struct sync *s, uint64_t now_ms)
{
    atomic_store(&s->progress_ms, now_ms);
    take_credentials(s, now_ms);
    take_wants(s, now_ms);
    finish_jobs(s, now_ms);
    take_stream(s, now_ms);
    start_session(s, now_ms);
    if (session_usable(&s->session, now_ms)) {
        start_lookup(s, now_ms);
        start_requests(s, now_ms);
    }
    show(s, now_ms);
}

static void *run(void *arg)
{
    struct sync *s = arg;
    uint64_t now_ms = sys_now_ms(), end_ms;

    while (!atomic_load(&s->stop)) {
        turn(s, now_ms);
        easee_run(s->easee, wait_ms(s, now_ms));
        now_ms = sys_now_ms();
    }
    for (end_ms = now_ms + FINISH_MS; writing(s) && now_ms < end_ms;
         now_ms = sys_now_ms()) {
        easee_run(s->easee, (int)(end_ms - now_ms));
        finish_jobs(s, now_ms);
    }
    eventfd_write(s->exit_fd, 1);
    return NULL;
}

static void wake(void *arg)
{
    struct sync *s = arg;

    easee_wake(s->easee);
}

static struct circuit_config policy(const struct config_circuit *c)
{
    return (struct circuit_config){
        .phase = {.dwell_ms = c->phase_dwell * UINT64_C(1000),
                  .pause_ms = c->phase_pause * UINT64_C(1000),
                  .single_phase_max_w = c->single_phase_max,
                  .voltage_v = (uint16_t)c->voltage,
                  .max_current_a = (uint8_t)c->max_current,
                  .min_current_a = (uint8_t)c->min_current,
                  .phases_wired = (uint8_t)c->phases,
                  .switches_per_day = (uint8_t)c->phase_switches_per_day},
        .increase_interval_ms = c->increase_interval * UINT64_C(1000),
        .decrease_interval_ms = c->decrease_interval * UINT64_C(1000),
        .deadman_min = (uint16_t)c->deadman,
        .start_boost = c->start_boost
    };
}

enum err sync_new(struct sync **ret, const struct config *cfg, struct exchange *x,
                  char *why, size_t why_size)
{
    struct easee_options opt = {.api_url = cfg->easee.api_url,
                                .ca_file = cfg->easee.ca_file};
    struct sync *s = calloc(1, sizeof *s + cfg->circuits * sizeof s->unit[0]);
    uint32_t seed = sys_random();
    enum err err = ERR_SYSTEM;

    if (s == NULL) {
        snprintf(why, why_size, "out of memory");
        return ERR_SYSTEM;
    }
    pthread_mutex_init(&s->credentials_lock, NULL);
    s->exchange = x;
    s->stream_retry_at_ms = NEVER;
    s->exit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->exit_fd < 0) {
        snprintf(why, why_size, "eventfd: %s", strerror(errno));
        goto out;
    }
    err = easee_new(&s->easee, &opt);
    if (err != ERR_OK) {
        snprintf(why, why_size, "api_url %s, ca_file %s: %s", opt.api_url, opt.ca_file,
                 err_text(err));
        goto out;
    }
    err = stream_new(&s->stream, &(struct stream_options){.url = cfg->easee.stream_url,
                                                          .ca_file = cfg->easee.ca_file,
                                                          .wake = wake,
                                                          .arg = s});
    if (err != ERR_OK) {
        snprintf(why, why_size, "stream_url %s: %s", cfg->easee.stream_url,
                 err_text(err));
        goto out;
    }
    session_init(&s->session, seed);
    budgets_init(&s->budgets);
    snprintf(s->username, sizeof s->username, "%s", cfg->easee.username);
    snprintf(s->password, sizeof s->password, "%s", cfg->easee.password);
    s->units = cfg->circuits;
    for (size_t i = 0; i < s->units; i++) {
        struct unit *u = &s->unit[i];
        struct circuit_config p = policy(&cfg->circuit[i]);

        u->cfg = cfg->circuit[i];
        u->selector = u->cfg.selector;
        circuit_init(&u->circuit, &p, seed + (uint32_t)i);
    }
    exchange_on_want(x, wake, s);
    show(s, sys_now_ms());
    *ret = s;
    return ERR_OK;
out:
    sync_free(s);
    return err;
}

enum err sync_start(struct sync *s)
{
    atomic_store(&s->progress_ms, sys_now_ms());
    if (stream_start(s->stream) != ERR_OK)
        return ERR_SYSTEM;
    if (pthread_create(&s->thread, NULL, run, s) != 0)
        return ERR_SYSTEM;
    s->started = true;
    return ERR_OK;
}

int sync_exit_fd(const struct sync *s)
{
    return s->exit_fd;
}

void sync_set_credentials(struct sync *s, const char *username, const char *password)
{
    pthread_mutex_lock(&s->credentials_lock);
    explicit_bzero(s->password, sizeof s->password);
    snprintf(s->username, sizeof s->username, "%s", username);
    snprintf(s->password, sizeof s->password, "%s", password);
    s->credentials_changed = true;
    pthread_mutex_unlock(&s->credentials_lock);
    easee_wake(s->easee);
}

bool sync_stop(struct sync *s, uint32_t timeout_ms)
{
    struct pollfd ended = {.fd = s->exit_fd, .events = POLLIN};

    if (!stream_stop(s->stream, STREAM_STOP_MS))
        return false;
    if (!s->started)
        return true;
    atomic_store(&s->stop, true);
    easee_wake(s->easee);
    if (poll(&ended, 1, (int)timeout_ms) <= 0)
        return false;
    pthread_join(s->thread, NULL);
    s->started = false;
    return true;
}

void sync_free(struct sync *s)
{
    if (s == NULL)
        return;
    exchange_on_want(s->exchange, NULL, NULL);
    stream_free(s->stream);
    easee_free(s->easee);
    if (s->exit_fd >= 0)
        close(s->exit_fd);
    pthread_mutex_destroy(&s->credentials_lock);
    explicit_bzero(s->password, sizeof s->password);
    explicit_bzero(&s->token, sizeof s->token);
    free(s);
}

uint64_t sync_progress_ms(const struct sync *s)
{
    return earlier(atomic_load(&s->progress_ms), stream_progress_ms(s->stream));
}
