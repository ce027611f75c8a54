/* SPDX-License-Identifier: MIT */
#include "values.h"

#include "cli.h"
#include "evecc/words.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char *value_name(const struct reg_row *row, char buf[static 64])
{
    size_t i = 0;

    for (; i < 63 && row->name[i] != '\0'; i++)
        buf[i] = (char)tolower((unsigned char)row->name[i]);
    buf[i] = '\0';
    return buf;
}

static bool same_name(const char *a, const char *b)
{
    for (; *a != '\0' && *b != '\0'; a++, b++)
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b) &&
            !(*a == '_' && *b == '-'))
            return false;
    return *a == *b;
}

const struct reg_row *value_row(const char *name)
{
    size_t count;
    const struct reg_row *rows = regmap_rows(&count);
    uint64_t addr;

    if (parse_number(name, 0, UINT16_MAX, &addr))
        return regmap_row((uint16_t)addr);
    for (size_t i = 0; i < count; i++)
        if (same_name(rows[i].name, name))
            return &rows[i];
    return NULL;
}

const char *value_unit(const struct reg_row *row, unsigned *ret_digits)
{
    bool tenths = strncmp(row->unit, "0.1 ", 4) == 0;

    if (ret_digits != NULL)
        *ret_digits = tenths ? 1 : 0;
    if (word_is_bits(row) || strcmp(row->unit, "ASCII") == 0)
        return "";
    return tenths ? row->unit + 4 : row->unit;
}

static bool is_none(const struct reg_row *row, uint64_t raw)
{
    switch ((enum reg_type)row->type) {
    case REG_U16:
        return raw == NA_U16;
    case REG_I16:
        return (int16_t)raw == NA_I16;
    case REG_U32:
        return raw == NA_U32;
    case REG_U64:
        return raw == NA_U64;
    case REG_TEXT:
        break;
    }
    return false;
}

/* Two characters per register, plain ASCII whatever the other side sent. */
static void take_text(struct value *v, const uint16_t *reg)
{
    size_t len = 0;

    for (size_t i = 0; i < 2u * v->row->words && len < sizeof v->text - 1; i++) {
        uint8_t ch = (uint8_t)(i % 2 == 0 ? reg[i / 2] >> 8 : reg[i / 2] & 0xff);

        if (ch == '\0')
            break;
        v->text[len++] = ch >= ' ' && ch <= '~' ? (char)ch : '?';
    }
    v->text[len] = '\0';
    v->none = len == 0 || reg[0] == NA_U16;
}

struct value value_of(const struct reg_row *row,
                      const uint16_t image[static REGMAP_COUNT])
{
    const uint16_t *reg = &image[row->addr - REGMAP_FIRST];
    struct value v = {.row = row};
    unsigned digits;

    if (row->type == REG_TEXT) {
        take_text(&v, reg);
        return v;
    }
    for (unsigned i = 0; i < row->words; i++)
        v.raw = v.raw << 16 | reg[i];
    v.none = is_none(row, v.raw);
    value_unit(row, &digits);
    v.number = row->type == REG_I16 ? (double)(int16_t)v.raw : (double)v.raw;
    if (digits > 0)
        v.number /= 10;
    return v;
}

static void append(char *buf, size_t size, const char *text)
{
    size_t len = strlen(buf);

    snprintf(buf + len, size - len, "%s%s", len > 0 ? ", " : "", text);
}

/* The names of the bits that are set. */
static void bits_text(const struct value *v, char buf[static VALUE_TEXT_MAX])
{
    buf[0] = '\0';
    for (unsigned bit = 0; bit < 32; bit++) {
        char number[8];
        const char *text = word_text(v->row, bit);

        if ((v->raw >> bit & 1) == 0)
            continue;
        snprintf(number, sizeof number, "bit %u", bit);
        append(buf, VALUE_TEXT_MAX, text != NULL ? text : number);
    }
    if (buf[0] == '\0')
        snprintf(buf, VALUE_TEXT_MAX, "none");
}

const char *value_text(const struct value *v, char buf[static VALUE_TEXT_MAX])
{
    unsigned digits;
    const char *unit = value_unit(v->row, &digits), *word = word_text(v->row, v->raw);

    if (v->none)
        return v->row->access == REG_RWN ? "none" : "-";
    if (v->row->type == REG_TEXT)
        snprintf(buf, VALUE_TEXT_MAX, "%s", v->text);
    else if (word_is_bits(v->row))
        bits_text(v, buf);
    else if (v->row->addr == REG_IEC_STATE && v->raw > ' ' && v->raw <= '~')
        snprintf(buf, VALUE_TEXT_MAX, "%c, %s", (char)v->raw, word != NULL ? word : "?");
    else if (word != NULL)
        snprintf(buf, VALUE_TEXT_MAX, "%" PRIu64 ", %s", v->raw, word);
    else
        snprintf(buf, VALUE_TEXT_MAX, "%.*f%s%s", (int)digits, v->number,
                 *unit != '\0' ? " " : "", unit);
    return buf;
}

cJSON *value_json(const struct value *v)
{
    cJSON *o = cJSON_CreateObject();
    char buf[VALUE_TEXT_MAX];
    const char *unit = value_unit(v->row, NULL);

    cJSON_AddNumberToObject(o, "address", v->row->addr);
    if (v->none)
        cJSON_AddNullToObject(o, "value");
    else if (v->row->type == REG_TEXT)
        cJSON_AddStringToObject(o, "value", v->text);
    else
        cJSON_AddNumberToObject(o, "value", v->number);
    if (*unit != '\0')
        cJSON_AddStringToObject(o, "unit", unit);
    if (v->none)
        return o;
    if (word_is_bits(v->row)) {
        cJSON *list = cJSON_AddArrayToObject(o, "text");

        for (unsigned bit = 0; bit < 32; bit++)
            if ((v->raw >> bit & 1) != 0 && word_text(v->row, bit) != NULL)
                cJSON_AddItemToArray(list, cJSON_CreateString(word_text(v->row, bit)));
    } else if (word_text(v->row, v->raw) != NULL) {
        snprintf(buf, sizeof buf, "%s", word_text(v->row, v->raw));
        cJSON_AddStringToObject(o, "text", buf);
    }
    return o;
}

/* ---- writing ---- */

static uint64_t all_ones(const struct reg_row *row)
{
    return row->words == 1 ? NA_U16 : NA_U32;
}

static uint64_t highest(const struct reg_row *row)
{
    uint64_t all = all_ones(row);

    return row->range.high < all ? row->range.high : all;
}

static bool in_range(const struct reg_row *row, uint64_t raw)
{
    return raw >= row->range.low && raw <= highest(row) &&
           !(raw >= row->range.hole_low && raw <= row->range.hole_high);
}

static const char *allowed(const struct reg_row *row, bool raw,
                           char buf[static VALUE_TEXT_MAX])
{
    size_t count;
    const struct word *words = words_of(row, &count);
    unsigned digits;
    const char *unit = value_unit(row, &digits);
    double scale = digits > 0 && !raw ? 10 : 1;
    char hole[48] = "";

    buf[0] = '\0';
    for (size_t i = 0; i < count && !raw; i++)
        append(buf, VALUE_TEXT_MAX, words[i].text);
    if (count > 0 && !raw)
        return buf;
    if (row->range.hole_low <= row->range.hole_high)
        snprintf(hole, sizeof hole, " but not %g to %g", row->range.hole_low / scale,
                 row->range.hole_high / scale);
    snprintf(buf, VALUE_TEXT_MAX, "%.*f to %.*f%s%s%s%s", raw ? 0 : (int)digits,
             row->range.low / scale, raw ? 0 : (int)digits, (double)highest(row) / scale,
             *unit != '\0' && !raw ? " " : "", raw ? "" : unit, hole,
             row->access == REG_RWN ? ", or none" : "");
    return buf;
}

/* What one of SUFFIX is worth in units of ROW; 0: it is another unit. */
static double factor_of(const struct reg_row *row, const char *suffix)
{
    const char *unit = value_unit(row, NULL);

    suffix += strspn(suffix, " ");
    if (*suffix == '\0' || strcasecmp(suffix, unit) == 0)
        return 1;
    if (strcasecmp(suffix, "kW") == 0 && strcmp(unit, "W") == 0)
        return 1000;
    if (strcasecmp(suffix, "mA") == 0 && strcmp(unit, "A") == 0)
        return 0.001;
    if (strcasecmp(suffix, "min") == 0 && strcmp(unit, "s") == 0)
        return 60;
    return 0;
}

static bool find_word(const struct reg_row *row, const char *text, uint64_t *ret)
{
    size_t count;
    const struct word *words = words_of(row, &count);

    for (size_t i = 0; i < count; i++)
        if (strcasecmp(words[i].text, text) == 0) {
            *ret = words[i].value;
            return true;
        }
    return false;
}

const char *value_parse(const struct reg_row *row, const char *text, bool raw,
                        uint64_t *ret, char buf[static VALUE_TEXT_MAX])
{
    unsigned digits;
    char *end;
    double number, factor;
    uint64_t value;

    if (row->access == REG_RWN && strcasecmp(text, "none") == 0) {
        *ret = all_ones(row);
        return NULL;
    }
    if (raw && !parse_number(text, 0, all_ones(row), &value))
        return allowed(row, raw, buf);
    if (!raw && !find_word(row, text, &value)) {
        /* strtod() also takes what nobody means: hexadecimal, inf, nan. */
        if (text[strspn(text, "0123456789.")] == 'x' || !isdigit((unsigned char)*text))
            return allowed(row, raw, buf);
        value_unit(row, &digits);
        number = strtod(text, &end);
        factor = factor_of(row, end);
        number *= factor * (digits > 0 ? 10 : 1);
        /* Half a step is a mistake rather than a wish to be rounded. */
        if (factor == 0 || number > UINT32_MAX || fabs(number - round(number)) > 1e-6)
            return allowed(row, raw, buf);
        value = (uint64_t)llround(number);
    }
    if (!in_range(row, value) &&
        !(row->access == REG_RWN && value == all_ones(row) && raw))
        return allowed(row, raw, buf);
    *ret = value;
    return NULL;
}
