/* SPDX-License-Identifier: MIT
 * evecc - the command line tool: finds the command, judges its options, runs it. */
#include "cli.h"

#include "evecc/sys.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum { INDENT = 26, LONG_NAME_MAX = 32 };

static const struct command commands[] = {
#define COMMAND(name, least, most, groups, arguments, summary, text, examples) \
    {run_##name,         #name, arguments, summary, text, examples,            \
     (groups) | FOR_ALL, least, most},
#include "commands.def"
#undef COMMAND
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

const struct command *cli_commands(size_t *ret_count)
{
    *ret_count = COMMANDS;
    return commands;
}

const struct command *cli_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

const struct flag_row *cli_flags(void)
{
    static char names[FLAGS][LONG_NAME_MAX];
    static struct flag_row rows[FLAGS] = {
#define FLAG(name, letter, argument, groups, text) \
    {#name, argument, text, groups, letter},
#include "flags.def"
#undef FLAG
    };

    for (size_t i = 0; i < FLAGS && names[i][0] == '\0'; i++) {
        snprintf(names[i], sizeof names[i], "%s", rows[i].name);
        for (char *p = names[i]; *p != '\0'; p++)
            if (*p == '_')
                *p = '-';
        rows[i].name = names[i];
    }
    return rows;
}

/* ---- help ---- */

static void print_flag(FILE *to, const struct flag_row *f)
{
    char head[2 * LONG_NAME_MAX + 32], letter[] = "-x, ";
    int len;

    letter[1] = f->letter;
    len = snprintf(head, sizeof head, "  %s--%s%s%s", f->letter != 0 ? letter : "    ",
                   f->name, *f->argument != '\0' ? " " : "", f->argument);
    fputs(head, to);
    if (len >= INDENT - 1) {
        fputc('\n', to);
        len = 0;
    }
    fprintf(to, "%*s", INDENT - len, "");
    print_wrapped(to, f->text, INDENT, INDENT);
}

static void print_command(FILE *to, const struct command *c)
{
    const struct flag_row *flags = cli_flags();

    fprintf(to, "usage: evecc %s [OPTION]...%s%s\n\n", c->name,
            *c->arguments != '\0' ? " " : "", c->arguments);
    print_wrapped(to, c->text, 0, 0);
    fputs("\noptions:\n", to);
    for (size_t i = 0; i < FLAGS; i++)
        if ((flags[i].groups & c->groups) != 0)
            print_flag(to, &flags[i]);
    fputs("\nexamples:\n", to);
    for (const char *p = c->examples; *p != '\0';) {
        size_t len = strcspn(p, "\n");

        fprintf(to, "  %.*s\n", (int)len, p);
        p += len + (p[len] == '\n');
    }
}

static void print_all(FILE *to)
{
    fputs("usage: evecc COMMAND [OPTION]... [ARGUMENT]...\n\n"
          "Easee chargers from the command line: directly through the cloud, or through "
          "eveccd.\n\ncommands:\n",
          to);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fputs("\nexit status:\n", to);
#define EXIT(name, code, meaning) fprintf(to, "  %-3d %s\n", code, meaning);
#include "exits.def"
#undef EXIT
    fputs("\n`evecc help COMMAND` explains one of them; see also evecc(1).\n", to);
}

static enum exit_code unknown_command(const struct cli *cli, const char *name)
{
    return fail(cli, EXIT_USAGE, "`evecc help` names the commands.",
                "no such command: %s", name);
}

enum exit_code run_help(struct cli *cli)
{
    const struct command *c = cli->count > 0 ? cli_command(cli->args[0]) : NULL;

    if (cli->count > 0 && c == NULL)
        return unknown_command(cli, cli->args[0]);
    text_begin(cli);
    if (c != NULL)
        print_command(stdout, c);
    else
        print_all(stdout);
    return text_end(cli);
}

enum exit_code run_version(struct cli *cli)
{
    cJSON *root;

    if (!cli->json) {
        puts("evecc " EVECC_VERSION);
        return EXIT_OK;
    }
    root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "version", EVECC_VERSION);
    return print_json(root);
}

/* ---- the command line ---- */

/* What getopt stumbled over: OPTION as it stands there, or LETTER, by the code GOT. */
static enum exit_code misunderstood(const struct cli *cli, int got, const char *option,
                                    int letter)
{
    char short_option[] = {'-', (char)letter, '\0'};

    return fail(cli, EXIT_USAGE, "`evecc help` explains the commands and their options.",
                "option %s %s", letter > 0 && letter < 256 ? short_option : option,
                got == ':' ? "needs a value" : "is unknown, ambiguous or takes no value");
}

/* Options may stand anywhere, so all of them are known before the command is; which of
 * them belong to it is judged afterwards. */
static enum exit_code parse_flags(struct cli *cli, int argc, char **argv)
{
    const struct flag_row *rows = cli_flags();
    struct option options[FLAGS + 2] = {0};
    char letters[2 * FLAGS + 2] = ":";
    size_t n = 1;
    int got;

    for (int i = 1; i < argc; i++)
        cli->json = cli->json || strcmp(argv[i], "--json") == 0;
    opterr = 0;
    for (size_t i = 0; i < FLAGS; i++) {
        bool argument = *rows[i].argument != '\0';

        options[i] = (struct option){
            rows[i].name, argument ? required_argument : no_argument, NULL, (int)i + 256};
        if (rows[i].letter != 0) {
            letters[n++] = rows[i].letter;
            if (argument)
                letters[n++] = ':';
        }
    }
    options[FLAGS] = (struct option){"version", no_argument, NULL, 'V'};
    while ((got = getopt_long(argc, argv, letters, options, NULL)) != -1) {
        size_t i = got >= 256 ? (size_t)got - 256 : 0;

        if (got == 'V') {
            cli->command = cli_command("version");
            continue;
        }
        while (got < 256 && i < FLAGS && rows[i].letter != got)
            i++;
        if (got == '?' || got == ':' || i == FLAGS)
            return misunderstood(cli, got, argv[optind - 1], optopt);
        cli->flag[i] = optarg != NULL ? optarg : "";
    }
    cli->json = cli->flag[FLAG_json] != NULL;
    return EXIT_OK;
}

static enum exit_code judge(struct cli *cli)
{
    const struct command *c = cli->command;
    const struct flag_row *rows = cli_flags();

    for (size_t i = 0; i < FLAGS; i++)
        if (cli->flag[i] != NULL && (rows[i].groups & c->groups) == 0)
            return fail(cli, EXIT_USAGE, "Its help lists what it takes.",
                        "`evecc %s` has no option --%s", c->name, rows[i].name);
    if (cli->count < c->least)
        return fail(cli, EXIT_USAGE, "Its help has examples.", "`evecc %s` needs %s",
                    c->name, c->arguments);
    if (cli->count > c->most)
        return fail(cli, EXIT_USAGE, "Its help has examples.",
                    "`evecc %s`: unexpected argument: %s", c->name, cli->args[c->most]);
    return EXIT_OK;
}

/* The first argument names the command, unless --version did. */
static enum exit_code find_command(struct cli *cli)
{
    if (cli->command != NULL)
        return EXIT_OK;
    cli->command = cli_command(cli->args[0]);
    if (cli->command == NULL)
        return unknown_command(cli, cli->args[0]);
    cli->args++;
    cli->count--;
    return EXIT_OK;
}

static enum exit_code run(struct cli *cli)
{
    bool help = cli->flag[FLAG_help] != NULL;
    enum exit_code status;

    if (cli->command == NULL && cli->count == 0 && !help) {
        print_all(stderr);
        return EXIT_USAGE;
    }
    if (help)
        return run_help(cli); /* the command is its argument */
    status = find_command(cli);
    if (status == EXIT_OK)
        status = judge(cli);
    if (status == EXIT_OK)
        status = cli->command->run(cli);
    progress_end();
    return status;
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    enum exit_code status;

    sys_standard_files();
    status = parse_flags(&cli, argc, argv);
    cli.args = argv + optind;
    cli.count = (unsigned)(argc - optind);
    if (status == EXIT_OK)
        status = run(&cli);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == EXIT_OK) {
        perror("evecc: standard output");
        return EXIT_FAILED;
    }
    return (int)status;
}
