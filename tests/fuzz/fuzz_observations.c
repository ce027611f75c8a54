/* SPDX-License-Identifier: MIT
 * Any bytes as an answer full of observations, all the way into what is known of a
 * charger. */
#include "evecc/easee_msg.h"

#include "check.h"

#include <math.h>
#include <string.h>

enum { MAX = 64 };

static void check(const struct charger *c, uint64_t now_ms, uint64_t energy_wh)
{
    const struct telemetry *t = &c->telemetry;

    CHECK(t->power_at_ms == NEVER || t->power_at_ms <= now_ms);
    CHECK(t->state_at_ms == NEVER || t->state_at_ms <= now_ms);
    CHECK(t->limits_at_ms == NEVER || t->limits_at_ms <= now_ms);
    CHECK(energy_wh == NA_U64 || (t->energy_wh != NA_U64 && t->energy_wh >= energy_wh));
    CHECK(t->vehicle <= 1 || t->vehicle == NA_U16);
    CHECK(t->online <= 1 || t->online == NA_U16);
    CHECK(t->phases_in_use <= PHASES || t->phases_in_use == NA_U16);
    CHECK(strlen(t->firmware) <= FIRMWARE_MAX);
}

/* The first byte chooses the cloud's clock. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t clocks[] = {0, 1, INT64_C(1767614282000),
                                     INT64_C(253402300799999)};
    static struct observation o[MAX];
    const uint64_t now_ms = 1000000;
    struct charger c;
    size_t count, len;
    char *body;

    if (size == 0 || (body = malloc(size)) == NULL)
        return 0;
    len = size - 1;
    memcpy(body, data + 1, len);
    body[len] = '\0';
    charger_init(&c);
    if (easee_msg_observations(body, len, o, MAX, &count) == ERR_OK) {
        CHECK(count <= MAX);
        for (size_t i = 0; i < count; i++) {
            uint64_t energy_wh = c.telemetry.energy_wh;

            CHECK(o[i].id != 0 && (!o[i].is_number || isfinite(o[i].number)));
            CHECK(strnlen(o[i].text, sizeof o[i].text) < sizeof o[i].text);
            charger_observe(&c, &o[i], clocks[data[0] % 4], now_ms + i);
            check(&c, now_ms + i, energy_wh);
        }
    }
    free(body);
    return 0;
}
