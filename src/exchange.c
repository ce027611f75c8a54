/* SPDX-License-Identifier: MIT */
#include "evecc/exchange.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* How often a value was put; 0: never.  Moves under the lock only; read without it to see
 * that there is nothing newer. */
typedef _Atomic uint64_t put_count;

struct slot {
    put_count wants, statuses;
    struct want want;
    struct status status;
};

struct exchange {
    pthread_mutex_t lock;
    void (*wake)(void *arg);
    void *wake_arg;
    put_count counts_puts;
    struct cloud_counts counts;
    size_t circuits;
    struct slot slot[];
};

struct exchange *exchange_new(size_t circuits)
{
    struct exchange *x = calloc(1, sizeof *x + circuits * sizeof x->slot[0]);
    if (!x)
        return NULL;
    if (pthread_mutex_init(&x->lock, NULL) != 0) {
        free(x);
        return NULL;
    }
    x->circuits = circuits;
    return x;
}

void exchange_free(struct exchange *x)
{
    if (x)
        pthread_mutex_destroy(&x->lock);
    free(x);
}

void exchange_on_want(struct exchange *x, void (*wake)(void *arg), void *arg)
{
    pthread_mutex_lock(&x->lock);
    x->wake = wake;
    x->wake_arg = arg;
    pthread_mutex_unlock(&x->lock);
}

static void put(struct exchange *x, put_count *puts, void *held, const void *value,
                size_t size)
{
    pthread_mutex_lock(&x->lock);
    memcpy(held, value, size);
    atomic_fetch_add_explicit(puts, 1, memory_order_relaxed);
    pthread_mutex_unlock(&x->lock);
}

static bool take(struct exchange *x, put_count *puts, const void *held, uint64_t *seen,
                 void *ret, size_t size)
{
    /* A put this misses is found the next time; the lock orders the value itself. */
    if (atomic_load_explicit(puts, memory_order_relaxed) == *seen)
        return false;
    pthread_mutex_lock(&x->lock);
    memcpy(ret, held, size);
    *seen = atomic_load_explicit(puts, memory_order_relaxed);
    pthread_mutex_unlock(&x->lock);
    return true;
}

void exchange_put_want(struct exchange *x, size_t i, const struct want *w)
{
    assert(i < x->circuits);
    put(x, &x->slot[i].wants, &x->slot[i].want, w, sizeof *w);

    pthread_mutex_lock(&x->lock);
    void (*wake)(void *arg) = x->wake;
    void *arg = x->wake_arg;
    pthread_mutex_unlock(&x->lock);
    if (wake) /* outside the lock: the woken thread takes it at once */
        wake(arg);
}

bool exchange_take_want(struct exchange *x, size_t i, uint64_t *seen, struct want *ret)
{
    assert(i < x->circuits);
    return take(x, &x->slot[i].wants, &x->slot[i].want, seen, ret, sizeof *ret);
}

void exchange_put_status(struct exchange *x, size_t i, const struct status *s)
{
    assert(i < x->circuits);
    put(x, &x->slot[i].statuses, &x->slot[i].status, s, sizeof *s);
}

bool exchange_take_status(struct exchange *x, size_t i, uint64_t *seen,
                          struct status *ret)
{
    assert(i < x->circuits);
    return take(x, &x->slot[i].statuses, &x->slot[i].status, seen, ret, sizeof *ret);
}

void exchange_put_counts(struct exchange *x, const struct cloud_counts *c)
{
    put(x, &x->counts_puts, &x->counts, c, sizeof *c);
}

bool exchange_take_counts(struct exchange *x, uint64_t *seen, struct cloud_counts *ret)
{
    return take(x, &x->counts_puts, &x->counts, seen, ret, sizeof *ret);
}
