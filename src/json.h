/* SPDX-License-Identifier: MIT
 * json.h - the few words of JSON that the Easee messages and the stream share (internal).
 *
 * Pure but for the memory cJSON takes and gives back.  Every reader accepts NULL for a
 * missing item; results are untouched on failure. */
#ifndef EVECC_JSON_H
#define EVECC_JSON_H

#include "evecc/telemetry.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whole numbers up to here pass through a double unharmed. */
#define JSON_EXACT_MAX (INT64_C(1) << 53)

/* A text that is being written into the caller's buffer. */
struct json_out {
    char *buf;
    size_t size, len;
    bool full; /* something did not fit: the text is of no use */
};

struct json_out json_start(char *buf, size_t size);
void json_put(struct json_out *o, const char *text, size_t len);
void json_put_text(struct json_out *o, const char *text);
void json_put_string(struct json_out *o, const char *text); /* quoted and escaped */
void json_put_number(struct json_out *o, unsigned number);
/* NUL-terminates the text; its length, 0 when it did not fit. */
size_t json_finish(struct json_out *o);

cJSON *json_parse(const char *body, size_t len);
const cJSON *json_member(const cJSON *object, const char *key);
bool json_absent(const cJSON *item); /* missing or null */
const char *json_string(const cJSON *item);
/* A whole number from MIN to MAX. */
bool json_integer(const cJSON *item, int64_t min, int64_t max, int64_t *ret);
/* One entry of an observations list, or the argument of a ProductUpdate. */
bool json_observation(const cJSON *item, struct observation *ret);

/* Digits as they stand in the text, for numbers that a double cannot hold. */
const char *json_raw_skip(const char *p);
const char *json_raw_end(const char *p);
const char *json_raw_member(const char *p, const char *key);
bool json_raw_integer(const char *p, int64_t *ret);

bool json_is_serial(const char *text);
bool json_same_text(const char *a, const char *b); /* but for the case of letters */
bool json_mentions(const char *text, const char *word);
void json_copy_text(char *ret, size_t size, const char *text);
void json_copy_plain(char *ret, size_t size, const char *text);

#endif
