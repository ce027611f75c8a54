/* SPDX-License-Identifier: MIT
 * mbap.h - bytes from a client become one well-formed request, or an answer to a bad one.
 *
 * Pure: no I/O, no allocation.  Sources: MODBUS Application Protocol V1.1b3 (APP), MODBUS
 * Messaging on TCP/IP Implementation Guide V1.0b (TCP).
 *
 *   ADU  =  MBAP header (7)  +  PDU (function code + data, 1 to 253)
 *   MBAP =  transaction id (2), protocol id (2, 0), length (2, of the rest), unit id (1)
 */
#ifndef EVECC_MBAP_H
#define EVECC_MBAP_H

#include <stddef.h>
#include <stdint.h>

enum {
    MBAP_HEADER = 7,
    MBAP_PDU_MAX = 253,
    MBAP_ADU_MAX = MBAP_HEADER + MBAP_PDU_MAX,
    MBAP_LENGTH_MIN = 2, /* unit id and function code */
    MBAP_LENGTH_MAX = 1 + MBAP_PDU_MAX
};

/* Function codes served; everything else is answered with exception 1. */
enum modbus_function {
    FC_READ_HOLDING = 3,
    FC_READ_INPUT = 4,
    FC_WRITE_SINGLE = 6,
    FC_WRITE_MULTIPLE = 16,
    FC_MASK_WRITE = 22,
    FC_READ_WRITE = 23,
    FC_ENCAPSULATED = 43 /* MEI type 14: read device identification */
};

/* Exception codes used (APP 7; registers.md: never 4, 5 or 6). */
enum modbus_exception {
    EX_NONE = 0,
    EX_FUNCTION = 1,
    EX_ADDRESS = 2,
    EX_VALUE = 3, /* a value, a quantity, or the shape of the request */
    EX_UNIT = 11  /* gateway target device failed to respond: no such unit */
};

enum mbap_verdict {
    MBAP_MORE,  /* not a whole frame yet */
    MBAP_FRAME, /* one whole frame */
    MBAP_SKIP,  /* one whole frame of another protocol: no answer (TCP 4.4.2.2) */
    MBAP_BROKEN /* a length no frame can have: the stream is lost, close it */
};

/* Looks at the N bytes received so far.  RET_SIZE gets the size of the frame in bytes for
 * MBAP_FRAME and MBAP_SKIP, 0 otherwise.  Decides as early as the bytes allow: a bad
 * length is MBAP_BROKEN as soon as it was read, whatever the protocol id. */
enum mbap_verdict mbap_next(const uint8_t *bytes, size_t n, size_t *ret_size);

/* A request whose function, quantities and length are right (APP 6).  Addresses and
 * values are the register map's to judge. */
struct mbap_request {
    uint16_t transaction;
    uint8_t unit;
    uint8_t function;
    uint16_t read_addr, read_count;   /* read_count 0: reads nothing */
    uint16_t write_addr, write_count; /* write_count 0: writes nothing */
    const uint8_t *values;            /* write_count big-endian words, inside the ADU */
    uint16_t and_mask, or_mask;       /* FC_MASK_WRITE: write_count 1, no values */
    uint8_t read_code, object;        /* FC_ENCAPSULATED */
};

/* Understands the ADU of SIZE bytes that mbap_next() found.  EX_NONE: RET is filled; else
 * the exception to answer, checked in the order function, shape and quantity (APP 6,
 * state diagrams); RET then holds transaction, unit and function. */
enum modbus_exception mbap_parse(const uint8_t *adu, size_t size,
                                 struct mbap_request *ret);

/* Builds the exception answer to ADU (function code OR 80h, for every code) into OUT and
 * returns its size, 9. */
size_t mbap_exception(const uint8_t *adu, enum modbus_exception code,
                      uint8_t out[static MBAP_ADU_MAX]);

/* Identity for function 43/14: texts borrowed, each cut to 64 characters. */
struct mbap_identity {
    const char *vendor, *product_code, *revision; /* objects 0 to 2, basic */
    const char *vendor_url, *product_name, *model, *application; /* 3 to 6, regular */
};

/* Builds the answer to a request for device identification (APP 6.21), with "more
 * follows" where it does not fit; exception 2 for an unknown object asked for alone. */
size_t mbap_identify(const uint8_t *adu, const struct mbap_request *req,
                     const struct mbap_identity *id, uint8_t out[static MBAP_ADU_MAX]);

#endif
