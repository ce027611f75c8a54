/* SPDX-License-Identifier: MIT
 * circuits - how long 256 circuits that are written at once wait for each other.
 *
 * The gateway's own cloud thread with everything it decides, budgets included; only the
 * clock and the two clients of the cloud are of this file, so that half an hour passes in
 * a moment.  Every call takes 200 ms and succeeds; there is no stream, so that reading
 * back and observing take from the account's calls as well.
 *
 * Prints the seconds until every circuit's newest wish was sent, and the least that the
 * budget of setpoints allows. */
#include "evecc/budget.h"
#include "evecc/easee.h"
#include "evecc/exchange.h"
#include "evecc/log.h"
#include "evecc/stream.h"
#include "evecc/sync.h"
#include "evecc/sys.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CIRCUITS = 256,
    CALL_MS = 200,
    WRITE_AT_MS = 45 * 60 * 1000, /* all were found and observed by then */
    AMPS = 16,
    BODY_MAX = 64 * 1024
};

static const uint64_t start_ms = UINT64_C(1) << 40;
static uint64_t now_ms = UINT64_C(1) << 40; /* the cloud thread's own, once it runs */
static struct exchange *exchange;
static unsigned sent;
static bool newest_sent[CIRCUITS + 1];
static uint64_t written_ms, last_sent_ms;
static sem_t done;

/* ---- the clock ---- */

uint64_t sys_now_ms(void)
{
    return now_ms;
}

void sys_clock(struct state_clock *ret)
{
    *ret = (struct state_clock){
        .now_ms = now_ms, .unix_ms = (int64_t)now_ms, .boot_id = "simulated"};
}

uint32_t sys_random(void)
{
    return 1;
}

/* ---- a cloud ---- */

struct easee {
    unsigned running;
    struct {
        bool used;
        uint64_t tag, until_ms;
        char path[EASEE_PATH_MAX];
    } call[EASEE_CALLS_MAX];
    char body[BODY_MAX];
};

enum err easee_new(struct easee **ret, const struct easee_options *opt)
{
    (void)opt;
    *ret = calloc(1, sizeof **ret);
    return *ret ? ERR_OK : ERR_SYSTEM;
}

void easee_free(struct easee *e)
{
    free(e);
}

void easee_set_token(struct easee *e, const char *access)
{
    (void)e;
    (void)access;
}

void easee_wake(struct easee *e)
{
    (void)e;
}

unsigned easee_room(const struct easee *e)
{
    return EASEE_CALLS_MAX - e->running;
}

/* The number behind PREFIX in PATH; 0: another path. */
static unsigned number_in(const char *path, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(path, prefix, len) == 0 ? (unsigned)strtoul(path + len, NULL, 10) : 0;
}

static void note_setpoint(unsigned circuit)
{
    if (written_ms == 0 || newest_sent[circuit])
        return;
    newest_sent[circuit] = true;
    last_sent_ms = now_ms;
    if (++sent == CIRCUITS)
        sem_post(&done);
}

enum err easee_start(struct easee *e, const struct easee_call *call)
{
    size_t i = 0;
    while (e->call[i].used)
        i++;
    e->call[i].used = true;
    e->call[i].tag = call->tag;
    e->call[i].until_ms = now_ms + CALL_MS;
    snprintf(e->call[i].path, sizeof e->call[i].path, "%s", call->path);
    e->running++;
    if (call->body && strstr(call->path, "/settings"))
        note_setpoint(number_in(call->path, "/api/sites/1/circuits/"));
    return ERR_OK;
}

static void list_circuits(char *body)
{
    char *at = body + sprintf(body, "{\"id\":1,\"siteKey\":\"ABCD-1234\",\"circuits\":[");
    for (unsigned n = 1; n <= CIRCUITS; n++)
        at += sprintf(at,
                      "%s{\"id\":%u,\"circuitPanelId\":%u,\"chargers\":"
                      "[{\"id\":\"EH%06u\"}]}",
                      n > 1 ? "," : "", n, n, n);
    strcpy(at, "]}");
}

/* What the settings of a circuit are: what the newest wish asked for, once it was sent.
 */
static void answer(const char *path, char *body)
{
    if (number_in(path, "/api/sites/1/circuits/") > 0)
        sprintf(body,
                "{\"dynamicCircuitCurrentP1\":%d,\"dynamicCircuitCurrentP2\":%d,"
                "\"dynamicCircuitCurrentP3\":%d}",
                AMPS, AMPS, AMPS);
    else if (strncmp(path, "/api/accounts/", 14) == 0)
        strcpy(body,
               "{\"accessToken\":\"a\",\"refreshToken\":\"b\",\"expiresIn\":86400}");
    else if (strncmp(path, "/state/", 7) == 0)
        strcpy(body, "{\"observations\":[]}");
    else if (strcmp(path, "/api/sites") == 0)
        strcpy(body, "[{\"id\":1,\"siteKey\":\"ABCD-1234\"}]");
    else
        list_circuits(body);
}

bool easee_take(struct easee *e, struct easee_reply *ret)
{
    for (size_t i = 0; i < EASEE_CALLS_MAX; i++) {
        if (!e->call[i].used || e->call[i].until_ms > now_ms)
            continue;
        answer(e->call[i].path, e->body);
        *ret = (struct easee_reply){.tag = e->call[i].tag,
                                    .http_status = 200,
                                    .transmissions = 1,
                                    .retry_after_s = -1,
                                    .date_unix_ms = (int64_t)now_ms,
                                    .body = e->body,
                                    .len = strlen(e->body)};
        e->call[i].used = false;
        e->running--;
        return true;
    }
    return false;
}

/* Every circuit at once, and each three times: only the last one counts. */
static void write_all(void)
{
    written_ms = now_ms;
    for (size_t i = 0; i < CIRCUITS; i++)
        for (uint16_t n = 0; n < 3; n++) {
            struct want w = {
                .id = n + 1u,
                .accepted_at_ms = now_ms,
                .fed_at_ms = now_ms,
                .power_w = NA_U32,
                .current_da = (uint16_t)(10 * (AMPS - 2 + n)),
                .phase_da = {NA_U16, NA_U16, NA_U16},
                .enable = true
            };
            exchange_put_want(exchange, i, &w);
        }
}

/* Time passes here, and nowhere else. */
void easee_run(struct easee *e, int timeout_ms)
{
    uint64_t until_ms = now_ms + (timeout_ms < 0 ? 1000u : (unsigned)timeout_ms);
    bool write = written_ms == 0;

    for (size_t i = 0; i < EASEE_CALLS_MAX; i++)
        if (e->call[i].used && e->call[i].until_ms < until_ms)
            until_ms = e->call[i].until_ms;
    write = write && until_ms >= start_ms + WRITE_AT_MS;
    now_ms = write ? start_ms + WRITE_AT_MS : until_ms;
    if (write)
        write_all();
}

/* ---- no stream ---- */

struct stream {
    int none;
};

enum err stream_new(struct stream **ret, const struct stream_options *opt)
{
    static struct stream none;

    (void)opt;
    *ret = &none;
    return ERR_OK;
}

enum err stream_start(struct stream *s)
{
    (void)s;
    return ERR_OK;
}

void stream_set_token(struct stream *s, const char *access)
{
    (void)s;
    (void)access;
}

void stream_subscribe(struct stream *s, const char *serial)
{
    (void)s;
    (void)serial;
}

bool stream_take(struct stream *s, struct stream_event *ret)
{
    (void)s;
    (void)ret;
    return false;
}

uint64_t stream_progress_ms(const struct stream *s)
{
    (void)s;
    return now_ms;
}

bool stream_stop(struct stream *s, uint32_t timeout_ms)
{
    (void)s;
    (void)timeout_ms;
    return true;
}

void stream_free(struct stream *s)
{
    (void)s;
}

/* ---- the run ---- */

/* When the last of CIRCUITS setpoints may leave, if nothing else takes calls. */
static uint64_t bound_ms(void)
{
    struct budgets b;
    uint64_t at = 0;

    budgets_init(&b);
    for (size_t i = 0; i < CIRCUITS; i++) {
        at += budgets_wait_ms(&b, BUDGET_WRITE, at, false);
        budgets_take(&b, BUDGET_WRITE, at);
    }
    return at;
}

static void configure(struct config *cfg)
{
    char why[128], key[16];

    config_defaults(cfg);
    strcpy(cfg->easee.username, "owner");
    strcpy(cfg->gateway.state_dir, "/nowhere"); /* nothing is kept */
    cfg->circuits = CIRCUITS;
    cfg->circuit = calloc(CIRCUITS, sizeof cfg->circuit[0]);
    for (unsigned i = 0; i < CIRCUITS; i++) {
        struct config_circuit *c = &cfg->circuit[i];
        size_t count;
        const struct config_option *o = config_options(&count);

        for (; count > 0; count--, o++)
            if (strcmp(o->section, "circuit") == 0 && o->default_value)
                config_set(c, "circuit", o->key, NULL, why, sizeof why);
        snprintf(key, sizeof key, "%u", i + 1);
        config_set(c, "circuit", "site", "ABCD-1234", why, sizeof why);
        config_set(c, "circuit", "circuit", key, why, sizeof why);
        config_set(c, "circuit", "max_current", "32", why, sizeof why);
        snprintf(c->name, sizeof c->name, "c%u", i + 1);
        config_select(c);
    }
}

int main(void)
{
    struct config cfg;
    struct sync *sync;
    char why[256];

    log_set_level(LOG_LEVEL_ERROR);
    configure(&cfg);
    sem_init(&done, 0, 0);
    exchange = exchange_new(CIRCUITS);
    if (sync_new(&sync, &cfg, exchange, NULL, why, sizeof why) != ERR_OK ||
        sync_start(sync) != ERR_OK) {
        fprintf(stderr, "circuits: %s\n", why);
        return 1;
    }
    sem_wait(&done);
    printf("%.3f %.3f\n", (double)(last_sent_ms - written_ms) / 1000,
           (double)bound_ms() / 1000);
    sync_stop(sync, 10000);
    sync_free(sync);
    exchange_free(exchange);
    config_release(&cfg);
    return 0;
}
