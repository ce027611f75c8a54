/* SPDX-License-Identifier: MIT
 * evecc completion: what a shell needs to complete the command line, from the tables. */
#include "cli.h"
#include "values.h"

#include <string.h>

/* What may follow an option, or be an argument. */
enum kind { KIND_NOTHING, KIND_ANYTHING, KIND_FILE, KIND_WORDS };

static enum kind kind_of(const char *argument)
{
    if (*argument == '\0')
        return KIND_NOTHING;
    if (strcmp(argument, "FILE") == 0 || strcmp(argument, "PATH") == 0 ||
        strcmp(argument, "DIR") == 0)
        return KIND_FILE;
    return strchr(argument, '|') != NULL ? KIND_WORDS : KIND_ANYTHING;
}

/* "auto|1|3" as "auto 1 3". */
static void print_choices(const char *argument)
{
    for (; *argument != '\0'; argument++)
        putchar(*argument == '|' ? ' ' : *argument);
}

static void print_registers(bool writable)
{
    size_t count;
    const struct reg_row *rows = regmap_rows(&count);
    char name[64];

    for (size_t i = 0; i < count; i++)
        if (!writable || rows[i].access != REG_RO)
            printf("%s%s", i > 0 ? " " : "", value_name(&rows[i], name));
}

static void print_names(const struct command *commands, size_t count)
{
    for (size_t i = 0; i < count; i++)
        printf("%s%s", i > 0 ? " " : "", commands[i].name);
}

/* The words that may be arguments of C; false: none are known. */
static bool print_arguments(const struct command *c)
{
    size_t count;
    const struct command *commands = cli_commands(&count);

    if (strcmp(c->name, "read") == 0 || strcmp(c->name, "write") == 0)
        print_registers(strcmp(c->name, "write") == 0);
    else if (strcmp(c->arguments, "[COMMAND]") == 0)
        print_names(commands, count);
    else if (kind_of(c->arguments) == KIND_WORDS)
        print_choices(c->arguments);
    else
        return false;
    return true;
}

/* ---- bash ---- */

/* Options that are followed by something, as a pattern. */
static void print_taking(const struct flag_row *flags)
{
    const char *between = "";

    for (size_t i = 0; i < FLAGS; i++) {
        if (kind_of(flags[i].argument) == KIND_NOTHING)
            continue;
        if (flags[i].letter != 0)
            printf("%s-%c|--%s", between, flags[i].letter, flags[i].name);
        else
            printf("%s--%s", between, flags[i].name);
        between = "|";
    }
}

static void print_bash(const struct command *commands, size_t count)
{
    const struct flag_row *flags = cli_flags();

    printf("# bash completion for evecc; made by `evecc completion bash`\n"
           "_evecc()\n{\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} "
           "command= word i\n"
           "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
           "        case ${COMP_WORDS[i]} in\n        ");
    print_taking(flags);
    printf(") ((i++)) ;;\n"
           "        -*) ;;\n"
           "        *) command=${COMP_WORDS[i]}; break ;;\n"
           "        esac\n"
           "    done\n"
           "    COMPREPLY=()\n"
           "    case $prev in\n");
    for (size_t i = 0; i < FLAGS; i++) {
        enum kind kind = kind_of(flags[i].argument);

        if (kind == KIND_NOTHING)
            continue;
        if (flags[i].letter != 0)
            printf("    -%c|", flags[i].letter);
        else
            printf("    ");
        printf("--%s) ", flags[i].name);
        if (kind == KIND_FILE)
            printf("COMPREPLY=($(compgen -f -- \"$cur\")); ");
        if (kind == KIND_WORDS) {
            printf("COMPREPLY=($(compgen -W '");
            print_choices(flags[i].argument);
            printf("' -- \"$cur\")); ");
        }
        printf("return ;;\n");
    }
    printf("    esac\n    case $command in\n    '') word='");
    print_names(commands, count);
    printf("' ;;\n");
    for (size_t k = 0; k < count; k++) {
        printf("    %s) word='", commands[k].name);
        print_arguments(&commands[k]);
        for (size_t i = 0; i < FLAGS; i++)
            if ((flags[i].groups & commands[k].groups) != 0)
                printf(" --%s", flags[i].name);
        printf("' ;;\n");
    }
    printf("    esac\n"
           "    COMPREPLY=($(compgen -W \"$word\" -- \"$cur\"))\n"
           "}\n"
           "complete -F _evecc evecc\n");
}

/* ---- zsh ---- */

/* TEXT within '...[...]' of _arguments. */
static void print_zsh_text(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs("'\\'", stdout);
        else if (*text == '[' || *text == ']' || *text == ':' || *text == '\\')
            putchar('\\');
        putchar(*text);
    }
}

static void print_zsh_flag(const struct flag_row *f)
{
    enum kind kind = kind_of(f->argument);

    if (f->letter != 0)
        printf(" \\\n            '(-%c --%s)'{-%c,--%s}'[", f->letter, f->name, f->letter,
               f->name);
    else
        printf(" \\\n            '--%s[", f->name);
    print_zsh_text(f->text);
    putchar(']');
    if (kind != KIND_NOTHING) {
        putchar(':');
        print_zsh_text(f->argument);
        putchar(':');
    }
    if (kind == KIND_FILE)
        fputs("_files", stdout);
    if (kind == KIND_WORDS) {
        putchar('(');
        print_choices(f->argument);
        putchar(')');
    }
    putchar('\'');
}

static void print_zsh(const struct command *commands, size_t count)
{
    const struct flag_row *flags = cli_flags();

    printf("#compdef evecc\n# zsh completion for evecc; made by `evecc completion zsh`\n"
           "_evecc() {\n    local -a commands\n    commands=(\n");
    for (size_t k = 0; k < count; k++) {
        printf("        '%s:", commands[k].name);
        print_zsh_text(commands[k].summary);
        printf("'\n");
    }
    printf("    )\n    if (( CURRENT == 2 )); then\n"
           "        _describe command commands\n        return\n    fi\n"
           "    local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n"
           "    case $command in\n");
    for (size_t k = 0; k < count; k++) {
        printf("    %s)\n        _arguments", commands[k].name);
        for (size_t i = 0; i < FLAGS; i++)
            if ((flags[i].groups & commands[k].groups) != 0)
                print_zsh_flag(&flags[i]);
        if (commands[k].most > 0) {
            printf(" \\\n            '*:");
            print_zsh_text(commands[k].arguments);
            printf(":(");
            print_arguments(&commands[k]);
            printf(")'");
        }
        printf(" ;;\n");
    }
    printf("    esac\n}\n_evecc \"$@\"\n");
}

enum exit_code run_completion(struct cli *cli)
{
    bool bash = strcmp(cli->args[0], "bash") == 0;
    size_t count;
    const struct command *commands = cli_commands(&count);

    if (!bash && strcmp(cli->args[0], "zsh") != 0)
        return fail(cli, EXIT_USAGE, NULL, "completion %s: allowed: bash, zsh",
                    cli->args[0]);
    text_begin(cli);
    if (bash)
        print_bash(commands, count);
    else
        print_zsh(commands, count);
    return text_end(cli);
}
