/* SPDX-License-Identifier: MIT
 * A stream of bytes: frames are found, understood and answered as the server does it. */
#include "evecc/mbap.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

/* A frame that has not arrived whole is waited for, wherever it was cut. */
static void check_pieces(const uint8_t *frame, size_t size)
{
    size_t found;

    for (size_t n = 0; n < size; n++) {
        check(mbap_next(frame, n, &found) == MBAP_MORE);
        check(found == 0);
    }
}

static void check_answer(const uint8_t *adu, const uint8_t *out, size_t size)
{
    check(size >= MBAP_HEADER + 2 && size <= MBAP_ADU_MAX);
    check(memcmp(out, adu, 2) == 0 && out[2] == 0 && out[3] == 0 && out[6] == adu[6]);
    check((size_t)(out[4] << 8 | out[5]) == size - 6);
}

static void serve(const uint8_t *frame, size_t size)
{
    static const char text[] =
        "A text as long as the table allows, and then a few letters more.";
    static const struct mbap_identity identity = {text, text, text, text,
                                                  text, text, text};
    uint8_t out[MBAP_ADU_MAX];
    struct mbap_request req;
    uint8_t *adu = malloc(size); /* of its own size: a look behind the frame is seen */

    check(adu != NULL);
    memcpy(adu, frame, size);
    enum modbus_exception answer = mbap_parse(adu, size, &req);
    check(req.function == adu[7] && req.unit == adu[6]);
    if (answer != EX_NONE) {
        check(answer == EX_FUNCTION || answer == EX_VALUE);
        size_t n = mbap_exception(adu, answer, out);
        check_answer(adu, out, n);
        check(out[7] == (adu[7] | 0x80) && out[8] == answer);
    } else if (req.function == FC_ENCAPSULATED) {
        size_t n = mbap_identify(adu, &req, &identity, out);
        check_answer(adu, out, n);
    } else {
        check(req.read_count <= 125 && req.write_count <= 123);
        check(req.read_count + req.write_count > 0);
        if (req.values != NULL)
            check(req.values + 2 * req.write_count == adu + size);
    }
    free(adu);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    while (size > 0) {
        size_t found;
        enum mbap_verdict verdict = mbap_next(data, size, &found);

        if (verdict == MBAP_MORE || verdict == MBAP_BROKEN) {
            check(found == 0);
            break;
        }
        check(found > MBAP_HEADER && found <= MBAP_ADU_MAX && found <= size);
        check_pieces(data, found);
        if (verdict == MBAP_FRAME)
            serve(data, found);
        data += found;
        size -= found;
    }
    return 0;
}
