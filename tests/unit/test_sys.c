/* SPDX-License-Identifier: MIT */
#include "evecc/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void clocks(void **state)
{
    uint64_t a = sys_now_ms(), b = sys_now_ms(), s = sys_unix_s();
    int64_t ms = sys_unix_ms();

    (void)state;
    assert_true(a > 0 && b >= a && b - a < 1000);
    assert_true(s <= (uint64_t)time(NULL) && s + 2 > (uint64_t)time(NULL));
    assert_true(ms / 1000 - (int64_t)s <= 1);
}

static void all_clocks_belong_to_one_boot(void **state)
{
    (void)state;
    struct state_clock a, b;

    sys_clock(&a);
    sys_clock(&b);
    assert_int_equal(strlen(a.boot_id), 36);
    assert_string_equal(a.boot_id, b.boot_id);
    assert_in_range(b.now_ms - a.now_ms, 0, 60000);
    assert_in_range(sys_now_ms() - b.now_ms, 0, 60000);
    assert_true(a.unix_ms > INT64_C(1600000000000));
}

static void random_bits_differ(void **state)
{
    uint32_t ones = 0, zeros = 0;

    (void)state;
    for (int i = 0; i < 64; i++) {
        uint32_t bits = sys_random();

        ones |= bits;
        zeros |= ~bits;
    }
    assert_int_equal(ones, UINT32_MAX);
    assert_int_equal(zeros, UINT32_MAX);
}

static void signals_come_from_the_descriptor(void **state)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    int fd = sys_signals();
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int broken[2];

    (void)state;
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(sys_signal_next(fd), 0);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        raise(signals[i]);
        assert_int_equal(poll(&p, 1, 0), 1);
        assert_int_equal(sys_signal_next(fd), signals[i]);
        assert_int_equal(sys_signal_next(fd), 0);
    }
    close(fd);

    assert_int_equal(pipe(broken), 0);
    close(broken[0]);
    assert_int_equal(write(broken[1], "x", 1), -1);
    assert_int_equal(errno, EPIPE);
    close(broken[1]);
}

/* ---- the service manager ---- */

static int listen_at(const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    memcpy(a.sun_path, name, strlen(name));
    if (*name == '@')
        a.sun_path[0] = 0;
    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    return fd;
}

static void notified(const char *name)
{
    int fd = listen_at(name);
    char got[64];

    setenv("NOTIFY_SOCKET", name, 1);
    sys_notify("READY=1");
    sys_notify("STATUS=a b");
    assert_int_equal(recv(fd, got, sizeof got, 0), 7);
    assert_memory_equal(got, "READY=1", 7);
    assert_int_equal(recv(fd, got, sizeof got, 0), 10);
    assert_memory_equal(got, "STATUS=a b", 10);
    assert_int_equal(recv(fd, got, sizeof got, 0), -1);

    /* A manager that does not read does not hold us. */
    alarm(20);
    for (int i = 0; i < 5000; i++)
        sys_notify("WATCHDOG=1");
    alarm(0);
    close(fd);
}

static void service_manager_is_told(void **state)
{
    char folder[] = "/tmp/evecc-test-sys-XXXXXX", name[64];

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(name, sizeof name, "%s/notify", folder);
    notified(name);
    unlink(name);
    rmdir(folder);
    snprintf(name, sizeof name, "@evecc-test-%d", (int)getpid());
    notified(name);
}

static void without_a_service_manager_nothing_happens(void **state)
{
    char longer[200];
    const char *names[] = {"",    "@", "/", "relative", "vsock:2:1234", "/nowhere/notify",
                           longer};

    (void)state;
    memset(longer, '/', sizeof longer);
    longer[sizeof longer - 1] = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int before, after;

        setenv("NOTIFY_SOCKET", names[i], 1);
        before = dup(0);
        close(before);
        sys_notify("READY=1");
        after = dup(0);
        close(after);
        assert_int_equal(after, before); /* no descriptor left open */
    }
    unsetenv("NOTIFY_SOCKET");
    sys_notify("READY=1");
}

static void watchdog(void **state)
{
    char own[16], other[16];
    const struct {
        const char *usec, *pid;
        uint64_t ms;
    } rows[] = {
        {NULL,                   NULL,  0    },
        {"30000000",             NULL,  15000},
        {"30000000",             own,   15000},
        {"30000000",             other, 0    },
        {"30000000",             "",    0    },
        {"",                     NULL,  0    },
        {"0",                    NULL,  0    },
        {"-1",                   NULL,  0    },
        {"12x",                  NULL,  0    },
        {" 12",                  NULL,  0    },
        {NULL,                   own,   0    },
        {"5000",                 own,   2    },
        {"99999999999999999999", NULL,  0    }
    };

    (void)state;
    snprintf(own, sizeof own, "%d", (int)getpid());
    snprintf(other, sizeof other, "%d", (int)getpid() + 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsetenv("WATCHDOG_USEC");
        unsetenv("WATCHDOG_PID");
        if (rows[i].usec)
            setenv("WATCHDOG_USEC", rows[i].usec, 1);
        if (rows[i].pid)
            setenv("WATCHDOG_PID", rows[i].pid, 1);
        if (sys_watchdog_ms() != rows[i].ms)
            print_message("row %zu\n", i);
        assert_int_equal(sys_watchdog_ms(), rows[i].ms);
    }
}

/* In a child, because the descriptors have fixed numbers: two sockets are handed over in
 * the way of the service manager, as many as FDS says, to the process PID names. */
static unsigned handed_over(const char *fds, bool to_us)
{
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        char text[16];
        unsigned n;

        for (int fd = SYS_LISTEN_FIRST; fd < SYS_LISTEN_FIRST + 2; fd++)
            dup2(STDERR_FILENO, fd);
        close(SYS_LISTEN_FIRST + 2);
        snprintf(text, sizeof text, "%d", (int)getpid() + !to_us);
        setenv("LISTEN_PID", text, 1);
        setenv("LISTEN_FDS", fds, 1);
        n = sys_listen_fds();
        for (int fd = SYS_LISTEN_FIRST; fd < SYS_LISTEN_FIRST + (int)n; fd++)
            if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC))
                _exit(100);
        _exit(getenv("LISTEN_FDS") || getenv("LISTEN_PID") || sys_listen_fds() ? 101
                                                                               : (int)n);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return (unsigned)WEXITSTATUS(status);
}

static void sockets_of_the_service_manager(void **state)
{
    (void)state;
    assert_int_equal(sys_listen_fds(), 0);
    assert_int_equal(handed_over("2", true), 2);
    assert_int_equal(handed_over("1", true), 1);
    assert_int_equal(handed_over("0", true), 0);
    assert_int_equal(handed_over("2", false), 0);
    assert_int_equal(handed_over("two", true), 0);
    assert_int_equal(handed_over("99999999999", true), 0);
    assert_int_equal(handed_over("3", true), 2); /* the third is not open */
}

/* In a child: it cannot be undone. */
static void standard_files_are_open(void **state)
{
    int status;
    pid_t pid;

    (void)state;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        int next;

        close(STDERR_FILENO);
        close(STDIN_FILENO);
        sys_standard_files();
        next = dup(STDERR_FILENO);
        _exit(next <= STDERR_FILENO || fcntl(STDIN_FILENO, F_GETFD) < 0 ||
              fcntl(next - 1, F_GETFD) < 0 || write(STDERR_FILENO, "x", 1) != 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* In a child: it cannot be undone. */
static void memory_is_protected(void **state)
{
    int status;
    pid_t pid;

    (void)state;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        struct rlimit core = {1, 1};

        sys_protect_memory();
        getrlimit(RLIMIT_CORE, &core);
        _exit(prctl(PR_GET_DUMPABLE) != 0 || core.rlim_cur != 0 || core.rlim_max != 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* In a child: a lowered hard limit stays. */
static void descriptors_are_raised_as_far_as_allowed(void **state)
{
    int status;
    pid_t pid;

    (void)state;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        struct rlimit limit = {50, 90};
        bool good = setrlimit(RLIMIT_NOFILE, &limit) == 0;

        good = good && sys_descriptors(40) == 40 && sys_descriptors(70) == 70;
        getrlimit(RLIMIT_NOFILE, &limit);
        good = good && limit.rlim_cur == 70 && limit.rlim_max == 90;
        _exit(!(good && sys_descriptors(200) == 90));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clocks),
        cmocka_unit_test(all_clocks_belong_to_one_boot),
        cmocka_unit_test(random_bits_differ),
        cmocka_unit_test(signals_come_from_the_descriptor),
        cmocka_unit_test(service_manager_is_told),
        cmocka_unit_test(without_a_service_manager_nothing_happens),
        cmocka_unit_test(watchdog),
        cmocka_unit_test(sockets_of_the_service_manager),
        cmocka_unit_test(standard_files_are_open),
        cmocka_unit_test(memory_is_protected),
        cmocka_unit_test(descriptors_are_raised_as_far_as_allowed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
