/* SPDX-License-Identifier: MIT
 * words.h - what the numbers in a register stand for, in words.
 *
 * Pure: no I/O, no clock, no allocation.  The words themselves are words.def; those of
 * the result code (7303) come from errors.def. */
#ifndef EVECC_WORDS_H
#define EVECC_WORDS_H

#include "evecc/regmap.h"

struct word {
    uint16_t addr;
    uint16_t value; /* of a register in bits: the number of the bit */
    const char *text;
};

/* The words of the register ROW, ascending; RET_COUNT of them, 0: it has none.  Static
 * storage. */
const struct word *words_of(const struct reg_row *row, size_t *ret_count);

/* The word for VALUE of ROW, NULL: it has none.  Not for registers in bits. */
const char *word_text(const struct reg_row *row, uint64_t value);

/* Whether VALUE of ROW is a set of bits. */
bool word_is_bits(const struct reg_row *row);

#endif
