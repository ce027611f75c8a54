/* SPDX-License-Identifier: MIT */
#include "evecc/log.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_SIZE = 1024 };

static _Atomic int max_level = LOG_LEVEL_INFO;

/* What standard error is; found out once. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool is_journal, is_socket;

static void look_at_stderr(void)
{
    const char *journal = getenv("JOURNAL_STREAM"); /* device:inode, systemd.exec(5) */
    char self[64];
    struct stat st;

    if (fstat(STDERR_FILENO, &st))
        return;
    is_socket = S_ISSOCK(st.st_mode);
    snprintf(self, sizeof self, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    is_journal = journal && !strcmp(journal, self);
}

/* The beginning of a line, for the journal or for a reader; returns its length. */
static size_t put_prefix(char *buf, size_t size, enum log_level level)
{
    static const struct {
        const char *name;
        int priority; /* sd-daemon(3) */
    } levels[] = {
        [LOG_LEVEL_ERROR] = {"error",   3},
        [LOG_LEVEL_WARNING] = {"warning", 4},
        [LOG_LEVEL_INFO] = {"info",    6},
        [LOG_LEVEL_DEBUG] = {"debug",   7}
    };
    char zone[8] = "";
    struct timespec now;
    struct tm tm;
    size_t len;

    if (is_journal)
        return (size_t)snprintf(buf, size, "<%d>", levels[level].priority);
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    len = strftime(buf, size, "%Y-%m-%dT%H:%M:%S", &tm);
    strftime(zone, sizeof zone, "%z", &tm);
    return len + (size_t)snprintf(buf + len, size - len,
                                  ".%03ld%s %s: ", now.tv_nsec / 1000000, zone,
                                  levels[level].name);
}

/* Never waits: whoever reads our standard error may have stopped, and the chargers must
 * not notice.  A pipe that polls writable takes PIPE_BUF bytes at once, more than a line
 * has; only another process on the same pipe could fill it in between. */
static bool put(const char *line, size_t len)
{
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};
    ssize_t n;

    if (is_socket)
        n = send(STDERR_FILENO, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    else if (poll(&fd, 1, 0) == 1 && fd.revents & POLLOUT)
        n = write(STDERR_FILENO, line, len);
    else
        n = -1;
    return n == (ssize_t)len;
}

/* Writes LINE, or counts it, and says before the next that is written how many were not:
 * of whatever level they are, a gap in the log is to be seen. */
static void put_or_count(const char *line, size_t len)
{
    static uint64_t lost;
    char notice[128];
    size_t start;

    if (lost > 0) {
        start = put_prefix(notice, sizeof notice, LOG_LEVEL_WARNING);
        start += (size_t)snprintf(notice + start, sizeof notice - start,
                                  "log lines lost count=%" PRIu64 "\n", lost);
        if (put(notice, start))
            lost = 0;
    }
    if (lost > 0 || !put(line, len))
        lost++;
}

__attribute__((format(printf, 2, 0))) static void log_line(enum log_level level,
                                                           const char *fmt, va_list args)
{
    static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;
    char line[LINE_MAX_SIZE];
    size_t len, start;
    int saved = errno, n;

    if ((int)level > max_level)
        return;
    pthread_once(&once, look_at_stderr);
    start = put_prefix(line, sizeof line, level);
    n = vsnprintf(line + start, sizeof line - start, fmt, args);
    len = start + (n < 0 ? 0 : (size_t)n);
    if (len > sizeof line - 1)
        len = sizeof line - 1;
    for (size_t i = start; i < len; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    line[len++] = '\n';

    /* Between poll and write nobody of us may come, or the write could wait. */
    pthread_mutex_lock(&writing);
    put_or_count(line, len);
    pthread_mutex_unlock(&writing);
    errno = saved;
}

void log_set_level(enum log_level level)
{
    max_level = (int)level;
}

#define LOG_AT(level)               \
    do {                            \
        va_list args;               \
        va_start(args, fmt);        \
        log_line(level, fmt, args); \
        va_end(args);               \
    } while (0)

void log_error(const char *fmt, ...)
{
    LOG_AT(LOG_LEVEL_ERROR);
}

void log_warning(const char *fmt, ...)
{
    LOG_AT(LOG_LEVEL_WARNING);
}

void log_info(const char *fmt, ...)
{
    LOG_AT(LOG_LEVEL_INFO);
}

void log_debug(const char *fmt, ...)
{
    LOG_AT(LOG_LEVEL_DEBUG);
}

const char *log_safe(const char *text, char *buf, size_t size)
{
    size_t i = 0;

    for (; i + 1 < size && text[i]; i++)
        buf[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    if (size)
        buf[i] = 0;
    return buf;
}

_Bool log_limit_pass(struct log_limit *l, uint32_t interval_ms, uint64_t now_ms,
                     uint32_t *ret_missed)
{
    if (now_ms < l->next_ms) {
        if (l->missed < UINT32_MAX)
            l->missed++;
        return false;
    }
    *ret_missed = l->missed;
    l->missed = 0;
    l->next_ms = now_ms + interval_ms;
    return true;
}
