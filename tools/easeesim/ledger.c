/* SPDX-License-Identifier: MIT */
#include "ledger.h"

#include "json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool ledger_init(struct ledger *l, const char *file)
{
    memset(l, 0, sizeof *l);
    if (file) {
        l->file = fopen(file, "ae");
        return l->file != NULL;
    }
    return true;
}

void ledger_clear(struct ledger *l)
{
    for (unsigned i = 0; i < LEDGER_MAX; i++) {
        free(l->line[i]);
        l->line[i] = NULL;
    }
    l->count = 0;
}

void ledger_release(struct ledger *l)
{
    ledger_clear(l);
    if (l->file)
        fclose(l->file);
    l->file = NULL;
}

/* Returns owned (cJSON_free); NULL when there is no body. */
static char *masked(const struct request *r)
{
    static const char *const secret[] = {"password", "accessToken", "refreshToken"};
    cJSON *body;
    char *text = NULL;
    bool found = false;

    if (!r->body || r->body_len == 0)
        return NULL;
    body = json_parse(r->body, r->body_len);
    for (unsigned i = 0; cJSON_IsObject(body) && i < sizeof secret / sizeof secret[0];
         i++)
        if (cJSON_HasObjectItem(body, secret[i])) {
            cJSON_ReplaceItemInObject(body, secret[i], cJSON_CreateString("***"));
            found = true;
        }
    if (found)
        text = cJSON_PrintUnformatted(body);
    else if (strncmp(r->path, "/api/accounts/", 14) == 0)
        text = strdup("*** (not understood)");
    else
        text = strndup(r->body, 2048);
    cJSON_Delete(body);
    return text;
}

static void add_text(cJSON *o, const char *name, const char *text)
{
    if (text)
        cJSON_AddStringToObject(o, name, text);
    else
        cJSON_AddNullToObject(o, name);
}

void ledger_add(struct ledger *l, const struct ledger_entry *e)
{
    const struct request *r = e->request;
    char *body = masked(r), **line = &l->line[l->count++ % LEDGER_MAX];
    cJSON *o = cJSON_CreateObject();

    json_add_i64(o, "n", (int64_t)l->count);
    json_add_i64(o, "t_ms", (int64_t)e->t_ms);
    json_add_i64(o, "unix_ms", (int64_t)e->unix_ms);
    add_text(o, "ip", r->ip);
    add_text(o, "method", r->method);
    add_text(o, "path", r->path);
    add_text(o, "query", r->query);
    add_text(o, "body", body);
    cJSON_AddNumberToObject(o, "status", e->status);
    add_text(o, "class", e->class);
    if (e->retry_after)
        cJSON_AddNumberToObject(o, "retry_after", atof(e->retry_after));
    else
        cJSON_AddNullToObject(o, "retry_after");
    add_text(o, "fault", e->fault);
    add_text(o, "user_agent", r->user_agent);
    cJSON_AddBoolToObject(o, "tls", r->tls);
    cJSON_AddBoolToObject(o, "authorised", e->authorised);
    free(*line);
    *line = cJSON_PrintUnformatted(o);
    if (l->file && *line) {
        fprintf(l->file, "%s\n", *line);
        fflush(l->file);
    }
    cJSON_Delete(o);
    free(body);
}

char *ledger_print(const struct ledger *l, uint64_t since)
{
    uint64_t first = l->count > LEDGER_MAX ? l->count - LEDGER_MAX : 0;
    size_t size = 64;
    char *text, *at;

    if (since > first)
        first = since;
    for (uint64_t n = first; n < l->count; n++)
        size += strlen(l->line[n % LEDGER_MAX]) + 1;
    at = text = malloc(size);
    if (!text)
        return NULL;
    at = stpcpy(at, "{\"entries\":[");
    for (uint64_t n = first; n < l->count; n++) {
        if (n > first)
            *at++ = ',';
        at = stpcpy(at, l->line[n % LEDGER_MAX]);
    }
    sprintf(at, "],\"next\":%" PRIu64 "}", l->count);
    return text;
}
