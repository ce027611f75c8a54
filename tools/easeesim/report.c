/* SPDX-License-Identifier: MIT */
#include "report.h"

#include "device.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const struct obs_info obs_info[OBSERVATIONS] = {
#define OBS(id, kind, lo_ms, hi_ms, when, value) {id, KIND_##kind},
#include "observations.def"
#undef OBS
};

static double hundredths(double a)
{
    return round(a * 100) / 100;
}

static double thousandths(double a)
{
    return round(a * 1000) / 1000;
}

static int led_mode(const struct charger *c)
{
    if (c->error)
        return 16;
    if (c->op_mode == OP_AWAITING_AUTH)
        return 25;
    if (c->op_mode == OP_DISCONNECTED)
        return c->master ? 18 : 19;
    if (c->setting[SETTING_SMART] != 0)
        return c->op_mode == OP_CHARGING ? 22 : 21;
    return c->op_mode == OP_CHARGING ? 24 : 23;
}

static const char *pilot_mode(const struct charger *c)
{
    if (c->error)
        return "F";
    if (!c->car.connected)
        return "A";
    return c->op_mode == OP_CHARGING ? "C" : "B";
}

static bool on(const struct model *m, const struct charger *c, const struct circuit *k)
{
    return &m->circuit[c->circuit] == k;
}

static bool has_car(const struct charger *c)
{
    return c->car.connected;
}

static bool is_charging(const struct charger *c)
{
    return c->op_mode == OP_CHARGING;
}

static bool is_queued(const struct charger *c)
{
    return c->queued;
}

static bool is_full(const struct charger *c)
{
    return c->car.connected && c->car.full;
}

static bool exists(const struct charger *c)
{
    return c->serial[0] != '\0';
}

static double count(const struct model *m, const struct circuit *k,
                    bool (*what)(const struct charger *))
{
    int n = 0;

    for (unsigned i = 0; i < m->n_chargers; i++)
        if (on(m, &m->charger[i], k) && what(&m->charger[i]))
            n++;
    return n;
}

static double circuit_share(const struct model *m, const struct circuit *k, int phase)
{
    double a = 0;

    for (unsigned i = 0; i < m->n_chargers; i++)
        if (on(m, &m->charger[i], k) && m->charger[i].relay >> phase & 1)
            a += m->charger[i].offer_a;
    return a;
}

static double circuit_flow(const struct model *m, const struct circuit *k, int phase)
{
    double a = 0;

    for (unsigned i = 0; i < m->n_chargers; i++)
        if (on(m, &m->charger[i], k))
            a += m->charger[i].current_a[phase];
    return hundredths(a);
}

struct truth {
    bool known, is_text;
    double value;
    const char *text;
    uint64_t lo_ms, hi_ms;
};

#define REAL(when, v) ((struct truth){.known = (when), .value = (double)(v)})
#define INT(when, v)  REAL(when, v)
#define BOOL(when, v) REAL(when, v)
#define TEXT(when, v) ((struct truth){.known = (when), .is_text = true, .text = (v)})

static struct truth truth_of(const struct model *m, const struct charger *c, unsigned i)
{
    const struct circuit *k = &m->circuit[c->circuit];
    struct truth t = {0};

    switch (i) {
#define OBS(id, kind, lo, hi, when, value) \
    case OBS_##id:                         \
        t = kind(when, value);             \
        t.lo_ms = lo;                      \
        t.hi_ms = hi;                      \
        break;
#include "observations.def"
#undef OBS
    }
    return t;
}

#undef REAL
#undef INT
#undef BOOL
#undef TEXT

static bool differs(const struct seen *s, const struct truth *t)
{
    if (!t->known)
        return false;
    if (!s->known)
        return true;
    return t->is_text ? strcmp(s->text, t->text) != 0 : s->value != t->value;
}

/* What an observation also tells the cloud about: its own copies of settings and limits.
 */
static void learn(struct model *m, struct charger *c, unsigned i)
{
    struct circuit *k = &m->circuit[c->circuit];
    double value = c->seen[i].value;

    for (unsigned s = 0; s < SETTINGS; s++)
        if (setting_info[s].obs == obs_info[i].id)
            c->setting_cloud[s] = value;
    if (!c->master)
        return;
    if (i >= OBS_22 && i <= OBS_24)
        k->max_cloud[i - OBS_22] = value;
    else if (i >= OBS_50 && i <= OBS_52)
        k->offline_cloud[i - OBS_50] = value;
    else if (i >= OBS_111 && i <= OBS_113)
        k->dynamic_cloud[i - OBS_111] = value;
}

/* The cloud sees it, and tells. */
static void see(struct model *m, struct charger *c, unsigned i, const struct truth *t)
{
    struct seen *s = &c->seen[i], before = *s;

    s->known = true;
    s->at_ms = m->now_ms;
    s->value = t->value;
    if (t->is_text)
        snprintf(s->text, sizeof s->text, "%s", t->text);
    if (m->listener.observed)
        m->listener.observed(m->listener.arg, c, i, &before);
}

static void deliver(struct model *m, struct charger *c, unsigned i, const struct truth *t)
{
    see(m, c, i, t);
    learn(m, c, i);
}

static void wake_by(struct charger *c, uint64_t due_ms)
{
    if (due_ms < c->report_ms)
        c->report_ms = due_ms;
}

void report_notice(struct model *m, struct charger *c)
{
    if (!c->online)
        return;
    for (unsigned i = 0; i < OBSERVATIONS; i++) {
        struct truth t = truth_of(m, c, i);

        if (c->seen[i].due_ms != NEVER || !differs(&c->seen[i], &t))
            continue;
        c->seen[i].due_ms = m->now_ms + model_random(m, t.lo_ms, t.hi_ms);
        wake_by(c, c->seen[i].due_ms);
    }
}

void report_run(struct model *m, struct charger *c)
{
    c->report_ms = NEVER;
    for (unsigned i = 0; i < OBSERVATIONS; i++) {
        struct seen *s = &c->seen[i];

        if (s->due_ms > m->now_ms) {
            wake_by(c, s->due_ms);
            continue;
        }
        s->due_ms = NEVER;
        if (!c->online)
            continue;
        struct truth t = truth_of(m, c, i);
        bool heartbeat = i == OBS_150; /* reported again and again, changed or not */

        if (heartbeat || differs(s, &t))
            deliver(m, c, i, &t);
        else if (s->known)
            learn(m, c, i); /* changed and changed back meanwhile */
        if (heartbeat) {
            s->due_ms = m->now_ms + t.hi_ms;
            wake_by(c, s->due_ms);
        }
    }
}

void report_all(struct model *m, struct charger *c)
{
    for (unsigned i = 0; i < OBSERVATIONS; i++) {
        struct truth t = truth_of(m, c, i);

        c->seen[i].due_ms = NEVER;
        if (t.known && c->online)
            deliver(m, c, i, &t);
    }
    c->report_ms = NEVER;
    report_again(m, c, 150);
}

void report_again(struct model *m, struct charger *c, int id)
{
    for (unsigned i = 0; i < OBSERVATIONS; i++) {
        struct truth t = truth_of(m, c, i);

        if (obs_info[i].id != id || !t.known)
            continue;
        if (i != OBS_150)
            deliver(m, c, i, &t);
        c->seen[i].due_ms = i == OBS_150 ? m->now_ms + t.hi_ms : NEVER;
        wake_by(c, c->seen[i].due_ms);
    }
}

void report_link(struct model *m, struct charger *c)
{
    see(m, c, OBS_250, &(struct truth){.value = c->online});
    if (c->online) {
        for (unsigned i = 0; i < OBSERVATIONS; i++)
            if (c->seen[i].known)
                learn(m, c, i);
        report_again(m, c, 109);
        report_again(m, c, 150);
        return;
    }
    see(m, c, OBS_109, &(struct truth){.value = OP_OFFLINE});
}
