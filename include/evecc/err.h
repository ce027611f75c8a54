/* SPDX-License-Identifier: MIT
 * err.h - one space of results for the whole program, made from errors.def.
 *
 * A function that can fail returns enum err, ERR_OK on success; errno means something
 * only after ERR_SYSTEM.  The values are those of register 7303. */
#ifndef EVECC_ERR_H
#define EVECC_ERR_H

enum err {
#define ERR(name, code, text, remedy) ERR_##name = (code),
#include "evecc/errors.def"
#undef ERR
};

/* The text of ERR in lower case, without a full stop; "unknown error" for any other
 * number. Static storage. */
const char *err_text(enum err err);

/* What its owner can do about ERR: one sentence.  Static storage. */
const char *err_remedy(enum err err);

/* The name of ERR as written in errors.def, e.g. "TIMEOUT".  Static storage. */
const char *err_name(enum err err);

#endif
