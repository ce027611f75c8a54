/* SPDX-License-Identifier: MIT
 * gateway.h - answers one request from memory: unit, function, registers, wish.
 *
 * Owned by the Modbus thread.  No sockets: bytes in, bytes out, so it can be fuzzed.
 * Holds the register map of every circuit, takes the newest statuses from the exchange
 * when a client reads, puts the newest wish there when a client writes. */
#ifndef EVECC_GATEWAY_H
#define EVECC_GATEWAY_H

#include "evecc/config.h"
#include "evecc/err.h"
#include "evecc/exchange.h"
#include "evecc/mbap.h"
#include "evecc/regmap.h"

struct gateway;

/* What an answer did, for the log of the caller. */
struct gateway_report {
    enum modbus_exception exception; /* EX_NONE: it was a normal answer */
    size_t circuit;                  /* whose; unless the exception is EX_UNIT */
    bool write;                      /* its function is one that writes */
    bool wrote; /* a new wish was accepted; the rest is filled only then */
    struct want before, after;
};

/* One register map per circuit of CFG (borrowed for the call).  X is borrowed for the
 * life of the gateway.  Returns owned, freed with gateway_free(). */
enum err gateway_new(struct gateway **ret, const struct config *cfg, struct exchange *x,
                     uint64_t now_ms);
void gateway_free(struct gateway *g);

/* ADDRESS, in plain text and copied, owns CIRCUIT until UNTIL_MS (owner.h): shown in the
 * registers 7338 and 7340. */
void gateway_set_owner(struct gateway *g, size_t circuit, const char *address,
                       uint64_t until_ms);

/* The index of the circuit that UNIT stands for; -1: none. */
int gateway_circuit(const struct gateway *g, uint8_t unit);

/* The newest wish for CIRCUIT before a restart was W: the control block reads so again.
 */
void gateway_restore(struct gateway *g, size_t circuit, const struct want *w);

/* The answer to the whole ADU of SIZE bytes (as mbap_next() found it) into OUT; returns
 * its size, never 0.  Without MAY_WRITE every writing function is exception 1.  REPORT
 * may be NULL.  UNIX_S is wall time, for display only. */
size_t gateway_answer(struct gateway *g, const uint8_t *adu, size_t size, bool may_write,
                      uint64_t now_ms, uint64_t unix_s, uint8_t out[static MBAP_ADU_MAX],
                      struct gateway_report *report);

/* The counters of the diagnostic registers.  The gateway keeps requests, exceptions and
 * writes, its server the connections.  Points into the gateway. */
struct modbus_counts *gateway_counts(struct gateway *g);

#endif
