/* SPDX-License-Identifier: MIT
 * state.h - what of a circuit survives a restart, as text and back.
 *
 * Pure but for the memory cJSON takes and gives back within a call.  Holds no secrets.
 * Times are monotonic milliseconds of the boot they were saved in; state_decode() moves
 * them to this boot: exactly when the boot is the same, by the wall clock otherwise.  A
 * wall clock that went back, or stands before 2026, or is more than 30 days ahead is
 * implausible: wishes with a validity or a watchdog then count as expired (N3), and all
 * else keeps the age it had when it was saved, the least it can be. */
#ifndef EVECC_STATE_H
#define EVECC_STATE_H

#include "evecc/charger.h"
#include "evecc/easee_msg.h"
#include "evecc/err.h"
#include "evecc/phase.h"

#include <stddef.h>

enum {
    STATE_VERSION = 1,
    STATE_NAME_MAX = 32,
    STATE_KEY_MAX = 96,
    STATE_BOOT_ID_MAX = 40
};

/* When, by which clocks, something was saved or is read. */
struct state_clock {
    uint64_t now_ms;                 /* monotonic */
    int64_t unix_ms;                 /* wall */
    char boot_id[STATE_BOOT_ID_MAX]; /* changes with every boot; "": not known */
};

/* The values of the control block that come from the configuration (7210-7213). */
struct state_start {
    uint16_t watchdog_s, fallback_da;
    uint8_t fallback_action, fallback_phases;
};

struct state_circuit {
    char name[STATE_NAME_MAX]; /* of its section */
    char key[STATE_KEY_MAX];   /* site, circuit and charger as configured: a section that
                                  now means another circuit does not inherit */
    struct want want;          /* without its counters of actions */
    struct state_start start;  /* as configured when it was saved */
    struct phase_memory phases;
    struct amps sent; /* what left last, */
    bool sent_known;
    uint64_t sent_at_ms;        /* and when; NEVER */
    struct easee_circuit where; /* found before; no chargers: never.  Without its names */
    uint64_t energy_wh;         /* lifetime energy never decreases, NA_U64 */
};

/* A circuit of which nothing is known but its NAME and KEY, both cut to what fits. */
void state_init(struct state_circuit *c, const char *name, const char *key);

/* COUNT circuits as text; memory the caller frees, *RET_LEN bytes.  ERR_SYSTEM: no
 * memory. */
enum err state_encode(const struct state_circuit *circuits, size_t count,
                      const struct state_clock *clock, char **ret, size_t *ret_len);

/* Finds the circuits of RET (COUNT of them, as state_init() left them) in TEXT (LEN bytes
 * and a NUL) by name and key and fills in the rest; one that is not there is left alone.
 * *RET_TRUSTED: the clocks were plausible; the wishes' times are 0 otherwise, as long ago
 * as can be.  ERR_PARSE: not a state; RET is untouched then. */
enum err state_decode(const char *text, size_t len, const struct state_clock *clock,
                      struct state_circuit *ret, size_t count, bool *ret_trusted);

/* NOW has to be saved where the disk has SAVED: something differs, or the age of the wish
 * would be wrong by half of what its watchdog or validity allows (by 5 s at least), or a
 * kilowatt-hour was charged.  A repetition of the same wish, though it has an id and a
 * sequence number of its own, need not be saved. */
bool state_due(const struct state_circuit *saved, const struct state_circuit *now);

/* The configuration has START now.  It counts where it has changed since C was saved,
 * what a client has written otherwise. */
void state_reconfigure(struct state_circuit *c, const struct state_start *start);

/* Milliseconds that passed from SAVED to NOW.  False: the clocks are implausible, and
 * *RET_MS is 0. */
bool state_elapsed(const struct state_clock *saved, const struct state_clock *now,
                   uint64_t *ret_ms);

/* AT_MS, a point on the monotonic clock when that showed SAVED_MS, on a monotonic clock
 * that shows NOW_MS ELAPSED_MS later; 0 when that is before its beginning.  0 and NEVER
 * are no points in time and stay. */
uint64_t state_shift(uint64_t at_ms, uint64_t saved_ms, uint64_t elapsed_ms,
                     uint64_t now_ms);

#endif
