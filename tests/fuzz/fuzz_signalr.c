/* SPDX-License-Identifier: MIT
 * Any bytes from the hub, in pieces of any size: what is split, what it means, and what
 * negotiation says. */
#include "evecc/signalr.h"

#include "check.h"

#include <math.h>
#include <string.h>

static struct signalr_splitter splitter;

static void check_plain(const char *text, size_t size)
{
    size_t len = strnlen(text, size);

    CHECK(len < size);
    for (size_t i = 0; i < len; i++)
        CHECK(text[i] >= ' ' && text[i] <= '~');
}

static void check_message(const char *text, size_t len)
{
    struct signalr_message m;

    CHECK(len > 0 && len < SIGNALR_MESSAGE_MAX && strlen(text) <= len);
    CHECK(memchr(text, SIGNALR_SEPARATOR, len) == NULL);
    if (signalr_parse(text, len, &m) != ERR_OK)
        return;
    check_plain(m.text, sizeof m.text);
    CHECK(m.ticks >= 0 && m.command_id >= 0);
    if (m.kind != SIGNALR_OBSERVATION && m.kind != SIGNALR_VERDICT)
        return;
    check_plain(m.serial, sizeof m.serial);
    CHECK(m.serial[0] != '\0');
    if (m.kind == SIGNALR_OBSERVATION)
        CHECK(m.observation.id != 0 &&
              (!m.observation.is_number || isfinite(m.observation.number)) &&
              memchr(m.observation.text, '\0', sizeof m.observation.text) != NULL);
}

static size_t drain(void)
{
    const char *text;
    size_t len, bytes = 0;

    while (signalr_next(&splitter, &text, &len)) {
        check_message(text, len);
        bytes += len + 1;
    }
    return bytes;
}

static void check_negotiation(const char *body, size_t len)
{
    static struct signalr_negotiation n;

    if (signalr_negotiated(body, len, &n) == ERR_OK)
        CHECK((n.id[0] != '\0' || n.url[0] != '\0') &&
              memchr(n.id, '\0', sizeof n.id) != NULL &&
              memchr(n.url, '\0', sizeof n.url) != NULL &&
              memchr(n.access_token, '\0', sizeof n.access_token) != NULL);
}

/* The first byte is the size of the pieces. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t piece, given = 0, len;
    char *bytes;

    if (size == 0 || (bytes = malloc(size)) == NULL)
        return 0;
    piece = data[0] + 1u;
    len = size - 1;
    memcpy(bytes, data + 1, len);
    bytes[len] = '\0';
    signalr_init(&splitter);
    for (size_t at = 0; at < len;) {
        size_t want = len - at < piece ? len - at : piece;
        size_t fed = signalr_feed(&splitter, bytes + at, want);

        CHECK(fed > 0 && fed <= want);
        at += fed;
        given += drain();
    }
    CHECK(given <= len);
    check_negotiation(bytes, len);
    free(bytes);
    return 0;
}
