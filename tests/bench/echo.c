/* SPDX-License-Identifier: MIT
 * echo - the least a Modbus server can do: one epoll event, one recv, one send of a
 * ready-made answer to "read ten registers".  Nothing is checked; it shows what the
 * machine allows.
 *
 *   echo PORT */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void answer(int fd)
{
    uint8_t request[260], reply[29] = {[5] = 23, [6] = 1, [7] = 3, [8] = 20};

    if (recv(fd, request, sizeof request, 0) <= 0) {
        close(fd);
        return;
    }
    reply[0] = request[0];
    reply[1] = request[1];
    if (send(fd, reply, sizeof reply, MSG_NOSIGNAL) < 0)
        close(fd);
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
        listen(listener, 128) != 0) {
        perror("echo");
        return 1;
    }
    watch(epoll, listener);
    for (;;) {
        struct epoll_event events[64];
        int n = epoll_wait(epoll, events, 64, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.fd != listener) {
                answer(events[i].data.fd);
                continue;
            }
            int fd = accept(listener, NULL, NULL);
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            watch(epoll, fd);
        }
    }
}
