/* SPDX-License-Identifier: MIT */
#include "evecc/reply.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The socket libmodbus believes to have.  No descriptor, and no number that stands for a
 * closed one, so nothing else ever sends to it. */
enum { SENTINEL = INT_MIN };

struct reply {
    modbus_t *ctx;
};

/* Where a send() to the sentinel goes while libmodbus builds a reply on this thread. */
static _Thread_local struct sink {
    uint8_t *bytes;
    size_t size;
} sink;

/* Replaces the C library's for the whole program, libmodbus included: the executable's
 * symbols come first.  Everything that is not a reply goes on to where it would have
 * gone. */
ssize_t send(int fd, const void *buf, size_t n, int flags)
{
    if (fd != SENTINEL)
        return sendto(fd, buf, n, flags, NULL, 0);
    assert(sink.bytes && n <= MBAP_ADU_MAX);
    memcpy(sink.bytes, buf, n);
    sink.size = n;
    return (ssize_t)n;
}

static size_t sink_close(void)
{
    size_t size = sink.size;
    sink = (struct sink){0};
    return size;
}

size_t reply_build(struct reply *r, const uint8_t *adu, size_t size,
                   modbus_mapping_t *map, uint8_t out[static MBAP_ADU_MAX])
{
    sink.bytes = out;
    modbus_reply(r->ctx, adu, (int)size, map);
    return sink_close();
}

size_t reply_exception(struct reply *r, const uint8_t *adu, enum modbus_exception code,
                       uint8_t out[static MBAP_ADU_MAX])
{
    sink.bytes = out;
    modbus_reply_exception(r->ctx, adu, (unsigned)code);
    return sink_close();
}

/* One read of one register arrives as APP 6.3 has it: this libmodbus does send through
 * send(). */
static bool captures(struct reply *r)
{
    static const uint8_t request[] = {0x12, 0x34, 0, 0, 0, 6, 9, FC_READ_HOLDING,
                                      0,    0,    0, 1};
    static const uint8_t expected[] = {0x12, 0x34, 0,   0, 0, 5, 9, FC_READ_HOLDING,
                                       2,    0xab, 0xcd};
    uint16_t registers[] = {0xabcd};
    modbus_mapping_t map = {.nb_registers = 1, .tab_registers = registers};
    uint8_t out[MBAP_ADU_MAX];

    if (reply_build(r, request, sizeof request, &map, out) == sizeof expected &&
        memcmp(out, expected, sizeof expected) == 0)
        return true;
    errno = ENOTSUP;
    return false;
}

enum err reply_new(struct reply **ret)
{
    struct reply *r = calloc(1, sizeof *r);
    if (!r)
        return ERR_SYSTEM;
    r->ctx = modbus_new_tcp(NULL, 0); /* never connected: no address, no port */
    /* For illegal requests libmodbus sleeps its response timeout (reliability 1.1).  None
     * gets here; should one ever, it costs a microsecond. */
    if (!r->ctx || modbus_set_response_timeout(r->ctx, 0, 1) != 0 ||
        modbus_set_socket(r->ctx, SENTINEL) != 0 || !captures(r)) {
        reply_free(r);
        return ERR_SYSTEM;
    }
    *ret = r;
    return ERR_OK;
}

void reply_free(struct reply *r)
{
    if (r)
        modbus_free(r->ctx);
    free(r);
}
