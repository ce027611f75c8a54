/* SPDX-License-Identifier: MIT
 * eveccd: options, start in an order that has reasons, the Modbus thread's loop, an
 * orderly end. */
#include "evecc/config.h"
#include "evecc/easee.h"
#include "evecc/exchange.h"
#include "evecc/gateway.h"
#include "evecc/log.h"
#include "evecc/server.h"
#include "evecc/store.h"
#include "evecc/sync.h"
#include "evecc/sys.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define DEFAULT_CONFIG "/etc/evecc/evecc.conf"

enum {
    EVENTS_MAX = 64,
    STOP_MS = 3000, /* for the cloud's side to end (reliability F-02) */
    LOOK_AGAIN_MS = 1000,
    STALL_MS = 60000 /* a sync thread without progress for so long is dead: it waits 10 s
                        at most and a name server may hold it for some more */
};

struct daemon {
    const char *path;
    struct config config;
    struct store *store; /* NULL: nothing outlives the process */
    struct exchange *exchange;
    struct gateway *gateway;
    struct server *server;
    struct sync *sync;
    int epoll, signals;
    uint64_t watchdog_ms;  /* of the service manager, 0: none */
    uint64_t notify_at_ms; /* next ping; NEVER */
};

/* What an event of the epoll set that is not the server's belongs to. */
static char signal_tag, exit_tag;

static void usage(FILE *to)
{
    fputs("usage: eveccd [-c FILE] [-t]\n"
          "       eveccd -V | -h\n"
          "\n"
          "Modbus TCP gateway for Easee chargers.\n"
          "\n"
          "  -c FILE  configuration (default " DEFAULT_CONFIG ")\n"
          "  -t       check the configuration and exit: 0 good, 1 with every error on "
          "stderr\n"
          "  -V       print the version\n"
          "  -h       print this help\n"
          "\n"
          "Signals: SIGHUP reads the configuration again, SIGTERM and SIGINT end the "
          "daemon.\n"
          "See eveccd(8) and evecc.conf(5).\n",
          to);
}

static void report_plain(void *arg, const char *message)
{
    (void)arg;
    fprintf(stderr, "%s\n", message);
}

static void report_log(void *arg, const char *message)
{
    (void)arg;
    log_error("%s", message);
}

static int check_config(const char *path)
{
    struct config cfg;

    if (config_load(&cfg, path, report_plain, NULL) != ERR_OK)
        return EXIT_FAILURE;
    printf("%s: good: %zu listener%s, %zu circuit%s\n", path, cfg.listeners,
           cfg.listeners == 1 ? "" : "s", cfg.circuits, cfg.circuits == 1 ? "" : "s");
    config_release(&cfg);
    return EXIT_SUCCESS;
}

static bool watch(int epoll, int fd, void *tag)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = tag};

    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) == 0;
}

/* ---- start ---- */

/* First of all: a second instance ends here, before it has said a word.  A directory that
 * cannot be used is no reason not to control. */
static enum err open_store(struct daemon *d, char *why, size_t why_size)
{
    enum err err =
        store_open(&d->store, d->config.gateway.state_dir, true, why, why_size);

    if (err == ERR_SYSTEM) {
        log_error("setpoints and token do not outlive a restart: state_dir %s", why);
        return ERR_OK;
    }
    if (err != ERR_OK)
        log_error("cannot start: state_dir %s", why);
    return err;
}

static void restore_wishes(struct daemon *d)
{
    for (size_t i = 0; i < d->config.circuits; i++) {
        const struct want *w = sync_restored(d->sync, i);

        if (w != NULL)
            gateway_restore(d->gateway, i, w);
    }
}

static enum err start(struct daemon *d)
{
    char why[512];
    uint64_t now_ms = sys_now_ms();

    if (open_store(d, why, sizeof why) != ERR_OK)
        return ERR_CONFIG;

    d->epoll = epoll_create1(EPOLL_CLOEXEC);
    d->exchange = exchange_new(d->config.circuits);
    if (d->epoll < 0 || d->exchange == NULL ||
        gateway_new(&d->gateway, &d->config, d->exchange, now_ms) != ERR_OK) {
        log_error("cannot start: %s", strerror(errno));
        return ERR_SYSTEM;
    }
    if (sync_new(&d->sync, &d->config, d->exchange, d->store, why, sizeof why) !=
        ERR_OK) {
        log_error("cannot start: %s", why);
        return ERR_CONFIG;
    }
    restore_wishes(d);
    /* The ports before the cloud: who cannot serve should not speak. */
    if (server_new(&d->server, &d->config, d->gateway, d->epoll, why, sizeof why) !=
        ERR_OK) {
        log_error("%s", why);
        return ERR_SYSTEM;
    }
    if (!watch(d->epoll, d->signals, &signal_tag) ||
        !watch(d->epoll, sync_exit_fd(d->sync), &exit_tag) ||
        sync_start(d->sync) != ERR_OK) {
        log_error("cannot start: %s", strerror(errno));
        return ERR_SYSTEM;
    }
    return ERR_OK;
}

static void announce(struct daemon *d)
{
    const char *address;

    for (size_t i = 0; (address = server_address(d->server, i)) != NULL; i++)
        log_info("listening address=%s circuits=%zu", address, d->config.circuits);
    d->watchdog_ms = sys_watchdog_ms();
    d->notify_at_ms = d->watchdog_ms != 0 ? sys_now_ms() : NEVER;
    sys_notify("READY=1");
    log_info("ready version=" EVECC_VERSION);
}

/* ---- the loop ---- */

/* Options that are put in force while the daemon runs; the rest waits for a restart. */
static bool needs_restart(const struct config *a, const struct config *b)
{
    return a->listeners != b->listeners || a->circuits != b->circuits ||
           memcmp(a->listener, b->listener, a->listeners * sizeof a->listener[0]) != 0 ||
           memcmp(a->circuit, b->circuit, a->circuits * sizeof a->circuit[0]) != 0 ||
           strcmp(a->gateway.state_dir, b->gateway.state_dir) != 0 ||
           strcmp(a->easee.api_url, b->easee.api_url) != 0 ||
           strcmp(a->easee.stream_url, b->easee.stream_url) != 0 ||
           strcmp(a->easee.ca_file, b->easee.ca_file) != 0;
}

static void reload(struct daemon *d)
{
    struct config fresh;

    sys_notify("RELOADING=1");
    if (config_load(&fresh, d->path, report_log, NULL) != ERR_OK) {
        log_error("reload: %s has errors, nothing was changed", d->path);
    } else {
        log_set_level((enum log_level)fresh.gateway.log_level);
        if (strcmp(fresh.easee.username, d->config.easee.username) != 0 ||
            strcmp(fresh.easee.password, d->config.easee.password) != 0)
            sync_set_credentials(d->sync, fresh.easee.username, fresh.easee.password);
        if (needs_restart(&d->config, &fresh))
            log_warning(
                "reload: account and log level are in force; the other changes in %s "
                "need a restart",
                d->path);
        else
            log_info("reload: %s is in force", d->path);
        d->config.gateway.log_level = fresh.gateway.log_level;
        memcpy(d->config.easee.username, fresh.easee.username,
               sizeof fresh.easee.username);
        memcpy(d->config.easee.password, fresh.easee.password,
               sizeof fresh.easee.password);
        config_release(&fresh);
    }
    sys_notify("READY=1");
}

/* True when the daemon is to end. */
static bool take_signals(struct daemon *d)
{
    int number;

    while ((number = sys_signal_next(d->signals)) != 0) {
        if (number != SIGHUP) {
            log_info("ending on %s", strsignal(number));
            return true;
        }
        reload(d);
    }
    return false;
}

/* The service manager's watchdog is fed only while all threads move. */
static void feed_watchdog(struct daemon *d, uint64_t now_ms)
{
    uint64_t moved_ms = sync_progress_ms(d->sync);

    if (now_ms < d->notify_at_ms)
        return;
    d->notify_at_ms = now_ms + d->watchdog_ms;
    if (now_ms < moved_ms + STALL_MS) {
        sys_notify("WATCHDOG=1");
        return;
    }
    /* After a suspend it just had no time yet: looked at again before it is too late. */
    if (d->watchdog_ms > LOOK_AGAIN_MS)
        d->notify_at_ms = now_ms + LOOK_AGAIN_MS;
    log_error("the cloud thread has not moved for %" PRIu64 " s",
              (now_ms - moved_ms) / 1000);
}

static int wait_ms(const struct daemon *d, uint64_t now_ms)
{
    uint64_t at = server_wake(d->server);

    if (d->notify_at_ms < at)
        at = d->notify_at_ms;
    if (at == NEVER)
        return -1;
    return at <= now_ms ? 0 : at - now_ms < INT32_MAX ? (int)(at - now_ms) : INT32_MAX;
}

static int run(struct daemon *d)
{
    struct epoll_event ev[EVENTS_MAX];
    uint64_t now_ms = sys_now_ms();

    for (;;) {
        int n = epoll_wait(d->epoll, ev, EVENTS_MAX, wait_ms(d, now_ms));
        uint64_t unix_s = sys_unix_s();

        now_ms = sys_now_ms();
        for (int i = 0; i < n; i++) {
            if (ev[i].data.ptr == &signal_tag) {
                if (take_signals(d))
                    return EXIT_SUCCESS;
            } else if (ev[i].data.ptr == &exit_tag) {
                /* No half-alive daemon: the service manager starts a whole one. */
                log_error("the cloud thread ended by itself");
                return EXIT_FAILURE;
            } else {
                server_event(d->server, ev[i].data.ptr, ev[i].events, now_ms, unix_s);
            }
        }
        server_tick(d->server, now_ms);
        feed_watchdog(d, now_ms);
    }
}

/* ---- the end ---- */

static void end(struct daemon *d, int status)
{
    sys_notify("STOPPING=1");
    if (d->server != NULL)
        server_stop_listening(d->server);
    if (d->sync != NULL && !sync_stop(d->sync, STOP_MS)) {
        /* A dead name server holds the thread: leave it to the kernel. */
        log_warning("the cloud thread does not end, leaving it");
        _exit(status);
    }
    server_free(d->server);
    sync_free(d->sync);
    gateway_free(d->gateway);
    exchange_free(d->exchange);
    store_free(d->store);
    config_release(&d->config);
    if (d->epoll >= 0)
        close(d->epoll);
    if (d->signals >= 0)
        close(d->signals);
    log_info("ended");
}

int main(int argc, char **argv)
{
    struct daemon d = {
        .path = DEFAULT_CONFIG, .epoll = -1, .signals = -1, .notify_at_ms = NEVER};
    bool check = false;
    int option, status = EXIT_FAILURE;

    sys_standard_files();
    while ((option = getopt(argc, argv, "c:tVh")) != -1) {
        switch (option) {
        case 'c':
            d.path = optarg;
            break;
        case 't':
            check = true;
            break;
        case 'V':
            puts("eveccd " EVECC_VERSION);
            return EXIT_SUCCESS;
        case 'h':
            usage(stdout);
            return EXIT_SUCCESS;
        default:
            usage(stderr);
            return 2;
        }
    }
    if (optind != argc) {
        fprintf(stderr, "eveccd: unexpected argument: %s\n", argv[optind]);
        usage(stderr);
        return 2;
    }
    if (check)
        return check_config(d.path);

    /* Before the first secret is read. */
    sys_protect_memory();
    if (config_load(&d.config, d.path, report_log, NULL) != ERR_OK) {
        log_error("%s has errors, not starting; eveccd -t checks it", d.path);
        return EXIT_FAILURE;
    }
    log_set_level((enum log_level)d.config.gateway.log_level);
    /* Before any thread: the environment is changed and signals are blocked for all of
     * them. */
    easee_prepare_process();
    d.signals = sys_signals();
    if (d.signals < 0)
        log_error("cannot start: signalfd: %s", strerror(errno));
    else if (start(&d) == ERR_OK) {
        announce(&d);
        status = run(&d);
    }
    end(&d, status);
    return status;
}
