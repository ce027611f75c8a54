/* SPDX-License-Identifier: MIT */
#include "evecc/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <regex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- what log.c finds out once per process is tried in a child, whose standard error is
 * the end 1 of a pipe or socket pair; what the child says there is kept ---- */

struct child {
    int fd[2];
    char said[64 * 1024];
    size_t len;
};

enum { CHILD_FAILED = 99 };

/* BODY returns true when it is content. */
static void run(struct child *c, bool (*body)(const struct child *), bool socket)
{
    pid_t pid;
    int status;
    ssize_t n;

    c->len = 0;
    if (socket)
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, c->fd), 0);
    else
        assert_int_equal(pipe(c->fd), 0);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        dup2(c->fd[1], STDERR_FILENO);
        _exit(body(c) ? 0 : CHILD_FAILED);
    }
    close(c->fd[1]);
    while ((n = read(c->fd[0], c->said + c->len, sizeof c->said - 1 - c->len)) > 0)
        c->len += (size_t)n;
    c->said[c->len] = 0;
    close(c->fd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void assert_matches(const char *text, const char *pattern)
{
    regex_t re;

    assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    if (regexec(&re, text, 0, NULL, 0))
        fail_msg("\"%s\" does not match \"%s\"", text, pattern);
    regfree(&re);
}

static void claim_journal(unsigned off_by)
{
    char text[64];
    struct stat st;

    fstat(STDERR_FILENO, &st);
    snprintf(text, sizeof text, "%ju:%ju", (uintmax_t)st.st_dev,
             (uintmax_t)st.st_ino + off_by);
    setenv("JOURNAL_STREAM", text, 1);
}

/* ---- the form of a line ---- */

static bool say_all(const struct child *c)
{
    (void)c;
    log_error("cloud unreachable err=%s since=%us", "timeout", 12u);
    log_warning("w");
    log_info("i");
    log_debug("d");
    return true;
}

static bool say_all_to_journal(const struct child *c)
{
    claim_journal(0);
    return say_all(c);
}

static bool say_all_to_another(const struct child *c)
{
    claim_journal(1);
    return say_all(c);
}

static bool say_at_debug(const struct child *c)
{
    log_set_level(LOG_LEVEL_DEBUG);
    return say_all_to_journal(c);
}

static bool say_at_error(const struct child *c)
{
    log_set_level(LOG_LEVEL_ERROR);
    return say_all_to_journal(c);
}

static void lines_have_time_and_level(void **state)
{
#define TIME \
    "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}[+-][0-9]{4} "
    static struct child c;

    (void)state;
    run(&c, say_all, false);
    assert_matches(c.said,
                   "^" TIME "error: cloud unreachable err=timeout since=12s\n" TIME
                   "warning: w\n" TIME "info: i\n$");
    run(&c, say_all_to_another, false);
    assert_matches(c.said, "^" TIME "error: ");
}

static void lines_for_the_journal_have_a_priority(void **state)
{
    static struct child c;

    (void)state;
    for (int socket = 0; socket < 2; socket++) {
        run(&c, say_all_to_journal, socket);
        assert_string_equal(c.said,
                            "<3>cloud unreachable err=timeout since=12s\n<4>w\n<6>i\n");
        run(&c, say_at_debug, socket);
        assert_string_equal(
            c.said, "<3>cloud unreachable err=timeout since=12s\n<4>w\n<6>i\n<7>d\n");
        run(&c, say_at_error, socket);
        assert_string_equal(c.said, "<3>cloud unreachable err=timeout since=12s\n");
    }
}

static bool say_long_and_odd(const struct child *c)
{
    char text[5000];

    (void)c;
    claim_journal(0);
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    log_info("%s", text);
    log_info("a\nb\r\tc\x1b[0m\x7f"
             "d \xc3\xa6%%");
    log_info("%s", "");
    return true;
}

static void lines_are_cut_and_stay_lines(void **state)
{
    static struct child c;
    char first[1025];

    (void)state;
    run(&c, say_long_and_odd, false);
    memset(first, 'x', sizeof first);
    memcpy(first, "<6>", 3);
    first[1023] = '\n';
    first[1024] = 0;
    assert_memory_equal(c.said, first, 1024);
    assert_string_equal(c.said + 1024, "<6>a?b??c?[0m?d \xc3\xa6%\n<6>\n");
}

/* ---- a standard error that takes nothing ---- */

static bool say_to_nobody(const struct child *c)
{
    (void)c;
    signal(SIGPIPE, SIG_IGN);
    close(STDERR_FILENO);
    errno = ERANGE;
    log_error("x");
    log_info("x");
    return errno == ERANGE;
}

static bool say_to_gone_reader(const struct child *c)
{
    int fd[2];

    (void)c;
    signal(SIGPIPE, SIG_IGN);
    if (pipe(fd) || dup2(fd[1], STDERR_FILENO) < 0)
        return false;
    close(fd[0]);
    close(fd[1]);
    log_error("x");
    return true;
}

/* Says more than standard error takes, which must end before the alarm; then reads some
 * of it, and the next line must get through, after how many did not. */
static bool fill(const struct child *c)
{
    enum { SAID = 20000 };
    static char text[4 << 20];
    unsigned lines = 0, lost = 0, after = 0;
    ssize_t n, len = 0;

    alarm(20);
    for (int i = 0; i < SAID; i++)
        log_error("said=%d", i);
    for (int i = 0; i < 2; i++) {
        n = read(c->fd[0], text + len, sizeof text - 1 - (size_t)len);
        if (n <= 0)
            return false;
        len += n;
        log_error("after");
    }
    fcntl(c->fd[0], F_SETFL, O_NONBLOCK);
    while ((n = read(c->fd[0], text + len, sizeof text - 1 - (size_t)len)) > 0)
        len += n;
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL && *line;) {
        const char *count = strstr(line, " warning: log lines lost count=");

        if (count != NULL)
            lost += (unsigned)strtoul(strchr(count, '=') + 1, NULL, 10);
        lines += strstr(line, "error: said=") != NULL;
        after += strstr(line, "error: after") != NULL;
    }
    return after == 2 && lines > 0 && lost > 0 && lines + lost == SAID;
}

/* Standard error shares its description with nobody, so that it blocks when written to.
 */
static bool fill_pipe(const struct child *c)
{
    struct child own;

    (void)c;
    return !pipe(own.fd) && dup2(own.fd[1], STDERR_FILENO) >= 0 && fill(&own);
}

static bool fill_socket(const struct child *c)
{
    struct child own;

    (void)c;
    return !socketpair(AF_UNIX, SOCK_STREAM, 0, own.fd) &&
           dup2(own.fd[1], STDERR_FILENO) >= 0 && fill(&own);
}

static void a_full_or_closed_target_drops_and_counts(void **state)
{
    static struct child c;

    (void)state;
    run(&c, say_to_nobody, false);
    run(&c, say_to_gone_reader, false);
    run(&c, fill_pipe, false);
    run(&c, fill_socket, false);
}

/* ---- threads ---- */

enum { THREADS = 4, LINES = 300 };

static void *say_many(void *name)
{
    for (int i = 0; i < LINES; i++)
        log_info("thread %s line %d", (const char *)name, i);
    return NULL;
}

static bool say_in_threads(const struct child *c)
{
    static char names[THREADS][2] = {"a", "b", "c", "d"};
    pthread_t threads[THREADS];

    (void)c;
    claim_journal(0);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, say_many, names[i]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    /* The parent counts; what was lost is told before the last line. */
    poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, -1);
    log_info("end");
    return true;
}

static void lines_of_threads_stay_whole(void **state)
{
    static struct child c;
    int lines = 0, lost = 0, count;
    char *rest = c.said;

    (void)state;
    run(&c, say_in_threads, false);
    for (char *line; (line = strsep(&rest, "\n")) && *line;) {
        if (sscanf(line, "<4>log lines lost count=%d", &count) == 1)
            lost += count;
        if (line[1] == '4' || strcmp(line, "<6>end") == 0)
            continue;
        assert_matches(line, "^<6>thread [abcd] line [0-9]+$");
        lines++;
    }
    assert_int_equal(lines + lost, THREADS * LINES);
}

/* ---- the pure part ---- */

static void safe_text(void **state)
{
    char buf[8];

    (void)state;
    assert_string_equal(log_safe("a b~", buf, sizeof buf), "a b~");
    assert_string_equal(log_safe("\n\t\x7f\x80\xff\x1b", buf, sizeof buf), "??????");
    assert_string_equal(log_safe("1234567", buf, sizeof buf), "1234567");
    assert_string_equal(log_safe("12345678", buf, sizeof buf), "1234567");
    assert_string_equal(log_safe("x", buf, 1), "");
    assert_ptr_equal(log_safe("x", buf, sizeof buf), buf);
}

static void one_line_per_interval(void **state)
{
    static const struct {
        uint64_t now_ms;
        bool pass;
        uint32_t missed;
    } rows[] = {
        {0,     true,  0},
        {0,     false, 0},
        {999,   false, 0},
        {1000,  true,  2},
        {1999,  false, 0},
        {5000,  true,  1},
        {5999,  false, 0},
        {6000,  true,  1},
        {7000,  true,  0},
        {7001,  false, 0},
        {90000, true,  1}
    };
    struct log_limit l = {0};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t missed = 77;
        bool pass = log_limit_pass(&l, 1000, rows[i].now_ms, &missed);

        if (pass != rows[i].pass)
            print_message("at %ju ms\n", (uintmax_t)rows[i].now_ms);
        assert_int_equal(pass, rows[i].pass);
        assert_int_equal(missed, rows[i].pass ? rows[i].missed : 77);
    }
    l.missed = UINT32_MAX;
    assert_false(log_limit_pass(&l, 1000, 90000, &(uint32_t){0}));
    assert_int_equal(l.missed, UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_have_time_and_level),
        cmocka_unit_test(lines_for_the_journal_have_a_priority),
        cmocka_unit_test(lines_are_cut_and_stay_lines),
        cmocka_unit_test(a_full_or_closed_target_drops_and_counts),
        cmocka_unit_test(lines_of_threads_stay_whole),
        cmocka_unit_test(safe_text),
        cmocka_unit_test(one_line_per_interval),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
