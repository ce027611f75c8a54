/* SPDX-License-Identifier: MIT */
#include "api.h"

#include "json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct api_route routes[] = {
    {"POST",   "/api/accounts/login",                           LIMIT_login,         true,  api_login          },
    {"POST",   "/api/accounts/refresh_token",                   LIMIT_refresh,       true,  api_refresh        },
    {"GET",    "/api/accounts/products",                        LIMIT_none,          false, api_products       },
    {"GET",    "/api/sites",                                    LIMIT_none,          false, api_sites          },
    {"GET",    "/api/sites/{}",                                 LIMIT_site,          false, api_site_detail    },
    {"GET",    "/api/sites/{}/state",                           LIMIT_none,          false, api_site_state     },
    {"GET",    "/api/sites/{}/circuits/{}/settings",            LIMIT_circuit_read,  false,
     api_settings_get                                                                                          },
    {"POST",   "/api/sites/{}/circuits/{}/settings",            LIMIT_circuit_write, false,
     api_settings_post                                                                                         },
    {"GET",    "/api/sites/{}/circuits/{}/dynamicCurrent",      LIMIT_circuit_read,  false,
     api_dynamic_get                                                                                           },
    {"POST",   "/api/sites/{}/circuits/{}/dynamicCurrent",      LIMIT_circuit_write, false,
     api_dynamic_post                                                                                          },
    {"GET",    "/api/chargers",                                 LIMIT_chargers,      false, api_chargers       },
    {"GET",    "/api/chargers/{}",                              LIMIT_none,          false, api_charger_one    },
    {"GET",    "/api/chargers/{}/site",                         LIMIT_none,          false, api_charger_site   },
    {"GET",    "/api/chargers/{}/config",                       LIMIT_none,          false, api_charger_config },
    {"GET",    "/api/chargers/{}/state",                        LIMIT_none,          false, api_charger_state  },
    {"GET",    "/api/chargers/{}/details",                      LIMIT_none,          false, api_charger_details},
    {"GET",    "/api/chargers/{}/sessions/ongoing",             LIMIT_sessions,      false, api_session        },
    {"GET",    "/api/chargers/{}/sessions/latest",              LIMIT_sessions,      false, api_session        },
    {"POST",   "/api/chargers/{}/settings",                     LIMIT_charger_write, false,
     api_charger_settings                                                                                      },
    {"POST",   "/api/chargers/{}/commands/poll_chargeropmode",  LIMIT_poll_opmode,   false,
     api_command_post                                                                                          },
    {"POST",   "/api/chargers/{}/commands/poll_lifetimeenergy", LIMIT_poll_energy,   false,
     api_command_post                                                                                          },
    {"POST",   "/api/chargers/{}/commands/{}",                  LIMIT_charger_write, false,
     api_command_post                                                                                          },
    {"GET",    "/api/commands/{}/{}/{}",                        LIMIT_none,          false, api_command_get    },
    {"GET",    "/api/resources/observation_properties",         LIMIT_none,          false,
     api_observation_properties                                                                                },
    {"GET",    "/state/{}/observations",                        LIMIT_observations,  false, api_observations   },
    {"GET",    "/api/state/{}/observations",                    LIMIT_observations,  false, api_observations   },
    {"GET",    "/firmware/{}/latest",                           LIMIT_none,          false, api_firmware       },
    {"POST",   "/hubs/{}/negotiate",                            LIMIT_hub,           false, api_hub_negotiate  },
    {"GET",    "/hubs/{}",                                      LIMIT_hub,           false, api_hub_connect    },
    {"POST",   "/hubs/{}",                                      LIMIT_hub,           false, api_hub_send       },
    {"DELETE", "/hubs/{}",                                      LIMIT_hub,           false, api_hub_end        },
    {"GET",    "/health",                                       LIMIT_none,          true,  api_health         },
};

/* PATTERN fits PATH; the variable parts go to ARG. */
static bool fits(const char *pattern, const char *path, char arg[API_ARGS][API_ARG_SIZE])
{
    unsigned n = 0;

    memset(arg, 0, API_ARGS * sizeof arg[0]);
    while (*pattern && *path) {
        if (*pattern == '{') {
            size_t len = strcspn(path, "/");

            if (len == 0 || len >= API_ARG_SIZE || n == API_ARGS)
                return false;
            memcpy(arg[n], path, len);
            arg[n++][len] = '\0';
            path += len;
            pattern += 2;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *pattern == *path;
}

const struct api_route *api_find(const char *method, const char *path,
                                 char arg[API_ARGS][API_ARG_SIZE], bool *ret_path)
{
    *ret_path = false;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (!fits(routes[i].pattern, path, arg))
            continue;
        *ret_path = true;
        if (strcmp(routes[i].method, method) == 0)
            return &routes[i];
    }
    return NULL;
}

void api_json(struct call *call, int status, cJSON *body)
{
    response_set(call->response, status, "application/json; charset=utf-8",
                 cJSON_PrintUnformatted(body));
    cJSON_Delete(body);
}

void api_problem(struct response *response, int status, int code, const char *name,
                 const char *title)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddNumberToObject(o, "errorCode", code);
    cJSON_AddStringToObject(o, "errorCodeName", name);
    cJSON_AddNullToObject(o, "type");
    cJSON_AddStringToObject(o, "title", title);
    cJSON_AddNumberToObject(o, "status", status);
    cJSON_AddStringToObject(o, "detail", "[Empty in production]");
    cJSON_AddNullToObject(o, "instance");
    response_set(response, status, "application/problem+json; charset=utf-8",
                 cJSON_PrintUnformatted(o));
    cJSON_Delete(o);
}

void api_extra(const struct call *call, cJSON *object)
{
    cJSON *extra;

    if (!call->model->quirks.extra_fields)
        return;
    extra = cJSON_AddObjectToObject(object, "somethingNew");
    cJSON_AddItemToObject(extra, "list", cJSON_Parse("[1,null,{\"deep\":[[]]}]"));
    cJSON_AddStringToObject(object, "anotherNewField", "\xC3\xA9\xE2\x82\xAC");
}

cJSON *api_acknowledge(const struct model *m, const struct command *command)
{
    cJSON *o = cJSON_CreateObject();

    cJSON_AddStringToObject(o, "device", m->charger[command->charger].serial);
    cJSON_AddNumberToObject(o, "commandId", command->order.id);
    json_add_i64(o, "ticks", command->ticks);
    return o;
}

static void not_found(struct call *call)
{
    api_problem(call->response, 404, 404, "NotFound", "Not found");
}

static void no_access(struct call *call)
{
    api_problem(call->response, 403, 403, "Forbidden", "No access");
}

struct site *api_site(struct call *call, unsigned n)
{
    char *end;
    long long id = strtoll(call->arg[n], &end, 10);
    struct site *s = model_site(call->model, id);

    if (*end || !s) {
        not_found(call);
        return NULL;
    }
    if (s->account != call->account) {
        no_access(call);
        return NULL;
    }
    return s;
}

struct charger *api_charger(struct call *call, unsigned n)
{
    struct model *m = call->model;
    struct charger *c = model_charger(m, call->arg[n]);

    if (!c) {
        not_found(call);
        return NULL;
    }
    if (m->site[m->circuit[c->circuit].site].account != call->account) {
        no_access(call);
        return NULL;
    }
    return c;
}

static const char *string_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static void give_tokens(struct call *call, unsigned account)
{
    struct sim *s = call->sim;
    const struct token_pair *p = tokens_issue(&s->tokens, account, s->model.now_ms,
                                              model_unix_ms(&s->model, s->model.now_ms));
    cJSON *o = cJSON_CreateObject(), *claims;

    cJSON_AddStringToObject(o, "accessToken", p->access);
    cJSON_AddNumberToObject(o, "expiresIn", (double)sim_client_s(s, s->tokens.access_ms));
    claims = cJSON_AddArrayToObject(o, "accessClaims");
    cJSON_AddItemToArray(claims, cJSON_CreateString("User"));
    cJSON_AddStringToObject(o, "tokenType", "Bearer");
    cJSON_AddStringToObject(o, "refreshToken", p->refresh);
    api_extra(call, o);
    api_json(call, 200, o);
}

/* Blanks around the name do not matter (easee-api 1.2). */
static struct account *find_account(struct model *m, const char *user)
{
    char name[NAME_SIZE];
    size_t len;

    user += strspn(user, " \t\r\n");
    len = strlen(user);
    while (len > 0 && strchr(" \t\r\n", user[len - 1]))
        len--;
    if (len >= sizeof name)
        return NULL;
    memcpy(name, user, len);
    name[len] = '\0';
    return model_account(m, name);
}

void api_login(struct call *call)
{
    const char *user = string_of(call->body, "userName");
    const char *password = string_of(call->body, "password");
    struct account *a;

    if (!user || !password) {
        api_problem(call->response, 400, 400, "BadRequest",
                    "userName and password are needed");
        return;
    }
    a = find_account(call->model, user);
    if (!a || strcmp(a->password, password) != 0) {
        api_problem(call->response, 400, 100, "InvalidUserPassword",
                    "Username or password is invalid");
        return;
    }
    give_tokens(call, (unsigned)(a - call->model->account));
}

void api_refresh(struct call *call)
{
    const char *refresh = string_of(call->body, "refreshToken");
    int account;

    if (!refresh || !string_of(call->body, "accessToken")) {
        api_problem(call->response, 400, 400, "BadRequest",
                    "accessToken and refreshToken are needed");
        return;
    }
    account = tokens_redeem(&call->sim->tokens, refresh, call->model->now_ms);
    if (account < 0) {
        api_problem(call->response, 401, 727, "InvalidRefreshToken",
                    "Invalid refresh token");
        return;
    }
    give_tokens(call, (unsigned)account);
}

void api_health(struct call *call)
{
    response_text(call->response, 200, "text/plain", "Healthy");
}

void api_observation_properties(struct call *call)
{
    cJSON *list = cJSON_CreateArray();

    for (unsigned i = 0; i < OBSERVATIONS; i++) {
        cJSON *o = cJSON_CreateObject();

        cJSON_AddNumberToObject(o, "id", obs_info[i].id);
        cJSON_AddNumberToObject(o, "dataType", obs_info[i].kind);
        cJSON_AddItemToArray(list, o);
    }
    api_json(call, 200, list);
}
