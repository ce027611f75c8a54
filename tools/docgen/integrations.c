/* SPDX-License-Identifier: MIT
 * integrations: lists for other people's tools, from the table of registers.
 *
 *   integrations st         structured text for CODESYS and TwinCAT
 *   integrations iobroker   CSV for the import of ioBroker.modbus */
#include "../csv.h"
#include "evecc/regmap.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const char *lower(const char *name)
{
    static char text[64];
    size_t n = 0;

    for (; n < sizeof text - 1 && name[n] != '\0'; n++)
        text[n] = (char)tolower((unsigned char)name[n]);
    text[n] = '\0';
    return text;
}

/* "0.1 A" is tenths of "A". */
static bool in_tenths(const struct reg_row *row)
{
    return strncmp(row->unit, "0.1 ", 4) == 0;
}

/* ---- structured text ---- */

struct block {
    const char *name;
    unsigned first;
};

static const struct block blocks[] = {
    {"Identity",        7000},
    {"Status",          7100},
    {"Acknowledgement", 7300},
    {"Diagnostics",     7400}
};

static const char *st_type(const struct reg_row *row)
{
    static const char *const types[] = {
        [REG_U16] = "UINT", [REG_I16] = "INT", [REG_U32] = "UDINT", [REG_U64] = "ULINT"};

    return types[row->type];
}

/* Registers OFFSET and up, high word first, as one value. */
static void print_value(const struct reg_row *row, unsigned offset)
{
    const char *bits = row->words == 2 ? "DWORD" : "LWORD";

    if (row->words == 1) {
        printf("WORD_TO_%s(words[%u])", st_type(row), offset);
        return;
    }
    printf("%s_TO_%s(", bits, st_type(row));
    for (unsigned i = 0; i + 1 < row->words; i++)
        printf("SHL(WORD_TO_%s(words[%u]), %u) OR ", bits, offset + i,
               16 * (row->words - 1 - i));
    printf("WORD_TO_%s(words[%u]))", bits, offset + row->words - 1);
}

static bool is_in(const struct reg_row *row, const struct block *b)
{
    return row->addr >= b->first && row->addr < b->first + 100 && row->type != REG_TEXT;
}

static void print_decoder(const struct block *b, const struct reg_row *rows, size_t count)
{
    unsigned end = b->first;

    for (size_t i = 0; i < count; i++)
        if (is_in(&rows[i], b))
            end = (unsigned)rows[i].addr + rows[i].words;
    printf("\n(* Function 3, address %u, %u registers, into words. *)\n"
           "FUNCTION_BLOCK Evecc%s\nVAR_INPUT\n    words : ARRAY[0..%u] OF WORD;\n"
           "END_VAR\nVAR_OUTPUT\n",
           b->first, end - b->first, b->name, end - b->first - 1);
    for (size_t i = 0; i < count; i++)
        if (is_in(&rows[i], b))
            printf("    %s : %s; (* %u %s%s%s *)\n", lower(rows[i].name),
                   st_type(&rows[i]), rows[i].addr, rows[i].unit,
                   *rows[i].unit ? ": " : "", rows[i].meaning);
    printf("END_VAR\n");
    for (size_t i = 0; i < count; i++)
        if (is_in(&rows[i], b)) {
            printf("%s := ", lower(rows[i].name));
            print_value(&rows[i], rows[i].addr - b->first);
            printf(";\n");
        }
    printf("END_FUNCTION_BLOCK\n");
}

static void print_st(const struct reg_row *rows, size_t count)
{
    printf(
        "(* Made from include/evecc/registers.def by `make docs`: the register map,\n"
        "   version %d.%d, layout %04X. Read a block into an array of words, give it to\n"
        "   its function block. All ones (INT: 16#8000) is \"not available\". *)\n\n"
        "VAR_GLOBAL CONSTANT\n",
        REGMAP_MAJOR, REGMAP_MINOR, regmap_layout_hash());
    for (size_t i = 0; i < count; i++)
        printf("    EVECC_%s : UINT := %u;\n", rows[i].name, rows[i].addr);
    printf("END_VAR\n");
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        print_decoder(&blocks[i], rows, count);
    printf(
        "\n(* Function 16, address %d, %d registers, from words: one setpoint. Write it\n"
        "   when it changes, and at least every third of the watchdog's time. *)\n"
        "FUNCTION_BLOCK EveccSetpoint\n"
        "VAR_INPUT\n"
        "    sequence : UINT; (* your own number, comes back in %d and %d; 0 not used "
        "*)\n"
        "    enable : BOOL := TRUE;\n"
        "    power_limit : UDINT := 16#FFFFFFFF; (* W; all ones: no limit *)\n"
        "    current_limit : UINT := 16#FFFF; (* 0.1 A; all ones: no limit *)\n"
        "    phase_mode : UINT; (* 0 auto, 1 single, 3 three *)\n"
        "END_VAR\n"
        "VAR_OUTPUT\n"
        "    words : ARRAY[0..%d] OF WORD;\n"
        "END_VAR\n"
        "words[0] := UINT_TO_WORD(sequence);\n"
        "words[1] := BOOL_TO_WORD(enable);\n"
        "words[2] := DWORD_TO_WORD(SHR(UDINT_TO_DWORD(power_limit), 16));\n"
        "words[3] := DWORD_TO_WORD(UDINT_TO_DWORD(power_limit) AND 16#FFFF);\n"
        "words[4] := UINT_TO_WORD(current_limit);\n"
        "words[5] := 16#FFFF;\n"
        "words[6] := 16#FFFF;\n"
        "words[7] := 16#FFFF;\n"
        "words[8] := UINT_TO_WORD(phase_mode);\n"
        "END_FUNCTION_BLOCK\n",
        REG_SEQUENCE, REG_PHASE_MODE - REG_SEQUENCE + 1, REG_ACCEPTED_SEQUENCE,
        REG_CONFIRMED_SEQUENCE, REG_PHASE_MODE - REG_SEQUENCE);
}

/* ---- ioBroker ---- */

/* What changes while the gateway runs is polled. */
static void print_iobroker(const struct reg_row *rows, size_t count)
{
    static const char *const types[] = {[REG_U16] = "uint16be",
                                        [REG_I16] = "int16be",
                                        [REG_U32] = "uint32be",
                                        [REG_U64] = "uint64be",
                                        [REG_TEXT] = "string"};

    printf("_address;name;description;unit;type;len;factor;offset;formula;role;room;poll;"
           "wp;cw;isScale;sanitize;sanitizeAction;minValidValue;maxValidValue\n");
    for (const struct reg_row *row = rows; row < rows + count; row++) {
        bool tenths = in_tenths(row), writable = row->access != REG_RO;

        printf("%u;%s;", row->addr, lower(row->name));
        csv_field(row->meaning);
        printf(";%s;%s;%u;%s;0;;%s;;%s;false;false;false;false;keepLastValid;;\n",
               row->unit + (tenths ? 4 : 0), types[row->type], row->words,
               tenths ? "0.1" : "1", writable ? "level" : "value",
               row->addr >= 7100 ? "true" : "false");
    }
}

int main(int argc, char **argv)
{
    size_t count;
    const struct reg_row *rows = regmap_rows(&count);

    if (argc == 2 && strcmp(argv[1], "st") == 0)
        print_st(rows, count);
    else if (argc == 2 && strcmp(argv[1], "iobroker") == 0)
        print_iobroker(rows, count);
    else {
        fprintf(stderr, "usage: %s st|iobroker\n", argv[0]);
        return 2;
    }
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
