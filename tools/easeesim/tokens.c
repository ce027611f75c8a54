/* SPDX-License-Identifier: MIT */
#include "tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void tokens_init(struct tokens *t, uint64_t seed)
{
    memset(t, 0, sizeof *t);
    t->rng = seed ^ UINT64_C(0x6561736565); /* another stream than the model's */
    t->access_ms = ACCESS_MS;
    t->refresh_ms = REFRESH_MS;
}

static uint64_t random64(struct tokens *t)
{
    uint64_t z = t->rng += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* base64url without padding (RFC 7515, section 2). */
static size_t base64url(char *to, const char *text)
{
    static const char digit[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *s = (const unsigned char *)text;
    size_t len = strlen(text), n = 0;

    for (size_t i = 0; i < len; i += 3) {
        unsigned left = len - i < 3 ? (unsigned)(len - i) : 3;
        unsigned v = (unsigned)s[i] << 16;

        if (left > 1)
            v |= (unsigned)s[i + 1] << 8;
        if (left > 2)
            v |= s[i + 2];
        for (unsigned k = 0; k <= left; k++)
            to[n++] = digit[v >> (18 - 6 * k) & 63];
    }
    to[n] = '\0';
    return n;
}

static void compose(struct tokens *t, char to[static TOKEN_SIZE], const char *use,
                    unsigned account, uint64_t unix_ms, uint64_t life_ms)
{
    char claims[192], random[65];
    size_t n;

    snprintf(claims, sizeof claims,
             "{\"AccountId\":%u,\"role\":\"User\",\"typ\":\"%s\",\"iat\":%" PRIu64
             ",\"exp\":%" PRIu64 ",\"iss\":\"easeesim\"}",
             account + 1, use, unix_ms / 1000, (unix_ms + life_ms) / 1000);
    snprintf(random, sizeof random, "%016" PRIx64 "%016" PRIx64, random64(t),
             random64(t));
    n = base64url(to, "{\"alg\":\"RS256\",\"typ\":\"JWT\"}");
    to[n++] = '.';
    n += base64url(to + n, claims);
    to[n++] = '.';
    base64url(to + n, random);
}

const struct token_pair *tokens_issue(struct tokens *t, unsigned account, uint64_t now_ms,
                                      uint64_t unix_ms)
{
    struct token_pair *p = &t->pair[t->issued++ % TOKENS_MAX];

    p->account = account;
    p->access_until_ms = now_ms + t->access_ms;
    p->refresh_until_ms = now_ms + t->refresh_ms;
    compose(t, p->access, "Bearer", account, unix_ms, t->access_ms);
    compose(t, p->refresh, "Refresh", account, unix_ms, t->refresh_ms);
    return p;
}

int tokens_owner(const struct tokens *t, const char *text, uint64_t now_ms)
{
    for (unsigned i = 0; i < TOKENS_MAX; i++) {
        const struct token_pair *p = &t->pair[i];

        if (p->access_until_ms > now_ms && strcmp(p->access, text) == 0)
            return (int)p->account;
    }
    return -1;
}

int tokens_redeem(struct tokens *t, const char *text, uint64_t now_ms)
{
    for (unsigned i = 0; i < TOKENS_MAX; i++) {
        struct token_pair *p = &t->pair[i];

        if (p->refresh_until_ms <= now_ms || strcmp(p->refresh, text) != 0)
            continue;
        p->refresh_until_ms = 0;
        return (int)p->account;
    }
    return -1;
}

void tokens_expire_access(struct tokens *t)
{
    for (unsigned i = 0; i < TOKENS_MAX; i++)
        t->pair[i].access_until_ms = 0;
}

void tokens_revoke_refresh(struct tokens *t)
{
    for (unsigned i = 0; i < TOKENS_MAX; i++)
        t->pair[i].refresh_until_ms = 0;
}
