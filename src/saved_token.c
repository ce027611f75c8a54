/* SPDX-License-Identifier: MIT
 *
 * Lines: the boot, its clocks and the token's times; whose it is; the token's parts. */
#include "evecc/saved_token.h"

#include "evecc/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    VERSION = 1,
    OWNER_MAX = 2 * CONFIG_TEXT_MAX + 8,
    TEXT_MAX = 2 * EASEE_TOKEN_MAX + OWNER_MAX + 160
};

static const char name[] = "token";

enum err saved_token_write(struct store *s, const struct token_owner *owner,
                           const struct saved_token *t, const struct state_clock *clock)
{
    char text[TEXT_MAX];
    int len = snprintf(
        text, sizeof text,
        "%" PRIu64 " %" PRId64 " %" PRIu64 " %" PRIu64 " %s\n%d %s %s\n%s\n%s\n",
        clock->now_ms, clock->unix_ms, t->expires_at_ms, t->refresh_at_ms, clock->boot_id,
        owner->mark, owner->api_url, owner->username, t->token.access, t->token.refresh);
    enum err err = store_write(s, name, VERSION, text, (size_t)len);

    explicit_bzero(text, sizeof text);
    return err;
}

/* The next line of *TEXT, its end cut off; "" when there is none. */
static const char *line_of(char **text)
{
    char *line = strsep(text, "\n");

    return line != NULL ? line : "";
}

static bool take_times(const char *line, const struct state_clock *clock,
                       struct saved_token *ret)
{
    struct state_clock saved = {0};
    uint64_t expires_at_ms, refresh_at_ms, elapsed_ms;

    if (sscanf(line, "%" SCNu64 " %" SCNd64 " %" SCNu64 " %" SCNu64 " %39s",
               &saved.now_ms, &saved.unix_ms, &expires_at_ms, &refresh_at_ms,
               saved.boot_id) < 4 ||
        saved.now_ms > INT64_MAX || expires_at_ms > INT64_MAX ||
        refresh_at_ms > expires_at_ms || !state_elapsed(&saved, clock, &elapsed_ms))
        return false;
    ret->expires_at_ms =
        state_shift(expires_at_ms, saved.now_ms, elapsed_ms, clock->now_ms);
    ret->refresh_at_ms =
        state_shift(refresh_at_ms, saved.now_ms, elapsed_ms, clock->now_ms);
    return true;
}

static bool is_of(const char *line, const struct token_owner *owner)
{
    char who[OWNER_MAX];
    char *rest;
    long mark = strtol(line, &rest, 10);

    snprintf(who, sizeof who, " %s %s", owner->api_url, owner->username);
    return strcmp(rest, who) == 0 && (owner->mark < 0 || owner->mark == mark);
}

static bool take_part(const char *line, char ret[static EASEE_TOKEN_MAX])
{
    return snprintf(ret, EASEE_TOKEN_MAX, "%s", line) < EASEE_TOKEN_MAX;
}

bool saved_token_read(struct store *s, const struct token_owner *owner,
                      const struct state_clock *clock, struct saved_token *ret)
{
    char *text, *rest;
    size_t len;
    bool old, good;

    if (store_read(s, name, VERSION, &text, &len, &old) != ERR_OK)
        return false;
    rest = text;
    good = take_times(line_of(&rest), clock, ret) && is_of(line_of(&rest), owner) &&
           take_part(line_of(&rest), ret->token.access) &&
           take_part(line_of(&rest), ret->token.refresh) && ret->token.access[0] != '\0';
    explicit_bzero(text, len);
    free(text);
    return good;
}
