/* SPDX-License-Identifier: MIT
 * api.h - the routes of the cloud's REST interface and what they share. */
#ifndef EASEESIM_API_H
#define EASEESIM_API_H

#include "sim.h"

enum { API_ARGS = 3, API_ARG_SIZE = 64 };

struct call {
    struct sim *sim;
    struct model *model; /* of sim */
    const struct request *request;
    struct response *response;
    cJSON *body;                      /* of the request; NULL: none or not JSON */
    unsigned account;                 /* whose token was sent */
    char arg[API_ARGS][API_ARG_SIZE]; /* the variable parts of the path */
};

typedef void api_handler(struct call *call);

struct api_route {
    const char *method, *pattern; /* {} is one variable part */
    enum limit_class class;
    bool open; /* needs no token */
    api_handler *handler;
};

/* The route of a request, with its variable parts in ARG.  NULL: none; then RET_PATH says
 * whether the path exists for another method. */
const struct api_route *api_find(const char *method, const char *path,
                                 char arg[API_ARGS][API_ARG_SIZE], bool *ret_path);

/* Answers.  api_json() takes BODY. */
void api_json(struct call *call, int status, cJSON *body);
void api_problem(struct response *response, int status, int code, const char *name,
                 const char *title);

/* Unknown members, if the quirk asks for them. */
void api_extra(const struct call *call, cJSON *object);

/* A command as the cloud acknowledges it. */
cJSON *api_acknowledge(const struct model *m, const struct command *command);

/* The thing named in arg[N] if this account may see it; else answers 404 or 403 and
 * returns NULL. */
struct site *api_site(struct call *call, unsigned n);
struct charger *api_charger(struct call *call, unsigned n);

api_handler api_login, api_refresh, api_health, api_observation_properties;
api_handler api_sites, api_site_detail, api_site_state, api_products;
api_handler api_settings_get, api_settings_post, api_dynamic_get, api_dynamic_post;
api_handler api_chargers, api_charger_one, api_charger_site, api_charger_config;
api_handler api_charger_state, api_charger_details, api_charger_settings,
    api_command_post;
api_handler api_hub_negotiate, api_hub_connect, api_hub_send, api_hub_end;
api_handler api_command_get, api_observations, api_firmware, api_session;

#endif
