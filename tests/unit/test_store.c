/* SPDX-License-Identifier: MIT
 * test_store.c - old or new, never torn, never none: whatever fails, whenever it ends.
 *
 * The system calls that change a directory are replaced by those below, which can fail at
 * the n-th, or let the power be cut there. */
#include "evecc/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { VERSION = 3, KILLS = 300, LONG = 100000, PATH = 400 };

static char top[64], dir[80], synced[80], why[256];

/* ---- a file system that fails ---- */

enum fault {
    FAIL_FULL,  /* ENOSPC */
    FAIL_IO,    /* EIO */
    WRITE_HALF, /* half of the bytes are written, which is no failure */
    CUT, /* nothing happens from then on; what was written and not synced is gone */
    CUT_LOSING, /* ... and of the directory what was not synced */
    FAULTS
};

static bool armed, dark; /* faults are on; the power is off */
static enum fault fault;
static int calls, fail_at;
static int dirty = -1, dirty_copy = -1; /* the file that was written and not synced */

static void copy_dir(const char *from, const char *to);

static void cut(void)
{
    dark = true;
    if (dirty_copy >= 0)
        assert_int_equal(syscall(SYS_ftruncate, dirty_copy, 0), 0);
    if (fault == CUT_LOSING)
        copy_dir(synced, dir);
}

static void clean(void)
{
    if (dirty_copy >= 0)
        syscall(SYS_close, dirty_copy);
    dirty = dirty_copy = -1;
}

static void arm(enum fault what, int at)
{
    fault = what;
    fail_at = at;
    calls = 0;
    armed = true;
}

static void disarm(void)
{
    clean();
    armed = dark = false;
}

/* Counts a call; true: it fails, with errno. */
static bool fails(void)
{
    if (!armed)
        return false;
    if (calls++ == fail_at && fault >= CUT)
        cut();
    errno = fault == FAIL_FULL ? ENOSPC : EIO;
    return dark || (calls - 1 == fail_at && fault <= FAIL_IO);
}

int openat(int at, const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;

    va_start(args, flags);
    mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return fails() ? -1 : (int)syscall(SYS_openat, at, path, flags, mode);
}

ssize_t write(int fd, const void *data, size_t len)
{
    bool half = armed && calls == fail_at && (fault == WRITE_HALF || fault >= CUT);

    if (armed && !dark && dirty_copy < 0) {
        dirty = fd;
        dirty_copy = dup(fd);
    }
    if (half)
        len = syscall(SYS_write, fd, data, len / 2) < 0 ? 0 : len / 2;
    if (fails())
        return -1;
    return half ? (ssize_t)len : syscall(SYS_write, fd, data, len);
}

int fsync(int fd)
{
    struct stat st;

    if (fails())
        return -1;
    if (fd == dirty)
        clean();
    if (armed && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        copy_dir(dir, synced);
    return 0; /* of no use to this test, and slow */
}

int close(int fd)
{
    bool bad = fails();

    syscall(SYS_close, fd);
    if (fd == dirty)
        dirty = -1; /* what comes under this number is another file */
    return bad ? -1 : 0;
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    return fails() ? -1 : (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return fails() ? -1 : (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);
}

int unlinkat(int at, const char *path, int flags)
{
    return fails() ? -1 : (int)syscall(SYS_unlinkat, at, path, flags);
}

/* ---- directories ---- */

static void path_of(char path[PATH], const char *in, const char *name)
{
    snprintf(path, PATH, "%s/%s", in, name);
}

static void empty_dir(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    char file[PATH];

    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        path_of(file, path, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            assert_int_equal(remove(file), 0);
    }
    closedir(d);
}

/* TO becomes what FROM is, by links: a file is never changed after it has its name. */
static void copy_dir(const char *from, const char *to)
{
    bool was_armed = armed;
    DIR *d = opendir(from);
    struct dirent *e;
    char file[PATH], link_to[PATH];

    armed = false;
    assert_non_null(d);
    empty_dir(to);
    while ((e = readdir(d)) != NULL) {
        path_of(file, from, e->d_name);
        path_of(link_to, to, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            assert_int_equal(link(file, link_to), 0);
    }
    closedir(d);
    armed = was_armed;
}

static bool exists(const char *name)
{
    char path[PATH];
    struct stat st;

    path_of(path, dir, name);
    return lstat(path, &st) == 0;
}

static void put(const char *name, const char *text, size_t len)
{
    char path[PATH];
    int fd;

    path_of(path, dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), len);
    close(fd);
}

static size_t get(const char *name, char *text, size_t size)
{
    char path[PATH];
    FILE *f;
    size_t len;

    path_of(path, dir, name);
    f = fopen(path, "rb");
    assert_non_null(f);
    len = fread(text, 1, size, f);
    fclose(f);
    return len;
}

static int descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static int set_up(void **state)
{
    (void)state;
    snprintf(top, sizeof top, "/tmp/evecc-store-XXXXXX");
    if (mkdtemp(top) == NULL)
        return -1;
    snprintf(dir, sizeof dir, "%s/dir", top);
    snprintf(synced, sizeof synced, "%s/synced", top);
    return mkdir(synced, 0700);
}

static int tear_down(void **state)
{
    (void)state;
    if (access(dir, F_OK) == 0) {
        empty_dir(dir);
        rmdir(dir);
    }
    empty_dir(synced);
    rmdir(synced);
    return rmdir(top);
}

/* ---- a store ---- */

static struct store *opened(void)
{
    struct store *s = NULL;

    why[0] = '\0';
    assert_int_equal(store_open(&s, dir, true, why, sizeof why), ERR_OK);
    return s;
}

static void write_text(struct store *s, const char *text)
{
    assert_int_equal(store_write(s, "state", VERSION, text, strlen(text)), ERR_OK);
}

static void expect(struct store *s, const char *text, bool old)
{
    char *got = NULL;
    size_t len = 0;
    bool is_old = !old;

    assert_int_equal(store_read(s, "state", VERSION, &got, &len, &is_old), ERR_OK);
    assert_int_equal(len, strlen(text));
    assert_string_equal(got, text);
    assert_int_equal(is_old, old);
    free(got);
}

static void expect_none(struct store *s, enum err err)
{
    char *got = NULL;
    size_t len;
    bool old;

    assert_int_equal(store_read(s, "state", VERSION, &got, &len, &old), err);
    assert_null(got);
}

static void what_was_written_is_read(void **state)
{
    (void)state;
    struct store *s = opened();
    char *big = malloc(STORE_MAX + 1), *got;
    struct stat st;
    char path[PATH];
    size_t len;
    bool old;

    expect_none(s, ERR_NOT_FOUND);
    write_text(s, "one");
    expect(s, "one", false);
    write_text(s, "");
    expect(s, "", false);
    write_text(s, "evecc state 3 1 \n");
    expect(s, "evecc state 3 1 \n", false);
    store_free(s);

    s = opened();
    expect(s, "evecc state 3 1 \n", false);
    assert_non_null(big);
    memset(big, 0, STORE_MAX);
    assert_int_equal(store_write(s, "state", VERSION, big, STORE_MAX), ERR_OK);
    assert_int_equal(store_read(s, "state", VERSION, &got, &len, &old), ERR_OK);
    assert_int_equal(len, STORE_MAX);
    assert_memory_equal(got, big, len);
    free(got);
    free(big);

    path_of(path, dir, "state");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    store_free(s);
}

static void names_do_not_mix(void **state)
{
    (void)state;
    struct store *s = opened();
    char text[200];
    size_t len;

    write_text(s, "one");
    assert_int_equal(store_write(s, "token", 1, "secret", 6), ERR_OK);
    len = get("token", text, sizeof text);
    put("state", text, len); /* whole, and another one's */
    expect_none(s, ERR_PARSE);
    store_free(s);
}

/* ---- faults ---- */

/* One write under FAULT at the n-th call, with GENERATIONS before it.  Returns false when
 * there is no n-th call any more. */
static bool write_under_fault(enum fault what, int at, int generations)
{
    static char new[LONG + 1];
    struct store *s;
    enum err err;
    char *got = NULL;
    size_t len;
    bool old, reached;
    int before;

    memset(new, 'n', LONG);
    if (access(dir, F_OK) == 0)
        empty_dir(dir);
    s = opened();
    if (generations > 1)
        write_text(s, "oldest");
    if (generations > 0)
        write_text(s, "old");
    copy_dir(dir, synced);
    before = descriptors();

    arm(what, at);
    err = store_write(s, "state", VERSION, new, LONG);
    reached = calls > at;
    if (!reached && fault >= CUT)
        cut(); /* after all of it */
    disarm();
    assert_int_equal(descriptors(), before);

    switch (store_read(s, "state", VERSION, &got, &len, &old)) {
    case ERR_OK:
        assert_false(old);
        if (strcmp(got, new) != 0) {
            assert_int_not_equal(generations, 0);
            assert_string_equal(got, "old");
            assert_int_not_equal(err, ERR_OK); /* what was acknowledged is there */
        }
        free(got);
        break;
    case ERR_NOT_FOUND:
        assert_int_equal(generations, 0);
        assert_int_not_equal(err, ERR_OK);
        break;
    default:
        fail_msg("fault %d at call %d: torn", (int)what, at);
    }
    if (err == ERR_OK && generations > 0) {
        put("state", "", 0);
        expect(s, "old", true);
    }
    if (err != ERR_OK && what == FAIL_FULL)
        assert_false(exists("state.new"));
    /* and the next one works, the previous one behind it */
    write_text(s, "next");
    write_text(s, "last");
    expect(s, "last", false);
    put("state", "", 0);
    expect(s, "next", true);
    store_free(s);
    return reached;
}

static void old_or_new_whatever_fails(void **state)
{
    (void)state;
    for (int generations = 0; generations <= 2; generations++)
        for (enum fault what = 0; what < FAULTS; what++) {
            int n = 0;

            while (write_under_fault(what, n, generations))
                n++;
            assert_true(n >=
                        8); /* unlink open write write fsync close ... rename fsync */
        }
}

/* While the previous one is all there is, no fault takes it away. */
static void the_last_whole_one_outlives_faults(void **state)
{
    (void)state;
    for (enum fault what = 0; what < FAULTS; what++)
        for (int at = 0; at < 12; at++) {
            struct store *s;
            char *got;
            size_t len;
            bool old;

            if (access(dir, F_OK) == 0)
                empty_dir(dir);
            s = opened();
            write_text(s, "first");
            write_text(s, "second");
            put("state", "garbage", 7);
            expect(s, "first", true);
            copy_dir(dir, synced);

            arm(what, at);
            (void)store_write(s, "state", VERSION, "third", 5);
            disarm();
            assert_int_equal(store_read(s, "state", VERSION, &got, &len, &old), ERR_OK);
            assert_true(strcmp(got, "first") == 0 || strcmp(got, "third") == 0);
            free(got);
            store_free(s);
        }
}

/* Killed between writing and renaming: what a reader with the lock finds is the new one,
 * and stays so whatever becomes of the next write. */
static void a_whole_write_survives_its_kill(void **state)
{
    (void)state;
    for (enum fault what = 0; what < FAULTS; what++)
        for (int at = 0; at < 14; at++) {
            struct store *s;
            char text[200], path[PATH], *got;
            size_t len;
            bool old;

            if (access(dir, F_OK) == 0)
                empty_dir(dir);
            s = opened();
            write_text(s, "new"); /* to be put aside as what is not renamed yet */
            len = get("state", text, sizeof text);
            path_of(path, dir, "state");
            assert_int_equal(unlink(path), 0);
            write_text(s, "old");
            put("state.new", text, len / 2);
            expect(s, "old", false);
            put("state.new", text, len);
            expect(s, "new", false);
            assert_false(exists("state.new"));
            copy_dir(dir, synced);

            arm(what, at);
            (void)store_write(s, "state", VERSION, "newest", 6);
            disarm();
            assert_int_equal(store_read(s, "state", VERSION, &got, &len, &old), ERR_OK);
            assert_true(strcmp(got, "new") == 0 || strcmp(got, "newest") == 0);
            free(got);
            store_free(s);
        }
}

static void a_full_disk_recovers_by_itself(void **state)
{
    (void)state;
    struct store *s = opened();

    write_text(s, "old");
    for (int i = 0; i < 10; i++) {
        arm(FAIL_FULL, 2); /* unlink, open, write */
        assert_int_equal(store_write(s, "state", VERSION, "new", 3), ERR_SYSTEM);
        assert_int_equal(errno, ENOSPC);
    }
    disarm();
    expect(s, "old", false);
    write_text(s, "new");
    expect(s, "new", false);
    store_free(s);
}

/* ---- kills ---- */

/* Writes 1, 2, 3, ... and says so after each. */
static void write_until_killed(int tell)
{
    struct store *s = NULL;

    if (store_open(&s, dir, true, why, sizeof why) != ERR_OK)
        _exit(1);
    for (unsigned n = 1;; n++) {
        char text[2000];

        memset(text, 'x', sizeof text);
        snprintf(text, sizeof text, "%u ", n);
        if (store_write(s, "state", VERSION, text, sizeof text) != ERR_OK ||
            write(tell, &n, sizeof n) != sizeof n)
            _exit(1);
    }
}

static void nothing_acknowledged_is_lost_by_a_kill(void **state)
{
    (void)state;
    unsigned most = 0;

    srand((unsigned)getpid());
    for (int i = 0; i < KILLS; i++) {
        struct timespec delay = {.tv_nsec = rand() % 2000000};
        unsigned told = 0, n, found = 0;
        struct store *s;
        int ends[2], status;
        char *got;
        size_t len;
        bool old;
        pid_t child;

        if (access(dir, F_OK) == 0)
            empty_dir(dir);
        assert_int_equal(pipe(ends), 0);
        child = fork();
        assert_true(child >= 0);
        if (child == 0)
            write_until_killed(ends[1]);
        close(ends[1]);
        nanosleep(&delay, NULL);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        while (read(ends[0], &n, sizeof n) == sizeof n)
            told = n;
        close(ends[0]);

        s = opened(); /* the lock died with it */
        if (store_read(s, "state", VERSION, &got, &len, &old) == ERR_OK) {
            assert_false(old);
            found = (unsigned)strtoul(got, NULL, 10);
            free(got);
        }
        assert_in_range(found, told, told + 1);
        store_free(s);
        most = found > most ? found : most;
    }
    assert_true(most > 1); /* some were killed in the middle of it */
}

/* ---- files that are not ours ---- */

static void every_damage_is_seen(void **state)
{
    (void)state;
    struct store *s = opened();
    char whole[200];
    size_t len;

    write_text(s, "one");
    write_text(s, "two, a little longer");
    len = get("state", whole, sizeof whole);
    for (size_t i = 0; i < len; i++) {
        put("state", whole, i); /* truncated, empty included */
        expect(s, "one", true);
        assert_false(exists("state"));
        assert_true(exists("state.bad"));
    }
    for (size_t bit = 0; bit < 8 * len; bit++) {
        char bad[200];

        memcpy(bad, whole, len);
        bad[bit / 8] = (char)(bad[bit / 8] ^ (1 << bit % 8));
        put("state", bad, len);
        expect(s, "one", true);
    }
    whole[len] = 'x';
    put("state", whole, len + 1);
    expect(s, "one", true);
    put("state", whole, len);
    expect(s, "two, a little longer", false);
    put("state", "", 0);
    put("state.old", "x", 1);
    expect_none(s, ERR_PARSE);
    expect_none(s, ERR_NOT_FOUND); /* all moved aside */
    store_free(s);
}

static void what_is_no_file_of_ours_is_moved_aside(void **state)
{
    (void)state;
    struct store *s = opened();
    char path[PATH], bad[PATH], elsewhere[PATH];
    struct stat st;

    path_of(path, dir, "state");
    path_of(bad, dir, "state.bad");
    path_of(elsewhere, synced, "state");
    write_text(s, "one");
    write_text(s, "two");

    assert_int_equal(rename(path, elsewhere), 0);
    assert_int_equal(symlink(elsewhere, path), 0); /* whole, behind a link */
    expect(s, "one", true);
    assert_int_equal(lstat(bad, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(unlink(bad), 0);

    assert_int_equal(mkdir(path, 0700), 0);
    expect(s, "one", true);
    assert_int_equal(rmdir(bad), 0);

    assert_int_equal(mkfifo(path, 0600), 0); /* must not wait for a writer */
    expect(s, "one", true);

    put("state", "", 0);
    assert_int_equal(truncate(path, (off_t)1 << 40), 0);
    expect(s, "one", true);

    assert_int_equal(rename(elsewhere, path), 0);
    assert_int_equal(chmod(path, 0620), 0);
    expect(s, "one", true);
    assert_int_equal(rename(bad, path), 0);
    assert_int_equal(chmod(path, 0600), 0);
    expect(s, "two", false);
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 65534, 65534), 0);
        expect(s, "one", true);
    }
    write_text(s, "three");
    expect(s, "three", false);
    store_free(s);
}

static void a_newer_version_is_left_alone(void **state)
{
    (void)state;
    struct store *s = opened();
    char text[200];

    write_text(s, "ours");
    assert_int_equal(store_write(s, "state", VERSION + 1, "newer", 5), ERR_OK);
    expect_none(s, ERR_PARSE); /* and not the older one behind it */
    expect_none(s, ERR_PARSE);
    write_text(s, "again ours");
    write_text(s, "once more");
    expect(s, "once more", false);
    assert_true(get("state.newer", text, sizeof text) > 0); /* for a way back */
    assert_non_null(strstr(text, "newer"));
    store_free(s);
}

static void a_reader_without_the_lock_changes_nothing(void **state)
{
    (void)state;
    struct store *s = opened(), *reader = NULL;

    write_text(s, "one");
    assert_int_equal(store_open(&reader, dir, false, why, sizeof why), ERR_OK);
    expect(reader, "one", false);
    put("state", "damaged", 7);
    expect_none(reader, ERR_PARSE);
    assert_true(exists("state"));
    store_free(reader);
    store_free(s);
}

/* ---- the directory ---- */

static void there_is_one_daemon_per_directory(void **state)
{
    (void)state;
    struct store *s = opened(), *second = NULL;
    char expected[40];

    assert_int_equal(store_open(&second, dir, true, why, sizeof why), ERR_CONFIG);
    assert_null(second);
    snprintf(expected, sizeof expected, "(pid %d)", (int)getpid());
    assert_non_null(strstr(why, expected));
    assert_non_null(strstr(why, dir));
    write_text(s, "untouched");
    expect(s, "untouched", false);
    store_free(s);
    store_free(opened());
}

static void a_directory_must_be_ours(void **state)
{
    (void)state;
    struct store *s = NULL;
    char deeper[120];

    store_free(opened());
    assert_int_equal(chmod(dir, 0770), 0);
    assert_int_equal(store_open(&s, dir, true, why, sizeof why), ERR_SYSTEM);
    assert_non_null(strstr(why, "others"));
    assert_int_equal(chmod(dir, 0702), 0);
    assert_int_equal(store_open(&s, dir, true, why, sizeof why), ERR_SYSTEM);
    assert_int_equal(chmod(dir, 0750), 0);
    store_free(opened());
    if (geteuid() == 0) {
        assert_int_equal(chown(dir, 65534, 65534), 0);
        assert_int_equal(store_open(&s, dir, true, why, sizeof why), ERR_SYSTEM);
        assert_non_null(strstr(why, "65534"));
        /* root only looks into it */
        assert_int_equal(store_open(&s, dir, false, why, sizeof why), ERR_OK);
        store_free(s);
        s = NULL;
        assert_int_equal(chown(dir, 0, 0), 0);
    }
    snprintf(deeper, sizeof deeper, "%s/not/there", dir);
    assert_int_equal(store_open(&s, deeper, true, why, sizeof why), ERR_SYSTEM);
    assert_non_null(strstr(why, "No such file"));
    put("file", "", 0);
    snprintf(deeper, sizeof deeper, "%s/file", dir);
    assert_int_equal(store_open(&s, deeper, true, why, sizeof why), ERR_SYSTEM);
    assert_null(s);
    /* as service managers lay it out */
    snprintf(deeper, sizeof deeper, "%s/link", synced);
    assert_int_equal(symlink(dir, deeper), 0);
    assert_int_equal(store_open(&s, deeper, true, why, sizeof why), ERR_OK);
    store_free(s);
    store_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(what_was_written_is_read),
        TEST(names_do_not_mix),
        TEST(old_or_new_whatever_fails),
        TEST(the_last_whole_one_outlives_faults),
        TEST(a_whole_write_survives_its_kill),
        TEST(a_full_disk_recovers_by_itself),
        TEST(nothing_acknowledged_is_lost_by_a_kill),
        TEST(every_damage_is_seen),
        TEST(what_is_no_file_of_ours_is_moved_aside),
        TEST(a_newer_version_is_left_alone),
        TEST(a_reader_without_the_lock_changes_nothing),
        TEST(there_is_one_daemon_per_directory),
        TEST(a_directory_must_be_ours),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
