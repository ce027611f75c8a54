/* SPDX-License-Identifier: MIT */
#include "sim.h"

#include "api.h"
#include "control.h"
#include "json.h"
#include "world.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void rebase(struct sim *s)
{
    s->base_ms += (double)(s->real_us - s->base_us) / 1000 * s->speed;
    s->base_us = s->real_us;
}

void sim_set_speed(struct sim *s, double speed)
{
    rebase(s);
    s->speed = speed;
}

uint64_t sim_client_s(const struct sim *s, uint64_t ms)
{
    double seconds = ceil((double)ms / 1000 / s->speed);

    return seconds < 1 ? 1 : (uint64_t)seconds;
}

void sim_reset(struct sim *s, uint64_t real_us, uint64_t unix_ms)
{
    s->speed = s->options.speed;
    s->base_ms = 0;
    s->base_us = s->real_us = real_us;
    s->real_unix_ms = unix_ms;
    s->next_event = 0;
    model_init(&s->model, s->options.seed, unix_ms);
    tokens_init(&s->tokens, s->options.seed);
    limits_init(&s->limits);
    faults_remove(&s->faults, 0);
    ledger_clear(&s->ledger);
    world_load(s->options.world, &s->model, NULL);
    if (s->options.legacy_state)
        s->model.quirks.legacy_state = true;
    hub_reset(&s->hub, &s->model, s->options.seed);
    s->model.listener = (struct listener){
        .arg = &s->hub, .observed = hub_observed, .answered = hub_answered};
}

static uint64_t simulated_ms(const struct sim *s)
{
    return (uint64_t)(s->base_ms + (double)(s->real_us - s->base_us) / 1000 * s->speed);
}

/* Time passes up to now, with the scenario's events in their places.  An event may change
 * the speed, which counts from the moment it is noticed. */
static void catch_up(struct sim *s, uint64_t real_us, uint64_t unix_ms)
{
    const cJSON *event;

    s->real_us = real_us > s->real_us ? real_us : s->real_us;
    s->real_unix_ms = unix_ms;
    while ((event = scenario_event(s->options.scenario, s->next_event)) != NULL) {
        uint64_t at_ms = scenario_time_ms(event);

        if (at_ms > simulated_ms(s))
            break;
        model_advance(&s->model, at_ms);
        s->next_event++;
        scenario_run(s, event);
    }
    model_advance(&s->model, simulated_ms(s));
}

void sim_run(struct sim *s, uint64_t real_us, uint64_t unix_ms)
{
    catch_up(s, real_us, unix_ms);
    hub_run(&s->hub, real_us);
}

uint64_t sim_unix_ms(const struct sim *s)
{
    return model_unix_ms(&s->model, s->model.now_ms);
}

uint64_t sim_wake_us(const struct sim *s)
{
    const cJSON *event = scenario_event(s->options.scenario, s->next_event);
    uint64_t hub_us = hub_wake_us(&s->hub), world_ms = model_wake(&s->model), world_us;
    double wait_ms;

    if (hub_us == NEVER)
        return NEVER;
    if (event && scenario_time_ms(event) < world_ms)
        world_ms = scenario_time_ms(event);
    wait_ms = ((double)world_ms - s->base_ms) / s->speed;
    world_us = s->base_us + (uint64_t)(wait_ms > 0 ? ceil(wait_ms * 1000) : 0);
    return hub_us < world_us ? hub_us : world_us;
}

/* The gateway in front says so of unknown paths as of blocked clients (easee-api 5.6). */
static const char forbidden[] = "{\"message\":\"Forbidden\"}";

/* The page of the firewall, in its two known forms (easee-api 8.3). */
static void answer_blocked(struct sim *s, struct response *r)
{
    if (s->limits.block_status == 429) {
        response_text(r, 429, "text/plain; charset=utf-8",
                      "Too many requests from a third-party system. This IP address is "
                      "blocked for 24 hours, counted from the last request received.\n");
        return;
    }
    response_text(r, 403, "application/json", forbidden);
}

static void answer_too_many(struct sim *s, const char *ip, uint64_t wait_ms,
                            struct response *r)
{
    char seconds[24];

    limits_excess(&s->limits, ip, s->model.now_ms);
    snprintf(seconds, sizeof seconds, "%" PRIu64, sim_client_s(s, wait_ms));
    response_header(r, "Retry-After", seconds);
    response_set(r, 429, NULL, NULL);
}

static void answer_no_route(bool path_exists, struct response *r)
{
    if (path_exists)
        response_set(r, 405, NULL, NULL);
    else
        response_text(r, 403, "application/json", forbidden);
}

static void answer_unauthorised(struct response *r)
{
    response_header(r, "WWW-Authenticate", "Bearer");
    response_set(r, 401, NULL, NULL);
}

static bool authorise(struct call *call, bool hub)
{
    static const char scheme[] = "Bearer ";
    const char *header = call->request->authorization;
    char token[TOKEN_SIZE] = "";
    int owner = -1;

    if (strncmp(header, scheme, sizeof scheme - 1) == 0)
        snprintf(token, sizeof token, "%s", header + sizeof scheme - 1);
    else if (hub) /* browsers have no other way */
        request_query(call->request, "access_token", token, sizeof token);
    if (token[0])
        owner = tokens_owner(&call->sim->tokens, token, call->model->now_ms);
    if (owner >= 0)
        call->account = (unsigned)owner;
    return owner >= 0;
}

/* application/json, text/json, application/...+json (easee-api 1.1). */
static bool declared_json(const struct request *q)
{
    return strstr(q->content_type, "/json") || strstr(q->content_type, "+json");
}

/* Firewall, limits and token, in the order of the real thing.  False: answered. */
static bool admit(struct call *call, const struct api_route *route, bool path_exists,
                  bool authorised)
{
    struct sim *s = call->sim;
    const char *ip = call->request->ip;
    struct response *r = call->response;
    uint64_t now_ms = s->model.now_ms, wait_ms;
    char key[LIMIT_KEY_SIZE];

    if (limits_blocked(&s->limits, ip, now_ms)) {
        answer_blocked(s, r);
        return false;
    }
    snprintf(key, sizeof key, "account %u", call->account);
    wait_ms = route && route->class == LIMIT_hub
                  ? 0
                  : limits_take(&s->limits, LIMIT_all, ip, now_ms);
    if (wait_ms == 0 && !route) {
        answer_no_route(path_exists, r);
        return false;
    }
    if (wait_ms == 0 && !route->open && !authorised) {
        answer_unauthorised(r);
        return false;
    }
    if (wait_ms == 0)
        wait_ms = limits_take(&s->limits, route->class, route->open ? ip : key, now_ms);
    if (wait_ms > 0)
        answer_too_many(s, ip, wait_ms, r);
    return wait_ms == 0;
}

static void act(struct call *call, const struct api_route *route)
{
    const struct request *q = call->request;

    if (q->too_large) {
        response_set(call->response, 413, NULL, NULL);
        return;
    }
    if (q->body && call->model->quirks.strict_type && !declared_json(q)) {
        response_set(call->response, 415, NULL, NULL);
        return;
    }
    call->body = json_parse(q->body, q->body_len);
    route->handler(call);
    cJSON_Delete(call->body);
}

/* A fault takes the place of the answer, not of the accounting: windows fill up all the
 * same. */
static void answer_api(struct call *call, const struct fault *fault,
                       struct ledger_entry *entry)
{
    const struct request *q = call->request;
    bool path_exists;
    const struct api_route *route = api_find(q->method, q->path, call->arg, &path_exists);

    entry->class = route ? limits_name(route->class) : "unknown";
    entry->authorised = authorise(call, route && route->class == LIMIT_hub);
    if (admit(call, route, path_exists, entry->authorised) && (!fault || fault->applied))
        act(call, route);
    if (!fault)
        return;
    if (!fault->applied)
        response_release(call->response);
    entry->fault = faults_kind_name(fault->kind);
    faults_spoil(fault, call->response);
}

void sim_answer(struct sim *s, const struct request *request, uint64_t real_us,
                uint64_t unix_ms, struct response *response)
{
    struct call call = {
        .sim = s, .model = &s->model, .request = request, .response = response};
    struct ledger_entry entry = {.request = request, .unix_ms = unix_ms};

    *response = (struct response){0};
    sim_run(s, real_us, unix_ms);
    if (strncmp(request->path, "/sim/", 5) == 0) {
        control_answer(s, request, response);
        return;
    }
    answer_api(&call, faults_match(&s->faults, request), &entry);
    faults_done(&s->faults);
    entry.t_ms = s->model.now_ms;
    entry.status = response->wire == WIRE_RESET || response->wire == WIRE_SILENT
                       ? 0
                       : response->status;
    entry.retry_after = response_get_header(response, "Retry-After");
    ledger_add(&s->ledger, &entry);
}
