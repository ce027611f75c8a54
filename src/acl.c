/* SPDX-License-Identifier: MIT */
#include "evecc/acl.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

enum { WORD_MAX = INET6_ADDRSTRLEN + 4, BAD_SIZE = 64, BAD_SHOWN = 34, IPV4_BITS = 96 };

static const uint8_t ipv4_prefix[12] = {[10] = 0xFF, [11] = 0xFF};

static void set_ipv4(uint8_t addr[static 16], const void *ipv4)
{
    memcpy(addr, ipv4_prefix, sizeof ipv4_prefix);
    memcpy(addr + sizeof ipv4_prefix, ipv4, 4);
}

/* A decimal number without sign, leading zero or rest, at most MAX. */
static bool parse_bits(const char *text, unsigned max, unsigned *ret)
{
    unsigned v = 0;

    if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0'))
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        v = 10 * v + (unsigned)(*text - '0');
        if (v > max)
            return false;
    }
    *ret = v;
    return true;
}

/* NULL, or what is wrong with WORD, which is cut into address and prefix. */
static const char *parse_net(char *word, struct acl_net *ret)
{
    struct in_addr ipv4;
    struct acl_net net;
    unsigned offset = 0, bits = 128;
    char *slash = strchr(word, '/');

    if (slash != NULL)
        *slash = '\0';
    if (inet_pton(AF_INET, word, &ipv4) == 1) {
        set_ipv4(net.addr, &ipv4);
        offset = IPV4_BITS;
        bits = 32;
    } else if (inet_pton(AF_INET6, word, net.addr) != 1) {
        return "not an address";
    }
    if (slash != NULL && !parse_bits(slash + 1, bits, &bits))
        return offset != 0 ? "prefix is not 0 to 32" : "prefix is not 0 to 128";
    net.bits = (uint8_t)(offset + bits);
    *ret = net;
    return NULL;
}

static char *append(char *to, const char *text, size_t n)
{
    memcpy(to, text, n);
    to[n] = '\0';
    return to + n;
}

/* "WORD: why", a long word cut. */
static void complain(char *bad, const char *word, size_t n, const char *why)
{
    bad = append(bad, word, n < BAD_SHOWN ? n : BAD_SHOWN);
    bad = append(bad, ": ", 2);
    append(bad, why, strlen(why));
}

bool acl_parse(const char *text, struct acl *ret, char bad[static BAD_SIZE])
{
    static const char separators[] = ", \t";
    struct acl acl = {.count = 0};

    for (text += strspn(text, separators); *text != '\0';
         text += strspn(text, separators)) {
        char word[WORD_MAX + 1];
        size_t n = strcspn(text, separators);
        const char *why;

        if (acl.count == ACL_MAX) {
            why = "more than 32 networks";
        } else if (n > WORD_MAX) {
            why = "not an address";
        } else {
            append(word, text, n);
            why = parse_net(word, &acl.net[acl.count]);
        }
        if (why != NULL) {
            complain(bad, text, n, why);
            return false;
        }
        acl.count++;
        text += n;
    }
    *ret = acl;
    return true;
}

static bool contains(const struct acl_net *net, const uint8_t addr[static 16])
{
    size_t bytes = net->bits / 8u;
    unsigned rest = net->bits % 8u;

    return memcmp(net->addr, addr, bytes) == 0 &&
           (rest == 0 || (net->addr[bytes] ^ addr[bytes]) >> (8 - rest) == 0);
}

bool acl_address(const struct sockaddr *addr, uint8_t ret[static 16])
{
    if (addr->sa_family == AF_INET)
        set_ipv4(ret, &((const struct sockaddr_in *)(const void *)addr)->sin_addr);
    else if (addr->sa_family == AF_INET6)
        memcpy(ret, &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr, 16);
    else
        return false;
    return true;
}

bool acl_has(const struct acl *acl, const struct sockaddr *addr)
{
    uint8_t bytes[16];

    if (!acl_address(addr, bytes))
        return false;
    for (unsigned i = 0; i < acl->count; i++)
        if (contains(&acl->net[i], bytes))
            return true;
    return false;
}

bool acl_allows(const struct acl *acl, const struct sockaddr *addr)
{
    uint8_t bytes[16];

    return acl->count > 0 ? acl_has(acl, addr) : acl_address(addr, bytes);
}
