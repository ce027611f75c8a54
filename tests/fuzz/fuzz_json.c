/* SPDX-License-Identifier: MIT
 * The words of JSON: what is put in comes out, and the reader of long numbers agrees with
 * cJSON about every text that cJSON takes. */
#include "../../src/json.h"

#include "check.h"

#include <string.h>

static bool plain(const char *key)
{
    for (; *key != '\0'; key++)
        if (*key == '\\' || *key == '"' || (unsigned char)*key < ' ' || *key > '~')
            return false;
    return true;
}

/* A key may be written with escapes that hide it from the reader of long numbers: none
 * of Easee's is. */
static bool spelled_out(const char *text)
{
    return !strstr(text, "\\u") && !strstr(text, "\\/");
}

/* The first member called KEY as cJSON read it, and where RAW says it stands. */
static void compare(const cJSON *item, const char *raw, const char *text, size_t len)
{
    int64_t value, exact;

    CHECK(raw >= text && raw < text + len);
    CHECK(json_raw_end(raw) > raw && json_raw_end(raw) <= text + len);
    if (cJSON_IsObject(item))
        CHECK(*raw == '{');
    else if (cJSON_IsArray(item))
        CHECK(*raw == '[');
    else if (cJSON_IsString(item))
        CHECK(*raw == '"');
    if (json_raw_integer(raw, &value) && value <= JSON_EXACT_MAX)
        CHECK(json_integer(item, 0, JSON_EXACT_MAX, &exact) && exact == value);
}

static void read(const char *text, size_t len)
{
    cJSON *root = json_parse(text, len);
    const cJSON *item;

    if (cJSON_IsObject(root)) {
        const char *start = json_raw_skip(text);
        cJSON_ArrayForEach(item, root)
        {
            if (!spelled_out(text) || !plain(item->string) ||
                json_member(root, item->string) != item)
                continue;
            const char *raw = json_raw_member(start, item->string);
            CHECK(raw);
            compare(item, raw, text, len);
        }
        CHECK(json_raw_end(start) == text + strlen(text));
    }
    cJSON_Delete(root);
}

static void write(const char *text)
{
    static char buf[1 << 16];
    char line[100];
    struct json_out out = json_start(buf, sizeof buf);

    json_put_string(&out, text);
    if (json_finish(&out) > 0) {
        cJSON *back = cJSON_Parse(buf);
        CHECK(cJSON_IsString(back) && strcmp(back->valuestring, text) == 0);
        cJSON_Delete(back);
    }
    json_copy_plain(line, sizeof line, text);
    CHECK(strlen(line) < sizeof line);
    for (const char *p = line; *p != '\0'; p++)
        CHECK(*p >= ' ' && *p <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    CHECK(text);
    memcpy(text, data, size);
    text[size] = '\0';
    read(text, size);
    write(text);
    free(text);
    return 0;
}
