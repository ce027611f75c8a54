/* SPDX-License-Identifier: MIT */
#include "token.h"

#include "evecc/sys.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = EASEE_TOKEN_MAX + 1024, LEFT_S = 60 };

/* False: there is no place in memory that is ours alone. */
static bool find_path(char path[static PATH_MAX])
{
    const char *dir = getenv("XDG_RUNTIME_DIR");

    if (dir == NULL || dir[0] != '/')
        dir = geteuid() == 0 ? "/run" : NULL;
    if (dir == NULL)
        return false;
    return snprintf(path, PATH_MAX, "%s/evecc-token", dir) < PATH_MAX;
}

/* The first lines of the file: it is for this owner only. */
static int write_head(char *buf, size_t size, const struct token_owner *owner)
{
    return snprintf(buf, size, "%s\n%s\n", owner->api_url, owner->username);
}

/* NULL, or the contents; not ours when somebody else could have written or read it. */
static bool read_file(char buf[static FILE_MAX])
{
    char path[PATH_MAX];
    struct stat st;
    ssize_t n = -1;
    int fd;

    if (!find_path(path))
        return false;
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return false;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
        (st.st_mode & (S_IRWXG | S_IRWXO)) == 0)
        n = read(fd, buf, FILE_MAX - 1);
    close(fd);
    buf[n > 0 ? n : 0] = '\0';
    return n > 0;
}

bool token_load(const struct token_owner *owner, int64_t unix_s,
                char ret[static EASEE_TOKEN_MAX])
{
    char buf[FILE_MAX], head[1024];
    int len = write_head(head, sizeof head, owner), mark, used = 0;
    int64_t expires;
    bool good = false;

    if (!read_file(buf) || strncmp(buf, head, (size_t)len) != 0)
        return false;
    /* 4095: EASEE_TOKEN_MAX without the NUL */
    if (sscanf(buf + len, "%d %" SCNd64 " %4095s%n", &mark, &expires, ret, &used) == 3 &&
        used > 0 && expires > unix_s + LEFT_S && expires < unix_s + 7 * 86400 &&
        (owner->mark < 0 || owner->mark == mark))
        good = true;
    explicit_bzero(buf, sizeof buf);
    return good;
}

bool token_borrow(const struct token_owner *owner, const char *state_dir,
                  char ret[static EASEE_TOKEN_MAX])
{
    struct state_clock clock;
    struct saved_token t = {0};
    struct store *s;
    char why[256];
    bool good;

    if (store_open(&s, state_dir, false, why, sizeof why) != ERR_OK)
        return false;
    sys_clock(&clock);
    good = saved_token_read(s, owner, &clock, &t) &&
           t.expires_at_ms > clock.now_ms + LEFT_S * 1000;
    if (good)
        snprintf(ret, EASEE_TOKEN_MAX, "%s", t.token.access);
    explicit_bzero(&t, sizeof t);
    store_free(s);
    return good;
}

void token_save(const struct token_owner *owner, const char *access,
                int64_t expires_unix_s)
{
    char path[PATH_MAX], fresh[PATH_MAX + 8], buf[FILE_MAX];
    int fd, len;

    if (!find_path(path) || owner->mark < 0)
        return;
    len = write_head(buf, sizeof buf, owner);
    len += snprintf(buf + len, sizeof buf - (size_t)len, "%d %" PRId64 " %s\n",
                    owner->mark, expires_unix_s, access);
    snprintf(fresh, sizeof fresh, "%s.%d", path, (int)getpid());
    fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0) {
        bool good = len < (int)sizeof buf && write(fd, buf, (size_t)len) == len;

        close(fd);
        if (!good || rename(fresh, path) != 0)
            unlink(fresh);
    }
    explicit_bzero(buf, sizeof buf);
}

void token_forget(void)
{
    char path[PATH_MAX];

    if (find_path(path))
        unlink(path);
}
