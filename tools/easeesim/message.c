/* SPDX-License-Identifier: MIT */
#include "message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool request_query(const struct request *q, const char *name, char *ret, size_t size)
{
    size_t len = strlen(name), n;

    for (const char *p = q->query; p; p = strchr(p, '&')) {
        p += *p == '&';
        if (strncmp(p, name, len) != 0 || p[len] != '=')
            continue;
        n = strcspn(p + len + 1, "&");
        if (n >= size)
            return false;
        memcpy(ret, p + len + 1, n);
        ret[n] = '\0';
        return true;
    }
    return false;
}

void response_release(struct response *r)
{
    free(r->body);
    *r = (struct response){0};
}

void response_set(struct response *r, int status, const char *type, char *body)
{
    free(r->body);
    r->status = status;
    r->type = type;
    r->body = body;
    r->body_len = body ? strlen(body) : 0;
}

void response_text(struct response *r, int status, const char *type, const char *text)
{
    response_set(r, status, type, strdup(text));
}

void response_header(struct response *r, const char *name, const char *value)
{
    unsigned i = 0;

    while (i < r->n_headers && strcasecmp(r->header[i].name, name) != 0)
        i++;
    if (i == HEADERS_MAX)
        return;
    if (i == r->n_headers)
        r->n_headers++;
    snprintf(r->header[i].name, sizeof r->header[i].name, "%s", name);
    snprintf(r->header[i].value, sizeof r->header[i].value, "%s", value);
}

const char *response_get_header(const struct response *r, const char *name)
{
    for (unsigned i = 0; i < r->n_headers; i++)
        if (strcasecmp(r->header[i].name, name) == 0)
            return r->header[i].value;
    return NULL;
}
