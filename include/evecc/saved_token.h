/* SPDX-License-Identifier: MIT
 * saved_token.h - the access token in the state directory: the gateway's own after a
 * restart, and the command line tool's beside it, so that nobody logs in needlessly. */
#ifndef EVECC_SAVED_TOKEN_H
#define EVECC_SAVED_TOKEN_H

#include "evecc/easee_msg.h"
#include "evecc/state.h"
#include "evecc/store.h"

/* Whose token it is: one of another cloud, user or password is none. */
struct token_owner {
    const char *api_url, *username;
    int mark; /* account_mark() of user and password; negative: the password is not known
               */
};

struct saved_token {
    struct easee_token token; /* without its life */
    uint64_t expires_at_ms, refresh_at_ms;
};

/* Needs the lock of S.  ERR_SYSTEM with errno. */
enum err saved_token_write(struct store *s, const struct token_owner *owner,
                           const struct saved_token *t, const struct state_clock *clock);

/* False: there is none of OWNER's, or nobody can tell how old it is.  RET holds secrets
 * either way. */
bool saved_token_read(struct store *s, const struct token_owner *owner,
                      const struct state_clock *clock, struct saved_token *ret);

#endif
