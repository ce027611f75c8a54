/* SPDX-License-Identifier: MIT
 * The rules of the pool one by one, then random histories against a plain list. */
#include "evecc/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { START_MS = 1000000, IDLE_MS = 60000 };

static struct pool_member member(unsigned host, bool marked)
{
    return (struct pool_member){
        .address = {[14] = (uint8_t)(host >> 8), [15] = (uint8_t)host},
          .marked = marked
    };
}

static void places_and_guard(void **state)
{
    struct pool p;
    struct pool_member m[3] = {member(1, false), member(2, false), member(3, false)},
                       late = member(4, false), *leaves = &late;
    (void)state;
    pool_init(&p, 3, 8, 0);
    for (uint64_t i = 0; i < 3; i++) {
        assert_true(pool_admits(&p, &m[i], START_MS + i, &leaves));
        assert_null(leaves);
        pool_enter(&p, &m[i], START_MS + i);
    }
    assert_false(pool_admits(&p, &late, START_MS + POOL_GUARD_MS - 1, &leaves));
    assert_true(pool_admits(&p, &late, START_MS + POOL_GUARD_MS, &leaves));
    assert_ptr_equal(leaves, &m[0]);
    pool_touch(&p, &m[0], START_MS + 5000);
    assert_false(pool_admits(&p, &late, START_MS + POOL_GUARD_MS, &leaves));
    assert_true(pool_admits(&p, &late, START_MS + 1 + POOL_GUARD_MS, &leaves));
    assert_ptr_equal(leaves, &m[1]);
    pool_leave(&p, &m[1]);
    assert_true(pool_admits(&p, &late, START_MS, &leaves));
    assert_null(leaves);
}

static void an_address_has_its_own_limit(void **state)
{
    struct pool p;
    struct pool_member m[4] = {member(1, false), member(2, false), member(2, false),
                               member(2, false)},
                       other = member(3, false), *leaves;
    (void)state;
    pool_init(&p, 32, 2, 0);
    pool_enter(&p, &m[0], START_MS);
    pool_enter(&p, &m[1], START_MS + 1);
    pool_enter(&p, &m[2], START_MS + 2);
    assert_false(pool_admits(&p, &m[3], START_MS + POOL_GUARD_MS, &leaves));
    assert_true(pool_admits(&p, &m[3], START_MS + 1 + POOL_GUARD_MS, &leaves));
    assert_ptr_equal(leaves, &m[1]); /* not m[0], which is idle longer */
    assert_true(pool_admits(&p, &other, START_MS, &leaves));
    assert_null(leaves);
}

static void marked_ones_stay(void **state)
{
    struct pool p;
    struct pool_member marked[3] = {member(1, true), member(1, true), member(2, true)},
                       other[2] = {member(8, false), member(9, false)}, *leaves;
    const uint64_t later = START_MS + 100 * IDLE_MS;
    (void)state;
    pool_init(&p, 2, 2, IDLE_MS);
    for (int i = 0; i < 2; i++) {
        pool_enter(&p, &other[i], START_MS);
        assert_true(pool_admits(&p, &marked[i], START_MS, &leaves));
        assert_null(leaves);
        pool_enter(&p, &marked[i], START_MS);
    }
    assert_false(pool_admits(&p, &marked[2], later, &leaves)); /* no place */
    p.places = 3;
    assert_true(pool_admits(&p, &marked[2], later, &leaves));
    assert_null(leaves);
    marked[2] = marked[1];
    assert_false(pool_admits(&p, &marked[2], later, &leaves)); /* of that address */
    for (int i = 0; i < 2; i++) {
        assert_non_null(pool_overdue(&p, later));
        pool_leave(&p, pool_overdue(&p, later));
    }
    assert_null(pool_overdue(&p, later));
    assert_int_equal(p.taken[true], 2);
}

static void idle_ones_go(void **state)
{
    struct pool p;
    struct pool_member m[2] = {member(1, false), member(2, false)};
    (void)state;
    pool_init(&p, 2, 2, IDLE_MS);
    assert_true(pool_wake(&p) == UINT64_MAX);
    pool_enter(&p, &m[0], START_MS);
    pool_enter(&p, &m[1], START_MS + 10);
    assert_int_equal(pool_wake(&p), START_MS + IDLE_MS);
    pool_touch(&p, &m[0], START_MS + 20);
    assert_int_equal(pool_wake(&p), START_MS + 10 + IDLE_MS);
    assert_null(pool_overdue(&p, START_MS + 10 + IDLE_MS - 1));
    assert_ptr_equal(pool_overdue(&p, START_MS + 10 + IDLE_MS), &m[1]);

    pool_init(&p, 2, 2, 0);
    pool_enter(&p, &m[0], START_MS);
    assert_true(pool_wake(&p) == UINT64_MAX);
    assert_null(pool_overdue(&p, UINT64_MAX - 1));
}

/* What the pool must answer, the slow way. */
struct plain {
    struct pool_member *in[64];
    size_t count;
};

static bool plain_admits(const struct plain *l, const struct pool *p,
                         const struct pool_member *n, uint64_t now_ms,
                         struct pool_member **ret)
{
    struct pool_member *own = NULL, *any = NULL;
    unsigned owns = 0, taken = 0;
    for (size_t i = 0; i < l->count; i++) {
        struct pool_member *m = l->in[i];
        bool same = memcmp(m->address, n->address, 16) == 0;
        taken += m->marked == n->marked;
        owns += same;
        if (same && (!own || m->active_ms < own->active_ms))
            own = m;
        if (!m->marked && (!any || m->active_ms < any->active_ms))
            any = m;
    }
    *ret = owns >= p->per_address ? own : taken >= p->places ? any : NULL;
    if (owns < p->per_address && taken < p->places)
        return true;
    return *ret && !n->marked && now_ms - (*ret)->active_ms >= POOL_GUARD_MS;
}

static void plain_remove(struct plain *l, const struct pool_member *m)
{
    for (size_t i = 0; i < l->count; i++)
        if (l->in[i] == m)
            l->in[i] = l->in[--l->count];
}

static void random_histories(void **state)
{
    const unsigned seed = (unsigned)time(NULL);
    (void)state;
    print_message("seed %u\n", seed);
    srand(seed);
    for (int history = 0; history < 300; history++) {
        struct pool p;
        struct plain l = {.count = 0};
        struct pool_member slot[64];
        uint64_t now_ms = START_MS;
        size_t used[64] = {0};
        pool_init(&p, 1 + (uint32_t)rand() % 12, 1 + (uint32_t)rand() % 6,
                  rand() % 2 ? IDLE_MS : 0);
        for (int step = 0; step < 400; step++) {
            size_t i = (size_t)rand() % 64;
            now_ms +=
                (uint64_t)(rand() % 1500); /* no two moments are told apart by less */
            now_ms++;
            if (used[i] && rand() % 3) {
                pool_touch(&p, &slot[i], now_ms);
            } else if (used[i]) {
                pool_leave(&p, &slot[i]);
                plain_remove(&l, &slot[i]);
                used[i] = 0;
            } else {
                unsigned host = (unsigned)rand() % 9;
                struct pool_member *leaves = NULL, *expected;
                slot[i] = member(host, host < 3);
                bool in = plain_admits(&l, &p, &slot[i], now_ms, &expected);
                assert_int_equal(pool_admits(&p, &slot[i], now_ms, &leaves), in);
                if (in) {
                    assert_ptr_equal(leaves, expected);
                    if (leaves) {
                        assert_false(leaves->marked);
                        pool_leave(&p, leaves);
                        plain_remove(&l, leaves);
                        used[leaves - slot] = 0;
                    }
                    pool_enter(&p, &slot[i], now_ms);
                    l.in[l.count++] = &slot[i];
                    used[i] = 1;
                }
            }
            struct pool_member *idle;
            while ((idle = pool_overdue(&p, now_ms))) {
                assert_true(!idle->marked && now_ms - idle->active_ms >= IDLE_MS);
                pool_leave(&p, idle);
                plain_remove(&l, idle);
                used[idle - slot] = 0;
            }
            assert_true(p.taken[0] <= p.places && p.taken[1] <= p.places);
            assert_int_equal(p.taken[0] + p.taken[1], l.count);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_and_guard),
        cmocka_unit_test(an_address_has_its_own_limit),
        cmocka_unit_test(marked_ones_stay),
        cmocka_unit_test(idle_ones_go),
        cmocka_unit_test(random_histories),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
