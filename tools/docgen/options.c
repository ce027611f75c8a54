/* SPDX-License-Identifier: MIT
 * options: the documents that come from the table of options; run in the top folder.
 *
 *   options conf    the commented example, etc/evecc.conf
 *   options man     the manual page, doc/evecc.conf.5: doc/evecc.conf.5.in with each line
 *                   ".OPTIONS section" replaced by the options of that section */
#include "evecc/config.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 78 };

static const struct config_option *options;
static size_t count;

/* What the example says in place of a default. */
static const char *example(const struct config_option *o)
{
    static const char *const rows[][3] = {
        {"easee",   "username",      "owner@example.org"  },
        {"easee",   "password_file", "/etc/evecc/password"},
        {"circuit", "unit",          "1"                  },
        {"circuit", "site",          "ABCD-1234"          },
        {"circuit", "circuit",       "1"                  },
        {"circuit", "max_current",   "16"                 },
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (!strcmp(rows[i][0], o->section) && !strcmp(rows[i][1], o->key))
            return rows[i][2];
    return o->default_value;
}

static const char *example_name(const char *section)
{
    if (!strcmp(section, "listener"))
        return " native";
    if (!strcmp(section, "circuit"))
        return " garage";
    return "";
}

static bool is_number(const struct config_option *o)
{
    return !strcmp(o->type, "UINT");
}

/* "6 to 80 A, default 6" */
static void print_facts(const struct config_option *o)
{
    if (is_number(o))
        printf("%u to %u%s%s, ", o->low, o->high, *o->unit ? " " : "", o->unit);
    if (!o->default_value)
        printf("required");
    else if (*o->default_value)
        printf("default %s", o->default_value);
    else
        printf("default empty");
}

/* TEXT as comment lines. */
static void print_comment(const char *text)
{
    size_t column = 0;

    while (*text) {
        size_t len = strcspn(text, " ");

        if (column && column + 1 + len > WIDTH) {
            putchar('\n');
            column = 0;
        }
        column += (size_t)printf("%s%.*s", column ? " " : "# ", (int)len, text);
        text += len;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static int print_example(void)
{
    const char *section = "";

    print_comment(
        "The configuration of eveccd(8): every option, described in evecc.conf(5). "
        "Made from the table of options (include/evecc/options.def); `eveccd -t -c "
        "FILE` checks a file.");
    puts("#");
    print_comment(
        "Those with a default may be left out. Sections listener and circuit have a name "
        "and may be there several times. A comment begins with ; or #, after a value "
        "with a blank before it. The password is never in this file.");
    for (size_t i = 0; i < count; i++) {
        const struct config_option *o = &options[i];
        const char *value = example(o);

        if (strcmp(section, o->section) != 0) {
            section = o->section;
            printf("\n[%s%s]\n", section, example_name(section));
        }
        putchar('\n');
        print_comment(o->text);
        printf("# (");
        print_facts(o);
        printf(")\n%s =%s%s\n", o->key, *value ? " " : "", value);
    }
    return EXIT_SUCCESS;
}

/* For troff: a backslash and a hyphen that is to stay one. */
static void print_escaped(const char *text)
{
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '-')
            fputs("\\-", stdout);
        else
            putchar(*text);
    }
}

static bool print_section(const char *section)
{
    bool any = false;

    for (size_t i = 0; i < count; i++) {
        const struct config_option *o = &options[i];

        if (strcmp(section, o->section) != 0)
            continue;
        any = true;
        printf(".TP\n.BR %s \" (", o->key);
        print_facts(o);
        printf(")\"\n");
        print_escaped(o->text);
        putchar('\n');
    }
    return any;
}

static int print_page(void)
{
    static const char source[] = "doc/evecc.conf.5.in", mark[] = ".OPTIONS ";
    char line[1024];
    int status = EXIT_SUCCESS;
    FILE *f = fopen(source, "r");

    if (!f) {
        perror(source);
        return EXIT_FAILURE;
    }
    puts(".\\\" Made by tools/docgen/options.c; edit evecc.conf.5.in or the table of "
         "options.");
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, mark, sizeof mark - 1) != 0) {
            fputs(line, stdout);
            continue;
        }
        line[strcspn(line, "\n")] = 0;
        if (!print_section(line + sizeof mark - 1)) {
            fprintf(stderr, "options: no such section: %s\n", line);
            status = EXIT_FAILURE;
        }
    }
    fclose(f);
    return status;
}

int main(int argc, char **argv)
{
    options = config_options(&count);
    if (argc == 2 && !strcmp(argv[1], "conf"))
        return print_example();
    if (argc == 2 && !strcmp(argv[1], "man"))
        return print_page();
    fputs("usage: options conf | man\n", stderr);
    return 2;
}
