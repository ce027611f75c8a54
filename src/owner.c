/* SPDX-License-Identifier: MIT */
#include "evecc/owner.h"

#include <string.h>

static bool owns(const struct owner *o, const uint8_t address[static 16], uint64_t now_ms)
{
    return now_ms < o->until_ms && memcmp(o->address, address, sizeof o->address) == 0;
}

bool owner_allows(const struct owner *o, enum owner_rule rule,
                  const uint8_t address[static 16], uint64_t now_ms)
{
    return rule != OWNER_FIRST || now_ms >= o->until_ms || owns(o, address, now_ms);
}

bool owner_wrote(struct owner *o, const uint8_t address[static 16], uint64_t now_ms,
                 uint64_t timeout_ms)
{
    bool before = owns(o, address, now_ms);
    memcpy(o->address, address, sizeof o->address);
    o->until_ms = now_ms + timeout_ms;
    return !before;
}
