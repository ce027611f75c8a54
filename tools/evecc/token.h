/* SPDX-License-Identifier: MIT
 * token.h - an access token for the next command, so that it need not log in again.
 *
 * It lies in memory only ($XDG_RUNTIME_DIR, or /run for root), readable by its user
 * alone, and is used until a minute before it expires.  Without such a place every
 * command logs in. */
#ifndef EVECC_TOKEN_H
#define EVECC_TOKEN_H

#include "evecc/easee_msg.h"

/* Whose token it is. */
struct token_owner {
    const char *api_url, *username;
    int mark; /* account_mark() of user and password; negative: the password is not known
               */
};

/* The access token kept for OWNER; false: there is none that still holds. */
bool token_load(const struct token_owner *owner, int64_t unix_s,
                char ret[static EASEE_TOKEN_MAX], int64_t *ret_expires_unix_s);

/* Keeps ACCESS until EXPIRES_UNIX_S, if there is a place for it. */
void token_save(const struct token_owner *owner, const char *access,
                int64_t expires_unix_s);

void token_forget(void);

#endif
