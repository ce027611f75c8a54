/* SPDX-License-Identifier: MIT
 * ledger.h - every request the cloud received and how it was answered, for tests to
 * assert on.
 *
 * Passwords and tokens in bodies are masked.  The newest LEDGER_MAX entries are kept in
 * memory; a file, if given, receives all of them as lines of JSON. */
#ifndef EASEESIM_LEDGER_H
#define EASEESIM_LEDGER_H

#include "message.h"

#include <cjson/cJSON.h>
#include <stdio.h>

enum { LEDGER_MAX = 32768 };

struct ledger {
    uint64_t count;         /* ever entered; entry n is line[(n - 1) % LEDGER_MAX] */
    char *line[LEDGER_MAX]; /* each a JSON object; owned */
    FILE *file;             /* owned; NULL: none */
};

struct ledger_entry {
    uint64_t t_ms, unix_ms;
    const struct request *request;
    int status; /* 0: nothing was answered */
    const char *class, *retry_after, *fault;
    bool authorised;
};

/* False: FILE cannot be opened, errno says why. */
bool ledger_init(struct ledger *l, const char *file);
void ledger_release(struct ledger *l);
void ledger_clear(struct ledger *l);
void ledger_add(struct ledger *l, const struct ledger_entry *e);

/* The entries after number SINCE as {"entries":[...],"next":N}; SINCE=next gives what is
 * newer. Returns owned (free). */
char *ledger_print(const struct ledger *l, uint64_t since);

#endif
