/* SPDX-License-Identifier: MIT
 * evecc read, evecc write: single registers, with units. */
#include "link.h"
#include "values.h"

#include "evecc/words.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

enum {
    PAIRS_MAX = 32,
    WAIT_S = 90, /* longer than a phase pause */
    POLL_NS = 250000000,
    FRAME_MAX = REGMAP_CONTROL_COUNT
};

static enum exit_code unknown_register(const struct cli *cli, const char *name)
{
    return fail(cli, EXIT_NOT_FOUND, "`evecc registers` names all of them.",
                "no register %s", name);
}

static bool as_raw(const struct cli *cli, const struct value *v)
{
    return cli->flag[FLAG_raw] != NULL && v->row->type != REG_TEXT;
}

static void print_value(const struct cli *cli, const struct value *v)
{
    char name[64], text[VALUE_TEXT_MAX];

    printf("%-22s ", value_name(v->row, name));
    if (as_raw(cli, v))
        printf("%" PRIu64 "\n", v->raw);
    else
        puts(value_text(v, text));
}

enum exit_code run_read(struct cli *cli)
{
    uint16_t image[REGMAP_COUNT];
    cJSON *root = NULL;
    struct link l;
    enum exit_code status;

    for (unsigned i = 0; i < cli->count; i++)
        if (value_row(cli->args[i]) == NULL)
            return unknown_register(cli, cli->args[i]);
    status = link_find(cli, &l);
    if (status == EXIT_OK)
        status = link_open(cli, &l);
    if (status != EXIT_OK)
        return status;
    status = link_read(cli, &l, image);
    link_close(&l);
    if (status != EXIT_OK)
        return status;
    if (cli->json)
        root = cJSON_CreateObject();
    for (unsigned i = 0; i < cli->count; i++) {
        struct value v = value_of(value_row(cli->args[i]), image);
        char name[64];

        if (!cli->json)
            print_value(cli, &v);
        else if (as_raw(cli, &v))
            cJSON_AddNumberToObject(root, value_name(v.row, name), (double)v.raw);
        else
            cJSON_AddItemToObject(root, value_name(v.row, name), value_json(&v));
    }
    return cli->json ? print_json(root) : EXIT_OK;
}

/* ---- write ---- */

struct pair {
    const struct reg_row *row;
    uint64_t value;
};

/* Parses the pairs of the command line and sorts them by address. */
static enum exit_code take_pairs(const struct cli *cli, struct pair *ret,
                                 unsigned *ret_count)
{
    char may_be[VALUE_TEXT_MAX], name[64];
    unsigned i = 0;

    for (; i < cli->count / 2; i++) {
        const char *text = cli->args[2 * i + 1], *wrong;
        struct pair p = {.row = value_row(cli->args[2 * i])};
        unsigned at = i;

        if (p.row == NULL)
            return unknown_register(cli, cli->args[2 * i]);
        if (p.row->access == REG_RO)
            return fail(cli, EXIT_USAGE, "`evecc registers` shows which can be written.",
                        "%s can only be read", value_name(p.row, name));
        wrong = value_parse(p.row, text, cli->flag[FLAG_raw] != NULL, &p.value, may_be);
        if (wrong != NULL)
            return fail(cli, EXIT_USAGE, NULL, "%s %s: allowed: %s",
                        value_name(p.row, name), text, wrong);
        for (; at > 0 && ret[at - 1].row->addr > p.row->addr; at--)
            ret[at] = ret[at - 1];
        if (at > 0 && ret[at - 1].row == p.row)
            return fail(cli, EXIT_USAGE, NULL, "%s is given twice",
                        value_name(p.row, name));
        ret[at] = p;
    }
    *ret_count = i;
    return EXIT_OK;
}

/* A register of which a write makes a new wish. */
static bool is_of_wish(const struct reg_row *row)
{
    return (row->addr >= REG_ENABLE && row->addr <= REG_PHASE_MODE) ||
           row->addr == REG_POWER_LIMIT_SHORT;
}

static void put_words(uint16_t *at, unsigned words, uint64_t value)
{
    while (words-- > 0)
        *at++ = (uint16_t)(value >> (16 * words));
}

/* 7202 counts where a frame has both, so 7217 given alone has to be in it as well. */
static void mirror_power(uint16_t *frame, unsigned first, const struct pair *pairs,
                         unsigned count)
{
    const struct pair *last = &pairs[count - 1];

    if (last->row->addr != REG_POWER_LIMIT_SHORT || first > REG_POWER_LIMIT)
        return;
    for (unsigned i = 0; i < count; i++)
        if (pairs[i].row->addr == REG_POWER_LIMIT)
            return;
    put_words(frame + REG_POWER_LIMIT - first, 2,
              last->value == NA_U16 ? NA_U32 : last->value);
}

/* Writes the pairs in one frame.  What lies between them is written as it was read: an
 * action reads 0, which is none, and everything else stays what it is. */
static enum exit_code write_frame(const struct cli *cli, struct link *l,
                                  const struct pair *pairs, unsigned count)
{
    const struct reg_row *last = pairs[count - 1].row;
    unsigned first = pairs[0].row->addr, size = last->addr + last->words - first,
             given = 0;
    uint16_t frame[FRAME_MAX];
    enum exit_code status = EXIT_OK;

    for (unsigned i = 0; i < count; i++)
        given += pairs[i].row->words;
    if (given < size)
        status = link_read_some(cli, l, (uint16_t)first, frame, size);
    if (status != EXIT_OK)
        return status;
    for (unsigned i = 0; i < count; i++)
        put_words(frame + pairs[i].row->addr - first, pairs[i].row->words,
                  pairs[i].value);
    mirror_power(frame, first, pairs, count);
    return link_write(cli, l, (uint16_t)first, frame, size);
}

/* One frame, one wish.  Without anything of a wish among the pairs none may come of it,
 * which would arm a tripped watchdog again: then the sequence goes by itself, and last.
 */
static enum exit_code write_pairs(const struct cli *cli, struct link *l,
                                  const struct pair *pairs, unsigned count)
{
    enum exit_code status;
    bool wish = false;

    for (unsigned i = 0; i < count; i++)
        wish = wish || is_of_wish(pairs[i].row);
    if (wish || count == 1 || pairs[0].row->addr != REG_SEQUENCE)
        return write_frame(cli, l, pairs, count);
    status = write_frame(cli, l, pairs + 1, count - 1);
    if (status != EXIT_OK)
        return status;
    status = write_frame(cli, l, pairs, 1);
    if (status != EXIT_OK)
        warn("all but the sequence was accepted");
    return status;
}

static uint64_t raw_of(const uint16_t *image, enum reg addr)
{
    return value_of(regmap_row((uint16_t)addr), image).raw;
}

/* Until the newest wish is confirmed, or will not be. */
static enum exit_code wait_confirmed(const struct cli *cli, struct link *l,
                                     uint16_t *image)
{
    const struct timespec pause = {.tv_nsec = POLL_NS};
    enum exit_code status = EXIT_OK;
    uint64_t stage = STAGE_NONE;

    progress_begin("waiting for the charger");
    for (unsigned polls = 0; polls < WAIT_S * 4 && status == EXIT_OK; polls++) {
        if (stage >= STAGE_CONFIRMED)
            break;
        nanosleep(&pause, NULL);
        status = link_read(cli, l, image);
        stage = status == EXIT_OK ? raw_of(image, REG_STAGE) : stage;
    }
    progress_end();
    if (status != EXIT_OK || stage == STAGE_CONFIRMED || stage == STAGE_EFFECTIVE)
        return status;
    return fail(cli, EXIT_REFUSED,
                err_remedy((enum err)(int16_t)raw_of(image, REG_RESULT)),
                "written, but not confirmed; stage: %s; result: %s",
                word_text(regmap_row(REG_STAGE), stage),
                err_text((enum err)(int16_t)raw_of(image, REG_RESULT)));
}

static void print_written(const struct cli *cli, const uint16_t *image,
                          const struct pair *pairs, unsigned count)
{
    cJSON *root = cli->json ? cJSON_CreateObject() : NULL;
    struct value stage = value_of(regmap_row(REG_STAGE), image);
    char name[64], text[VALUE_TEXT_MAX];

    for (unsigned i = 0; i < count; i++) {
        struct value v = value_of(pairs[i].row, image);

        if (cli->json)
            cJSON_AddItemToObject(root, value_name(v.row, name), value_json(&v));
        else
            print_value(cli, &v);
    }
    if (cli->json) {
        cJSON_AddItemToObject(root, "stage", value_json(&stage));
        print_json(root);
        return;
    }
    printf("%-22s %s\n", "stage", value_text(&stage, text));
    if (raw_of(image, REG_WATCHDOG_STATE) == 1)
        printf("%-22s without another write the fallback begins in %" PRIu64 " s\n",
               "watchdog", raw_of(image, REG_WATCHDOG_LEFT));
}

enum exit_code run_write(struct cli *cli)
{
    struct pair pairs[PAIRS_MAX];
    unsigned count = 0;
    uint16_t image[REGMAP_COUNT];
    struct link l;
    enum exit_code status;

    if (cli->count % 2 != 0)
        return fail(cli, EXIT_USAGE, "Its help has examples.", "%s has no value",
                    cli->args[cli->count - 1]);
    status = take_pairs(cli, pairs, &count);
    if (status == EXIT_OK)
        status = link_find(cli, &l);
    if (status == EXIT_OK)
        status = link_open(cli, &l);
    if (status != EXIT_OK)
        return status;
    status = write_pairs(cli, &l, pairs, count);
    if (status == EXIT_OK)
        status = link_read(cli, &l, image);
    if (status == EXIT_OK && cli->flag[FLAG_wait] != NULL)
        status = wait_confirmed(cli, &l, image);
    if (status == EXIT_OK)
        print_written(cli, image, pairs, count);
    link_close(&l);
    return status;
}
