/* SPDX-License-Identifier: MIT
 * store.h - files that are always either the previous or the next version (reliability
 * N4).
 *
 * One generation is written to NAME.new, synced, the current one is linked to NAME.old,
 * NAME.new is renamed to NAME, the directory synced.  Each carries a header line "evecc
 * NAME VERSION LENGTH CRC32"; a file that fails its check is moved aside as NAME.bad and
 * NAME.old is used. */
#ifndef EVECC_STORE_H
#define EVECC_STORE_H

#include "evecc/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORE_MAX = 4 << 20 };

struct store;

/* The directory DIR (created with mode 0700 when missing; must belong to us and not be
 * writable by others).  EXCLUSIVE also takes the lock that makes a second daemon
 * impossible: ERR_CONFIG with WHY naming the other's pid when it is taken.  Returns
 * owned, freed with store_free(). */
enum err store_open(struct store **ret, const char *dir, bool exclusive, char *why,
                    size_t why_size);
void store_free(struct store *s);

/* Replaces NAME durably.  ERR_SYSTEM with errno: the old version is still whole. */
enum err store_write(struct store *s, const char *name, unsigned version,
                     const void *data, size_t len);

/* The newest whole generation of NAME: memory the caller frees, NUL-terminated, *RET_LEN
 * bytes. ERR_NOT_FOUND: there is none; ERR_PARSE: all were damaged (moved aside) or of a
 * newer version than VERSION_MAX (left alone).  *RET_OLD: the previous generation had to
 * do. */
enum err store_read(struct store *s, const char *name, unsigned version_max, char **ret,
                    size_t *ret_len, bool *ret_old);

/* Removes NAME and its generations, e.g. a token that was revoked. */
void store_remove(struct store *s, const char *name);

#endif
