/* SPDX-License-Identifier: MIT
 * fuzz_state.c - any text is refused or understood; what was understood is written and
 * read again without a change. */
#include "evecc/state.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CIRCUITS = 2 };

static const struct state_clock now = {
    .now_ms = UINT64_C(8640000000), .unix_ms = INT64_C(1790000000000), .boot_id = "boot"};

static void forget(struct state_circuit c[CIRCUITS])
{
    state_init(&c[0], "a", "1");
    state_init(&c[1], "b", "2");
}

static void must(bool fact)
{
    if (!fact)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct state_circuit first[CIRCUITS], second[CIRCUITS];
    char *text = malloc(size + 1);
    bool trusted;
    size_t len;

    must(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    forget(first);
    forget(second);
    if (state_decode(text, size, &now, first, CIRCUITS, &trusted) != ERR_OK) {
        must(memcmp(first, second, sizeof first) == 0);
        free(text);
        return 0;
    }
    free(text);
    must(state_encode(first, CIRCUITS, &now, &text, &len) == ERR_OK);
    must(state_decode(text, len, &now, second, CIRCUITS, &trusted) == ERR_OK);
    must(trusted && memcmp(first, second, sizeof first) == 0);
    free(text);
    return 0;
}
