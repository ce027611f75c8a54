/* SPDX-License-Identifier: MIT
 * csv.h - a field of a CSV file (RFC 4180, 2.5 to 2.7). */
#ifndef EVECC_TOOLS_CSV_H
#define EVECC_TOOLS_CSV_H

#include <stdio.h>

/* TEXT to standard output between quotation marks, those in it doubled. */
static inline void csv_field(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"')
            putchar('"');
        putchar(*text);
    }
    putchar('"');
}

#endif
