/* SPDX-License-Identifier: MIT
 * sync_parts.h - what the files of the sync thread share (internal): its state and a few
 * calls. Everything here belongs to that thread but for what stands under
 * credentials_lock. */
#ifndef EVECC_SYNC_PARTS_H
#define EVECC_SYNC_PARTS_H

#include "evecc/account.h"
#include "evecc/circuit.h"
#include "evecc/easee.h"
#include "evecc/log.h"
#include "evecc/session.h"
#include "evecc/state.h"
#include "evecc/store.h"
#include "evecc/stream.h"
#include "evecc/sync.h"

#include <pthread.h>
#include <stdatomic.h>

_Static_assert((int)CHARGERS_MAX == (int)EASEE_CHARGERS_MAX,
               "what is found on a circuit is what it has");

enum {
    SYNC_READ_ROOM = 4, /* calls that reads leave free for setpoints and logins */
    SYNC_OBSERVATIONS_MAX = 96
};

enum job_kind { JOB_NONE, JOB_LOGIN, JOB_REFRESH, JOB_SITES, JOB_SITE, JOB_REQUEST };

/* A call on its way; its index is the tag. */
struct job {
    enum job_kind kind;
    size_t unit;    /* JOB_REQUEST, JOB_SITE(S): whose */
    unsigned token; /* generation of the token it carried */
    struct request request;
};

/* One circuit with all this thread knows of it. */
struct unit {
    struct circuit circuit;
    struct config_circuit cfg;
    struct easee_selector selector; /* cfg.selector, completed by what was found */
    struct easee_circuit where;     /* once circuit.found */
    bool remembered;                /* from before a restart, not looked up since */
    bool written;                   /* the control block, now or before a restart */
    uint64_t lookup_at_ms;          /* next attempt to find it */
    uint64_t lost_until_ms;         /* no attempt because it answers 404 before this */
    uint64_t want_seen;
    struct status shown;
};

struct sync {
    struct exchange *exchange;
    struct easee *easee;
    struct session session;
    struct budgets *budgets; /* of the account, under its lock */
    struct account *account;
    uint8_t mark; /* of the credentials */
    struct cloud_counts counts, counts_shown;
    struct job job[EASEE_CALLS_MAX];
    struct observation observation[SYNC_OBSERVATIONS_MAX];
    struct easee_token token;
    unsigned token_generation, token_kept;
    char api_url[CONFIG_TEXT_MAX];
    char token_username[CONFIG_TEXT_MAX]; /* whose it is */
    uint8_t token_mark;                   /* ... and by which password */
    enum err session_err;                 /* why the last login or refresh failed */
    uint16_t session_http;
    bool looking_up;
    unsigned lookup_failures;
    int64_t cloud_ahead_ms; /* the cloud's clock less our monotonic one; 0: not known */
    struct stream *stream;
    bool streaming;
    unsigned stream_token;       /* generation it was given */
    uint64_t stream_retry_at_ms; /* give it the same token again; NEVER */
    size_t read_turn;            /* ... for the next read */
    size_t turn; /* where the search for the next setpoint begins: nobody starves */
    struct store *store;        /* NULL: nothing is kept */
    struct state_circuit *kept; /* one per unit, as it was saved */
    uint64_t keep_at_ms;        /* saving is tried again; NEVER */
    bool keep_failing;
    struct log_limit error_lines, stream_lines, silent_lines, keep_lines, slow_lines;

    pthread_t thread;
    bool started;
    int exit_fd;
    atomic_bool stop, wants_waiting;
    uint64_t wants_at_ms; /* the next look at them */
    atomic_uint_least64_t progress_ms;

    pthread_mutex_t credentials_lock;
    bool credentials_changed;
    char username[CONFIG_TEXT_MAX], password[CONFIG_PASSWORD_MAX];

    size_t units;
    struct unit unit[];
};

/* sync.c: carrying calls out */

/* False: no room; nothing was started. */
bool sync_start_job(struct sync *s, const struct job *job, const char *path,
                    const char *body);
/* What a reply means as a whole; DETAIL gets the other side's words. */
enum err sync_judge(const struct easee_reply *r, char *detail, size_t size);
/* Tells the session what an ordinary call showed about the token and the account. */
void sync_report(struct sync *s, const struct job *job, enum err err, uint64_t now_ms);
/* The cloud's own clock, which no step of ours can move; 0: not known yet. */
int64_t sync_cloud_now(const struct sync *s, uint64_t now_ms);

/* sync_keep.c: what outlives the process */

/* Opens the account, reads what was saved.  STORE is borrowed, NULL: there is none. */
enum err sync_keep_open(struct sync *s, const char *state_dir, struct store *store);
void sync_keep_close(struct sync *s);
/* Saves what has to be saved.  Not under the account's lock: it waits for the disk. */
void sync_keep(struct sync *s, uint64_t now_ms);
/* The time, budgets and the session are the thread's between these two. */
uint64_t sync_lock_account(struct sync *s);
void sync_unlock_account(struct sync *s);

/* sync_lookup.c: where the circuits are */

/* When the search for U goes on; NEVER: it is found, or a search is under way. */
uint64_t sync_lookup_at(const struct sync *s, const struct unit *u, uint64_t now_ms);
void sync_start_lookup(struct sync *s, uint64_t now_ms);
/* U was found and is gone: the search begins again, not at once. */
void sync_lost(struct unit *u, uint64_t now_ms);
/* u->where is known. */
void sync_unit_found(struct sync *s, struct unit *u, uint64_t now_ms);
void sync_lookup_done(struct sync *s, const struct job *job, const struct easee_reply *r,
                      uint64_t now_ms);

/* sync_stream.c: takes what the stream tells, gives it the newest token */
void sync_take_stream(struct sync *s, uint64_t now_ms);
void sync_subscribe_again(struct sync *s, const struct unit *u, unsigned charger,
                          uint64_t now_ms);

/* sync_show.c: what is known */
const char *sync_name(const struct unit *u);
void sync_note_error(struct sync *s, const char *what, enum err err, unsigned http,
                     const char *detail, uint64_t now_ms);
/* Puts what changed into the exchange and the log. */
void sync_show(struct sync *s, uint64_t now_ms);

#endif
