/* SPDX-License-Identifier: MIT
 * values.h - registers as people see them: names, units, words, and back. */
#ifndef EVECC_VALUES_H
#define EVECC_VALUES_H

#include "evecc/regmap.h"

#include <cjson/cJSON.h>

enum { VALUE_TEXT_MAX = 256 };

/* What a register holds, understood. */
struct value {
    const struct reg_row *row;
    uint64_t raw;
    double number;         /* in the unit of value_unit() */
    bool none;             /* not available, or no opinion */
    char text[2 * 24 + 1]; /* of a text */
};

/* The row called NAME, in whatever case, with - or _; or at the address that it is.
 * NULL: there is none. */
const struct reg_row *value_row(const char *name);

/* Name of ROW as it is shown: lower case. */
const char *value_name(const struct reg_row *row, char buf[static 64]);

/* "A" for "0.1 A"; digits behind the point in *RET_DIGITS (NULL: not wanted). */
const char *value_unit(const struct reg_row *row, unsigned *ret_digits);

/* Reads ROW from IMAGE, the whole window. */
struct value value_of(const struct reg_row *row,
                      const uint16_t image[static REGMAP_COUNT]);

/* With its unit, or in words; "-" when it is not available.  In BUF or static. */
const char *value_text(const struct value *v, char buf[static VALUE_TEXT_MAX]);

/* {"value": 16.0, "unit": "A"}, {"value": 4, "text": "..."}, a text or null. */
cJSON *value_json(const struct value *v);

/* From TEXT to what a write of ROW carries: a number in the unit of the row, with or
 * without it, a word of the row, or "none".  RAW: only the number as it stands in the
 * register.  NULL: *RET is set, otherwise what is allowed, in BUF. */
const char *value_parse(const struct reg_row *row, const char *text, bool raw,
                        uint64_t *ret, char buf[static VALUE_TEXT_MAX]);

#endif
