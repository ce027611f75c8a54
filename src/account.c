/* SPDX-License-Identifier: MIT */
#include "evecc/account.h"

#include "evecc/instant.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#define DAY_MS UINT64_C(86400000)

enum { VERSION = 2, LOCK_TRIES = 1000, TRY_NS = 1000000, REFUSALS = 4 };

/* A login that was refused; until_ms 0: none. */
struct refusal {
    uint64_t until_ms, credentials;
};

/* Of struct session; the token's times belong to the token.  Refusals are kept for each
 * user name and password, so that one with others neither waits for them nor ends them.
 */
struct restraint {
    uint64_t not_before_ms, blocked_until_ms, login_at_ms;
    uint16_t failures, throttled, blocks, rejections;
    struct refusal refusal[REFUSALS];
};

_Static_assert(sizeof(struct restraint) == 32 + REFUSALS * 16,
               "compared as bytes: no padding");

struct shared {
    struct budgets budgets;
    struct restraint restraint;
};

/* The file is two of these, written in turn: a kill in the middle of a write leaves the
 * one before. */
struct image {
    char magic[8];
    uint32_t version, size;
    uint64_t number; /* the higher counts */
    struct state_clock saved;
    struct shared shared;
    uint32_t sum; /* of all before it */
};

static const char magic[8] = "evecc-a";

struct account {
    int fd; /* -1: private memory */
    account_clock *clock;
    bool stuck;   /* another process has the lock and does not move */
    bool unsaved; /* what is in memory is newer than the file */
    struct image image, disk;
};

/* ---- what can be believed ---- */

static uint32_t sum_of(const struct image *image)
{
    return (uint32_t)crc32_z(crc32_z(0, NULL, 0), (const Bytef *)image,
                             offsetof(struct image, sum));
}

static bool past(uint64_t at_ms, uint64_t now_ms)
{
    return at_ms <= now_ms || at_ms == NEVER;
}

static bool soon(uint64_t at_ms, uint64_t now_ms)
{
    return at_ms <= now_ms + DAY_MS;
}

static uint64_t *call(struct budget *b, unsigned newest)
{
    return &b->at_ms[(b->next + BUDGET_CALLS_MAX - newest) % BUDGET_CALLS_MAX];
}

static bool believable_budget(struct budget *b, uint64_t now_ms)
{
    uint64_t later_ms = now_ms;

    if (b->next >= BUDGET_CALLS_MAX || b->held > BUDGET_CALLS_MAX ||
        !soon(b->paused_until_ms, now_ms) || !soon(b->halved_until_ms, now_ms) ||
        !past(b->throttled_at_ms, now_ms))
        return false;
    for (unsigned n = 1; n <= b->held; n++) {
        if (*call(b, n) > later_ms)
            return false;
        later_ms = *call(b, n);
    }
    return true;
}

static bool believable(struct image *i)
{
    const struct restraint *r = &i->shared.restraint;
    uint64_t now_ms = i->saved.now_ms;

    if (memcmp(i->magic, magic, sizeof magic) != 0 || i->version != VERSION ||
        i->size != sizeof *i || i->sum != sum_of(i) || now_ms > INT64_MAX ||
        memchr(i->saved.boot_id, '\0', sizeof i->saved.boot_id) == NULL)
        return false;
    for (size_t k = 0; k < BUDGET_CLASSES; k++)
        if (!believable_budget(&i->shared.budgets.of[k], now_ms))
            return false;
    for (size_t k = 0; k < REFUSALS; k++)
        if (!soon(r->refusal[k].until_ms, now_ms))
            return false;
    return soon(r->not_before_ms, now_ms) && soon(r->blocked_until_ms, now_ms) &&
           past(r->login_at_ms, now_ms);
}

static bool same(const void *a, const void *b, size_t size)
{
    return memcmp(a, b, size) == 0;
}

/* ---- other boots ---- */

static uint64_t longest_window_ms(const struct budget *b)
{
    uint64_t ms = 0;

    for (unsigned i = 0; i < BUDGET_RULES; i++)
        if (b->rule[i].calls != 0 && b->rule[i].window_ms > ms)
            ms = b->rule[i].window_ms;
    return ms;
}

struct shift {
    uint64_t saved_ms, elapsed_ms, now_ms;
};

static void move(uint64_t *at_ms, const struct shift *s)
{
    *at_ms = state_shift(*at_ms, s->saved_ms, s->elapsed_ms, s->now_ms);
}

static void move_budget(struct budget *b, const struct shift *s)
{
    /* What no window holds any more is forgotten: it could come to lie at the beginning
     * of this clock, where it would look young. */
    uint64_t old_ms = longest_window_ms(b);

    while (b->held > 0 && s->saved_ms + s->elapsed_ms - *call(b, b->held) >= old_ms)
        b->held--;
    for (unsigned n = 1; n <= b->held; n++)
        move(call(b, n), s);
    move(&b->paused_until_ms, s);
    move(&b->halved_until_ms, s);
    move(&b->throttled_at_ms, s);
}

static void move_to(struct image *i, const struct state_clock *now)
{
    struct shift s = {.saved_ms = i->saved.now_ms, .now_ms = now->now_ms};
    struct restraint *r = &i->shared.restraint;

    state_elapsed(&i->saved, now, &s.elapsed_ms);
    for (size_t k = 0; k < BUDGET_CLASSES; k++)
        move_budget(&i->shared.budgets.of[k], &s);
    move(&r->not_before_ms, &s);
    move(&r->blocked_until_ms, &s);
    move(&r->login_at_ms, &s);
    for (size_t k = 0; k < REFUSALS; k++)
        move(&r->refusal[k].until_ms, &s);
}

/* ---- the file ---- */

static void init_image(struct image *i, const struct state_clock *now)
{
    memset(i, 0, sizeof *i);
    memcpy(i->magic, magic, sizeof magic);
    i->version = VERSION;
    i->size = sizeof *i;
    i->number = 1;
    i->saved = *now;
    budgets_init(&i->shared.budgets);
    i->shared.restraint.login_at_ms = NEVER;
}

/* As if every call had just been made, the reserve as well. */
static void use_up(struct budgets *budgets, uint64_t now_ms)
{
    for (size_t k = 0; k < BUDGET_CLASSES; k++)
        while (budget_wait_ms(&budgets->of[k], now_ms, true) == 0)
            budget_take(&budgets->of[k], now_ms);
}

/* The rules are this program's, whatever the one that wrote the file had. */
static void take_disk(struct account *a)
{
    struct budgets mine;

    budgets_init(&mine);
    a->image = a->disk;
    for (size_t k = 0; k < BUDGET_CLASSES; k++)
        memcpy(a->image.shared.budgets.of[k].rule, mine.of[k].rule,
               sizeof mine.of[k].rule);
}

/* Both begin as they did when we wrote or read last: whoever writes raises the number. */
static bool unchanged(const struct account *a)
{
    enum { HEAD = offsetof(struct image, saved) };
    uint64_t newest = 0;
    struct image head;

    for (off_t k = 0; k < 2; k++) {
        if (pread(a->fd, &head, HEAD, k * (off_t)sizeof head) != HEAD)
            return false;
        newest = head.number > newest ? head.number : newest;
    }
    return newest != 0 && newest == a->disk.number;
}

static void read_file(struct account *a, uint64_t now_ms)
{
    bool found = false, empty = true;
    struct image slot;

    for (off_t k = 0; k < 2; k++) {
        ssize_t n = pread(a->fd, &slot, sizeof slot, k * (off_t)sizeof slot);

        empty = empty && n <= 0;
        if (n != (ssize_t)sizeof slot || !believable(&slot) ||
            (found && slot.number < a->disk.number))
            continue;
        a->disk = slot;
        found = true;
    }
    if (found)
        take_disk(a);
    else if (!empty)
        use_up(&a->image.shared.budgets, now_ms);
}

static bool write_file(struct account *a)
{
    struct image *i = &a->image;

    i->number++;
    i->sum = sum_of(i);
    a->disk = *i;
    return pwrite(a->fd, i, sizeof *i, (off_t)(i->number % 2) * (off_t)sizeof *i) ==
           (ssize_t)sizeof *i;
}

/* Owner and permissions are those of the directory, also when root comes first. */
static int open_file(const char *dir, char *why, size_t size)
{
    char path[4096];
    struct stat above, st;
    int fd;

    snprintf(path, sizeof path, "%s/account", dir);
    fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd < 0 || stat(dir, &above) != 0 || fstat(fd, &st) != 0) {
        snprintf(why, size, "%s: %s", path, strerror(errno));
    } else {
        if (st.st_uid != above.st_uid && st.st_size == 0 && st.st_nlink == 1 &&
            fchown(fd, above.st_uid, above.st_gid) == 0)
            st.st_uid = above.st_uid;
        if (S_ISREG(st.st_mode) && st.st_uid == above.st_uid &&
            (st.st_mode & (S_IWGRP | S_IWOTH)) == 0)
            return fd;
        snprintf(why, size, "%s is not a file of ours", path);
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

enum err account_open(struct account **ret, const char *dir, account_clock *clock,
                      char *why, size_t why_size)
{
    struct account *a = calloc(1, sizeof *a);
    struct state_clock now;
    bool saved;

    *ret = a;
    if (a == NULL) {
        snprintf(why, why_size, "out of memory");
        return ERR_SYSTEM;
    }
    clock(&now);
    a->clock = clock;
    init_image(&a->image, &now);
    a->fd = open_file(dir, why, why_size);
    if (a->fd < 0)
        return ERR_SYSTEM;
    account_lock(a);
    account_unlock(a);
    saved = !a->unsaved && fsync(a->fd) == 0;
    if (!saved)
        snprintf(why, why_size, "%s/account: %s", dir, strerror(errno));
    return saved ? ERR_OK : ERR_SYSTEM;
}

void account_free(struct account *a)
{
    if (a == NULL)
        return;
    if (a->fd >= 0)
        close(a->fd);
    free(a);
}

/* A holder that does not let go is waited for once, not each time. */
static void take_lock(struct account *a)
{
    const struct timespec a_while = {.tv_nsec = TRY_NS};
    int tries = a->stuck ? 1 : LOCK_TRIES;

    a->stuck = false;
    while (flock(a->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK && !a->stuck) {
        a->stuck = --tries == 0;
        nanosleep(&a_while, NULL);
    }
}

uint64_t account_lock(struct account *a)
{
    struct image *i = &a->image;
    struct state_clock now;

    if (a->fd >= 0)
        take_lock(a);
    a->clock(&now);
    if (a->fd >= 0 && !a->unsaved && !unchanged(a))
        read_file(a, now.now_ms);
    if (strcmp(i->saved.boot_id, now.boot_id) != 0 || now.boot_id[0] == '\0' ||
        now.now_ms < i->saved.now_ms)
        move_to(i, &now);
    i->saved = now;
    return now.now_ms;
}

void account_unlock(struct account *a)
{
    const struct image *i = &a->image;

    if (a->fd < 0)
        return;
    if (a->unsaved || !same(&i->shared, &a->disk.shared, sizeof i->shared))
        a->unsaved = !write_file(a);
    flock(a->fd, LOCK_UN);
}

/* ---- what is shared ---- */

struct budgets *account_budgets(struct account *a)
{
    return &a->image.shared.budgets;
}

static struct refusal *find_refusal(struct restraint *r, uint8_t credentials)
{
    for (size_t k = 0; k < REFUSALS; k++)
        if (r->refusal[k].until_ms != 0 && r->refusal[k].credentials == credentials)
            return &r->refusal[k];
    return NULL;
}

/* A free one, or that which ends first. */
static struct refusal *new_refusal(struct restraint *r)
{
    struct refusal *first = &r->refusal[0];

    for (size_t k = 1; k < REFUSALS; k++)
        if (r->refusal[k].until_ms < first->until_ms)
            first = &r->refusal[k];
    return first;
}

void account_restore_session(struct account *a, struct session *s, uint8_t credentials)
{
    struct restraint *r = &a->image.shared.restraint;
    const struct refusal *refused = find_refusal(r, credentials);

    s->not_before_ms = r->not_before_ms;
    s->blocked_until_ms = r->blocked_until_ms;
    s->login_at_ms = r->login_at_ms;
    s->failures = r->failures;
    s->throttled = r->throttled;
    s->blocks = r->blocks;
    s->rejections = r->rejections;
    s->credentials_refused = refused != NULL;
    if (refused != NULL)
        s->not_before_ms = later(s->not_before_ms, refused->until_ms);
}

void account_keep_session(struct account *a, const struct session *s, uint8_t credentials)
{
    struct restraint *r = &a->image.shared.restraint;
    struct refusal *refused = find_refusal(r, credentials);

    r->blocked_until_ms = s->blocked_until_ms;
    r->login_at_ms = s->login_at_ms;
    r->failures = s->failures;
    r->throttled = s->throttled;
    r->blocks = s->blocks;
    r->rejections = s->rejections;
    if (!s->credentials_refused) {
        r->not_before_ms = s->not_before_ms;
        if (refused != NULL)
            *refused = (struct refusal){0};
        return;
    }
    if (refused == NULL)
        refused = new_refusal(r);
    *refused = (struct refusal){s->not_before_ms, credentials};
}

uint8_t account_mark(const char *username, const char *password)
{
    uLong sum = crc32_z(0, NULL, 0);

    sum = crc32_z(sum, (const Bytef *)username, strlen(username) + 1);
    return (uint8_t)crc32_z(sum, (const Bytef *)password, strlen(password));
}
