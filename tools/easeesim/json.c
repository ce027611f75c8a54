/* SPDX-License-Identifier: MIT */
#include "json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

cJSON *json_parse(const char *text, size_t len)
{
    return text ? cJSON_ParseWithLengthOpts(text, len + 1, NULL, true) : NULL;
}

void json_add_i64(cJSON *object, const char *name, int64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRId64, value);
    cJSON_AddRawToObject(object, name, text);
}

cJSON *json_real(double value)
{
    char text[40];

    snprintf(text, sizeof text, "%.10g", value);
    if (!strpbrk(text, ".e"))
        snprintf(text + strlen(text), sizeof text - strlen(text), ".0");
    return cJSON_CreateRaw(text);
}

void json_add_real(cJSON *object, const char *name, double value)
{
    cJSON_AddItemToObject(object, name, json_real(value));
}

void json_add_phases(cJSON *object, const char *prefix, const double a[3])
{
    char name[64];

    for (int p = 0; p < 3; p++) {
        snprintf(name, sizeof name, "%s%d", prefix, p + 1);
        json_add_real(object, name, a[p]);
    }
}

cJSON *json_array3(const double a[3])
{
    return cJSON_CreateDoubleArray(a, 3);
}

bool json_bool(const cJSON *object, const char *name, bool *ret, char *why)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);

    if (!v)
        return true;
    if (!cJSON_IsBool(v)) {
        snprintf(why, JSON_WHY, "%s: true or false", name);
        return false;
    }
    *ret = cJSON_IsTrue(v);
    return true;
}

bool json_real_in(const cJSON *object, const char *name, double lo, double hi,
                  double *ret, char *why)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);

    if (!v)
        return true;
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= lo && v->valuedouble <= hi)) {
        snprintf(why, JSON_WHY, "%s: a number from %g to %g", name, lo, hi);
        return false;
    }
    *ret = v->valuedouble;
    return true;
}

bool json_int_in(const cJSON *object, const char *name, int64_t lo, int64_t hi,
                 int64_t *ret, char *why)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);

    if (!v)
        return true;
    if (!cJSON_IsNumber(v) || v->valuedouble != floor(v->valuedouble) ||
        !(v->valuedouble >= (double)lo && v->valuedouble <= (double)hi)) {
        snprintf(why, JSON_WHY, "%s: a whole number from %" PRId64 " to %" PRId64, name,
                 lo, hi);
        return false;
    }
    *ret = (int64_t)v->valuedouble;
    return true;
}

bool json_text(const cJSON *object, const char *name, char *ret, size_t size, char *why)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);

    if (!v)
        return true;
    if (!cJSON_IsString(v) || strlen(v->valuestring) >= size) {
        snprintf(why, JSON_WHY, "%s: a string of at most %zu bytes", name, size - 1);
        return false;
    }
    memcpy(ret, v->valuestring, strlen(v->valuestring) + 1);
    return true;
}

bool json_three_of(const cJSON *v, double ret[3])
{
    double a[3];

    for (int p = 0; p < 3; p++) {
        const cJSON *n = cJSON_GetArrayItem(v, p);

        if (!cJSON_IsArray(v) || cJSON_GetArraySize(v) != 3 || !cJSON_IsNumber(n) ||
            !(n->valuedouble >= 0 && n->valuedouble <= 1000))
            return false;
        a[p] = n->valuedouble;
    }
    memcpy(ret, a, sizeof a);
    return true;
}

bool json_three(const cJSON *object, const char *name, double ret[3], char *why)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);

    if (!v || json_three_of(v, ret))
        return true;
    snprintf(why, JSON_WHY, "%s: three numbers from 0 to 1000", name);
    return false;
}
