/* SPDX-License-Identifier: MIT */
#include "evecc/mbap.h"

#include <stdbool.h>
#include <string.h>

enum {
    READ_MAX = 125,            /* registers, APP 6.3 */
    WRITE_MAX = 123,           /* APP 6.12 */
    READ_WRITE_MAX = 121,      /* registers written by function 23, APP 6.17 */
    MEI_IDENTIFICATION = 14,   /* APP 6.21 */
    CONFORMITY_REGULAR = 0x82, /* regular objects, as a stream and one by one */
    READ_BASIC = 1,            /* read codes: three streams, and one object by itself */
    READ_ONE = 4,
    BASIC_OBJECTS = 3,
    MORE_FOLLOWS = 0xFF,
    OBJECT_TEXT_MAX = 64
};

static uint16_t word(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put_word(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

enum mbap_verdict mbap_next(const uint8_t *bytes, size_t n, size_t *ret_size)
{
    *ret_size = 0;
    if (n > 4 && bytes[4] != 0) /* no legal length needs its high byte */
        return MBAP_BROKEN;
    if (n < 6)
        return MBAP_MORE;
    if (bytes[5] < MBAP_LENGTH_MIN || bytes[5] > MBAP_LENGTH_MAX)
        return MBAP_BROKEN;

    size_t size = 6u + bytes[5];
    if (n < size)
        return MBAP_MORE;
    *ret_size = size;
    return word(bytes + 2) == 0 ? MBAP_FRAME : MBAP_SKIP;
}

static bool within(unsigned count, unsigned max)
{
    return 1 <= count && count <= max;
}

/* DATA are the N bytes after the function code. */
static bool parse_read(const uint8_t *data, size_t n, struct mbap_request *ret)
{
    if (n != 4 || !within(word(data + 2), READ_MAX))
        return false;
    ret->read_addr = word(data);
    ret->read_count = word(data + 2);
    return true;
}

static bool parse_write_single(const uint8_t *data, size_t n, struct mbap_request *ret)
{
    if (n != 4)
        return false;
    ret->write_addr = word(data);
    ret->write_count = 1;
    ret->values = data + 2;
    return true;
}

/* Address, quantity, byte count and values, as functions 16 and 23 end with. */
static bool parse_write(const uint8_t *data, size_t n, unsigned max,
                        struct mbap_request *ret)
{
    if (n < 5 || !within(word(data + 2), max))
        return false;

    uint16_t count = word(data + 2);
    if (data[4] != 2 * count || n != 5u + 2u * count)
        return false;
    ret->write_addr = word(data);
    ret->write_count = count;
    ret->values = data + 5;
    return true;
}

static bool parse_mask_write(const uint8_t *data, size_t n, struct mbap_request *ret)
{
    if (n != 6)
        return false;
    ret->write_addr = word(data);
    ret->write_count = 1;
    ret->and_mask = word(data + 2);
    ret->or_mask = word(data + 4);
    return true;
}

static bool parse_identification(const uint8_t *data, size_t n, struct mbap_request *ret)
{
    if (n != 3 || !within(data[1], READ_ONE))
        return false;
    ret->read_code = data[1];
    ret->object = data[2];
    return true;
}

enum modbus_exception mbap_parse(const uint8_t *adu, size_t size,
                                 struct mbap_request *ret)
{
    *ret = (struct mbap_request){
        .transaction = word(adu), .unit = adu[6], .function = adu[7]};

    const uint8_t *data = adu + MBAP_HEADER + 1;
    size_t n = size - MBAP_HEADER - 1;
    struct mbap_request req = *ret;
    bool ok;

    switch (req.function) {
    case FC_READ_HOLDING:
    case FC_READ_INPUT:
        ok = parse_read(data, n, &req);
        break;
    case FC_WRITE_SINGLE:
        ok = parse_write_single(data, n, &req);
        break;
    case FC_WRITE_MULTIPLE:
        ok = parse_write(data, n, WRITE_MAX, &req);
        break;
    case FC_MASK_WRITE:
        ok = parse_mask_write(data, n, &req);
        break;
    case FC_READ_WRITE:
        ok = n >= 4 && parse_read(data, 4, &req) &&
             parse_write(data + 4, n - 4, READ_WRITE_MAX, &req);
        break;
    case FC_ENCAPSULATED: /* the MEI type is part of the function */
        if (n > 0 && data[0] != MEI_IDENTIFICATION)
            return EX_FUNCTION;
        ok = parse_identification(data, n, &req);
        break;
    default:
        return EX_FUNCTION;
    }
    if (!ok)
        return EX_VALUE;
    *ret = req;
    return EX_NONE;
}

/* Completes the answer to ADU, whose PDU of N bytes is in OUT already. */
static size_t answer(const uint8_t *adu, size_t n, uint8_t *out)
{
    memcpy(out, adu, 2);
    put_word(out + 2, 0);
    put_word(out + 4, n + 1);
    out[6] = adu[6];
    return MBAP_HEADER + n;
}

size_t mbap_exception(const uint8_t *adu, enum modbus_exception code,
                      uint8_t out[static MBAP_ADU_MAX])
{
    out[MBAP_HEADER] = adu[MBAP_HEADER] | 0x80;
    out[MBAP_HEADER + 1] = (uint8_t)code;
    return answer(adu, 2, out);
}

size_t mbap_identify(const uint8_t *adu, const struct mbap_request *req,
                     const struct mbap_identity *id, uint8_t out[static MBAP_ADU_MAX])
{
    const char *const text[] = {id->vendor,     id->product_code, id->revision,
                                id->vendor_url, id->product_name, id->model,
                                id->application};
    const unsigned objects = sizeof text / sizeof text[0];
    unsigned object = req->object, end;

    if (req->read_code == READ_ONE) {
        if (object >= objects)
            return mbap_exception(adu, EX_ADDRESS, out);
        end = object + 1;
    } else { /* nothing extended is offered: the extended stream is the regular one */
        end = req->read_code == READ_BASIC ? BASIC_OBJECTS : objects;
        if (object >= end) /* APP 6.21: an unknown object starts the stream again */
            object = 0;
    }

    uint8_t *pdu = out + MBAP_HEADER;
    size_t n = 7;
    uint8_t listed = 0;
    for (; object < end; object++, listed++) {
        size_t size = strlen(text[object]);
        if (size > OBJECT_TEXT_MAX)
            size = OBJECT_TEXT_MAX;
        if (n + 2 + size > MBAP_PDU_MAX)
            break;
        pdu[n] = (uint8_t)object;
        pdu[n + 1] = (uint8_t)size;
        memcpy(pdu + n + 2, text[object], size);
        n += 2 + size;
    }
    bool more = object < end;
    pdu[0] = FC_ENCAPSULATED;
    pdu[1] = MEI_IDENTIFICATION;
    pdu[2] = req->read_code;
    pdu[3] = CONFORMITY_REGULAR;
    pdu[4] = more ? MORE_FOLLOWS : 0;
    pdu[5] = more ? (uint8_t)object : 0;
    pdu[6] = listed;
    return answer(adu, n, out);
}
