/* SPDX-License-Identifier: MIT
 * config_parts.h - what the parts of the configuration share; private to them.
 *
 *   config_value.c  the table of options, and from text to value
 *   config_scan.c   the lines of the file, and iniparser
 *   config_judge.c  what the values must be together
 *   config.c        files, errors, the password, the whole */
#ifndef EVECC_CONFIG_PARTS_H
#define EVECC_CONFIG_PARTS_H

#include "evecc/config.h"

#include <iniparser/iniparser.h>
#include <netinet/in.h>
#include <sys/stat.h>

enum {
    SECTIONS_MAX = 2 + CONFIG_LISTENERS_MAX + CONFIG_CIRCUITS_MAX,
    WHY_MAX = 160,
    ALLOWED_MAX = 512,
    SHOWN_MAX = 128
};

enum kind { GATEWAY, EASEE, LISTENER, CIRCUIT, KINDS };

extern const char *const config_kinds[KINDS];

enum option_id {
#define GATEWAY_OPT(key, ...)  GATEWAY_##key,
#define EASEE_OPT(key, ...)    EASEE_##key,
#define LISTENER_OPT(key, ...) LISTENER_##key,
#define CIRCUIT_OPT(key, ...)  CIRCUIT_##key,
#include "evecc/options.def"
    OPTIONS
};

/* One value on its way from the file into its member. */
struct value {
    const struct config_option *option;
    const char *text; /* not empty */
    void *member;
    size_t size;       /* of the member */
    char why[WHY_MAX]; /* it is refused */
};

/* What becomes of the types in options.def. */
struct config_type {
    bool (*convert)(struct value *);
    const char *const *words;
    const char *allowed; /* NULL: the words, or the range */
};

/* Where an option lives and how it gets there. */
struct config_row {
    enum kind kind;
    size_t offset, size;
    const struct config_type *type;
};

/* The tables, by enum option_id. */
extern const struct config_option config_table[OPTIONS];
extern const struct config_row config_rows[OPTIONS];

/* What the value of option O may be; in BUF or static. */
const char *config_allowed(enum option_id o, char buf[static ALLOWED_MAX]);

/* Decimal digits and nothing else.  NULL: *RET is set; otherwise what is wrong. */
const char *config_number(const char *text, uint64_t low, uint64_t high, uint64_t *ret);

/* An IP address; IPv4 becomes ::ffff:a.b.c.d, so that addresses can be compared. */
bool config_address(const char *text, struct in6_addr *ret);

/* TEXT has letters, digits and the characters of MORE only. */
bool config_only(const char *text, const char *more);

/* Appends TEXT to the string in BUF, cut to SIZE. */
void config_append(char *buf, size_t size, const char *text);

struct section {
    enum kind kind;
    char name[CONFIG_NAME_MAX];
    char title[CONFIG_NAME_MAX + 16]; /* "circuit garage" */
    unsigned line;                    /* 0: not in the file */
    unsigned key_line[OPTIONS];       /* 0: not given */
    uint64_t bad;                     /* bits of options not to be relied on */
    void *target;                     /* its part of struct config */
};
_Static_assert(OPTIONS <= 64, "section.bad has a bit per option");

#define BIT(option) (UINT64_C(1) << (option))

struct loader {
    struct config cfg;
    const char *path;
    config_report *report;
    void *arg;
    unsigned errors;
    bool without_password;
    dictionary *ini;
    size_t sections; /* gateway, easee, then in the order of the file */
    struct section section[SECTIONS_MAX];
};

/* Reports an error.  LINE 0: about no line in particular. */
__attribute__((format(printf, 3, 4))) void
config_complain(struct loader *l, unsigned line, const char *fmt, ...);

/* Refuses the value of an option.  MAY_BE NULL: what its type allows. */
void config_refuse(struct loader *l, struct section *s, enum option_id o, const char *why,
                   const char *may_be);

/* The text of an option: from the file, or its default; NULL: there is neither. */
const char *config_text(const struct loader *l, const struct section *s,
                        enum option_id o);

/* A regular file for reading, opened once, so that what is checked is what is read.  -1:
 * WHY says why. */
int config_open(const char *path, int flags, struct stat *st, char why[static WHY_MAX]);

/* Fills sections and ini of L from TEXT, which is changed. */
void config_scan(struct loader *l, char *text);

/* Converts and compares the values of all sections; each has its target. */
void config_judge(struct loader *l);

/* Reads the password that section S, [easee], names. */
void config_read_password(struct loader *l, struct section *s);

#endif
