/* SPDX-License-Identifier: MIT
 *
 * The clocks of a program under test, loaded into it with LD_PRELOAD: a wall clock that
 * somebody sets, and a machine that was suspended.  The file EVECC_TEST_CLOCK holds how
 * many seconds each is ahead: two numbers of 64 bits, which a test changes while it runs.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead_s; /* wall, suspended */
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void start(void)
{
    int fd = open(getenv("EVECC_TEST_CLOCK"), O_RDONLY | O_CLOEXEC);
    void *map = mmap(NULL, 2 * sizeof *ahead_s, PROT_READ, MAP_SHARED, fd, 0);

    *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    if (map == MAP_FAILED || real == NULL)
        abort();
    close(fd);
    ahead_s = map;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    int result = real != NULL ? real(id, t) : -1;

    if (ahead_s == NULL)
        return result;
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
        t->tv_sec += ahead_s[0] + ahead_s[1];
    if (id == CLOCK_BOOTTIME)
        t->tv_sec += ahead_s[1];
    return result;
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
