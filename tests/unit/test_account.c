/* SPDX-License-Identifier: MIT
 * test_account.c - whoever shares an account, however they end: no window ever holds more
 * calls than its budget allows.
 *
 * Time is a number in shared memory: minutes pass in milliseconds, the same for every
 * process of a test, and each call is noted there by the one that made it. */
#include "evecc/account.h"

#include "evecc/charger.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { NOTES = 2000, PATH = 100, HAMMERS = 3 };

#define START_MS UINT64_C(1000000000)
#define UNIX_MS  INT64_C(1790000000000)
#define HOUR_MS  UINT64_C(3600000)

struct note {
    uint64_t at_ms;
    enum budget_class class;
};

struct world {
    atomic_uint_least64_t now_ms;
    int64_t unix_ms;  /* when now_ms was START_MS */
    uint64_t step_ms; /* passes with every look at the clock */
    char boot_id[40];
    atomic_uint notes;
    struct note note[NOTES];
};

static struct world *world;
static char dir[40], file[PATH], why[256];

static void clock_of_world(struct state_clock *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->now_ms = atomic_fetch_add(&world->now_ms, world->step_ms);
    ret->unix_ms = world->unix_ms + (int64_t)(ret->now_ms - START_MS);
    memcpy(ret->boot_id, world->boot_id, sizeof ret->boot_id);
}

/* Slow, and a kill does not ask for it. */
int fsync(int fd)
{
    (void)fd;
    return 0;
}

static void wait_ms(uint64_t ms)
{
    atomic_fetch_add(&world->now_ms, ms);
}

static int set_up(void **state)
{
    (void)state;
    memset(world, 0, sizeof *world);
    atomic_store(&world->now_ms, START_MS);
    world->unix_ms = UNIX_MS;
    strcpy(world->boot_id, "boot one");
    snprintf(dir, sizeof dir, "/tmp/evecc-account-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(file, sizeof file, "%s/account", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove(file);
    return rmdir(dir);
}

static struct account *opened(void)
{
    struct account *a = NULL;

    assert_int_equal(account_open(&a, dir, clock_of_world, why, sizeof why), ERR_OK);
    return a;
}

static uint64_t wait_of(struct account *a, enum budget_class class, bool urgent)
{
    uint64_t now_ms = account_lock(a);
    uint64_t ms = budgets_wait_ms(account_budgets(a), class, now_ms, urgent);

    account_unlock(a);
    return ms;
}

static void take(struct account *a, enum budget_class class)
{
    uint64_t now_ms = account_lock(a);

    budgets_take(account_budgets(a), class, now_ms);
    account_unlock(a);
}

/* Takes as long as there is something to take; returns how often. */
static unsigned take_all(struct account *a, enum budget_class class, bool urgent)
{
    unsigned n = 0;

    for (; wait_of(a, class, urgent) == 0; n++)
        take(a, class);
    return n;
}

/* ---- one boot ---- */

static void a_fresh_account_is_unused(void **state)
{
    (void)state;
    struct account *a = opened();
    struct stat st;

    assert_int_equal(take_all(a, BUDGET_WRITE, false), 8);
    assert_int_equal(take_all(a, BUDGET_WRITE, true), 2);
    assert_int_equal(take_all(a, BUDGET_DISCOVER, false), 5);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    account_free(a);
    account_free(NULL);
}

static void another_process_finds_what_was_used(void **state)
{
    (void)state;
    struct account *a = opened(), *b = opened();

    for (int i = 0; i < 4; i++) {
        take(a, BUDGET_WRITE);
        take(b, BUDGET_WRITE);
    }
    assert_int_equal(wait_of(a, BUDGET_WRITE, false), 60000);
    account_free(a);
    account_free(b);
    a = opened(); /* however often: a crash loop */
    wait_ms(20000);
    account_free(a);
    a = opened();
    assert_int_equal(wait_of(a, BUDGET_WRITE, false), 40000);
    wait_ms(40000);
    assert_int_equal(take_all(a, BUDGET_WRITE, false), 8);
    account_free(a);
}

static void a_pause_is_for_all(void **state)
{
    (void)state;
    struct account *a = opened(), *b = opened();
    uint64_t now_ms = account_lock(a);

    budget_throttled(&account_budgets(a)->of[BUDGET_WRITE], 300, now_ms);
    account_unlock(a);
    assert_int_equal(wait_of(b, BUDGET_WRITE, true), 300000);
    account_free(a);
    account_free(b);
}

/* ---- many processes ---- */

static void note(enum budget_class class, uint64_t now_ms)
{
    unsigned i = atomic_fetch_add(&world->notes, 1);

    if (i < NOTES)
        world->note[i] = (struct note){.at_ms = now_ms, .class = class};
}

/* Calls as often as it may until it is killed or there is no room for notes. */
static void hammer(void)
{
    struct account *a = NULL;

    if (account_open(&a, dir, clock_of_world, why, sizeof why) != ERR_OK)
        _exit(1);
    for (unsigned i = 0; atomic_load(&world->notes) < NOTES; i++) {
        enum budget_class class = BUDGET_WRITE + i % 4;
        uint64_t now_ms = account_lock(a);

        if (budgets_wait_ms(account_budgets(a), class, now_ms, i % 3) == 0) {
            budgets_take(account_budgets(a), class, now_ms);
            account_unlock(a);
            /* it is kept: now it may leave */
            note(class, now_ms);
        } else {
            account_unlock(a);
        }
    }
    _exit(0);
}

static int by_time(const void *a, const void *b)
{
    const struct note *x = a, *y = b;

    return x->at_ms < y->at_ms ? -1 : x->at_ms > y->at_ms;
}

static void check_window(enum budget_class class, unsigned calls, uint64_t window_ms)
{
    unsigned count = atomic_load(&world->notes), held = 0, most = 0;
    static uint64_t at_ms[NOTES];

    if (count > NOTES)
        count = NOTES;
    qsort(world->note, count, sizeof world->note[0], by_time);
    for (unsigned i = 0; i < count; i++)
        if (class == BUDGET_ALL || world->note[i].class == class)
            at_ms[held++] = world->note[i].at_ms;
    for (unsigned first = 0, last = 0; last < held; last++) {
        while (at_ms[last] - at_ms[first] >= window_ms)
            first++;
        most = last - first + 1 > most ? last - first + 1 : most;
    }
    assert_true(most > calls / 2); /* they did try */
    assert_in_range(most, 1, calls);
}

static void check_windows(void)
{
    assert_true(atomic_load(&world->notes) >= NOTES);
    check_window(BUDGET_WRITE, 10, 60000);
    check_window(BUDGET_READBACK, 60, 300000);
    check_window(BUDGET_OBSERVE, 50, 300000);
    check_window(BUDGET_LOOKUP, 30, 300000);
    check_window(BUDGET_ALL, 250, 300000);
}

static pid_t start_hammer(void)
{
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0)
        hammer();
    return child;
}

static void together_they_keep_the_windows(void **state)
{
    (void)state;
    pid_t child[HAMMERS];
    int status;

    world->step_ms = 400;
    account_free(opened());
    for (int i = 0; i < HAMMERS; i++)
        child[i] = start_hammer();
    for (int i = 0; i < HAMMERS; i++) {
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    check_windows();
}

static void killed_again_and_again_they_keep_the_windows(void **state)
{
    (void)state;
    pid_t child[HAMMERS];
    unsigned kills = 0;
    int status;

    world->step_ms = 400;
    srand((unsigned)getpid());
    account_free(opened());
    for (int i = 0; i < HAMMERS; i++)
        child[i] = start_hammer();
    while (atomic_load(&world->notes) < NOTES) {
        struct timespec delay = {.tv_nsec = rand() % 2000000};
        int victim = rand() % HAMMERS;

        nanosleep(&delay, NULL);
        kill(child[victim], SIGKILL);
        assert_int_equal(waitpid(child[victim], &status, 0), child[victim]);
        child[victim] = start_hammer();
        kills++;
    }
    for (int i = 0; i < HAMMERS; i++)
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
    assert_true(kills > 10);
    check_windows();
}

static void a_stopped_holder_does_not_hold_up_the_rest(void **state)
{
    (void)state;
    struct account *a = opened();
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        struct account *b = NULL;

        if (account_open(&b, dir, clock_of_world, why, sizeof why) == ERR_OK)
            account_lock(b);
        raise(SIGSTOP);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(take_all(a, BUDGET_DISCOVER, false), 5);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    account_free(a);
}

/* ---- other boots ---- */

static void reboot(uint64_t now_ms, int64_t off_ms)
{
    /* by the wall clock OFF_MS passed */
    int64_t unix_ms = world->unix_ms + (int64_t)(atomic_load(&world->now_ms) - START_MS);

    strcpy(world->boot_id, "boot two");
    atomic_store(&world->now_ms, now_ms);
    world->unix_ms = unix_ms + off_ms - (int64_t)(now_ms - START_MS);
}

struct reboot_case {
    const char *comment;
    uint64_t now_ms;  /* of the new boot */
    int64_t off_ms;   /* wall clock */
    uint64_t wait_ms; /* for a write; 60 s were to wait */
};

static const struct reboot_case reboots[] = {
    {"at once",                     UINT64_C(5000000),    0,                           60000},
    {"after 25 s",                  UINT64_C(5000000),    25000,                       35000},
    {"a higher clock",              UINT64_C(9000000000), 25000,                       35000},
    {"a clock that starts at zero", UINT64_C(1000),       25000,                       59000},
    {"after an hour",               UINT64_C(5000000),    3600000,                     0    },
    {"after an hour, from zero",    UINT64_C(10),         3600000,                     0    },
    {"the wall clock went back",    UINT64_C(5000000),    -1,                          60000},
    {"the wall clock is at 1970",   UINT64_C(5000000),    -UNIX_MS,                    60000},
    {"in half a year, it says",     UINT64_C(5000000),    INT64_C(182) * 24 * 3600000, 60000},
};

static void a_reboot_moves_the_calls(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof reboots / sizeof reboots[0]; i++) {
        const struct reboot_case *t = &reboots[i];
        struct account *a;
        uint64_t ms;

        if (i > 0)
            assert_int_equal(set_up(NULL), 0);
        a = opened();
        take_all(a, BUDGET_WRITE, true);
        take_all(a, BUDGET_OBSERVE, false);
        account_free(a);
        reboot(t->now_ms, t->off_ms);
        for (int again = 0; again < 2; again++) {
            a = opened();
            ms = wait_of(a, BUDGET_WRITE, true);
            if (ms != t->wait_ms)
                fail_msg("%s: %llu", t->comment, (unsigned long long)ms);
            account_free(a);
        }
        if (i + 1 < sizeof reboots / sizeof reboots[0])
            assert_int_equal(tear_down(NULL), 0);
    }
}

static void while_it_runs_a_changed_boot_is_one_too(void **state)
{
    (void)state;
    struct account *a = opened();

    take_all(a, BUDGET_WRITE, true);
    reboot(UINT64_C(5000000), 10000); /* a snapshot of a virtual machine, resumed */
    assert_int_equal(wait_of(a, BUDGET_WRITE, true), 50000);
    reboot(UINT64_C(4000000), 20000); /* and again, the same boot */
    assert_int_equal(wait_of(a, BUDGET_WRITE, true), 30000);
    account_free(a);
}

static void the_limits_are_those_of_the_program(void **state)
{
    (void)state;
    struct account *a = opened();

    account_lock(a);
    account_budgets(a)->of[BUDGET_WRITE].rule[0].calls = 200; /* an older version's */
    account_unlock(a);
    account_free(a);
    a = opened();
    assert_int_equal(take_all(a, BUDGET_WRITE, true), 10);
    account_free(a);
}

/* ---- files that cannot be believed ---- */

static void put(const void *data, size_t len)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    close(fd);
}

static char *whole(size_t *len)
{
    struct stat st;
    char *text;
    int fd = open(file, O_RDONLY);

    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    *len = (size_t)st.st_size;
    text = malloc(*len);
    assert_non_null(text);
    assert_int_equal(read(fd, text, *len), *len);
    close(fd);
    return text;
}

/* Every call waits for a window; then all is well. */
static bool is_used_up(void)
{
    struct account *a = opened();
    bool used = wait_of(a, BUDGET_WRITE, true) == 300000 && /* that of all calls */
                wait_of(a, BUDGET_DISCOVER, false) == HOUR_MS &&
                wait_of(a, BUDGET_ALL, true) == 300000;

    wait_ms(HOUR_MS);
    used = used && take_all(a, BUDGET_WRITE, false) == 8 &&
           take_all(a, BUDGET_DISCOVER, false) == 5;
    account_free(a);
    return used;
}

static void garbage_counts_as_used_up(void **state)
{
    (void)state;
    struct account *a = opened();
    size_t len, half;
    char *good, *bad;

    take(a, BUDGET_WRITE);
    take(a, BUDGET_WRITE);
    account_free(a);
    good = whole(&len);
    half = len / 2;
    bad = malloc(len);
    assert_non_null(bad);
    for (size_t cut = 1; cut < half; cut += cut < 200 ? 1 : 997) {
        put(good, cut);
        if (!is_used_up())
            fail_msg("cut at %zu", cut);
    }
    for (size_t i = 0; i < half - 4; i += i < 200 ? 1 : 101) { /* the end is padding */
        memcpy(bad, good, len);
        bad[i] ^= 0x10;
        bad[half + i] ^= 0x10;
        put(bad, len);
        if (!is_used_up())
            fail_msg("changed at %zu", i);
    }
    srand(1);
    for (int i = 0; i < 20; i++) {
        for (size_t k = 0; k < len; k++)
            bad[k] = (char)rand();
        put(bad, len);
        assert_true(is_used_up());
    }
    memset(bad, 0xff, len);
    put(bad, len);
    assert_true(is_used_up());
    memset(bad, 0, len);
    put(bad, len);
    assert_true(is_used_up());
    put(good, len);
    assert_false(is_used_up());
    free(good);
    free(bad);
}

/* The newer half torn: what was kept before counts. */
static void a_torn_write_never_happened(void **state)
{
    (void)state;
    struct account *a = opened();

    for (unsigned n = 1; n <= 6; n++) {
        size_t len, half;
        char *before, *after;

        take(a, BUDGET_WRITE);
        before = whole(&len);
        take(a, BUDGET_WRITE);
        account_free(a);
        after = whole(&len);
        half = len / 2;
        for (size_t slot = 0; slot < 2; slot++)
            memcpy(after + slot * half, before + slot * half, half / 2);
        put(after, len);
        a = opened();
        account_lock(a);
        assert_int_equal(account_budgets(a)->of[BUDGET_WRITE].held, n);
        account_unlock(a);
        free(before);
        free(after);
    }
    account_free(a);
}

/* Whole files that say what cannot be, as a faulty program would leave them. */
struct nonsense {
    const char *comment;
    void (*say)(struct budget *b, struct session *s, uint64_t now_ms);
};

#define NONSENSE(name, ...)                                                \
    static void name(struct budget *b, struct session *s, uint64_t now_ms) \
    {                                                                      \
        (void)b, (void)s, (void)now_ms;                                    \
        __VA_ARGS__;                                                       \
    }
NONSENSE(next_too_high, b->next = BUDGET_CALLS_MAX)
NONSENSE(next_far_too_high, b->next = UINT16_MAX)
NONSENSE(held_too_high, b->held = BUDGET_CALLS_MAX + 1)
NONSENSE(call_to_come, budget_take(b, now_ms + 1))
NONSENSE(call_never, budget_take(b, NEVER))
NONSENSE(calls_out_of_order, budget_take(b, now_ms); budget_take(b, now_ms - 1))
NONSENSE(pause_of_years, budget_pause(b, now_ms * 50))
NONSENSE(pause_for_ever, budget_pause(b, NEVER))
NONSENSE(halved_for_ever, b->halved_until_ms = NEVER)
NONSENSE(throttled_to_come, b->throttled_at_ms = now_ms + 1)
NONSENSE(blocked_for_ever, s->blocked_until_ms = NEVER)
NONSENSE(back_off_for_ever, s->not_before_ms = now_ms + 25 * HOUR_MS)
NONSENSE(login_to_come, s->login_at_ms = now_ms + 1)

static const struct nonsense nonsense[] = {
#define ROW(name)   \
    {               \
#name, name \
    }
    ROW(next_too_high),     ROW(next_far_too_high), ROW(held_too_high),
    ROW(call_to_come),      ROW(call_never),        ROW(calls_out_of_order),
    ROW(pause_of_years),    ROW(pause_for_ever),    ROW(halved_for_ever),
    ROW(throttled_to_come), ROW(blocked_for_ever),  ROW(back_off_for_ever),
    ROW(login_to_come),
};

static void what_cannot_be_counts_as_used_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++) {
        struct account *a = opened();
        struct session s;
        uint64_t now_ms = account_lock(a);
        char *text;
        size_t len;

        session_init(&s, 1);
        account_restore_session(a, &s, 0);
        nonsense[i].say(&account_budgets(a)->of[BUDGET_WRITE], &s, now_ms);
        account_keep_session(a, &s, 0);
        account_unlock(a);
        account_free(a);
        text = whole(&len);
        memset(text, 0, len / 2); /* what was before */
        put(text, len);
        free(text);
        if (!is_used_up())
            fail_msg("%s", nonsense[i].comment);
        remove(file);
    }
}

static void damage_while_it_runs_is_mended(void **state)
{
    (void)state;
    struct account *a = opened();

    take_all(a, BUDGET_WRITE, false);
    put("", 0);
    assert_int_equal(wait_of(a, BUDGET_WRITE, false), 60000); /* it knows better */
    take(a, BUDGET_OBSERVE);
    account_free(a);
    a = opened();
    assert_int_equal(take_all(a, BUDGET_WRITE, true), 2);
    assert_int_equal(take_all(a, BUDGET_OBSERVE, false), 49);
    put("garbage", 7); /* another one may have used more than it knows of */
    assert_int_equal(wait_of(a, BUDGET_WRITE, true), 300000);
    account_free(a);
    a = opened();
    wait_ms(300000);
    assert_int_equal(take_all(a, BUDGET_WRITE, true), 10);
    account_free(a);
}

/* ---- directories that cannot be used ---- */

static void expect_private(const char *in, const char *reason)
{
    struct account *a = NULL;

    assert_int_equal(account_open(&a, in, clock_of_world, why, sizeof why), ERR_SYSTEM);
    assert_non_null(strstr(why, reason));
    assert_non_null(a);
    assert_int_equal(take_all(a, BUDGET_WRITE, true), 10);
    assert_int_equal(wait_of(a, BUDGET_WRITE, true), 60000);
    account_free(a);
}

static void without_a_directory_it_is_private(void **state)
{
    (void)state;
    char target[PATH];

    expect_private("/nowhere/at/all", "No such file");
    assert_int_equal(mkdir(file, 0700), 0);
    expect_private(dir, "directory");
    assert_int_equal(rmdir(file), 0);
    snprintf(target, sizeof target, "%s.elsewhere", dir);
    assert_int_equal(symlink(target, file), 0);
    expect_private(dir, "symbolic links");
    assert_int_equal(access(target, F_OK), -1);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(mkfifo(file, 0600), 0);
    expect_private(dir, "not a file of ours");
    assert_int_equal(unlink(file), 0);
    put("", 0);
    assert_int_equal(chmod(file, 0666), 0);
    expect_private(dir, "not a file of ours");
    if (geteuid() == 0) {
        put("x", 1);
        assert_int_equal(chmod(file, 0600), 0);
        assert_int_equal(chown(file, 65534, 65534), 0);
        expect_private(dir, "not a file of ours");
    }
}

/* The command line tool was first, as root: the daemon must be able to use it. */
static void a_new_file_belongs_to_whom_the_directory_does(void **state)
{
    (void)state;
    struct stat st;

    if (geteuid() != 0)
        skip();
    assert_int_equal(chown(dir, 65534, 65533), 0);
    account_free(opened());
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_uid, 65534);
    assert_int_equal(st.st_gid, 65533);
    assert_int_equal(st.st_mode & 07777, 0600);
}

/* Every write fails, as on a full disk; then there is room again. */
static void a_full_disk_recovers_by_itself(void **state)
{
    (void)state;
    struct rlimit none = {0, RLIM_INFINITY}, before;
    struct account *a = NULL;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    none.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    assert_int_equal(account_open(&a, dir, clock_of_world, why, sizeof why), ERR_SYSTEM);
    assert_int_equal(take_all(a, BUDGET_WRITE, false), 8);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    take(a, BUDGET_OBSERVE);
    account_free(a);
    a = opened();
    assert_int_equal(take_all(a, BUDGET_WRITE, true), 2);

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    wait_ms(60000);
    assert_int_equal(take_all(a, BUDGET_WRITE, false), 8); /* not from the stale file */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(wait_of(a, BUDGET_WRITE, false), 60000);
    account_free(a);
    a = opened();
    assert_int_equal(take_all(a, BUDGET_WRITE, true), 2);
    account_free(a);
}

/* ---- the session ---- */

static void restraint_outlives_the_process(void **state)
{
    (void)state;
    struct account *a = opened();
    struct session s, t;
    uint64_t now_ms = account_lock(a);
    uint8_t mark = account_mark("owner@example.org", "secret");

    session_init(&s, 1);
    account_restore_session(a, &s, mark);
    assert_int_equal(session_next(&s, now_ms), SESSION_LOGIN); /* nothing holds it back */
    session_failed(&s, ERR_CREDENTIALS, -1, now_ms);
    account_keep_session(a, &s, mark);
    account_unlock(a);
    account_free(a);

    a = opened();
    wait_ms(120000);
    now_ms = account_lock(a);
    session_init(&t, 2);
    account_restore_session(a, &t, mark);
    assert_true(t.credentials_refused);
    assert_int_equal(session_next(&t, now_ms), SESSION_NOTHING);
    assert_int_equal(session_wake(&t, now_ms), s.not_before_ms);
    account_unlock(a);

    now_ms = account_lock(a);
    session_init(&t, 2); /* the owner corrected the password */
    account_restore_session(a, &t, account_mark("owner@example.org", "Secret"));
    assert_false(t.credentials_refused);
    assert_int_equal(session_next(&t, now_ms), SESSION_LOGIN);
    account_unlock(a);
    account_free(a);
}

static void refused(struct account *a, struct session *s, uint8_t mark)
{
    uint64_t now_ms = account_lock(a);

    session_init(s, 1);
    account_restore_session(a, s, mark);
    assert_int_equal(session_next(s, now_ms), SESSION_LOGIN);
    session_failed(s, ERR_CREDENTIALS, -1, now_ms);
    account_keep_session(a, s, mark);
    account_unlock(a);
    wait_ms(60000); /* logins are a minute apart, whoever asks */
}

/* Who has the right password does not end the patience of those with a wrong one. */
static void a_refusal_is_for_its_own_credentials(void **state)
{
    (void)state;
    struct account *a = opened();
    struct session wrong, other, right;
    uint64_t now_ms;

    refused(a, &wrong, 1);
    refused(a, &other, 2);
    now_ms = account_lock(a);
    session_init(&right, 3);
    account_restore_session(a, &right, 3);
    assert_int_equal(session_next(&right, now_ms), SESSION_LOGIN);
    session_granted(&right, 3600, now_ms);
    account_keep_session(a, &right, 3);
    account_unlock(a);
    wait_ms(600000);
    now_ms = account_lock(a);
    account_restore_session(a, &wrong, 1);
    assert_true(wrong.credentials_refused);
    assert_int_equal(session_next(&wrong, now_ms), SESSION_NOTHING);
    account_restore_session(a, &other, 2);
    assert_int_equal(session_next(&other, now_ms), SESSION_NOTHING);
    account_unlock(a);

    wait_ms(3600000);
    now_ms = account_lock(a);
    account_restore_session(a, &wrong, 1);
    assert_int_equal(session_next(&wrong, now_ms), SESSION_LOGIN); /* once an hour */
    session_granted(&wrong, 3600, now_ms); /* the owner chose it as the new one */
    account_keep_session(a, &wrong, 1);
    account_restore_session(a, &wrong, 1);
    assert_false(wrong.credentials_refused);
    account_unlock(a);
    account_free(a);
}

static void a_block_and_the_back_off_outlive_a_reboot(void **state)
{
    (void)state;
    struct account *a = opened();
    struct session s, t;
    uint64_t now_ms = account_lock(a);

    session_init(&s, 1);
    assert_int_equal(session_next(&s, now_ms), SESSION_LOGIN);
    session_failed(&s, ERR_BLOCKED, -1, now_ms);
    account_keep_session(a, &s, 0);
    account_unlock(a);
    account_free(a);
    reboot(UINT64_C(7000000), 60000);
    a = opened();
    now_ms = account_lock(a);
    session_init(&t, 2);
    account_restore_session(a, &t, 99); /* other credentials do not lift a block */
    assert_int_equal(t.blocked_until_ms - now_ms, s.blocked_until_ms - START_MS - 60000);
    assert_int_equal(t.failures, 1);
    assert_int_equal(t.blocks, 1);
    assert_int_equal(now_ms - t.login_at_ms, 60000);
    assert_int_equal(session_next(&t, now_ms), SESSION_NOTHING);
    account_unlock(a);
    account_free(a);
}

static void what_did_not_change_is_not_written(void **state)
{
    (void)state;
    struct account *a = opened();
    struct session s;
    struct stat before, after;

    take(a, BUDGET_WRITE);
    assert_int_equal(stat(file, &before), 0);
    session_init(&s, 1);
    for (int i = 0; i < 1000; i++) {
        wait_ms(10);
        account_lock(a);
        account_restore_session(a, &s, 5);
        if (i > 0)
            account_keep_session(a, &s, 0);
        account_unlock(a);
    }
    assert_int_equal(stat(file, &after), 0);
    assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim);
    account_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_fresh_account_is_unused),
        TEST(another_process_finds_what_was_used),
        TEST(a_pause_is_for_all),
        TEST(together_they_keep_the_windows),
        TEST(killed_again_and_again_they_keep_the_windows),
        TEST(a_stopped_holder_does_not_hold_up_the_rest),
        TEST(a_reboot_moves_the_calls),
        TEST(while_it_runs_a_changed_boot_is_one_too),
        TEST(the_limits_are_those_of_the_program),
        TEST(garbage_counts_as_used_up),
        TEST(a_torn_write_never_happened),
        TEST(what_cannot_be_counts_as_used_up),
        TEST(damage_while_it_runs_is_mended),
        TEST(without_a_directory_it_is_private),
        TEST(a_new_file_belongs_to_whom_the_directory_does),
        TEST(a_full_disk_recovers_by_itself),
        TEST(restraint_outlives_the_process),
        TEST(a_refusal_is_for_its_own_credentials),
        TEST(a_block_and_the_back_off_outlive_a_reboot),
        TEST(what_did_not_change_is_not_written),
    };

    world = mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                 -1, 0);
    if (world == MAP_FAILED)
        return 1;
    return cmocka_run_group_tests_name("account", tests, NULL, NULL);
}
