/* SPDX-License-Identifier: MIT */
#include "evecc/session.h"

#include "evecc/backoff.h"

#include <string.h>

enum {
    LOGIN_INTERVAL_MS = 60 * 1000,
    BACKOFF_MIN_MS = 60 * 1000,
    BACKOFF_MAX_MS = 30 * 60 * 1000,
    UNREACHED_MAX_MS = 5 * 60 * 1000, /* nothing reached the cloud (reliability F-18) */
    REFUSED_MS = 3600 * 1000,
    BLOCK_MIN_MS = 3600 * 1000,
    BLOCK_MAX_MS = 24 * 3600 * 1000,
    RETRY_AFTER_MAX_S = 3600,
    LIFE_MIN_S = 60,
    LIFE_MAX_S = 604800
};

static uint32_t draw(struct session *s, uint32_t below)
{
    return backoff_random(&s->random) % below;
}

/* LEAST_MS doubled STEP times, at most MOST_MS. */
static uint64_t doubled(uint64_t least_ms, unsigned step, uint64_t most_ms)
{
    return earlier(least_ms << (step < 16 ? step : 16), most_ms);
}

/* From the second step on the end is spread over the last tenth, so that the gateways of
 * a whole country do not come back in the same second after an outage. */
static void back_off(struct session *s, unsigned step, uint64_t most_ms, uint64_t now_ms)
{
    uint64_t wait_ms = doubled(BACKOFF_MIN_MS, step, most_ms);

    wait_ms -= draw(s, (uint32_t)wait_ms / 10);
    s->not_before_ms = now_ms + later(wait_ms, BACKOFF_MIN_MS);
}

/* Calls that were already out when the block was met say nothing new. */
static void block(struct session *s, uint64_t now_ms)
{
    if (now_ms < s->blocked_until_ms)
        return;
    s->blocked_until_ms = now_ms + doubled(BLOCK_MIN_MS, s->blocks, BLOCK_MAX_MS);
    s->blocks++;
}

static bool has_token(const struct session *s, uint64_t now_ms)
{
    return s->expires_at_ms != NEVER && now_ms < s->expires_at_ms;
}

/* From when on session_next() starts something; NEVER: unknown. */
static uint64_t due_at(const struct session *s)
{
    uint64_t at = 0;

    if (s->out != SESSION_NOTHING)
        return NEVER;
    if (s->wanted == SESSION_NOTHING)
        at = earlier(s->refresh_at_ms, s->expires_at_ms);
    if (s->login_at_ms != NEVER)
        at = later(at, s->login_at_ms + LOGIN_INTERVAL_MS);
    return later(at, later(s->not_before_ms, s->blocked_until_ms));
}

void session_init(struct session *s, uint32_t seed)
{
    memset(s, 0, sizeof *s);
    s->expires_at_ms = NEVER;
    s->refresh_at_ms = NEVER;
    s->login_at_ms = NEVER;
    s->random = seed != 0 ? seed : 1;
    s->wanted = SESSION_LOGIN;
}

void session_resume(struct session *s, uint64_t expires_at_ms, uint64_t refresh_at_ms)
{
    s->expires_at_ms = expires_at_ms;
    s->refresh_at_ms = refresh_at_ms;
    s->wanted = SESSION_NOTHING;
}

enum session_step session_next(struct session *s, uint64_t now_ms)
{
    if (now_ms < due_at(s))
        return SESSION_NOTHING;
    /* An expired token no longer refreshes (easee-api 1.3); a rejected one may. */
    if (s->expires_at_ms != NEVER && now_ms >= s->expires_at_ms) {
        s->expires_at_ms = NEVER;
        s->wanted = SESSION_LOGIN;
    }
    s->out = s->wanted == SESSION_LOGIN ? SESSION_LOGIN : SESSION_REFRESH;
    s->wanted = SESSION_NOTHING;
    if (s->out == SESSION_LOGIN)
        s->login_at_ms = now_ms;
    return s->out;
}

uint64_t session_wake(const struct session *s, uint64_t now_ms)
{
    return later(due_at(s), now_ms);
}

void session_granted(struct session *s, int64_t expires_in_s, uint64_t now_ms)
{
    bool superseded = s->wanted != SESSION_NOTHING; /* session_reset() came meanwhile */
    int64_t life_s = expires_in_s;
    uint64_t life_ms;

    if (life_s < LIFE_MIN_S)
        life_s = LIFE_MIN_S;
    if (life_s > LIFE_MAX_S)
        life_s = LIFE_MAX_S;
    life_ms = (uint64_t)life_s * 1000;

    /* A fresh token that is rejected must not lead to the next one at once, or a single
     * endpoint that always says 401 among good ones would make a loop of refreshes. */
    if (s->out != SESSION_NOTHING)
        s->login_at_ms = now_ms;
    s->out = SESSION_NOTHING;
    s->failures = 0;
    s->throttled = 0;
    s->not_before_ms = 0;
    s->credentials_refused = false;
    if (superseded)
        return;
    s->expires_at_ms = now_ms + life_ms;
    s->refresh_at_ms = now_ms + life_ms * (7125 + draw(s, 751)) / 10000;
}

/* A refresh that any 4xx answers will not succeed later either: its token is single-use.
 */
static bool refresh_is_spent(enum session_step step, enum err err)
{
    return step == SESSION_REFRESH &&
           (err == ERR_BAD_REQUEST || err == ERR_UNAUTHORISED || err == ERR_NOT_FOUND ||
            err == ERR_CREDENTIALS);
}

void session_failed(struct session *s, enum err err, int64_t retry_after_s,
                    uint64_t now_ms)
{
    enum session_step step = s->out;
    bool superseded = s->wanted != SESSION_NOTHING; /* session_reset() came meanwhile */

    s->out = SESSION_NOTHING;
    if (!superseded)
        s->wanted = (uint8_t)step;
    s->throttled = err == ERR_THROTTLED ? (uint16_t)(s->throttled + 1) : 0;

    if (refresh_is_spent(step, err)) {
        s->wanted = SESSION_LOGIN;
        return;
    }
    if (err == ERR_CREDENTIALS) {
        s->credentials_refused = !superseded;
        s->not_before_ms = superseded ? 0 : now_ms + REFUSED_MS;
        return;
    }
    if (err == ERR_BLOCKED || err == ERR_FORBIDDEN || s->throttled >= 2)
        block(s, now_ms);
    back_off(s, s->failures,
             err == ERR_RESOLVE || err == ERR_CONNECT ? UNREACHED_MAX_MS : BACKOFF_MAX_MS,
             now_ms);
    if (s->failures < UINT16_MAX)
        s->failures++;
    if (retry_after_s > 0)
        s->not_before_ms =
            later(s->not_before_ms,
                  now_ms + 1000 * earlier((uint64_t)retry_after_s, RETRY_AFTER_MAX_S));
}

void session_rejected(struct session *s, uint64_t now_ms)
{
    if (!has_token(s, now_ms)) /* several calls carried the same token */
        return;
    s->expires_at_ms = NEVER;
    s->refresh_at_ms = NEVER;
    if (s->rejections < UINT16_MAX)
        s->rejections++;
    if (s->out != SESSION_NOTHING)
        return;
    s->wanted = s->rejections == 1 ? SESSION_REFRESH : SESSION_LOGIN;
    if (s->rejections > 2)
        back_off(s, s->rejections - 3u, BACKOFF_MAX_MS, now_ms);
}

void session_renew(struct session *s, uint64_t now_ms)
{
    if (has_token(s, now_ms))
        s->refresh_at_ms = earlier(s->refresh_at_ms, now_ms);
}

void session_accepted(struct session *s)
{
    s->rejections = 0;
    s->blocks = 0;
}

void session_blocked(struct session *s, uint64_t now_ms)
{
    block(s, now_ms);
}

void session_reset(struct session *s, uint64_t now_ms)
{
    (void)now_ms;
    s->expires_at_ms = NEVER;
    s->refresh_at_ms = NEVER;
    s->not_before_ms = 0;
    s->failures = 0;
    s->rejections = 0;
    s->credentials_refused = false;
    s->wanted = SESSION_LOGIN;
}

bool session_usable(const struct session *s, uint64_t now_ms)
{
    return has_token(s, now_ms) && now_ms >= s->blocked_until_ms;
}
