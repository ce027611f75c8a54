/* SPDX-License-Identifier: MIT
 * Sites and circuits: discovery, settings, dynamic current (easee-api 2 to 4). */
#include "api.h"

#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cJSON *address(void)
{
    return cJSON_Parse(
        "{\"street\":\"Example street 1\",\"zip\":\"0000\",\"area\":\"Example\","
        "\"country\":{\"id\":\"NO\",\"name\":\"Norway\",\"phonePrefix\":47}}");
}

/* Back plates are numbered after their chargers; the master's is everybody's master. */
static void add_back_plate(cJSON *o, const struct model *m, const struct charger *c)
{
    const struct charger *master = c;
    cJSON *plate = cJSON_AddObjectToObject(o, "backPlate");
    char id[32];

    for (unsigned i = m->n_chargers; i-- > 0;)
        if (m->charger[i].circuit == c->circuit)
            master = &m->charger[i];
    snprintf(id, sizeof id, "88%014u", (unsigned)(c - m->charger) + 1);
    cJSON_AddStringToObject(plate, "id", id);
    snprintf(id, sizeof id, "88%014u", (unsigned)(master - m->charger) + 1);
    cJSON_AddStringToObject(plate, "masterBackPlateId", id);
    cJSON_AddNullToObject(plate, "name");
}

static cJSON *charger_json(const struct call *call, const struct charger *c)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddStringToObject(o, "id", c->serial);
    cJSON_AddStringToObject(o, "name", c->name);
    cJSON_AddNumberToObject(o, "color", 4);
    cJSON_AddStringToObject(o, "createdOn", "2023-03-01T10:11:12.000000");
    cJSON_AddStringToObject(o, "updatedOn", "2024-05-06T07:08:09.000000");
    add_back_plate(o, call->model, c);
    cJSON_AddNumberToObject(o, "levelOfAccess", 1);
    cJSON_AddNumberToObject(o, "productCode", c->product);
    cJSON_AddNumberToObject(o, "userRole", 1);
    cJSON_AddBoolToObject(o, "isTemporary", false);
    api_extra(call, o);
    return o;
}

static cJSON *circuit_json(const struct call *call, const struct circuit *k)
{
    const struct model *m = call->model;
    cJSON *o = cJSON_CreateObject(), *chargers;
    char panel[24];

    snprintf(panel, sizeof panel, "%lld", (long long)k->panel);
    json_add_i64(o, "id", k->id);
    json_add_i64(o, "siteId", m->site[k->site].id);
    json_add_i64(o, "circuitPanelId", k->panel);
    cJSON_AddStringToObject(o, "panelName", panel);
    json_add_real(o, "ratedCurrent", k->rated_a);
    if (m->quirks.chargers_null) {
        cJSON_AddNullToObject(o, "chargers");
    } else {
        chargers = cJSON_AddArrayToObject(o, "chargers");
        for (unsigned i = 0; i < m->n_chargers; i++)
            if (&m->circuit[m->charger[i].circuit] == k)
                cJSON_AddItemToArray(chargers, charger_json(call, &m->charger[i]));
    }
    cJSON_AddNullToObject(o, "masterBackplate");
    cJSON_AddBoolToObject(o, "useDynamicMaster", false);
    cJSON_AddNullToObject(o, "parentCircuitId");
    api_extra(call, o);
    return o;
}

static cJSON *site_json(const struct call *call, const struct site *s, bool detailed)
{
    const struct model *m = call->model;
    cJSON *o = cJSON_CreateObject(), *circuits;

    json_add_i64(o, "id", s->id);
    cJSON_AddStringToObject(o, "siteKey", s->key);
    cJSON_AddStringToObject(o, "name", s->name);
    cJSON_AddNumberToObject(o, "levelOfAccess", 1);
    cJSON_AddItemToObject(o, "address", address());
    api_extra(call, o);
    if (!detailed)
        return o;
    json_add_real(o, "ratedCurrent", s->rated_a);
    cJSON_AddBoolToObject(o, "useDynamicMaster", false);
    cJSON_AddNumberToObject(o, "partnerId", 1);
    cJSON_AddNumberToObject(o, "siteType", 1);
    if (m->quirks.circuits_null) {
        cJSON_AddNullToObject(o, "circuits");
    } else {
        circuits = cJSON_AddArrayToObject(o, "circuits");
        for (unsigned i = 0; i < m->n_circuits; i++)
            if (&m->site[m->circuit[i].site] == s)
                cJSON_AddItemToArray(circuits, circuit_json(call, &m->circuit[i]));
    }
    cJSON_AddArrayToObject(o, "equalizers");
    cJSON_AddStringToObject(o, "currencyId", "NOK");
    json_add_real(o, "costPerKWh", 0);
    json_add_real(o, "vat", 0);
    cJSON_AddStringToObject(o, "createdOn", "2023-03-01T10:00:00");
    cJSON_AddStringToObject(o, "updatedOn", "2024-01-01T00:00:00");
    return o;
}

static void list_sites(struct call *call, bool detailed)
{
    const struct model *m = call->model;
    cJSON *list = cJSON_CreateArray();

    for (unsigned i = 0; i < m->n_sites; i++)
        if (m->site[i].account == call->account)
            cJSON_AddItemToArray(list, site_json(call, &m->site[i], detailed));
    api_json(call, 200, list);
}

void api_sites(struct call *call)
{
    list_sites(call, false);
}

void api_products(struct call *call)
{
    list_sites(call, true);
}

void api_site_detail(struct call *call)
{
    const struct site *s = api_site(call, 0);

    if (s)
        api_json(call, 200,
                 site_json(call, s, !strstr(call->request->query, "detailed=false")));
}

/* Chargers' state and configuration have not been in it since 2022 (easee-api 2.6). */
void api_site_state(struct call *call)
{
    const struct site *s = api_site(call, 0);
    cJSON *o;

    if (!s)
        return;
    o = cJSON_CreateObject();
    cJSON_AddArrayToObject(o, "circuitStates");
    cJSON_AddItemToObject(o, "site", site_json(call, s, false));
    api_json(call, 200, o);
}

void api_charger_site(struct call *call)
{
    const struct charger *c = api_charger(call, 0);
    const struct model *m = call->model;

    if (c)
        api_json(call, 200, site_json(call, &m->site[m->circuit[c->circuit].site], true));
}

void api_chargers(struct call *call)
{
    const struct model *m = call->model;
    cJSON *list = cJSON_CreateArray();

    for (unsigned i = 0; i < m->n_chargers; i++)
        if (m->site[m->circuit[m->charger[i].circuit].site].account == call->account)
            cJSON_AddItemToArray(list, charger_json(call, &m->charger[i]));
    api_json(call, 200, list);
}

void api_charger_one(struct call *call)
{
    const struct charger *c = api_charger(call, 0);

    if (c)
        api_json(call, 200, charger_json(call, c));
}

/* The circuit named in the path, with its master; else answers and returns NULL. */
static struct circuit *circuit_of(struct call *call, struct charger **ret_master)
{
    const struct site *s = api_site(call, 0);
    struct circuit *k;
    char *end;

    if (!s)
        return NULL;
    k = model_circuit(call->model, strtoll(call->arg[1], &end, 10));
    if (*end || !k || &call->model->site[k->site] != s) {
        api_problem(call->response, 404, 404, "NotFound", "No such circuit on this site");
        return NULL;
    }
    *ret_master = model_master(call->model, k);
    if (!*ret_master) {
        api_problem(call->response, 404, 404, "NotFound", "The circuit has no charger");
        return NULL;
    }
    return k;
}

static void add_phases(const struct call *call, cJSON *o, const char *prefix,
                       const double a[3], bool configurable)
{
    static const double thousand[3] = {1000, 1000, 1000};
    char name[64];

    if (!call->model->quirks.null_fields) {
        json_add_phases(o, prefix,
                        configurable && call->model->quirks.thousand ? thousand : a);
        return;
    }
    for (int p = 1; p <= 3; p++) {
        snprintf(name, sizeof name, "%s%d", prefix, p);
        cJSON_AddNullToObject(o, name);
    }
}

void api_settings_get(struct call *call)
{
    struct charger *master;
    const struct circuit *k = circuit_of(call, &master);
    cJSON *o;

    if (!k)
        return;
    o = cJSON_CreateObject();
    cJSON_AddBoolToObject(o, "allowOfflineMaxCircuitCurrent", false);
    cJSON_AddNullToObject(o, "equalizerId");
    cJSON_AddStringToObject(o, "masterChargerId", master->serial);
    cJSON_AddBoolToObject(o, "useDynamicMaster", false);
    add_phases(call, o, "dynamicCircuitCurrentP", k->dynamic_cloud, true);
    cJSON_AddBoolToObject(o, "enableIdleCurrent", k->idle_current);
    add_phases(call, o, "maxCircuitCurrentP", k->max_cloud, true);
    if (call->model->quirks.null_fields) {
        add_phases(call, o, "offlineMaxCircuitCurrentP", NULL, false);
    } else {
        for (int p = 0; p < 3; p++) {
            char name[64];

            snprintf(name, sizeof name, "offlineMaxCircuitCurrentP%d", p + 1);
            cJSON_AddNumberToObject(o, name, k->offline_cloud[p]);
        }
    }
    api_extra(call, o);
    api_json(call, 200, o);
}

void api_dynamic_get(struct call *call)
{
    struct charger *master;
    const struct circuit *k = circuit_of(call, &master);
    cJSON *o;

    if (!k)
        return;
    o = cJSON_CreateObject();
    add_phases(call, o, "phase", k->dynamic_cloud, true);
    api_extra(call, o);
    api_json(call, 200, o);
}

/* Three phases of a write, named PREFIX1 to PREFIX3.  RET_ANY: at least one is there.  A
 * phase left out or null stays as the cloud has it, or becomes 0 with the quirk. */
static bool read_phases(struct call *call, const char *prefix, const double cloud[3],
                        double ret[3], bool *ret_any)
{
    char name[64];

    *ret_any = false;
    for (int p = 0; p < 3; p++) {
        const cJSON *v;

        snprintf(name, sizeof name, "%s%d", prefix, p + 1);
        v = cJSON_GetObjectItemCaseSensitive(call->body, name);
        ret[p] = call->model->quirks.omitted_zero ? 0 : cloud[p];
        if (!v || cJSON_IsNull(v))
            continue;
        if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 1000)) {
            api_problem(call->response, 400, 400, "BadRequest", name);
            return false;
        }
        ret[p] = floor(v->valuedouble);
        *ret_any = true;
    }
    return true;
}

/* Minutes; 0: for ever. */
static bool read_ttl(struct call *call, double *ret)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(call->body, "timeToLive");

    *ret = 0;
    if (!v || cJSON_IsNull(v))
        return true;
    if (!cJSON_IsNumber(v) || v->valuedouble != floor(v->valuedouble) ||
        !(v->valuedouble >= 0 && v->valuedouble <= INT32_MAX)) {
        api_problem(call->response, 400, 400, "BadRequest", "timeToLive");
        return false;
    }
    *ret = v->valuedouble;
    return true;
}

static bool is_object(struct call *call)
{
    if (cJSON_IsObject(call->body))
        return true;
    api_problem(call->response, 400, 400, "BadRequest", "The body is not a JSON object");
    return false;
}

static bool unreachable(struct call *call, const struct charger *master)
{
    if (master->online || !call->model->quirks.offline_504)
        return false;
    api_problem(call->response, 504, 504, "DeviceUnreachable", "Device is unreachable");
    return true;
}

/* The circuit's values that can be written, each a command of its own. */
enum { PARTS = 3 };
static const struct {
    const char *prefix;
    int command;
    size_t cloud; /* offset of the cloud's copy */
} parts[PARTS] = {
    {"dynamicCircuitCurrentP",    CMD_DYNAMIC_CIRCUIT,
     offsetof(struct circuit,                                                    dynamic_cloud)},
    {"maxCircuitCurrentP",        CMD_MAX_CIRCUIT,      offsetof(struct circuit, max_cloud)    },
    {"offlineMaxCircuitCurrentP", CMD_OFFLINE_FALLBACK,
     offsetof(struct circuit,                                                    offline_cloud)},
};

void api_settings_post(struct call *call)
{
    struct model *m = call->model;
    struct charger *master;
    struct circuit *k = circuit_of(call, &master);
    struct order order[PARTS];
    bool any[PARTS], idle;
    const cJSON *v;
    double ttl_min;
    cJSON *sent;

    if (!k || !is_object(call) || !read_ttl(call, &ttl_min))
        return;
    for (int i = 0; i < PARTS; i++) {
        const double *cloud =
            (const double *)(const void *)((const char *)k + parts[i].cloud);

        order[i] = (struct order){.id = parts[i].command, .setting = -1};
        if (!read_phases(call, parts[i].prefix, cloud, order[i].arg, &any[i]))
            return;
    }
    v = cJSON_GetObjectItemCaseSensitive(call->body, "enableIdleCurrent");
    if (v && !cJSON_IsBool(v) && !cJSON_IsNull(v)) {
        api_problem(call->response, 400, 400, "BadRequest", "enableIdleCurrent");
        return;
    }
    if (unreachable(call, master))
        return;
    idle = cJSON_IsBool(v) ? cJSON_IsTrue(v) : k->idle_current;
    k->flash_writes += idle != k->idle_current;
    k->idle_current = idle;
    order[0].ttl_min = m->quirks.settings_ttl ? ttl_min : 0;
    sent = cJSON_CreateArray();
    for (int i = 0; i < PARTS; i++)
        if (any[i] && model_changes(m, master, &order[i]))
            cJSON_AddItemToArray(sent,
                                 api_acknowledge(m, model_send(m, master, &order[i])));
    if (m->quirks.settings_202) {
        api_json(call, 202, sent);
        return;
    }
    cJSON_Delete(sent);
    response_set(call->response, 200, NULL, NULL);
}

void api_dynamic_post(struct call *call)
{
    struct model *m = call->model;
    struct charger *master;
    struct circuit *k = circuit_of(call, &master);
    struct order order = {.id = CMD_DYNAMIC_CIRCUIT, .setting = -1};
    cJSON *sent;
    bool any;

    if (!k || !is_object(call) || !read_ttl(call, &order.ttl_min) ||
        !read_phases(call, "phase", k->dynamic_cloud, order.arg, &any) ||
        unreachable(call, master))
        return;
    sent = cJSON_CreateArray();
    if (any && (m->quirks.forward_same || model_changes(m, master, &order)))
        cJSON_AddItemToArray(sent, api_acknowledge(m, model_send(m, master, &order)));
    if (!m->quirks.dynamic_200) {
        api_json(call, 202, sent);
        return;
    }
    cJSON_Delete(sent);
    response_set(call->response, 200, NULL, NULL);
}
