/* SPDX-License-Identifier: MIT
 * The whole way of a request: a stream of frames to a gateway of two circuits, one of
 * them closed for writing.  Every answer is one a strict client understands, refused
 * requests change nothing, and what was written is what is read. */
#include "evecc/gateway.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CIRCUITS = 2, START_MS = 1000000, STEP_MS = 60 };

struct image {
    uint16_t control[REGMAP_CONTROL_COUNT];
};

static void check(int holds)
{
    if (!holds)
        abort();
}

static unsigned word(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static void check_shape(const uint8_t *adu, const uint8_t *answer, size_t n)
{
    unsigned function = adu[MBAP_HEADER];

    check(n >= MBAP_HEADER + 2 && n <= MBAP_ADU_MAX);
    check(memcmp(answer, adu, 2) == 0 && word(answer + 2) == 0);
    check(word(answer + 4) == n - 6 && answer[6] == adu[6]);
    check((answer[MBAP_HEADER] | 0x80u) == (function | 0x80u));
    if (answer[MBAP_HEADER] & 0x80) {
        unsigned code = answer[MBAP_HEADER + 1];
        check(n == MBAP_HEADER + 2 && (code == EX_FUNCTION || code == EX_ADDRESS ||
                                       code == EX_VALUE || code == EX_UNIT));
    } else if (function == FC_READ_HOLDING || function == FC_READ_INPUT ||
               function == FC_READ_WRITE) {
        check(answer[8] == 2 * word(adu + 10) && n == 9u + answer[8]);
    } else if (function == FC_WRITE_SINGLE || function == FC_WRITE_MULTIPLE ||
               function == FC_MASK_WRITE) {
        check(n == (function == FC_MASK_WRITE ? 14 : 12) &&
              memcmp(answer + 7, adu + 7, n - 7) == 0);
    } else {
        check(function == FC_ENCAPSULATED && answer[8] == 14);
    }
}

static struct image look(struct gateway *g, uint8_t unit, uint64_t now_ms)
{
    const uint8_t read[] = {0,
                            0,
                            0,
                            0,
                            0,
                            6,
                            unit,
                            FC_READ_HOLDING,
                            REGMAP_CONTROL >> 8,
                            REGMAP_CONTROL & 0xff,
                            0,
                            REGMAP_CONTROL_COUNT};
    uint8_t answer[MBAP_ADU_MAX];
    struct image image;

    check(gateway_answer(g, read, sizeof read, false, now_ms, 0, answer, NULL) ==
          9 + 2 * REGMAP_CONTROL_COUNT);
    for (size_t i = 0; i < REGMAP_CONTROL_COUNT; i++)
        image.control[i] = (uint16_t)word(answer + 9 + 2 * i);
    return image;
}

static void serve(struct gateway *g, const uint8_t *adu, size_t size, uint64_t now_ms)
{
    struct gateway_report report;
    struct image before[CIRCUITS];
    uint8_t answer[MBAP_ADU_MAX];
    bool may_write = adu[6] != CIRCUITS;

    for (uint8_t unit = 1; unit <= CIRCUITS; unit++)
        before[unit - 1] = look(g, unit, now_ms);
    size_t n =
        gateway_answer(g, adu, size, may_write, now_ms, now_ms / 1000, answer, &report);
    check_shape(adu, answer, n);
    check(report.exception == (answer[7] & 0x80 ? answer[8] : EX_NONE));
    check(!report.wrote || (report.write && report.exception == EX_NONE));
    for (uint8_t unit = 1; unit <= CIRCUITS; unit++) {
        struct image after = look(g, unit, now_ms);
        if (unit != adu[6] || !report.write || report.exception != EX_NONE || !may_write)
            check(memcmp(&after, &before[unit - 1], sizeof after) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_circuit circuit[CIRCUITS] = {
        {.unit = 1, .max_current = 16, .min_current = 6, .phases = 3, .voltage = 230},
        {.unit = 2, .max_current = 32, .min_current = 6, .phases = 1, .voltage = 230}
    };
    const struct config cfg = {.circuit = circuit, .circuits = CIRCUITS};
    struct exchange *x = exchange_new(CIRCUITS);
    struct gateway *g;
    uint64_t now_ms = START_MS;
    size_t found;

    check(x && gateway_new(&g, &cfg, x, now_ms) == ERR_OK);
    for (enum mbap_verdict verdict;
         (verdict = mbap_next(data, size, &found)) == MBAP_FRAME || verdict == MBAP_SKIP;
         now_ms += STEP_MS) {
        if (verdict == MBAP_FRAME)
            serve(g, data, found, now_ms);
        data += found;
        size -= found;
    }
    gateway_free(g);
    exchange_free(x);
    return 0;
}
