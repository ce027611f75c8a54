/* SPDX-License-Identifier: MIT
 * cli.h - what the commands of evecc share: command line, exit codes, ways to speak. */
#ifndef EVECC_CLI_H
#define EVECC_CLI_H

#include "evecc/err.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define DEFAULT_CONFIG "/etc/evecc/evecc.conf"

enum exit_code {
#define EXIT(name, code, meaning) EXIT_##name = (code),
#include "exits.def"
#undef EXIT
};

/* Which commands take an option. */
enum group {
    FOR_ALL = 1u << 0,
    FOR_CONFIG = 1u << 1,
    FOR_ACCOUNT = 1u << 2, /* calls the cloud */
    FOR_WHICH = 1u << 3,   /* concerns one circuit of the account */
    FOR_POLICY = 1u << 4,  /* needs to know how that is wired */
    FOR_GATEWAY = 1u << 5, /* speaks Modbus to the gateway */
    FOR_SET = 1u << 6,
    FOR_LIMITS = 1u << 7,
    FOR_DISCOVER = 1u << 8,
    FOR_STATUS = 1u << 9,
    FOR_READ = 1u << 10,
    FOR_WRITE = 1u << 11,
    FOR_REGISTERS = 1u << 12
};

enum flag {
#define FLAG(name, letter, argument, groups, text) FLAG_##name,
#include "flags.def"
#undef FLAG
    FLAGS
};

struct flag_row {
    const char *name; /* as on the command line, without -- */
    const char *argument, *text;
    unsigned groups;
    char letter;
};

struct cli {
    const struct command *command;
    const char *flag[FLAGS]; /* the value given, "" for a switch; NULL: not given */
    char **args;             /* what is not an option */
    unsigned count;
    bool json;
};

struct command {
    enum exit_code (*run)(struct cli *);
    const char *name, *arguments, *summary, *text, *examples;
    unsigned groups, least, most; /* arguments */
};

/* One function per command: run_<name>(). */
#define COMMAND(name, ...) enum exit_code run_##name(struct cli *cli);
#include "commands.def"
#undef COMMAND

const struct command *cli_commands(size_t *ret_count);
const struct flag_row *cli_flags(void); /* FLAGS of them */
const struct command *cli_command(const char *name);

/* ---- out.c ---- */

enum style {
    STYLE_PLAIN,
    STYLE_GOOD,
    STYLE_WARNING,
    STYLE_BAD,
    STYLE_FAINT,
    STYLE_STRONG
};

/* Escape sequence of STYLE when standard output is a terminal that wants colours
 * (NO_COLOR, TERM=dumb), "" otherwise. */
const char *paint(enum style style);

/* Says CAUSE (a format) and REMEDY (NULL: none) on standard error, and with --json also
 * as an object on standard output.  Returns STATUS. */
__attribute__((format(printf, 4, 5))) enum exit_code fail(const struct cli *cli,
                                                          enum exit_code status,
                                                          const char *remedy,
                                                          const char *cause, ...);

/* As fail(), with the text, remedy and exit code of ERR; CAUSE says what was tried,
 * DETAIL ("" or NULL: nothing) what the other side said. */
__attribute__((format(printf, 4, 5))) enum exit_code
fail_err(const struct cli *cli, enum err err, const char *detail, const char *cause, ...);
enum exit_code status_of(enum err err);

__attribute__((format(printf, 1, 2))) void warn(const char *fmt, ...);

/* Prints OBJECT and frees it. */
enum exit_code print_json(cJSON *object);

/* TEXT in lines of at most 78 characters, each but the first after INDENT blanks; the
 * cursor stands at COLUMN. */
void print_wrapped(FILE *to, const char *text, size_t column, size_t indent);

/* What is printed in between has no structure: with --json it becomes one string. */
void text_begin(const struct cli *cli);
enum exit_code text_end(const struct cli *cli);

/* While something takes longer than a second, a line on standard error (a terminal only)
 * tells what.  progress_end() removes it; WHAT is copied.  Not nested. */
__attribute__((format(printf, 1, 2))) void progress_begin(const char *what, ...);
void progress_end(void);

/* A whole number from LOW to HIGH, strictly. */
bool parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *ret);

#endif
