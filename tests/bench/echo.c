/* SPDX-License-Identifier: MIT
 * echo - the least a Modbus server can do: one epoll event, one recv, and for each
 * request one send of an answer of the right size.  Nothing is checked and nothing is
 * stored; it shows what the machine allows.
 *
 *   echo PORT */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADER = 6, ADU_MAX = 260, CLIENTS_MAX = 4096 };

/* What came of a request that was cut. */
static struct {
    size_t size;
    uint8_t bytes[1024];
} held[CLIENTS_MAX];

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void answer(int fd, const uint8_t *request)
{
    uint8_t reply[ADU_MAX] = {0};
    size_t size = 12;

    memcpy(reply, request, size); /* function 16 is answered with its own beginning */
    reply[5] = 6;
    if (request[7] == 3) {
        reply[8] = (uint8_t)(2 * request[11]);
        size = 9u + reply[8];
        reply[5] = (uint8_t)(size - HEADER);
        reply[9] = reply[10] = reply[11] = 0;
    }
    send(fd, reply, size, MSG_NOSIGNAL);
}

static void serve(int fd)
{
    uint8_t *bytes = held[fd].bytes;
    ssize_t n = recv(fd, bytes + held[fd].size, sizeof held[fd].bytes - held[fd].size, 0);
    size_t at = 0, size, end = held[fd].size + (n > 0 ? (size_t)n : 0);

    held[fd].size = 0;
    if (n <= 0) {
        close(fd);
        return;
    }
    for (; end - at >= HEADER && end - at >= (size = HEADER + bytes[at + 5]); at += size)
        answer(fd, bytes + at);
    if (at < end)
        memmove(bytes, bytes + at, end - at);
    held[fd].size = end - at;
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)strtoul(argc > 1 ? argv[1] : "0", NULL, 10)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0), on = 1;

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 ||
        listen(listener, 1024) != 0) {
        perror("echo");
        return 1;
    }
    watch(epoll, listener);
    for (;;) {
        struct epoll_event events[64];
        int n = epoll_wait(epoll, events, 64, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.fd != listener) {
                serve(events[i].data.fd);
                continue;
            }
            int fd = accept(listener, NULL, NULL);
            if (fd < 0 || fd >= CLIENTS_MAX)
                return 1;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            watch(epoll, fd);
        }
    }
}
