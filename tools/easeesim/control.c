/* SPDX-License-Identifier: MIT */
#include "control.h"

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

static cJSON *charger_json(const struct model *m, const struct charger *c)
{
    static const char *const confirm[] = {"normal", "reject", "never"};
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
    cJSON_AddStringToObject(o, "confirm", confirm[c->confirm]);
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

static const char *const expiries[] = {"offline", "maximum", "never"};

static void get_state(struct sim *s, struct response *r)
{
    const struct model *m = &s->model;
    cJSON *o = cJSON_CreateObject(), *list;

    json_add_i64(o, "now_ms", (int64_t)m->now_ms);
    json_add_i64(o, "unix_ms", (int64_t)model_unix_ms(m, m->now_ms));
    cJSON_AddNumberToObject(o, "speed", s->speed);
    cJSON_AddBoolToObject(o, "limits", !s->limits.off);
    cJSON_AddBoolToObject(o, "blocked", limits_any_blocked(&s->limits, m->now_ms));
    cJSON_AddStringToObject(o, "ttl_expiry", expiries[m->ttl_expiry]);
    cJSON_AddItemToObject(o, "quirks", quirks_json(&m->quirks));
    cJSON_AddItemToObject(o, "faults", faults_list(&s->faults));
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

/* What one member of a change does.  False: of the wrong type, or WHY is set. */
typedef bool setter(struct sim *s, void *thing, const cJSON *v, char *why);

struct member {
    const char *name;
    setter *set;
};

static bool set_online(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)why;
    if (cJSON_IsBool(v))
        model_set_online(&s->model, thing, cJSON_IsTrue(v));
    return cJSON_IsBool(v);
}

static bool set_car(struct sim *s, void *thing, const cJSON *v, char *why)
{
    struct charger *c = thing;
    struct car car = c->car;
    int64_t phases = car.phases;

    if (!cJSON_IsObject(v) || !json_bool(v, "connected", &car.connected, why) ||
        !json_bool(v, "full", &car.full, why) ||
        !json_real_in(v, "wants_a", 0, 80, &car.wants_a, why) ||
        !json_int_in(v, "phases", 1, 3, &phases, why))
        return false;
    car.phases = (int)phases;
    model_set_car(&s->model, c, &car);
    return true;
}

static bool set_error(struct sim *s, void *thing, const cJSON *v, char *why)
{
    struct charger *c = thing;

    (void)why;
    if (!cJSON_IsBool(v))
        return false;
    c->error = cJSON_IsTrue(v);
    if (c->error)
        device_drop(&s->model, c);
    return true;
}

static bool set_grid(struct sim *s, void *thing, const cJSON *v, char *why)
{
    struct charger *c = thing;

    (void)why;
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 60))
        return false;
    device_drop(&s->model, c);
    c->grid_type = v->valueint;
    return true;
}

static bool one_of(const cJSON *v, const char *const names[], int n, int *ret)
{
    for (int i = 0; i < n; i++)
        if (cJSON_IsString(v) && strcmp(v->valuestring, names[i]) == 0) {
            *ret = i;
            return true;
        }
    return false;
}

static bool set_confirm(struct sim *s, void *thing, const cJSON *v, char *why)
{
    static const char *const names[] = {"normal", "reject", "never"};
    int which = 0;

    (void)s;
    snprintf(why, JSON_WHY, "confirm: normal, reject or never");
    if (!one_of(v, names, 3, &which))
        return false;
    ((struct charger *)thing)->confirm = (enum confirm)which;
    return true;
}

static bool set_reboot(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)why;
    if (cJSON_IsTrue(v))
        model_reboot(&s->model, thing, 12);
    return cJSON_IsBool(v);
}

static bool set_authorised(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)s;
    (void)why;
    ((struct charger *)thing)->authorised = cJSON_IsTrue(v);
    return cJSON_IsBool(v);
}

/* Somebody else commands the charger: through the cloud, with the usual delays. */
static bool set_dynamic_charger(struct sim *s, void *thing, const cJSON *v, char *why)
{
    struct order order = {.id = CMD_DYNAMIC_CHARGER, .setting = SETTING_DYNAMIC};

    (void)why;
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 1000))
        return false;
    order.arg[0] = v->valuedouble;
    model_send(&s->model, thing, &order);
    return true;
}

static bool set_cable(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)s;
    (void)why;
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 6 && v->valuedouble <= 80))
        return false;
    ((struct charger *)thing)->cable_a = v->valuedouble;
    return true;
}

static bool same(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)s, (void)thing, (void)v, (void)why;
    return true;
}

static const struct member charger_members[] = {
    {"charger",         same               },
    {"online",          set_online         },
    {"car",             set_car            },
    {"op_mode_error",   set_error          },
    {"grid_type",       set_grid           },
    {"confirm",         set_confirm        },
    {"reboot",          set_reboot         },
    {"authorised",      set_authorised     },
    {"dynamic_current", set_dynamic_charger},
    {"cable_a",         set_cable          },
    {NULL,              NULL               },
};

static bool send_phases(struct sim *s, struct circuit *k, int command, const cJSON *v)
{
    struct order order = {.id = command, .setting = -1};
    struct charger *master = model_master(&s->model, k);

    if (!master || !json_three_of(v, order.arg))
        return false;
    model_send(&s->model, master, &order);
    return true;
}

static bool set_dynamic(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)why;
    return send_phases(s, thing, CMD_DYNAMIC_CIRCUIT, v);
}

static bool set_max(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)why;
    return send_phases(s, thing, CMD_MAX_CIRCUIT, v);
}

static bool set_offline(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)why;
    return send_phases(s, thing, CMD_OFFLINE_FALLBACK, v);
}

static const struct member circuit_members[] = {
    {"circuit", same       },
    {"dynamic", set_dynamic},
    {"max",     set_max    },
    {"offline", set_offline},
    {NULL,      NULL       },
};

static bool set_password(struct sim *s, void *thing, const cJSON *v, char *why)
{
    struct account *a = thing;

    (void)s;
    (void)why;
    if (!cJSON_IsString(v) || strlen(v->valuestring) >= sizeof a->password)
        return false;
    snprintf(a->password, sizeof a->password, "%s", v->valuestring);
    return true;
}

static const struct member account_members[] = {
    {"account",  same        },
    {"password", set_password},
    {NULL,       NULL        }
};

static bool set_speed(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)thing;
    snprintf(why, JSON_WHY, "speed: a number from 0.001 to 100000");
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0.001 && v->valuedouble <= 1e5))
        return false;
    sim_set_speed(s, v->valuedouble);
    return true;
}

static bool set_limits(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)thing;
    (void)why;
    s->limits.off = !cJSON_IsTrue(v);
    return cJSON_IsBool(v);
}

static bool set_block(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)thing;
    (void)why;
    limits_unblock(&s->limits);
    s->limits.blocked = cJSON_IsTrue(v);
    return cJSON_IsBool(v);
}

/* A whole number of at least LO, at most a billion. */
static bool whole(const cJSON *v, double lo, uint64_t *ret)
{
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= lo && v->valuedouble <= 1e9))
        return false;
    *ret = (uint64_t)v->valuedouble;
    return true;
}

static bool set_block_after(struct sim *s, void *thing, const cJSON *v, char *why)
{
    uint64_t n = 0;

    (void)thing;
    (void)why;
    if (!whole(v, 0, &n))
        return false;
    s->limits.block_after = (unsigned)n;
    return true;
}

static bool set_block_s(struct sim *s, void *thing, const cJSON *v, char *why)
{
    uint64_t n = 0;

    (void)thing;
    (void)why;
    if (!whole(v, 1, &n))
        return false;
    s->limits.block_ms = n * 1000;
    return true;
}

static bool set_block_status(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)thing;
    snprintf(why, JSON_WHY, "block_status: 403 or 429");
    if (!cJSON_IsNumber(v) || (v->valueint != 403 && v->valueint != 429))
        return false;
    s->limits.block_status = (unsigned)v->valueint;
    return true;
}

static bool set_expire_tokens(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)thing;
    (void)why;
    if (cJSON_IsTrue(v))
        tokens_expire_access(&s->tokens);
    return cJSON_IsBool(v);
}

static bool set_revoke_refresh(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)thing;
    (void)why;
    if (cJSON_IsTrue(v))
        tokens_revoke_refresh(&s->tokens);
    return cJSON_IsBool(v);
}

static bool set_access_s(struct sim *s, void *thing, const cJSON *v, char *why)
{
    uint64_t n = 0;

    (void)thing;
    (void)why;
    if (!whole(v, 1, &n))
        return false;
    s->tokens.access_ms = n * 1000;
    return true;
}

static bool set_refresh_s(struct sim *s, void *thing, const cJSON *v, char *why)
{
    uint64_t n = 0;

    (void)thing;
    (void)why;
    if (!whole(v, 1, &n))
        return false;
    s->tokens.refresh_ms = n * 1000;
    return true;
}

static bool set_ttl_expiry(struct sim *s, void *thing, const cJSON *v, char *why)
{
    int which = 0;

    (void)thing;
    snprintf(why, JSON_WHY, "ttl_expiry: offline, maximum or never");
    if (!one_of(v, expiries, 3, &which))
        return false;
    s->model.ttl_expiry = (enum ttl_expiry)which;
    return true;
}

static bool set_quirk(struct quirks *q, const cJSON *v, char *why)
{
    if (!cJSON_IsBool(v)) {
        snprintf(why, JSON_WHY, "quirk %.40s: true or false", v->string);
        return false;
    }
#define QUIRK(name, initial, meaning)    \
    if (strcmp(v->string, #name) == 0) { \
        q->name = cJSON_IsTrue(v);       \
        return true;                     \
    }
#include "quirks.def"
#undef QUIRK
    snprintf(why, JSON_WHY, "no quirk \"%.40s\"", v->string);
    return false;
}

static bool set_quirks(struct sim *s, void *thing, const cJSON *v, char *why)
{
    const cJSON *q;

    (void)thing;
    cJSON_ArrayForEach(q, v) if (!q->string ||
                                 !set_quirk(&s->model.quirks, q, why)) return false;
    return cJSON_IsObject(v);
}

static bool set_forward_same(struct sim *s, void *thing, const cJSON *v, char *why)
{
    (void)thing;
    (void)why;
    s->model.quirks.forward_same = cJSON_IsTrue(v);
    return cJSON_IsBool(v);
}

static const struct member cloud_members[] = {
    {"speed",          set_speed         },
    {"limits",         set_limits        },
    {"block",          set_block         },
    {"block_after",    set_block_after   },
    {"block_s",        set_block_s       },
    {"block_status",   set_block_status  },
    {"expire_tokens",  set_expire_tokens },
    {"revoke_refresh", set_revoke_refresh},
    {"access_s",       set_access_s      },
    {"refresh_s",      set_refresh_s     },
    {"ttl_expiry",     set_ttl_expiry    },
    {"quirks",         set_quirks        },
    {"forward_same",   set_forward_same  },
    {NULL,             NULL              },
};

static const struct member *find_member(const struct member *table, const char *name)
{
    while (table->name && strcmp(table->name, name) != 0)
        table++;
    return table->name ? table : NULL;
}

/* Members of charger, circuit or account; whatever else is there concerns the cloud. */
static const struct member *choose(struct sim *s, const cJSON *change, void **ret_thing,
                                   char *why)
{
    const cJSON *charger = cJSON_GetObjectItemCaseSensitive(change, "charger");
    const cJSON *circuit = cJSON_GetObjectItemCaseSensitive(change, "circuit");
    const cJSON *account = cJSON_GetObjectItemCaseSensitive(change, "account");

    *ret_thing = NULL;
    if (!charger && !circuit && !account)
        return cloud_members;
    snprintf(why, JSON_WHY, "no such charger, circuit or account");
    if (cJSON_IsString(charger))
        *ret_thing = model_charger(&s->model, charger->valuestring);
    else if (cJSON_IsNumber(circuit))
        *ret_thing = model_circuit(&s->model, (int64_t)circuit->valuedouble);
    else if (cJSON_IsString(account))
        *ret_thing = model_account(&s->model, account->valuestring);
    if (!*ret_thing)
        return NULL;
    return charger ? charger_members : circuit ? circuit_members : account_members;
}

bool control_set(struct sim *s, const cJSON *change, char *why)
{
    const struct member *table, *member;
    const cJSON *v;
    void *thing;

    if (!cJSON_IsObject(change)) {
        snprintf(why, JSON_WHY, "a change is a JSON object");
        return false;
    }
    table = choose(s, change, &thing, why);
    if (!table)
        return false;
    cJSON_ArrayForEach(v, change) if (!find_member(table, v->string))
    {
        snprintf(why, JSON_WHY, "unknown member \"%.40s\"", v->string);
        return false;
    }
    cJSON_ArrayForEach(v, change)
    {
        member = find_member(table, v->string);
        snprintf(why, JSON_WHY, "%s: wrong type or out of range", v->string);
        if (!member->set(s, thing, v, why))
            return false;
    }
    model_touch(&s->model);
    return true;
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

    if (control_set(s, body, why))
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

void control_answer(struct sim *s, const struct request *q, struct response *r)
{
    cJSON *body = q->body ? cJSON_ParseWithLength(q->body, q->body_len) : NULL;

    answer(s, q, body, r);
    cJSON_Delete(body);
}
