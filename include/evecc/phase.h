/* SPDX-License-Identifier: MIT
 * phase.h - the charging policy: from a wish to three whole-amp currents.
 *
 * Pure: no I/O, no clock, no allocation.
 *
 * Invariants, for every input
 *   - nominal voltage x sum of the chosen currents <= the power limit of the wish;
 *   - every chosen current is 0 or min_current_a to max_current_a; whole amps, floored;
 *   - three phases: all equal; one phase: on L1; nothing on phases that are not wired;
 *   - two changes of the number of phases are never closer than dwell_ms, nor more than
 *     switches_per_day in any 24 h; while a change waits the limit is still kept.
 *
 * Rules (doc/design.md, "Charging policy")
 *   auto    one phase when the power limit is at most single_phase_max_w, or when three
 *           get less than min_current_a each; never more than single_phase_max_w then.
 *   single  one phase, up to max_current_a.
 *   three   three phases or nothing.
 *
 * Single phase needs may_switch; without it auto and three stay on three phases, and
 * single uses three phases but never more power than one phase would have been given.
 * The same holds while single waits for the change from three phases.
 * From one phase to three, and to exactly 6 A on one, the charger is paused first (0/0/0)
 * for pause_ms, or until it is seen not charging. */
#ifndef EVECC_PHASE_H
#define EVECC_PHASE_H

#include "evecc/charger.h"

enum { PHASE_SWITCHES_MAX = 48 }; /* largest switches_per_day */

struct phase_config {
    uint64_t dwell_ms;
    uint64_t pause_ms;
    uint32_t single_phase_max_w;
    uint16_t voltage_v;       /* nominal, phase to neutral */
    uint8_t max_current_a;    /* per phase: the fuse */
    uint8_t min_current_a;    /* 6 */
    uint8_t phases_wired;     /* 1 or 3 */
    uint8_t switches_per_day; /* 0 to PHASE_SWITCHES_MAX */
    bool may_switch; /* TN grid and charger alone on its circuit; a fact, not an option */
};

/* What is remembered between choices.  Zero is a fresh start: nothing was applied. */
struct phase_memory {
    uint64_t switched_at_ms[PHASE_SWITCHES_MAX]; /* ring: the number of phases changed */
    uint64_t paused_since_ms; /* 0/0/0 left, last; only while phases == 0 */
    uint8_t phases;           /* of what was applied last: 0, 1, 3 */
    uint8_t last_phases;      /* the last that was not 0; 0: none yet */
    bool switching;     /* the pause in force was begun to change the number of phases */
    uint8_t next, held; /* ring */
};

/* The limits that a wish comes down to. */
struct phase_wish {
    uint32_t power_w;          /* NA_U32: none */
    uint16_t current_da;       /* NA_U16: none */
    uint16_t phase_da[PHASES]; /* NA_U16: none */
    uint8_t mode;              /* enum phase_mode */
    bool enable;
};

struct phase_choice {
    struct amps target;      /* what is allowed now */
    uint64_t again_at_ms;    /* choose again then though nothing changed; NEVER */
    uint64_t dwell_until_ms; /* a change of phases waits until; NEVER: none, for ever */
    /* The client's own minimum before configuration, flooring and dwell, on the phases
     * that the rule picks, even if it is too little to charge.  NA_U16: no limit. */
    uint16_t requested_da[PHASES];
    uint8_t requested_phases; /* 0, 1, 3 */
    uint8_t binding;          /* enum binding */
    bool switching;           /* target is the pause before a change of phases */
};

/* What is known of the pause that was applied last. */
enum phase_pause {
    PAUSE_SENT,  /* it counts from then */
    PAUSE_SEEN,  /* the charger was seen not charging since: it is over */
    PAUSE_UNSURE /* it may not have arrived: it has not begun */
};

/* The most that WISH allows now, under CFG and what MEM says was applied before. */
void phase_choose(const struct phase_config *cfg, const struct phase_memory *mem,
                  const struct phase_wish *wish, enum phase_pause pause, uint64_t now_ms,
                  struct phase_choice *ret);

/* APPLIED left for the charger at NOW_MS: counts a change of the number of phases and
 * starts its dwell.  A pause is not a change; 1 -> 0 -> 3 is one. */
void phase_applied(struct phase_memory *mem, struct amps applied, uint64_t now_ms);

/* What was applied last is a pause that phase_choose() wanted before a change of phases.
 * Should the charger go back to the number it had, it will have been switched for
 * nothing: that counts as a change, or a limit around the threshold could pause it every
 * minute. */
void phase_pausing(struct phase_memory *mem);

/* How many phases carry current in A: 0, 1 or 3. */
unsigned phase_count(struct amps a);

/* Changes of the number of phases in the 24 h before NOW_MS. */
unsigned phase_switches_24h(const struct phase_memory *mem, uint64_t now_ms);

/* A and B are equal on every phase. */
bool amps_equal(struct amps a, struct amps b);

/* Some phase of B is lower than in A: going from A to B takes load off a conductor. */
bool amps_lower(struct amps a, struct amps b);

#endif
