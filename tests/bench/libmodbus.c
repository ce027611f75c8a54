/* SPDX-License-Identifier: MIT
 * libmodbus - a server the way libmodbus is commonly used: select, modbus_receive,
 * modbus_reply.
 *
 *   libmodbus PORT FIRST COUNT      serves COUNT registers from address FIRST */
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned number(const char *text)
{
    return (unsigned)strtoul(text, NULL, 10);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", (int)number(argv[1]));
    unsigned first = number(argv[2]), count = number(argv[3]);
    modbus_mapping_t *map =
        modbus_mapping_new_start_address(0, 0, 0, 0, first, count, first, count);
    int listener = modbus_tcp_listen(ctx, 1024), highest = listener;
    fd_set all;

    if (listener < 0) {
        fprintf(stderr, "libmodbus: %s\n", modbus_strerror(0));
        return 1;
    }
    FD_ZERO(&all);
    FD_SET(listener, &all);
    for (;;) {
        fd_set ready = all;

        if (select(highest + 1, &ready, NULL, NULL, NULL) < 0)
            return 1;
        for (int fd = 0; fd <= highest; fd++) {
            uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];

            if (!FD_ISSET(fd, &ready))
                continue;
            if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                if (client < 0 || client >= FD_SETSIZE)
                    return 1;
                FD_SET(client, &all);
                highest = client > highest ? client : highest;
                continue;
            }
            modbus_set_socket(ctx, fd);
            int n = modbus_receive(ctx, query);
            if (n > 0) {
                modbus_reply(ctx, query, n, map);
            } else if (n < 0) {
                close(fd);
                FD_CLR(fd, &all);
            }
        }
    }
}
