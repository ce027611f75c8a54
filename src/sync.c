/* SPDX-License-Identifier: MIT
 *
 * One loop: take the newest wishes, take the answers, ask session, lookup and circuits
 * what is due, start that, show what is known, wait.  The clock is read once per turn. */
#include "sync_parts.h"

#include "evecc/sys.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    WAIT_MAX_MS = 10 * 1000, /* shows the service watchdog that the thread lives */
    WANTS_MS = 20,           /* wishes are looked at so often, however many there are */
    IDLE_MS = 1000,          /* nothing was due for so long: time to tidy up */
    COUNTDOWN_MS = 5 * 1000, /* how old a shown "calls left" may be */
    FINISH_MS = 2 * 1000,    /* a setpoint on its way may end before the thread does */
    STREAM_STOP_MS = 500,
    BODY_MAX = 2 * EASEE_TOKEN_MAX + 128
};

/* ---- starting calls ---- */

bool sync_start_job(struct sync *s, const struct job *job, const char *path,
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
        snprintf(s->token_username, sizeof s->token_username, "%s", s->username);
        s->token_mark = account_mark(s->username, s->password);
        pthread_mutex_unlock(&s->credentials_lock);
        s->counts.logins++;
    } else {
        len = easee_msg_refresh(body, sizeof body, s->token.access, s->token.refresh);
        s->counts.refreshes++;
    }
    job = (struct job){.kind = step == SESSION_LOGIN ? JOB_LOGIN : JOB_REFRESH};
    budget_take(&s->budgets->of[BUDGET_ALL], now_ms);
    if (len == 0 || !sync_start_job(s, &job, path[step], body))
        session_failed(&s->session, ERR_SYSTEM, -1, now_ms);
    explicit_bzero(body, sizeof body);
}

static bool start_request(struct sync *s, size_t i, const struct request *r,
                          uint64_t now_ms)
{
    const struct easee_circuit *where = &s->unit[i].where;
    struct job job = {.kind = JOB_REQUEST, .unit = i, .request = *r};
    char path[EASEE_PATH_MAX], body[256];
    const char *post = NULL;
    bool ttl = r->kind == REQUEST_SET && r->ttl_min != 0;

    if (r->kind == REQUEST_OBSERVE && s->unit[i].circuit.live)
        sync_subscribe_again(s, &s->unit[i], r->charger, now_ms);
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
        log_info("send circuit=%s amps=%u/%u/%u ttl=%umin", sync_name(&s->unit[i]),
                 r->amps.l[0], r->amps.l[1], r->amps.l[2], r->ttl_min);
    }
    return sync_start_job(s, &job, path, post);
}

/* True when a request of circuit I was started. */
static bool start_next(struct sync *s, size_t i, uint64_t now_ms)
{
    struct circuit *c = &s->unit[i].circuit;
    struct request r;

    if (!circuit_next(c, s->budgets, now_ms, &r))
        return false;
    if (start_request(s, i, &r, now_ms))
        return true;
    circuit_done(
        c, s->budgets,
        &(struct outcome){.kind = r.kind, .err = ERR_CONNECT, .retry_after_s = -1},
        now_ms);
    return false;
}

/* The circuit whose setpoint is the most pressing, in turn among equals; s->units: none.
 */
static size_t most_pressing(struct sync *s, uint64_t now_ms)
{
    unsigned best_press = 0;
    size_t best = s->units;

    for (size_t k = 0; k < s->units; k++) {
        size_t i = (s->turn + k) % s->units;
        unsigned press = circuit_press(&s->unit[i].circuit, s->budgets, now_ms);

        if (press > best_press) {
            best_press = press;
            best = i;
        }
    }
    return best;
}

static void start_requests(struct sync *s, uint64_t now_ms)
{
    size_t i, first = s->read_turn;

    while (easee_room(s->easee) > 0 && (i = most_pressing(s, now_ms)) < s->units) {
        s->turn = i + 1;
        start_next(s, i, now_ms);
    }
    for (i = 0; i < s->units && easee_room(s->easee) > SYNC_READ_ROOM; i++)
        if (start_next(s, (first + i) % s->units, now_ms))
            s->read_turn = (first + i + 1) % s->units;
}

/* ---- taking answers ---- */

/* What REPLY means as a whole; DETAIL gets the other side's words. */
enum err sync_judge(const struct easee_reply *r, char *detail, size_t size)
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
    enum err err = sync_judge(r, detail, sizeof detail);

    if (err == ERR_OK)
        err = easee_msg_token(r->body, r->len, &s->token);
    s->session_err = err;
    s->session_http = r->http_status;
    if (err != ERR_OK) {
        /* Timed out before there was a connection: the cloud has heard nothing. */
        session_failed(&s->session,
                       err == ERR_TIMEOUT && r->transmissions == 0 ? ERR_CONNECT : err,
                       r->retry_after_s, now_ms);
        sync_note_error(s, what, err, r->http_status, detail, now_ms);
        return;
    }
    s->token_generation++;
    easee_set_token(s->easee, s->token.access);
    session_granted(&s->session, s->token.expires_in_s, now_ms);
    log_info("%s ok expires=%" PRId64 "s", what, s->token.expires_in_s);
}

/* Tells the session what an ordinary call showed about the token and the account. */
void sync_report(struct sync *s, const struct job *job, enum err err, uint64_t now_ms)
{
    if (err == ERR_OK) {
        session_accepted(&s->session);
    } else if (err == ERR_UNAUTHORISED && job->token == s->token_generation) {
        session_rejected(&s->session, now_ms);
    } else if (err == ERR_BLOCKED) {
        session_blocked(&s->session, now_ms);
    }
}

/* The cloud's own clock, which no step of ours can move; 0: not known yet. */
int64_t sync_cloud_now(const struct sync *s, uint64_t now_ms)
{
    return s->cloud_ahead_ms != 0 ? (int64_t)now_ms + s->cloud_ahead_ms : 0;
}

static enum err take_observations(struct sync *s, const struct job *job,
                                  const struct easee_reply *r, uint64_t now_ms)
{
    size_t count;
    enum err err = easee_msg_observations(r->body, r->len, s->observation,
                                          SYNC_OBSERVATIONS_MAX, &count);

    for (size_t i = 0; err == ERR_OK && i < count; i++)
        circuit_observe(&s->unit[job->unit].circuit, job->request.charger,
                        &s->observation[i], sync_cloud_now(s, now_ms), now_ms);
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
    bool found;

    o.err = sync_judge(r, detail, sizeof detail);
    sync_report(s, job, o.err, now_ms);
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
        sync_note_error(s, what[o.kind], o.err, r->http_status, detail, now_ms);
    found = u->circuit.found;
    circuit_done(&u->circuit, s->budgets, &o, now_ms);
    if (found && !u->circuit.found)
        sync_lost(u, now_ms);
}

static void count_reply(struct sync *s, const struct job *job,
                        const struct easee_reply *r, uint64_t now_ms)
{
    s->counts.calls += r->transmissions;
    if (r->err != ERR_PARSE && (r->err != ERR_OK || r->http_status >= 300))
        s->counts.errors++;
    if (r->http_status == 429)
        s->counts.throttled++;
    if (r->http_status == 403)
        s->counts.forbidden++;
    /* What libcurl sent a second time by itself counts against the budget all the same.
     */
    for (unsigned i = 1; i < r->transmissions; i++)
        budget_take(&s->budgets->of[BUDGET_ALL], now_ms);
    if (r->transmissions > 1 && job->kind == JOB_REQUEST &&
        job->request.kind == REQUEST_SET)
        budget_take(&s->budgets->of[BUDGET_WRITE], now_ms);
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
            sync_lookup_done(s, &job, &reply, now_ms);
            break;
        case JOB_REQUEST:
            request_done(s, &job, &reply, now_ms);
            break;
        case JOB_NONE:
            break;
        }
    }
}

/* ---- the exchange ---- */

static void take_wants(struct sync *s, uint64_t now_ms)
{
    s->wants_at_ms = now_ms + WANTS_MS;
    /* Before they are read: a later one wakes us again.  An exchange, not a store, so
     * that everything put before it is seen. */
    atomic_exchange(&s->wants_waiting, false);
    for (size_t i = 0; i < s->units; i++) {
        struct unit *u = &s->unit[i];
        struct want w;

        if (exchange_take_want(s->exchange, i, &u->want_seen, &w)) {
            circuit_want(&u->circuit, &w, now_ms);
            u->written = true;
        }
    }
}

static void take_credentials(struct sync *s, uint64_t now_ms)
{
    bool changed;

    pthread_mutex_lock(&s->credentials_lock);
    changed = s->credentials_changed;
    s->credentials_changed = false;
    if (changed)
        s->mark = account_mark(s->username, s->password);
    pthread_mutex_unlock(&s->credentials_lock);
    if (changed)
        session_reset(&s->session, now_ms);
}

/* ---- the thread ---- */

static int wait_ms(struct sync *s, uint64_t now_ms)
{
    /* What is due and did not start waits for a token, or for a call to end. */
    bool able =
        session_usable(&s->session, now_ms) && easee_room(s->easee) > SYNC_READ_ROOM;
    const struct budget *write = &s->budgets->of[BUDGET_WRITE];
    uint64_t at = now_ms + WAIT_MAX_MS;

    if (easee_room(s->easee) > 0)
        at = earlier(at, session_wake(&s->session, now_ms));
    if (budget_left(write, now_ms) + write->rule[0].reserve < write->rule[0].calls)
        at = earlier(at, now_ms + COUNTDOWN_MS);
    at = earlier(at, earlier(s->stream_retry_at_ms, s->keep_at_ms));
    if (atomic_load(&s->wants_waiting))
        at = earlier(at, s->wants_at_ms);
    for (size_t i = 0; i < s->units; i++) {
        struct circuit *c = &s->unit[i].circuit;
        uint64_t wake = earlier(circuit_wake(c, s->budgets, now_ms),
                                sync_lookup_at(s, &s->unit[i], now_ms));

        if (!able && wake <= now_ms)
            wake = circuit_decide_at(c);
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
    if (now_ms >= s->wants_at_ms)
        take_wants(s, now_ms);
    finish_jobs(s, now_ms);
    sync_take_stream(s, now_ms);
    start_session(s, now_ms);
    if (session_usable(&s->session, now_ms)) {
        sync_start_lookup(s, now_ms);
        start_requests(s, now_ms);
    }
    sync_show(s, now_ms);
}

static void *run(void *arg)
{
    struct sync *s = arg;
    uint64_t now_ms = sys_now_ms(), end_ms;

    while (!atomic_load(&s->stop)) {
        int timeout_ms;

        now_ms = sync_lock_account(s);
        turn(s, now_ms);
        timeout_ms = wait_ms(s, now_ms);
        sync_unlock_account(s);
        sync_keep(s, now_ms); /* nothing that was started has left yet */
        easee_run(s->easee, timeout_ms);
        if (timeout_ms >= IDLE_MS && sys_now_ms() >= now_ms + (unsigned)timeout_ms)
            malloc_trim(0); /* nothing to do: what JSON of many circuits took goes back */
    }
    for (end_ms = now_ms + FINISH_MS; writing(s) && now_ms < end_ms;) {
        easee_run(s->easee, (int)(end_ms - now_ms));
        now_ms = sync_lock_account(s);
        finish_jobs(s, now_ms);
        sync_unlock_account(s);
    }
    take_wants(s, now_ms);  /* what was answered last is not sent any more, but saved */
    s->keep_at_ms = now_ms; /* also after a failure just now */
    sync_keep(s, now_ms);
    eventfd_write(s->exit_fd, 1);
    return NULL;
}

static void wake(void *arg)
{
    struct sync *s = arg;

    easee_wake(s->easee);
}

/* From the Modbus thread.  Only the first of many: the thread looks at them together. */
static void wake_for_wants(void *arg)
{
    struct sync *s = arg;

    if (!atomic_exchange(&s->wants_waiting, true))
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
                  struct store *store, char *why, size_t why_size)
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
    snprintf(s->api_url, sizeof s->api_url, "%s", cfg->easee.api_url);
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
    err = sync_keep_open(s, cfg->gateway.state_dir, store);
    if (err != ERR_OK) {
        snprintf(why, why_size, "out of memory");
        goto out;
    }
    exchange_on_want(x, wake_for_wants, s);
    sync_show(s, sys_now_ms());
    *ret = s;
    return ERR_OK;
out:
    sync_free(s);
    return err;
}

enum err sync_start(struct sync *s)
{
    int error;

    atomic_store(&s->progress_ms, sys_now_ms());
    if (stream_start(s->stream) != ERR_OK)
        return ERR_SYSTEM;
    error = pthread_create(&s->thread, NULL, run, s);
    if (error != 0) {
        errno = error;
        return ERR_SYSTEM;
    }
    s->started = true;
    return ERR_OK;
}

const struct want *sync_restored(const struct sync *s, size_t circuit)
{
    return s->unit[circuit].written ? &s->unit[circuit].circuit.want : NULL;
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

    if (s->started) {
        atomic_store(&s->stop, true);
        easee_wake(s->easee);
        if (poll(&ended, 1, (int)timeout_ms) <= 0)
            return false;
        pthread_join(s->thread, NULL);
        s->started = false;
    }
    return stream_stop(s->stream, STREAM_STOP_MS);
}

void sync_free(struct sync *s)
{
    if (s == NULL)
        return;
    exchange_on_want(s->exchange, NULL, NULL);
    stream_free(s->stream);
    easee_free(s->easee);
    sync_keep_close(s);
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
