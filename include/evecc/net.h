/* SPDX-License-Identifier: MIT
 * net.h - listening sockets and addresses as text.
 *
 * libmodbus listens (modbus_new_tcp_pi); what clients may expect of a connection
 * (reliability C-44 to C-46) is set on the listening socket and inherited from it. */
#ifndef EVECC_NET_H
#define EVECC_NET_H

#include "evecc/config.h"
#include "evecc/err.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum {
    NET_SOCKETS_MAX = 2, /* "::" may take one for each family */
    NET_INHERITED_MAX = 64,
    NET_HOST_TEXT = INET6_ADDRSTRLEN + IF_NAMESIZE, /* fe80::1%eth0 */
    NET_PORT_TEXT = 6,
    NET_TEXT = NET_HOST_TEXT + NET_PORT_TEXT + 3 /* [host]:port */
};

/* Sockets that the service manager has opened (sys_listen_fds()) and no listener has
 * taken yet; -1: taken. */
struct net_inherited {
    size_t count;
    int fd[NET_INHERITED_MAX];
};

void net_inherit(struct net_inherited *ret);

/* Closes and logs what is left: clients of a socket nobody serves would be connected and
 * never answered. */
void net_close_unused(struct net_inherited *in);

/* Opens the sockets of CFG, not blocking; an inherited one with its address and port is
 * taken instead.  Returns how many, owned by the caller in RET; 0: WHY (WHY_SIZE bytes)
 * says which listener failed, why, and what to do. */
size_t net_listen(const struct config_listener *cfg, struct net_inherited *in,
                  int ret[static NET_SOCKETS_MAX], char *why, size_t why_size);

/* "192.0.2.1:502" or "[2001:db8::1]:502"; IPv4 on an IPv6 socket is shown as IPv4.
 * Returns RET. */
const char *net_text(const struct sockaddr_storage *addr, char ret[static NET_TEXT]);

/* The other end of FD; what FD listens on, "?:?" when it does not: as net_text(). */
const char *net_peer_text(int fd, char ret[static NET_TEXT]);
const char *net_listening_text(int fd, char ret[static NET_TEXT]);

#endif
