/* SPDX-License-Identifier: MIT */
#include "evecc/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static struct timespec read_clock(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return t;
}

uint64_t sys_now_ms(void)
{
    /* Boot is not zero: what a charger said before it has a place on this clock, too. */
    const uint64_t before_boot_ms = UINT64_C(1) << 40;
    struct timespec t = read_clock(CLOCK_BOOTTIME);

    return before_boot_ms + (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t sys_unix_s(void)
{
    return (uint64_t)read_clock(CLOCK_REALTIME).tv_sec;
}

int64_t sys_unix_ms(void)
{
    struct timespec t = read_clock(CLOCK_REALTIME);

    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* It does not change while we run; "" when it cannot be read. */
static char boot_id[STATE_BOOT_ID_MAX];

static void read_boot_id(void)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, boot_id, sizeof boot_id - 1);

    if (fd >= 0)
        close(fd);
    boot_id[len > 0 ? len : 0] = '\0';
    boot_id[strcspn(boot_id, "\n")] = '\0';
}

void sys_clock(struct state_clock *ret)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, read_boot_id);
    memcpy(ret->boot_id, boot_id, sizeof ret->boot_id);
    ret->now_ms = sys_now_ms();
    ret->unix_ms = sys_unix_ms();
}

uint32_t sys_random(void)
{
    struct timespec t;
    uint32_t bits;

    /* Early in the boot the pool may be empty; jitter does not wait for it. */
    if (getrandom(&bits, sizeof bits, GRND_NONBLOCK) == (ssize_t)sizeof bits)
        return bits;
    t = read_clock(CLOCK_MONOTONIC);
    return ((uint32_t)t.tv_nsec ^ (uint32_t)getpid()) * 2654435761u;
}

void sys_standard_files(void)
{
    int fd;

    /* The lowest free number is taken, so this ends above standard error. */
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int sys_signals(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigaction(SIGPIPE, &ignore, NULL) || sigaction(SIGUSR1, &ignore, NULL) ||
        sigaction(SIGUSR2, &ignore, NULL) || sigprocmask(SIG_BLOCK, &set, NULL))
        return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int sys_signal_next(int fd)
{
    struct signalfd_siginfo info;

    return read(fd, &info, sizeof info) == (ssize_t)sizeof info ? (int)info.ssi_signo : 0;
}

/* The protocol of sd_notify(3): a datagram to a path, or to an abstract name written with
 * @. */
void sys_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = path ? strlen(path) : 0;
    int fd;

    if (len < 2 || len >= sizeof to.sun_path || (*path != '/' && *path != '@'))
        return;
    memcpy(to.sun_path, path, len);
    if (*path == '@')
        to.sun_path[0] = 0;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, state, strlen(state), MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    close(fd);
}

/* The number in the environment variable NAME, 0: there is none. */
static uint64_t number_from(const char *name)
{
    const char *text = getenv(name);
    char *end;
    unsigned long long n;

    if (!text || *text < '0' || *text > '9')
        return 0;
    errno = 0;
    n = strtoull(text, &end, 10);
    return errno || *end ? 0 : n;
}

unsigned sys_listen_fds(void)
{
    uint64_t n = number_from("LISTEN_FDS"), pid = number_from("LISTEN_PID");

    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    /* As with the watchdog, a child that inherited the variables is not meant. */
    if (pid != (uint64_t)getpid() || n > INT_MAX - SYS_LISTEN_FIRST)
        return 0;
    for (unsigned i = 0; i < n; i++)
        if (fcntl(SYS_LISTEN_FIRST + (int)i, F_SETFD, FD_CLOEXEC) != 0)
            return i; /* it is not open: somebody made the variables up */
    return (unsigned)n;
}

uint64_t sys_watchdog_ms(void)
{
    /* WATCHDOG_PID tells a child that inherited the variables that it is not meant. */
    if (getenv("WATCHDOG_PID") && number_from("WATCHDOG_PID") != (uint64_t)getpid())
        return 0;
    return number_from("WATCHDOG_USEC") / 2000;
}

size_t sys_descriptors(size_t wanted)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        return 0;
    if (limit.rlim_cur < wanted && limit.rlim_cur < limit.rlim_max) {
        struct rlimit more = limit;

        more.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
        if (!setrlimit(RLIMIT_NOFILE, &more))
            limit = more;
    }
    return limit.rlim_cur < wanted ? (size_t)limit.rlim_cur : wanted;
}

void sys_protect_memory(void)
{
    struct rlimit none = {0, 0};

    prctl(PR_SET_DUMPABLE, 0);
    setrlimit(RLIMIT_CORE, &none);
}
