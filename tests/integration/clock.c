/* SPDX-License-Identifier: MIT
 *
 * The clocks of a program under test, loaded into it with LD_PRELOAD: a wall clock that
 * somebody sets, a machine that was suspended, and time that passes faster.  The file
 * EVECC_TEST_CLOCK holds a struct hands, whose first two numbers a test changes while the
 * program runs.
 *
 * Time that passes SPEED times as fast does so for all that runs with the same file:
 * every clock is faster, and what waits for so many seconds waits that much shorter.
 * These are all the calls by which eveccd, easeesim, libcurl and libwebsockets tell time
 * or wait
 * (`nm -D --undefined-only`), timerfd and condition variables are not among them.  What
 * the kernel does, and the processor, takes its true time: a call that took 1 ms seems to
 * have taken SPEED ms.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct hands {
    int64_t wall_s, suspended_s; /* how far ahead */
    int64_t speed, since_ns;     /* since the true monotonic clock showed that */
};

enum { NS = 1000000000 };

static const volatile struct hands *hands;
static int (*real)(clockid_t, struct timespec *);
static int (*real_ppoll)(struct pollfd *, nfds_t, const struct timespec *,
                         const sigset_t *);
static int (*real_epoll)(int, struct epoll_event *, int, const struct timespec *,
                         const sigset_t *);
static int (*real_sleep)(const struct timespec *, struct timespec *);

static void find(void *ret, const char *name)
{
    *(void **)ret = dlsym(RTLD_NEXT, name);
    if (*(void **)ret == NULL)
        abort();
}

__attribute__((constructor)) static void start(void)
{
    int fd = open(getenv("EVECC_TEST_CLOCK"), O_RDONLY | O_CLOEXEC);
    void *map = mmap(NULL, sizeof *hands, PROT_READ, MAP_SHARED, fd, 0);

    find(&real, "clock_gettime");
    find(&real_ppoll, "ppoll");
    find(&real_epoll, "epoll_pwait2");
    find(&real_sleep, "nanosleep");
    if (map == MAP_FAILED)
        abort();
    close(fd);
    hands = map;
}

/* Nanoseconds that the faster clocks are ahead. */
static int64_t gained_ns(void)
{
    struct timespec t;

    if (hands->speed == 1)
        return 0;
    real(CLOCK_MONOTONIC, &t);
    return (hands->speed - 1) * (t.tv_sec * (int64_t)NS + t.tv_nsec - hands->since_ns);
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    int64_t ns;
    int result;

    if (real == NULL)
        find(&real, "clock_gettime");
    result = real(id, t);
    if (result != 0 || hands == NULL || id == CLOCK_PROCESS_CPUTIME_ID ||
        id == CLOCK_THREAD_CPUTIME_ID)
        return result;
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
        t->tv_sec += hands->wall_s + hands->suspended_s;
    if (id == CLOCK_BOOTTIME)
        t->tv_sec += hands->suspended_s;
    ns = t->tv_nsec + gained_ns();
    t->tv_sec += ns / NS;
    t->tv_nsec = ns % NS;
    return result;
}

/* MS that a program waits, as they really pass; NULL: for ever. */
static struct timespec *shorter(struct timespec *t, int ms)
{
    int64_t ns = ms * (int64_t)1000000 / (hands != NULL ? hands->speed : 1);

    t->tv_sec = ns / NS;
    t->tv_nsec = ns % NS;
    return ms < 0 ? NULL : t;
}

int poll(struct pollfd *fds, nfds_t n, int ms)
{
    struct timespec t;

    return real_ppoll(fds, n, shorter(&t, ms), NULL);
}

int epoll_wait(int fd, struct epoll_event *ret, int n, int ms)
{
    struct timespec t;

    return real_epoll(fd, ret, n, shorter(&t, ms), NULL);
}

int nanosleep(const struct timespec *for_, struct timespec *left)
{
    int64_t ns = (for_->tv_sec * (int64_t)NS + for_->tv_nsec) / hands->speed;
    struct timespec t = {ns / NS, ns % NS};

    return real_sleep(&t, left);
}

int usleep(useconds_t us)
{
    struct timespec t = {us / 1000000, us % 1000000 * 1000};

    return nanosleep(&t, NULL);
}

time_t time(time_t *ret)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    if (ret != NULL)
        *ret = t.tv_sec;
    return t.tv_sec;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    struct timespec t;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &t);
    ret->tv_sec = t.tv_sec;
    ret->tv_usec = t.tv_nsec / 1000;
    return 0;
}
