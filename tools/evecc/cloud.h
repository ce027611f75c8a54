/* SPDX-License-Identifier: MIT
 * cloud.h - calls to the Easee cloud, one after another: start, wait, understand.
 *
 * Shares budgets and restraint with the gateway through the state directory.  One login
 * at most per command; Ctrl-C ends a wait at once. */
#ifndef EVECC_CLOUD_H
#define EVECC_CLOUD_H

#include "cli.h"
#include "evecc/account.h"
#include "evecc/config.h"
#include "evecc/easee.h"

struct cloud {
    const struct cli *cli;
    struct config cfg;
    const char *path; /* of the configuration, NULL: none */
    struct easee *easee;
    struct account *account;
    struct session session;
    int mark;             /* of the credentials; negative: the password is not known */
    bool shared_account;  /* budgets are the gateway's */
    const char *token_of; /* who logged in for it; NULL: this command, or nobody yet */
    int64_t token_expires_unix_s;
    char account_why[256]; /* why they are not; "" where no gateway would be */

    /* the last call */
    struct easee_reply reply;
    char detail[160];
};

/* Configuration and command line; no network.  Says what is wrong. */
enum exit_code cloud_open(const struct cli *cli, struct cloud *ret);
void cloud_close(struct cloud *c);

/* The password from command line, environment or file.  WHY (256 bytes) says why it is
 * not PASSWORD_KNOWN: nobody has one for us, or what was given is no good. */
enum password { PASSWORD_KNOWN, PASSWORD_NONE, PASSWORD_WRONG };
enum password cloud_password(struct cloud *c, char why[static 256]);

/* Asks for it; false: there is no terminal, or no answer. */
bool cloud_ask_password(struct cloud *c);

/* Date and reachability of the cloud without a login; the answer's status does not
 * matter. */
enum err cloud_greet(struct cloud *c);

/* A token, kept or new.  Nothing is said; c->detail may tell more. */
enum err cloud_login(struct cloud *c);

/* cloud_open() and cloud_login(), saying what went wrong. */
enum exit_code cloud_start(const struct cli *cli, struct cloud *ret);

/* GETs PATH, or POSTs BODY to it; counted against CLASS, waiting for a short while when
 * that is used up.  The answer is in c->reply until the next call. */
enum err cloud_call(struct cloud *c, enum budget_class class, const char *path,
                    const char *body);

/* As fail_err(), with what the other side or the network said. */
__attribute__((format(printf, 3, 4))) enum exit_code
cloud_fail(const struct cloud *c, enum err err, const char *cause, ...);

/* Waits; false: Ctrl-C. */
bool cloud_wait(struct cloud *c, uint64_t ms);
bool cloud_interrupted(void);

/* Whether a gateway works in the state directory now; its pid, 0: unknown. */
bool cloud_gateway_runs(const struct cloud *c, int *ret_pid);

#endif
