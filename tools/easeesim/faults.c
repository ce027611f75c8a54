/* SPDX-License-Identifier: MIT */
#include "faults.h"

#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    bool applied;
} kinds[FAULT_KINDS] = {
#define FAULT(name, applied, meaning) {#name, applied},
#include "faults.def"
#undef FAULT
};

#define FAULT(name, applied, meaning) " " #name
static const char kind_names[] =
#include "faults.def"
    ;
#undef FAULT

static const char html[] =
    "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head>"
    "<body><h1>Bad Gateway</h1><p>Try again in about a minute.</p>"
    "</body></html>\n";

const char *faults_kind_name(enum fault_kind kind)
{
    return kinds[kind].name;
}

static bool read_kind(const cJSON *spec, enum fault_kind *ret, char *why)
{
    char name[32] = "status";

    if (!json_text(spec, "kind", name, sizeof name, why))
        return false;
    for (unsigned k = 0; k < FAULT_KINDS; k++)
        if (strcmp(kinds[k].name, name) == 0) {
            *ret = (enum fault_kind)k;
            return true;
        }
    snprintf(why, JSON_WHY, "kind: one of%s", kind_names);
    return false;
}

static bool plain(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 127)
            return false;
    return true;
}

static bool read_headers(const cJSON *spec, struct fault *f, char *why)
{
    const cJSON *headers = cJSON_GetObjectItemCaseSensitive(spec, "headers"), *h;

    if (headers && !cJSON_IsObject(headers)) {
        snprintf(why, JSON_WHY, "headers: an object of strings");
        return false;
    }
    cJSON_ArrayForEach(h, headers)
    {
        struct header *to = &f->header[f->n_headers];

        if (f->n_headers == HEADERS_MAX || !cJSON_IsString(h) || !plain(h->string) ||
            !plain(h->valuestring) || strlen(h->string) >= sizeof to->name ||
            strlen(h->valuestring) >= sizeof to->value) {
            snprintf(why, JSON_WHY, "headers: at most %d, each a plain string",
                     HEADERS_MAX);
            return false;
        }
        snprintf(to->name, sizeof to->name, "%s", h->string);
        snprintf(to->value, sizeof to->value, "%s", h->valuestring);
        f->n_headers++;
    }
    return true;
}

/* The body may be a text, or JSON that is then sent as such.  Returns owned (free). */
static char *read_body(const cJSON *spec)
{
    const cJSON *body = cJSON_GetObjectItemCaseSensitive(spec, "body");

    if (!body)
        return NULL;
    return cJSON_IsString(body) ? strdup(body->valuestring)
                                : cJSON_PrintUnformatted(body);
}

unsigned faults_add(struct faults *f, const cJSON *spec, char *why)
{
    struct fault x = {.left = 1, .size = 16777216};
    int64_t status = 0, delay_ms = 0;

    if (!cJSON_IsObject(spec)) {
        snprintf(why, JSON_WHY, "a fault is a JSON object");
        return 0;
    }
    if (f->count == FAULTS_MAX) {
        snprintf(why, JSON_WHY, "at most %d faults", FAULTS_MAX);
        return 0;
    }
    if (!read_kind(spec, &x.kind, why))
        return 0;
    x.applied = kinds[x.kind].applied;
    if (!json_text(spec, "method", x.method, sizeof x.method, why) ||
        !json_text(spec, "path", x.path, sizeof x.path, why) ||
        !json_int_in(spec, "count", -1, INT32_MAX, &x.left, why) ||
        !json_int_in(spec, "status", 200, 599, &status, why) ||
        !json_int_in(spec, "delay_ms", 0, 3600000, &delay_ms, why) ||
        !json_int_in(spec, "size", 2, 268435456, &x.size, why) ||
        !json_bool(spec, "applied", &x.applied, why) || !read_headers(spec, &x, why))
        return 0;
    x.status = (int)status;
    x.delay_ms = (uint64_t)delay_ms;
    x.body = read_body(spec);
    x.id = ++f->next_id;
    f->fault[f->count++] = x;
    return x.id;
}

static void forget(struct faults *f, unsigned i)
{
    free(f->fault[i].body);
    memmove(&f->fault[i], &f->fault[i + 1], (--f->count - i) * sizeof f->fault[0]);
}

bool faults_remove(struct faults *f, unsigned id)
{
    bool found = id == 0;

    for (unsigned i = f->count; i-- > 0;)
        if (id == 0 || f->fault[i].id == id) {
            forget(f, i);
            found = true;
        }
    return found;
}

void faults_done(struct faults *f)
{
    for (unsigned i = f->count; i-- > 0;)
        if (f->fault[i].left == 0)
            forget(f, i);
}

struct fault *faults_match(struct faults *f, const struct request *r)
{
    for (unsigned i = 0; i < f->count; i++) {
        struct fault *x = &f->fault[i];

        if (x->left == 0 || (x->method[0] && strcmp(x->method, r->method) != 0) ||
            !strstr(r->path, x->path))
            continue;
        if (x->left > 0)
            x->left--;
        return x;
    }
    return NULL;
}

/* Valid JSON of SIZE bytes.  Returns owned (free). */
static char *huge_body(int64_t size)
{
    char *body = malloc((size_t)size + 1);

    if (!body)
        return NULL;
    memset(body, ' ', (size_t)size);
    body[0] = '[';
    body[size - 1] = ']';
    body[size] = '\0';
    return body;
}

static char *problem(int status)
{
    char text[256];

    snprintf(text, sizeof text,
             "{\"errorCode\":0,\"errorCodeName\":\"Simulated\",\"type\":null,"
             "\"title\":\"A simulated fault\",\"status\":%d,"
             "\"detail\":\"[Empty in production]\",\"instance\":null}",
             status);
    return strdup(text);
}

void faults_spoil(const struct fault *fault, struct response *r)
{
    static const int initial[FAULT_KINDS] = {
        [FAULT_status] = 500, [FAULT_html] = 502, [FAULT_redirect] = 302};
    int status = fault->status ? fault->status : initial[fault->kind];
    char *body = fault->body ? strdup(fault->body) : NULL;

    if (!status)
        status = 200;
    r->delay_ms += fault->delay_ms;
    switch (fault->kind) {
    case FAULT_status:
        response_set(r, status, "application/json", body ? body : problem(status));
        break;
    case FAULT_html:
        response_set(r, status, "text/html", body ? body : strdup(html));
        break;
    case FAULT_redirect:
        response_header(r, "Location", "http://127.0.0.1:9/elsewhere");
        response_set(r, status, NULL, body);
        break;
    case FAULT_empty:
        free(body);
        response_set(r, status, NULL, NULL);
        break;
    case FAULT_huge:
        free(body);
        response_set(r, status, "application/json", huge_body(fault->size));
        break;
    case FAULT_garbage:
        response_set(r, status, "application/json",
                     body ? body : strdup("{\"a\":tru\x01\xff\xfe]]}\"NaN"));
        break;
    case FAULT_reset:
    case FAULT_silent:
        free(body);
        r->wire = fault->kind == FAULT_reset ? WIRE_RESET : WIRE_SILENT;
        break;
    case FAULT_truncate:
        r->wire = WIRE_TRUNCATE;
        free(body);
        break;
    case FAULT_slow:
    case FAULT_KINDS:
        free(body);
        break;
    }
    for (unsigned i = 0; i < fault->n_headers; i++)
        response_header(r, fault->header[i].name, fault->header[i].value);
}

cJSON *faults_list(const struct faults *f)
{
    cJSON *list = cJSON_CreateArray();

    for (unsigned i = 0; i < f->count; i++) {
        const struct fault *x = &f->fault[i];
        cJSON *o = cJSON_CreateObject();

        cJSON_AddNumberToObject(o, "id", x->id);
        cJSON_AddStringToObject(o, "kind", faults_kind_name(x->kind));
        cJSON_AddStringToObject(o, "method", x->method);
        cJSON_AddStringToObject(o, "path", x->path);
        json_add_i64(o, "count", x->left);
        cJSON_AddItemToArray(list, o);
    }
    return list;
}
