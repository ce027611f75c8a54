/* SPDX-License-Identifier: MIT
 * owner.h - which client's wishes count when several write to one circuit.
 *
 * Pure: no I/O, no clock, no allocation.  An owner is an address, so a client may close
 * and open its connection between writes.  It stays owner until it has not written for
 * its time-out. */
#ifndef EVECC_OWNER_H
#define EVECC_OWNER_H

#include <stdbool.h>
#include <stdint.h>

enum owner_rule {
    OWNER_NONE,  /* everyone writes, nobody owns */
    OWNER_FIRST, /* who writes first owns it, others are refused */
    OWNER_LAST   /* who writes last owns it */
};

/* All zero: nobody. */
struct owner {
    uint64_t until_ms;
    uint8_t address[16]; /* as acl_address() has it */
};

/* ADDRESS may write at NOW_MS. */
bool owner_allows(const struct owner *o, enum owner_rule rule,
                  const uint8_t address[static 16], uint64_t now_ms);

/* ADDRESS, which was allowed to, has written: it owns O for TIMEOUT_MS more.  True: it
 * did not before. */
bool owner_wrote(struct owner *o, const uint8_t address[static 16], uint64_t now_ms,
                 uint64_t timeout_ms);

#endif
