/* SPDX-License-Identifier: MIT */
#include "model.h"

#include "device.h"
#include "report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define TICKS_OF_1970 \
    INT64_C(621355968000000000) /* 100 ns since the year 1 (easee-api 5.1) */
#define BIG_TICKS INT64_C(9000000000000000000)

enum {
    ANSWER_LO_MS = 500, /* from sending a command to its response (easee-api 7.2) */
    ANSWER_HI_MS = 1000,
    SHOWN_HI_MS = 1500, /* until the cloud shows a command (section 12) */
    EXPIRE_MS = 60000,  /* until the cloud gives a command up */
    WEATHER_MS = 60000, /* the grid's voltage moves */
    HOUR_MS = 3600000,
    BOOT_LO_MS = 60000,
    BOOT_HI_MS = 120000,
    PRODUCT_CHARGE = 100 /* from here on: Charge, Core, Pro */
};

const struct setting_info setting_info[SETTINGS] = {
#define SETTING(name, json, kind, command, obs, flash, initial) \
    {#json, KIND_##kind, command, obs, flash, initial},
#include "settings.def"
#undef SETTING
};

static const double nominal_v[3] = {231.2, 230.8, 231.0};

uint64_t model_random(struct model *m, uint64_t lo, uint64_t hi)
{
    uint64_t z = m->rng += UINT64_C(0x9E3779B97F4A7C15); /* splitmix64 */

    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return lo + (z ^ z >> 31) % (hi - lo + 1);
}

uint64_t model_unix_ms(const struct model *m, uint64_t at_ms)
{
    return m->unix0_ms + at_ms;
}

void model_init(struct model *m, uint64_t seed, uint64_t unix_ms)
{
    memset(m, 0, sizeof *m);
    m->rng = seed;
    m->unix0_ms = unix_ms;
    m->weather_ms = WEATHER_MS;
    m->hour_ms = HOUR_MS - unix_ms % HOUR_MS;
    memcpy(m->voltage_v, nominal_v, sizeof m->voltage_v);
#define QUIRK(name, initial, meaning) m->quirks.name = initial;
#include "quirks.def"
#undef QUIRK
}

struct account *model_add_account(struct model *m, const char *user)
{
    if (m->n_accounts == ACCOUNTS_MAX)
        return NULL;
    struct account *a = &m->account[m->n_accounts++];

    snprintf(a->user, sizeof a->user, "%s", user);
    return a;
}

struct site *model_add_site(struct model *m, unsigned account, int64_t id)
{
    if (m->n_sites == SITES_MAX)
        return NULL;
    struct site *s = &m->site[m->n_sites++];

    *s = (struct site){.id = id, .account = account, .rated_a = 32};
    snprintf(s->name, sizeof s->name, "Site %lld", (long long)id);
    return s;
}

struct circuit *model_add_circuit(struct model *m, unsigned site, int64_t id)
{
    if (m->n_circuits == CIRCUITS_MAX)
        return NULL;
    struct circuit *k = &m->circuit[m->n_circuits++];

    *k = (struct circuit){
        .id = id, .site = site, .panel = 1, .rated_a = 32, .ttl_ms = NEVER};
    for (int p = 0; p < 3; p++) {
        k->max_a[p] = 32;
        k->offline_a[p] = 6;
        k->dynamic_a[p] = 40;
    }
    return k;
}

struct charger *model_add_charger(struct model *m, unsigned circuit, const char *serial)
{
    if (m->n_chargers == CHARGERS_MAX)
        return NULL;
    struct charger *c = &m->charger[m->n_chargers++];

    *c = (struct charger){
        .circuit = circuit,
        .product = 1,
        .firmware = 330,
        .grid_type = 1,
        .online = true,
        .cable_a = 32,
        .car = {.phases = 3, .wants_a = 32},
        .dynamic_ttl_ms = NEVER,
        .stage_ms = NEVER,
        .ramp_ms = NEVER,
        .boot_ms = NEVER,
        .reboot_reason = 20,
        .lifetime_kwh = 1234.5,
        .temperature_c = 22
    };
    snprintf(c->serial, sizeof c->serial, "%s", serial);
    snprintf(c->name, sizeof c->name, "Charger %s", serial);
    c->master = model_master(m, &m->circuit[circuit]) == c;
    for (unsigned s = 0; s < SETTINGS; s++)
        c->setting[s] = setting_info[s].initial;
    return c;
}

struct account *model_account(struct model *m, const char *user)
{
    for (unsigned i = 0; i < m->n_accounts; i++) {
        struct account *a = &m->account[i];

        if (strcmp(a->user, user) == 0 || (a->phone[0] && strcmp(a->phone, user) == 0))
            return a;
    }
    return NULL;
}

struct site *model_site(struct model *m, int64_t id)
{
    for (unsigned i = 0; i < m->n_sites; i++)
        if (m->site[i].id == id)
            return &m->site[i];
    return NULL;
}

struct circuit *model_circuit(struct model *m, int64_t id)
{
    for (unsigned i = 0; i < m->n_circuits; i++)
        if (m->circuit[i].id == id)
            return &m->circuit[i];
    return NULL;
}

struct charger *model_charger(struct model *m, const char *serial)
{
    for (unsigned i = 0; i < m->n_chargers; i++)
        if (strcmp(m->charger[i].serial, serial) == 0)
            return &m->charger[i];
    return NULL;
}

struct charger *model_master(struct model *m, const struct circuit *k)
{
    for (unsigned i = 0; i < m->n_chargers; i++)
        if (&m->circuit[m->charger[i].circuit] == k)
            return &m->charger[i];
    return NULL;
}

void model_touch(struct model *m)
{
    for (unsigned i = 0; i < m->n_circuits; i++)
        device_decide(m, &m->circuit[i]);
    for (unsigned i = 0; i < m->n_chargers; i++)
        report_notice(m, &m->charger[i]);
}

void model_stamp(const struct model *m, uint64_t at_ms, char ret[static STAMP_SIZE])
{
    uint64_t ms = model_unix_ms(m, at_ms);
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    char text[STAMP_SIZE / 2];

    gmtime_r(&s, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(ret, STAMP_SIZE, "%s.%03uZ", text, (unsigned)(ms % 1000));
}

/* The cloud's view of sessions: a text at the start and at the end (easee-api 7.4). */
static double thousandths(double a)
{
    return round(a * 1000) / 1000;
}

static void session_begin(struct model *m, struct charger *c)
{
    char start[STAMP_SIZE];

    c->session++;
    c->session_kwh = 0;
    c->session_start_ms = m->now_ms;
    model_stamp(m, m->now_ms, start);
    snprintf(c->start_text, sizeof c->start_text,
             "{\"Id\":%u,\"MeterValue\":%.10g,\"Start\":\"%s\",\"Auth\":\"\","
             "\"AuthReason\":0}",
             c->session, thousandths(c->lifetime_kwh), start);
}

static void session_end(struct model *m, struct charger *c)
{
    char start[STAMP_SIZE], stop[STAMP_SIZE];

    model_stamp(m, c->session_start_ms, start);
    model_stamp(m, m->now_ms, stop);
    snprintf(c->session_text, sizeof c->session_text,
             "{\"Id\":%u,\"Start\":\"%s\",\"Stop\":\"%s\",\"EnergyKwh\":%.10g,"
             "\"MeterValueStart\":%.10g,\"MeterValueStop\":%.10g,\"Auth\":\"\","
             "\"AuthReason\":0}",
             c->session, start, stop, thousandths(c->session_kwh),
             thousandths(c->lifetime_kwh - c->session_kwh), thousandths(c->lifetime_kwh));
}

/* A charge that could run runs already: nobody wants to wait for it at the start. */
void model_settle(struct model *m)
{
    for (unsigned i = 0; i < m->n_chargers; i++) {
        struct charger *c = &m->charger[i];

        memcpy(c->setting_cloud, c->setting, sizeof c->setting);
        if (c->car.connected)
            session_begin(m, c);
    }
    for (unsigned i = 0; i < m->n_circuits; i++) {
        struct circuit *k = &m->circuit[i];

        memcpy(k->max_cloud, k->max_a, sizeof k->max_a);
        memcpy(k->offline_cloud, k->offline_a, sizeof k->offline_a);
        memcpy(k->dynamic_cloud, k->dynamic_a, sizeof k->dynamic_a);
        device_decide(m, k);
    }
    for (unsigned i = 0; i < m->n_chargers; i++)
        while (device_wake(&m->charger[i]) != NEVER) {
            struct charger *c = &m->charger[i];

            if (c->stage_ms != NEVER)
                c->stage_ms = m->now_ms;
            if (c->ramp_ms != NEVER)
                c->ramp_ms = m->now_ms;
            device_run(m, c);
        }
    for (unsigned i = 0; i < m->n_chargers; i++)
        report_all(m, &m->charger[i]);
}

/* The volatile limit of a charger returns to its maximum (easee-api 0.10). */
static void forget_dynamic(struct charger *c)
{
    c->setting[SETTING_DYNAMIC] = c->setting[SETTING_MAX];
    c->dynamic_ttl_ms = NEVER;
}

void model_set_car(struct model *m, struct charger *c, const struct car *car)
{
    bool was = c->car.connected;

    c->car = *car;
    if (car->connected && !was) {
        forget_dynamic(c);
        session_begin(m, c);
    } else if (!car->connected && was) {
        device_drop(m, c);
        session_end(m, c);
        c->authorised = false;
    }
    model_touch(m);
}

void model_set_online(struct model *m, struct charger *c, bool online)
{
    if (c->online == online)
        return;
    c->online = online;
    device_decide(m, &m->circuit[c->circuit]);
    report_link(m, c);
    report_notice(m, c);
}

void model_reboot(struct model *m, struct charger *c, int reason)
{
    struct circuit *k = &m->circuit[c->circuit];

    c->reboot_reason = reason;
    c->boot_ms = m->now_ms + model_random(m, BOOT_LO_MS, BOOT_HI_MS);
    forget_dynamic(c);
    device_drop(m, c);
    if (c->master) {
        double reset_a = c->product >= PRODUCT_CHARGE ? 80 : 40;

        k->dynamic_a[0] = k->dynamic_a[1] = k->dynamic_a[2] = reset_a;
        k->ttl_ms = NEVER;
    }
    model_set_online(m, c, false);
}

static void write_flash(unsigned *counter, double *to, double value)
{
    if (*to != value)
        ++*counter;
    *to = value;
}

static uint64_t deadline(const struct model *m, double minutes)
{
    return minutes > 0 ? m->now_ms + (uint64_t)(minutes * 60000) : NEVER;
}

static void apply_setting(struct model *m, struct charger *c, const struct order *o)
{
    const struct setting_info *info = &setting_info[o->setting];
    double value = info->kind == KIND_REAL ? floor(o->arg[0]) : o->arg[0];

    if (info->flash)
        write_flash(&c->flash_writes, &c->setting[o->setting], value);
    else
        c->setting[o->setting] = value;
    if (o->setting == SETTING_DYNAMIC)
        c->dynamic_ttl_ms = deadline(m, o->ttl_min);
}

/* The charger obeys, and the cloud takes the response as the new state of what was set.
 */
static void apply(struct model *m, struct charger *c, const struct order *o)
{
    struct circuit *k = &m->circuit[c->circuit];

    for (int p = 0; p < 3; p++) {
        double a = floor(o->arg[p]);

        if (o->id == CMD_DYNAMIC_CIRCUIT)
            k->dynamic_a[p] = k->dynamic_cloud[p] = a;
        if (o->id == CMD_MAX_CIRCUIT)
            write_flash(&k->flash_writes, &k->max_a[p], k->max_cloud[p] = a);
        if (o->id == CMD_OFFLINE_FALLBACK)
            write_flash(&k->flash_writes, &k->offline_a[p], k->offline_cloud[p] = a);
    }
    if (o->id == CMD_DYNAMIC_CIRCUIT)
        k->ttl_ms = deadline(m, o->ttl_min);
    else if (o->id == CMD_AUTHORISE)
        c->authorised = true;
    else if (o->id == CMD_DEAUTHORISE)
        c->authorised = false;
    else if (o->id == CMD_POLL_SINGLE)
        report_again(m, c, (int)o->arg[0]);
    else if (o->id == CMD_POLL_ALL)
        report_all(m, c);
    else if (o->id == CMD_REBOOT || o->id == CMD_UPGRADE)
        model_reboot(m, c, 20);
    if (o->setting >= 0) {
        apply_setting(m, c, o);
        c->setting_cloud[o->setting] = c->setting[o->setting];
    }
}

static struct command *command_at(struct model *m, uint64_t n)
{
    return &m->command[n % COMMANDS_MAX];
}

static uint64_t oldest(const struct model *m)
{
    return m->n_commands > COMMANDS_MAX ? m->n_commands - COMMANDS_MAX : 0;
}

static int64_t next_ticks(struct model *m)
{
    int64_t ticks = (int64_t)model_unix_ms(m, m->now_ms) * 10000 + TICKS_OF_1970 +
                    (int64_t)model_random(m, 0, 9999);

    if (m->quirks.big_ticks)
        ticks = BIG_TICKS + ticks % INT64_C(200000000000000000);
    if (ticks <= m->last_ticks && m->last_ticks - ticks < 100000000)
        ticks = m->last_ticks + 1;
    return m->last_ticks = ticks;
}

/* One charger answers its commands in the order they were sent. */
static uint64_t answer_time(struct model *m, unsigned charger)
{
    uint64_t usual_ms = model_random(m, ANSWER_LO_MS, ANSWER_HI_MS);
    uint64_t own_ms = m->charger[charger].answer_ms;
    uint64_t due = m->now_ms + (own_ms ? own_ms : usual_ms);

    for (uint64_t n = oldest(m); n < m->n_commands; n++) {
        const struct command *q = command_at(m, n);

        if (q->charger == charger && q->verdict == VERDICT_SENT &&
            q->due_ms < q->sent_ms + EXPIRE_MS && q->due_ms >= due)
            due = q->due_ms + 1;
    }
    return due;
}

struct command *model_send(struct model *m, struct charger *c, const struct order *order)
{
    unsigned index = (unsigned)(c - m->charger);
    bool deaf = !c->online || c->confirm == CONFIRM_NEVER;
    uint64_t due = deaf ? m->now_ms + EXPIRE_MS : answer_time(m, index);
    struct command *q = command_at(m, m->n_commands++);

    *q = (struct command){.order = *order,
                          .charger = index,
                          .ticks = next_ticks(m),
                          .sent_ms = m->now_ms,
                          .due_ms = due,
                          .visible_ms = m->now_ms + model_random(m, 0, SHOWN_HI_MS),
                          .verdict = VERDICT_SENT};
    return q;
}

struct command *model_command(struct model *m, const struct charger *c, int id,
                              int64_t ticks)
{
    for (uint64_t n = oldest(m); n < m->n_commands; n++) {
        struct command *q = command_at(m, n);

        if (q->ticks == ticks && q->order.id == id && &m->charger[q->charger] == c &&
            q->visible_ms <= m->now_ms)
            return q;
    }
    return NULL;
}

const struct command *model_newest(const struct model *m, const struct charger *c)
{
    for (uint64_t n = m->n_commands; n-- > oldest(m);)
        if (&m->charger[m->command[n % COMMANDS_MAX].charger] == c)
            return &m->command[n % COMMANDS_MAX];
    return NULL;
}

static bool same_target(const struct order *a, const struct order *b)
{
    return a->id == b->id && a->setting == b->setting;
}

static bool same_values(const struct order *o, const double *value, int n)
{
    for (int i = 0; i < n; i++)
        if (floor(o->arg[i]) != floor(value[i]))
            return false;
    return true;
}

bool model_changes(const struct model *m, const struct charger *c,
                   const struct order *order)
{
    const struct circuit *k = &m->circuit[c->circuit];
    int n = order->setting >= 0 ? 1 : 3;

    for (uint64_t i = m->n_commands; i-- > oldest(m);) {
        const struct command *q = &m->command[i % COMMANDS_MAX];

        if (q->verdict == VERDICT_SENT && &m->charger[q->charger] == c &&
            same_target(&q->order, order))
            return !same_values(order, q->order.arg, n);
    }
    if (order->setting >= 0)
        return !same_values(order, &c->setting_cloud[order->setting], 1);
    switch (order->id) {
    case CMD_DYNAMIC_CIRCUIT:
        return !same_values(order, k->dynamic_cloud, 3);
    case CMD_MAX_CIRCUIT:
        return !same_values(order, k->max_cloud, 3);
    case CMD_OFFLINE_FALLBACK:
        return !same_values(order, k->offline_cloud, 3);
    }
    return true;
}

static void answer(struct model *m, struct command *q)
{
    struct charger *c = &m->charger[q->charger];
    bool late = q->due_ms >= q->sent_ms + EXPIRE_MS;

    if (!late && (!c->online || c->confirm == CONFIRM_NEVER)) {
        q->due_ms = q->sent_ms + EXPIRE_MS;
        return;
    }
    q->answered_ms = m->now_ms;
    q->verdict = late                           ? VERDICT_EXPIRED
                 : c->confirm == CONFIRM_REJECT ? VERDICT_REJECTED
                                                : VERDICT_EXECUTED;
    if (!late && m->listener.answered)
        m->listener.answered(m->listener.arg, q);
    if (q->verdict == VERDICT_EXECUTED)
        apply(m, c, &q->order);
}

/* The three beliefs about the end of a time-to-live (easee-api 11.1). */
static void lapse(struct model *m, struct circuit *k)
{
    k->ttl_ms = NEVER;
    for (int p = 0; p < 3; p++)
        if (m->ttl_expiry == TTL_OFFLINE)
            k->dynamic_a[p] = k->offline_a[p];
        else if (m->ttl_expiry == TTL_MAXIMUM)
            k->dynamic_a[p] = k->max_a[p];
}

static void weather(struct model *m)
{
    m->weather_ms += WEATHER_MS;
    for (int p = 0; p < 3; p++)
        m->voltage_v[p] = nominal_v[p] + ((double)model_random(m, 0, 8) - 4) / 10;
}

static void hour(struct model *m)
{
    m->hour_ms += HOUR_MS;
    for (unsigned i = 0; i < m->n_chargers; i++) {
        m->charger[i].last_hour_kwh = m->charger[i].hour_kwh;
        m->charger[i].hour_kwh = 0;
    }
}

static uint64_t min_ms(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t model_wake(const struct model *m)
{
    uint64_t t = min_ms(m->weather_ms, m->hour_ms);

    for (unsigned i = 0; i < m->n_circuits; i++)
        t = min_ms(t, m->circuit[i].ttl_ms);
    for (unsigned i = 0; i < m->n_chargers; i++) {
        const struct charger *c = &m->charger[i];

        t = min_ms(t, min_ms(device_wake(c), min_ms(c->dynamic_ttl_ms, c->report_ms)));
    }
    for (uint64_t n = oldest(m); n < m->n_commands; n++) {
        const struct command *q = &m->command[n % COMMANDS_MAX];

        if (q->verdict == VERDICT_SENT)
            t = min_ms(t, q->due_ms);
    }
    return t;
}

static void integrate_to(struct model *m, uint64_t t_ms)
{
    if (t_ms <= m->now_ms)
        return;
    for (unsigned i = 0; i < m->n_chargers; i++)
        device_integrate(m, &m->charger[i], t_ms - m->now_ms);
    m->now_ms = t_ms;
}

static void run_due(struct model *m)
{
    if (m->weather_ms <= m->now_ms)
        weather(m);
    if (m->hour_ms <= m->now_ms)
        hour(m);
    for (unsigned i = 0; i < m->n_circuits; i++)
        if (m->circuit[i].ttl_ms <= m->now_ms)
            lapse(m, &m->circuit[i]);
    for (uint64_t n = oldest(m); n < m->n_commands; n++) {
        struct command *q = command_at(m, n);

        if (q->verdict == VERDICT_SENT && q->due_ms <= m->now_ms)
            answer(m, q);
    }
    for (unsigned i = 0; i < m->n_chargers; i++) {
        struct charger *c = &m->charger[i];

        if (c->dynamic_ttl_ms <= m->now_ms)
            forget_dynamic(c);
        if (device_wake(c) <= m->now_ms)
            device_run(m, c);
        if (c->report_ms <= m->now_ms)
            report_run(m, c);
    }
    model_touch(m);
}

void model_advance(struct model *m, uint64_t now_ms)
{
    uint64_t t;

    while ((t = model_wake(m)) <= now_ms) {
        integrate_to(m, t);
        run_due(m);
    }
    integrate_to(m, now_ms);
}
