/* SPDX-License-Identifier: MIT
 * store.h - files that are always either the previous or the next version (reliability
 * N4).
 *
 * A generation is written to NAME.new and synced, the current one is linked to NAME.old,
 * NAME.new is renamed to NAME, the directory synced.  Each carries a header line "evecc
 * NAME VERSION LENGTH CRC32" whose sum covers line and content.  What fails its check, or
 * is no file of ours, is moved aside as NAME.bad, and NAME.old is used.  A whole NAME.new
 * was left by a kill: the write is ended by the next reader that has the lock, so what
 * was written survives a kill before it is synced.
 *
 * Writing needs the lock, see store_open(); moving aside happens only under it.  Several
 * threads may use one store as long as each NAME belongs to one of them. */
#ifndef EVECC_STORE_H
#define EVECC_STORE_H

#include "evecc/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORE_MAX = 4 << 20, STORE_NAME_MAX = 16 };

struct store;

/* The directory DIR, created with mode 0700 when missing; it must belong to us and not be
 * writable by others; root may read what belongs to somebody else.  EXCLUSIVE also takes
 * the lock that makes a second daemon impossible.  ERR_CONFIG: another process, whose pid
 * WHY names, has it.  ERR_SYSTEM: the directory cannot be used, as WHY says; the caller
 * may go on without it.  Returns owned, freed with store_free(). */
enum err store_open(struct store **ret, const char *dir, bool exclusive, char *why,
                    size_t why_size);
/* NULL is fine. */
void store_free(struct store *s);

/* Replaces NAME (at most STORE_NAME_MAX characters, the program's own choice) durably by
 * the LEN bytes (at most STORE_MAX) of DATA.  ERR_SYSTEM with errno: what a reader finds
 * is whole, and the old version unless only the last step failed. */
enum err store_write(struct store *s, const char *name, unsigned version,
                     const void *data, size_t len);

/* The newest whole generation of NAME: memory the caller frees, NUL-terminated, *RET_LEN
 * bytes.  *RET_OLD: the previous generation had to do.  ERR_NOT_FOUND: there is none.
 * ERR_PARSE: all were damaged, or the newest is of a newer version than VERSION_MAX: it
 * is left alone and kept as NAME.newer in case it is overwritten.  ERR_SYSTEM with
 * errno: it cannot be told (no memory, no descriptor). */
enum err store_read(struct store *s, const char *name, unsigned version_max, char **ret,
                    size_t *ret_len, bool *ret_old);

#endif
