/* SPDX-License-Identifier: MIT
 * evecc limits: all currents that bound a circuit and its charger.  Those without
 * "dynamic" in their name are kept in the charger's flash, which wears (easee-api 9). */
#include "site.h"

#include <string.h>
#include <unistd.h>

enum { AMPS_MAX = 80 };

/* What can be set.  Lower limits that protect come first. */
struct knob {
    enum flag flag;
    const char *name, *json;
    enum easee_knob knob;
    bool of_charger, flash;
};

static const struct knob knobs[] = {
    {FLAG_dynamic_circuit, "circuit, dynamic", "dynamic_circuit", EASEE_DYNAMIC, false,
     false                                                                                  },
    {FLAG_max_circuit,     "circuit, maximum", "max_circuit",     EASEE_MAX,     false, true},
    {FLAG_offline_circuit, "circuit, offline", "offline_circuit", EASEE_OFFLINE, false,
     true                                                                                   },
    {FLAG_dynamic_charger, "charger, dynamic", "dynamic_charger", EASEE_DYNAMIC, true,
     false                                                                                  },
    {FLAG_max_charger,     "charger, maximum", "max_charger",     EASEE_MAX,     true,  true},
};
enum { KNOBS = sizeof knobs / sizeof knobs[0] };

struct wishes {
    struct amps amps[KNOBS];
    bool given[KNOBS];
    unsigned count, flash;
};

/* What is reported now, deciamps; one value for a charger. */
static void reported(const struct site *s, const struct knob *k, uint16_t ret[PHASES])
{
    for (unsigned i = 0; i < PHASES; i++)
        ret[i] = !k->of_charger             ? s->settings.current_da[k->knob][i]
                 : k->knob == EASEE_DYNAMIC ? s->charger.dynamic_da
                                            : s->max_charger_da;
}

static bool reached(const struct site *s, const struct knob *k, struct amps wanted)
{
    uint16_t now[PHASES];

    reported(s, k, now);
    for (unsigned i = 0; i < (k->of_charger ? 1u : PHASES); i++)
        if (now[i] != wanted.l[i] * 10)
            return false;
    return true;
}

/* ---- the command line ---- */

/* "16" or "16,16,16", whole amps. */
static bool parse_amps(const char *text, bool one, struct amps *ret)
{
    unsigned count = 0;

    while (count < PHASES) {
        char word[8];
        size_t len = strcspn(text, ",");
        uint64_t n;

        if (len >= sizeof word)
            return false;
        memcpy(word, text, len);
        word[len] = '\0';
        if (!parse_number(word, 0, AMPS_MAX, &n))
            return false;
        ret->l[count++] = (uint8_t)n;
        text += len;
        if (*text++ == '\0')
            break;
        if (count == PHASES)
            return false;
    }
    if (count == 1)
        ret->l[1] = ret->l[2] = ret->l[0];
    return count == 1 || (count == PHASES && !one);
}

static enum exit_code parse(const struct cli *cli, struct wishes *ret)
{
    *ret = (struct wishes){0};
    for (size_t i = 0; i < KNOBS; i++) {
        const char *text = cli->flag[knobs[i].flag],
                   *name = cli_flags()[knobs[i].flag].name;

        if (text == NULL)
            continue;
        if (!parse_amps(text, knobs[i].of_charger, &ret->amps[i]))
            return fail(cli, EXIT_USAGE, NULL, "--%s %s: allowed: 0 to %d A, whole%s",
                        name, text, AMPS_MAX,
                        knobs[i].of_charger ? ""
                                            : ", one for all phases or three: 16,16,0");
        if (knobs[i].flash && cli->flag[FLAG_flash] == NULL)
            return fail(cli, EXIT_REFUSED,
                        "It is written to the charger's flash, which wears: for "
                        "commissioning, never for control. Add --flash if that is meant.",
                        "--%s needs --flash", name);
        ret->given[i] = true;
        ret->count++;
        ret->flash += knobs[i].flash;
    }
    return EXIT_OK;
}

/* Nothing above the fuse, whoever knows of it. */
static enum exit_code check_fuse(const struct cli *cli, const struct site *s,
                                 const struct wishes *w)
{
    unsigned fuse = s->where.rated_da == NA_U16 ? 0 : s->where.rated_da / 10u;

    if (s->configured && (fuse == 0 || s->cfg.max_current < fuse))
        fuse = s->cfg.max_current;
    for (size_t i = 0; i < KNOBS && fuse > 0; i++)
        for (unsigned p = 0; w->given[i] && p < PHASES; p++)
            if (w->amps[i].l[p] > fuse)
                return fail(
                    cli, EXIT_REFUSED,
                    "The fuse is the circuit's rated current in the Easee portal, "
                    "or max_current of the configuration.",
                    "--%s %u A is above the fuse of %u A",
                    cli_flags()[knobs[i].flag].name, w->amps[i].l[p], fuse);
    return EXIT_OK;
}

/* Whoever writes to flash says so in as many words. */
static enum exit_code confirm_flash(const struct cli *cli, const struct site *s,
                                    const struct wishes *w)
{
    char answer[16] = "";

    if (w->flash == 0 || cli->flag[FLAG_yes] != NULL)
        return EXIT_OK;
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return fail(cli, EXIT_REFUSED, "Add --yes when nobody is there to answer.",
                    "a write to flash needs a confirmation");
    fprintf(
        stderr,
        "This writes %u setting%s to the flash memory of charger %s. It survives "
        "restarts,\nand flash wears with each write: it is made for commissioning, not "
        "for control.\n",
        w->flash, w->flash == 1 ? "" : "s", s->where.serial[0]);
    for (size_t i = 0; i < KNOBS; i++)
        if (w->given[i] && knobs[i].flash)
            fprintf(stderr, "  %-17s %u / %u / %u A\n", knobs[i].name, w->amps[i].l[0],
                    w->amps[i].l[1], w->amps[i].l[2]);
    fprintf(stderr, "Type yes to go on: ");
    if (fgets(answer, sizeof answer, stdin) != NULL && strcmp(answer, "yes\n") == 0)
        return EXIT_OK;
    return fail(cli, EXIT_REFUSED, NULL, "not confirmed, nothing was written");
}

/* ---- doing it ---- */

static enum exit_code read_all(struct cloud *c, struct site *s)
{
    enum err err = site_read(c, s);

    if (err != ERR_OK)
        return cloud_fail(c, err, "reading the circuit's settings");
    err = site_observe(c, s);
    return err == ERR_OK || s->where.chargers == 0
               ? EXIT_OK
               : cloud_fail(c, err, "reading the charger's limits");
}

static enum exit_code write_all(struct cloud *c, struct site *s, const struct wishes *w)
{
    for (size_t i = 0; i < KNOBS; i++) {
        enum err err = ERR_OK;

        if (!w->given[i] || reached(s, &knobs[i], w->amps[i]))
            continue; /* an unchanged value would only wear */
        if (knobs[i].of_charger && s->where.chargers == 0)
            return fail(c->cli, EXIT_NOT_FOUND, NULL, "no charger on this circuit");
        if (knobs[i].of_charger)
            err = site_set_charger(c, s, knobs[i].knob, w->amps[i].l[0]);
        else
            err = site_set(c, s, knobs[i].knob, w->amps[i]);
        if (err != ERR_OK)
            return cloud_fail(c, err, "setting %s", knobs[i].name);
    }
    return EXIT_OK;
}

static bool all_reached(const struct site *s, const void *arg)
{
    const struct wishes *w = arg;

    for (size_t i = 0; i < KNOBS; i++)
        if (w->given[i] && !reached(s, &knobs[i], w->amps[i]))
            return false;
    return true;
}

static enum exit_code confirm(struct cloud *c, struct site *s, const struct wishes *w)
{
    enum err err = site_confirm(c, s, s->where.chargers > 0, all_reached, w);

    if (cloud_interrupted())
        return fail(c->cli, EXIT_FAILED, "`evecc limits` shows what became of it.",
                    "interrupted: sent, not yet confirmed");
    if (err == ERR_OK)
        return EXIT_OK;
    return cloud_fail(c, err,
                      err == ERR_NOT_CONFIRMED ? "sent" : "sent; reading it back");
}

static const char *one_text(uint16_t da, char buf[static 48])
{
    if (da == NA_U16)
        return "-";
    snprintf(buf, 48, "%g A", da / 10.0);
    return buf;
}

static enum exit_code print_limits(const struct cli *cli, const struct site *s)
{
    cJSON *root = cli->json ? cJSON_CreateObject() : NULL;
    uint16_t da[PHASES];
    char buf[48];

    if (cli->json)
        site_head_json(s, root);
    else
        site_print_head(s);
    for (size_t i = 0; i < KNOBS; i++) {
        reported(s, &knobs[i], da);
        if (cli->json && knobs[i].of_charger)
            cJSON_AddItemToObject(root, knobs[i].json,
                                  da[0] == NA_U16 ? cJSON_CreateNull()
                                                  : cJSON_CreateNumber(da[0] / 10.0));
        else if (cli->json)
            cJSON_AddItemToObject(root, knobs[i].json, site_amps_json(da));
        else
            printf("%-18s %-20s %s\n", knobs[i].name,
                   knobs[i].of_charger ? one_text(da[0], buf) : site_amps_text(da, buf),
                   knobs[i].flash ? "flash" : "volatile");
    }
    return cli->json ? print_json(root) : EXIT_OK;
}

enum exit_code run_limits(struct cli *cli)
{
    struct wishes w;
    struct cloud c;
    struct site s;
    enum exit_code status = parse(cli, &w);

    if (status != EXIT_OK)
        return status;
    status = cloud_start(cli, &c);
    if (status == EXIT_OK)
        status = site_find(&c, &s);
    if (status == EXIT_OK)
        status = check_fuse(cli, &s, &w);
    if (status == EXIT_OK)
        status = read_all(&c, &s);
    if (status == EXIT_OK)
        status = confirm_flash(cli, &s, &w);
    if (status == EXIT_OK)
        status = write_all(&c, &s, &w);
    if (status == EXIT_OK)
        status = confirm(&c, &s, &w);
    if (status == EXIT_OK)
        status = print_limits(cli, &s);
    cloud_close(&c);
    return status;
}
