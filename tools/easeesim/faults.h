/* SPDX-License-Identifier: MIT
 * faults.h - answers that go wrong on purpose: which requests, how often, in which way.
 *
 * Faults are tried in order of arrival; the first that matches a request is used for it.
 */
#ifndef EASEESIM_FAULTS_H
#define EASEESIM_FAULTS_H

#include "message.h"

#include <cjson/cJSON.h>

enum { FAULTS_MAX = 64 };

enum fault_kind {
#define FAULT(name, applied, meaning) FAULT_##name,
#include "faults.def"
#undef FAULT
    FAULT_KINDS
};

struct fault {
    unsigned id; /* 0: free */
    enum fault_kind kind;
    char method[METHOD_SIZE], path[PATH_SIZE]; /* empty: any; the path is a substring */
    int64_t left;                              /* times; negative: for ever */
    int status;                                /* 0: of the kind */
    bool applied;                              /* the cloud does what was asked first */
    uint64_t delay_ms;
    int64_t size;
    char *body; /* owned; NULL: of the kind */
    unsigned n_headers;
    struct header header[HEADERS_MAX];
};

struct faults {
    unsigned next_id, count;
    struct fault fault[FAULTS_MAX]; /* in order of arrival */
};

const char *faults_kind_name(enum fault_kind kind);

/* From {"kind":...,"method":...,...}.  The id, or 0 and WHY (JSON_WHY bytes). */
unsigned faults_add(struct faults *f, const cJSON *spec, char *why);

/* ID 0: all.  False: there is no such fault. */
bool faults_remove(struct faults *f, unsigned id);

/* The fault for a request, counted as used; NULL: none.  Valid until faults_done(). */
struct fault *faults_match(struct faults *f, const struct request *r);

/* Spoils RESPONSE, which holds the true answer if the fault is applied, else nothing. */
void faults_spoil(const struct fault *fault, struct response *response);

/* Forgets faults that are used up. */
void faults_done(struct faults *f);

cJSON *faults_list(const struct faults *f);

#endif
