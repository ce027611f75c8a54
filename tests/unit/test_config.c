/* SPDX-License-Identifier: MIT */
#include "evecc/config.h"
#include "evecc/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a folder with a configuration and a credential ---- */

static char folder[] = "/tmp/evecc-test-config-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[4][128];
    static unsigned next;
    char *p = path[next++ % 4];

    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static const char *put_bytes(const char *name, const void *bytes, size_t size,
                             mode_t mode)
{
    const char *path = in_folder(name);
    unlink(path); /* it may be read-only */
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    return path;
}

static const char *put(const char *name, const char *text, mode_t mode)
{
    return put_bytes(name, text, strlen(text), mode);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    put("easee-password", "se;cr#et\n", 0400);
    put("password", "other\n", 0600);
    put("ca.pem", "", 0644);
    return setenv("CREDENTIALS_DIRECTORY", folder, 1);
}

static int remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

/* ---- loading, with the errors kept ---- */

enum { ERRORS_KEPT = 64 };

struct errors {
    size_t prefix; /* of each message: the path */
    unsigned count;
    char text[ERRORS_KEPT][1024];
};

static void keep(void *arg, const char *message)
{
    struct errors *e = arg;

    assert_null(strchr(message, '\n'));
    if (e->count < ERRORS_KEPT)
        snprintf(e->text[e->count], sizeof e->text[0], "%s", message + e->prefix);
    e->count++;
}

static int lowest_free_descriptor(void)
{
    int fd = dup(0);

    close(fd);
    return fd;
}

static enum err load(struct config *ret, const char *path, struct errors *e)
{
    int before = lowest_free_descriptor();
    enum err err;

    e->prefix = strlen(path);
    e->count = 0;
    err = config_load(ret, path, keep, e);
    assert_int_equal(lowest_free_descriptor(), before);
    return err;
}

static void print_errors(const char *what, const struct errors *e)
{
    print_message("%s: %u errors\n", what, e->count);
    for (unsigned i = 0; i < e->count && i < ERRORS_KEPT; i++)
        print_message("    %s\n", e->text[i]);
}

static void load_good(struct config *ret, const char *what, const char *text)
{
    struct errors e;
    enum err err = load(ret, put("evecc.conf", text, 0600), &e);

    if (err || e.count)
        print_errors(what, &e);
    assert_int_equal(err, ERR_OK);
    assert_int_equal(e.count, 0);
}

/* Exactly the errors in EXPECTED (separated by newlines, without the path), in that
 * order. */
static void expect_errors(const char *what, const char *path, const char *expected)
{
    struct config cfg, empty = {0};
    struct errors e;
    enum err err = load(&cfg, path, &e);
    char all[4096] = "";

    for (unsigned i = 0; i < e.count && i < ERRORS_KEPT; i++) {
        size_t len = strlen(all);

        snprintf(all + len, sizeof all - len, "%s%s", i ? "\n" : "", e.text[i]);
    }
    if (strcmp(all, expected) != 0)
        print_message("%s\n", what);
    assert_string_equal(all, expected);
    assert_int_equal(err, ERR_CONFIG);
    assert_memory_equal(&cfg, &empty, sizeof cfg);
}

static void expect_refused(const char *what, const char *text, const char *expected)
{
    expect_errors(what, put("evecc.conf", text, 0600), expected);
}

/* ---- a valid file, one line of which is replaced ---- */

static const char *const base[][2] = {
    {"gateway",         ""                            },
    {"easee",           "username = owner@example.org"},
    {"listener native", ""                            },
    {"circuit garage",  "unit = 1"                    },
    {"circuit garage",  "site = ABCD-1234"            },
    {"circuit garage",  "circuit = 1"                 },
    {"circuit garage",  "max_current = 16"            }
};

static const char base_text[] =
    "[easee]\nusername = owner@example.org\n[listener native]\n"
    "[circuit garage]\nunit = 1\nsite = ABCD-1234\ncircuit = 1\n"
    "max_current = 16\n";

/* The base with LINE in SECTION, in place of the line with the same key if there is one.
 */
static const char *with(const char *section, const char *line)
{
    static char text[8192];
    size_t key = strcspn(line, " =");
    const char *last = "";
    size_t len = 0;

    for (size_t i = 0; i < sizeof base / sizeof base[0]; i++) {
        const char *own = base[i][1];

        if (strcmp(last, base[i][0]) != 0) {
            len += (size_t)sprintf(text + len, "[%s]\n", base[i][0]);
            if (!strcmp(base[i][0], section))
                len += (size_t)sprintf(text + len, "%s\n", line);
        }
        last = base[i][0];
        if (!strcmp(section, last) && strcspn(own, " =") == key &&
            !strncmp(own, line, key))
            continue;
        len += (size_t)sprintf(text + len, "%s\n", own);
    }
    return text;
}

/* ---- defaults ---- */

static void same_text(const char *key, const char *value, const char *expected)
{
    print_message("  %s\n", key);
    assert_string_equal(value, expected);
}

static void same_uint(const char *key, uint32_t value, const char *expected)
{
    char text[16];

    snprintf(text, sizeof text, "%u", value);
    same_text(key, text, expected);
}

static void same_word(const char *key, unsigned value, const char *expected,
                      const char *const *words)
{
    same_text(key, words[value], expected);
}

static void defaults_are_those_of_the_table(void **state)
{
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    static const char *const actions[] = {"hold", "pause", "limit"};
    static const char *const profiles[] = {"native"};
    static const char *const owners[] = {"none", "first", "last"};
    static const char *const bools[] = {"no", "yes"};
    struct config cfg;

    (void)state;
    load_good(&cfg, "base", base_text);
    assert_int_equal(cfg.listeners, 1);
    assert_int_equal(cfg.circuits, 1);
    assert_string_equal(cfg.listener[0].name, "native");
    assert_string_equal(cfg.circuit[0].name, "garage");
    assert_string_equal(cfg.easee.password, "se;cr#et");

#define REQUIRED                    NULL
#define SAME_TEXT(key, value, d)    same_text(key, value, d)
#define SAME_PATH                   SAME_TEXT
#define SAME_URL                    SAME_TEXT
#define SAME_ADDRESS                SAME_TEXT
#define SAME_SITE                   SAME_TEXT
#define SAME_CIRCUIT                SAME_TEXT
#define SAME_SERIAL                 SAME_TEXT
#define SAME_NETS(key, value, d)    same_uint(key, value.count, *d ? d : "0")
#define SAME_UINT(key, value, d)    same_uint(key, value, d)
#define SAME_BOOL(key, value, d)    same_word(key, value, d, bools)
#define SAME_LEVEL(key, value, d)   same_word(key, value, d, levels)
#define SAME_ACTION(key, value, d)  same_word(key, value, d, actions)
#define SAME_PROFILE(key, value, d) same_word(key, value, d, profiles)
#define SAME_OWNER(key, value, d)   same_word(key, value, d, owners)
#define SAME(section, key, type, d)                     \
    do {                                                \
        const char *text = d;                           \
        if (text && !strstr(base_text, "\n" #key " =")) \
            SAME_##type(#key, section.key, text);       \
    } while (0);
#define GATEWAY_OPT(key, type, d, ...)  SAME(cfg.gateway, key, type, d)
#define EASEE_OPT(key, type, d, ...)    SAME(cfg.easee, key, type, d)
#define LISTENER_OPT(key, type, d, ...) SAME(cfg.listener[0], key, type, d)
#define CIRCUIT_OPT(key, type, d, ...)  SAME(cfg.circuit[0], key, type, d)
#include "evecc/options.def"
    config_release(&cfg);
}

static void table_has_every_option_once(void **state)
{
    size_t count;
    const struct config_option *o = config_options(&count);

    (void)state;
    assert_int_equal(count, 41);
    for (size_t i = 0; i < count; i++) {
        assert_true(*o[i].text && o[i].low <= o[i].high);
        for (size_t j = 0; j < i; j++)
            assert_true(strcmp(o[i].section, o[j].section) || strcmp(o[i].key, o[j].key));
    }
}

/* ---- a file with everything ---- */

static void every_option_is_read(void **state)
{
    char text[4096];
    struct config cfg;

    (void)state;
    snprintf(
        text, sizeof text,
        "; a comment, with a backslash \\\r\n"
        "[gateway]\r\n\tstate_dir=/srv/state ; here\nlog_level = debug# no blank needed\n"
        "[circuit one_1]\nunit = 247\nsite = 54321\ncircuit = id:12345\n"
        "charger = EH123456\nmax_current = 80\nphases = 1\nvoltage = 240\n"
        "single_phase_max = 0\nmin_current = 8\nwatchdog = 0\nfallback_action = pause\n"
        "fallback_current = 10\nfallback_phases = 3\nphase_dwell = 0\nphase_pause = 0\n"
        "phase_switches_per_day = 48\nincrease_interval = 1\ndecrease_interval = 3600\n"
        "deadman = 1080\nstart_boost = yes\nowner = first\nowner_timeout = 86400\n"
        "[easee]\nusername = '+47;90#00 \"0000' # quoted\npassword_file = %s/password\n"
        "api_url = http://127.0.0.1:8787//\nstream_url = http://[::1]:1/hubs/chargers/\n"
        "ca_file = %s/ca.pem\n"
        "[listener A]\naddress = 127.0.0.2\nport = 1502\nprofile = native\n"
        "allow = 10.0.0.0/8, fd00::/8\nwrite = 10.1.2.3\npriority = 10.1.2.3, "
        "10.2.0.0/16\n"
        "max_clients = 4096\nmax_clients_per_address = 1\nidle_timeout = 0\n"
        "frame_timeout = 100\nqueue = 64\nstall_timeout = 600\n"
        "[circuit two-2]\nunit = 1\ncharger = EH000002\nmax_current = 6\nwatchdog = 10\n"
        "[listener B]\nport = \"1503\"",
        folder, folder);
    /* A comment needs a blank before it; the one line above that has none is refused. */
    expect_refused(
        "no blank", text,
        ":4: [gateway] log_level: ; or # begins a comment: put a blank before it, or "
        "the value in quotes");
    memcpy(strstr(text, "# no"), " ", 1);
    memcpy(strstr(text, " no bl"), "#", 1);
    load_good(&cfg, "everything", text);

    assert_string_equal(cfg.gateway.state_dir, "/srv/state");
    assert_int_equal(cfg.gateway.log_level, LOG_LEVEL_DEBUG);
    assert_string_equal(cfg.easee.username, "+47;90#00 \"0000");
    assert_string_equal(cfg.easee.password, "other");
    assert_string_equal(cfg.easee.api_url, "http://127.0.0.1:8787");
    assert_string_equal(cfg.easee.stream_url, "http://[::1]:1/hubs/chargers");
    assert_string_equal(cfg.easee.ca_file, in_folder("ca.pem"));

    assert_int_equal(cfg.listeners, 2);
    assert_string_equal(cfg.listener[0].name, "A");
    assert_string_equal(cfg.listener[0].address, "127.0.0.2");
    assert_int_equal(cfg.listener[0].port, 1502);
    assert_int_equal(cfg.listener[0].allow.count, 2);
    assert_int_equal(cfg.listener[0].write.count, 1);
    assert_int_equal(cfg.listener[0].priority.count, 2);
    assert_int_equal(cfg.listener[0].max_clients, 4096);
    assert_int_equal(cfg.listener[0].max_clients_per_address, 1);
    assert_int_equal(cfg.listener[0].idle_timeout, 0);
    assert_int_equal(cfg.listener[0].frame_timeout, 100);
    assert_int_equal(cfg.listener[0].queue, 64);
    assert_int_equal(cfg.listener[0].stall_timeout, 600);
    assert_string_equal(cfg.listener[1].name, "B");
    assert_int_equal(cfg.listener[1].port, 1503);

    assert_int_equal(cfg.circuits, 2);
    const struct config_circuit *c = cfg.circuit;
    assert_string_equal(c->name, "one_1");
    assert_int_equal(c->unit, 247);
    assert_int_equal(c->max_current, 80);
    assert_int_equal(c->phases, 1);
    assert_int_equal(c->voltage, 240);
    assert_int_equal(c->single_phase_max, 0);
    assert_int_equal(c->min_current, 8);
    assert_int_equal(c->watchdog, 0);
    assert_int_equal(c->fallback_action, FALLBACK_PAUSE);
    assert_int_equal(c->fallback_current, 10);
    assert_int_equal(c->fallback_phases, 3);
    assert_int_equal(c->phase_dwell, 0);
    assert_int_equal(c->phase_pause, 0);
    assert_int_equal(c->phase_switches_per_day, 48);
    assert_int_equal(c->increase_interval, 1);
    assert_int_equal(c->decrease_interval, 3600);
    assert_int_equal(c->deadman, 1080);
    assert_true(c->start_boost);
    assert_int_equal(c->owner, 1);
    assert_int_equal(c->owner_timeout, 86400);
    assert_int_equal(c->selector.site_id, 54321);
    assert_int_equal(c->selector.circuit_id, 12345);
    assert_int_equal(c->selector.panel_id, -1);
    assert_string_equal(c->selector.site_key, "");
    assert_string_equal(c->selector.charger, "EH123456");

    c++;
    assert_string_equal(c->name, "two-2");
    assert_int_equal(c->selector.site_id, -1);
    assert_int_equal(c->selector.circuit_id, -1);
    assert_int_equal(c->selector.panel_id, -1);
    assert_string_equal(c->selector.charger, "EH000002");
    config_release(&cfg);
}

/* etc/evecc.conf is made by tools/docgen/options.c. */
static void the_example_is_valid(void **state)
{
    static const char placeholder[] = "/etc/evecc/password";
    static char text[64 * 1024], edited[sizeof text + 128];
    FILE *f = fopen("etc/evecc.conf", "r");
    size_t count;
    const struct config_option *o = config_options(&count);
    struct config cfg;
    char *at;

    (void)state;
    assert_non_null(f);
    assert_true(fread(text, 1, sizeof text - 1, f) > 0);
    fclose(f);
    at = strstr(text, placeholder);
    assert_non_null(at);
    *at = 0;
    snprintf(edited, sizeof edited, "%s%s%s", text, in_folder("password"),
             at + sizeof placeholder - 1);
    load_good(&cfg, "example", edited);
    assert_string_equal(cfg.circuit[0].selector.site_key, "ABCD-1234");
    for (size_t i = 0; i < count; i++) {
        char line[CONFIG_TEXT_MAX];

        snprintf(line, sizeof line, "\n%s =", o[i].key);
        if (!strstr(edited, line))
            print_message("%s\n", o[i].key);
        assert_non_null(strstr(edited, line));
    }
    config_release(&cfg);
}

static void selector_by_key_and_panel(void **state)
{
    struct config cfg;

    (void)state;
    load_good(&cfg, "base", base_text);
    assert_int_equal(cfg.circuit[0].selector.site_id, -1);
    assert_string_equal(cfg.circuit[0].selector.site_key, "ABCD-1234");
    assert_int_equal(cfg.circuit[0].selector.panel_id, 1);
    assert_int_equal(cfg.circuit[0].selector.circuit_id, -1);
    assert_string_equal(cfg.circuit[0].selector.charger, "");
    config_release(&cfg);
}

static void the_same_file_gives_the_same_bytes(void **state)
{
    const char *text = with("listener native", "allow = 10.0.0.0/8");
    struct config a, b;

    (void)state;
    load_good(&a, "once", text);
    load_good(&b, "again", text);
    assert_memory_equal(a.listener, b.listener, sizeof a.listener[0]);
    assert_memory_equal(a.circuit, b.circuit, sizeof a.circuit[0]);
    assert_memory_equal(&a.easee, &b.easee, sizeof a.easee);
    config_release(&a);
    config_release(&b);
}

/* ---- values that are refused ---- */

#define G "[circuit garage] "
#define L "[listener native] "
#define E "[easee] "

/* clang-format off */
static const struct {
    const char *section, *line, *expected;
} bad_values[] = {
    {"circuit garage", "max_current = 12abc",
     ": " G "max_current = 12abc: not a whole number; allowed: 6 to 80 A"},
    {"circuit garage", "max_current = abc",
     ": " G "max_current = abc: not a whole number; allowed: 6 to 80 A"},
    {"circuit garage", "max_current = 010",
     ": " G "max_current = 010: not a whole number: it begins with 0; allowed: 6 to 80 "
     "A"},
    {"circuit garage", "max_current = 1e3",
     ": " G "max_current = 1e3: not a whole number; allowed: 6 to 80 A"},
    {"circuit garage", "max_current = +16",
     ": " G "max_current = +16: not a whole number; allowed: 6 to 80 A"},
    {"circuit garage", "max_current = -1",
     ": " G "max_current = -1: not a whole number; allowed: 6 to 80 A"},
    {"circuit garage", "max_current = 1 6",
     ": " G "max_current = 1 6: not a whole number; allowed: 6 to 80 A"},
    {"circuit garage", "max_current = \" 16\"",
     ": " G "max_current =  16: not a whole number; allowed: 6 to 80 A"},
    {"circuit garage", "max_current = 16.0",
     ": " G "max_current = 16.0: not a whole number; allowed: 6 to 80 A"},
    {"circuit garage", "max_current = 0x10",
     ": " G "max_current = 0x10: not a whole number; allowed: 6 to 80 A"},
    {"circuit garage", "max_current = 16 A",
     ": " G "max_current = 16 A: not a whole number; allowed: 6 to 80 A"},
    {"circuit garage", "max_current =", ": " G "max_current = : empty; allowed: 6 to 80 "
     "A"},
    {"circuit garage", "max_current = ; 16",
     ": " G "max_current = : empty; allowed: 6 to 80 A"},
    {"circuit garage", "max_current = 5",
     ": " G "max_current = 5: out of range; allowed: 6 to 80 A"},
    {"circuit garage", "max_current = 81",
     ": " G "max_current = 81: out of range; allowed: 6 to 80 A"},
    {"circuit garage", "max_current = 4294967312",
     ": " G "max_current = 4294967312: out of range; allowed: 6 to 80 A"},
    {"circuit garage", "max_current = 18446744073709551632",
     ": " G "max_current = 18446744073709551632: out of range; allowed: 6 to 80 A"},
    {"circuit garage", "unit = 0", ": " G "unit = 0: out of range; allowed: 1 to 247"},
    {"circuit garage", "unit = 248", ": " G "unit = 248: out of range; allowed: 1 to "
     "247"},
    {"circuit garage", "deadman = 1081",
     ": " G "deadman = 1081: out of range; allowed: 0 to 1080 min"},
    {"circuit garage", "phases = 2", ": " G "phases = 2: not possible; allowed: 1 or 3"},
    {"circuit garage", "fallback_phases = 2",
     ": " G "fallback_phases = 2: not possible; allowed: 0, 1 or 3"},
    {"circuit garage", "watchdog = 9",
     ": " G "watchdog = 9: too short; allowed: 0, which is off, or 10 to 65534 s"},
    {"circuit garage", "watchdog = 65535",
     ": " G "watchdog = 65535: out of range; allowed: 0 to 65534 s"},
    {"circuit garage", "fallback_current = 17",
     ": " G "fallback_current = 17: out of range; allowed: 0, or 6 to 16 A, min_current "
     "to "
     "max_current"},
    {"circuit garage", "fallback_current = 5",
     ": " G "fallback_current = 5: out of range; allowed: 0, or 6 to 16 A, min_current "
     "to "
     "max_current"},
    {"circuit garage", "fallback_action = stop",
     ": " G "fallback_action = stop: unknown word; allowed: hold, pause or limit"},
    {"circuit garage", "start_boost = true",
     ": " G "start_boost = true: unknown word; allowed: no or yes"},
    {"circuit garage", "start_boost = tomorrow",
     ": " G "start_boost = tomorrow: unknown word; allowed: no or yes"},
    {"circuit garage", "site = AB_D",
     ": " G "site = AB_D: neither a site key nor a number; allowed: a site key such as "
     "ABCD-1234, or the site id"},
    {"circuit garage", "site = 054321",
     ": " G "site = 054321: not a whole number: it begins with 0; allowed: a site key "
     "such as "
     "ABCD-1234, or the site id"},
    {"circuit garage", "site = ABCD-1234-ABCD-1234-ABCD-1234-ABCD",
     ": " G "site = ABCD-1234-ABCD-1234-ABCD-1234-ABCD: too long; allowed: a site key "
     "such as "
     "ABCD-1234, or the site id"},
    {"circuit garage", "circuit = id:",
     ": " G "circuit = id:: not a whole number; allowed: the number in the panel, or "
     "the id as "
     "id:12345"},
    {"circuit garage", "circuit = id:0",
     ": " G "circuit = id:0: out of range; allowed: the number in the panel, or the id "
     "as "
     "id:12345"},
    {"circuit garage", "circuit = garage",
     ": " G "circuit = garage: not a whole number; allowed: the number in the panel, or "
     "the id "
     "as id:12345"},
    {"circuit garage", "charger = EH/1",
     ": " G "charger = EH/1: not a serial number; allowed: up to 16 letters and digits"},
    {"circuit garage", "charger = EH123456789012345",
     ": " G "charger = EH123456789012345: too long; allowed: up to 16 letters and "
     "digits"},
    {"circuit garage", "site =",
     ": " G "site, charger: neither is given; allowed: the site of the circuit, or a "
     "charger on "
     "it"},

    {"gateway", "log_level = Info",
     ": [gateway] log_level = Info: unknown word; allowed: error, warning, info or "
     "debug"},
    {"gateway", "state_dir =",
     ": [gateway] state_dir = : empty; allowed: a path of at most 255 characters"},

    {"listener native", "port = 0", ": " L "port = 0: out of range; allowed: 1 to 65535"},
    {"listener native", "port = 65536", ": " L "port = 65536: out of range; allowed: 1 "
     "to 65535"},
    {"listener native", "allow = ,",
     ": " L "allow = ,: no network in it; allowed: networks such as 10.0.0.0/8, fd00::/8"},
    {"listener native", "max_clients = 4097",
     ": " L "max_clients = 4097: out of range; allowed: 1 to 4096"},
    {"listener native", "queue = 0",
     ": " L "queue = 0: out of range; allowed: 1 to 64 KiB"},
    {"circuit garage", "owner = me",
     ": " G "owner = me: unknown word; allowed: none, first or last"},
    {"listener native", "profile = keba",
     ": " L "profile = keba: unknown word; allowed: native"},
    {"listener native", "address = localhost",
     ": " L "address = localhost: not an IP address; allowed: an IPv4 or IPv6 address"},
    {"listener native", "address = 127.1",
     ": " L "address = 127.1: not an IP address; allowed: an IPv4 or IPv6 address"},
    {"listener native", "address =",
     ": " L "address = : empty; allowed: an IPv4 or IPv6 address"},
    {"listener native", "address = [::]",
     ": " L "address = [::]: not an IP address; allowed: an IPv4 or IPv6 address"},

    {"easee", "username =", ": " E "username = : empty; allowed: 1 to 255 characters"},
    {"easee", "api_url =",
     ": " E "api_url = : empty; allowed: https://HOST[:PORT][/PATH], http:// to "
     "loopback only"},
    {"easee", "api_url = api.easee.com",
     ": " E "api_url = api.easee.com: neither https:// nor http://; allowed: "
     "https://HOST[:PORT][/PATH], http:// to loopback only"},
    {"easee", "ca_file = /nowhere/ca.pem",
     ": " E "ca_file = /nowhere/ca.pem: No such file or directory; allowed: a file that "
     "can be "
     "read"},
    {"easee", "ca_file = /tmp",
     ": " E "ca_file = /tmp: a directory; allowed: a file that can be read"},
    {"easee", "ca_file = /dev/null",
     ": " E "ca_file = /dev/null: not a regular file; allowed: a file that can be read"},
};
/* clang-format on */

static void bad_values_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_values / sizeof bad_values[0]; i++)
        expect_refused(bad_values[i].line,
                       with(bad_values[i].section, bad_values[i].line),
                       bad_values[i].expected);
}

static void nets_are_refused_with_the_reason_of_acl(void **state)
{
    struct config cfg;
    struct errors e;

    (void)state;
    assert_int_equal(
        load(&cfg,
             put("evecc.conf", with("listener native", "allow = 10.0.0.0/33"), 0600), &e),
        ERR_CONFIG);
    assert_int_equal(e.count, 1);
    assert_non_null(strstr(e.text[0], ": [listener native] allow = 10.0.0.0/33: "));
    assert_non_null(
        strstr(e.text[0], "; allowed: networks such as 10.0.0.0/8, fd00::/8"));
}

/* ---- URLs ---- */

static void urls(void **state)
{
    static const struct {
        const char *url, *why; /* NULL: fine */
    } rows[] = {
        {"https://api.easee.com",            NULL                   },
        {"https://api.easee.com/v1/x_y~z.-", NULL                   },
        {"https://api.easee.com:8443/",      NULL                   },
        {"https://[2001:db8::1]:443",        NULL                   },
        {"https://192.0.2.7",                NULL                   },
        {"http://localhost",                 NULL                   },
        {"http://LocalHost:80",              NULL                   },
        {"http://127.255.3.4:1",             NULL                   },
        {"http://[::1]",                     NULL                   },
        {"http://[::ffff:127.0.0.1]",        NULL                   },
        {"http://api.easee.com",             "plain http"           },
        {"http://127.0.0.1.example.org",     "plain http"           },
        {"http://localhost.example.org",     "plain http"           },
        {"http://2130706433",                "plain http"           },
        {"http://127.1",                     "plain http"           },
        {"http://128.0.0.1",                 "plain http"           },
        {"http://0.0.0.0",                   "plain http"           },
        {"http://[::2]",                     "plain http"           },
        {"http://[::ffff:128.0.0.1]",        "plain http"           },
        {"https://",                         "host or port"         },
        {"https:///path",                    "host or port"         },
        {"https://[::1",                     "host or port"         },
        {"https://[127.0.0.1]",              "host or port"         },
        {"https://::1",                      "host or port"         },
        {"https://host:",                    "host or port"         },
        {"https://host:0",                   "host or port"         },
        {"https://host:65536",               "host or port"         },
        {"https://host:080",                 "host or port"         },
        {"https://host:123456789",           "host or port"         },
        {"https://ho st",                    "host or port"         },
        {"https://host\\.example.org",       "host or port"         },
        {"https://host?x=1",                 "host or port"         },
        {"https://host/path?x=1",            "a query"              },
        {"\"https://host/path#x\"",          "a query"              },
        {"https://host/pa th",               "a query"              },
        {"https://host/%2e",                 "a query"              },
        {"https://owner:secret@host",        "user name or password"},
        {"https://host/a@b",                 "user name or password"},
        {"ftp://host",                       "neither"              },
        {"HTTPS://host",                     "neither"              },
        {"//host",                           "neither"              },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config cfg;
        struct errors e;
        char line[256];
        enum err err;

        snprintf(line, sizeof line, "api_url = %s", rows[i].url);
        err = load(&cfg, put("evecc.conf", with("easee", line), 0600), &e);
        if ((err == ERR_OK) != !rows[i].why || e.count != !!rows[i].why)
            print_errors(rows[i].url, &e);
        assert_int_equal(err, rows[i].why ? ERR_CONFIG : ERR_OK);
        assert_int_equal(e.count, rows[i].why ? 1 : 0);
        if (rows[i].why) {
            if (!strstr(e.text[0], rows[i].why))
                print_errors(rows[i].url, &e);
            assert_non_null(strstr(e.text[0], rows[i].why));
            assert_null(strstr(e.text[0], "secret"));
        }
        config_release(&cfg);
    }
}

/* ---- lines ---- */

/* clang-format off */
static const struct {
    const char *what, *text, *expected;
} bad_lines[] = {
    {"unknown key", "max_curent = 7",
     ":9: [circuit garage] max_curent: unknown key; did you mean max_current?"},
    {"unknown key, capital", "Phases = 3",
     ":9: [circuit garage] Phases: unknown key; did you mean phases?"},
    {"unknown key, nothing near", "[gateway]\ntarget = x",
     ":10: [gateway] target: unknown key; allowed: state_dir, log_level"},
    {"a password is not repeated", "[listener b]\nport = 1\npassword = x",
     ":11: [listener b] password: unknown key; allowed: address, port, profile, allow, "
     "write, priority, max_clients, max_clients_per_address, idle_timeout, "
     "frame_timeout, queue, stall_timeout"},
    {"unknown section", "[gatway]\nx = 1\ny",
     ":9: [gatway]: unknown section; did you mean gateway? allowed: [gateway], [easee], "
     "[listener NAME], [circuit NAME]\n:11: neither [SECTION] nor KEY = VALUE"},
    {"unknown section, nothing near", "[metrics]",
     ":9: [metrics]: unknown section; allowed: [gateway], [easee], [listener NAME], "
     "[circuit NAME]"},
    {"section without its name", "[circuit]",
     ":9: [circuit]: a name is missing; allowed: [circuit NAME], 1 to 31 of letters, "
     "digits, _ "
     "and -"},
    {"section with a bad name", "[listener a b]",
     ":9: [listener a b]: not a name; allowed: [listener NAME], 1 to 31 of letters, "
     "digits, _ "
     "and -"},
    {"section with a long name", "[listener abcdefghijklmnopqrstuvwxyz123456]",
     ":9: [listener abcdefghijklmnopqrstuvwxyz123456]: not a name; allowed: [listener "
     "NAME], 1 "
     "to 31 of letters, digits, _ and -"},
    {"section with a colon", "[listener a:port]",
     ":9: [listener a:port]: not a name; allowed: [listener NAME], 1 to 31 of letters, "
     "digits, _ "
     "and -"},
    {"section that has no name", "[gateway main]",
     ":9: [gateway main]: this section has no name; allowed: [gateway]"},
    {"section not closed", "[gateway", ":9: a section is [NAME] and nothing else on its "
     "line"},
    {"section with a rest", "[gateway] ; x = 1",
     ":9: a section is [NAME] and nothing else on its line"},
    {"section twice", "[circuit garage]\n[listener Native]\n[easee]",
     ":9: [circuit garage]: a second time, the first is in line 4\n"
     ":10: [listener Native]: a second time, the first is in line 3\n"
     ":11: [easee]: a second time, the first is in line 1"},
    {"section twice, in different letters", "[circuit Garage]",
     ":9: [circuit Garage]: a second time, the first is in line 4"},
    {"key twice", "phases = 3\nphases = 1",
     ":10: [circuit garage] phases: a second time, the first is in line 9"},
    {"key twice in two parts of a section", "[easee]\nusername = x",
     ":9: [easee]: a second time, the first is in line 1\n"
     ":10: [easee] username: a second time, the first is in line 2"},
    {"no =", "phases 3", ":9: neither [SECTION] nor KEY = VALUE"},
    {"no key", "= 3",
     ":9: [circuit garage] : unknown key; allowed: unit, site, circuit, charger, "
     "max_current, "
     "phases, voltage, single_phase_max, min_current, watchdog, fallback_action, "
     "fallback_current, fallback_phases, phase_dwell, phase_pause, "
     "phase_switches_per_day, "
     "increase_interval, decrease_interval, deadman, owner, owner_timeout, "
     "start_boost"},
    {"continued line", "phases = 3\\\n",
     ":9: [circuit garage] phases: a line is not continued by a backslash"},
    {"glued comment", "phases = 3;x",
     ":9: [circuit garage] phases: ; or # begins a comment: put a blank before it, or "
     "the value "
     "in quotes"},
    {"quote not closed", "phases = \"3",
     ":9: [circuit garage] phases: quotes must be closed, without a backslash between "
     "them"},
    {"quote with backslash", "phases = '3\\'",
     ":9: [circuit garage] phases: quotes must be closed, without a backslash between "
     "them"},
    {"rest after quotes", "phases = \"3\" 1",
     ":9: [circuit garage] phases: only a comment may follow the quotes"},
    {"control character", "phases = 3\001", ":9: a control character"},
    {"form feed", "phases = \f3", ":9: a control character"},
    {"carriage return in a line", "phases = 3\rx", ":9: a control character"},
    {"byte order mark and such", "\xef\xbb\xbf[gateway]",
     ":9: neither [SECTION] nor KEY = VALUE"},
};
/* clang-format on */

static void bad_lines_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_lines / sizeof bad_lines[0]; i++) {
        char text[4096];

        snprintf(text, sizeof text, "%s%s", base_text, bad_lines[i].text);
        expect_refused(bad_lines[i].what, text, bad_lines[i].expected);
    }
}

static void before_the_first_section(void **state)
{
    char text[1024];

    (void)state;
    snprintf(text, sizeof text, "unit = 1\n%s", base_text);
    expect_refused("before", text, ":1: before the first [SECTION]");
}

static void long_lines_are_refused(void **state)
{
    char value[1100], line[1200], expected[1300];
    struct config cfg;

    (void)state;
    memset(value, 'x', sizeof value);
    value[255] = 0;
    snprintf(line, sizeof line, "state_dir = %s", value);
    load_good(&cfg, "255", with("gateway", line));
    assert_string_equal(cfg.gateway.state_dir, value);
    config_release(&cfg);

    value[255] = 'x';
    value[256] = 0;
    snprintf(line, sizeof line, "state_dir = %s", value);
    value[127] = 0;
    snprintf(
        expected, sizeof expected,
        ": [gateway] state_dir = %s: too long; allowed: a path of at most 255 characters",
        value);
    expect_refused("256", with("gateway", line), expected);

    value[127] = value[256] = 'x';
    value[1008] = 0;
    snprintf(line, sizeof line, "state_dir = %s", value); /* 1020 */
    value[127] = 0;
    expect_refused("1020", with("gateway", line), expected);
    value[127] = value[1008] = 'x';
    value[1009] = 0;
    snprintf(line, sizeof line, "state_dir = %s", value);
    expect_refused("1021", with("gateway", line), ":2: longer than 1020 characters");
}

static void all_errors_are_reported(void **state)
{
    (void)state;
    expect_refused("many",
                   "[gateway]\nlog_level = loud\nnonsense\n[easee]\n[listener a]\nport = "
                   "x\nprt = 1\n"
                   "[circuit b]\nphases = 2\nwatchdog = 1\nstart_boost = 1\n",
                   ":3: neither [SECTION] nor KEY = VALUE\n"
                   ":7: [listener a] prt: unknown key; did you mean port?\n"
                   ": [gateway] log_level = loud: unknown word; allowed: error, warning, "
                   "info or debug\n"
                   ": [easee] username: missing; allowed: 1 to 255 characters\n"
                   ": [listener a] port = x: not a whole number; allowed: 1 to 65535\n"
                   ": [circuit b] unit: missing; allowed: 1 to 247\n"
                   ": [circuit b] max_current: missing; allowed: 6 to 80 A\n"
                   ": [circuit b] start_boost = 1: unknown word; allowed: no or yes\n"
                   ": [circuit b] phases = 2: not possible; allowed: 1 or 3\n"
                   ": [circuit b] watchdog = 1: too short; allowed: 0, which is off, or "
                   "10 to 65534 s\n"
                   ": [circuit b] site, charger: neither is given; allowed: the site of "
                   "the circuit, or a "
                   "charger on it");
}

static void endless_errors_end(void **state)
{
    size_t size = CONFIG_FILE_MAX;
    char *text = malloc(size);
    struct config cfg;
    struct errors e;

    (void)state;
    for (size_t i = 0; i < size; i++)
        text[i] = i % 2 ? '\n' : 'x';
    assert_int_equal(load(&cfg, put_bytes("evecc.conf", text, size, 0600), &e),
                     ERR_CONFIG);
    assert_int_equal(e.count, 1001);
    free(text);
}

static void too_many_sections(void **state)
{
    size_t size = CONFIG_FILE_MAX;
    char *text = malloc(size);
    size_t len = (size_t)sprintf(text, "[easee]\nusername = x\n[listener a]\n");
    struct config cfg;
    struct errors e;

    (void)state;
    for (int i = 0; i < CONFIG_CIRCUITS_MAX; i++)
        len += (size_t)sprintf(text + len,
                               "[circuit c%d]\nunit=%d\ncharger=EH%d\nmax_current=6\n", i,
                               i % 247 + 1, i);
    len += (size_t)sprintf(text + len, "[circuit more]\nunit = 1\n");
    assert_int_equal(load(&cfg, put("evecc.conf", text, 0600), &e), ERR_CONFIG);
    assert_int_equal(e.count, 10); /* 9 units twice, and this */
    assert_string_equal(e.text[0],
                        ":1028: [circuit more]: too many; allowed: 16 listeners, 256 "
                        "circuits");
    free(text);
}

/* ---- what contradicts each other ---- */

/* clang-format off */
static const struct {
    const char *what, *text, *expected; /* NULL: fine */
} pairs[] = {
    {"one unit twice", "[circuit b]\nunit = 1\ncharger = EH2\nmax_current = 6",
     ": [circuit b] unit = 1: also the unit of [circuit garage]; allowed: a unit of its "
     "own, 1 "
     "to 247"},
    {"the same panel", "[circuit b]\nunit = 2\nsite = abcd-1234\ncircuit = "
     "1\nmax_current = 6",
     ": [circuit b] site = abcd-1234, circuit = 1, charger = : also the circuit of "
     "[circuit "
     "garage]; allowed: one section for a circuit"},
    {"the same panel, another charger",
     "[circuit b]\nunit = 2\nsite = ABCD-1234\ncircuit = 1\ncharger = EH2\nmax_current "
     "= 6",
     ": [circuit b] site = ABCD-1234, circuit = 1, charger = EH2: also the circuit of "
     "[circuit "
     "garage]; allowed: one section for a circuit"},
    {"one panel, two chargers",
     "[circuit b]\nunit = 2\nsite = 7\ncircuit = 1\ncharger = EH1\nmax_current = 6\n"
     "[circuit c]\nunit = 3\nsite = 7\ncircuit = 1\ncharger = EH2\nmax_current = 6",
     ": [circuit c] site = 7, circuit = 1, charger = EH2: also the circuit of [circuit b]; "
     "allowed: one section for a circuit"},
    {"another panel", "[circuit b]\nunit = 2\nsite = ABCD-1234\ncircuit = "
     "2\nmax_current = 6",
     NULL},
    {"another site", "[circuit b]\nunit = 2\nsite = ABCD-1235\ncircuit = 1\nmax_current "
     "= 6",
     NULL},
    {"one id at two sites",
     "[circuit b]\nunit = 2\nsite = X\ncircuit = id:7\nmax_current = 6\n"
     "[circuit c]\nunit = 3\nsite = Y\ncircuit = id:7\nmax_current = 6",
     ": [circuit c] site = Y, circuit = id:7, charger = : also the circuit of [circuit "
     "b]; "
     "allowed: one section for a circuit"},
    {"one site id, its only circuit twice",
     "[circuit b]\nunit = 2\nsite = 7\nmax_current = 6\n"
     "[circuit c]\nunit = 3\nsite = 7\ncharger = EH2\nmax_current = 6",
     ": [circuit c] site = 7, circuit = , charger = EH2: also the circuit of [circuit "
     "b]; "
     "allowed: one section for a circuit"},
    {"two chargers of a site, perhaps on two circuits",
     "[circuit b]\nunit = 2\nsite = 7\ncharger = EH1\nmax_current = 6\n"
     "[circuit c]\nunit = 3\nsite = 7\ncharger = EH2\nmax_current = 6",
     NULL},
    {"one charger twice",
     "[circuit b]\nunit = 2\ncharger = EH1\nmax_current = 6\n"
     "[circuit c]\nunit = 3\nsite = 7\ncharger = eh1\nmax_current = 6",
     ": [circuit c] site = 7, circuit = , charger = eh1: also the circuit of [circuit "
     "b]; "
     "allowed: one section for a circuit"},
    {"the minimum above the maximum",
     "[circuit b]\nunit = 2\ncharger = EH1\nmax_current = 6\nmin_current = 7",
     ": [circuit b] min_current = 7: above max_current; allowed: 6 to 6 A, max_current"},
    {"the default of the fallback below the minimum",
     "[circuit b]\nunit = 2\ncharger = EH1\nmax_current = 16\nmin_current = 7",
     ": [circuit b] fallback_current = 6: out of range; allowed: 0, or 7 to 16 A, "
     "min_current "
     "to max_current"},
    {"no fallback current", "fallback_current = 0", NULL},
    {"two short lives",
     "deadman = 2\n[circuit b]\nunit = 2\ncharger = EH1\nmax_current = 6\ndeadman = 1",
     ": [circuit b] deadman = 1: renewing it on 2 circuits would use up the calls of the "
     "account; allowed: 0, or 2 to 1080 min"},
    {"two that are long enough",
     "deadman = 2\n[circuit b]\nunit = 2\ncharger = EH1\nmax_current = 6\ndeadman = 2\n"
     "[circuit c]\nunit = 3\ncharger = EH2\nmax_current = 6",
     NULL},
    {"two listeners on one address", "[listener b]",
     ": [listener b] address = ::: port 502 is taken by [listener native], which "
     "listens on ::; "
     "allowed: another address or another port"},
    {":: takes IPv4 as well", "[listener b]\naddress = 127.0.0.1",
     ": [listener b] address = 127.0.0.1: port 502 is taken by [listener native], which "
     "listens "
     "on ::; allowed: another address or another port"},
    {":: takes what others have",
     "[listener b]\nport = 1\naddress = 10.0.0.1\n[listener c]\nport = 1",
     ": [listener c] address = ::: port 1 is taken by [listener b], which listens on "
     "10.0.0.1; allowed: another address or another port"},
    {"blanks and tabs", "[listener\tb]\nport\t=\t1\t; x", NULL},
    {"another port", "[listener b]\nport = 503", NULL},
    {"0.0.0.0 takes all of IPv4",
     "[listener b]\nport = 1\naddress = 10.0.0.1\n[listener c]\nport = 1\naddress = "
     "0.0.0.0",
     ": [listener c] address = 0.0.0.0: port 1 is taken by [listener b], which listens "
     "on "
     "10.0.0.1; allowed: another address or another port"},
    {"0.0.0.0 leaves IPv6",
     "[listener b]\nport = 1\naddress = ::1\n[listener c]\nport = 1\naddress = "
     "0.0.0.0", NULL},
    {"one address in two spellings",
     "[listener b]\nport = 1\naddress = 10.0.0.1\n[listener c]\nport = 1\naddress = "
     "::ffff:10.0.0.1",
     ": [listener c] address = ::ffff:10.0.0.1: port 1 is taken by [listener b], which "
     "listens "
     "on 10.0.0.1; allowed: another address or another port"},
    {"two addresses",
     "[listener b]\nport = 1\naddress = 10.0.0.1\n[listener c]\nport = 1\naddress = "
     "10.0.0.2",
     NULL},
    {"write within allow", "[listener b]\nport = 1\nallow = 10.0.0.0/8\nwrite = "
     "10.1.0.0/16",
     NULL},
    {"write wider than allow", "[listener b]\nport = 1\nallow = 10.0.0.0/8\nwrite = "
     "0.0.0.0/0",
     NULL},
    {"write without allow", "[listener b]\nport = 1\nwrite = 10.0.0.0/8", NULL},
    {"write beside allow",
     "[listener b]\nport = 1\nallow = 10.0.0.0/8, fd00::/8\nwrite = 10.1.0.0/16, "
     "11.0.0.0/9",
     ": [listener b] write = 10.1.0.0/16, 11.0.0.0/9: 11.0.0.0/9 is not in allow, "
     "nobody could "
     "use it; allowed: networks that allow lets in"},
    {"priority beside allow",
     "[listener b]\nport = 1\nallow = 10.0.0.0/8, fd00::/8\npriority = 10.1.0.0/16, "
     "11.0.0.0/9",
     ": [listener b] priority = 10.1.0.0/16, 11.0.0.0/9: 11.0.0.0/9 is not in allow, "
     "nobody could "
     "use it; allowed: networks that allow lets in"},
    {"write beside allow, by the first bit",
     "[listener b]\nport = 1\nallow = 10.0.0.0/8\nwrite = 138.0.0.0/8",
     ": [listener b] write = 138.0.0.0/8: 138.0.0.0/8 is not in allow, nobody could use it; "
     "allowed: networks that allow lets in"},
    {"write beside allow, by the last bit",
     "[listener b]\nport = 1\nallow = 10.0.0.0/9\nwrite = 10.128.0.0/9",
     ": [listener b] write = 10.128.0.0/9: 10.128.0.0/9 is not in allow, nobody could use "
     "it; allowed: networks that allow lets in"},
    {"write beside allow, IPv6",
     "[listener b]\nport = 1\nallow = 10.0.0.0/8, fd00::/8\nwrite = fe80::/10",
     ": [listener b] write = fe80::/10: fe80::/10 is not in allow, nobody could use it; "
     "allowed: networks that allow lets in"},
};
/* clang-format on */

static void contradictions_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct config cfg;
        char text[2048];

        snprintf(text, sizeof text, "%s%s\n", base_text, pairs[i].text);
        if (pairs[i].expected) {
            expect_refused(pairs[i].what, text, pairs[i].expected);
        } else {
            load_good(&cfg, pairs[i].what, text);
            config_release(&cfg);
        }
    }
}

static void nobody_to_serve(void **state)
{
    (void)state;
    expect_refused("no circuit", "[easee]\nusername = x\n[listener native]\n",
                   ": listener native: no circuit to serve; add a [circuit NAME]");
    expect_refused(
        "no listener",
        "[easee]\nusername = x\n[circuit a]\nunit = 1\nsite = X\nmax_current = 6\n",
        ": nobody could connect; add a [listener NAME]");
    expect_refused("an empty file", "",
                   ": [easee] username: missing; allowed: 1 to 255 characters\n"
                   ": nobody could connect; add a [listener NAME]\n"
                   ": nothing to control; add a [circuit NAME]");
}

/* ---- numbers, against another way to judge them ---- */

static void numbers_at_random(void **state)
{
    static const char alphabet[] = "00123456789 +-.ex";
    unsigned seed = (unsigned)time(NULL);

    (void)state;
    print_message("seed %u\n", seed);
    srandom(seed);
    for (int i = 0; i < 2000; i++) {
        char text[8] = "", line[32], canonical[16];
        size_t len = (size_t)random() % 6;
        struct config cfg;
        struct errors e;
        unsigned long n;
        bool good;

        for (size_t k = 0; k < len; k++)
            text[k] = alphabet[(size_t)random() % (sizeof alphabet - 1)];
        n = strtoul(text, NULL, 10);
        snprintf(canonical, sizeof canonical, "%lu", n);
        good = !strcmp(text, canonical) && n <= 25000;
        snprintf(line, sizeof line, "single_phase_max = '%s'", text);
        if ((load(&cfg, put("evecc.conf", with("circuit garage", line), 0600), &e) ==
             ERR_OK) != good)
            print_errors(line, &e);
        assert_int_equal(e.count, !good);
        if (good)
            assert_int_equal(cfg.circuit[0].single_phase_max, n);
        config_release(&cfg);
    }
}

/* ---- the file itself ---- */

static void files_that_are_refused(void **state)
{
    char allowed[256], expected[512];
    char *path = strdup(put("evecc.conf", base_text, 0600));
    static const char nul[] = "[gateway]\n\0";
    int fd;

    (void)state;
    snprintf(
        allowed, sizeof allowed,
        "; allowed: a text file of at most 1048576 bytes, owned by root or uid %u, that "
        "nobody else can write",
        (unsigned)geteuid());
#define EXPECT(what, file, why)                                      \
    do {                                                             \
        snprintf(expected, sizeof expected, ": %s%s", why, allowed); \
        expect_errors(what, file, expected);                         \
    } while (0)

    EXPECT("missing", in_folder("missing"), "No such file or directory");
    EXPECT("directory", folder, "a directory");
    EXPECT("device", "/dev/zero", "not a regular file");
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    EXPECT("FIFO", in_folder("fifo"), "not a regular file");
    assert_int_equal(symlink(path, in_folder("link")), 0);
    EXPECT("symbolic link", in_folder("link"), "a symbolic link");
    assert_int_equal(chmod(path, 0602), 0);
    EXPECT("others may write", path, "writable by others (mode 0602)");
    assert_int_equal(chmod(path, 0664), 0);
    EXPECT("the group may write", path, "writable by others (mode 0664)");
    EXPECT("NUL", put_bytes("evecc.conf", nul, sizeof nul - 1, 0600), "a NUL byte in it");
    fd = open(in_folder("huge"), O_RDWR | O_CREAT, 0600);
    assert_int_equal(ftruncate(fd, 1 << 30), 0);
    close(fd);
    EXPECT("1 GB", in_folder("huge"), "too large");
    if (geteuid() == 0) {
        put("evecc.conf", base_text, 0600);
        assert_int_equal(chown(path, 65534, 0), 0);
        EXPECT("another owner", path, "owned by uid 65534");
        assert_int_equal(chown(path, 0, 0), 0);
    }
    free(path);
}

static void a_file_others_may_read_is_fine(void **state)
{
    struct config cfg;
    struct errors e;

    (void)state;
    assert_int_equal(load(&cfg, put("evecc.conf", base_text, 0644), &e), ERR_OK);
    config_release(&cfg);
    config_release(&cfg); /* empty now */
}

/* ---- the password ---- */

static enum err load_password(struct config *ret, const char *path, struct errors *e)
{
    char line[256];

    snprintf(line, sizeof line, "password_file = %s", path);
    return load(ret, put("evecc.conf", with("easee", line), 0600), e);
}

static void any_password_is_kept_whole(void **state)
{
    char longest[257];
    static const char *const passwords[] = {
        "p;a#ss", "'quoted'",       "\"",   "a = b", " blanks ", "[easee]",
        "\\",     "p\xc3\xa6ss\tx", "%s%n", "#"};
    static const char *const ends[] = {"", "\n", "\r\n", "\nsecond line\n", "\r"};

    (void)state;
    for (size_t i = 0; i <= sizeof passwords / sizeof passwords[0]; i++) {
        const char *password = longest;

        memset(longest, 'x', 255);
        longest[255] = 0;
        if (i < sizeof passwords / sizeof passwords[0])
            password = passwords[i];
        for (size_t k = 0; k < sizeof ends / sizeof ends[0]; k++) {
            struct config cfg;
            struct errors e;
            char text[512];

            snprintf(text, sizeof text, "%s%s", password, ends[k]);
            if (load_password(&cfg, put("pw", text, 0400), &e))
                print_errors(password, &e);
            assert_string_equal(cfg.easee.password, password);
            config_release(&cfg);
            assert_int_equal(cfg.easee.password[0], 0);
        }
    }
}

static void passwords_that_are_refused(void **state)
{
    static const struct {
        const char *what, *bytes;
        size_t size;
        mode_t mode;
        const char *why;
    } rows[] = {
        {"empty",            "",       0, 0600, "its first line is empty"       },
        {"empty first line", "\nx",    2, 0600, "its first line is empty"       },
        {"NUL",              "a\0b\n", 4, 0600, "a NUL byte in its first line"  },
        {"group may read",   "x",      1, 0640, "readable by others (mode 0640)"},
        {"others may read",  "x",      1, 0604, "readable by others (mode 0604)"},
        {"others may write", "x",      1, 0602, "writable by others (mode 0602)"},
    };
    struct config cfg;
    struct errors e;
    char longer[257];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *path = put_bytes("pw", rows[i].bytes, rows[i].size, rows[i].mode);
        char expected[512];

        assert_int_equal(load_password(&cfg, path, &e), ERR_CONFIG);
        snprintf(
            expected, sizeof expected,
            ": [easee] password_file = %s: %s; allowed: a file owned by root or uid %u "
            "that "
            "nobody else can read, with the password of 1 to 255 bytes in its first line",
            path, rows[i].why, (unsigned)geteuid());
        if (e.count != 1)
            print_errors(rows[i].what, &e);
        assert_int_equal(e.count, 1);
        assert_string_equal(e.text[0], expected);
    }

    memset(longer, 'x', 256);
    longer[256] = 0;
    assert_int_equal(load_password(&cfg, put("pw", longer, 0600), &e), ERR_CONFIG);
    assert_non_null(strstr(e.text[0], ": its first line is too long; allowed: "));
    assert_int_equal(load_password(&cfg, in_folder("missing"), &e), ERR_CONFIG);
    assert_non_null(strstr(e.text[0], "/missing: No such file or directory; allowed: "));
    assert_int_equal(load_password(&cfg, folder, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text[0], ": a directory; allowed: "));
    if (geteuid() == 0) {
        const char *path = put("pw", "x", 0600);

        assert_int_equal(chown(path, 65534, 0), 0);
        assert_int_equal(load_password(&cfg, path, &e), ERR_CONFIG);
        assert_non_null(strstr(e.text[0], ": owned by uid 65534; allowed: "));
        assert_int_equal(chown(path, 0, 0), 0);
    }
}

static void credentials(void **state)
{
    static const mode_t good[] = {0400, 0440, 0600};
    struct config cfg;
    struct errors e;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(chmod(in_folder("easee-password"), good[i]), 0);
        load_good(&cfg, "credential", base_text);
        assert_string_equal(cfg.easee.password, "se;cr#et");
        config_release(&cfg);
    }
    assert_int_equal(chmod(in_folder("easee-password"), 0444), 0);
    assert_int_equal(load(&cfg, put("evecc.conf", base_text, 0600), &e), ERR_CONFIG);
    assert_non_null(strstr(e.text[0],
                           "[easee] password_file = : credential easee-password: "
                           "readable by others (mode 0444); allowed: "));
    assert_int_equal(chmod(in_folder("easee-password"), 0400), 0);

    unsetenv("CREDENTIALS_DIRECTORY");
    expect_refused(
        "no password", base_text,
        ": [easee] password_file = : no password; allowed: a file, or empty with a "
        "systemd credential named easee-password");
    setenv("CREDENTIALS_DIRECTORY", folder, 1);
}

/* What root alone may read the service manager reads for us. */
static void password_for_root_alone(void **state)
{
    bool root = geteuid() == 0;
    uid_t service = root ? 65534 : geteuid();
    char line[256];
    const char *path;
    struct config cfg;
    struct errors e;
    enum err err;

    (void)state;
    snprintf(line, sizeof line, "password_file = %s",
             put("for-root", "other\n", root ? 0600 : 0));
    path = put("evecc.conf", with("easee", line), 0644);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(chown(in_folder("easee-password"), service, (gid_t)-1), 0);
    assert_int_equal(seteuid(service), 0);
    err = load(&cfg, path, &e);
    assert_int_equal(seteuid(getuid()), 0);
    if (err)
        print_errors("credential", &e);
    assert_int_equal(err, ERR_OK);
    assert_string_equal(cfg.easee.password, "se;cr#et");
    config_release(&cfg);

    /* One that is missing is not meant to be replaced. */
    assert_int_equal(unlink(in_folder("for-root")), 0);
    assert_int_equal(load(&cfg, path, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text[0], "for-root: No such file or directory; allowed: "));
    assert_int_equal(chown(in_folder("easee-password"), getuid(), (gid_t)-1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_table),
        cmocka_unit_test(table_has_every_option_once),
        cmocka_unit_test(every_option_is_read),
        cmocka_unit_test(the_example_is_valid),
        cmocka_unit_test(selector_by_key_and_panel),
        cmocka_unit_test(the_same_file_gives_the_same_bytes),
        cmocka_unit_test(bad_values_are_refused),
        cmocka_unit_test(nets_are_refused_with_the_reason_of_acl),
        cmocka_unit_test(urls),
        cmocka_unit_test(bad_lines_are_refused),
        cmocka_unit_test(before_the_first_section),
        cmocka_unit_test(long_lines_are_refused),
        cmocka_unit_test(all_errors_are_reported),
        cmocka_unit_test(endless_errors_end),
        cmocka_unit_test(too_many_sections),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(nobody_to_serve),
        cmocka_unit_test(numbers_at_random),
        cmocka_unit_test(files_that_are_refused),
        cmocka_unit_test(a_file_others_may_read_is_fine),
        cmocka_unit_test(any_password_is_kept_whole),
        cmocka_unit_test(passwords_that_are_refused),
        cmocka_unit_test(credentials),
        cmocka_unit_test(password_for_root_alone),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
