/* SPDX-License-Identifier: MIT */
#include "evecc/words.h"

#include "evecc/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct reg_row *row(enum reg addr)
{
    return regmap_row((uint16_t)addr);
}

static void known_words(void **state)
{
    static const struct {
        enum reg addr;
        unsigned value;
        const char *text; /* NULL: none */
    } rows[] = {
        {REG_STAGE,             STAGE_CONFIRMED,      "confirmed by the charger"       },
        {REG_STAGE,             STAGE_OVERRIDDEN + 1, NULL                             },
        {REG_BINDING,           BINDING_OFFLINE,      "offline"                        },
        {REG_CONNECTION,        CONNECTION_BLOCKED,   "blocked"                        },
        {REG_IEC_STATE,         'C',                  "charging"                       },
        {REG_NO_CURRENT_REASON, 52,                   "dynamic charger current too low"},
        {REG_RESULT,            ERR_THROTTLED,        "too many requests (429)"        },
        {REG_RESULT,            9999,                 NULL                             },
        {REG_POWER,             0,                    NULL                             },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *text = word_text(row(rows[i].addr), rows[i].value);

        print_message("%s = %u\n", row(rows[i].addr)->name, rows[i].value);
        if (rows[i].text == NULL)
            assert_null(text);
        else
            assert_string_equal(text, rows[i].text);
    }
}

/* Each register's words stand together, ascend, and fit what it can hold; a word that
 * could be written is a value that may be. */
static void table_is_sound(void **state)
{
    size_t count, rows, total = 0;
    const struct reg_row *all = regmap_rows(&rows);

    (void)state;
    for (size_t i = 0; i < rows; i++) {
        const struct word *w = words_of(&all[i], &count);

        total += count;
        for (size_t k = 0; k < count; k++) {
            print_message("%s %u %s\n", all[i].name, w[k].value, w[k].text);
            assert_int_equal(w[k].addr, all[i].addr);
            assert_true(k == 0 || w[k].value > w[k - 1].value);
            assert_true(w[k].text[0] != '\0' && strchr(w[k].text, '"') == NULL);
            assert_true(w[k].value <
                        (word_is_bits(&all[i]) ? 16 * all[i].words : NA_U16));
            if (all[i].access != REG_RO)
                assert_true(w[k].value >= all[i].range.low &&
                            w[k].value <= all[i].range.high &&
                            !(w[k].value >= all[i].range.hole_low &&
                              w[k].value <= all[i].range.hole_high));
        }
    }
#define WORD(name, value, text) total--;
#include "evecc/words.def"
#undef WORD
#define ERR(name, code, text, remedy) total--;
#include "evecc/errors.def"
#undef ERR
    assert_int_equal(total, 0);
}

/* The enumerations of charger.h, to the last. */
static void nothing_forgotten(void **state)
{
    (void)state;
    for (unsigned v = STAGE_NONE; v <= STAGE_OVERRIDDEN; v++)
        assert_non_null(word_text(row(REG_STAGE), v));
    for (unsigned v = BINDING_NONE; v <= BINDING_OFFLINE; v++)
        assert_non_null(word_text(row(REG_BINDING), v));
    for (unsigned v = CONNECTION_NONE; v <= CONNECTION_BLOCKED; v++)
        assert_non_null(word_text(row(REG_CONNECTION), v));
    for (unsigned bit = 0; 1u << bit <= FAULT_CONFIGURATION; bit++)
        assert_non_null(word_text(row(REG_FAULTS), bit));
    for (unsigned bit = 0; 1u << bit <= CAPABILITY_AUTHORISATION; bit++)
        assert_non_null(word_text(row(REG_CAPABILITIES), bit));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_words),
        cmocka_unit_test(table_is_sound),
        cmocka_unit_test(nothing_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
