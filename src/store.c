/* SPDX-License-Identifier: MIT */
#include "evecc/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { HEADER_MAX = 80 };

#define PID_FILE "pid"

struct store {
    int dir; /* its descriptor also carries the lock: no file is needed for that */
    uid_t owner;
    bool exclusive;
};

/* NAME with an ending. */
struct path {
    char text[STORE_NAME_MAX + sizeof ".newer"];
};

static struct path with(const char *name, const char *ending)
{
    struct path p;

    assert(strlen(name) <= STORE_NAME_MAX);
    snprintf(p.text, sizeof p.text, "%s%s", name, ending);
    return p;
}

/* The first line of a file; returns its length. */
static size_t make_header(char header[HEADER_MAX], const char *name, unsigned version,
                          const void *data, size_t len)
{
    int n = snprintf(header, HEADER_MAX, "evecc %s %u %zu ", name, version, len);
    uLong sum = crc32_z(crc32_z(0, NULL, 0), (const Bytef *)header, (size_t)n);

    sum = crc32_z(sum, data, len);
    n += snprintf(header + n, HEADER_MAX - (size_t)n, "%08lx\n", sum);
    return (size_t)n;
}

/* ---- the directory ---- */

/* Best effort: the lock itself does not depend on it. */
static void write_pid(int dir)
{
    int fd = openat(dir, PID_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
                    0600);

    if (fd < 0)
        return;
    dprintf(fd, "%d\n", (int)getpid());
    close(fd);
}

static int read_pid(int dir)
{
    int fd = openat(dir, PID_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    char text[16] = "";

    if (fd < 0)
        return 0;
    if (read(fd, text, sizeof text - 1) < 0)
        text[0] = '\0';
    close(fd);
    return (int)strtol(text, NULL, 10);
}

/* A directory that was just made is durable when its parent is. */
static bool make_dir(const char *dir)
{
    char above[4096];
    int fd;
    bool ok;

    if (mkdir(dir, 0700) != 0)
        return errno == EEXIST;
    snprintf(above, sizeof above, "%s/..", dir);
    fd = open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static enum err check_dir(struct store *s, const char *dir, char *why, size_t size)
{
    struct stat st;

    if (fstat(s->dir, &st) != 0) {
        snprintf(why, size, "%s: %s", dir, strerror(errno));
        return ERR_SYSTEM;
    }
    s->owner = st.st_uid;
    if (s->owner != geteuid() && (s->exclusive || geteuid() != 0)) {
        snprintf(why, size, "%s belongs to user %u, not to us (%u)", dir, st.st_uid,
                 geteuid());
        return ERR_SYSTEM;
    }
    if (st.st_mode & (S_IWGRP | S_IWOTH)) {
        snprintf(why, size, "%s may be written by others", dir);
        return ERR_SYSTEM;
    }
    if (!s->exclusive)
        return ERR_OK;
    if (flock(s->dir, LOCK_EX | LOCK_NB) != 0) {
        bool taken = errno == EWOULDBLOCK;

        if (taken)
            snprintf(why, size, "%s is in use by another process (pid %d)", dir,
                     read_pid(s->dir));
        else
            snprintf(why, size, "%s: cannot be locked: %s", dir, strerror(errno));
        return taken ? ERR_CONFIG : ERR_SYSTEM;
    }
    write_pid(s->dir);
    return ERR_OK;
}

enum err store_open(struct store **ret, const char *dir, bool exclusive, char *why,
                    size_t why_size)
{
    struct store *s = calloc(1, sizeof *s);
    enum err err = ERR_SYSTEM;

    if (s == NULL) {
        snprintf(why, why_size, "out of memory");
        return ERR_SYSTEM;
    }
    s->exclusive = exclusive;
    s->dir = make_dir(dir) ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (s->dir < 0)
        snprintf(why, why_size, "%s: %s", dir, strerror(errno));
    else
        err = check_dir(s, dir, why, why_size);
    if (err != ERR_OK) {
        store_free(s);
        return err;
    }
    *ret = s;
    return ERR_OK;
}

void store_free(struct store *s)
{
    if (s == NULL)
        return;
    if (s->dir >= 0)
        close(s->dir);
    free(s);
}

/* ---- writing ---- */

static bool write_all(int fd, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t n = write(fd, at, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static bool write_file(int dir, const char *name, const char *header, size_t header_len,
                       const void *data, size_t len)
{
    int fd =
        openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool ok;

    if (fd < 0)
        return false;
    ok = write_all(fd, header, header_len) && write_all(fd, data, len) && fsync(fd) == 0;
    return close(fd) == 0 && ok;
}

/* FILE is kept as NAME with ENDING too, in one step.  True also when there is none. */
static bool keep(int dir, const char *file, const char *name, const char *ending)
{
    const struct path link = with(name, ".tmp");

    unlinkat(dir, link.text, 0);
    if (linkat(dir, file, dir, link.text, 0) != 0)
        return errno == ENOENT;
    return renameat(dir, link.text, dir, with(name, ending).text) == 0;
}

/* NAME.new becomes NAME. */
static bool publish(int dir, const char *name)
{
    return keep(dir, name, name, ".old") &&
           renameat(dir, with(name, ".new").text, dir, name) == 0 && fsync(dir) == 0;
}

enum err store_write(struct store *s, const char *name, unsigned version,
                     const void *data, size_t len)
{
    const struct path new = with(name, ".new");
    char header[HEADER_MAX];
    size_t header_len = make_header(header, name, version, data, len);
    int error;

    assert(s->exclusive && len <= STORE_MAX);
    unlinkat(s->dir, new.text, 0); /* left behind by a kill or a cut */
    if (write_file(s->dir, new.text, header, header_len, data, len) &&
        publish(s->dir, name))
        return ERR_OK;
    error = errno;
    unlinkat(s->dir, new.text, 0); /* gives its space back to a full disk */
    errno = error;
    return ERR_SYSTEM;
}

/* ---- reading ---- */

enum verdict { WHOLE, MISSING, NEWER, DAMAGED, UNKNOWN };

/* errno after a failure to open or read. */
static enum verdict judge_errno(void)
{
    switch (errno) {
    case ENOENT:
        return MISSING;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        return UNKNOWN;
    default: /* a symbolic link, not ours to read, a bad block */
        return DAMAGED;
    }
}

/* All of FD, NUL-terminated; memory the caller frees. */
static enum verdict read_all(int fd, uid_t owner, char **ret, size_t *ret_len)
{
    struct stat st;
    size_t size, done = 0;
    char *text;

    if (fstat(fd, &st) != 0)
        return judge_errno();
    if (!S_ISREG(st.st_mode) || st.st_uid != owner ||
        (st.st_mode & (S_IWGRP | S_IWOTH)) != 0 || st.st_size > STORE_MAX + HEADER_MAX)
        return DAMAGED;
    size = (size_t)st.st_size;
    text = malloc(size + 1);
    if (text == NULL)
        return UNKNOWN;
    while (done < size) {
        ssize_t n = read(fd, text + done, size - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            free(text);
            return DAMAGED;
        }
        done += (size_t)n;
    }
    text[size] = '\0';
    *ret = text;
    *ret_len = size;
    return WHOLE;
}

/* A file is whole when its first line is the one that would be written for the rest. */
static enum verdict judge_text(const char *name, unsigned version_max, char *text,
                               size_t *len)
{
    const char *end = memchr(text, '\n', *len);
    char header[HEADER_MAX];
    size_t header_len;
    unsigned version;

    if (end == NULL || sscanf(text, "evecc %*s %u ", &version) != 1)
        return DAMAGED;
    end++;
    header_len = make_header(header, name, version, end, *len - (size_t)(end - text));
    if (header_len != (size_t)(end - text) || memcmp(header, text, header_len) != 0)
        return DAMAGED;
    if (version > version_max)
        return NEWER;
    *len -= header_len;
    memmove(text, end, *len + 1);
    return WHOLE;
}

static enum verdict read_file(const struct store *s, const char *file, const char *name,
                              unsigned version_max, char **ret, size_t *ret_len)
{
    int fd = openat(s->dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    enum verdict verdict;
    char *text;
    size_t len;

    if (fd < 0)
        return judge_errno();
    verdict = read_all(fd, s->owner, &text, &len);
    close(fd);
    if (verdict != WHOLE)
        return verdict;
    verdict = judge_text(name, version_max, text, &len);
    if (verdict != WHOLE) {
        explicit_bzero(text, len);
        free(text);
        return verdict;
    }
    *ret = text;
    *ret_len = len;
    return WHOLE;
}

/* Ends a write that was killed or cut: what is whole is newer than NAME, which only it
 * can replace, and the rest is nothing. */
static void end_write(struct store *s, const char *name, unsigned version_max)
{
    const struct path new = with(name, ".new");
    char *text = NULL;
    size_t len = 0;
    enum verdict verdict = read_file(s, new.text, name, version_max, &text, &len);
    int fd;

    if (verdict == WHOLE)
        explicit_bzero(text, len);
    free(text);
    if (verdict != WHOLE && verdict != NEWER)
        return; /* store_write() removes it */
    fd = openat(s->dir, new.text, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fsync(fd) == 0)
        publish(s->dir, name);
    close(fd);
}

enum err store_read(struct store *s, const char *name, unsigned version_max, char **ret,
                    size_t *ret_len, bool *ret_old)
{
    static const char *const endings[] = {"", ".old"};
    bool damaged = false;

    if (s->exclusive)
        end_write(s, name, version_max);
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        const struct path file = with(name, endings[i]);

        switch (read_file(s, file.text, name, version_max, ret, ret_len)) {
        case WHOLE:
            *ret_old = i > 0;
            return ERR_OK;
        case MISSING:
            break;
        case NEWER: /* what is older must not pass for the newest */
            if (s->exclusive)
                keep(s->dir, file.text, name, ".newer");
            return ERR_PARSE;
        case DAMAGED:
            if (s->exclusive)
                renameat(s->dir, file.text, s->dir, with(name, ".bad").text);
            damaged = true;
            break;
        case UNKNOWN:
            return ERR_SYSTEM;
        }
    }
    return damaged ? ERR_PARSE : ERR_NOT_FOUND;
}
