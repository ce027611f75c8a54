/* SPDX-License-Identifier: MIT */
#include "link.h"

#include "setup.h"

#include <errno.h>
#include <modbus/modbus.h>
#include <netdb.h>
#include <string.h>

enum { TIMEOUT_S = 3, READ_MAX = 125 };

const char *link_reachable(const char *address)
{
    if (strcmp(address, "::") == 0)
        return "localhost";
    return strcmp(address, "0.0.0.0") == 0 ? "127.0.0.1" : address;
}

static enum exit_code take_config(const struct cli *cli, struct link *ret)
{
    const struct config_circuit *circuit;
    struct config cfg;
    const char *path;
    enum exit_code status = setup_config(cli, &cfg, &path);

    if (status != EXIT_OK)
        return status;
    for (size_t i = cfg.listeners; i-- > 0;) { /* the first of several remains */
        if (cfg.listener[i].profile != 0)
            continue;
        snprintf(ret->host, sizeof ret->host, "%s",
                 link_reachable(cfg.listener[i].address));
        snprintf(ret->port, sizeof ret->port, "%u", (unsigned)cfg.listener[i].port);
    }
    if (cli->flag[FLAG_unit] == NULL) {
        status = setup_circuit(cli, &cfg, &circuit);
        if (status == EXIT_OK && circuit != NULL) {
            ret->unit = (int)circuit->unit;
            snprintf(ret->name, sizeof ret->name, "%s", circuit->name);
        }
    }
    config_release(&cfg);
    return status;
}

enum exit_code link_find(const struct cli *cli, struct link *ret)
{
    const char *host = cli->flag[FLAG_host], *port = cli->flag[FLAG_port],
               *unit = cli->flag[FLAG_unit];
    uint64_t n;
    enum exit_code status;

    *ret = (struct link){.host = "localhost", .port = "502", .unit = 1};
    /* Another host has another configuration: ours says nothing about it. */
    if (host == NULL || cli->flag[FLAG_config] != NULL ||
        cli->flag[FLAG_circuit] != NULL) {
        status = take_config(cli, ret);
        if (status != EXIT_OK)
            return status;
    }
    if (host != NULL)
        snprintf(ret->host, sizeof ret->host, "%s", host);
    if (port != NULL) {
        if (!parse_number(port, 1, UINT16_MAX, &n))
            return fail(cli, EXIT_USAGE, NULL, "--port %s: allowed: 1 to 65535", port);
        snprintf(ret->port, sizeof ret->port, "%u", (unsigned)n);
    }
    if (unit != NULL) {
        if (!parse_number(unit, 0, 255, &n) || (n > 247 && n < 255))
            return fail(cli, EXIT_USAGE, NULL,
                        "--unit %s: allowed: 1 to 247; 0 or 255 for the only circuit",
                        unit);
        ret->unit = (int)n;
    }
    return EXIT_OK;
}

static enum exit_code explain(const struct cli *cli, const struct link *l,
                              const char *what)
{
    char where[sizeof l->host + 32];
    int error = errno;

    snprintf(where, sizeof where, "%s port %s", l->host, l->port);
    switch (error) {
    case ECONNREFUSED:
        return fail(cli, EXIT_GATEWAY,
                    "Is eveccd running (systemctl status eveccd)? Is the port the one of "
                    "its [listener]?",
                    "nobody listens on %s", where);
    case ETIMEDOUT:
        return fail(cli, EXIT_GATEWAY,
                    "Check address, network and firewall between here and the gateway.",
                    "no answer from %s in %d s", where, TIMEOUT_S);
    case ECONNRESET:
    case EPIPE:
        return fail(cli, EXIT_GATEWAY,
                    "This machine may not be in the listener's option allow, or all "
                    "connections are taken.",
                    "%s closed the connection", where);
    case EMBXILFUN:
        return fail(cli, EXIT_REFUSED,
                    "This machine may not be in the listener's option write.",
                    "%s: the gateway refuses it (exception 1)", what);
    case EMBXILADD:
        return fail(cli, EXIT_NOT_FOUND,
                    "It may be another device, or another version of the map.",
                    "%s: the device at %s has no such registers (exception 2)", what,
                    where);
    case EMBXILVAL:
        return fail(cli, EXIT_REFUSED, "`evecc registers` shows what is allowed.",
                    "%s: value refused (exception 3)", what);
    case EMBXGTAR:
        return fail(cli, EXIT_NOT_FOUND,
                    "Each [circuit] of the configuration has its unit; say which with "
                    "--unit or --circuit.",
                    "the gateway at %s has no unit %d", where, l->unit);
    default:
        return fail(cli, EXIT_GATEWAY, "Check host and port.", "%s: %s: %s", where, what,
                    modbus_strerror(error));
    }
}

enum link_state link_try(struct link *l, int *ret_name)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    enum link_state state = LINK_OPEN;
    uint16_t head[8];
    int error;

    *ret_name = getaddrinfo(l->host, l->port, &hints, &found);
    if (*ret_name != 0)
        return LINK_NO_NAME;
    freeaddrinfo(found);
    l->ctx = modbus_new_tcp_pi(l->host, l->port);
    if (l->ctx == NULL)
        return LINK_FAILED;
    modbus_set_slave(l->ctx, l->unit);
    modbus_set_response_timeout(l->ctx, TIMEOUT_S, 0);
    errno = ETIMEDOUT;
    if (modbus_connect(l->ctx) != 0 ||
        modbus_read_registers(l->ctx, REGMAP_FIRST, 8, head) != 8)
        state = LINK_FAILED;
    else if (head[0] != 0x4556 || head[1] != 0x4757)
        state = LINK_OTHER_DEVICE;
    else if (head[REG_MAP_MAJOR - REGMAP_FIRST] != REGMAP_MAJOR)
        state = LINK_OTHER_MAP;
    error = errno;
    if (state != LINK_OPEN)
        link_close(l);
    errno = error;
    return state;
}

enum exit_code link_open(const struct cli *cli, struct link *l)
{
    enum link_state state;
    int name, error;

    progress_begin("connecting to %s port %s", l->host, l->port);
    state = link_try(l, &name);
    error = errno;
    progress_end();
    errno = error;
    switch (state) {
    case LINK_OPEN:
        return EXIT_OK;
    case LINK_NO_NAME:
        return fail(cli, EXIT_GATEWAY, "Check the name, or give an address.",
                    "host %s: %s", l->host, gai_strerror(name));
    case LINK_OTHER_DEVICE:
        return fail(cli, EXIT_GATEWAY, "Check host and port.",
                    "the device at %s port %s is not an evecc gateway", l->host, l->port);
    case LINK_OTHER_MAP:
        return fail(cli, EXIT_GATEWAY, "Use the evecc that came with the gateway.",
                    "the gateway's register map is not version %d", REGMAP_MAJOR);
    case LINK_FAILED:
        break;
    }
    return explain(cli, l, "connecting");
}

void link_close(struct link *l)
{
    if (l->ctx == NULL)
        return;
    modbus_close(l->ctx);
    modbus_free(l->ctx);
    l->ctx = NULL;
}

bool link_fetch(struct link *l, uint16_t ret[static REGMAP_COUNT])
{
    for (int at = 0; at < REGMAP_COUNT; at += READ_MAX)
        if (modbus_read_registers(l->ctx, REGMAP_FIRST + at, READ_MAX, ret + at) !=
            READ_MAX)
            return false;
    return true;
}

enum exit_code link_read(const struct cli *cli, struct link *l,
                         uint16_t ret[static REGMAP_COUNT])
{
    return link_fetch(l, ret) ? EXIT_OK : explain(cli, l, "reading");
}

enum exit_code link_read_some(const struct cli *cli, struct link *l, uint16_t addr,
                              uint16_t *ret, unsigned count)
{
    if (modbus_read_registers(l->ctx, addr, (int)count, ret) != (int)count)
        return explain(cli, l, "reading");
    return EXIT_OK;
}

enum exit_code link_write(const struct cli *cli, struct link *l, uint16_t addr,
                          const uint16_t *values, unsigned count)
{
    if (modbus_write_registers(l->ctx, addr, (int)count, values) != (int)count)
        return explain(cli, l, "writing");
    return EXIT_OK;
}
