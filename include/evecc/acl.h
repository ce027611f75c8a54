/* SPDX-License-Identifier: MIT
 * acl.h - lists of networks in CIDR form, IPv4 and IPv6.
 *
 * Pure: no I/O.  An IPv4-mapped IPv6 address (::ffff:a.b.c.d) is treated as the IPv4
 * address; bits of an address behind its prefix do not matter; ::/0 is everyone. */
#ifndef EVECC_ACL_H
#define EVECC_ACL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { ACL_MAX = 32 };

struct acl {
    struct acl_net {
        uint8_t addr[16]; /* IPv4 as ::ffff:a.b.c.d */
        uint8_t bits;     /* 0 to 128, of the 16 bytes */
    } net[ACL_MAX];
    unsigned count; /* 0: everyone */
};

/* Parses "10.0.0.0/8, fd00::/8, 192.168.1.7": separated by commas or blanks.  False: RET
 * is untouched and BAD (at least 64 bytes) names the word that is wrong and why. */
bool acl_parse(const char *text, struct acl *ret, char bad[static 64]);

/* ADDR as the 16 bytes that are compared here.  Other families than the two: false. */
bool acl_address(const struct sockaddr *addr, uint8_t ret[static 16]);

/* ADDR is in the list.  Other families than the two: false. */
bool acl_has(const struct acl *acl, const struct sockaddr *addr);

/* ADDR is in the list, or the list is empty.  Other families than the two: false. */
bool acl_allows(const struct acl *acl, const struct sockaddr *addr);

#endif
