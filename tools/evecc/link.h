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
};

/* Where the gateway is, from the command line and the configuration. */
enum exit_code link_find(const struct cli *cli, struct link *ret);

/* Connects and makes sure that it is a gateway with our register map.  Says what is
 * wrong. */
enum exit_code link_open(const struct cli *cli, struct link *l);
void link_close(struct link *l);

/* The whole window. */
enum exit_code link_read(const struct cli *cli, struct link *l,
                         uint16_t ret[static REGMAP_COUNT]);

/* COUNT registers from ADDR on in one frame. */
enum exit_code link_write(const struct cli *cli, struct link *l, uint16_t addr,
                          const uint16_t *values, unsigned count);

#endif
