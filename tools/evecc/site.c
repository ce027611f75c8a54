/* SPDX-License-Identifier: MIT */
#include "site.h"

#include "setup.h"

#include "evecc/log.h"
#include "evecc/sys.h"

#include <inttypes.h>
#include <string.h>

enum {
    OBSERVATIONS_MAX = 96,
    CIRCUITS_MAX = 64,
    PHASE_MODE = 38,
    MAX_CHARGER_CURRENT = 47
};

/* ---- which circuit ---- */

/* A flag that sets an option of [circuit]. */
struct circuit_flag {
    enum flag flag;
    const char *key;
};

/* Into CFG what the command line gives of ROWS, which end with a NULL key. */
static enum exit_code take_flags(const struct cli *cli, const struct circuit_flag *rows,
                                 struct config_circuit *cfg, bool *ret_given)
{
    char why[256];

    *ret_given = false;
    for (; rows->key != NULL; rows++) {
        const char *text = cli->flag[rows->flag];

        if (text == NULL)
            continue;
        *ret_given = true;
        if (!config_set(cfg, "circuit", rows->key, text, why, sizeof why))
            return fail(cli, EXIT_USAGE, NULL, "--%s %s: %s",
                        cli_flags()[rows->flag].name, text, why);
    }
    return EXIT_OK;
}

static enum exit_code take_policy(const struct cli *cli, struct config_circuit *cfg)
{
    static const struct circuit_flag rows[] = {
        {FLAG_max_current,      "max_current"     },
        {FLAG_min_current,      "min_current"     },
        {FLAG_voltage,          "voltage"         },
        {FLAG_single_phase_max, "single_phase_max"},
        {FLAG_wired,            "phases"          },
        {FLAGS,                 NULL              }
    };
    bool given;
    enum exit_code status = take_flags(cli, rows, cfg, &given);

    if (status != EXIT_OK)
        return status;
    if (cfg->phases == 2)
        return fail(cli, EXIT_USAGE, NULL, "--wired 2: allowed: 1 or 3");
    return EXIT_OK;
}

static void set_defaults(struct config_circuit *cfg)
{
    char why[256];
    size_t count;
    const struct config_option *o = config_options(&count);

    for (size_t i = 0; i < count; i++)
        if (strcmp(o[i].section, "circuit") == 0)
            config_set(cfg, "circuit", o[i].key, NULL, why, sizeof why);
}

enum exit_code site_from_flags(const struct cli *cli, struct site *s, bool *ret_given)
{
    static const struct circuit_flag rows[] = {
        {FLAG_site_key,         "site"   },
        {FLAG_circuit_panel_id, "circuit"},
        {FLAG_charger,          "charger"},
        {FLAGS,                 NULL     }
    };
    enum exit_code status = take_flags(cli, rows, &s->cfg, ret_given);

    if (status == EXIT_OK)
        config_select(&s->cfg);
    return status;
}

/* What the command line or the configuration say; *RET_ANY: neither names a circuit. */
static enum exit_code choose(struct cloud *c, struct site *s, bool *ret_any)
{
    const struct config_circuit *configured = NULL;
    bool given;
    enum exit_code status = site_from_flags(c->cli, s, &given);

    if (status == EXIT_OK && !given)
        status = setup_circuit(c->cli, &c->cfg, &configured);
    if (status != EXIT_OK)
        return status;
    if (configured != NULL)
        s->cfg = *configured;
    s->configured = configured != NULL;
    *ret_any = !given && !s->configured;
    return take_policy(c->cli, &s->cfg);
}

/* ---- finding it ---- */

enum err site_list(struct cloud *c, struct easee_circuit *ret, size_t max,
                   size_t *ret_count)
{
    enum err err = cloud_call(c, BUDGET_LOOKUP, "/api/accounts/products", NULL);

    return err == ERR_OK
               ? easee_msg_circuits(c->reply.body, c->reply.len, ret, max, ret_count)
               : err;
}

static enum err by_charger(struct cloud *c, struct site *s)
{
    char path[EASEE_PATH_MAX];
    enum err err;

    snprintf(path, sizeof path, "/api/chargers/%s/site", s->cfg.selector.charger);
    err = cloud_call(c, BUDGET_LOOKUP, path, NULL);
    return err == ERR_OK ? easee_msg_find_circuit(c->reply.body, c->reply.len,
                                                  &s->cfg.selector, &s->where)
                         : err;
}

/* Sites that the app does not show: by their key or id, at a cost (easee-api 8.1). */
static enum err by_site(struct cloud *c, struct site *s)
{
    struct easee_selector sel = s->cfg.selector;
    char path[EASEE_PATH_MAX];
    enum err err = ERR_OK;

    if (sel.site_id < 0) {
        err = cloud_call(c, BUDGET_LOOKUP, "/api/sites", NULL);
        if (err == ERR_OK)
            err = easee_msg_find_site(c->reply.body, c->reply.len, sel.site_key,
                                      &sel.site_id);
    }
    if (err != ERR_OK)
        return err;
    snprintf(path, sizeof path, "/api/sites/%" PRId64 "?detailed=true", sel.site_id);
    err = cloud_call(c, BUDGET_DISCOVER, path, NULL);
    if (err == ERR_NOT_FOUND)
        return ERR_SITE_UNKNOWN;
    return err == ERR_OK
               ? easee_msg_find_circuit(c->reply.body, c->reply.len, &sel, &s->where)
               : err;
}

static enum err by_list(struct cloud *c, struct site *s)
{
    enum err err = cloud_call(c, BUDGET_LOOKUP, "/api/accounts/products", NULL);

    if (err == ERR_OK)
        err = easee_msg_find_listed(c->reply.body, c->reply.len, &s->cfg.selector,
                                    &s->where);
    return err;
}

static void name_circuit(const struct easee_circuit *w, char *buf, size_t size)
{
    char name[48];

    snprintf(buf, size, "--site-key %s --circuit-panel-id %" PRId64 " (%s, %s)",
             w->site_key, w->panel_id, log_safe(w->site_name, name, sizeof name),
             w->chargers > 0 ? w->serial[0] : "no charger");
}

/* Says which circuits there are instead. */
static enum exit_code unknown(struct cloud *c, const struct site *s, enum err err)
{
    static struct easee_circuit all[CIRCUITS_MAX];
    char list[1024] = "The account has none that the app shows.", one[192];
    char what[160] = "which circuit?";
    size_t count = 0, len = 0;
    bool given =
        *s->cfg.site != '\0' || *s->cfg.circuit != '\0' || *s->cfg.charger != '\0';

    if (given)
        snprintf(what, sizeof what, "site %s, circuit %s, charger %s: %s",
                 *s->cfg.site != '\0' ? s->cfg.site : "-",
                 *s->cfg.circuit != '\0' ? s->cfg.circuit : "-",
                 *s->cfg.charger != '\0' ? s->cfg.charger : "-", err_text(err));
    if (site_list(c, all, CIRCUITS_MAX, &count) != ERR_OK)
        count = 0;
    for (size_t i = 0; i < count && len < sizeof list - sizeof one; i++) {
        name_circuit(&all[i], one, sizeof one);
        len += (size_t)snprintf(list + len, sizeof list - len, "%s\n         %s",
                                i > 0 ? "" : "The account has:", one);
    }
    return fail(c->cli, given ? EXIT_NOT_FOUND : EXIT_USAGE, list, "%s", what);
}

/* The only one of the account, when nobody said which. */
static enum exit_code the_only_one(struct cloud *c, struct site *s)
{
    static struct easee_circuit all[CIRCUITS_MAX];
    size_t count;
    enum err err = site_list(c, all, CIRCUITS_MAX, &count);

    if (err != ERR_OK)
        return cloud_fail(c, err, "listing the circuits of the account");
    if (count != 1)
        return unknown(c, s, ERR_CIRCUIT_UNKNOWN);
    s->where = all[0];
    return EXIT_OK;
}

void site_init(struct site *s)
{
    memset(s, 0, sizeof *s);
    memset(s->settings.current_da, 0xff, sizeof s->settings.current_da);
    charger_init(&s->charger);
    s->max_charger_da = s->phase_mode = NA_U16;
    set_defaults(&s->cfg);
}

enum err site_resolve(struct cloud *c, struct site *s)
{
    const struct easee_selector *sel = &s->cfg.selector;
    enum err err;

    if (*sel->charger != '\0') {
        err = by_charger(c, s);
        return err == ERR_NOT_FOUND ? ERR_CIRCUIT_UNKNOWN : err;
    }
    err = by_list(c, s);
    if ((err == ERR_SITE_UNKNOWN || err == ERR_CIRCUIT_UNKNOWN) &&
        (*sel->site_key != '\0' || sel->site_id >= 0))
        err = by_site(c, s);
    return err;
}

enum exit_code site_find(struct cloud *c, struct site *ret)
{
    enum exit_code status;
    enum err err;
    bool any = false;

    site_init(ret);
    status = choose(c, ret, &any);
    if (status != EXIT_OK)
        return status;
    if (any)
        return the_only_one(c, ret);
    err = site_resolve(c, ret);
    if (err == ERR_SITE_UNKNOWN || err == ERR_CIRCUIT_UNKNOWN)
        return unknown(c, ret, err);
    return err == ERR_OK ? EXIT_OK : cloud_fail(c, err, "looking for the circuit");
}

/* ---- what is set, what is said ---- */

static void settings_path(const struct site *s, char path[static EASEE_PATH_MAX])
{
    snprintf(path, EASEE_PATH_MAX, "/api/sites/%" PRId64 "/circuits/%" PRId64 "/settings",
             s->where.site_id, s->where.circuit_id);
}

enum err site_read(struct cloud *c, struct site *s)
{
    char path[EASEE_PATH_MAX];
    enum err err;

    settings_path(s, path);
    err = cloud_call(c, BUDGET_READBACK, path, NULL);
    return err == ERR_OK
               ? easee_msg_circuit_settings(c->reply.body, c->reply.len, &s->settings)
               : err;
}

enum exit_code site_start(const struct cli *cli, struct cloud *c, struct site *ret)
{
    enum exit_code status = cloud_start(cli, c);
    enum err err;

    if (status == EXIT_OK)
        status = site_find(c, ret);
    if (status != EXIT_OK)
        return status;
    err = site_read(c, ret);
    return err == ERR_OK ? EXIT_OK : cloud_fail(c, err, "reading the circuit's settings");
}

enum err site_observe(struct cloud *c, struct site *s)
{
    static struct observation list[OBSERVATIONS_MAX];
    char path[EASEE_PATH_MAX];
    size_t count;
    int64_t number;
    enum err err;

    if (s->where.chargers == 0)
        return ERR_NOT_FOUND;
    snprintf(path, sizeof path, "/state/%s/observations?ids=%s,%d,%d", s->where.serial[0],
             telemetry_ids(), PHASE_MODE, MAX_CHARGER_CURRENT);
    err = cloud_call(c, BUDGET_OBSERVE, path, NULL);
    if (err == ERR_OK)
        err = easee_msg_observations(c->reply.body, c->reply.len, list, OBSERVATIONS_MAX,
                                     &count);
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        charger_observe(&s->charger, &list[i], c->reply.date_unix_ms, sys_now_ms());
        if (!list[i].is_number)
            continue;
        if (list[i].id == MAX_CHARGER_CURRENT &&
            telemetry_scale(list[i].number, 10, 0, NA_U16 - 1, &number))
            s->max_charger_da = (uint16_t)number;
        if (list[i].id == PHASE_MODE && telemetry_scale(list[i].number, 1, 0, 3, &number))
            s->phase_mode = (uint16_t)number;
    }
    return err;
}

enum err site_confirm(struct cloud *c, struct site *s, bool observe,
                      bool (*reached)(const struct site *s, const void *arg),
                      const void *arg)
{
    for (unsigned pause_s = 1; !reached(s, arg); pause_s *= 2) {
        enum err err;
        bool waited;

        if (pause_s > 8) {
            c->detail[0] = '\0';
            return ERR_NOT_CONFIRMED;
        }
        progress_begin("waiting for the charger to confirm");
        waited = cloud_wait(c, pause_s * UINT64_C(1000));
        progress_end();
        if (!waited)
            return ERR_SYSTEM;
        err = site_read(c, s);
        if (err == ERR_OK && observe)
            err = site_observe(c, s);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

enum err site_set(struct cloud *c, const struct site *s, enum easee_knob knob,
                  struct amps amps)
{
    struct easee_command command[4];
    char path[EASEE_PATH_MAX], body[256];
    size_t count;
    enum err err;

    settings_path(s, path);
    easee_msg_knob(body, sizeof body, knob, amps);
    err = cloud_call(c, BUDGET_WRITE, path, body);
    return err == ERR_OK
               ? easee_msg_commands(c->reply.body, c->reply.len, command, 4, &count)
               : err;
}

enum err site_set_charger(struct cloud *c, const struct site *s, enum easee_knob knob,
                          uint8_t amps)
{
    struct easee_command command[4];
    char path[EASEE_PATH_MAX], body[64];
    size_t count;
    enum err err;

    snprintf(path, sizeof path, "/api/chargers/%s/settings", s->where.serial[0]);
    easee_msg_charger(body, sizeof body, knob, amps);
    err = cloud_call(c, BUDGET_WRITE, path, body);
    return err == ERR_OK
               ? easee_msg_commands(c->reply.body, c->reply.len, command, 4, &count)
               : err;
}

bool site_may_switch(const struct site *s)
{
    return s->cfg.phases == PHASES && s->where.alone &&
           telemetry_grid_is_tn(s->charger.grid_type);
}

/* ---- words ---- */

const char *site_amps_text(const uint16_t da[PHASES], char buf[static 48])
{
    size_t len = 0;

    for (unsigned i = 0; i < PHASES; i++) {
        const char *between = i > 0 ? " / " : "";

        if (da[i] == NA_U16)
            len += (size_t)snprintf(buf + len, 48 - len, "%s-", between);
        else if (da[i] % 10 == 0)
            len += (size_t)snprintf(buf + len, 48 - len, "%s%u", between, da[i] / 10u);
        else
            len += (size_t)snprintf(buf + len, 48 - len, "%s%.1f", between, da[i] / 10.0);
    }
    snprintf(buf + len, 48 - len, " A");
    return buf;
}

cJSON *site_amps_json(const uint16_t da[PHASES])
{
    cJSON *list = cJSON_CreateArray();

    for (unsigned i = 0; i < PHASES; i++)
        cJSON_AddItemToArray(list, da[i] == NA_U16 ? cJSON_CreateNull()
                                                   : cJSON_CreateNumber(da[i] / 10.0));
    return list;
}

void site_print_head(const struct site *s)
{
    char name[48];

    printf("%s%s%s (%s), circuit %" PRId64 "%s%s %s\n", paint(STYLE_STRONG),
           log_safe(s->where.site_name, name, sizeof name), paint(STYLE_PLAIN),
           s->where.site_key, s->where.panel_id, s->where.chargers > 0 ? ", " : "",
           s->where.chargers > 0 ? s->where.serial[0] : "",
           s->where.chargers > 0 ? easee_msg_product(s->where.product[0]) : "no charger");
}

void site_head_json(const struct site *s, cJSON *to)
{
    cJSON_AddStringToObject(to, "site_key", s->where.site_key);
    cJSON_AddStringToObject(to, "site_name", s->where.site_name);
    cJSON_AddNumberToObject(to, "site_id", (double)s->where.site_id);
    cJSON_AddNumberToObject(to, "circuit_id", (double)s->where.circuit_id);
    cJSON_AddNumberToObject(to, "circuit_panel_id", (double)s->where.panel_id);
    cJSON_AddItemToObject(to, "chargers", cJSON_CreateArray());
    for (unsigned i = 0; i < s->where.chargers; i++)
        cJSON_AddItemToArray(cJSON_GetObjectItem(to, "chargers"),
                             cJSON_CreateString(s->where.serial[i]));
}
