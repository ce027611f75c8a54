/* SPDX-License-Identifier: MIT
 * manual: doc/evecc.1 from doc/evecc.1.in and the tables of evecc; run in the top folder.
 * The lines .COMMANDS, .OPTIONS and .EXITS are replaced by what the tables have. */
#include "../evecc/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
    const char *name, *arguments, *summary, *text, *examples;
    unsigned groups;
};

static const struct row commands[] = {
#define COMMAND(name, least, most, groups, arguments, summary, text, examples) \
    {#name, arguments, summary, text, examples, (groups) | FOR_ALL},
#include "../evecc/commands.def"
#undef COMMAND
};

static const struct flag_row flags[] = {
#define FLAG(name, letter, argument, groups, text) \
    {#name, argument, text, groups, letter},
#include "../evecc/flags.def"
#undef FLAG
};

/* For troff: hyphens that are to stay ones, backslashes, a quote at the beginning. */
static void print_escaped(const char *text, char hyphen)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", stdout);
    for (; *text != '\0'; text++)
        if (*text == '-' || *text == hyphen)
            fputs("\\-", stdout);
        else if (*text == '\\')
            fputs("\\e", stdout);
        else
            putchar(*text);
}

static void print_text(const char *text)
{
    print_escaped(text, '-');
    putchar('\n');
}

static void print_commands(void)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const struct row *c = &commands[i];
        const char *between = "";

        printf(".SS evecc %s ", c->name);
        print_text(c->arguments);
        print_text(c->text);
        printf(".PP\nOptions: ");
        for (size_t k = 0; k < FLAGS; k++) {
            if ((flags[k].groups & c->groups) == 0)
                continue;
            printf("%s\\-\\-", between);
            print_escaped(flags[k].name, '_');
            between = ", ";
        }
        printf(".\n.PP\n.EX\n");
        for (const char *p = c->examples; *p != '\0';) {
            size_t len = strcspn(p, "\n");
            char line[256];

            snprintf(line, sizeof line, "%.*s", (int)len, p);
            print_text(line);
            p += len + (p[len] == '\n');
        }
        printf(".EE\n");
    }
}

static void print_options(void)
{
    for (size_t i = 0; i < FLAGS; i++) {
        printf(".TP\n");
        if (flags[i].letter != 0)
            printf("\\fB\\-%c\\fR, ", flags[i].letter);
        printf("\\fB\\-\\-");
        print_escaped(flags[i].name, '_');
        printf("\\fR");
        if (*flags[i].argument != '\0') {
            printf(" \\fI");
            print_escaped(flags[i].argument, '-');
            printf("\\fR");
        }
        putchar('\n');
        print_text(flags[i].text);
    }
}

static void print_exits(void)
{
#define EXIT(name, code, meaning) printf(".TP\n.B %d\n%s.\n", code, meaning);
#include "../evecc/exits.def"
#undef EXIT
}

int main(void)
{
    static const char source[] = "doc/evecc.1.in";
    static const struct {
        const char *mark;
        void (*print)(void);
    } marks[] = {
        {".COMMANDS\n", print_commands},
        {".OPTIONS\n",  print_options },
        {".EXITS\n",    print_exits   },
    };
    char line[1024];
    FILE *f = fopen(source, "r");

    if (f == NULL) {
        perror(source);
        return EXIT_FAILURE;
    }
    puts(".\\\" Made by tools/docgen/manual.c; edit evecc.1.in or the tables of evecc.");
    while (fgets(line, sizeof line, f) != NULL) {
        size_t i = 0;

        while (i < 3 && strcmp(marks[i].mark, line) != 0)
            i++;
        if (i < 3)
            marks[i].print();
        else
            fputs(line, stdout);
    }
    fclose(f);
    return EXIT_SUCCESS;
}
