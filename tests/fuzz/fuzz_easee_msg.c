/* SPDX-License-Identifier: MIT
 * Any bytes as an answer of the cloud, and as a password. */
#include "evecc/easee_msg.h"

#include "check.h"

#include <cjson/cJSON.h>
#include <string.h>

enum { CIRCUITS = 3 };

static void check_circuit(const struct easee_circuit *c)
{
    CHECK(c->chargers <= EASEE_CHARGERS_MAX);
    CHECK(!c->alone || c->chargers <= 1);
    for (unsigned k = 0; k < c->chargers; k++)
        CHECK(c->serial[k][0] != '\0' && strpbrk(c->serial[k], "/?&#% ") == NULL);
}

static void parse_circuits(const char *body, size_t len)
{
    static const struct easee_selector sel[] = {
        {-1, -1, -1, "",          ""        },
        {-1, -1, 1,  "ABCD-1234", ""        },
        {-1, -1, -1, "",          "EH123456"},
    };
    static struct easee_circuit c, all[CIRCUITS];
    size_t count;

    for (size_t i = 0; i < sizeof sel / sizeof sel[0]; i++) {
        if (easee_msg_find_circuit(body, len, &sel[i], &c) == ERR_OK)
            check_circuit(&c);
        if (easee_msg_find_listed(body, len, &sel[i], &c) == ERR_OK)
            check_circuit(&c);
    }
    if (easee_msg_circuits(body, len, all, CIRCUITS, &count) == ERR_OK) {
        CHECK(count <= CIRCUITS);
        for (size_t i = 0; i < count; i++)
            check_circuit(&all[i]);
    }
}

static void parse_rest(const char *body, size_t len)
{
    static const unsigned statuses[] = {200, 302, 400, 401, 403, 404, 429, 500, 504, 0};
    static struct easee_token token;
    struct easee_command commands[4];
    struct easee_settings settings;
    uint16_t da[PHASES];
    char detail[40];
    size_t count;
    int64_t value;

    if (easee_msg_token(body, len, &token) == ERR_OK)
        CHECK(token.expires_in_s > 0 && token.access[0] > ' ' &&
              token.refresh[0] != '\0');
    easee_msg_find_site(body, len, "ABCD-1234", &value);
    easee_msg_currents(body, len, da);
    easee_msg_circuit_settings(body, len, &settings);
    if (easee_msg_commands(body, len, commands, 4, &count) == ERR_OK) {
        CHECK(count <= 4);
        for (size_t i = 0; i < count; i++)
            CHECK(commands[i].ticks >= 0);
    }
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        easee_msg_problem(statuses[i], body, len, detail, sizeof detail);
        for (size_t k = 0; detail[k] != '\0'; k++)
            CHECK(detail[k] >= ' ' && detail[k] <= '~');
    }
    if (easee_msg_time(body, &value))
        CHECK(value >= 0);
}

/* What was put in comes out. */
static void build(const char *password)
{
    static char buf[1 << 14];
    size_t len = easee_msg_login(buf, sizeof buf, "u", password);
    cJSON *root;

    if (len == 0)
        return;
    CHECK(len == strlen(buf));
    root = cJSON_Parse(buf);
    CHECK(root != NULL);
    CHECK(strcmp(cJSON_GetObjectItemCaseSensitive(root, "password")->valuestring,
                 password) == 0);
    cJSON_Delete(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *body = malloc(size + 1);

    if (body == NULL)
        return 0;
    memcpy(body, data, size);
    body[size] = '\0';
    parse_circuits(body, size);
    parse_rest(body, size);
    build(body);
    free(body);
    return 0;
}
