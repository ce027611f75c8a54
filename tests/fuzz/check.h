/* SPDX-License-Identifier: MIT
 * What every fuzz target needs: an assertion that no build leaves out. */
#ifndef EVECC_FUZZ_CHECK_H
#define EVECC_FUZZ_CHECK_H

#include <stdint.h>
#include <stdlib.h>

#define CHECK(condition)  \
    do {                  \
        if (!(condition)) \
            abort();      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
