/* SPDX-License-Identifier: MIT
 * evecc discover: what the account has, and the sections of a configuration for it. */
#include "site.h"

#include "evecc/log.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

enum { FOUND_MAX = 64, OBSERVED_MAX = 20 };

struct found {
    struct site site;
    bool observed;
};

static const char *grid_text(uint16_t grid)
{
    switch (grid) {
    case 1:
    case 2:
    case 3:
        return "TN";
    case 4:
    case 5:
        return "IT";
    case 0:
    case NA_U16:
        return "grid not detected";
    default:
        return "grid with a warning";
    }
}

/* Lists the circuits and asks each master for its grid type. */
static enum exit_code collect(struct cloud *c, struct found *ret, size_t *ret_count)
{
    static struct easee_circuit all[FOUND_MAX];
    enum err err = site_list(c, all, FOUND_MAX, ret_count);

    if (err != ERR_OK)
        return cloud_fail(c, err, "listing the circuits of the account");
    for (size_t i = 0; i < *ret_count; i++) {
        struct found *f = &ret[i];

        f->site.where = all[i];
        f->site.cfg.phases = PHASES;
        charger_init(&f->site.charger);
        if (all[i].chargers == 0 || i >= OBSERVED_MAX)
            continue;
        err = site_observe(c, &f->site);
        f->observed = err == ERR_OK;
        if (cloud_interrupted() || err == ERR_BLOCKED || err == ERR_THROTTLED)
            return cloud_fail(c, err, "asking charger %s", all[i].serial[0]);
    }
    if (*ret_count > OBSERVED_MAX)
        warn("only the first %d circuits were asked for their grid type", OBSERVED_MAX);
    return EXIT_OK;
}

/* ---- for people ---- */

static const char *amps(uint16_t da, char buf[static 16])
{
    if (da == NA_U16)
        return "unknown";
    snprintf(buf, 16, "%g A", da / 10.0);
    return buf;
}

static const char *single_phase(const struct found *f)
{
    if (site_may_switch(&f->site))
        return "possible";
    if (!f->site.where.alone)
        return "no, several chargers or none on the circuit";
    return f->observed ? "no, not a TN grid"
                       : "unknown, the charger has not told its grid";
}

static void print_found(const struct found *all, size_t count)
{
    int64_t site = -1;

    for (size_t i = 0; i < count; i++) {
        const struct easee_circuit *w = &all[i].site.where;
        char name[48], buf[16];

        if (w->site_id != site) {
            printf("%s%sSite %s%s  %s, id %" PRId64 ", main fuse %s%s\n",
                   i > 0 ? "\n" : "", paint(STYLE_STRONG), w->site_key,
                   paint(STYLE_PLAIN), log_safe(w->site_name, name, sizeof name),
                   w->site_id, amps(w->site_rated_da, buf),
                   w->equalizer ? ", with an Equalizer" : "");
            site = w->site_id;
        }
        printf("  circuit %" PRId64 "  id %" PRId64
               ", fuse %s, %s; one phase alone: %s\n",
               w->panel_id, w->circuit_id, amps(w->rated_da, buf),
               grid_text(all[i].site.charger.grid_type), single_phase(&all[i]));
        for (unsigned k = 0; k < w->chargers; k++)
            printf("    charger %s  %s%s\n", w->serial[k],
                   easee_msg_product(w->product[k]),
                   k == 0 && w->chargers > 1 ? ", master" : "");
        if (w->chargers == 0)
            puts("    no charger");
    }
}

static enum exit_code print_found_json(const struct found *all, size_t count)
{
    cJSON *root = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(root, "circuits");

    for (size_t i = 0; i < count; i++) {
        const struct site *s = &all[i].site;
        cJSON *o = cJSON_CreateObject(), *chargers;

        site_head_json(s, o);
        if (s->where.rated_da != NA_U16)
            cJSON_AddNumberToObject(o, "fuse_a", s->where.rated_da / 10.0);
        if (s->where.site_rated_da != NA_U16)
            cJSON_AddNumberToObject(o, "main_fuse_a", s->where.site_rated_da / 10.0);
        if (s->charger.grid_type != NA_U16)
            cJSON_AddNumberToObject(o, "grid_type", s->charger.grid_type);
        cJSON_AddStringToObject(o, "grid", grid_text(s->charger.grid_type));
        cJSON_AddBoolToObject(o, "alone", s->where.alone);
        cJSON_AddBoolToObject(o, "single_phase", site_may_switch(s));
        cJSON_AddBoolToObject(o, "equalizer", s->where.equalizer);
        if (s->where.chargers > 0)
            cJSON_AddStringToObject(o, "master", s->where.serial[0]);
        chargers = cJSON_AddArrayToObject(o, "models");
        for (unsigned k = 0; k < s->where.chargers; k++)
            cJSON_AddItemToArray(
                chargers, cJSON_CreateString(easee_msg_product(s->where.product[k])));
        cJSON_AddItemToArray(list, o);
    }
    return print_json(root);
}

/* ---- for the configuration ---- */

/* What letters and digits the name of site W has. */
static void slug(const struct easee_circuit *w, char ret[static 17])
{
    size_t len = 0;

    for (const char *p = w->site_name; *p != '\0' && len < 16; p++)
        if (isascii((unsigned char)*p) && isalnum((unsigned char)*p))
            ret[len++] = (char)tolower((unsigned char)*p);
    ret[len] = '\0';
}

/* A section name that no other circuit gets. */
static void section_name(const struct found *all, size_t count, size_t i,
                         char ret[static CONFIG_NAME_MAX])
{
    const struct easee_circuit *w = &all[i].site.where;
    long long site = w->site_id % 1000000000, circuit = w->circuit_id % 1000000000;
    char mine[17], other[17];
    bool unique = w->panel_id >= 0;

    slug(w, mine);
    for (size_t k = 0; k < count; k++) {
        const struct easee_circuit *o = &all[k].site.where;

        slug(o, other);
        if (o->site_id != w->site_id && strcmp(mine, other) == 0)
            unique = false;
    }
    if (unique && *mine != '\0')
        snprintf(ret, CONFIG_NAME_MAX, "%s-%lld", mine, (long long)w->panel_id % 1000000);
    else
        snprintf(ret, CONFIG_NAME_MAX, "site%lld-%lld", site, circuit);
}

static void print_sections(FILE *to, const struct found *all, size_t count)
{
    unsigned unit = 1;

    for (size_t i = 0; i < count && unit <= 247; i++) {
        const struct easee_circuit *w = &all[i].site.where;
        char name[CONFIG_NAME_MAX], site[48];

        if (w->chargers == 0)
            continue;
        section_name(all, count, i, name);
        fprintf(to, "[circuit %s]\n; %s, %s%s\n", name,
                log_safe(w->site_name, site, sizeof site), w->serial[0],
                w->chargers > 1 ? " and others: one phase alone is not used" : "");
        fprintf(to, "unit = %u\n", unit++);
        if (w->site_key[0] != '\0')
            fprintf(to, "site = %s\n", w->site_key);
        else
            fprintf(to, "site = %" PRId64 "\n", w->site_id);
        fprintf(to,
                w->panel_id >= 0 ? "circuit = %" PRId64 "\n"
                                 : "circuit = id:%" PRId64 "\n",
                w->panel_id >= 0 ? w->panel_id : w->circuit_id);
        if (w->rated_da != NA_U16 && w->rated_da >= 60 && w->rated_da <= 800)
            fprintf(
                to,
                "max_current = %u      ; A, the fuse as the cloud knows it: check it\n\n",
                w->rated_da / 10u);
        else
            fprintf(
                to,
                "max_current = 6      ; A: the cloud does not know the fuse, set it\n\n");
    }
}

static enum exit_code write_sections(const struct cli *cli, const struct found *all,
                                     size_t count)
{
    const char *path = cli->flag[FLAG_write];
    FILE *f;
    int fd;

    if (path == NULL || strcmp(path, "-") == 0) {
        printf("\n");
        print_sections(stdout, all, count);
        return EXIT_OK;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (f == NULL)
        return fail(cli, errno == EACCES ? EXIT_CONFIG : EXIT_FAILED,
                    errno == EEXIST ? "Nothing is overwritten: choose another name, or "
                                      "remove it."
                                    : "Choose a place where you may write.",
                    "%s: %s", path, strerror(errno));
    print_sections(f, all, count);
    if (fclose(f) != 0)
        return fail(cli, EXIT_FAILED, NULL, "%s: %s", path, strerror(errno));
    if (!cli->json)
        printf("\n%s: %zu circuits written\n", path, count);
    return EXIT_OK;
}

enum exit_code run_discover(struct cli *cli)
{
    static struct found all[FOUND_MAX];
    struct cloud c;
    size_t count = 0;
    enum exit_code status = cloud_start(cli, &c);

    if (status == EXIT_OK)
        status = collect(&c, all, &count);
    if (status == EXIT_OK && count == 0)
        status = fail(cli, EXIT_NOT_FOUND,
                      "Add the charger to the account in the Easee app, or ask its owner "
                      "for access.",
                      "the account %s has no circuit", c.cfg.easee.username);
    if (status == EXIT_OK && cli->json)
        status = print_found_json(all, count);
    else if (status == EXIT_OK)
        print_found(all, count);
    if (status == EXIT_OK && (!cli->json || cli->flag[FLAG_write] != NULL))
        status = write_sections(cli, all, count);
    cloud_close(&c);
    return status;
}
