/* SPDX-License-Identifier: MIT
 * evecc doctor: from the configuration to the charger, one line for each thing that must
 * be right, in the order in which the gateway needs them. */
#include "link.h"
#include "setup.h"
#include "site.h"

#include "evecc/sys.h"
#include "evecc/words.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TEXT_MAX = 512,
    TOPIC_WIDTH = 14,
    INDENT = 8 + 1 + TOPIC_WIDTH + 1,
    CLOCK_OFF_MS = 5000,
    CLOCK_WRONG_MS = 60000
};

enum level { LEVEL_OK, LEVEL_WARNING, LEVEL_ERROR, LEVELS };

struct doctor {
    const struct cli *cli;
    cJSON *list;
    unsigned count[LEVELS];
    enum exit_code status; /* of the first error */
};

/* ---- lines ---- */

static void print_line(enum level level, const char *topic, const char *text,
                       const char *remedy)
{
    static const char *const names[] = {"ok", "warning", "error"};
    static const enum style styles[] = {STYLE_GOOD, STYLE_WARNING, STYLE_BAD};

    progress_end();
    printf("%s%-8s%s %-*s ", paint(styles[level]), names[level], paint(STYLE_PLAIN),
           TOPIC_WIDTH, topic);
    print_wrapped(stdout, text, INDENT, INDENT);
    if (remedy != NULL && *remedy != '\0') {
        printf("%*s", INDENT, "");
        print_wrapped(stdout, remedy, INDENT, INDENT);
    }
    fflush(stdout);
}

static void tell(struct doctor *d, enum level level, const char *topic, const char *text,
                 const char *remedy)
{
    static const char *const names[] = {"ok", "warning", "error"};
    cJSON *o;

    d->count[level]++;
    if (d->list == NULL) {
        print_line(level, topic, text, remedy);
        return;
    }
    o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "level", names[level]);
    cJSON_AddStringToObject(o, "topic", topic);
    cJSON_AddStringToObject(o, "text", text);
    if (remedy != NULL && *remedy != '\0')
        cJSON_AddStringToObject(o, "remedy", remedy);
    cJSON_AddItemToArray(d->list, o);
}

#define TELL(name, level)                                                              \
    __attribute__((format(printf, 4, 5))) static void name(                            \
        struct doctor *d, const char *topic, const char *remedy, const char *fmt, ...) \
    {                                                                                  \
        char text[TEXT_MAX];                                                           \
        va_list args;                                                                  \
                                                                                       \
        va_start(args, fmt);                                                           \
        vsnprintf(text, sizeof text, fmt, args);                                       \
        va_end(args);                                                                  \
        tell(d, level, topic, text, remedy);                                           \
    }
TELL(good, LEVEL_OK)
TELL(dubious, LEVEL_WARNING)
TELL(bad, LEVEL_ERROR)

static void because(struct doctor *d, enum exit_code status)
{
    if (d->status == EXIT_OK)
        d->status = status;
}

static void bad_err(struct doctor *d, const char *topic, enum err err, const char *detail)
{
    bool more = detail != NULL && *detail != '\0';

    bad(d, topic, err_remedy(err), "%s%s%s%s", err_text(err), more ? " (" : "",
        more ? detail : "", more ? ")" : "");
    because(d, status_of(err));
}

/* ---- this machine ---- */

static void report(void *arg, const char *message)
{
    struct doctor *d = arg;

    bad(d, "configuration", NULL, "%s", message);
    because(d, EXIT_CONFIG);
}

/* False: there is one, and it is no good. */
static bool check_config(struct doctor *d)
{
    const char *path = d->cli->flag[FLAG_config];
    struct config cfg;

    if (path == NULL && access(DEFAULT_CONFIG, F_OK) != 0) {
        good(d, "configuration", NULL,
             "none at " DEFAULT_CONFIG ", the command line counts");
        return true;
    }
    if (path == NULL && access(DEFAULT_CONFIG, R_OK) != 0) {
        dubious(d, "configuration", "Run it with sudo, or as the gateway's user.",
                DEFAULT_CONFIG ": %s; the command line counts", strerror(errno));
        return true;
    }
    if (path == NULL)
        path = DEFAULT_CONFIG;
    if (config_load_public(&cfg, path, report, d) != ERR_OK)
        return false;
    good(d, "configuration", NULL, "%s: %zu listener%s, %zu circuit%s", path,
         cfg.listeners, cfg.listeners == 1 ? "" : "s", cfg.circuits,
         cfg.circuits == 1 ? "" : "s");
    config_release(&cfg);
    return true;
}

static bool check_password(struct doctor *d, struct cloud *c)
{
    const char *file = c->cfg.easee.password_file;
    char why[256];
    enum password password = cloud_password(c, why);

    if (password == PASSWORD_NONE && cloud_ask_password(c))
        password = PASSWORD_KNOWN;
    if (password == PASSWORD_KNOWN) {
        good(d, "password", NULL, "known for %s", c->cfg.easee.username);
        return true;
    }
    bad(d, "password",
        "Its owner is root, or the user the gateway runs as, and nobody else may read it "
        "(chmod 600). For this check alone: sudo, --password-file or EVECC_PASSWORD.",
        "%s%s%s", file, *file != '\0' ? ": " : "", why);
    because(d, EXIT_CONFIG);
    return false;
}

static void check_state(struct doctor *d, const struct cloud *c)
{
    const char *dir = c->cfg.gateway.state_dir;
    int pid;

    if (cloud_gateway_runs(c, &pid))
        good(d, "state", NULL, "%s, in use by the gateway, pid %d", dir, pid);
    else if (c->shared_account)
        good(d, "state", NULL, "%s", dir);
    else if (*c->account_why == '\0')
        good(d, "state", NULL, "%s is not there yet, no gateway has run here", dir);
    else
        dubious(
            d, "state",
            "Run it with sudo or as the gateway's user; the gateway itself must be able "
            "to write there.",
            "%s", c->account_why);
}

/* ---- the way to the cloud ---- */

/* Host of URL, without brackets. */
static void host_of(const char *url, char *ret, size_t size)
{
    const char *p = strstr(url, "://");
    bool bracket;

    p = p != NULL ? p + 3 : url;
    bracket = *p == '[';
    p += bracket;
    snprintf(ret, size, "%.*s", (int)strcspn(p, bracket ? "]" : ":/"), p);
}

static bool check_name(struct doctor *d, const struct cloud *c)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    char host[CONFIG_TEXT_MAX], address[64] = "";
    int error;

    host_of(c->cfg.easee.api_url, host, sizeof host);
    progress_begin("resolving %s", host);
    error = getaddrinfo(host, NULL, &hints, &found);
    progress_end();
    if (error != 0) {
        bad(d, "name",
            "Check DNS (/etc/resolv.conf, getent hosts) and the api_url option.",
            "%s: %s", host, gai_strerror(error));
        because(d, EXIT_CLOUD);
        return false;
    }
    getnameinfo(found->ai_addr, found->ai_addrlen, address, sizeof address, NULL, 0,
                NI_NUMERICHOST);
    freeaddrinfo(found);
    good(d, "name", NULL, "%s is %s", host, address);
    return true;
}

static void check_clock(struct doctor *d, const struct cloud *c)
{
    int64_t off_ms = sys_unix_ms() - c->reply.date_unix_ms;
    int64_t size_ms = off_ms < 0 ? -off_ms : off_ms;
    const char *side = off_ms < 0 ? "behind" : "ahead of";

    if (c->reply.date_unix_ms == 0) {
        dubious(d, "clock", NULL, "the cloud told no date to compare with");
        return;
    }
    /* The header has whole seconds. */
    if (size_ms < CLOCK_OFF_MS) {
        good(d, "clock", NULL, "agrees with the cloud's");
        return;
    }
    if (size_ms < CLOCK_WRONG_MS) {
        dubious(d, "clock", "Let NTP set it (timedatectl).",
                "%" PRId64 " s %s the cloud's", size_ms / 1000, side);
        return;
    }
    bad(d, "clock", "Let NTP set it (timedatectl): certificates are judged by it.",
        "%" PRId64 " s %s the cloud's", size_ms / 1000, side);
    because(d, EXIT_CONFIG);
}

static bool check_reach(struct doctor *d, struct cloud *c)
{
    bool plain = strncmp(c->cfg.easee.api_url, "http://", 7) == 0;
    enum err err = cloud_greet(c);

    if (err != ERR_OK) {
        bad_err(d, plain ? "connection" : "TLS", err, c->detail);
        /* With a clock far off no certificate is valid. */
        if (err == ERR_TLS_EXPIRED && c->reply.date_unix_ms != 0)
            check_clock(d, c);
        return false;
    }
    if (plain)
        dubious(d, "connection", "Good for tests only.", "%s is reached without TLS",
                c->cfg.easee.api_url);
    else
        good(d, "TLS", NULL, "certificate of %s is good", c->cfg.easee.api_url);
    check_clock(d, c);
    return true;
}

static bool check_login(struct doctor *d, struct cloud *c)
{
    enum err err = cloud_login(c);

    if (err == ERR_OK) {
        good(d, "login", NULL, "%s%s%s", c->cfg.easee.username,
             c->token_of != NULL ? ", by the token of " : "",
             c->token_of != NULL ? c->token_of : "");
        return true;
    }
    bad_err(d, "login", err, c->detail);
    return false;
}

/* ---- a circuit ---- */

static unsigned highest(const uint16_t da[PHASES], bool *ret_known)
{
    unsigned a = 0;

    *ret_known = true;
    for (unsigned i = 0; i < PHASES; i++) {
        *ret_known = *ret_known && da[i] != NA_U16;
        if (da[i] != NA_U16 && da[i] / 10u > a)
            a = da[i] / 10u;
    }
    return a;
}

static void check_fuse(struct doctor *d, const char *name, const struct site *s,
                       unsigned *ret_fuse)
{
    unsigned rated = s->where.rated_da == NA_U16 ? 0 : s->where.rated_da / 10u;

    *ret_fuse = s->configured ? s->cfg.max_current : rated;
    if (s->configured && rated > 0 && s->cfg.max_current > rated) {
        bad(d, name, "One of the two is wrong: look at the fuse.",
            "max_current %" PRIu32 " A is above the fuse of %u A in the Easee portal",
            s->cfg.max_current, rated);
        because(d, EXIT_CONFIG);
    } else if (*ret_fuse == 0) {
        dubious(d, name, "Have the installer enter it in the Easee portal.",
                "the cloud does not know the fuse");
    } else {
        good(d, name, NULL, "fuse %u A", *ret_fuse);
    }
}

/* What holds when the cloud, or this gateway, is away. */
static void check_offline(struct doctor *d, const char *name, const struct site *s,
                          unsigned fuse)
{
    bool known, max_known;
    unsigned offline = highest(s->settings.current_da[EASEE_OFFLINE], &known),
             max = highest(s->settings.current_da[EASEE_MAX], &max_known);

    if (!known) {
        dubious(d, name, "`evecc limits --offline-circuit 6 --flash` sets it, once.",
                "the current while the charger is offline is not known");
    } else if (fuse > 0 && offline > fuse) {
        bad(d, name, "`evecc limits --offline-circuit 6 --flash` sets it, once.",
            "offline the charger may draw %u A, above the fuse of %u A", offline, fuse);
        because(d, EXIT_CONFIG);
    } else if (max_known && offline >= max) {
        dubious(d, name, "`evecc limits --offline-circuit 6 --flash` sets it, once.",
                "no offline fallback: without the cloud the charger draws up to %u A",
                offline);
    } else {
        good(d, name, NULL, "offline fallback %u A", offline);
    }
    if (max_known && fuse > 0 && max > fuse)
        dubious(d, name, "`evecc limits --max-circuit A --flash` sets it, once.",
                "the circuit's own maximum of %u A is above the fuse of %u A", max, fuse);
}

static void check_phases(struct doctor *d, const char *name, const struct site *s)
{
    if (s->cfg.phases != PHASES)
        good(d, name, NULL, "one phase wired");
    else if (!s->where.alone)
        dubious(d, name, "Phases cannot be switched there; three are used.",
                "the charger is not alone on its circuit");
    else if (s->charger.grid_type == NA_U16 || s->charger.grid_type == 0)
        dubious(d, name,
                "It is told after a start of the charger; until then three phases "
                "are used.",
                "the charger has not detected its grid");
    else if (!telemetry_grid_is_tn(s->charger.grid_type))
        dubious(d, name, "Phases cannot be switched there; three are used.",
                "not a TN grid (type %u)", s->charger.grid_type);
    else if (s->phase_mode == 1 || s->phase_mode == 3)
        dubious(d, name, "Set the phase mode to automatic in the Easee app.",
                "the charger is locked to %u phase%s", s->phase_mode,
                s->phase_mode == 1 ? "" : "s");
    else
        good(d, name, NULL, "alone on a TN grid: one phase and three are possible");
}

static void check_charger(struct doctor *d, const char *name, const struct site *s)
{
    const struct telemetry *t = &s->charger.telemetry;
    const char *mode = word_text(regmap_row(REG_OPERATION_MODE), t->op_mode);

    if (t->online == 0 || t->op_mode == OP_MODE_OFFLINE) {
        bad(d, name, "Check its supply, its WiFi or mobile signal, and the Easee app.",
            "charger %s is offline", s->where.serial[0]);
        because(d, EXIT_REFUSED);
    } else if (t->op_mode == OP_MODE_ERROR) {
        bad(d, name, "Look into the Easee app; unplug the car; restart the charger.",
            "charger %s reports an error (%u)", s->where.serial[0],
            s->charger.error_code);
        because(d, EXIT_REFUSED);
    } else {
        good(d, name, NULL, "charger %s: %s", s->where.serial[0],
             mode != NULL ? mode : "state unknown");
    }
}

static void check_others(struct doctor *d, const char *name, const struct site *s)
{
    if (s->settings.equalizer || s->where.equalizer || s->charger.equalizer == 1)
        dubious(d, name, "The lower of the two limits counts; do not let both control.",
                "an Equalizer is another controller here");
    else
        good(d, name, NULL, "no Equalizer");
}

/* S has its selector, or is found already. */
static void check_circuit(struct doctor *d, struct cloud *c, struct site *s, bool found)
{
    char name[64];
    unsigned fuse;
    enum err err = found ? ERR_OK : site_resolve(c, s);

    if (*s->cfg.name != '\0')
        snprintf(name, sizeof name, "%s", s->cfg.name);
    else
        snprintf(name, sizeof name, "circuit");
    if (err != ERR_OK) {
        bad_err(d, name, err, c->detail);
        return;
    }
    good(d, name, NULL, "found: site %s, circuit %" PRId64 ", %u charger%s",
         s->where.site_key, s->where.panel_id, s->where.chargers,
         s->where.chargers == 1 ? "" : "s");
    check_fuse(d, name, s, &fuse);
    err = site_read(c, s);
    if (err != ERR_OK)
        bad_err(d, name, err, c->detail);
    else
        check_offline(d, name, s, fuse);
    if (s->where.chargers == 0) {
        bad(d, name, "Add it in the Easee app.", "no charger on this circuit");
        because(d, EXIT_NOT_FOUND);
        return;
    }
    err = site_observe(c, s);
    if (err != ERR_OK) {
        bad_err(d, name, err, c->detail);
        return;
    }
    check_charger(d, name, s);
    check_phases(d, name, s);
    check_others(d, name, s);
}

static void check_circuits(struct doctor *d, struct cloud *c)
{
    static struct easee_circuit all[16];
    static struct site s;
    size_t count;
    bool given;
    enum err err;

    site_init(&s);
    if (site_from_flags(d->cli, &s, &given) != EXIT_OK) {
        because(d, EXIT_USAGE);
        return;
    }
    if (given) {
        check_circuit(d, c, &s, false);
        return;
    }
    for (size_t i = 0; i < c->cfg.circuits && !cloud_interrupted(); i++) {
        site_init(&s);
        s.cfg = c->cfg.circuit[i];
        s.configured = true;
        check_circuit(d, c, &s, false);
    }
    if (c->cfg.circuits > 0)
        return;
    err = site_list(c, all, 16, &count);
    if (err != ERR_OK)
        bad_err(d, "circuits", err, c->detail);
    else if (count == 0) {
        bad(d, "circuits", "Add the charger to the account in the Easee app.",
            "the account has none");
        because(d, EXIT_NOT_FOUND);
    }
    for (size_t i = 0; err == ERR_OK && i < count && !cloud_interrupted(); i++) {
        site_init(&s);
        s.where = all[i];
        check_circuit(d, c, &s, true);
    }
}

/* ---- the gateway ---- */

static void check_free(struct doctor *d, const struct config_listener *l)
{
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6,
                              .sin6_port = htons((uint16_t)l->port)};
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)l->port)};
    bool six = inet_pton(AF_INET6, l->address, &a6.sin6_addr) == 1;
    int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    bool bound;

    inet_pton(AF_INET, l->address, &a4.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    bound = six ? bind(fd, (struct sockaddr *)&a6, sizeof a6) == 0
                : bind(fd, (struct sockaddr *)&a4, sizeof a4) == 0;
    if (bound) {
        dubious(d, "gateway", "Start it: systemctl start eveccd.",
                "not running; %s port %" PRIu32 " is free", l->address, l->port);
    } else if (errno == EACCES) {
        dubious(d, "gateway",
                "Start it as a service: systemctl start eveccd; a user may not use ports "
                "below 1024.",
                "not running on %s port %" PRIu32, l->address, l->port);
    } else {
        bad(d, "gateway",
            "Check the listener's address and port; `ss -ltnp` shows who has it.",
            "%s port %" PRIu32 ": %s", l->address, l->port, strerror(errno));
        because(d, EXIT_GATEWAY);
    }
    close(fd);
}

static void check_registers(struct doctor *d, struct link *l, const char *where)
{
    const uint32_t faults_row = REG_FAULTS;
    uint16_t image[REGMAP_COUNT];
    uint32_t faults, foreign;

    if (link_read(d->cli, l, image) != EXIT_OK) {
        because(d, EXIT_GATEWAY);
        return;
    }
    faults = (uint32_t)image[faults_row - REGMAP_FIRST] << 16 |
             image[faults_row + 1 - REGMAP_FIRST];
    foreign = (uint32_t)image[REG_FOREIGN_COMMANDS - REGMAP_FIRST] << 16 |
              image[REG_FOREIGN_COMMANDS + 1 - REGMAP_FIRST];
    good(d, "gateway", NULL, "answers on %s", where);
    for (unsigned bit = 0; bit < 32; bit++)
        if (faults != NA_U32 && (faults >> bit & 1) != 0)
            dubious(d, "gateway", "`evecc status` tells more.", "fault on %s: %s", where,
                    word_text(regmap_row(REG_FAULTS), bit));
    if (foreign != NA_U32 && foreign > 0)
        dubious(d, "gateway",
                "Find the other controller: app, schedule, Tibber, Home Assistant...",
                "%" PRIu32 " command%s of somebody else seen", foreign,
                foreign == 1 ? "" : "s");
}

static void check_listener(struct doctor *d, const struct cloud *c,
                           const struct config_listener *l)
{
    struct link link = {.unit = c->cfg.circuits > 0 ? (int)c->cfg.circuit[0].unit : 1};
    char where[sizeof link.host + 32];
    enum link_state state;
    int name;

    snprintf(link.host, sizeof link.host, "%s", link_reachable(l->address));
    snprintf(link.port, sizeof link.port, "%" PRIu32, l->port);
    snprintf(where, sizeof where, "%s port %s", link.host, link.port);
    progress_begin("connecting to %s", where);
    state = link_try(&link, &name);
    progress_end();
    if (state == LINK_OPEN) {
        check_registers(d, &link, where);
        link_close(&link);
    } else if (state == LINK_FAILED && errno == ECONNREFUSED) {
        check_free(d, l);
    } else if (state == LINK_FAILED) {
        bad(d, "gateway",
            "Is this machine in the listener's option allow? Does another program have "
            "the port (ss -ltnp)?",
            "%s: %s", where, strerror(errno));
        because(d, EXIT_GATEWAY);
    } else {
        bad(d, "gateway", "`ss -ltnp` shows who has the port.",
            "%s is another program, or another version of the gateway", where);
        because(d, EXIT_GATEWAY);
    }
}

/* ---- all of it ---- */

static void check_cloud(struct doctor *d, struct cloud *c)
{
    bool password = check_password(d, c);

    check_state(d, c);
    if (check_name(d, c) && check_reach(d, c) && password && check_login(d, c))
        check_circuits(d, c);
}

static enum exit_code finish(struct doctor *d)
{
    cJSON *root;

    if (cloud_interrupted())
        return fail(d->cli, EXIT_FAILED, NULL, "interrupted");
    if (d->list == NULL) {
        printf("\n%u error%s, %u warning%s\n", d->count[LEVEL_ERROR],
               d->count[LEVEL_ERROR] == 1 ? "" : "s", d->count[LEVEL_WARNING],
               d->count[LEVEL_WARNING] == 1 ? "" : "s");
        return d->status;
    }
    root = cJSON_CreateObject();
    cJSON_AddItemToObject(root, "checks", d->list);
    cJSON_AddNumberToObject(root, "errors", d->count[LEVEL_ERROR]);
    cJSON_AddNumberToObject(root, "warnings", d->count[LEVEL_WARNING]);
    print_json(root);
    return d->status;
}

enum exit_code run_doctor(struct cli *cli)
{
    struct doctor d = {.cli = cli, .list = cli->json ? cJSON_CreateArray() : NULL};
    static struct cloud c;
    enum exit_code status;

    if (!check_config(&d))
        return finish(&d);
    status = cloud_open(cli, &c);
    if (status == EXIT_OK) {
        check_cloud(&d, &c);
        for (size_t i = 0; i < c.cfg.listeners && !cloud_interrupted(); i++)
            if (c.cfg.listener[i].profile == 0)
                check_listener(&d, &c, &c.cfg.listener[i]);
        status = finish(&d);
    }
    cloud_close(&c);
    return status;
}
