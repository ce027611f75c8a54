/* SPDX-License-Identifier: MIT
 * Chargers: settings, commands and what became of them, observations (easee-api 5, 6). */
#include "api.h"

#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cJSON *seen_json(const struct charger *c, unsigned i)
{
    const struct seen *s = &c->seen[i];

    if (!s->known)
        return cJSON_CreateNull();
    switch (obs_info[i].kind) {
    case KIND_BOOL:
        return cJSON_CreateBool(s->value != 0);
    case KIND_INT:
        return cJSON_CreateNumber(floor(s->value));
    case KIND_TEXT:
        return cJSON_CreateString(s->text);
    case KIND_REAL:
        break;
    }
    return json_real(s->value);
}

/* Index of observation ID; OBSERVATIONS when chargers here do not report it. */
static unsigned obs_index(long id)
{
    unsigned i = 0;

    while (i < OBSERVATIONS && obs_info[i].id != id)
        i++;
    return i;
}

static void add_observation(const struct call *call, cJSON *list, const struct charger *c,
                            long id)
{
    unsigned i = obs_index(id);
    char stamp[STAMP_SIZE];
    cJSON *o;

    if (i == OBSERVATIONS || !c->seen[i].known)
        return;
    model_stamp(call->model, c->seen[i].at_ms, stamp);
    o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "id", (double)id);
    cJSON_AddNumberToObject(o, "dataType", obs_info[i].kind);
    cJSON_AddItemToObject(o, "value", seen_json(c, i));
    cJSON_AddStringToObject(o, "timestamp", stamp);
    api_extra(call, o);
    cJSON_AddItemToArray(list, o);
}

/* Adds what "1,2,3" asks for.  False: it is not such a list. */
static bool add_observations(const struct call *call, cJSON *list,
                             const struct charger *c, const char *ids)
{
    while (*ids && *ids != '&') {
        char *end;
        long id = strtol(ids, &end, 10);

        if (end == ids || (*end && *end != ',' && *end != '&') || id < 0)
            return false;
        add_observation(call, list, c, id);
        ids = *end == ',' ? end + 1 : end;
    }
    return true;
}

/* The value of NAME= in the query; NULL. */
static const char *query_value(const char *query, const char *name)
{
    size_t len = strlen(name);

    while (query) {
        if (strncmp(query, name, len) == 0 && query[len] == '=')
            return query + len + 1;
        query = strchr(query, '&');
        if (query)
            query++;
    }
    return NULL;
}

void api_observations(struct call *call)
{
    const char *ids = query_value(call->request->query, "ids");
    const struct charger *c = api_charger(call, 0);
    cJSON *o, *list;

    if (!c)
        return;
    if (!ids || !*ids || *ids == '&') {
        api_problem(call->response, 400, 400, "BadRequest", "The ids field is required");
        return;
    }
    o = cJSON_CreateObject();
    list = cJSON_AddArrayToObject(o, "observations");
    if (add_observations(call, list, c, ids)) {
        api_extra(call, o);
        api_json(call, 200, o);
        return;
    }
    cJSON_Delete(o);
    api_problem(call->response, 400, 400, "BadRequest",
                "The ids field is not a list of ids");
}

struct member {
    const char *json;
    unsigned obs;
};

static const struct member state_members[] = {
#define STATE(json, obs) {#json, OBS_##obs},
#define CONFIG(json, obs)
#include "state.def"
#undef STATE
#undef CONFIG
};

static const struct member config_members[] = {
#define STATE(json, obs)
#define CONFIG(json, obs) {#json, OBS_##obs},
#include "state.def"
#undef STATE
#undef CONFIG
};

static cJSON *flat(const struct charger *c, const struct member *member, size_t n)
{
    cJSON *o = cJSON_CreateObject();

    for (size_t i = 0; i < n; i++)
        cJSON_AddItemToObject(o, member[i].json, seen_json(c, member[i].obs));
    return o;
}

/* Retired on 2026-09-01: 404 for everybody (easee-api 6.1). */
void api_charger_state(struct call *call)
{
    const struct charger *c = api_charger(call, 0);
    char pulse[STAMP_SIZE];
    uint64_t newest_ms = 0;
    cJSON *o;

    if (!c)
        return;
    if (!call->model->quirks.legacy_state) {
        api_problem(call->response, 404, 404, "NotFound", "This endpoint is retired");
        return;
    }
    for (unsigned i = 0; i < OBSERVATIONS; i++)
        if (c->seen[i].at_ms > newest_ms)
            newest_ms = c->seen[i].at_ms;
    model_stamp(call->model, newest_ms, pulse);
    o = flat(c, state_members, sizeof state_members / sizeof state_members[0]);
    cJSON_AddStringToObject(o, "latestPulse", pulse);
    cJSON_AddNullToObject(o, "localRSSI");
    cJSON_AddBoolToObject(o, "wiFiAPEnabled", false);
    cJSON_AddArrayToObject(o, "errors");
    api_extra(call, o);
    api_json(call, 200, o);
}

void api_charger_config(struct call *call)
{
    static const enum setting unseen[] = {
        SETTING_SMART_BUTTON, SETTING_SINGLE_PHASE, SETTING_PRE_AUTHORIZE,
        SETTING_AUTHORIZE_OFFLINE, SETTING_OFFLINE_UNKNOWN};
    const struct charger *c = api_charger(call, 0);
    cJSON *o;

    if (!c)
        return;
    o = flat(c, config_members, sizeof config_members / sizeof config_members[0]);
    for (size_t i = 0; i < sizeof unseen / sizeof unseen[0]; i++)
        cJSON_AddBoolToObject(o, setting_info[unseen[i]].json,
                              c->setting_cloud[unseen[i]] != 0);
    cJSON_AddBoolToObject(o, "localAuthorizationRequired",
                          c->setting_cloud[SETTING_AUTH_REQUIRED] != 0);
    cJSON_AddNumberToObject(o, "ledStripBrightness", c->setting_cloud[SETTING_LED]);
    cJSON_AddStringToObject(o, "wiFiSSID", "example");
    cJSON_AddNullToObject(o, "chargingSchedule");
    cJSON_AddNumberToObject(o, "localRadioChannel", 7);
    cJSON_AddNumberToObject(o, "localShortAddress", 0);
    cJSON_AddNumberToObject(o, "localParentAddrOrNumOfNodes", 0);
    api_extra(call, o);
    api_json(call, 200, o);
}

void api_charger_details(struct call *call)
{
    const struct charger *c = api_charger(call, 0);
    cJSON *o;

    if (!c)
        return;
    o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "serialNumber", c->serial);
    cJSON_AddStringToObject(o, "pinCode", "0000");
    cJSON_AddNumberToObject(o, "unitType", 0);
    cJSON_AddNumberToObject(o, "product", c->product);
    cJSON_AddNullToObject(o, "partner");
    api_json(call, 200, o);
}

void api_firmware(struct call *call)
{
    const struct charger *c = api_charger(call, 0);
    cJSON *o;

    if (!c)
        return;
    o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "latestFirmware", c->firmware);
    api_json(call, 200, o);
}

/* sessions/ongoing and sessions/latest; 404 without one (easee-api 5.6). */
void api_session(struct call *call)
{
    const struct charger *c = api_charger(call, 0);
    bool ongoing = strstr(call->request->path, "/ongoing") != NULL;
    char start[STAMP_SIZE];
    cJSON *o;

    if (!c)
        return;
    if (c->session == 0 || (ongoing && !c->car.connected)) {
        api_problem(call->response, 404, 404, "NotFound", "No session");
        return;
    }
    model_stamp(call->model, c->session_start_ms, start);
    o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "chargerId", c->serial);
    cJSON_AddNumberToObject(o, "sessionId", c->session);
    cJSON_AddStringToObject(o, "sessionStart", start);
    json_add_real(o, "sessionEnergy", c->session_kwh);
    api_json(call, 200, o);
}

static bool unreachable(struct call *call, const struct charger *c)
{
    if (c->online || !call->model->quirks.offline_504)
        return false;
    api_problem(call->response, 504, 504, "DeviceUnreachable", "Device is unreachable");
    return true;
}

/* One member of the body as an order.  False: of the wrong type. */
static bool read_setting(const cJSON *v, unsigned s, struct order *ret)
{
    const struct setting_info *info = &setting_info[s];

    *ret = (struct order){.id = info->command, .setting = (int)s};
    if (info->kind == KIND_BOOL) {
        ret->arg[0] = cJSON_IsTrue(v);
        return cJSON_IsBool(v);
    }
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 1000))
        return false;
    ret->arg[0] = floor(v->valuedouble);
    return info->kind == KIND_REAL || ret->arg[0] == v->valuedouble;
}

void api_charger_settings(struct call *call)
{
    struct model *m = call->model;
    struct charger *c = api_charger(call, 0);
    struct order order[SETTINGS];
    unsigned n = 0;
    cJSON *sent;

    if (!c)
        return;
    if (!cJSON_IsObject(call->body)) {
        api_problem(call->response, 400, 400, "BadRequest",
                    "The body is not a JSON object");
        return;
    }
    for (unsigned s = 0; s < SETTINGS; s++) {
        const cJSON *v =
            cJSON_GetObjectItemCaseSensitive(call->body, setting_info[s].json);

        if (!v || cJSON_IsNull(v))
            continue;
        if (!read_setting(v, s, &order[n])) {
            api_problem(call->response, 400, 400, "BadRequest", setting_info[s].json);
            return;
        }
        if (model_changes(m, c, &order[n]))
            n++;
    }
    if (unreachable(call, c))
        return;
    sent = cJSON_CreateArray();
    for (unsigned i = 0; i < n; i++)
        cJSON_AddItemToArray(sent, api_acknowledge(m, model_send(m, c, &order[i])));
    api_json(call, 202, sent);
}

/* Commands by name.  SETTING and VALUE are what the command sets; -1: nothing. */
static const struct named {
    const char *name;
    int id, setting;
    double value;
} commands[] = {
    {"pause_charging",      CMD_DYNAMIC_CHARGER,   SETTING_DYNAMIC, 0  },
    {"resume_charging",     CMD_DYNAMIC_CHARGER,   SETTING_DYNAMIC, -1 }, /* to the maximum */
    {"start_charging",      CMD_AUTHORISE,         -1,              0  },
    {"stop_charging",       CMD_DEAUTHORISE,       -1,              0  },
    {"override_schedule",   CMD_OVERRIDE_SCHEDULE, -1,              0  },
    {"smart_charging",      CMD_SMART_CHARGING,    SETTING_SMART,   1  },
    {"reboot",              CMD_REBOOT,            -1,              0  },
    {"update_firmware",     CMD_UPGRADE,           -1,              0  },
    {"poll_chargeropmode",  CMD_POLL_SINGLE,       -1,              109},
    {"poll_lifetimeenergy", CMD_POLL_SINGLE,       -1,              124},
    {"poll_all",            CMD_POLL_ALL,          -1,              0  },
};

static const struct named *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* Start or stop where authorisation is needed, else pause or resume (easee-api 5.3). */
static const char *toggle(const struct charger *c)
{
    if (c->setting_cloud[SETTING_AUTH_REQUIRED] != 0)
        return c->authorised ? "stop_charging" : "start_charging";
    return c->setting_cloud[SETTING_DYNAMIC] >= 6 ? "pause_charging" : "resume_charging";
}

static bool read_whole(struct call *call, const char *name, double hi, double *ret)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(call->body, name);

    if (!cJSON_IsNumber(v) || v->valuedouble != floor(v->valuedouble) ||
        !(v->valuedouble >= 0 && v->valuedouble <= hi)) {
        api_problem(call->response, 400, 400, "BadRequest", name);
        return false;
    }
    *ret = v->valuedouble;
    return true;
}

/* The commands that need a body.  False: answered. */
static bool read_command(struct call *call, const struct charger *c, struct order *ret)
{
    const char *name = call->arg[1];
    const struct named *known;

    if (strcmp(name, "set_dynamic_charger_current") == 0) {
        *ret = (struct order){.id = CMD_DYNAMIC_CHARGER, .setting = SETTING_DYNAMIC};
        if (!cJSON_HasObjectItem(call->body, "minutes"))
            return read_whole(call, "amps", 1000, &ret->arg[0]);
        return read_whole(call, "amps", 1000, &ret->arg[0]) &&
               read_whole(call, "minutes", INT32_MAX, &ret->ttl_min);
    }
    if (strcmp(name, "lock_state") == 0) {
        const cJSON *state = cJSON_GetObjectItemCaseSensitive(call->body, "state");

        *ret = (struct order){.id = CMD_LOCK_CABLE, .setting = SETTING_LOCK_CABLE};
        ret->arg[0] = cJSON_IsTrue(state);
        if (cJSON_IsBool(state))
            return true;
        api_problem(call->response, 400, 400, "BadRequest", "state");
        return false;
    }
    known = find_command(strcmp(name, "toggle_charging") == 0 ? toggle(c) : name);
    if (!known) {
        api_problem(call->response, 404, 404, "NotFound", "No such command");
        return false;
    }
    *ret = (struct order){.id = known->id, .setting = known->setting};
    ret->arg[0] = known->value < 0 ? c->setting_cloud[SETTING_MAX] : known->value;
    return true;
}

void api_command_post(struct call *call)
{
    struct charger *c = api_charger(call, 0);
    struct order order;

    if (!c)
        return;
    if (!call->arg[1][0]) /* a route of its own */
        snprintf(call->arg[1], API_ARG_SIZE, "%s", strrchr(call->request->path, '/') + 1);
    if (!read_command(call, c, &order) || unreachable(call, c))
        return;
    api_json(call, 202, api_acknowledge(call->model, model_send(call->model, c, &order)));
}

void api_command_get(struct call *call)
{
    struct model *m = call->model;
    struct charger *c = api_charger(call, 0);
    const struct command *q;
    char stamp[STAMP_SIZE];
    char *end_id, *end_ticks;
    int id;
    int64_t ticks;
    cJSON *o;

    if (!c)
        return;
    id = (int)strtol(call->arg[1], &end_id, 10);
    ticks = strtoll(call->arg[2], &end_ticks, 10);
    q = *end_id || *end_ticks ? NULL : model_command(m, c, id, ticks);
    if (!q) {
        api_problem(call->response, 404, 404, "NotFound", "No such command");
        return;
    }
    model_stamp(m, q->verdict == VERDICT_SENT ? q->sent_ms : q->answered_ms, stamp);
    o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "id", q->order.id);
    cJSON_AddStringToObject(o, "timestamp", stamp);
    if (q->verdict == VERDICT_EXECUTED || q->verdict == VERDICT_REJECTED)
        cJSON_AddStringToObject(o, "deliveredAt", stamp);
    else
        cJSON_AddNullToObject(o, "deliveredAt");
    if (q->verdict == VERDICT_SENT)
        cJSON_AddNullToObject(o, "wasAccepted");
    else
        cJSON_AddBoolToObject(o, "wasAccepted", q->verdict == VERDICT_EXECUTED);
    cJSON_AddNumberToObject(o, "resultCode",
                            q->verdict == VERDICT_EXECUTED ? 0 : (int)q->verdict);
    cJSON_AddStringToObject(o, "comment", "");
    json_add_i64(o, "ticks", q->ticks);
    api_extra(call, o);
    api_json(call, 200, o);
}
