/* SPDX-License-Identifier: MIT */
#include "evecc/easee_msg.h"

#include <cjson/cJSON.h>
#include <string.h>

/* Whole numbers up to here pass through a double unharmed. */
#define EXACT_MAX (INT64_C(1) << 53)

/* ---- requests ---- */

struct out {
    char *buf;
    size_t size, len;
    bool full;
};

static struct out start(char *buf, size_t size)
{
    struct out o = {.size = size, .full = size == 0};

    o.buf = buf;
    return o;
}

static void put(struct out *o, const char *text, size_t len)
{
    if (o->full || len >= o->size - o->len) {
        o->full = true;
        return;
    }
    memcpy(o->buf + o->len, text, len);
    o->len += len;
}

static void put_text(struct out *o, const char *text)
{
    put(o, text, strlen(text));
}

/* Everything but what JSON forbids goes through as it is, also what is not UTF-8: only
 * the owner of a password can know how it was meant. */
static void put_string(struct out *o, const char *text)
{
    static const char hex[] = "0123456789abcdef";

    put_text(o, "\"");
    for (; *text != '\0'; text++) {
        unsigned char ch = (unsigned char)*text;

        if (ch < ' ')
            put(o, (const char[]){'\\', 'u', '0', '0', hex[ch >> 4], hex[ch & 15]}, 6);
        else if (ch == '"' || ch == '\\')
            put(o, (const char[]){'\\', *text}, 2);
        else
            put(o, text, 1);
    }
    put_text(o, "\"");
}

static void put_number(struct out *o, unsigned number)
{
    char digits[10];
    size_t at = sizeof digits;

    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    put(o, digits + at, sizeof digits - at);
}

static size_t finish(struct out *o)
{
    put_text(o, "}");
    if (o->full)
        return 0;
    o->buf[o->len] = '\0';
    return o->len;
}

static size_t two_strings(char *buf, size_t size, const char *first_key,
                          const char *first, const char *second_key, const char *second)
{
    struct out o = start(buf, size);

    put_text(&o, "{\"");
    put_text(&o, first_key);
    put_text(&o, "\":");
    put_string(&o, first);
    put_text(&o, ",\"");
    put_text(&o, second_key);
    put_text(&o, "\":");
    put_string(&o, second);
    return finish(&o);
}

size_t easee_msg_login(char *buf, size_t size, const char *user, const char *password)
{
    return two_strings(buf, size, "userName", user, "password", password);
}

size_t easee_msg_refresh(char *buf, size_t size, const char *access, const char *refresh)
{
    return two_strings(buf, size, "accessToken", access, "refreshToken", refresh);
}

static const char *const settings_keys[PHASES] = {
    "dynamicCircuitCurrentP1", "dynamicCircuitCurrentP2", "dynamicCircuitCurrentP3"};
static const char *const dynamic_keys[PHASES] = {"phase1", "phase2", "phase3"};

static void put_amps(struct out *o, const char *const keys[PHASES], struct amps amps)
{
    for (unsigned i = 0; i < PHASES; i++) {
        put_text(o, i == 0 ? "{\"" : ",\"");
        put_text(o, keys[i]);
        put_text(o, "\":");
        put_number(o, amps.l[i]);
    }
}

size_t easee_msg_settings(char *buf, size_t size, struct amps amps)
{
    struct out o = start(buf, size);

    put_amps(&o, settings_keys, amps);
    return finish(&o);
}

size_t easee_msg_dynamic(char *buf, size_t size, struct amps amps, uint16_t ttl_min)
{
    struct out o = start(buf, size);

    put_amps(&o, dynamic_keys, amps);
    put_text(&o, ",\"timeToLive\":");
    put_number(&o, ttl_min);
    return finish(&o);
}

/* ---- reading JSON ---- */

/* Owned by the caller; NULL when BODY is anything but one whole JSON text.  The length
 * given to cJSON includes the NUL, or even good texts fail (reliability 1.2). */
static cJSON *parse(const char *body, size_t len)
{
    if (len > EASEE_BODY_MAX || memchr(body, '\0', len) != NULL)
        return NULL;
    return cJSON_ParseWithLengthOpts(body, len + 1, NULL, 1);
}

/* Of duplicate keys the first counts. */
static const cJSON *member(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static bool absent(const cJSON *item)
{
    return item == NULL || cJSON_IsNull(item);
}

/* "" when it is not a string. */
static const char *string(const cJSON *item)
{
    return cJSON_IsString(item) ? item->valuestring : "";
}

static bool integer(const cJSON *item, int64_t min, int64_t max, int64_t *ret)
{
    int64_t value;

    if (!cJSON_IsNumber(item) ||
        !telemetry_scale(item->valuedouble, 1, min, max, &value) ||
        (double)value != item->valuedouble)
        return false;
    *ret = value;
    return true;
}

/* Amps as deciamps; null and missing are NA_U16, anything else is refused. */
static bool deciamps(const cJSON *item, uint16_t *ret)
{
    int64_t value = NA_U16;

    if (!absent(item) && (!cJSON_IsNumber(item) ||
                          !telemetry_scale(item->valuedouble, 10, 0, NA_U16 - 1, &value)))
        return false;
    *ret = (uint16_t)value;
    return true;
}

/* Copies TEXT, cut to fit between two characters of UTF-8; control characters become '?'.
 */
static void copy_text(char *ret, size_t size, const char *text)
{
    size_t len = strnlen(text, size - 1);

    while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
        len--;
    for (size_t i = 0; i < len; i++)
        ret[i] = (unsigned char)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i];
    ret[len] = '\0';
}

static bool is_alnum(char ch)
{
    return (ch >= '0' && ch <= '9') || (ch >= 'A' && ch <= 'Z') ||
           (ch >= 'a' && ch <= 'z');
}

/* A serial becomes part of a path: nothing but letters, digits and '-'. */
static bool is_serial(const char *text)
{
    size_t len = strnlen(text, SERIAL_MAX + 1);

    for (size_t i = 0; i < len; i++)
        if (!is_alnum(text[i]) && text[i] != '-')
            return false;
    return len > 0 && len <= SERIAL_MAX;
}

static char lower(char ch)
{
    return ch >= 'A' && ch <= 'Z' ? (char)(ch - 'A' + 'a') : ch;
}

static bool same_key(const char *a, const char *b)
{
    while (*a != '\0' && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    return *a == *b;
}

/* Whether TEXT holds WORD (lower case), whatever its case. */
static bool mentions(const char *text, const char *word)
{
    for (; *text != '\0'; text++) {
        size_t i = 0;

        while (word[i] != '\0' && lower(text[i]) == word[i])
            i++;
        if (word[i] == '\0')
            return true;
    }
    return false;
}

/* ---- 64-bit numbers ----
 *
 * cJSON keeps a number as a double and forgets its digits, but ticks have eighteen of
 * them (easee-api 5.1).  So they are read from the text itself.  cJSON has found that
 * text well-formed before, which leaves little to do: a string ends at its quote, a value
 * where its brackets balance.  All of these stop at the terminating NUL, too. */

static const char *skip_blanks(const char *p)
{
    while (*p != '\0' && (unsigned char)*p <= ' ')
        p++;
    return p;
}

static const char *string_end(const char *p)
{
    for (p++; *p != '\0' && *p != '"'; p++)
        if (*p == '\\' && p[1] != '\0')
            p++;
    return *p == '"' ? p + 1 : p;
}

/* The ',' or closing bracket behind the value at P. */
static const char *value_end(const char *p)
{
    size_t depth = 0;

    while (*p != '\0') {
        if (*p == '"') {
            p = string_end(p);
            continue;
        }
        if (depth == 0 && strchr(",]}", *p) != NULL)
            break;
        if (*p == '{' || *p == '[')
            depth++;
        else if (*p == '}' || *p == ']')
            depth--;
        p++;
    }
    return p;
}

/* The text of the first value called KEY in the object at P; NULL: none. */
static const char *raw_member(const char *p, const char *key)
{
    size_t len = strlen(key);

    do {
        const char *name = skip_blanks(p + 1), *end;

        if (*name != '"')
            return NULL;
        end = string_end(name);
        p = skip_blanks(skip_blanks(end) + 1);
        if ((size_t)(end - name) == len + 2 && memcmp(name + 1, key, len) == 0)
            return p;
        p = value_end(p);
    } while (*p == ',');
    return NULL;
}

/* A whole number, not negative, without fraction or exponent. */
static bool raw_integer(const char *p, int64_t *ret)
{
    int64_t value = 0;

    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (value > (INT64_MAX - (*p - '0')) / 10)
            return false;
        value = value * 10 + (*p - '0');
    }
    if (*p == '.' || *p == 'e' || *p == 'E')
        return false;
    *ret = value;
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
    cJSON *root = parse(body, len);
    const cJSON *access = member(root, "accessToken");
    const cJSON *refresh = member(root, "refreshToken");
    const cJSON *expires = member(root, "expiresIn");
    enum err err = ERR_PARSE;
    int64_t expires_in_s;

    if (fits_token(string(access)) && is_bearer(string(access)) &&
        fits_token(string(refresh)) && cJSON_IsNumber(expires) &&
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

/* TEXT as printable ASCII on one line, without HTML's tags. */
static void copy_detail(char *ret, size_t size, const char *text)
{
    size_t len = 0;
    bool tag = false, blank = false;

    for (; *text != '\0' && len + 2 < size; text++) {
        tag = tag ||
              (*text == '<' && (is_alnum(text[1]) || text[1] == '/' || text[1] == '!'));
        if (tag || (unsigned char)*text <= ' ' || *text == 0x7f) {
            tag = tag && *text != '>';
            blank = len > 0;
            continue;
        }
        if (blank)
            ret[len++] = ' ';
        blank = false;
        ret[len++] = *text <= '~' && *text > ' ' ? *text : '?';
    }
    ret[len] = '\0';
}

static void tell(const cJSON *root, const char *body, size_t len, char *detail,
                 size_t size)
{
    static const char *const keys[] = {"title", "message", "errorCodeName"};

    if (detail == NULL || size == 0)
        return;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *text = string(member(root, keys[i]));

        if (text[0] != '\0') {
            copy_detail(detail, size, text);
            return;
        }
    }
    copy_detail(detail, size, len <= EASEE_BODY_MAX ? body : "");
}

static bool is_problem(const cJSON *root)
{
    return cJSON_IsNumber(member(root, "errorCode")) ||
           cJSON_IsString(member(root, "title"));
}

static bool is_bad_login(const cJSON *root)
{
    int64_t code;

    return (integer(member(root, "errorCode"), 0, INT32_MAX, &code) && code == 100) ||
           strcmp(string(member(root, "errorCodeName")), "InvalidUserPassword") == 0;
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
        return mentions(body, "blocked") || mentions(body, "banned") ? ERR_BLOCKED
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
    cJSON *root = parse(body, len);
    enum err err = problem(http_status, root, body);

    tell(root, body, len, detail, detail_size);
    cJSON_Delete(root);
    return err;
}

/* ---- discovery ---- */

enum err easee_msg_find_site(const char *body, size_t len, const char *site_key,
                             int64_t *ret_site_id)
{
    cJSON *root = parse(body, len);
    enum err err = cJSON_IsArray(root) ? ERR_SITE_UNKNOWN : ERR_PARSE;
    const cJSON *site;

    cJSON_ArrayForEach(site, root)
    {
        if (same_key(string(member(site, "siteKey")), site_key) && site_key[0] != '\0' &&
            integer(member(site, "id"), 0, EXACT_MAX, ret_site_id)) {
            err = ERR_OK;
            break;
        }
    }
    cJSON_Delete(root);
    return err;
}

static bool site_fits(const cJSON *site, int64_t id, const struct easee_selector *sel)
{
    const cJSON *key = member(site, "siteKey");

    if (sel->site_id >= 0 && sel->site_id != id)
        return false;
    if (sel->site_key[0] == '\0' || (absent(key) && sel->site_id >= 0))
        return true;
    return same_key(string(key), sel->site_key);
}

static const cJSON *find_charger(const cJSON *chargers, const char *serial)
{
    const cJSON *charger;

    cJSON_ArrayForEach(charger, chargers)
    {
        if (strcmp(string(member(charger, "id")), serial) == 0)
            return charger;
    }
    return NULL;
}

static bool circuit_fits(const cJSON *circuit, const struct easee_selector *sel)
{
    int64_t id, panel;

    if (!integer(member(circuit, "id"), 0, EXACT_MAX, &id) ||
        (sel->circuit_id >= 0 && sel->circuit_id != id))
        return false;
    if (sel->panel_id >= 0 &&
        (!integer(member(circuit, "circuitPanelId"), 0, EXACT_MAX, &panel) ||
         sel->panel_id != panel))
        return false;
    return sel->charger[0] == '\0' ||
           find_charger(member(circuit, "chargers"), sel->charger) != NULL;
}

/* Its back plate is the master's, or the circuit names it. */
static bool is_master(const cJSON *charger, const cJSON *circuit)
{
    const cJSON *plate = member(charger, "backPlate");
    const char *plate_id = string(member(plate, "id"));
    const char *serial = string(member(charger, "id"));

    return (plate_id[0] != '\0' &&
            strcmp(plate_id, string(member(plate, "masterBackPlateId"))) == 0) ||
           (serial[0] != '\0' &&
            strcmp(serial, string(member(circuit, "masterChargerId"))) == 0);
}

static void add_charger(struct easee_circuit *c, const cJSON *charger)
{
    const char *serial = string(member(charger, "id"));
    int64_t product = NA_U16;

    if (c->chargers == EASEE_CHARGERS_MAX || !is_serial(serial))
        return;
    integer(member(charger, "productCode"), 0, NA_U16 - 1, &product);
    c->product[c->chargers] = (uint16_t)product;
    memcpy(c->serial[c->chargers++], serial, strlen(serial) + 1);
}

static void add_chargers(struct easee_circuit *c, const cJSON *circuit, const char *only)
{
    const cJSON *chargers = member(circuit, "chargers");
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

static enum err find_circuit(const cJSON *site, const struct easee_selector *sel,
                             struct easee_circuit *ret)
{
    const cJSON *circuits = member(site, "circuits"), *circuit, *found = NULL;
    struct easee_circuit c = {.panel_id = -1, .rated_da = NA_U16};

    if (!integer(member(site, "id"), 0, EXACT_MAX, &c.site_id) ||
        (!absent(circuits) && !cJSON_IsArray(circuits)))
        return ERR_PARSE;
    if (!site_fits(site, c.site_id, sel))
        return ERR_SITE_UNKNOWN;
    cJSON_ArrayForEach(circuit, circuits)
    {
        if (!circuit_fits(circuit, sel))
            continue;
        if (found != NULL)
            return ERR_CIRCUIT_UNKNOWN;
        found = circuit;
    }
    if (found == NULL)
        return ERR_CIRCUIT_UNKNOWN;
    integer(member(found, "id"), 0, EXACT_MAX, &c.circuit_id);
    integer(member(found, "circuitPanelId"), 0, EXACT_MAX, &c.panel_id);
    deciamps(member(found, "ratedCurrent"), &c.rated_da);
    copy_text(c.site_key, sizeof c.site_key, string(member(site, "siteKey")));
    copy_text(c.site_name, sizeof c.site_name, string(member(site, "name")));
    add_chargers(&c, found, sel->charger);
    *ret = c;
    return ERR_OK;
}

enum err easee_msg_find_circuit(const char *body, size_t len,
                                const struct easee_selector *sel,
                                struct easee_circuit *ret)
{
    cJSON *root = parse(body, len);
    enum err err = find_circuit(root, sel, ret);

    cJSON_Delete(root);
    return err;
}

/* ---- currents, commands, observations ---- */

enum err easee_msg_currents(const char *body, size_t len, uint16_t ret_da[PHASES])
{
    cJSON *root = parse(body, len);
    bool settings = member(root, settings_keys[0]) != NULL;
    const char *const *keys = settings ? settings_keys : dynamic_keys;
    bool good = member(root, keys[0]) != NULL;
    uint16_t da[PHASES];

    for (unsigned i = 0; i < PHASES; i++)
        good = good && deciamps(member(root, keys[i]), &da[i]);
    if (good)
        memcpy(ret_da, da, sizeof da);
    cJSON_Delete(root);
    return good ? ERR_OK : ERR_PARSE;
}

/* TEXT: where ITEM stands in the body. */
static bool command(const cJSON *item, const char *text, struct easee_command *ret)
{
    const cJSON *ticks = member(item, "ticks");
    const char *device = string(member(item, "device"));
    int64_t id;

    *ret = (struct easee_command){0};
    if (!integer(member(item, "commandId"), 0, INT32_MAX, &id))
        return false;
    ret->command_id = (int32_t)id;
    if (is_serial(device))
        memcpy(ret->device, device, strlen(device) + 1);
    if (absent(ticks))
        return true;
    text = raw_member(text, "ticks");
    return cJSON_IsNumber(ticks) && text != NULL && raw_integer(text, &ret->ticks);
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

        text = skip_blanks(text);
        if (!command(item, text, &c))
            return false;
        text = value_end(text);
        text += *text == ',';
        if (*ret_count < max)
            ret[(*ret_count)++] = c;
    }
    return true;
}

enum err easee_msg_commands(const char *body, size_t len, struct easee_command *ret,
                            size_t max, size_t *ret_count)
{
    cJSON *root = parse(body, len);
    size_t count = 0;
    bool good;

    if (cJSON_IsNull(root) || (size_t)(skip_blanks(body) - body) == len)
        good = true;
    else /* once only to look, so that nothing is touched when it is no good */
        good = root != NULL && commands(root, body, NULL, 0, &count) &&
               commands(root, body, ret, max, &count);
    if (good)
        *ret_count = count;
    cJSON_Delete(root);
    return good ? ERR_OK : ERR_PARSE;
}

/* The stream and some endpoints write numbers and booleans as strings (easee-api 7.2). */
static bool number_in_text(const char *text, double *ret)
{
    static const struct {
        char word[6];
        bool value;
    } words[] = {
        {"true",  true },
        {"false", false},
        {"on",    true },
        {"off",   false}
    };
    bool number = false;
    cJSON *item;

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (same_key(text, words[i].word)) {
            *ret = words[i].value;
            return true;
        }
    }
    if ((*text < '0' || *text > '9') && *text != '-')
        return false;
    item = cJSON_ParseWithOpts(text, NULL, 1);
    if (cJSON_IsNumber(item)) {
        *ret = item->valuedouble;
        number = true;
    }
    cJSON_Delete(item);
    return number;
}

static bool observation(const cJSON *item, struct observation *ret)
{
    const cJSON *value = member(item, "value");
    int64_t id, exact;

    *ret = (struct observation){0};
    if (!integer(member(item, "id"), 1, UINT16_MAX, &id))
        return false;
    ret->id = (uint16_t)id;
    easee_msg_time(string(member(item, "timestamp")), &ret->at_unix_ms);
    if (cJSON_IsNumber(value)) {
        ret->is_number = true;
        ret->number = value->valuedouble;
    } else if (cJSON_IsBool(value)) {
        ret->is_number = true;
        ret->number = cJSON_IsTrue(value);
    } else if (cJSON_IsString(value)) {
        ret->is_number = number_in_text(value->valuestring, &ret->number);
        copy_text(ret->text, sizeof ret->text, value->valuestring);
    } else if (!cJSON_IsNull(value)) {
        return false;
    }
    return !ret->is_number ||
           telemetry_scale(ret->number, 1, -EXACT_MAX, EXACT_MAX, &exact);
}

enum err easee_msg_observations(const char *body, size_t len, struct observation *ret,
                                size_t max, size_t *ret_count)
{
    cJSON *root = parse(body, len);
    const cJSON *list = member(root, "observations"), *item;
    bool good = cJSON_IsArray(list) || cJSON_IsNull(list);
    size_t count = 0;

    cJSON_ArrayForEach(item, list)
    {
        if (good && count < max && observation(item, &ret[count]))
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
