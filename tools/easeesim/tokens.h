/* SPDX-License-Identifier: MIT
 * tokens.h - access and refresh tokens: they expire, rotate, and are revoked.
 *
 * Pure.  A refresh token works once (easee-api 1.3); the access token it came with lives
 * on to its end.  Tokens look like JWTs and carry no valid signature.  Nothing here is
 * secret. */
#ifndef EASEESIM_TOKENS_H
#define EASEESIM_TOKENS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    TOKENS_MAX = 64,
    TOKEN_SIZE = 512,
    ACCESS_MS = 3600 * 1000,
    REFRESH_MS = 86400 * 1000
};

struct token_pair {
    unsigned account;
    uint64_t access_until_ms, refresh_until_ms; /* 0: dead */
    char access[TOKEN_SIZE], refresh[TOKEN_SIZE];
};

struct tokens {
    uint64_t issued, rng;
    uint64_t access_ms, refresh_ms;
    struct token_pair pair[TOKENS_MAX]; /* the newest */
};

void tokens_init(struct tokens *t, uint64_t seed);

/* A new pair for ACCOUNT; valid until TOKENS_MAX more are issued.  UNIX_MS goes into the
 * text. */
const struct token_pair *tokens_issue(struct tokens *t, unsigned account, uint64_t now_ms,
                                      uint64_t unix_ms);

/* Whose live access token is TEXT?  Negative: nobody's. */
int tokens_owner(const struct tokens *t, const char *text, uint64_t now_ms);

/* Uses up the refresh token TEXT.  Negative: unknown, used or expired. */
int tokens_redeem(struct tokens *t, const char *text, uint64_t now_ms);

void tokens_expire_access(struct tokens *t);
void tokens_revoke_refresh(struct tokens *t);

#endif
