/* SPDX-License-Identifier: MIT
 * writers.h - who may write to a circuit (owner.h), and the log of what was written.
 *
 * Owned by the Modbus thread. */
#ifndef EVECC_WRITERS_H
#define EVECC_WRITERS_H

#include "evecc/config.h"
#include "evecc/gateway.h"

struct writers;

/* For the circuits of CFG (borrowed for the call).  Returns owned, freed with
 * writers_free(); NULL: no memory. */
struct writers *writers_new(const struct config *cfg);
void writers_free(struct writers *w);

/* Whether the rule of CIRCUIT lets ADDRESS (acl_address()) write. */
bool writers_allow(const struct writers *w, size_t circuit,
                   const uint8_t address[static 16], uint64_t now_ms);

/* The client behind FD, at ADDRESS, which may write as far as its listener goes, got the
 * answer R to a write to a circuit: remembers the owner, and logs who changed what or was
 * kept from it, at most a line of each kind per circuit and second. */
void writers_note(struct writers *w, int fd, const uint8_t address[static 16],
                  const struct gateway_report *r, uint64_t now_ms);

/* The owner of CIRCUIT, its address in plain text (borrowed), and until when it is that;
 * a time that is over: nobody. */
const char *writers_owner(const struct writers *w, size_t circuit,
                          uint64_t *ret_until_ms);

#endif
