/* SPDX-License-Identifier: MIT */
#include "json.h"

#include "evecc/easee_msg.h"

#include <string.h>

/* ---- writing ---- */

struct json_out json_start(char *buf, size_t size)
{
    struct json_out o = {.size = size, .full = size == 0};

    o.buf = buf;
    return o;
}

void json_put(struct json_out *o, const char *text, size_t len)
{
    if (o->full || len >= o->size - o->len) {
        o->full = true;
        return;
    }
    memcpy(o->buf + o->len, text, len);
    o->len += len;
}

void json_put_text(struct json_out *o, const char *text)
{
    json_put(o, text, strlen(text));
}

/* Everything but what JSON forbids goes through as it is, also what is not UTF-8: only
 * the owner of a password can know how it was meant. */
void json_put_string(struct json_out *o, const char *text)
{
    static const char hex[] = "0123456789abcdef";

    json_put_text(o, "\"");
    for (; *text != '\0'; text++) {
        unsigned char ch = (unsigned char)*text;

        if (ch < ' ')
            json_put(o, (const char[]){'\\', 'u', '0', '0', hex[ch >> 4], hex[ch & 15]},
                     6);
        else if (ch == '"' || ch == '\\')
            json_put(o, (const char[]){'\\', *text}, 2);
        else
            json_put(o, text, 1);
    }
    json_put_text(o, "\"");
}

void json_put_number(struct json_out *o, unsigned number)
{
    char digits[10];
    size_t at = sizeof digits;

    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    json_put(o, digits + at, sizeof digits - at);
}

size_t json_finish(struct json_out *o)
{
    if (o->full)
        return 0;
    o->buf[o->len] = '\0';
    return o->len;
}

/* ---- reading ---- */

/* Owned by the caller; NULL when BODY is anything but one whole JSON text.  The length
 * given to cJSON includes the NUL, or even good texts fail (reliability 1.2). */
cJSON *json_parse(const char *body, size_t len)
{
    if (len > EASEE_BODY_MAX || memchr(body, '\0', len) != NULL)
        return NULL;
    return cJSON_ParseWithLengthOpts(body, len + 1, NULL, 1);
}

/* Of duplicate keys the first counts. */
const cJSON *json_member(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

bool json_absent(const cJSON *item)
{
    return item == NULL || cJSON_IsNull(item);
}

/* "" when it is not a string. */
const char *json_string(const cJSON *item)
{
    return cJSON_IsString(item) ? item->valuestring : "";
}

bool json_integer(const cJSON *item, int64_t min, int64_t max, int64_t *ret)
{
    int64_t value;

    if (!cJSON_IsNumber(item) ||
        !telemetry_scale(item->valuedouble, 1, min, max, &value) ||
        (double)value != item->valuedouble)
        return false;
    *ret = value;
    return true;
}

/* Copies TEXT, cut to fit between two characters of UTF-8; control characters become '?'.
 */
void json_copy_text(char *ret, size_t size, const char *text)
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
bool json_is_serial(const char *text)
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

bool json_same_text(const char *a, const char *b)
{
    while (*a != '\0' && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    return *a == *b;
}

/* Whether TEXT holds WORD (lower case), whatever its case. */
bool json_mentions(const char *text, const char *word)
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

const char *json_raw_skip(const char *p)
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
const char *json_raw_end(const char *p)
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
const char *json_raw_member(const char *p, const char *key)
{
    size_t len = strlen(key);

    do {
        const char *name = json_raw_skip(p + 1), *end;

        if (*name != '"')
            return NULL;
        end = string_end(name);
        p = json_raw_skip(json_raw_skip(end) + 1);
        if ((size_t)(end - name) == len + 2 && memcmp(name + 1, key, len) == 0)
            return p;
        p = json_raw_end(p);
    } while (*p == ',');
    return NULL;
}

/* A whole number, not negative, without fraction or exponent. */
bool json_raw_integer(const char *p, int64_t *ret)
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

/* TEXT as printable ASCII on one line, without HTML's tags. */
void json_copy_plain(char *ret, size_t size, const char *text)
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
        if (json_same_text(text, words[i].word)) {
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

bool json_observation(const cJSON *item, struct observation *ret)
{
    const cJSON *value = json_member(item, "value");
    int64_t id, exact;

    *ret = (struct observation){0};
    if (!json_integer(json_member(item, "id"), 1, UINT16_MAX, &id))
        return false;
    ret->id = (uint16_t)id;
    easee_msg_time(json_string(json_member(item, "timestamp")), &ret->at_unix_ms);
    if (cJSON_IsNumber(value)) {
        ret->is_number = true;
        ret->number = value->valuedouble;
    } else if (cJSON_IsBool(value)) {
        ret->is_number = true;
        ret->number = cJSON_IsTrue(value);
    } else if (cJSON_IsString(value)) {
        ret->is_number = number_in_text(value->valuestring, &ret->number);
        json_copy_text(ret->text, sizeof ret->text, value->valuestring);
    } else if (!cJSON_IsNull(value)) {
        return false;
    }
    return !ret->is_number ||
           telemetry_scale(ret->number, 1, -JSON_EXACT_MAX, JSON_EXACT_MAX, &exact);
}
