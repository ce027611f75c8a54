/* SPDX-License-Identifier: MIT
 * wire - passes a TCP port on to another one and says when bytes went that way.
 *
 *   wire PORT TARGET
 *
 * Prints a line with CLOCK_MONOTONIC in ns for whatever a client sends, before it is
 * passed on.  What comes back is not mentioned. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FDS_MAX = 1024 };

static int other[FDS_MAX]; /* end of the same line */
static int is_client[FDS_MAX];

static struct sockaddr_in loopback(const char *port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void open_line(int epoll, int client, const struct sockaddr_in *to)
{
    int server = socket(AF_INET, SOCK_STREAM, 0);

    if (client < 0 || client >= FDS_MAX || server < 0 || server >= FDS_MAX ||
        connect(server, (const struct sockaddr *)to, sizeof *to) != 0) {
        close(client);
        close(server);
        return;
    }
    other[client] = server;
    other[server] = client;
    is_client[client] = 1;
    is_client[server] = 0;
    watch(epoll, client);
    watch(epoll, server);
}

static void pass_on(int fd)
{
    char bytes[16384];
    ssize_t n = recv(fd, bytes, sizeof bytes, 0);
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    if (n > 0 && send(other[fd], bytes, (size_t)n, MSG_NOSIGNAL) == n) {
        if (is_client[fd])
            printf("%" PRIu64 "\n",
                   (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec);
        return;
    }
    shutdown(other[fd], SHUT_WR); /* its own end closes the rest */
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    struct sockaddr_in at = loopback(argv[1]), to = loopback(argv[2]);
    int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0), on = 1;

    setvbuf(stdout, NULL, _IOLBF, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 ||
        listen(listener, 16) != 0) {
        perror("wire");
        return 1;
    }
    watch(epoll, listener);
    for (;;) {
        struct epoll_event event;

        if (epoll_wait(epoll, &event, 1, -1) != 1)
            continue;
        if (event.data.fd == listener)
            open_line(epoll, accept(listener, NULL, NULL), &to);
        else
            pass_on(event.data.fd);
    }
}
