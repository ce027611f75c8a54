/* SPDX-License-Identifier: MIT
 * reply.h - libmodbus builds every normal and exception reply; we catch what it would
 * send.
 *
 * modbus_reply() writes to a socket, blocking or cutting short.  Here the context's
 * socket is a sentinel that is no descriptor, and the program's own send() keeps what is
 * sent to it, so a reply lands in a buffer of ours and pipelined replies leave together
 * (performance.md 6.2). Only requests proven legal come here: neither libmodbus's sleep
 * nor its flush is reached.
 *
 * One context, owned by the Modbus thread. */
#ifndef EVECC_REPLY_H
#define EVECC_REPLY_H

#include "evecc/err.h"
#include "evecc/mbap.h"

#include <modbus/modbus.h>

struct reply;

/* A context, after one reply was seen to arrive (a libmodbus that does not send through
 * send() would be found here: ERR_SYSTEM).  Returns owned, freed with reply_free(). */
enum err reply_new(struct reply **ret);
void reply_free(struct reply *r);

/* The reply of libmodbus to the whole, legal ADU of SIZE bytes on MAP, which it also
 * writes to. Returns its size, 0 when libmodbus had none. */
size_t reply_build(struct reply *r, const uint8_t *adu, size_t size,
                   modbus_mapping_t *map, uint8_t out[static MBAP_ADU_MAX]);

/* The exception reply of libmodbus to ADU. */
size_t reply_exception(struct reply *r, const uint8_t *adu, enum modbus_exception code,
                       uint8_t out[static MBAP_ADU_MAX]);

#endif
