/* SPDX-License-Identifier: MIT */
#include "control.h"

#include "change.h"
#include "device.h"
#include "json.h"

#include <stdlib.h>
#include <string.h>

static void reply(struct response *r, int status, cJSON *body)
{
    response_set(r, status, "application/json", cJSON_PrintUnformatted(body));
    cJSON_Delete(body);
}

static void complain(struct response *r, int status, const char *why)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddStringToObject(o, "error", why);
    reply(r, status, o);
}

static void fine(struct response *r)
{
    response_text(r, 200, "application/json", "{\"ok\":true}");
}

static cJSON *car_json(const struct car *car)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddBoolToObject(o, "connected", car->connected);
    cJSON_AddNumberToObject(o, "wants_a", car->wants_a);
    cJSON_AddNumberToObject(o, "phases", car->phases);
    cJSON_AddBoolToObject(o, "full", car->full);
    return o;
}

static cJSON *command_json(const struct command *q)
{
    cJSON *o = cJSON_CreateObject();

    json_add_i64(o, "id", q->order.id);
    json_add_i64(o, "ticks", q->ticks);
    json_add_i64(o, "verdict", q->verdict);
    json_add_i64(o, "sent_ms", (int64_t)q->sent_ms);
    json_add_i64(o, "answered_ms", (int64_t)q->answered_ms);
    return o;
}

static cJSON *charger_json(const struct model *m, const struct charger *c)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddStringToObject(o, "serial", c->serial);
    cJSON_AddBoolToObject(o, "master", c->master);
    cJSON_AddBoolToObject(o, "online", c->online);
    cJSON_AddNumberToObject(o, "op_mode", c->op_mode);
    cJSON_AddNumberToObject(o, "reason", c->reason);
    cJSON_AddNumberToObject(o, "output_phase", device_output_phase(c));
    cJSON_AddNumberToObject(o, "output_current", c->offer_a);
    cJSON_AddNumberToObject(o, "dynamic_current", c->setting[SETTING_DYNAMIC]);
    cJSON_AddNumberToObject(o, "max_current", c->setting[SETTING_MAX]);
    cJSON_AddNumberToObject(o, "phase_mode", c->setting[SETTING_PHASE_MODE]);
    cJSON_AddNumberToObject(o, "grid_type", c->grid_type);
    cJSON_AddItemToObject(o, "current", json_array3(c->current_a));
    cJSON_AddNumberToObject(o, "power_w", device_power_w(m, c));
    cJSON_AddNumberToObject(o, "session_kwh", c->session_kwh);
    cJSON_AddNumberToObject(o, "lifetime_kwh", c->lifetime_kwh);
    cJSON_AddNumberToObject(o, "relay_switches", c->relay_switches);
    cJSON_AddNumberToObject(o, "flash_writes", c->flash_writes);
    cJSON_AddBoolToObject(o, "authorised", c->authorised);
    cJSON_AddBoolToObject(o, "error", c->error);
    cJSON_AddStringToObject(o, "confirm", change_confirm_name(c->confirm));
    json_add_i64(o, "answer_ms", (int64_t)c->answer_ms);
    if (model_newest(m, c))
        cJSON_AddItemToObject(o, "last_command", command_json(model_newest(m, c)));
    cJSON_AddItemToObject(o, "car", car_json(&c->car));
    return o;
}

static cJSON *circuit_json(const struct model *m, const struct circuit *k)
{
    cJSON *o = cJSON_CreateObject(), *chargers;

    json_add_i64(o, "id", k->id);
    json_add_i64(o, "panel", k->panel);
    cJSON_AddNumberToObject(o, "rated", k->rated_a);
    cJSON_AddItemToObject(o, "max", json_array3(k->max_a));
    cJSON_AddItemToObject(o, "dynamic", json_array3(k->dynamic_a));
    cJSON_AddItemToObject(o, "dynamic_cloud", json_array3(k->dynamic_cloud));
    cJSON_AddItemToObject(o, "offline", json_array3(k->offline_a));
    if (k->ttl_ms == NEVER)
        cJSON_AddNullToObject(o, "ttl_s");
    else
        cJSON_AddNumberToObject(o, "ttl_s", (double)(k->ttl_ms - m->now_ms) / 1000);
    cJSON_AddNumberToObject(o, "flash_writes", k->flash_writes);
    chargers = cJSON_AddArrayToObject(o, "chargers");
    for (unsigned i = 0; i < m->n_chargers; i++)
        if (&m->circuit[m->charger[i].circuit] == k)
            cJSON_AddItemToArray(chargers, charger_json(m, &m->charger[i]));
    return o;
}

static cJSON *site_json(const struct model *m, const struct site *s)
{
    cJSON *o = cJSON_CreateObject(), *circuits;

    json_add_i64(o, "id", s->id);
    cJSON_AddStringToObject(o, "key", s->key);
    cJSON_AddStringToObject(o, "name", s->name);
    cJSON_AddStringToObject(o, "account", m->account[s->account].user);
    circuits = cJSON_AddArrayToObject(o, "circuits");
    for (unsigned i = 0; i < m->n_circuits; i++)
        if (&m->site[m->circuit[i].site] == s)
            cJSON_AddItemToArray(circuits, circuit_json(m, &m->circuit[i]));
    return o;
}

static cJSON *quirks_json(const struct quirks *q)
{
    cJSON *o = cJSON_CreateObject();

#define QUIRK(name, initial, meaning) cJSON_AddBoolToObject(o, #name, q->name);
#include "quirks.def"
#undef QUIRK
    return o;
}

static void get_state(struct sim *s, struct response *r)
{
    const struct model *m = &s->model;
    cJSON *o = cJSON_CreateObject(), *list;

    json_add_i64(o, "now_ms", (int64_t)m->now_ms);
    json_add_i64(o, "unix_ms", (int64_t)model_unix_ms(m, m->now_ms));
    cJSON_AddNumberToObject(o, "speed", s->speed);
    cJSON_AddBoolToObject(o, "limits", !s->limits.off);
    cJSON_AddBoolToObject(o, "blocked", limits_any_blocked(&s->limits, m->now_ms));
    cJSON_AddStringToObject(o, "ttl_expiry", change_expiry_name(m->ttl_expiry));
    cJSON_AddItemToObject(o, "quirks", quirks_json(&m->quirks));
    cJSON_AddItemToObject(o, "faults", faults_list(&s->faults));
    cJSON_AddItemToObject(o, "hub", hub_json(&s->hub));
    list = cJSON_AddArrayToObject(o, "accounts");
    for (unsigned i = 0; i < m->n_accounts; i++) {
        cJSON *a = cJSON_CreateObject();

        cJSON_AddStringToObject(a, "user", m->account[i].user);
        cJSON_AddStringToObject(a, "phone", m->account[i].phone);
        cJSON_AddItemToArray(list, a);
    }
    list = cJSON_AddArrayToObject(o, "sites");
    for (unsigned i = 0; i < m->n_sites; i++)
        cJSON_AddItemToArray(list, site_json(m, &m->site[i]));
    reply(r, 200, o);
}

static void get_ledger(const struct sim *s, const struct request *q, struct response *r)
{
    const char *since = strstr(q->query, "since=");

    response_set(r, 200, "application/json",
                 ledger_print(&s->ledger, since ? strtoull(since + 6, NULL, 10) : 0));
}

static void post_fault(struct sim *s, const cJSON *body, struct response *r)
{
    char why[JSON_WHY] = "";
    unsigned id = faults_add(&s->faults, body, why);
    cJSON *o;

    if (id == 0) {
        complain(r, 400, why);
        return;
    }
    o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "id", id);
    reply(r, 200, o);
}

static void delete_fault(struct sim *s, const char *path, struct response *r)
{
    char *end;
    unsigned long id = *path ? strtoul(path + 1, &end, 10) : 0;

    if ((*path && (*end || id == 0)) || !faults_remove(&s->faults, (unsigned)id))
        complain(r, 404, "no such fault");
    else
        fine(r);
}

static void post_set(struct sim *s, const cJSON *body, struct response *r)
{
    char why[JSON_WHY] = "";

    if (change_apply(s, body, why))
        fine(r);
    else
        complain(r, 400, why);
}

static void answer(struct sim *s, const struct request *q, const cJSON *body,
                   struct response *r)
{
    bool get = strcmp(q->method, "GET") == 0, post = strcmp(q->method, "POST") == 0;
    const char *path = q->path + 4; /* after "/sim" */

    if (get && strcmp(path, "/state") == 0) {
        get_state(s, r);
    } else if (get && strcmp(path, "/ledger") == 0) {
        get_ledger(s, q, r);
    } else if (get && strcmp(path, "/fault") == 0) {
        reply(r, 200, faults_list(&s->faults));
    } else if (post && strcmp(path, "/fault") == 0) {
        post_fault(s, body, r);
    } else if (strcmp(q->method, "DELETE") == 0 && strncmp(path, "/fault", 6) == 0 &&
               (path[6] == '\0' || path[6] == '/')) {
        delete_fault(s, path + 6, r);
    } else if (post && strcmp(path, "/set") == 0) {
        post_set(s, body, r);
    } else if (post && strcmp(path, "/reset") == 0) {
        sim_reset(s, s->real_us, s->real_unix_ms);
        fine(r);
    } else if (post && strcmp(path, "/quit") == 0) {
        s->quit = true;
        fine(r);
    } else {
        complain(r, 404,
                 "GET /sim/state, /sim/ledger, /sim/fault; POST /sim/fault, /sim/set, "
                 "/sim/reset, /sim/quit; DELETE /sim/fault, /sim/fault/N");
    }
}

void control_answer(struct sim *s, const struct request *request,
                    struct response *response)
{
    cJSON *body = json_parse(request->body, request->body_len);

    answer(s, request, body, response);
    cJSON_Delete(body);
}
