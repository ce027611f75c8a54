/* SPDX-License-Identifier: MIT */
#include "world.h"

#include "change.h"
#include "json.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { ID_MAX = 1000000000, EVENTS_MAX = 10000 };

const char world_default[] =
    "{\n"
    "  \"accounts\": [\n"
    "    {\"user\": \"owner@example.org\", \"phone\": \"+4790000000\",\n"
    "     \"password\": \"correct horse;#battery\"}\n"
    "  ],\n"
    "  \"sites\": [\n"
    "    {\"id\": 54321, \"key\": \"ABCD-1234\", \"name\": \"Home\", \"rated\": 32,\n"
    "     \"account\": \"owner@example.org\",\n"
    "     \"circuits\": [\n"
    "       {\"id\": 12345, \"panel\": 1, \"rated\": 32, \"max\": [32, 32, 32],\n"
    "        \"dynamic\": [40, 40, 40], \"offline\": [6, 6, 6],\n"
    "        \"chargers\": [\n"
    "          {\"serial\": \"EH123456\", \"name\": \"Garage\", \"product\": 1,\n"
    "           \"firmware\": 330, \"grid_type\": 1,\n"
    "           \"car\": {\"connected\": true, \"wants_a\": 32, \"phases\": 3, \"full\": "
    "false}}\n"
    "        ]}\n"
    "     ]},\n"
    "    {\"id\": 54322, \"key\": \"EFGH-5678\", \"name\": \"Shared garage\", \"rated\": "
    "63,\n"
    "     \"account\": \"owner@example.org\",\n"
    "     \"circuits\": [\n"
    "       {\"id\": 12346, \"panel\": 1, \"rated\": 32,\n"
    "        \"chargers\": [{\"serial\": \"EH200001\"}, {\"serial\": \"EH200002\"}]},\n"
    "       {\"id\": 12347, \"panel\": 2, \"rated\": 32,\n"
    "        \"chargers\": [{\"serial\": \"EH300001\", \"car\": {\"connected\": "
    "true}}]}\n"
    "     ]}\n"
    "  ]\n"
    "}\n";

/* Objects hold only members we know: a misspelt one is an error, not a silent default. */
static bool known(const cJSON *object, const char *what, const char *names, char *why)
{
    const cJSON *v;

    if (!cJSON_IsObject(object)) {
        snprintf(why, JSON_WHY, "%s: an object is expected", what);
        return false;
    }
    cJSON_ArrayForEach(v, object)
    {
        size_t len = strlen(v->string);
        const char *at = names;

        while ((at = strstr(at, v->string)) != NULL &&
               (len == 0 || (at > names && at[-1] != ' ') || (at[len] && at[len] != ' ')))
            at++;
        if (!at) {
            snprintf(why, JSON_WHY, "%s: unknown member \"%.30s\"", what, v->string);
            return false;
        }
    }
    return true;
}

static const cJSON *list(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static bool full(const char *what, char *why)
{
    snprintf(why, JSON_WHY, "too many %s", what);
    return false;
}

static bool load_account(struct model *m, const cJSON *o, char *why)
{
    char user[NAME_SIZE] = "";
    struct account *a;

    if (!known(o, "account", "user phone password", why) ||
        !json_text(o, "user", user, sizeof user, why))
        return false;
    if (!user[0] || model_account(m, user)) {
        snprintf(why, JSON_WHY, "account: each needs a \"user\" of its own");
        return false;
    }
    a = model_add_account(m, user);
    if (!a)
        return full("accounts", why);
    return json_text(o, "phone", a->phone, sizeof a->phone, why) &&
           json_text(o, "password", a->password, sizeof a->password, why);
}

static bool load_car(const cJSON *o, struct car *car, char *why)
{
    int64_t phases = car->phases;

    if (!o)
        return true;
    if (!known(o, "car", "connected wants_a phases full", why) ||
        !json_bool(o, "connected", &car->connected, why) ||
        !json_bool(o, "full", &car->full, why) ||
        !json_real_in(o, "wants_a", 0, 80, &car->wants_a, why) ||
        !json_int_in(o, "phases", 1, 3, &phases, why))
        return false;
    car->phases = (int)phases;
    return true;
}

static bool is_serial(const char *s)
{
    for (; *s; s++)
        if (!isalnum((unsigned char)*s))
            return false;
    return true;
}

static bool load_charger(struct model *m, unsigned circuit, const cJSON *o, char *why)
{
    static const char names[] = "serial name product firmware grid_type online cable_a "
                                "lifetime_kwh dynamic_current max_current phase_mode "
                                "authorization_required car";
    char serial[SERIAL_SIZE] = "";
    struct charger *c;
    int64_t product, firmware, grid, mode;
    bool auth = false;

    if (!known(o, "charger", names, why) ||
        !json_text(o, "serial", serial, sizeof serial, why))
        return false;
    if (!serial[0] || !is_serial(serial) || model_charger(m, serial)) {
        snprintf(why, JSON_WHY,
                 "charger: each needs a \"serial\" of its own, letters and digits");
        return false;
    }
    c = model_add_charger(m, circuit, serial);
    if (!c)
        return full("chargers", why);
    product = c->product;
    firmware = c->firmware;
    grid = c->grid_type;
    mode = (int64_t)c->setting[SETTING_PHASE_MODE];
    if (!json_text(o, "name", c->name, sizeof c->name, why) ||
        !json_int_in(o, "product", 0, 1000, &product, why) ||
        !json_int_in(o, "firmware", 0, ID_MAX, &firmware, why) ||
        !json_int_in(o, "grid_type", 0, 60, &grid, why) ||
        !json_int_in(o, "phase_mode", 1, 3, &mode, why) ||
        !json_bool(o, "online", &c->online, why) ||
        !json_bool(o, "authorization_required", &auth, why) ||
        !json_real_in(o, "cable_a", 6, 80, &c->cable_a, why) ||
        !json_real_in(o, "lifetime_kwh", 0, 1e9, &c->lifetime_kwh, why) ||
        !json_real_in(o, "max_current", 0, 80, &c->setting[SETTING_MAX], why) ||
        !json_real_in(o, "dynamic_current", 0, 80, &c->setting[SETTING_DYNAMIC], why) ||
        !load_car(list(o, "car"), &c->car, why))
        return false;
    c->product = (int)product;
    c->firmware = (int)firmware;
    c->grid_type = (int)grid;
    c->setting[SETTING_PHASE_MODE] = (double)mode;
    c->setting[SETTING_AUTH_REQUIRED] = auth;
    return true;
}

static bool load_circuit(struct model *m, unsigned site, const cJSON *o, char *why)
{
    int64_t id = 0;
    struct circuit *k;
    const cJSON *c;

    if (!known(o, "circuit", "id panel rated max dynamic offline chargers", why) ||
        !json_int_in(o, "id", 1, ID_MAX, &id, why))
        return false;
    if (id == 0 || model_circuit(m, id)) {
        snprintf(why, JSON_WHY, "circuit: each needs an \"id\" of its own");
        return false;
    }
    k = model_add_circuit(m, site, id);
    if (!k)
        return full("circuits", why);
    if (!json_int_in(o, "panel", 0, ID_MAX, &k->panel, why) ||
        !json_real_in(o, "rated", 0, 1000, &k->rated_a, why) ||
        !json_three(o, "max", k->max_a, why) ||
        !json_three(o, "dynamic", k->dynamic_a, why) ||
        !json_three(o, "offline", k->offline_a, why))
        return false;
    cJSON_ArrayForEach(
        c, list(o, "chargers")) if (!load_charger(m, (unsigned)(k - m->circuit), c,
                                                  why)) return false;
    return true;
}

static bool load_site(struct model *m, const cJSON *o, char *why)
{
    char user[NAME_SIZE] = "";
    const struct account *a;
    int64_t id = 0;
    struct site *s;
    const cJSON *k;

    if (!known(o, "site", "id key name rated account circuits", why) ||
        !json_int_in(o, "id", 1, ID_MAX, &id, why) ||
        !json_text(o, "account", user, sizeof user, why))
        return false;
    if (id == 0 || model_site(m, id)) {
        snprintf(why, JSON_WHY, "site: each needs an \"id\" of its own");
        return false;
    }
    a = user[0] ? model_account(m, user) : m->account;
    if (!a) {
        snprintf(why, JSON_WHY, "site %lld: no account \"%.40s\"", (long long)id, user);
        return false;
    }
    s = model_add_site(m, (unsigned)(a - m->account), id);
    if (!s)
        return full("sites", why);
    if (!json_text(o, "key", s->key, sizeof s->key, why) ||
        !json_text(o, "name", s->name, sizeof s->name, why) ||
        !json_real_in(o, "rated", 0, 1000, &s->rated_a, why))
        return false;
    cJSON_ArrayForEach(k,
                       list(o, "circuits")) if (!load_circuit(m, (unsigned)(s - m->site),
                                                              k, why)) return false;
    return true;
}

bool world_load(const cJSON *world, struct model *m, char *why)
{
    char ignored[JSON_WHY];
    const cJSON *o;

    if (!why)
        why = ignored;
    if (!known(world, "world", "accounts sites", why))
        return false;
    cJSON_ArrayForEach(
        o, list(world, "accounts")) if (!load_account(m, o, why)) return false;
    if (m->n_accounts == 0) {
        snprintf(why, JSON_WHY, "world: \"accounts\" needs at least one");
        return false;
    }
    cJSON_ArrayForEach(o, list(world, "sites")) if (!load_site(m, o, why)) return false;
    model_settle(m);
    return true;
}

bool scenario_check(const cJSON *scenario, char *why)
{
    double last = 0, at = 0;
    const cJSON *e;

    if (!known(scenario, "scenario", "events", why))
        return false;
    cJSON_ArrayForEach(e, list(scenario, "events"))
    {
        if (!known(e, "event", "at_s set fault clear_faults", why) ||
            !json_real_in(e, "at_s", 0, 1e9, &at, why))
            return false;
        if (at < last) {
            snprintf(why, JSON_WHY, "event at_s=%g: events must be in order of time", at);
            return false;
        }
        last = at;
    }
    return true;
}

const cJSON *scenario_event(const cJSON *scenario, unsigned n)
{
    return scenario ? cJSON_GetArrayItem(list(scenario, "events"), (int)n) : NULL;
}

uint64_t scenario_time_ms(const cJSON *event)
{
    return (uint64_t)(cJSON_GetNumberValue(list(event, "at_s")) * 1000);
}

void scenario_run(struct sim *s, const cJSON *event)
{
    const cJSON *set = list(event, "set"), *fault = list(event, "fault");
    char why[JSON_WHY] = "";

    if (cJSON_IsTrue(list(event, "clear_faults")))
        faults_remove(&s->faults, 0);
    if ((set && !change_apply(s, set, why)) ||
        (fault && !faults_add(&s->faults, fault, why)))
        fprintf(stderr, "easeesim: scenario at_s=%g: %s\n",
                cJSON_GetNumberValue(list(event, "at_s")), why);
}
