/* SPDX-License-Identifier: MIT */
#include "change.h"

#include "device.h"
#include "json.h"

#include <stdio.h>
#include <string.h>

/* What is to be changed, and the new value of one of its members. */
struct change {
    struct sim *sim;
    struct charger *charger;
    struct circuit *circuit;
    struct account *account;
    const cJSON *value;
};

struct member {
    const char *name;
    bool (*set)(const struct change *x); /* false: not as ALLOWED says */
    const char *allowed;
};

static const char *const expiries[] = {"offline", "maximum", "never"};
static const char *const confirms[] = {"normal", "reject", "never"};

const char *change_expiry_name(enum ttl_expiry e)
{
    return expiries[e];
}

const char *change_confirm_name(enum confirm c)
{
    return confirms[c];
}

static bool number(const cJSON *v, double lo, double hi)
{
    return cJSON_IsNumber(v) && v->valuedouble >= lo && v->valuedouble <= hi;
}

static bool one_of_three(const cJSON *v, const char *const names[3], int *ret)
{
    for (int i = 0; i < 3; i++)
        if (cJSON_IsString(v) && strcmp(v->valuestring, names[i]) == 0) {
            *ret = i;
            return true;
        }
    return false;
}

static bool yes_or_no(const cJSON *v, bool *ret)
{
    if (cJSON_IsBool(v))
        *ret = cJSON_IsTrue(v);
    return cJSON_IsBool(v);
}

static bool seconds(const cJSON *v, uint64_t *ret_ms)
{
    if (!number(v, 1, 1e9))
        return false;
    *ret_ms = (uint64_t)(v->valuedouble * 1000);
    return true;
}

static bool named(const struct change *x)
{
    return x->value != NULL;
}

static bool charger_online(const struct change *x)
{
    bool online = false;

    if (!yes_or_no(x->value, &online))
        return false;
    model_set_online(&x->sim->model, x->charger, online);
    return true;
}

static bool charger_car(const struct change *x)
{
    struct car car = x->charger->car;
    int64_t phases = car.phases;
    char why[JSON_WHY];

    if (!cJSON_IsObject(x->value) ||
        !json_bool(x->value, "connected", &car.connected, why) ||
        !json_bool(x->value, "full", &car.full, why) ||
        !json_real_in(x->value, "wants_a", 0, 80, &car.wants_a, why) ||
        !json_int_in(x->value, "phases", 1, 3, &phases, why))
        return false;
    car.phases = (int)phases;
    model_set_car(&x->sim->model, x->charger, &car);
    return true;
}

static bool charger_error(const struct change *x)
{
    if (!yes_or_no(x->value, &x->charger->error))
        return false;
    if (x->charger->error)
        device_drop(&x->sim->model, x->charger);
    return true;
}

static bool charger_grid(const struct change *x)
{
    if (!number(x->value, 0, 60))
        return false;
    device_drop(&x->sim->model, x->charger);
    x->charger->grid_type = x->value->valueint;
    return true;
}

static bool charger_confirm(const struct change *x)
{
    int which = 0;

    if (!one_of_three(x->value, confirms, &which))
        return false;
    x->charger->confirm = (enum confirm)which;
    return true;
}

static bool charger_answer(const struct change *x)
{
    if (!number(x->value, 0, 59000))
        return false;
    x->charger->answer_ms = (uint64_t)x->value->valuedouble;
    return true;
}

static bool charger_reboot(const struct change *x)
{
    if (cJSON_IsTrue(x->value))
        model_reboot(&x->sim->model, x->charger, 12);
    return cJSON_IsBool(x->value);
}

static bool charger_authorised(const struct change *x)
{
    return yes_or_no(x->value, &x->charger->authorised);
}

static bool charger_cable(const struct change *x)
{
    if (!number(x->value, 6, 80))
        return false;
    x->charger->cable_a = x->value->valuedouble;
    return true;
}

/* Somebody else commands the charger: through the cloud, with the usual delays. */
static bool charger_dynamic(const struct change *x)
{
    struct order order = {.id = CMD_DYNAMIC_CHARGER, .setting = SETTING_DYNAMIC};

    if (!number(x->value, 0, 1000))
        return false;
    order.arg[0] = x->value->valuedouble;
    model_send(&x->sim->model, x->charger, &order);
    return true;
}

static bool send_phases(const struct change *x, int command)
{
    struct order order = {.id = command, .setting = -1};
    struct charger *master = model_master(&x->sim->model, x->circuit);

    if (!master || !json_three_of(x->value, order.arg))
        return false;
    model_send(&x->sim->model, master, &order);
    return true;
}

static bool circuit_dynamic(const struct change *x)
{
    return send_phases(x, CMD_DYNAMIC_CIRCUIT);
}

static bool circuit_max(const struct change *x)
{
    return send_phases(x, CMD_MAX_CIRCUIT);
}

static bool circuit_offline(const struct change *x)
{
    return send_phases(x, CMD_OFFLINE_FALLBACK);
}

static bool account_password(const struct change *x)
{
    if (!cJSON_IsString(x->value) ||
        strlen(x->value->valuestring) >= sizeof x->account->password)
        return false;
    snprintf(x->account->password, sizeof x->account->password, "%s",
             x->value->valuestring);
    return true;
}

static bool cloud_speed(const struct change *x)
{
    if (!number(x->value, 0.001, 1e5))
        return false;
    sim_set_speed(x->sim, x->value->valuedouble);
    return true;
}

static bool cloud_limits(const struct change *x)
{
    bool on = false;

    if (!yes_or_no(x->value, &on))
        return false;
    x->sim->limits.off = !on;
    return true;
}

static bool cloud_block(const struct change *x)
{
    if (!cJSON_IsBool(x->value))
        return false;
    limits_unblock(&x->sim->limits);
    x->sim->limits.blocked = cJSON_IsTrue(x->value);
    return true;
}

static bool cloud_block_after(const struct change *x)
{
    if (!number(x->value, 0, 1e9))
        return false;
    x->sim->limits.block_after = (unsigned)x->value->valuedouble;
    return true;
}

static bool cloud_block_s(const struct change *x)
{
    return seconds(x->value, &x->sim->limits.block_ms);
}

static bool cloud_block_status(const struct change *x)
{
    if (!cJSON_IsNumber(x->value) ||
        (x->value->valueint != 403 && x->value->valueint != 429))
        return false;
    x->sim->limits.block_status = (unsigned)x->value->valueint;
    return true;
}

static bool cloud_expire_tokens(const struct change *x)
{
    if (cJSON_IsTrue(x->value))
        tokens_expire_access(&x->sim->tokens);
    return cJSON_IsBool(x->value);
}

static bool cloud_revoke_refresh(const struct change *x)
{
    if (cJSON_IsTrue(x->value))
        tokens_revoke_refresh(&x->sim->tokens);
    return cJSON_IsBool(x->value);
}

static bool cloud_access_s(const struct change *x)
{
    return seconds(x->value, &x->sim->tokens.access_ms);
}

static bool cloud_refresh_s(const struct change *x)
{
    return seconds(x->value, &x->sim->tokens.refresh_ms);
}

static bool cloud_ttl_expiry(const struct change *x)
{
    int which = 0;

    if (!one_of_three(x->value, expiries, &which))
        return false;
    x->sim->model.ttl_expiry = (enum ttl_expiry)which;
    return true;
}

static bool cloud_forward_same(const struct change *x)
{
    return yes_or_no(x->value, &x->sim->model.quirks.forward_same);
}

static bool *find_quirk(struct quirks *q, const char *name)
{
#define QUIRK(quirk, initial, meaning) \
    if (strcmp(name, #quirk) == 0)     \
        return &q->quirk;
#include "quirks.def"
#undef QUIRK
    return NULL;
}

static bool cloud_quirks(const struct change *x)
{
    const cJSON *v;

    if (!cJSON_IsObject(x->value))
        return false;
    cJSON_ArrayForEach(v, x->value)
    {
        bool *quirk = find_quirk(&x->sim->model.quirks, v->string);

        if (!quirk || !yes_or_no(v, quirk))
            return false;
    }
    return true;
}

static bool cloud_hub(const struct change *x)
{
    return hub_change(&x->sim->hub, x->value);
}

#define YES_NO                        "true or false"
#define THREE                         "three numbers from 0 to 1000, on a circuit with a charger"
#define TIME                          "a number from 1 to 1e9"
#define CAR                           "{connected, full, wants_a 0 to 80, phases 1 to 3}"
#define QUIRK(name, initial, meaning) " " #name
static const char quirk_names[] = "true or false for each of"
#include "quirks.def"
    ;
#undef QUIRK

static const struct member charger_members[] = {
    {"charger",         named,              ""                        },
    {"online",          charger_online,     YES_NO                    },
    {"car",             charger_car,        CAR                       },
    {"op_mode_error",   charger_error,      YES_NO                    },
    {"grid_type",       charger_grid,       "a number from 0 to 60"   },
    {"confirm",         charger_confirm,    "normal, reject or never" },
    {"answer_ms",       charger_answer,     "a number from 0 to 59000"},
    {"reboot",          charger_reboot,     YES_NO                    },
    {"authorised",      charger_authorised, YES_NO                    },
    {"dynamic_current", charger_dynamic,    "a number from 0 to 1000" },
    {"cable_a",         charger_cable,      "a number from 6 to 80"   },
    {NULL,              NULL,               NULL                      },
};

static const struct member circuit_members[] = {
    {"circuit", named,           ""   },
    {"dynamic", circuit_dynamic, THREE},
    {"max",     circuit_max,     THREE},
    {"offline", circuit_offline, THREE},
    {NULL,      NULL,            NULL },
};

static const struct member account_members[] = {
    {"account",  named,            ""                             },
    {"password", account_password, "a string of at most 255 bytes"},
    {NULL,       NULL,             NULL                           },
};

static const struct member cloud_members[] = {
    {"speed",          cloud_speed,          "a number from 0.001 to 100000"      },
    {"limits",         cloud_limits,         YES_NO                               },
    {"block",          cloud_block,          YES_NO                               },
    {"block_after",    cloud_block_after,    "a number of refused calls; 0: never"},
    {"block_s",        cloud_block_s,        TIME                                 },
    {"block_status",   cloud_block_status,   "403 or 429"                         },
    {"expire_tokens",  cloud_expire_tokens,  YES_NO                               },
    {"revoke_refresh", cloud_revoke_refresh, YES_NO                               },
    {"access_s",       cloud_access_s,       TIME                                 },
    {"refresh_s",      cloud_refresh_s,      TIME                                 },
    {"ttl_expiry",     cloud_ttl_expiry,     "offline, maximum or never"          },
    {"forward_same",   cloud_forward_same,   YES_NO                               },
    {"quirks",         cloud_quirks,         quirk_names                          },
    {"hub",            cloud_hub,            hub_change_names                     },
    {NULL,             NULL,                 NULL                                 },
};

static const struct member *find_member(const struct member *table, const char *name)
{
    while (table->name && strcmp(table->name, name) != 0)
        table++;
    return table->name ? table : NULL;
}

/* Finds what the change is about.  NULL: there is no such thing. */
static const struct member *choose(struct change *x, const cJSON *change)
{
    const cJSON *charger = cJSON_GetObjectItemCaseSensitive(change, "charger");
    const cJSON *circuit = cJSON_GetObjectItemCaseSensitive(change, "circuit");
    const cJSON *account = cJSON_GetObjectItemCaseSensitive(change, "account");
    struct model *m = &x->sim->model;

    if (charger) {
        if (cJSON_IsString(charger))
            x->charger = model_charger(m, charger->valuestring);
        return x->charger ? charger_members : NULL;
    }
    if (circuit) {
        if (number(circuit, 1, 1e9))
            x->circuit = model_circuit(m, (int64_t)circuit->valuedouble);
        return x->circuit ? circuit_members : NULL;
    }
    if (account) {
        if (cJSON_IsString(account))
            x->account = model_account(m, account->valuestring);
        return x->account ? account_members : NULL;
    }
    return cloud_members;
}

bool change_apply(struct sim *s, const cJSON *change, char *why)
{
    struct change x = {.sim = s};
    const struct member *table, *member;

    if (!cJSON_IsObject(change)) {
        snprintf(why, JSON_WHY, "a change is a JSON object");
        return false;
    }
    table = choose(&x, change);
    if (!table) {
        snprintf(why, JSON_WHY, "no such charger, circuit or account");
        return false;
    }
    cJSON_ArrayForEach(x.value, change)
    {
        if (find_member(table, x.value->string))
            continue;
        snprintf(why, JSON_WHY, "unknown member \"%.40s\"", x.value->string);
        return false;
    }
    cJSON_ArrayForEach(x.value, change)
    {
        member = find_member(table, x.value->string);
        if (member->set(&x))
            continue;
        snprintf(why, JSON_WHY, "%s: %s", member->name, member->allowed);
        return false;
    }
    model_touch(&s->model);
    return true;
}
