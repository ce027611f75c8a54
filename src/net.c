/* SPDX-License-Identifier: MIT */
#include "evecc/net.h"

#include "evecc/log.h"
#include "evecc/sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <modbus/modbus.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Keepalive as C-45: a peer that vanished is gone within a minute. */
enum { KEEP_IDLE_S = 30, KEEP_INTERVAL_S = 10, KEEP_PROBES = 3, USER_TIMEOUT_MS = 20000 };

/* The kernel's share of a connection, which otherwise grows to megabytes for a client
 * that pipelines and takes no answers. */
enum { SEND_BUFFER = 32 * 1024, RECEIVE_BUFFER = 32 * 1024 };

/* Addresses as text */

const char *net_text(const struct sockaddr_storage *addr, char ret[static NET_TEXT])
{
    char host[NET_HOST_TEXT] = "?", port[NET_PORT_TEXT] = "?";
    getnameinfo((const struct sockaddr *)addr, sizeof *addr, host, sizeof host, port,
                sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    const char *v4 = strncmp(host, "::ffff:", 7) == 0 ? host + 7 : host;
    snprintf(ret, NET_TEXT, strchr(v4, ':') ? "[%s]:%s" : "%s:%s", v4, port);
    return ret;
}

const char *net_peer_text(int fd, char ret[static NET_TEXT])
{
    struct sockaddr_storage addr = {0};
    socklen_t size = sizeof addr;
    getpeername(fd, (struct sockaddr *)&addr, &size);
    return net_text(&addr, ret);
}

const char *net_listening_text(int fd, char ret[static NET_TEXT])
{
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof bound, flag_size = sizeof(int);
    int listens = 0;
    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &flag_size);
    if (listens)
        getsockname(fd, (struct sockaddr *)&bound, &size);
    return net_text(&bound, ret);
}

/* Sockets of the service manager */

void net_inherit(struct net_inherited *ret)
{
    *ret = (struct net_inherited){.count = sys_listen_fds()};
    for (; ret->count > NET_INHERITED_MAX; ret->count--)
        close(SYS_LISTEN_FIRST + (int)ret->count - 1);
    for (size_t i = 0; i < ret->count; i++)
        ret->fd[i] = SYS_LISTEN_FIRST + (int)i;
}

void net_close_unused(struct net_inherited *in)
{
    char address[NET_TEXT];
    for (size_t i = 0; i < in->count; i++) {
        if (in->fd[i] < 0)
            continue;
        log_warning("socket of the service manager belongs to no listener address=%s: "
                    "make eveccd.socket and the configuration agree",
                    net_listening_text(in->fd[i], address));
        close(in->fd[i]);
        in->fd[i] = -1;
    }
}

/* The one at NODE and SERVICE, -1: none. */
static int take_inherited(struct net_inherited *in, const char *node, const char *service)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *info;
    struct sockaddr_storage addr = {0};
    char wanted[NET_TEXT], has[NET_TEXT];

    if (in->count == 0 || getaddrinfo(node, service, &hints, &info) != 0)
        return -1;
    memcpy(&addr, info->ai_addr, info->ai_addrlen);
    freeaddrinfo(info);
    net_text(&addr, wanted);
    for (size_t i = 0; i < in->count; i++)
        if (in->fd[i] >= 0 && strcmp(net_listening_text(in->fd[i], has), wanted) == 0) {
            int fd = in->fd[i];
            in->fd[i] = -1;
            return fd;
        }
    return -1;
}

/* Listening */

/* Accepted sockets inherit these from FD, at no cost per connection. */
static bool set_options(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY,      1              },
        {SOL_SOCKET,  SO_KEEPALIVE,     1              },
        {IPPROTO_TCP, TCP_KEEPIDLE,     KEEP_IDLE_S    },
        {IPPROTO_TCP, TCP_KEEPINTVL,    KEEP_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT,      KEEP_PROBES    },
        {IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS},
        {SOL_SOCKET,  SO_SNDBUF,        SEND_BUFFER    },
        {SOL_SOCKET,  SO_RCVBUF,        RECEIVE_BUFFER },
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                       sizeof options[i].value) != 0)
            return false;
    return fcntl(fd, F_SETFL, O_NONBLOCK) == 0; /* SO_REUSEADDR, CLOEXEC: libmodbus */
}

/* Keeps errno. */
static void close_socket(int fd)
{
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
}

static int listen_new(const char *node, const char *service)
{
    modbus_t *ctx = modbus_new_tcp_pi(node, service);
    if (!ctx)
        return -1;
    int fd = modbus_tcp_pi_listen(ctx, SOMAXCONN);
    int error = errno;
    modbus_free(ctx);
    errno = error;
    return fd;
}

static int listen_tcp(struct net_inherited *in, const char *node, unsigned port)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port & 0xffff);
    int fd = take_inherited(in, node, service);
    if (fd < 0)
        fd = listen_new(node, service);
    if (fd >= 0 && !set_options(fd)) {
        close_socket(fd);
        return -1;
    }
    return fd;
}

static unsigned port_of(int fd)
{
    struct sockaddr_in6 bound = {0};
    socklen_t size = sizeof bound;
    getsockname(fd, (struct sockaddr *)&bound, &size);
    return ntohs(bound.sin6_port);
}

static bool is_v6_only(int fd)
{
    int only = 0;
    socklen_t size = sizeof only;
    getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &size);
    return only != 0;
}

/* "::" means every address of both families.  libmodbus opens one socket: an IPv6 one
 * that also takes IPv4, unless the system says otherwise (net.ipv6.bindv6only); and none
 * at all (ECONNREFUSED) where no interface but the loopback has an IPv6 address, because
 * it asks getaddrinfo() for AI_ADDRCONFIG.  In both cases IPv4 gets a socket of its own.
 */
static size_t open_everywhere(const struct config_listener *cfg, struct net_inherited *in,
                              int ret[static NET_SOCKETS_MAX])
{
    int v6 = listen_tcp(in, cfg->address, cfg->port);
    if (v6 < 0 && (errno == EADDRINUSE || errno == EACCES))
        return 0;
    if (v6 >= 0)
        ret[0] = v6;
    if (v6 >= 0 && !is_v6_only(v6))
        return 1;

    int v4 = listen_tcp(in, "0.0.0.0", v6 >= 0 ? port_of(v6) : cfg->port);
    if (v4 < 0 && v6 >= 0 && errno == ECONNREFUSED)
        return 1; /* no IPv4 here */
    if (v4 < 0) {
        close_socket(v6);
        return 0;
    }
    ret[v6 >= 0] = v4;
    return v6 >= 0 ? 2 : 1;
}

static size_t open_sockets(const struct config_listener *cfg, struct net_inherited *in,
                           int ret[static NET_SOCKETS_MAX])
{
    struct in6_addr addr;
    if (inet_pton(AF_INET6, cfg->address, &addr) == 1 && IN6_IS_ADDR_UNSPECIFIED(&addr))
        return open_everywhere(cfg, in, ret);
    ret[0] = listen_tcp(in, cfg->address, cfg->port);
    return ret[0] >= 0;
}

static void explain(const struct config_listener *cfg, int error, char *why,
                    size_t why_size)
{
    const char *text = strerror(error), *remedy = "check the options address and port";
    switch (error) {
    case EADDRINUSE:
        remedy = "another program has this port: stop it, or set another port";
        break;
    case EACCES:
        remedy =
            "ports below 1024 are opened by eveccd.socket: make it active, and name the "
            "same address and port in it; or give the service CAP_NET_BIND_SERVICE; or "
            "set a higher port";
        break;
    case EADDRNOTAVAIL:
    case ECONNREFUSED: /* getaddrinfo() failed in libmodbus */
        text = "no network interface has this address";
        remedy = "correct the option address; :: is every address";
        break;
    }
    snprintf(why, why_size, "listener %s: cannot listen on address %s port %u: %s; %s",
             cfg->name, cfg->address, (unsigned)cfg->port, text, remedy);
}

size_t net_listen(const struct config_listener *cfg, struct net_inherited *in,
                  int ret[static NET_SOCKETS_MAX], char *why, size_t why_size)
{
    size_t count = open_sockets(cfg, in, ret);
    if (count == 0)
        explain(cfg, errno, why, why_size);
    return count;
}
