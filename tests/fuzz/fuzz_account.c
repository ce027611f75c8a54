/* SPDX-License-Identifier: MIT
 * The account's file with any bytes changed, with a checksum that is right all the same:
 * what is believed of it neither blocks the gateway for longer than a day nor gives it
 * more calls than the rules, on this boot and on another. */
#include "evecc/account.h"

#include "folder.h"

#include <string.h>
#include <zlib.h>

enum { SLOTS = 2, FILE_MAX = 1 << 17, DAY_MS = 86400000, WORD = 8 };

static const char *boot = "this";
static uint64_t now_ms = 10 * (uint64_t)DAY_MS;
static uint8_t good[FILE_MAX];
static size_t good_size;

static void test_clock(struct state_clock *ret)
{
    *ret = (struct state_clock){.now_ms = now_ms, .unix_ms = INT64_C(1767614282000)};
    snprintf(ret->boot_id, sizeof ret->boot_id, "%s", boot);
}

static struct account *open_account(void)
{
    struct account *a;
    char why[256];
    CHECK(account_open(&a, folder, test_clock, why, sizeof why) == ERR_OK);
    return a;
}

/* A file with something in both halves. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    make_folder("account");
    struct account *a = open_account();
    for (unsigned i = 0; i < 3; i++) {
        uint64_t at_ms = account_lock(a);
        budgets_take(account_budgets(a), BUDGET_WRITE, at_ms);
        account_unlock(a);
    }
    account_free(a);
    char path[80];
    path_of("account", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, good, sizeof good);
    close(fd);
    CHECK(n > 0 && (size_t)n < sizeof good && n % (SLOTS * WORD) == 0);
    good_size = (size_t)n;
    return 0;
}

/* Each half ends with its sum and four bytes of padding. */
static void make_sums_right(uint8_t *file)
{
    size_t half = good_size / SLOTS;
    for (uint8_t *slot = file; slot < file + good_size; slot += half) {
        uint32_t sum =
            (uint32_t)crc32_z(crc32_z(0, NULL, 0), (const Bytef *)slot, half - WORD);
        memcpy(slot + half - WORD, &sum, sizeof sum);
    }
}

static void check(struct account *a)
{
    struct session s;
    uint64_t at_ms = account_lock(a);
    struct budgets *b = account_budgets(a), before = *b;

    CHECK(at_ms == now_ms);
    for (unsigned k = 0; k < BUDGET_CLASSES; k++) {
        CHECK(budget_wait_ms(&b->of[k], now_ms, true) <= DAY_MS);
        CHECK(budget_left(&b->of[k], now_ms) <= b->of[k].rule[0].calls);
    }
    session_init(&s, 1);
    account_restore_session(a, &s, 0);
    CHECK(session_wake(&s, now_ms) == NEVER ||
          session_wake(&s, now_ms) <= now_ms + DAY_MS);
    account_unlock(a);
    /* It is the same when it is read again. */
    account_lock(a);
    CHECK(memcmp(account_budgets(a), &before, sizeof before) == 0);
    account_unlock(a);
}

/* A byte of choices, then words of the file and what is to be in them. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t file[FILE_MAX];

    if (size == 0)
        return 0;
    bool sums = data[0] & 1, other_boot = data[0] & 2, cut = data[0] & 4;
    memcpy(file, good, good_size);
    for (data++, size--; size >= 2 + WORD; data += 2 + WORD, size -= 2 + WORD) {
        size_t at = (data[0] + 256u * data[1]) % (good_size / WORD) * WORD;
        memcpy(file + at, data + 2, WORD);
    }
    if (sums)
        make_sums_right(file);
    put_file("account", file, cut ? good_size - size * 1000 : good_size);
    boot = other_boot ? "other" : "this";
    struct account *a = open_account();
    check(a);
    account_free(a);
    return 0;
}
