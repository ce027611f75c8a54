/* SPDX-License-Identifier: MIT
 * evecc registers: the register map from its table, as a table for a terminal, Markdown
 * for people, CSV for SCADA, JSON for programs.  doc/registers.* come from here. */
#include "values.h"

#include "../csv.h"
#include "cli.h"
#include "evecc/words.h"

#include <string.h>

enum { MEANING_MAX = 1024, WORDS_INLINE = 20 };

struct block {
    unsigned first, last;
    const char *title, *text;
};

static const struct block blocks[] = {
    {7000, 7059, "Identity",
     "Read-only, constant while the gateway runs. Texts of the charger are empty until "
     "the\n"
     "cloud has told them.\n"                                     },
    {7100, 7159, "Status",
     "Read-only: what a control loop needs, in one read. `0` is a measured zero; look at "
     "the\n"
     "ages to see how good a value is.\n"                         },
    {7200, 7239, "Control",
     "Read and write; reads back what was written. A **wish** exists from the first "
     "accepted\n"
     "write to 7201-7208 or 7217 on. Until then the gateway sends nothing to the cloud:\n"
     "starting it never changes a charger. Each write to these registers is a new wish, "
     "also\n"
     "when it repeats the values; 7200 written by itself only gives the newest wish "
     "another\n"
     "number. Settings that are not part of the wish (7209-7213, 7215) hold from the "
     "write on.\n"                                                },
    {7300, 7359, "Acknowledgement",
     "Read-only: how far the newest wish has come. 7300 is right in the very next read "
     "after\n"
     "a write; the stage never speaks of an older wish. *Requested* is what the client "
     "asked\n"
     "for, *target* what the configuration, whole amps and phase rules make of it, "
     "*sent* what\n"
     "left for the cloud, *confirmed* what the charger reports.\n"},
    {7400, 7459, "Diagnostics",
     "Read-only, counted since the gateway started. Counters wrap from FFFFFFFFh to "
     "0.\n"                                                       },
};

static const char conventions[] =
    "## Conventions\n"
    "\n"
    "- **Addresses** are decimal and 0-based, as in the frame (PDU addresses). Tools "
    "that count\n"
    "  from 1 need one more; as a holding register in the old notation 7000 is 407001.\n"
    "- **Window:** 7000 to 7499, the same in every unit. Functions 3 and 4 read the same "
    "image,\n"
    "  1 to 125 registers. Functions 6, 16 (1 to 123), 22 and 23 (1 to 121) write the "
    "control block.\n"
    "  Function 43/14 tells who the gateway is.\n"
    "- **Big-endian, high word first.** 7400 W in 7202 (u32) is 0000h 1CE8h. Fixed "
    "decimal scale,\n"
    "  no floats, no scale-factor registers: 160 in a register of 0.1 A is 16.0 A.\n"
    "- **Types:** u16 and i16 take one register, u32 two, u64 four. A text has two "
    "ASCII\n"
    "  characters per register, the first in the high byte, filled up with zeros.\n"
    "- **Not available:** u16 FFFFh, i16 8000h, u32 FFFFFFFFh, u64 all ones, a text "
    "whose first\n"
    "  byte is 0. 0 is a measured zero.\n"
    "- **No opinion** in a setpoint (\"none\" below): FFFFh or FFFFFFFFh. The lowest of "
    "all limits\n"
    "  that are not \"none\" counts.\n"
    "- **Reserved** registers and those between the blocks read as not available "
    "(FFFFh); a\n"
    "  write to them is accepted and ignored.\n"
    "- **A write is one wish.** It is checked whole, then applied whole, or refused "
    "without any\n"
    "  effect. A u32 is written with both registers in one frame; half of it is "
    "refused.\n"
    "- **Above the configured maximum** is legal: it is accepted, reads back as written, "
    "and is\n"
    "  clipped; 7322 says so.\n"
    "- **7202 and 7217** are one limit. Writing one changes the other; when a frame "
    "carries both,\n"
    "  7202 counts. More than 65534 W reads 65534 in 7217.\n"
    "- **Watchdog:** every accepted write to 7200-7239 feeds it, from whichever client; "
    "reads never\n"
    "  do. It is armed from the first wish on. After it tripped, only a new wish (or "
    "7216 = 1) ends\n"
    "  the fallback.\n"
    "- **Ages** are in seconds and stop at 65534, which means \"older\"; not available "
    "means never.\n"
    "  Remaining times are rounded up; 0 means none.\n"
    "- **Units:** as configured, one per circuit. 0 and 255 mean the only circuit where "
    "there is\n"
    "  one.\n"
    "- **Reads never wait** and never fail because the cloud is away.\n"
    "\n"
    "| exception | meaning |\n"
    "|---|---|\n"
    "| 1 | function not served, or this client may not write |\n"
    "| 2 | address outside the window, or a read-only register in a write |\n"
    "| 3 | value outside its range, half a u32, a quantity or length the function does "
    "not allow |\n"
    "| 11 | no such unit |\n"
    "\n"
    "4, 5 and 6 are never used. Where a request is wrong in two ways the order is: "
    "function, length\n"
    "and quantity, address, value.\n";

static const char *const types[] = {[REG_U16] = "u16",
                                    [REG_I16] = "i16",
                                    [REG_U32] = "u32",
                                    [REG_U64] = "u64",
                                    [REG_TEXT] = "text"};

/* More words than that would not fit a cell: they have a table of their own. */
static bool words_inline(const struct reg_row *row)
{
    size_t count;

    words_of(row, &count);
    return count > 0 && count <= WORDS_INLINE;
}

/* The meaning with what single values stand for. */
static const char *meaning(const struct reg_row *row, char buf[static MEANING_MAX])
{
    size_t count, len = (size_t)snprintf(buf, MEANING_MAX, "%s", row->meaning);
    const struct word *w = words_of(row, &count);

    for (size_t i = 0; words_inline(row) && i < count && len < MEANING_MAX; i++) {
        const char *before = i == 0 ? ": " : ", ";

        if (row->addr == REG_IEC_STATE)
            len += (size_t)snprintf(buf + len, MEANING_MAX - len, "%s'%c' %s", before,
                                    w[i].value, w[i].text);
        else
            len += (size_t)snprintf(buf + len, MEANING_MAX - len, "%s%u %s", before,
                                    w[i].value, w[i].text);
    }
    return buf;
}

/* What the register holds before anybody writes, asked of the map itself: what differs
 * between two configurations is the configuration's. */
static const char *start_value(const struct reg_row *row)
{
    static char text[16];
    struct regmap one, other;

    regmap_init(&one, &(struct regmap_setup){0});
    regmap_init(&other, &(struct regmap_setup){.watchdog_s = 1,
                                               .fallback_action = 1,
                                               .fallback_da = 1,
                                               .fallback_phases = 1});
    uint16_t v = one.control[row->addr - REGMAP_CONTROL];
    if (v != other.control[row->addr - REGMAP_CONTROL])
        return "configuration";
    if (row->access == REG_RWN && v == NA_U16) /* of a u32 the high word tells */
        return "none";
    snprintf(text, sizeof text, "%u", v);
    return text;
}

/* The highest value of a row whose range says "any". */
static uint32_t high(const struct reg_row *row)
{
    return row->words == 1 && row->range.high > UINT16_MAX ? UINT16_MAX : row->range.high;
}

static void print_hole(const struct reg_row *row, const char *before, const char *between)
{
    const struct reg_range *r = &row->range;

    if (r->hole_low <= r->hole_high)
        printf("%s%u", before, r->hole_low);
    if (r->hole_low < r->hole_high)
        printf("%s%u", between, r->hole_high);
}

static void print_range(const struct reg_row *row)
{
    printf("%u to %u", row->range.low, high(row));
    print_hole(row, " but ", " to ");
    if (row->access == REG_RWN)
        printf(", none");
}

static void print_reserved(const struct block *block, unsigned from, unsigned to)
{
    if (from > to)
        return;
    if (from == to)
        printf("| %u | %Xh", from, from);
    else
        printf("| %u-%u | %Xh-%Xh", from, to, from, to);
    printf(" | *reserved* | | |%s |\n", block->first == REGMAP_CONTROL ? " | |" : "");
}

static void print_row(const struct reg_row *row)
{
    char name[64], text[MEANING_MAX];

    printf("| %u | %Xh | `%s` | %s", row->addr, row->addr, value_name(row, name),
           types[row->type]);
    if (row->type == REG_TEXT)
        printf(" %u", 2u * row->words);
    printf(" | %s | ", row->unit);
    if (row->access != REG_RO) {
        print_range(row);
        printf(" | %s | ", start_value(row));
    }
    printf("%s |\n", meaning(row, text));
}

/* The words of registers that have too many for a cell. */
static void print_words(const struct reg_row *rows, size_t count)
{
    for (const struct reg_row *row = rows; row < rows + count; row++) {
        size_t n;
        const struct word *w = words_of(row, &n);
        char name[64];

        if (row->addr == REG_RESULT || n == 0 || words_inline(row))
            continue;
        printf("\n## Values of %s (%u)\n\n| value | meaning |\n|---|---|\n",
               value_name(row, name), row->addr);
        for (size_t i = 0; i < n; i++)
            printf("| %u | %s |\n", w[i].value, w[i].text);
    }
}

static void print_results(void)
{
    printf(
        "\n## Result codes (7303)\n\n| code | meaning | what to do |\n|---|---|---|\n");
#define ERR(name, code, text, remedy) printf("| %d | %s | %s |\n", code, text, remedy);
#include "evecc/errors.def"
#undef ERR
}

static void print_markdown(const struct reg_row *rows, size_t count)
{
    const struct reg_row *row = rows;

    printf("# Register map, version %d.%d\n\n", REGMAP_MAJOR, REGMAP_MINOR);
    printf("<!-- Made from include/evecc/registers.def and words.def by `make docs`. "
           "-->\n\n");
    printf("Layout hash (7006): %04Xh. For import: [registers.csv](registers.csv).\n\n%s",
           regmap_layout_hash(), conventions);
    for (const struct block *b = blocks; b < blocks + sizeof blocks / sizeof *blocks;
         b++) {
        bool control = b->first == REGMAP_CONTROL;
        unsigned next = b->first;

        printf("\n## %s %u-%u\n\n%s\n", b->title, b->first, b->last, b->text);
        printf("| address | hex | name | type | unit |%s meaning |\n",
               control ? " range | at start |" : "");
        printf("|---|---|---|---|---|%s---|\n", control ? "---|---|" : "");
        for (; row < rows + count && row->addr <= b->last; row++) {
            print_reserved(b, next, row->addr - 1u);
            print_row(row);
            next = (unsigned)row->addr + row->words;
        }
        print_reserved(b, next, b->last);
    }
    print_words(rows, count);
    print_results();
}

static const char *const access_words[] = {
    [REG_RO] = "read", [REG_RW] = "write", [REG_RWN] = "write or none"};

static void print_csv(const struct reg_row *rows, size_t count)
{
    printf("name,address,hex,register,type,words,access,factor,unit,low,high,except,"
           "start,meaning\n");
    for (const struct reg_row *row = rows; row < rows + count; row++) {
        bool tenths = strncmp(row->unit, "0.1 ", 4) == 0;
        char name[64], text[MEANING_MAX];

        printf("%s,%u,0x%04X,%u,%s,%u,%s,%s,%s,", value_name(row, name), row->addr,
               row->addr, 400001u + row->addr, types[row->type], row->words,
               access_words[row->access], tenths ? "0.1" : "1",
               row->unit + (tenths ? 4 : 0));
        if (row->access == REG_RO)
            printf(",,,,");
        else {
            printf("%u,%u,", row->range.low, high(row));
            print_hole(row, "", " to ");
            printf(",%s,", start_value(row));
        }
        csv_field(meaning(row, text));
        putchar('\n');
    }
}

static void print_table(const struct reg_row *rows, size_t count)
{
    const struct block *b = blocks;

    for (const struct reg_row *row = rows; row < rows + count; row++) {
        char name[64], type[16];

        if (row == rows || row->addr > b->last) {
            while (row->addr > b->last)
                b++;
            printf("%s%s%s %u-%u%s\n", row == rows ? "" : "\n", paint(STYLE_STRONG),
                   b->title, b->first, b->last, paint(STYLE_PLAIN));
        }
        snprintf(type, sizeof type, "%s", types[row->type]);
        if (row->type == REG_TEXT)
            snprintf(type, sizeof type, "text %u", 2u * row->words);
        printf("%5u  %-22s %-7s %-3s %-6s %s\n", row->addr, value_name(row, name), type,
               row->access == REG_RO ? "r" : "rw", row->unit, row->meaning);
    }
}

static cJSON *row_json(const struct reg_row *row)
{
    cJSON *o = cJSON_CreateObject(), *words;
    char name[64];
    size_t count;
    const struct word *w = words_of(row, &count);
    unsigned digits;

    cJSON_AddStringToObject(o, "name", value_name(row, name));
    cJSON_AddNumberToObject(o, "address", row->addr);
    cJSON_AddNumberToObject(o, "words", row->words);
    cJSON_AddStringToObject(o, "type", types[row->type]);
    cJSON_AddStringToObject(o, "access", access_words[row->access]);
    cJSON_AddStringToObject(o, "unit", value_unit(row, &digits));
    cJSON_AddNumberToObject(o, "factor", digits > 0 ? 0.1 : 1);
    if (row->access != REG_RO) {
        cJSON_AddNumberToObject(o, "low", row->range.low);
        cJSON_AddNumberToObject(o, "high", high(row));
        cJSON_AddStringToObject(o, "start", start_value(row));
    }
    cJSON_AddStringToObject(o, "meaning", row->meaning);
    if (count == 0)
        return o;
    words = cJSON_AddObjectToObject(o, word_is_bits(row) ? "bits" : "values");
    for (size_t i = 0; i < count; i++) {
        char number[8];

        snprintf(number, sizeof number, "%u", w[i].value);
        cJSON_AddStringToObject(words, number, w[i].text);
    }
    return o;
}

static void print_map_json(const struct reg_row *rows, size_t count)
{
    cJSON *root = cJSON_CreateArray();

    for (const struct reg_row *row = rows; row < rows + count; row++)
        cJSON_AddItemToArray(root, row_json(row));
    print_json(root);
}

enum exit_code run_registers(struct cli *cli)
{
    static const struct {
        const char *name;
        void (*print)(const struct reg_row *rows, size_t count);
    } formats[] = {
        {"table",    print_table   },
        {"csv",      print_csv     },
        {"json",     print_map_json},
        {"markdown", print_markdown}
    };
    const char *format = cli->flag[FLAG_format], *profile = cli->flag[FLAG_profile];
    size_t count;
    const struct reg_row *rows = regmap_rows(&count);

    if (profile != NULL && strcmp(profile, "native") != 0)
        return fail(cli, EXIT_USAGE, NULL, "--profile %s: allowed: native", profile);
    if (cli->json && format != NULL && strcmp(format, "json") != 0)
        return fail(cli, EXIT_USAGE, "Give one of the two.", "--json and --format %s",
                    format);
    if (format == NULL)
        format = cli->json ? "json" : "table";
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(formats[i].name, format) == 0) {
            formats[i].print(rows, count);
            return EXIT_OK;
        }
    return fail(cli, EXIT_USAGE, NULL, "--format %s: allowed: table, csv, json, markdown",
                format);
}
