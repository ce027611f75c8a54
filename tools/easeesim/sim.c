/* SPDX-License-Identifier: MIT */
#include "sim.h"

#include "api.h"
#include "control.h"
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

/* The page of the firewall, in its two known forms (easee-api 8.3). */
static void answer_blocked(struct sim *s, struct response *r)
{
    if (s->limits.block_status == 429) {
        response_text(r, 429, "text/plain; charset=utf-8",
                      "Too many requests from a third-party system. This IP address is "
                      "blocked for 24 hours, counted from the last request received.\n");
        return;
    }
    response_text(r, 403, "application/json", "{\"message\":\"Forbidden\"}");
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

static bool authorise(struct call *call)
{
    static const char scheme[] = "Bearer ";
    const char *header = call->request->authorization;
    int owner = -1;

    if (strncmp(header, scheme, sizeof scheme - 1) == 0)
        owner = tokens_owner(&call->sim->tokens, header + sizeof scheme - 1,
                             call->model->now_ms);
    if (owner >= 0)
        call->account = (unsigned)owner;
    return owner >= 0;
}

/* Everything between the firewall and the handler, in the order of the real thing. */
static void answer_api(struct call *call, struct ledger_entry *entry)
{
    struct sim *s = call->sim;
    const struct request *q = call->request;
    struct response *r = call->response;
    const struct api_route *route;
    char key[LIMIT_KEY_SIZE];
    bool path_exists;
    uint64_t wait_ms;

    if (limits_blocked(&s->limits, q->ip, s->model.now_ms)) {
        answer_blocked(s, r);
        return;
    }
    route = api_find(q->method, q->path, call->arg, &path_exists);
    if (route)
        entry->class = limits_name(route->class);
    wait_ms = limits_take(&s->limits, LIMIT_all, q->ip, s->model.now_ms);
    if (wait_ms > 0) {
        answer_too_many(s, q->ip, wait_ms, r);
        return;
    }
    if (!route) {
        if (path_exists)
            response_set(r, 405, NULL, NULL);
        else
            response_text(r, 403, "application/json", "{\"message\":\"Forbidden\"}");
        return;
    }
    entry->authorised = authorise(call);
    if (!route->open && !entry->authorised) {
        response_header(r, "WWW-Authenticate", "Bearer");
        response_set(r, 401, NULL, NULL);
        return;
    }
    if (q->too_large) {
        response_set(r, 413, NULL, NULL);
        return;
    }
    snprintf(key, sizeof key, "account %u", call->account);
    wait_ms =
        limits_take(&s->limits, route->class, route->open ? q->ip : key, s->model.now_ms);
    if (wait_ms > 0) {
        answer_too_many(s, q->ip, wait_ms, r);
        return;
    }
    call->body = q->body ? cJSON_ParseWithLength(q->body, q->body_len) : NULL;
    route->handler(call);
    cJSON_Delete(call->body);
}

void sim_answer(struct sim *s, const struct request *request, uint64_t real_us,
                uint64_t unix_ms, struct response *response)
{
    struct call call = {
        .sim = s, .model = &s->model, .request = request, .response = response};
    struct ledger_entry entry = {.request = request, .class = "unknown"};
    struct fault *fault;

    *response = (struct response){0};
    catch_up(s, real_us, unix_ms);
    if (strncmp(request->path, "/sim/", 5) == 0) {
        control_answer(s, request, response);
        return;
    }
    fault = faults_match(&s->faults, request);
    if (!fault || fault->applied)
        answer_api(&call, &entry);
    if (fault) {
        entry.fault = faults_kind_name(fault->kind);
        faults_spoil(fault, response);
    }
    faults_done(&s->faults);
    entry.t_ms = s->model.now_ms;
    entry.unix_ms = unix_ms;
    entry.status = response->wire == WIRE_RESET || response->wire == WIRE_SILENT
                       ? 0
                       : response->status;
    entry.retry_after = response_get_header(response, "Retry-After");
    ledger_add(&s->ledger, &entry);
}
