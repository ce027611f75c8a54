/* SPDX-License-Identifier: MIT
 * Frames and functions.  C-nn and A-nn are the rules and attacks of the reliability
 * catalogue; APP is the MODBUS Application Protocol V1.1b3. */
#include "evecc/mbap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t seed = 20260921;

static uint32_t random32(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

/* An ADU with transaction 0x1234 and unit 7 around the N bytes of PDU; returns its size.
 */
static size_t frame(uint8_t *adu, const uint8_t *pdu, size_t n)
{
    const uint8_t header[MBAP_HEADER] = {
        0x12, 0x34, 0, 0, (uint8_t)((n + 1) >> 8), (uint8_t)(n + 1), 7};

    memcpy(adu, header, sizeof header);
    memcpy(adu + MBAP_HEADER, pdu, n);
    return MBAP_HEADER + n;
}

static enum modbus_exception parse(const uint8_t *pdu, size_t n, struct mbap_request *ret)
{
    static uint8_t adu[MBAP_ADU_MAX];

    return mbap_parse(adu, frame(adu, pdu, n), ret);
}

static enum modbus_exception parse_read(uint8_t function, unsigned quantity)
{
    const uint8_t pdu[] = {function, 0x1B, 0x58, (uint8_t)(quantity >> 8),
                           (uint8_t)quantity};
    struct mbap_request req;

    return parse(pdu, sizeof pdu, &req);
}

/* Functions 16 and 23 with any quantity, byte count and real number of value bytes. */
static enum modbus_exception parse_multiple(unsigned quantity, unsigned count,
                                            size_t bytes)
{
    uint8_t pdu[MBAP_PDU_MAX] = {
        16, 0x1C, 0x20, (uint8_t)(quantity >> 8), (uint8_t)quantity, (uint8_t)count};
    struct mbap_request req;

    assert_true(6 + bytes <= sizeof pdu);
    return parse(pdu, 6 + bytes, &req);
}

static enum modbus_exception parse_both(unsigned read, unsigned write, unsigned count,
                                        size_t bytes)
{
    uint8_t pdu[MBAP_PDU_MAX] = {23,
                                 0x1B,
                                 0x58,
                                 (uint8_t)(read >> 8),
                                 (uint8_t)read,
                                 0x1C,
                                 0x20,
                                 (uint8_t)(write >> 8),
                                 (uint8_t)write,
                                 (uint8_t)count};
    struct mbap_request req;

    assert_true(10 + bytes <= sizeof pdu);
    return parse(pdu, 10 + bytes, &req);
}

/* C-03, A-07, A-37, A-38: every length field. */
static void every_length(void **state)
{
    (void)state;
    for (unsigned length = 0; length <= 0xFFFF; length++) {
        uint8_t bytes[MBAP_ADU_MAX + 16] = {
            0, 1, 0, 0, (uint8_t)(length >> 8), (uint8_t)length, 1, 3};
        size_t size = 99;
        enum mbap_verdict verdict = mbap_next(bytes, sizeof bytes, &size);

        if (length < 2 || length > 254) {
            assert_int_equal(verdict, MBAP_BROKEN);
            assert_int_equal(size, 0);
        } else {
            assert_int_equal(verdict, MBAP_FRAME);
            assert_int_equal(size, 6 + length);
        }
    }
}

/* C-03: a bad length is known before the frame is whole, at the very byte that shows it.
 */
static void bad_length_at_once(void **state)
{
    const uint8_t high[] = {0, 1, 0, 0, 1}, low[] = {0, 1, 0, 0, 0, 255};
    const uint8_t none[] = {0, 1, 0, 0, 0, 0}, foreign[] = {0, 1, 0x12, 0x34, 0, 1};
    size_t size;

    (void)state;
    assert_int_equal(mbap_next(high, 4, &size), MBAP_MORE);
    assert_int_equal(mbap_next(high, 5, &size), MBAP_BROKEN);
    assert_int_equal(mbap_next(low, 5, &size), MBAP_MORE);
    assert_int_equal(mbap_next(low, 6, &size), MBAP_BROKEN);
    assert_int_equal(mbap_next(none, 6, &size), MBAP_BROKEN);
    /* whatever the protocol id (C-06) */
    assert_int_equal(mbap_next(foreign, 6, &size), MBAP_BROKEN);
}

/* the first bytes of other protocols never look like a frame to wait for. */
static void other_protocols(void **state)
{
    const char *const starts[] = {"GET / HTTP/1.1\r\n", "SSH-2.0-OpenSSH_9.2\r\n",
                                  "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                                  "\x01\x03\x1b\x58\x01\x02\xc4\x0b"};
    const size_t sizes[] = {16, 21, 11, 8};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t size;
        assert_int_equal(mbap_next((const uint8_t *)starts[i], sizes[i], &size),
                         MBAP_BROKEN);
    }
}

/* C-06, A-11: every protocol id other than 0 is skipped whole. */
static void protocol_id(void **state)
{
    (void)state;
    for (unsigned id = 0; id <= 0xFFFF; id++) {
        const uint8_t adu[] = {0, 1, (uint8_t)(id >> 8), (uint8_t)id, 0, 6, 1, 3, 0, 0,
                               0, 1};
        size_t size;

        assert_int_equal(mbap_next(adu, sizeof adu, &size),
                         id == 0 ? MBAP_FRAME : MBAP_SKIP);
        assert_int_equal(size, sizeof adu);
        assert_int_equal(mbap_next(adu, sizeof adu - 1, &size), MBAP_MORE);
    }
}

struct sample {
    const char *comment;
    uint8_t pdu[12];
    size_t n;
    enum modbus_exception answer;
};

static const struct sample samples[] = {
    {"read holding",         {3, 0x1B, 0x58, 0, 2},                             5,  EX_NONE    },
    {"read input",           {4, 0x1B, 0x58, 0, 2},                             5,  EX_NONE    },
    {"write one",            {6, 0x1C, 0x21, 0, 1},                             5,  EX_NONE    },
    {"write two",            {16, 0x1C, 0x22, 0, 2, 4, 0, 0, 0x1C, 0xE8},       10, EX_NONE    },
    {"mask write",           {22, 0x1C, 0x21, 0xFF, 0xFE, 0, 1},                7,  EX_NONE    },
    {"read and write",       {23, 0x1B, 0x58, 0, 2, 0x1C, 0x21, 0, 1, 2, 0, 1}, 12, EX_NONE    },
    {"identification",       {43, 14, 1, 0},                                    4,  EX_NONE    },
    {"no such function",     {0x41, 1, 2, 3},                                   4,  EX_FUNCTION},
    {"only a function code", {7},                                               1,  EX_FUNCTION},
    {"quantity 0",           {3, 0x1B, 0x58, 0, 0},                             5,  EX_VALUE   },
};

enum { SAMPLES = sizeof samples / sizeof samples[0] };

static void sample_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        struct mbap_request req;
        enum modbus_exception answer = parse(samples[i].pdu, samples[i].n, &req);

        if (answer != samples[i].answer)
            fail_msg("%s: %d", samples[i].comment, answer);
    }
}

/* C-10: every split point of every kind of frame, alone and with the next frame behind
 * it. */
static void every_split_point(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        uint8_t adu[2 * MBAP_ADU_MAX];
        size_t one = frame(adu, samples[i].pdu, samples[i].n), size;
        size_t two = one + frame(adu + one, samples[i].pdu, samples[i].n);

        for (size_t n = 0; n < one; n++) {
            size = 99;
            assert_int_equal(mbap_next(adu, n, &size), MBAP_MORE);
            assert_int_equal(size, 0);
        }
        for (size_t n = one; n <= two; n++) {
            assert_int_equal(mbap_next(adu, n, &size), MBAP_FRAME);
            assert_int_equal(size, one);
        }
    }
}

/* C-04, C-10, A-06: 64 frames of mixed kinds come out one by one, in order, whatever the
 * pieces they arrive in. */
static void many_frames(void **state)
{
    uint8_t stream[64 * 20];
    size_t kind[64], total = 0;

    (void)state;
    for (size_t i = 0; i < 64; i++) {
        kind[i] = random32() % SAMPLES;
        total += frame(stream + total, samples[kind[i]].pdu, samples[kind[i]].n);
    }
    for (unsigned run = 0; run < 200; run++) {
        size_t taken = 0, arrived = 0, found = 0, size;

        while (taken < total) {
            enum mbap_verdict verdict = mbap_next(stream + taken, arrived - taken, &size);
            if (verdict == MBAP_MORE) {
                assert_true(arrived < total);
                arrived += 1 + random32() % (1 + run);
                arrived = arrived < total ? arrived : total;
                continue;
            }
            struct mbap_request req;
            assert_int_equal(verdict, MBAP_FRAME);
            assert_int_equal(mbap_parse(stream + taken, size, &req),
                             samples[kind[found]].answer);
            assert_int_equal(req.function, samples[kind[found]].pdu[0]);
            taken += size;
            found++;
        }
        assert_int_equal(found, 64);
    }
}

/* C-20, A-01, A-03: every function code, with the data of a read of two registers. */
static void every_function(void **state)
{
    (void)state;
    for (unsigned function = 0; function < 256; function++) {
        const uint8_t pdu[] = {(uint8_t)function, 0x1B, 0x58, 0, 2};
        uint8_t adu[MBAP_ADU_MAX], out[MBAP_ADU_MAX];
        struct mbap_request req;
        size_t size = frame(adu, pdu, sizeof pdu);
        enum modbus_exception expected = EX_FUNCTION, answer;

        if (function == 3 || function == 4 || function == 6)
            expected = EX_NONE;
        else if (function == 16 || function == 22 || function == 23)
            expected = EX_VALUE; /* served, but not of this shape */
        answer = mbap_parse(adu, size, &req);
        if (answer != expected)
            fail_msg("function %u: %d", function, answer);
        assert_int_equal(req.function, function);

        assert_int_equal(mbap_exception(adu, EX_FUNCTION, out), 9);
        const uint8_t bytes[] = {0x12, 0x34, 0, 0, 0, 3, 7, (uint8_t)(function | 0x80),
                                 1};
        assert_memory_equal(out, bytes, sizeof bytes);
    }
}

/* C-21, C-23, C-25, C-30: coil and serial-line functions are not served, whatever their
 * data. */
static void functions_not_served(void **state)
{
    const uint8_t codes[] = {0,  1,  2,  5,  7,    8,    11,   12,  15,
                             17, 20, 21, 24, 0x80, 0x83, 0x90, 0xFF};
    struct mbap_request req;

    (void)state;
    for (size_t i = 0; i < sizeof codes; i++)
        for (size_t n = 1; n < 12; n++) {
            const uint8_t pdu[12] = {codes[i], 0, 0, 0, 1, 1, 1};
            assert_int_equal(parse(pdu, n, &req), EX_FUNCTION);
        }
}

/* C-05, C-31, A-08, A-09, A-36: a PDU longer or shorter than its function is exception 3.
 */
static void every_wrong_length(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        const struct sample *s = &samples[i];
        if (s->answer != EX_NONE)
            continue;
        for (size_t n = 1; n <= MBAP_PDU_MAX; n++) {
            uint8_t pdu[MBAP_PDU_MAX] = {0};
            struct mbap_request req;

            memcpy(pdu, s->pdu, n < s->n ? n : s->n);
            enum modbus_exception answer = parse(pdu, n, &req);
            if (answer != (n == s->n ? EX_NONE : EX_VALUE))
                fail_msg("%s of %zu bytes: %d", s->comment, n, answer);
            if (answer != EX_NONE) {
                assert_int_equal(req.read_count, 0);
                assert_int_equal(req.write_count, 0);
            }
        }
    }
}

/* C-22, A-04: every quantity of the reading functions. */
static void every_read_quantity(void **state)
{
    (void)state;
    for (unsigned q = 0; q <= 0xFFFF; q++) {
        enum modbus_exception expected = q >= 1 && q <= 125 ? EX_NONE : EX_VALUE;
        assert_int_equal(parse_read(3, q), expected);
        assert_int_equal(parse_read(4, q), expected);
    }
}

/* C-26, A-30, A-31: every quantity with the bytes it asks for, and the tricks of the
 * list. */
static void every_write_quantity(void **state)
{
    static const struct {
        unsigned quantity, count;
    } tricks[] = {
        {2,      2  },
        {1,      4  },
        {1,      3  },
        {1,      0  },
        {0,      0  },
        {124,    248},
        {127,    254},
        {129,    2  },
        {1,      255},
        {0x8001, 2  },
        {0,      2  },
        {128,    0  },
        {123,    245}
    };

    (void)state;
    for (unsigned q = 0; q <= 123; q++)
        assert_int_equal(parse_multiple(q, 2 * q, 2 * q), q == 0 ? EX_VALUE : EX_NONE);
    for (unsigned q = 1; q <= 123; q++) {
        assert_int_equal(parse_multiple(q, 2 * q, 2 * q - 1), EX_VALUE);
        assert_int_equal(parse_multiple(q, 2 * q - 1, 2 * q - 1), EX_VALUE);
        if (q < 123)
            assert_int_equal(parse_multiple(q, 2 * q, 2 * q + 1), EX_VALUE);
    }
    for (unsigned q = 124; q <= 0xFFFF; q++)
        assert_int_equal(parse_multiple(q, 2 * q & 0xFF, (2 * q & 0xFF) % 248), EX_VALUE);
    for (size_t i = 0; i < sizeof tricks / sizeof tricks[0]; i++)
        for (size_t bytes = 0; bytes <= 247; bytes++)
            assert_int_equal(parse_multiple(tricks[i].quantity, tricks[i].count, bytes),
                             EX_VALUE);
}

/* C-28, A-32: both quantities of function 23. */
static void every_read_write_quantity(void **state)
{
    (void)state;
    for (unsigned read = 0; read <= 130; read++)
        for (unsigned write = 0; write <= 121; write++) {
            bool good = read >= 1 && read <= 125 && write >= 1;
            assert_int_equal(parse_both(read, write, 2 * write, 2 * write),
                             good ? EX_NONE : EX_VALUE);
        }
    assert_int_equal(parse_both(1, 122, 244, 243), EX_VALUE);
    assert_int_equal(parse_both(1, 1, 255, 2), EX_VALUE);
    assert_int_equal(parse_both(1, 2, 2, 2), EX_VALUE);
    assert_int_equal(parse_both(1, 0x8001, 2, 2), EX_VALUE);
    assert_int_equal(parse_both(0x8001, 1, 2, 2), EX_VALUE);
    assert_int_equal(parse_both(1, 1, 2, 4), EX_VALUE);
}

/* C-02: the largest legal frames. */
static void largest_frames(void **state)
{
    uint8_t adu[MBAP_ADU_MAX] = {0, 1, 0, 0, 0, 253, 1, 16, 0x1B, 0x58, 0, 123, 246};
    const uint8_t both[] = {0, 253, 1, 23, 0, 0, 0, 125, 0, 0, 0, 121, 242};
    struct mbap_request req;
    size_t size;

    (void)state;
    assert_int_equal(mbap_next(adu, sizeof adu, &size), MBAP_FRAME);
    assert_int_equal(size, 259);
    assert_int_equal(mbap_parse(adu, size, &req), EX_NONE);
    assert_int_equal(req.write_count, 123);

    memcpy(adu + 4, both, sizeof both);
    assert_int_equal(mbap_next(adu, sizeof adu, &size), MBAP_FRAME);
    assert_int_equal(mbap_parse(adu, size, &req), EX_NONE);
    assert_int_equal(req.read_count, 125);
    assert_int_equal(req.write_count, 121);
}

/* C-27, C-28, C-36: what was understood, to the byte. */
static void fields(void **state)
{
    const uint8_t both[] = {23, 0x1B, 0x58, 0, 2, 0x1C, 0x22, 0, 2, 4, 0, 0, 0x1C, 0xE8};
    const uint8_t mask[] = {22, 0, 4, 0, 0xF2, 0, 0x25},
                  one[] = {6, 0xFF, 0xFE, 0xAB, 0xCD};
    const uint8_t identify[] = {43, 14, 4, 0x80};
    uint8_t adu[MBAP_ADU_MAX];
    struct mbap_request r;

    (void)state;
    assert_int_equal(mbap_parse(adu, frame(adu, both, sizeof both), &r), EX_NONE);
    assert_int_equal(r.transaction, 0x1234);
    assert_int_equal(r.unit, 7);
    assert_int_equal(r.function, 23);
    assert_int_equal(r.read_addr, 7000);
    assert_int_equal(r.read_count, 2);
    assert_int_equal(r.write_addr, 7202);
    assert_int_equal(r.write_count, 2);
    assert_ptr_equal(r.values, adu + 17);

    assert_int_equal(mbap_parse(adu, frame(adu, mask, sizeof mask), &r), EX_NONE);
    assert_int_equal(r.write_addr, 4);
    assert_int_equal(r.write_count, 1);
    assert_int_equal(r.read_count, 0);
    assert_null(r.values);
    assert_int_equal(r.and_mask, 0x00F2);
    assert_int_equal(r.or_mask, 0x0025);

    assert_int_equal(mbap_parse(adu, frame(adu, one, sizeof one), &r), EX_NONE);
    assert_int_equal(r.write_addr, 0xFFFE);
    assert_int_equal(r.write_count, 1);
    assert_int_equal(r.read_count, 0);
    assert_ptr_equal(r.values, adu + 10);

    assert_int_equal(mbap_parse(adu, frame(adu, identify, sizeof identify), &r), EX_NONE);
    assert_int_equal(r.read_code, 4);
    assert_int_equal(r.object, 0x80);
    assert_int_equal(r.read_count + r.write_count, 0);
}

/* C-07, C-08, C-09: transaction and unit are echoed, also to a bad request. */
static void echoes(void **state)
{
    const uint16_t ids[] = {0, 1, 0x7FFF, 0x8000, 0xFFFF};

    (void)state;
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        for (unsigned unit = 0; unit < 256; unit++) {
            const uint8_t high = (uint8_t)(ids[i] >> 8), low = (uint8_t)ids[i];
            const uint8_t adu[] = {high, low, 0, 0, 0, 2, (uint8_t)unit, 3};
            const uint8_t answer[] = {high, low, 0, 0, 0, 3, (uint8_t)unit, 0x83, 11};
            uint8_t out[MBAP_ADU_MAX];
            struct mbap_request req;

            assert_int_equal(mbap_parse(adu, sizeof adu, &req), EX_VALUE);
            assert_int_equal(req.transaction, ids[i]);
            assert_int_equal(req.unit, unit);
            assert_int_equal(mbap_exception(adu, EX_UNIT, out), sizeof answer);
            assert_memory_equal(out, answer, sizeof answer);
        }
}

/* C-29: MEI type and read code; the MEI type is part of the function, so it comes first.
 */
static void identification_requests(void **state)
{
    const uint8_t no_type[] = {43}, other_type[] = {43, 13, 0, 0, 0, 0};
    struct mbap_request req;

    (void)state;
    for (unsigned mei = 0; mei < 256; mei++)
        for (unsigned code = 0; code < 256; code++) {
            const uint8_t pdu[] = {43, (uint8_t)mei, (uint8_t)code, 0};
            enum modbus_exception expected = code >= 1 && code <= 4 ? EX_NONE : EX_VALUE;
            assert_int_equal(parse(pdu, sizeof pdu, &req),
                             mei == 14 ? expected : EX_FUNCTION);
        }
    assert_int_equal(parse(no_type, sizeof no_type, &req), EX_VALUE);
    assert_int_equal(parse(other_type, sizeof other_type, &req), EX_FUNCTION);
}

static const struct mbap_identity identity = {
    "Vendor", "CODE", "v1.0", "https://example.org", "Product", "Model", "Application"};
static const char *const identity_text[] = {
    "Vendor", "CODE", "v1.0", "https://example.org", "Product", "Model", "Application"};

static size_t identify(unsigned code, unsigned object, const struct mbap_identity *id,
                       uint8_t *out)
{
    const uint8_t pdu[] = {43, 14, (uint8_t)code, (uint8_t)object};
    uint8_t adu[MBAP_ADU_MAX];
    struct mbap_request req;

    assert_int_equal(mbap_parse(adu, frame(adu, pdu, sizeof pdu), &req), EX_NONE);
    size_t size = mbap_identify(adu, &req, id, out);
    assert_in_range(size, 9, MBAP_ADU_MAX);
    const uint8_t header[] = {0x12, 0x34, 0, 0, 0, (uint8_t)(size - 6), 7}; /* C-09 */
    assert_memory_equal(out, header, sizeof header);
    return size;
}

/* C-29: the streams, from every object on. */
static void identification_streams(void **state)
{
    static const unsigned ends[] = {0, 3, 7, 7};
    uint8_t out[MBAP_ADU_MAX];

    (void)state;
    for (unsigned code = 1; code <= 3; code++)
        for (unsigned object = 0; object < 256; object++) {
            size_t size = identify(code, object, &identity, out);
            unsigned first = object < ends[code] ? object : 0;
            const uint8_t head[] = {
                43, 14, (uint8_t)code, 0x82, 0, 0, (uint8_t)(ends[code] - first)};
            const uint8_t *p = out + 7 + sizeof head;

            assert_memory_equal(out + 7, head, sizeof head);
            for (unsigned i = first; i < ends[code]; i++) {
                size_t n = strlen(identity_text[i]);
                assert_int_equal(p[0], i);
                assert_int_equal(p[1], n);
                assert_memory_equal(p + 2, identity_text[i], n);
                p += 2 + n;
            }
            assert_ptr_equal(p, out + size);
        }
}

/* C-29: every object by itself. */
static void identification_objects(void **state)
{
    uint8_t out[MBAP_ADU_MAX];

    (void)state;
    for (unsigned object = 0; object < 256; object++) {
        size_t size = identify(4, object, &identity, out);
        if (object < 7) {
            size_t n = strlen(identity_text[object]);
            const uint8_t head[] = {43,        14, 4, 0x82, 0, 0, 1, (uint8_t)object,
                                    (uint8_t)n};
            assert_memory_equal(out + 7, head, sizeof head);
            assert_int_equal(size, 16 + n);
            assert_memory_equal(out + 16, identity_text[object], n);
        } else {
            assert_int_equal(size, 9);
            assert_int_equal(out[7], 43 | 0x80);
            assert_int_equal(out[8], EX_ADDRESS);
        }
    }
}

/* C-29: what does not fit in one answer follows in the next, every object once, in order.
 */
static void more_follows(void **state)
{
    static const char text[] = "01234567890123456789012345678901"
                               "01234567890123456789012345678901too long by these";
    const struct mbap_identity id = {text, text, text, text, text, text, text};
    uint8_t out[MBAP_ADU_MAX];
    unsigned seen = 0, answers = 0, next = 0;

    (void)state;
    do {
        size_t size = identify(3, next, &id, out);
        const uint8_t *p = out + 14;
        unsigned listed = out[13];

        assert_true(listed > 0);
        for (unsigned i = 0; i < listed; i++, seen++) {
            assert_int_equal(p[0], seen);
            assert_int_equal(p[1], 64);
            assert_memory_equal(p + 2, text, 64);
            p += 66;
        }
        assert_ptr_equal(p, out + size);
        next = out[12];
        assert_int_equal(out[11], seen < 7 ? 0xFF : 0);
        assert_int_equal(next, seen < 7 ? seen : 0);
        answers++;
    } while (out[11] != 0);
    assert_int_equal(seen, 7);
    assert_int_equal(answers, 3);
}

/* one byte of every valid frame changed to every value: what still is a frame is
 * answered, and nothing of it points outside. */
static void one_byte_flipped(void **state)
{
    (void)state;
    for (size_t i = 0; i < SAMPLES; i++)
        for (size_t at = 0; at < MBAP_HEADER + samples[i].n; at++)
            for (unsigned v = 0; v < 256; v++) {
                uint8_t adu[MBAP_ADU_MAX];
                struct mbap_request req;
                size_t whole = frame(adu, samples[i].pdu, samples[i].n), size;

                adu[at] = (uint8_t)v;
                if (mbap_next(adu, whole, &size) != MBAP_FRAME)
                    continue;
                assert_true(size <= whole);
                if (mbap_parse(adu, size, &req) != EX_NONE)
                    continue;
                assert_true(req.read_count <= 125 && req.write_count <= 123);
                if (req.values != NULL)
                    assert_true(req.values + 2 * req.write_count == adu + size);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length),
        cmocka_unit_test(bad_length_at_once),
        cmocka_unit_test(other_protocols),
        cmocka_unit_test(protocol_id),
        cmocka_unit_test(sample_answers),
        cmocka_unit_test(every_split_point),
        cmocka_unit_test(many_frames),
        cmocka_unit_test(every_function),
        cmocka_unit_test(functions_not_served),
        cmocka_unit_test(every_wrong_length),
        cmocka_unit_test(every_read_quantity),
        cmocka_unit_test(every_write_quantity),
        cmocka_unit_test(every_read_write_quantity),
        cmocka_unit_test(largest_frames),
        cmocka_unit_test(fields),
        cmocka_unit_test(echoes),
        cmocka_unit_test(identification_requests),
        cmocka_unit_test(identification_streams),
        cmocka_unit_test(identification_objects),
        cmocka_unit_test(more_follows),
        cmocka_unit_test(one_byte_flipped),
    };

    print_message("seed %u\n", seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
