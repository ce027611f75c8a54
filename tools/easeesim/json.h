/* SPDX-License-Identifier: MIT
 * json.h - the few things cJSON lacks: exact integers, strict reading, complaints. */
#ifndef EASEESIM_JSON_H
#define EASEESIM_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The document TEXT of LEN bytes, NUL-terminated at TEXT[LEN], with nothing after it.
 * NULL: it is not one, or TEXT is NULL.  Returns owned (cJSON_Delete). */
cJSON *json_parse(const char *text, size_t len);

/* A member that is exact beyond 2^53, which a double is not. */
void json_add_i64(cJSON *object, const char *name, int64_t value);

/* A double written as one: 16.0 and not 16. */
void json_add_real(cJSON *object, const char *name, double value);
cJSON *json_real(double value);

/* {"...P1": a[0], ...}: PREFIX and 1 to 3. */
void json_add_phases(cJSON *object, const char *prefix, const double a[3]);
cJSON *json_array3(const double a[3]);

/* Members of OBJECT, with their case.  Absent: RET is untouched and the answer is true.
 * Of another type or out of range: false, and WHY (JSON_WHY bytes) says which and what is
 * allowed. */
enum { JSON_WHY = 512 };
bool json_bool(const cJSON *object, const char *name, bool *ret, char *why);
bool json_real_in(const cJSON *object, const char *name, double lo, double hi,
                  double *ret, char *why);
bool json_int_in(const cJSON *object, const char *name, int64_t lo, int64_t hi,
                 int64_t *ret, char *why);
bool json_text(const cJSON *object, const char *name, char *ret, size_t size, char *why);
/* A list of three numbers from 0 to 1000. */
bool json_three_of(const cJSON *list, double ret[3]);
bool json_three(const cJSON *object, const char *name, double ret[3], char *why);

#endif
