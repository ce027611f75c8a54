/* SPDX-License-Identifier: MIT
 * session.h - when to log in, when to refresh the token, and when to stay away.
 *
 * Pure: no I/O, no clock, no allocation; it never sees the token itself.  One session
 * serves all circuits of the account.  NOW_MS is monotonic milliseconds.
 *
 * Invariants (easee-api 1.2, 1.3, 8.3)
 *   - at most one login or refresh is out at a time, and none within 60 s of the last
 *     login or the last new token;
 *   - a 401 leads to one refresh, then one login, then back-off: 60 s doubling to 30 min,
 *     to 5 min as long as the cloud is not reached at all;
 *   - a refused login is repeated once an hour at most;
 *   - 403, or 429 twice running on login or refresh, is a block: 1 h doubling to 24 h of
 *     silence on every endpoint, because each call prolongs the block;
 *   - the token is refreshed at 75 % of its life, +-5 % of jitter. */
#ifndef EVECC_SESSION_H
#define EVECC_SESSION_H

#include "evecc/err.h"

#include <stdbool.h>
#include <stdint.h>

enum session_step { SESSION_NOTHING, SESSION_LOGIN, SESSION_REFRESH };

struct session {
    uint64_t expires_at_ms;    /* of the token; NEVER: there is none */
    uint64_t refresh_at_ms;    /* NEVER: no refresh is planned */
    uint64_t not_before_ms;    /* no login or refresh earlier; 0: at once */
    uint64_t blocked_until_ms; /* 0: not blocked */
    uint64_t login_at_ms;      /* the last login, or when a token came; NEVER: none */
    uint32_t random;           /* state of the jitter, never 0 */
    uint16_t failures;         /* in a row, of login and refresh */
    uint16_t throttled;        /* 429 in a row on login or refresh */
    uint16_t blocks;           /* in a row */
    uint16_t rejections;       /* tokens rejected by 401 since the last good call */
    uint8_t out;               /* enum session_step that is on its way */
    uint8_t wanted;            /* enum session_step that is due, kept while waiting */
    bool credentials_refused;
};

/* SEED varies the jitter between installations; any value. */
void session_init(struct session *s, uint32_t seed);

/* There is a token from before a restart, which expires at EXPIRES_AT_MS and is to be
 * refreshed at REFRESH_AT_MS. */
void session_resume(struct session *s, uint64_t expires_at_ms, uint64_t refresh_at_ms);

/* What to do now.  SESSION_LOGIN and SESSION_REFRESH mark it as on its way: the caller
 * starts the request and reports with session_granted() or session_failed(). */
enum session_step session_next(struct session *s, uint64_t now_ms);

/* When session_next() will have something to do if nothing new is learned; NEVER. */
uint64_t session_wake(const struct session *s, uint64_t now_ms);

/* The request on its way brought a token that lives EXPIRES_IN_S seconds (clamped to
 * 60..604800). */
void session_granted(struct session *s, int64_t expires_in_s, uint64_t now_ms);

/* The request on its way failed.  ERR_CREDENTIALS is terminal for an hour, ERR_BLOCKED
 * and ERR_FORBIDDEN are a block; any other 4xx of a refresh (ERR_BAD_REQUEST,
 * ERR_UNAUTHORISED, ERR_NOT_FOUND) asks for a login instead; the rest backs off and keeps
 * the old token.  RETRY_AFTER_S: negative when there was no such header. */
void session_failed(struct session *s, enum err err, int64_t retry_after_s,
                    uint64_t now_ms);

/* An ordinary call was answered 401 although it carried the newest token. */
void session_rejected(struct session *s, uint64_t now_ms);

/* Another token would help, but this one still works: refreshed as soon as allowed. */
void session_renew(struct session *s, uint64_t now_ms);

/* An ordinary call was answered other than 401: the token is good. */
void session_accepted(struct session *s);

/* An ordinary call met a block (ERR_BLOCKED): silence on every endpoint. */
void session_blocked(struct session *s, uint64_t now_ms);

/* The owner changed the credentials: forget the refusal and the token, log in again (not
 * earlier than 60 s after the last attempt). */
void session_reset(struct session *s, uint64_t now_ms);

/* May an ordinary call leave now: there is a token not known to be bad, and no block. */
bool session_usable(const struct session *s, uint64_t now_ms);

#endif
