/* SPDX-License-Identifier: MIT
 * link.h - Modbus TCP to the gateway, by libmodbus. */
#ifndef EVECC_LINK_H
#define EVECC_LINK_H

#include "cli.h"
#include "evecc/regmap.h"

struct link {
    void *ctx; /* modbus_t */
    char host[256], port[8];
    int unit;
    char name[32]; /* of the circuit in the configuration, "" */
};

/* ADDRESS to listen on as one to connect to. */
const char *link_reachable(const char *address);

/* Where the gateway is, from the command line and the configuration. */
enum exit_code link_find(const struct cli *cli, struct link *ret);

/* Connects and makes sure that it is a gateway with our register map.  link_try() says
 * nothing: LINK_FAILED comes with errno, LINK_NO_NAME with *RET_NAME of getaddrinfo(). */
enum link_state {
    LINK_OPEN,
    LINK_FAILED,
    LINK_NO_NAME,
    LINK_OTHER_DEVICE,
    LINK_OTHER_MAP
};
enum link_state link_try(struct link *l, int *ret_name);
enum exit_code link_open(const struct cli *cli, struct link *l);
void link_close(struct link *l);

/* The whole window.  link_fetch() says nothing and leaves errno. */
bool link_fetch(struct link *l, uint16_t ret[static REGMAP_COUNT]);
enum exit_code link_read(const struct cli *cli, struct link *l,
                         uint16_t ret[static REGMAP_COUNT]);

/* COUNT registers from ADDR on in one frame. */
enum exit_code link_read_some(const struct cli *cli, struct link *l, uint16_t addr,
                              uint16_t *ret, unsigned count);
enum exit_code link_write(const struct cli *cli, struct link *l, uint16_t addr,
                          const uint16_t *values, unsigned count);

#endif
