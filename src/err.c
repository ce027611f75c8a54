/* SPDX-License-Identifier: MIT */
#include "evecc/err.h"

#include <stddef.h>

struct row {
    enum err err;
    const char *name, *text, *remedy;
};

static const struct row rows[] = {
#define ERR(name, code, text, remedy) {ERR_##name, #name, text, remedy},
#include "evecc/errors.def"
#undef ERR
};

static const struct row *find(enum err err)
{
    static const struct row unknown = {0, "UNKNOWN", "unknown error", "See the log."};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].err == err)
            return &rows[i];
    return &unknown;
}

const char *err_text(enum err err)
{
    return find(err)->text;
}

const char *err_remedy(enum err err)
{
    return find(err)->remedy;
}

const char *err_name(enum err err)
{
    return find(err)->name;
}
