/* SPDX-License-Identifier: MIT
 * evecc get, evecc set: the power limit of a circuit, once, without a gateway. */
#include "site.h"

#include "evecc/sys.h"
#include "evecc/words.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SANE_DA = 800, RETRY_MS = 5000, FOREVER_SWITCHES = PHASE_SWITCHES_MAX };

/* ---- get ---- */

static unsigned watts(const struct site *s, const uint16_t da[PHASES])
{
    unsigned sum = 0;

    for (unsigned i = 0; i < s->cfg.phases; i++)
        if (da[i] != NA_U16 && da[i] >= s->cfg.min_current * 10)
            sum += da[i];
    return sum * s->cfg.voltage / 10;
}

static void print_charger(const struct charger *c)
{
    const struct telemetry *t = &c->telemetry;
    const char *mode = word_text(regmap_row(REG_OPERATION_MODE), t->op_mode),
               *reason =
                   word_text(regmap_row(REG_NO_CURRENT_REASON), t->no_current_reason);

    printf("%-12s %s%s%s", "charger", mode != NULL ? mode : "unknown",
           reason != NULL && t->no_current_reason != 0 ? ", " : "",
           reason != NULL && t->no_current_reason != 0 ? reason : "");
    if (t->power_w != NA_U32)
        printf(", %.2f kW", t->power_w / 1000.0);
    if (t->effective_da != NA_U16)
        printf(", offers %.0f A", t->effective_da / 10.0);
    putchar('\n');
}

static enum exit_code print_get(const struct cli *cli, const struct site *s)
{
    const uint16_t *limit = s->settings.current_da[EASEE_DYNAMIC];
    const struct telemetry *t = &s->charger.telemetry;
    char buf[48];
    cJSON *root;

    if (cli->json) {
        root = cJSON_CreateObject();
        site_head_json(s, root);
        cJSON_AddItemToObject(root, "limit_a", site_amps_json(limit));
        cJSON_AddNumberToObject(root, "limit_w", watts(s, limit));
        cJSON_AddItemToObject(root, "maximum_a",
                              site_amps_json(s->settings.current_da[EASEE_MAX]));
        if (t->op_mode != NA_U16)
            cJSON_AddNumberToObject(root, "operation_mode", t->op_mode);
        if (t->power_w != NA_U32)
            cJSON_AddNumberToObject(root, "power_w", t->power_w);
        return print_json(root);
    }
    site_print_head(s);
    printf("%-12s %s, %u W at %" PRIu32 " V\n", "limit", site_amps_text(limit, buf),
           watts(s, limit), s->cfg.voltage);
    printf("%-12s %s\n", "maximum",
           site_amps_text(s->settings.current_da[EASEE_MAX], buf));
    print_charger(&s->charger);
    return EXIT_OK;
}

enum exit_code run_get(struct cli *cli)
{
    struct cloud c;
    struct site s;
    enum exit_code status = site_start(cli, &c, &s);
    enum err err;

    if (status == EXIT_OK) {
        err = site_observe(&c, &s);
        if (err != ERR_OK)
            warn("what the charger does is not known: %s", err_text(err));
        status = print_get(cli, &s);
    }
    cloud_close(&c);
    return status;
}

/* ---- set ---- */

struct order {
    struct phase_wish wish;
    struct phase_config phase;
    struct phase_memory memory;
    struct phase_choice choice;
    struct amps now;
    bool now_known;
    double confirmed_s;
    bool sent;
};

/* "7400", "7400 W", "7.4kW", "max". */
static bool parse_watts(const char *text, uint32_t *ret)
{
    char *end;
    double number, factor;

    if (strcasecmp(text, "max") == 0) {
        *ret = NA_U32;
        return true;
    }
    if (text[strspn(text, "0123456789.kKwW ")] != '\0' || *text < '0' || *text > '9')
        return false;
    number = strtod(text, &end);
    end += strspn(end, " ");
    if (*end == '\0' || strcasecmp(end, "W") == 0)
        factor = 1;
    else if (strcasecmp(end, "kW") == 0)
        factor = 1000;
    else
        return false;
    if (!(number * factor <= 1000000))
        return false;
    *ret = (uint32_t)floor(number * factor);
    return true;
}

static enum exit_code parse_order(const struct cli *cli, struct order *ret)
{
    static const struct {
        const char *text;
        enum phase_mode mode;
    } modes[] = {
        {"auto", PHASE_MODE_AUTO  },
        {"1",    PHASE_MODE_SINGLE},
        {"3",    PHASE_MODE_THREE }
    };
    const char *phases = cli->flag[FLAG_phases];
    size_t i = 0;

    *ret = (struct order){
        .wish = {
                 .current_da = NA_U16, .phase_da = {NA_U16, NA_U16, NA_U16}, .enable = true}
    };
    if (!parse_watts(cli->args[0], &ret->wish.power_w))
        return fail(cli, EXIT_USAGE, NULL,
                    "%s: allowed: 0 to 1000000 W, such as 7400 or 7.4kW, or max",
                    cli->args[0]);
    while (phases != NULL && i < 3 && strcmp(modes[i].text, phases) != 0)
        i++;
    if (i == 3)
        return fail(cli, EXIT_USAGE, NULL, "--phases %s: allowed: auto, 1, 3", phases);
    ret->wish.mode = (uint8_t)modes[i].mode;
    return EXIT_OK;
}

/* The lower of A and DA in whole amps, where DA can be one (easee-api 3.1: 1000 A). */
static uint32_t lower(uint32_t a, uint16_t da)
{
    if (da == NA_U16 || da == 0 || da > SANE_DA)
        return a;
    return a == 0 || da / 10u < a ? da / 10u : a;
}

/* The gateway's rule with what is known here: no dwell, because nothing is remembered,
 * but the pause before three phases. */
static enum exit_code prepare(const struct cli *cli, const struct site *s,
                              struct order *o)
{
    const uint16_t *now = s->settings.current_da[EASEE_DYNAMIC];
    uint32_t max = s->cfg.max_current;

    if (max == 0) /* nobody said: what the cloud knows of the fuse */
        for (unsigned i = 0; i < PHASES; i++)
            max = lower(lower(max, s->where.rated_da),
                        s->settings.current_da[EASEE_MAX][i]);
    if (max == 0)
        return fail(cli, EXIT_CONFIG, "Give the fuse with --max-current A.",
                    "the cloud does not know the fuse of this circuit");
    if (max < s->cfg.min_current)
        return fail(cli, EXIT_CONFIG, NULL,
                    "the fuse of %" PRIu32 " A is below the %" PRIu32
                    " A that a car needs",
                    max, s->cfg.min_current);
    o->phase = (struct phase_config){.pause_ms = s->cfg.phase_pause * UINT64_C(1000),
                                     .single_phase_max_w = s->cfg.single_phase_max,
                                     .voltage_v = (uint16_t)s->cfg.voltage,
                                     .max_current_a = (uint8_t)max,
                                     .min_current_a = (uint8_t)s->cfg.min_current,
                                     .phases_wired = (uint8_t)s->cfg.phases,
                                     .switches_per_day = FOREVER_SWITCHES,
                                     .may_switch = site_may_switch(s)};
    o->now_known = true;
    for (unsigned i = 0; i < PHASES; i++) {
        o->now_known = o->now_known && now[i] != NA_U16;
        o->now.l[i] = (uint8_t)(now[i] / 10 > UINT8_MAX ? UINT8_MAX : now[i] / 10);
    }
    if (o->now_known)
        phase_applied(&o->memory, o->now, sys_now_ms());
    return EXIT_OK;
}

static bool reached(const struct site *s, const void *arg)
{
    const struct amps *a = arg;

    for (unsigned i = 0; i < PHASES; i++)
        if (s->settings.current_da[EASEE_DYNAMIC][i] != a->l[i] * 10)
            return false;
    return true;
}

/* Sends what the rule chose and sees it confirmed. */
static enum exit_code apply(struct cloud *c, struct site *s, struct order *o)
{
    const struct amps a = o->choice.target;
    uint64_t sent_ms;
    enum err err;

    if (o->now_known && amps_equal(o->now, a)) {
        phase_applied(&o->memory, a, sys_now_ms());
        return EXIT_OK;
    }
    err = site_set(c, s, EASEE_DYNAMIC, a);
    if (err != ERR_OK)
        return cloud_fail(c, err, "setting %u / %u / %u A", a.l[0], a.l[1], a.l[2]);
    o->sent = true;
    sent_ms = sys_now_ms();
    phase_applied(&o->memory, a, sent_ms);
    err = site_confirm(c, s, false, reached, &a);
    o->confirmed_s = (double)(sys_now_ms() - sent_ms) / 1000;
    if (cloud_interrupted())
        return fail(c->cli, EXIT_FAILED, "`evecc get` shows what became of it.",
                    "interrupted: %u / %u / %u A was sent, not yet confirmed", a.l[0],
                    a.l[1], a.l[2]);
    if (err != ERR_OK)
        return cloud_fail(c, err, "%u / %u / %u A was sent", a.l[0], a.l[1], a.l[2]);
    o->now = a;
    o->now_known = true;
    return EXIT_OK;
}

/* The pause before three phases ends with its time, or when the charger has stopped. */
static bool pause_over(struct cloud *c, struct site *s, const struct order *o)
{
    const struct telemetry *t = &s->charger.telemetry;
    uint64_t now_ms = sys_now_ms();
    bool idle = false;

    while (now_ms < o->choice.again_at_ms && !idle) {
        uint64_t left_ms = o->choice.again_at_ms - now_ms;

        progress_begin("pausing before three phases, at most %" PRIu64 " s",
                       left_ms / 1000 + 1);
        if (!cloud_wait(c, left_ms < RETRY_MS ? left_ms : RETRY_MS))
            return false;
        progress_end();
        idle = site_observe(c, s) == ERR_OK && t->op_mode != OP_MODE_CHARGING &&
               t->op_mode != NA_U16;
        now_ms = sys_now_ms();
    }
    return true;
}

static enum exit_code carry_out(struct cloud *c, struct site *s, struct order *o)
{
    enum exit_code status;
    bool idle = false;

    for (;;) {
        phase_choose(&o->phase, &o->memory, &o->wish, idle, sys_now_ms(), &o->choice);
        status = apply(c, s, o);
        if (status != EXIT_OK || o->choice.again_at_ms == NEVER)
            return status;
        /* The memory says since when it pauses: choose again for the end of that. */
        phase_choose(&o->phase, &o->memory, &o->wish, idle, sys_now_ms(), &o->choice);
        if (o->choice.again_at_ms != NEVER && !pause_over(c, s, o))
            return fail(c->cli, EXIT_FAILED, "Run it again to go on.",
                        "interrupted in the pause before three phases: the circuit is "
                        "at 0 A");
        idle = true;
    }
}

static cJSON *amps_json(struct amps a)
{
    const uint16_t da[PHASES] = {(uint16_t)(a.l[0] * 10), (uint16_t)(a.l[1] * 10),
                                 (uint16_t)(a.l[2] * 10)};

    return site_amps_json(da);
}

static enum exit_code print_set(const struct cli *cli, const struct site *s,
                                const struct order *o)
{
    const struct amps a = o->choice.target;
    const char *why = word_text(regmap_row(REG_BINDING), o->choice.binding);
    static const char *const modes[] = {
        [PHASE_MODE_AUTO] = "auto", [PHASE_MODE_SINGLE] = "1", [PHASE_MODE_THREE] = "3"};
    unsigned total = (unsigned)(a.l[0] + a.l[1] + a.l[2]) * s->cfg.voltage;
    cJSON *root;

    if (cli->json) {
        root = cJSON_CreateObject();
        site_head_json(s, root);
        if (o->wish.power_w == NA_U32)
            cJSON_AddNullToObject(root, "asked_w");
        else
            cJSON_AddNumberToObject(root, "asked_w", o->wish.power_w);
        cJSON_AddStringToObject(root, "phases", modes[o->wish.mode]);
        cJSON_AddItemToObject(root, "confirmed_a", amps_json(a));
        cJSON_AddNumberToObject(root, "confirmed_w", total);
        cJSON_AddBoolToObject(root, "sent", o->sent);
        cJSON_AddStringToObject(root, "limited_by", why);
        if (o->sent)
            cJSON_AddNumberToObject(root, "after_s", o->confirmed_s);
        return print_json(root);
    }
    site_print_head(s);
    if (o->wish.power_w == NA_U32)
        printf("%-12s the maximum, phases %s\n", "asked", modes[o->wish.mode]);
    else
        printf("%-12s %" PRIu32 " W, phases %s\n", "asked", o->wish.power_w,
               modes[o->wish.mode]);
    printf("%-12s ", "sent");
    if (o->sent)
        printf("%u / %u / %u A, %u W, limited by: %s\n", a.l[0], a.l[1], a.l[2], total,
               why);
    else
        printf("nothing: %u / %u / %u A, %u W is what is set already\n", a.l[0], a.l[1],
               a.l[2], total);
    if (o->sent)
        printf("%-12s %s%u / %u / %u A%s after %.1f s\n", "confirmed", paint(STYLE_GOOD),
               a.l[0], a.l[1], a.l[2], paint(STYLE_PLAIN), o->confirmed_s);
    return EXIT_OK;
}

static void warn_of_gateway(const struct cloud *c)
{
    int pid;

    if (cloud_gateway_runs(c, &pid))
        warn("a gateway (pid %d) controls circuits from %s and will restore its own "
             "setpoint if this is one of them; `evecc write power_limit` goes through it",
             pid, c->cfg.gateway.state_dir);
}

enum exit_code run_set(struct cli *cli)
{
    struct order o;
    struct cloud c;
    struct site s;
    enum exit_code status = parse_order(cli, &o);
    enum err err;

    if (status != EXIT_OK)
        return status;
    status = site_start(cli, &c, &s);
    if (status == EXIT_OK) {
        warn_of_gateway(&c);
        err = site_observe(&c, &s);
        if (err != ERR_OK)
            warn(
                "grid type and state of the charger are not known, so one phase alone is "
                "not used: %s",
                err_text(err));
        status = prepare(cli, &s, &o);
    }
    if (status == EXIT_OK)
        status = carry_out(&c, &s, &o);
    if (status == EXIT_OK)
        status = print_set(cli, &s, &o);
    cloud_close(&c);
    return status;
}
