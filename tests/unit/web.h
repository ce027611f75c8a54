/* SPDX-License-Identifier: MIT
 * web.h - a web server on loopback that misbehaves as told: a thread that accepts, one
 * per connection, plain sockets or TLS.  For tests. */
#ifndef EVECC_WEB_H
#define EVECC_WEB_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WEB_LINKS_MAX = 64, WEB_REQUEST_MAX = 32768 };

struct web;

struct web_link {
    struct web *web;
    SSL *ssl; /* NULL: plain */
    int fd;
    unsigned number; /* of the connection, from 1 */
    pthread_t thread;
    char
        request[WEB_REQUEST_MAX]; /* the one read last, with its body; the thread's own */
};

/* Serves one connection until it returns. */
typedef void web_handler(struct web_link *link);

struct web {
    web_handler *serve;
    const void *told; /* for the handler */
    SSL_CTX *tls;     /* NULL: plain */
    int fd;
    uint16_t port;
    pthread_t thread;
    /* Under the lock: */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stop, open; /* OPEN: a gate for handlers that wait */
    unsigned links, requests;
    char last[WEB_REQUEST_MAX]; /* request, of all connections */
    struct web_link link[WEB_LINKS_MAX];
};

static bool web_send(struct web_link *l, const void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = l->ssl != NULL
                        ? SSL_write(l->ssl, (const char *)data + at, (int)(len - at))
                        : send(l->fd, (const char *)data + at, len - at, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

static bool web_say(struct web_link *l, const char *text)
{
    return web_send(l, text, strlen(text));
}

static size_t web_content_length(const char *request)
{
    const char *at = strstr(request, "Content-Length: ");

    return at != NULL ? strtoul(at + 16, NULL, 10) : 0;
}

/* Reads one request, with its body, and counts it; false when the peer has gone. */
static bool web_read(struct web_link *l)
{
    size_t len = 0;
    const char *end;

    for (;;) {
        size_t room = sizeof l->request - 1 - len;
        ssize_t n = l->ssl != NULL ? SSL_read(l->ssl, l->request + len, (int)room)
                                   : recv(l->fd, l->request + len, room, 0);

        if (n <= 0)
            return false;
        len += (size_t)n;
        l->request[len] = '\0';
        end = strstr(l->request, "\r\n\r\n");
        if (end != NULL &&
            len >= (size_t)(end + 4 - l->request) + web_content_length(l->request))
            break;
    }
    pthread_mutex_lock(&l->web->lock);
    l->web->requests++;
    memcpy(l->web->last, l->request, len + 1);
    pthread_cond_broadcast(&l->web->changed);
    pthread_mutex_unlock(&l->web->lock);
    return true;
}

/* Waits until the gate is open or the server stops. */
static void web_wait_open(struct web_link *l)
{
    pthread_mutex_lock(&l->web->lock);
    while (!l->web->open && !l->web->stop)
        pthread_cond_wait(&l->web->changed, &l->web->lock);
    pthread_mutex_unlock(&l->web->lock);
}

static inline void web_open(struct web *w)
{
    pthread_mutex_lock(&w->lock);
    w->open = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static unsigned web_count(struct web *w, const unsigned *counter)
{
    unsigned n;

    pthread_mutex_lock(&w->lock);
    n = *counter;
    pthread_mutex_unlock(&w->lock);
    return n;
}

/* The last request, whole.  Valid until the next call. */
static const char *web_last(struct web *w)
{
    static char request[WEB_REQUEST_MAX];

    pthread_mutex_lock(&w->lock);
    memcpy(request, w->last, sizeof request);
    pthread_mutex_unlock(&w->lock);
    return request;
}

static void *web_link_main(void *arg)
{
    struct web_link *l = arg;

    if (l->web->tls != NULL) {
        l->ssl = SSL_new(l->web->tls);
        SSL_set_fd(l->ssl, l->fd);
    }
    if (l->ssl == NULL || SSL_accept(l->ssl) == 1)
        l->web->serve(l);
    if (l->ssl != NULL) {
        SSL_shutdown(l->ssl);
        SSL_free(l->ssl);
    }
    shutdown(l->fd, SHUT_RDWR);
    return NULL;
}

static void *web_main(void *arg)
{
    struct web *w = arg;

    for (;;) {
        int fd = accept(w->fd, NULL, NULL);
        struct web_link *l;

        pthread_mutex_lock(&w->lock);
        if (fd < 0 || w->stop || w->links == WEB_LINKS_MAX) {
            pthread_mutex_unlock(&w->lock);
            if (fd >= 0)
                close(fd);
            return NULL;
        }
        l = &w->link[w->links++];
        l->web = w;
        l->fd = fd;
        l->number = w->links;
        if (pthread_create(&l->thread, NULL, web_link_main, l) != 0)
            abort();
        pthread_mutex_unlock(&w->lock);
    }
}

/* Returns owned, ended with web_stop(). */
static struct web *web_start(web_handler *serve, const void *told, SSL_CTX *tls)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    struct web *w = calloc(1, sizeof *w);

    if (w == NULL)
        abort();
    w->serve = serve;
    w->told = told;
    w->tls = tls;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (w->fd < 0 || bind(w->fd, (struct sockaddr *)&addr, sizeof addr) != 0 ||
        listen(w->fd, 64) != 0 ||
        getsockname(w->fd, (struct sockaddr *)&addr, &len) != 0 ||
        pthread_create(&w->thread, NULL, web_main, w) != 0)
        abort();
    w->port = ntohs(addr.sin_port);
    return w;
}

static void web_stop(struct web *w)
{
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_broadcast(&w->changed);
    for (unsigned i = 0; i < w->links; i++)
        shutdown(w->link[i].fd, SHUT_RDWR);
    pthread_mutex_unlock(&w->lock);
    shutdown(w->fd, SHUT_RDWR);
    pthread_join(w->thread, NULL);
    for (unsigned i = 0; i < w->links; i++) {
        pthread_join(w->link[i].thread, NULL);
        close(w->link[i].fd);
    }
    close(w->fd);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

#endif
