/* SPDX-License-Identifier: MIT */
#include "evecc/easee_msg.h"

#include "json.h"

#include <string.h>

/* ---- requests ---- */

static size_t two_strings(char *buf, size_t size, const char *first_key,
                          const char *first, const char *second_key, const char *second)
{
    struct json_out o = json_start(buf, size);

    json_put_text(&o, "{\"");
    json_put_text(&o, first_key);
    json_put_text(&o, "\":");
    json_put_string(&o, first);
    json_put_text(&o, ",\"");
    json_put_text(&o, second_key);
    json_put_text(&o, "\":");
    json_put_string(&o, second);
    json_put_text(&o, "}");
    return json_finish(&o);
}

size_t easee_msg_login(char *buf, size_t size, const char *user, const char *password)
{
    return two_strings(buf, size, "userName", user, "password", password);
}

size_t easee_msg_refresh(char *buf, size_t size, const char *access, const char *refresh)
{
    return two_strings(buf, size, "accessToken", access, "refreshToken", refresh);
}

static const char *const knob_keys[EASEE_KNOBS][PHASES] = {
    [EASEE_DYNAMIC] = {"dynamicCircuitCurrentP1",    "dynamicCircuitCurrentP2",
                       "dynamicCircuitCurrentP3"                                                        },
    [EASEE_MAX] = {"maxCircuitCurrentP1",        "maxCircuitCurrentP2",        "maxCircuitCurrentP3"},
    [EASEE_OFFLINE] = {"offlineMaxCircuitCurrentP1", "offlineMaxCircuitCurrentP2",
                       "offlineMaxCircuitCurrentP3"                                                     }
};
static const char *const *const settings_keys = knob_keys[EASEE_DYNAMIC];
static const char *const dynamic_keys[PHASES] = {"phase1", "phase2", "phase3"};

static void put_amps(struct json_out *o, const char *const keys[PHASES], struct amps amps)
{
    for (unsigned i = 0; i < PHASES; i++) {
        json_put_text(o, i == 0 ? "{\"" : ",\"");
        json_put_text(o, keys[i]);
        json_put_text(o, "\":");
        json_put_number(o, amps.l[i]);
    }
}

size_t easee_msg_knob(char *buf, size_t size, enum easee_knob knob, struct amps amps)
{
    struct json_out o = json_start(buf, size);

    put_amps(&o, knob_keys[knob], amps);
    json_put_text(&o, "}");
    return json_finish(&o);
}

size_t easee_msg_settings(char *buf, size_t size, struct amps amps)
{
    return easee_msg_knob(buf, size, EASEE_DYNAMIC, amps);
}

size_t easee_msg_charger(char *buf, size_t size, enum easee_knob knob, uint8_t amps)
{
    struct json_out o = json_start(buf, size);

    json_put_text(&o, knob == EASEE_MAX ? "{\"maxChargerCurrent\":"
                                        : "{\"dynamicChargerCurrent\":");
    json_put_number(&o, amps);
    json_put_text(&o, "}");
    return json_finish(&o);
}

size_t easee_msg_dynamic(char *buf, size_t size, struct amps amps, uint16_t ttl_min)
{
    struct json_out o = json_start(buf, size);

    put_amps(&o, dynamic_keys, amps);
    json_put_text(&o, ",\"timeToLive\":");
    json_put_number(&o, ttl_min);
    json_put_text(&o, "}");
    return json_finish(&o);
}

/* Amps as deciamps; null and missing are NA_U16, anything else is refused. */
static bool deciamps(const cJSON *item, uint16_t *ret)
{
    int64_t value = NA_U16;

    if (!json_absent(item) &&
        (!cJSON_IsNumber(item) ||
         !telemetry_scale(item->valuedouble, 10, 0, NA_U16 - 1, &value)))
        return false;
    *ret = (uint16_t)value;
    return true;
}

/* ---- tokens ---- */

static bool fits_token(const char *text)
{
    size_t len = strnlen(text, EASEE_TOKEN_MAX);

    return len > 0 && len < EASEE_TOKEN_MAX;
}

/* It becomes part of a header. */
static bool is_bearer(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text <= ' ' || *text > '~')
            return false;
    return true;
}

static void wipe(const cJSON *item)
{
    if (cJSON_IsString(item))
        explicit_bzero(item->valuestring, strlen(item->valuestring));
}

enum err easee_msg_token(const char *body, size_t len, struct easee_token *ret)
{
    const int64_t life_max_s = 366 * INT64_C(86400);
    cJSON *root = json_parse(body, len);
    const cJSON *access = json_member(root, "accessToken");
    const cJSON *refresh = json_member(root, "refreshToken");
    const cJSON *expires = json_member(root, "expiresIn");
    enum err err = ERR_PARSE;
    int64_t expires_in_s;

    if (fits_token(json_string(access)) && is_bearer(json_string(access)) &&
        fits_token(json_string(refresh)) && cJSON_IsNumber(expires) &&
        telemetry_scale(expires->valuedouble, 1, 1, life_max_s, &expires_in_s)) {
        ret->expires_in_s = expires_in_s;
        memcpy(ret->access, access->valuestring, strlen(access->valuestring) + 1);
        memcpy(ret->refresh, refresh->valuestring, strlen(refresh->valuestring) + 1);
        err = ERR_OK;
    }
    wipe(access);
    wipe(refresh);
    cJSON_Delete(root);
    return err;
}

/* ---- problems ---- */

static void tell(const cJSON *root, const char *body, size_t len, char *detail,
                 size_t size)
{
    static const char *const keys[] = {"title", "message", "errorCodeName"};

    if (detail == NULL || size == 0)
        return;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *text = json_string(json_member(root, keys[i]));

        if (text[0] != '\0') {
            json_copy_plain(detail, size, text);
            return;
        }
    }
    json_copy_plain(detail, size, len <= EASEE_BODY_MAX ? body : "");
}

static bool is_problem(const cJSON *root)
{
    return cJSON_IsNumber(json_member(root, "errorCode")) ||
           cJSON_IsString(json_member(root, "title"));
}

static bool is_bad_login(const cJSON *root)
{
    int64_t code;

    return (json_integer(json_member(root, "errorCode"), 0, INT32_MAX, &code) &&
            code == 100) ||
           strcmp(json_string(json_member(root, "errorCodeName")),
                  "InvalidUserPassword") == 0;
}

static enum err problem(unsigned http_status, const cJSON *root, const char *body)
{
    switch (http_status) {
    case 400:
        return is_bad_login(root) ? ERR_CREDENTIALS : ERR_BAD_REQUEST;
    case 401:
        return ERR_UNAUTHORISED;
    case 403:
        return is_problem(root) ? ERR_FORBIDDEN : ERR_BLOCKED;
    case 404:
    case 410:
        return ERR_NOT_FOUND;
    case 408:
        return ERR_TIMEOUT;
    case 429:
        return json_mentions(body, "blocked") || json_mentions(body, "banned")
                   ? ERR_BLOCKED
                   : ERR_THROTTLED;
    case 504:
        return ERR_UNREACHABLE;
    default:
        break;
    }
    switch (http_status / 100) {
    case 2:
        return ERR_OK;
    case 3:
        return ERR_REDIRECTED;
    case 4:
        return ERR_BAD_REQUEST;
    case 5:
        return ERR_SERVER;
    default:
        return ERR_PARSE;
    }
}

enum err easee_msg_problem(unsigned http_status, const char *body, size_t len,
                           char *detail, size_t detail_size)
{
    cJSON *root = json_parse(body, len);
    enum err err = problem(http_status, root, body);

    tell(root, body, len, detail, detail_size);
    cJSON_Delete(root);
    return err;
}

/* ---- discovery ---- */

enum err easee_msg_find_site(const char *body, size_t len, const char *site_key,
                             int64_t *ret_site_id)
{
    cJSON *root = json_parse(body, len);
    enum err err = cJSON_IsArray(root) ? ERR_SITE_UNKNOWN : ERR_PARSE;
    const cJSON *site;

    cJSON_ArrayForEach(site, root)
    {
        if (json_same_text(json_string(json_member(site, "siteKey")), site_key) &&
            site_key[0] != '\0' &&
            json_integer(json_member(site, "id"), 0, JSON_EXACT_MAX, ret_site_id)) {
            err = ERR_OK;
            break;
        }
    }
    cJSON_Delete(root);
    return err;
}

static bool site_fits(const cJSON *site, int64_t id, const struct easee_selector *sel)
{
    const cJSON *key = json_member(site, "siteKey");

    if (sel->site_id >= 0 && sel->site_id != id)
        return false;
    if (sel->site_key[0] == '\0' || (json_absent(key) && sel->site_id >= 0))
        return true;
    return json_same_text(json_string(key), sel->site_key);
}

static const cJSON *find_charger(const cJSON *chargers, const char *serial)
{
    const cJSON *charger;

    cJSON_ArrayForEach(charger, chargers)
    {
        if (strcmp(json_string(json_member(charger, "id")), serial) == 0)
            return charger;
    }
    return NULL;
}

static bool circuit_fits(const cJSON *circuit, const struct easee_selector *sel)
{
    int64_t id, panel;

    if (!json_integer(json_member(circuit, "id"), 0, JSON_EXACT_MAX, &id) ||
        (sel->circuit_id >= 0 && sel->circuit_id != id))
        return false;
    if (sel->panel_id >= 0 && (!json_integer(json_member(circuit, "circuitPanelId"), 0,
                                             JSON_EXACT_MAX, &panel) ||
                               sel->panel_id != panel))
        return false;
    return sel->charger[0] == '\0' ||
           find_charger(json_member(circuit, "chargers"), sel->charger) != NULL;
}

/* Its back plate is the master's, or the circuit names it. */
static bool is_master(const cJSON *charger, const cJSON *circuit)
{
    const cJSON *plate = json_member(charger, "backPlate");
    const char *plate_id = json_string(json_member(plate, "id"));
    const char *serial = json_string(json_member(charger, "id"));

    return (plate_id[0] != '\0' &&
            strcmp(plate_id, json_string(json_member(plate, "masterBackPlateId"))) ==
                0) ||
           (serial[0] != '\0' &&
            strcmp(serial, json_string(json_member(circuit, "masterChargerId"))) == 0);
}

static void add_charger(struct easee_circuit *c, const cJSON *charger)
{
    const char *serial = json_string(json_member(charger, "id"));
    int64_t product = NA_U16;

    if (c->chargers == EASEE_CHARGERS_MAX || !json_is_serial(serial))
        return;
    json_integer(json_member(charger, "productCode"), 0, NA_U16 - 1, &product);
    c->product[c->chargers] = (uint16_t)product;
    memcpy(c->serial[c->chargers++], serial, strlen(serial) + 1);
}

static void add_chargers(struct easee_circuit *c, const cJSON *circuit, const char *only)
{
    const cJSON *chargers = json_member(circuit, "chargers");
    const cJSON *master = NULL, *charger;

    c->alone = cJSON_GetArraySize(chargers) == 1;
    if (only[0] != '\0') {
        add_charger(c, find_charger(chargers, only));
        return;
    }
    cJSON_ArrayForEach(charger, chargers)
    {
        if (master == NULL && is_master(charger, circuit))
            master = charger;
    }
    add_charger(c, master);
    cJSON_ArrayForEach(charger, chargers)
    {
        if (charger != master)
            add_charger(c, charger);
    }
}

/* CIRCUIT of SITE; with ONLY not empty, its charger of that serial alone. */
static struct easee_circuit tell_circuit(const cJSON *site, const cJSON *circuit,
                                         const char *only)
{
    struct easee_circuit c = {
        .panel_id = -1, .rated_da = NA_U16, .site_rated_da = NA_U16};

    json_integer(json_member(site, "id"), 0, JSON_EXACT_MAX, &c.site_id);
    json_integer(json_member(circuit, "id"), 0, JSON_EXACT_MAX, &c.circuit_id);
    json_integer(json_member(circuit, "circuitPanelId"), 0, JSON_EXACT_MAX, &c.panel_id);
    deciamps(json_member(circuit, "ratedCurrent"), &c.rated_da);
    deciamps(json_member(site, "ratedCurrent"), &c.site_rated_da);
    c.equalizer = cJSON_GetArraySize(json_member(site, "equalizers")) > 0;
    json_copy_text(c.site_key, sizeof c.site_key,
                   json_string(json_member(site, "siteKey")));
    json_copy_text(c.site_name, sizeof c.site_name,
                   json_string(json_member(site, "name")));
    add_chargers(&c, circuit, only);
    return c;
}

static bool is_site(const cJSON *site)
{
    const cJSON *circuits = json_member(site, "circuits");
    int64_t id;

    return json_integer(json_member(site, "id"), 0, JSON_EXACT_MAX, &id) &&
           (json_absent(circuits) || cJSON_IsArray(circuits));
}

static enum err find_circuit(const cJSON *site, const struct easee_selector *sel,
                             struct easee_circuit *ret)
{
    const cJSON *circuit, *found = NULL;
    int64_t id;

    if (!is_site(site) || !json_integer(json_member(site, "id"), 0, JSON_EXACT_MAX, &id))
        return ERR_PARSE;
    if (!site_fits(site, id, sel))
        return ERR_SITE_UNKNOWN;
    cJSON_ArrayForEach(circuit, json_member(site, "circuits"))
    {
        if (!circuit_fits(circuit, sel))
            continue;
        if (found != NULL)
            return ERR_CIRCUIT_UNKNOWN;
        found = circuit;
    }
    if (found == NULL)
        return ERR_CIRCUIT_UNKNOWN;
    *ret = tell_circuit(site, found, sel->charger);
    return ERR_OK;
}

/* In the sites of a list: the one that has it. */
static enum err find_among(const cJSON *sites, const struct easee_selector *sel,
                           struct easee_circuit *ret)
{
    enum err err = ERR_SITE_UNKNOWN;
    struct easee_circuit c;
    const cJSON *site;

    cJSON_ArrayForEach(site, sites)
    {
        enum err own = find_circuit(site, sel, &c);

        if (own == ERR_PARSE)
            return ERR_PARSE;
        if (own == ERR_OK && err == ERR_OK)
            return ERR_CIRCUIT_UNKNOWN;
        if (own == ERR_OK)
            *ret = c;
        if (own == ERR_OK || (own == ERR_CIRCUIT_UNKNOWN && err == ERR_SITE_UNKNOWN))
            err = own;
    }
    return err;
}

enum err easee_msg_find_circuit(const char *body, size_t len,
                                const struct easee_selector *sel,
                                struct easee_circuit *ret)
{
    cJSON *root = json_parse(body, len);
    enum err err = find_circuit(root, sel, ret);

    cJSON_Delete(root);
    return err;
}

enum err easee_msg_find_listed(const char *body, size_t len,
                               const struct easee_selector *sel,
                               struct easee_circuit *ret)
{
    cJSON *root = json_parse(body, len);
    struct easee_circuit c;
    enum err err = cJSON_IsArray(root) ? find_among(root, sel, &c) : ERR_PARSE;

    if (err == ERR_OK)
        *ret = c;
    cJSON_Delete(root);
    return err;
}

/* Adds the circuits of SITE; false: it is none. */
static bool add_circuits(const cJSON *site, struct easee_circuit *ret, size_t max,
                         size_t *count)
{
    const cJSON *circuit;
    int64_t id;

    if (!is_site(site))
        return false;
    cJSON_ArrayForEach(circuit, json_member(site, "circuits"))
    {
        if (*count < max &&
            json_integer(json_member(circuit, "id"), 0, JSON_EXACT_MAX, &id))
            ret[(*count)++] = tell_circuit(site, circuit, "");
    }
    return true;
}

enum err easee_msg_circuits(const char *body, size_t len, struct easee_circuit *ret,
                            size_t max, size_t *ret_count)
{
    cJSON *root = json_parse(body, len);
    const cJSON *site = cJSON_IsArray(root) ? root->child : root;
    bool good = root != NULL;
    size_t count = 0;

    for (; good && site != NULL; site = site->next)
        good = add_circuits(site, ret, max, &count);
    if (good)
        *ret_count = count;
    cJSON_Delete(root);
    return good ? ERR_OK : ERR_PARSE;
}

/* ---- currents, commands, observations ---- */

enum err easee_msg_currents(const char *body, size_t len, uint16_t ret_da[PHASES])
{
    cJSON *root = json_parse(body, len);
    bool settings = json_member(root, settings_keys[0]) != NULL;
    const char *const *keys = settings ? settings_keys : dynamic_keys;
    bool good = json_member(root, keys[0]) != NULL;
    uint16_t da[PHASES];

    for (unsigned i = 0; i < PHASES; i++)
        good = good && deciamps(json_member(root, keys[i]), &da[i]);
    if (good)
        memcpy(ret_da, da, sizeof da);
    cJSON_Delete(root);
    return good ? ERR_OK : ERR_PARSE;
}

enum err easee_msg_circuit_settings(const char *body, size_t len,
                                    struct easee_settings *ret)
{
    cJSON *root = json_parse(body, len);
    struct easee_settings s = {0};
    bool good = json_member(root, settings_keys[0]) != NULL;

    for (unsigned k = 0; k < EASEE_KNOBS; k++)
        for (unsigned i = 0; i < PHASES; i++)
            good =
                good && deciamps(json_member(root, knob_keys[k][i]), &s.current_da[k][i]);
    s.equalizer = json_string(json_member(root, "equalizerId"))[0] != '\0';
    if (good)
        *ret = s;
    cJSON_Delete(root);
    return good ? ERR_OK : ERR_PARSE;
}

/* TEXT: where ITEM stands in the body. */
static bool command(const cJSON *item, const char *text, struct easee_command *ret)
{
    const cJSON *ticks = json_member(item, "ticks");
    const char *device = json_string(json_member(item, "device"));
    int64_t id;

    *ret = (struct easee_command){0};
    if (!json_integer(json_member(item, "commandId"), 0, INT32_MAX, &id))
        return false;
    ret->command_id = (int32_t)id;
    if (json_is_serial(device))
        memcpy(ret->device, device, strlen(device) + 1);
    if (json_absent(ticks))
        return true;
    text = json_raw_member(text, "ticks");
    return cJSON_IsNumber(ticks) && text != NULL && json_raw_integer(text, &ret->ticks);
}

/* Keeps at most MAX; false when one of them is none. */
static bool commands(const cJSON *root, const char *body, struct easee_command *ret,
                     size_t max, size_t *ret_count)
{
    const char *text = body;
    const cJSON *item = root;

    while (*text != '\0' && *text != '{' && *text != '[')
        text++;
    if (cJSON_IsArray(root)) {
        item = root->child;
        text++;
    }
    for (*ret_count = 0; item != NULL; item = item->next) {
        struct easee_command c;

        text = json_raw_skip(text);
        if (!command(item, text, &c))
            return false;
        text = json_raw_end(text);
        text += *text == ',';
        if (*ret_count < max)
            ret[(*ret_count)++] = c;
    }
    return true;
}

enum err easee_msg_commands(const char *body, size_t len, struct easee_command *ret,
                            size_t max, size_t *ret_count)
{
    cJSON *root = json_parse(body, len);
    size_t count = 0;
    bool good;

    if (cJSON_IsNull(root) || (size_t)(json_raw_skip(body) - body) == len)
        good = true;
    else /* once only to look, so that nothing is touched when it is no good */
        good = root != NULL && commands(root, body, NULL, 0, &count) &&
               commands(root, body, ret, max, &count);
    if (good)
        *ret_count = count;
    cJSON_Delete(root);
    return good ? ERR_OK : ERR_PARSE;
}

enum err easee_msg_observations(const char *body, size_t len, struct observation *ret,
                                size_t max, size_t *ret_count)
{
    cJSON *root = json_parse(body, len);
    const cJSON *list = json_member(root, "observations"), *item;
    bool good = cJSON_IsArray(list) || cJSON_IsNull(list);
    size_t count = 0;

    cJSON_ArrayForEach(item, list)
    {
        if (good && count < max && json_observation(item, &ret[count]))
            count++;
    }
    if (good)
        *ret_count = count;
    cJSON_Delete(root);
    return good ? ERR_OK : ERR_PARSE;
}

/* ---- time ---- */

/* COUNT digits at *P as a number within MIN to MAX; moves on behind them. */
static bool digits(const char **p, unsigned count, int min, int max, int *ret)
{
    int value = 0;

    for (; count > 0; count--, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        value = value * 10 + (**p - '0');
    }
    *ret = value;
    return value >= min && value <= max;
}

static bool letter(const char **p, char ch)
{
    if (**p != ch)
        return false;
    (*p)++;
    return true;
}

static bool is_leap(int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int leap_days_before(int year)
{
    year--;
    return year / 4 - year / 100 + year / 400;
}

/* Days from 1 January 1970 in the Gregorian calendar. */
static bool days(int year, int month, int day, int64_t *ret)
{
    static const int16_t before[] = {0,   31,  59,  90,  120, 151, 181,
                                     212, 243, 273, 304, 334, 365};
    int leap = is_leap(year);

    if (day > before[month] - before[month - 1] + (month == 2 ? leap : 0))
        return false;
    *ret = 365 * (int64_t)(year - 1970) + leap_days_before(year) -
           leap_days_before(1970) + before[month - 1] + (month > 2 ? leap : 0) + day - 1;
    return true;
}

/* Z, an offset, or nothing, which means Z too. */
static bool zone(const char **p, int *ret_min)
{
    int hours, minutes, sign = **p == '-' ? -1 : 1;

    *ret_min = 0;
    if (**p == '\0' || letter(p, 'Z'))
        return true;
    if (!(letter(p, '+') || letter(p, '-')) || !digits(p, 2, 0, 14, &hours) ||
        !letter(p, ':') || !digits(p, 2, 0, 59, &minutes))
        return false;
    *ret_min = sign * (hours * 60 + minutes);
    return true;
}

bool easee_msg_time(const char *text, int64_t *ret_unix_ms)
{
    int year, month, day, hour, minute, second, ms = 0, scale = 100, offset_min;
    const char *p = text;
    int64_t date;

    /* Years before 1970 are how the cloud writes "never": 0001-01-01. */
    if (!digits(&p, 4, 1970, 9999, &year) || !letter(&p, '-') ||
        !digits(&p, 2, 1, 12, &month) || !letter(&p, '-') ||
        !digits(&p, 2, 1, 31, &day) || !days(year, month, day, &date) ||
        !letter(&p, 'T') || !digits(&p, 2, 0, 23, &hour) || !letter(&p, ':') ||
        !digits(&p, 2, 0, 59, &minute) || !letter(&p, ':') ||
        !digits(&p, 2, 0, 60, &second))
        return false;
    if (letter(&p, '.'))
        for (int digit; digits(&p, 1, 0, 9, &digit); scale /= 10)
            ms += digit * scale;
    if (!zone(&p, &offset_min) || *p != '\0')
        return false;
    *ret_unix_ms =
        (((date * 24 + hour) * 60 + minute - offset_min) * 60 + second) * 1000 + ms;
    return true;
}

const char *easee_msg_product(uint16_t code)
{
    static const struct {
        uint16_t code;
        char name[MODEL_MAX + 1];
    } table[] = {
        {1,   "Easee Home"      },
        {2,   "Easee ChargeLite"},
        {3,   "Easee Charge Max"},
        {4,   "Easee Charge Up" },
        {100, "Easee Charge"    },
        {102, "Easee ChargeCore"},
        {103, "Easee Charge Pro"},
        {400, "Easee Charge One"},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].code == code)
            return table[i].name;
    return "Easee";
}
