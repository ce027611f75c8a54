/* SPDX-License-Identifier: MIT */
#include "evecc/words.h"

#include "evecc/err.h"

#include <string.h>

static const struct word words[] = {
#define WORD(name, value, text) {REG_##name, value, text},
#include "evecc/words.def"
#undef WORD
};

static const struct word results[] = {
#define ERR(name, code, text, remedy) {REG_RESULT, code, text},
#include "evecc/errors.def"
#undef ERR
};

const struct word *words_of(const struct reg_row *row, size_t *ret_count)
{
    const struct word *table = words, *first = NULL;
    size_t size = sizeof words / sizeof words[0], count = 0;

    if (row->addr == REG_RESULT) {
        table = results;
        size = sizeof results / sizeof results[0];
    }
    for (size_t i = 0; i < size; i++) {
        if (table[i].addr != row->addr)
            continue;
        if (first == NULL)
            first = &table[i];
        count++;
    }
    *ret_count = count;
    return first;
}

const char *word_text(const struct reg_row *row, uint64_t value)
{
    size_t count;
    const struct word *w = words_of(row, &count);

    for (size_t i = 0; i < count; i++)
        if (w[i].value == value)
            return w[i].text;
    return NULL;
}

bool word_is_bits(const struct reg_row *row)
{
    return strcmp(row->unit, "bits") == 0;
}
