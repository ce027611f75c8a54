/* SPDX-License-Identifier: MIT
 * token.h - an access token that is there already, so that a command need not log in.
 *
 * Either one that an earlier command kept: in memory only ($XDG_RUNTIME_DIR, or /run for
 * root), readable by its user alone; without such a place it is not kept.  Or the
 * gateway's, in its state directory. */
#ifndef EVECC_TOKEN_H
#define EVECC_TOKEN_H

#include "evecc/saved_token.h"

/* The token kept for OWNER; false: there is none that holds for another minute. */
bool token_load(const struct token_owner *owner, int64_t unix_s,
                char ret[static EASEE_TOKEN_MAX]);

/* The same of the gateway that has STATE_DIR. */
bool token_borrow(const struct token_owner *owner, const char *state_dir,
                  char ret[static EASEE_TOKEN_MAX]);

/* Keeps ACCESS until EXPIRES_UNIX_S, if there is a place for it. */
void token_save(const struct token_owner *owner, const char *access,
                int64_t expires_unix_s);

void token_forget(void);

#endif
