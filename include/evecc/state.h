/* SPDX-License-Identifier: MIT
 * state.h - what of a circuit survives a restart, as text and back.
 *
 * Pure but for the memory cJSON takes and gives back within a call.  Holds no secrets.
 * Times are monotonic milliseconds of the boot they were saved in; state_decode() shifts
 * them to this boot: exactly when BOOT_ID is the same, by the wall clock otherwise.  A
 * wall clock that went back, or stands before 2026, or is more than 30 days ahead is
 * implausible: wishes with a validity or a watchdog then count as expired (N3), phase
 * changes as just made. */
#ifndef EVECC_STATE_H
#define EVECC_STATE_H

#include "evecc/charger.h"
#include "evecc/err.h"
#include "evecc/phase.h"

#include <stddef.h>

enum { STATE_VERSION = 1, STATE_NAME_MAX = 32, STATE_KEY_MAX = 96, STATE_CONTROL = 40 };

struct state_circuit {
    char name[STATE_NAME_MAX]; /* of its section */
    char key[STATE_KEY_MAX];   /* site, circuit and charger as configured: a section that
                                  now means   another circuit does not inherit */
    struct want want;
    uint16_t control[STATE_CONTROL]; /* the control block as written */
    struct phase_memory phases;
    struct amps sent; /* what left last */
    bool sent_known;
    uint64_t sent_at_ms;
    int64_t site_id, circuit_id; /* found before; -1 */
    uint64_t energy_wh;          /* lifetime energy never decreases, NA_U64 */
};

/* When, by which clocks, a state was saved or is read. */
struct state_clock {
    uint64_t now_ms;  /* monotonic */
    int64_t unix_ms;  /* wall */
    char boot_id[40]; /* changes with every boot */
};

/* COUNT circuits as text; memory the caller frees, *RET_LEN bytes.  ERR_SYSTEM: no
 * memory. */
enum err state_encode(const struct state_circuit *circuits, size_t count,
                      const struct state_clock *clock, char **ret, size_t *ret_len);

/* Finds the circuits of RET (name and key filled in, COUNT of them) in TEXT
 * (NUL-terminated at LEN) and fills in the rest; one that is not there keeps want.id 0.
 * *RET_TRUSTED: the clocks were plausible.  ERR_PARSE: not a state; RET is untouched
 * then. */
enum err state_decode(const char *text, size_t len, const struct state_clock *clock,
                      struct state_circuit *ret, size_t count, bool *ret_trusted);

#endif
