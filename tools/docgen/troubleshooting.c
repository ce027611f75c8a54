/* SPDX-License-Identifier: MIT
 * troubleshooting: doc/troubleshooting.md from doc/troubleshooting.md.in; run in the top
 * folder.
 *
 * A line "@RESULTS" becomes the table of result codes, "@VALUES register" that of the
 * values of a register.  A fault bit without a remedy is an error. */
#include "evecc/words.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    uint16_t addr, value;
    const char *cause, *remedy;
} remedies[] = {
#define REMEDY(reg, value, cause, remedy) {REG_##reg, value, cause, remedy},
#include "remedies.def"
#undef REMEDY
};

static void print_results(void)
{
    printf("| 7303 | what happened | what to do |\n|---|---|---|\n");
#define ERR(name, code, text, remedy) printf("| %d | %s | %s |\n", code, text, remedy);
#include "evecc/errors.def"
#undef ERR
}

/* The remedy for VALUE of the register at ADDR, printed; false: there is none. */
static bool print_remedy(uint16_t addr, const struct word *w)
{
    for (size_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++)
        if (remedies[i].addr == addr && remedies[i].value == w->value) {
            printf("| %u | %s | %s | %s |\n", w->value, w->text, remedies[i].cause,
                   remedies[i].remedy);
            return true;
        }
    return false;
}

static bool print_values(const char *name)
{
    size_t rows, words;
    const struct reg_row *row = regmap_rows(&rows);

    while (rows > 0 && strcmp(row->name, name) != 0) {
        row++;
        rows--;
    }
    if (rows == 0) {
        fprintf(stderr, "troubleshooting: no such register: %s\n", name);
        return false;
    }
    printf("| %s%u | meaning | cause | what to do |\n|---|---|---|---|\n",
           word_is_bits(row) ? "bit of " : "", row->addr);
    const struct word *w = words_of(row, &words);
    for (size_t i = 0; i < words; i++)
        if (!print_remedy(row->addr, &w[i]) && row->addr == REG_FAULTS) {
            fprintf(stderr, "troubleshooting: no remedy for fault bit %u\n", w[i].value);
            return false;
        }
    return true;
}

int main(void)
{
    static const char source[] = "doc/troubleshooting.md.in", values[] = "@VALUES ";
    char line[4096];
    bool good = true;
    FILE *f = fopen(source, "r");

    if (!f) {
        perror(source);
        return EXIT_FAILURE;
    }
    while (good && fgets(line, sizeof line, f)) {
        if (strcmp(line, "@RESULTS\n") == 0) {
            print_results();
        } else if (strncmp(line, values, sizeof values - 1) == 0) {
            line[strcspn(line, "\n")] = 0;
            good = print_values(line + sizeof values - 1);
        } else {
            fputs(line, stdout);
        }
    }
    fclose(f);
    return good && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
