/* SPDX-License-Identifier: MIT
 * easeesim - a simulated Easee cloud with sites, circuits, chargers and cars. */
#include "http.h"
#include "json.h"
#include "world.h"

#include <errno.h>
#include <getopt.h>
#include <libwebsockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#ifndef EVECC_VERSION
#define EVECC_VERSION "unknown"
#endif

enum { FILE_MAX = 4 * 1024 * 1024 };

struct options {
    struct http_options http;
    struct sim_options sim;
    const char *port_file, *world_file, *scenario_file, *ledger_file;
    bool quiet;
};

static const char usage[] =
    "Usage: easeesim [OPTION]...\n"
    "A simulated Easee cloud: accounts, sites, circuits, chargers and cars behind the "
    "REST\n"
    "interface of api.easee.com, with its limits and its faults.\n"
    "\n"
    "  --address IP       listen here (127.0.0.1)\n"
    "  --port N           on this port; 0: any free one (8787)\n"
    "  --port-file FILE   write the port there once connections are accepted\n"
    "  --cert FILE        serve HTTPS with this certificate chain (PEM)\n"
    "  --key FILE         and this private key (PEM)\n"
    "  --speed X          simulated time runs X times as fast (1)\n"
    "  --seed N           seed of all random delays and tokens (1)\n"
    "  --world FILE       what there is, as JSON (--print-world shows the default)\n"
    "  --scenario FILE    what happens when, as JSON\n"
    "  --ledger FILE      append every request as a line of JSON\n"
    "  --legacy-state     GET /api/chargers/{id}/state still answers\n"
    "  --quiet            print only errors\n"
    "  --print-world      print the default world and exit\n"
    "  --help, --version\n"
    "\n"
    "While it runs, /sim/state, /sim/ledger, /sim/set, /sim/fault, /sim/reset and "
    "/sim/quit\n"
    "look at the world and change it; easeesim(1) explains them.  The default account "
    "is\n"
    "owner@example.org with the password `correct horse;#battery'.\n"
    "\n"
    "  curl -s localhost:8787/sim/state\n"
    "  curl -s localhost:8787/sim/set -d "
    "'{\"charger\":\"EH123456\",\"car\":{\"full\":true}}'\n"
    "  curl -s localhost:8787/sim/fault -d "
    "'{\"path\":\"/settings\",\"count\":3,\"status\":500}'\n";

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "easeesim: %s: %s\n", what, why);
}

/* The JSON document in FILE; exits with a message when there is none. */
static cJSON *read_json(const char *file)
{
    FILE *f = fopen(file, "re");
    char *text;
    size_t len;
    cJSON *o;

    if (!f) {
        fail(file, strerror(errno));
        exit(1);
    }
    text = malloc(FILE_MAX + 1);
    len = text ? fread(text, 1, FILE_MAX, f) : 0;
    if (!text || ferror(f)) {
        fail(file, text ? strerror(errno) : "out of memory");
        exit(1);
    }
    text[len] = '\0';
    o = cJSON_ParseWithOpts(text, NULL, true);
    if (!o) {
        const char *at = cJSON_GetErrorPtr();
        int line = 1;

        for (const char *p = text; at && p < at; p++)
            line += *p == '\n';
        fprintf(stderr, "easeesim: %s:%d: not JSON\n", file, line);
        exit(1);
    }
    free(text);
    fclose(f);
    return o;
}

static double number(const char *name, const char *text, double lo, double hi)
{
    char *end;
    double v;

    errno = 0;
    v = strtod(text, &end);
    if (end == text || *end || errno || !(v >= lo && v <= hi)) {
        fprintf(stderr, "easeesim: --%s %s: a number from %g to %g\n", name, text, lo,
                hi);
        exit(2);
    }
    return v;
}

static void parse(int argc, char **argv, struct options *o)
{
    enum {
        ADDRESS = 256,
        PORT,
        PORT_FILE,
        CERT,
        KEY,
        SPEED,
        SEED,
        WORLD,
        SCENARIO,
        LEDGER,
        LEGACY,
        QUIET,
        PRINT_WORLD,
        HELP,
        VERSION
    };
    static const struct option table[] = {
        {"address",      required_argument, NULL, ADDRESS    },
        {"port",         required_argument, NULL, PORT       },
        {"port-file",    required_argument, NULL, PORT_FILE  },
        {"cert",         required_argument, NULL, CERT       },
        {"key",          required_argument, NULL, KEY        },
        {"speed",        required_argument, NULL, SPEED      },
        {"seed",         required_argument, NULL, SEED       },
        {"world",        required_argument, NULL, WORLD      },
        {"scenario",     required_argument, NULL, SCENARIO   },
        {"ledger",       required_argument, NULL, LEDGER     },
        {"legacy-state", no_argument,       NULL, LEGACY     },
        {"quiet",        no_argument,       NULL, QUIET      },
        {"print-world",  no_argument,       NULL, PRINT_WORLD},
        {"help",         no_argument,       NULL, HELP       },
        {"version",      no_argument,       NULL, VERSION    },
        {NULL,           0,                 NULL, 0          },
    };
    int c;

    while ((c = getopt_long(argc, argv, "hV", table, NULL)) != -1) {
        switch (c) {
        case ADDRESS:
            o->http.address = optarg;
            break;
        case PORT:
            o->http.port = (int)number("port", optarg, 0, 65535);
            break;
        case PORT_FILE:
            o->port_file = optarg;
            break;
        case CERT:
            o->http.cert = optarg;
            break;
        case KEY:
            o->http.key = optarg;
            break;
        case SPEED:
            o->sim.speed = number("speed", optarg, 0.001, 1e5);
            break;
        case SEED:
            o->sim.seed = (uint64_t)number("seed", optarg, 0, 9e15);
            break;
        case WORLD:
            o->world_file = optarg;
            break;
        case SCENARIO:
            o->scenario_file = optarg;
            break;
        case LEDGER:
            o->ledger_file = optarg;
            break;
        case LEGACY:
            o->sim.legacy_state = true;
            break;
        case QUIET:
            o->quiet = true;
            break;
        case PRINT_WORLD:
            fputs(world_default, stdout);
            exit(0);
        case HELP:
        case 'h':
            fputs(usage, stdout);
            exit(0);
        case VERSION:
        case 'V':
            puts("easeesim " EVECC_VERSION);
            exit(0);
        default:
            fputs("Try 'easeesim --help'.\n", stderr);
            exit(2);
        }
    }
    if (optind < argc) {
        fail(argv[optind], "not an option; try 'easeesim --help'");
        exit(2);
    }
    if (!o->http.cert != !o->http.key) {
        fail("--cert and --key", "one needs the other");
        exit(2);
    }
}

/* Whole, then renamed: whoever waits for the file never reads half a number. */
static bool write_port(const char *file, int port)
{
    char temporary[4096];
    FILE *f;
    bool good;

    snprintf(temporary, sizeof temporary, "%s.new", file);
    f = fopen(temporary, "we");
    if (!f)
        return false;
    good = fprintf(f, "%d\n", port) > 0;
    good = fclose(f) == 0 && good;
    return good && rename(temporary, file) == 0;
}

static bool check(struct sim *s, const struct options *o)
{
    char why[JSON_WHY] = "";

    model_init(&s->model, 0, 0);
    if (!world_load(s->options.world, &s->model, why)) {
        fail(o->world_file ? o->world_file : "default world", why);
        return false;
    }
    if (s->options.scenario && !scenario_check(s->options.scenario, why)) {
        fail(o->scenario_file, why);
        return false;
    }
    if (!ledger_init(&s->ledger, o->ledger_file)) {
        fail(o->ledger_file, strerror(errno));
        return false;
    }
    return true;
}

static int serve(struct sim *s, const struct options *o)
{
    sigset_t ends;
    char why[JSON_WHY] = "out of memory";
    struct http *h = http_new(s, &o->http, why);

    if (!h) {
        fail("cannot start", why);
        return 1;
    }
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (!http_stop_on(h, signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK))) {
        fail("cannot start", "signalfd");
        http_free(h);
        return 1;
    }
    if (o->port_file && !write_port(o->port_file, http_port(h))) {
        fail(o->port_file, strerror(errno));
        http_free(h);
        return 1;
    }
    if (!o->quiet) {
        bool v6 = strchr(o->http.address, ':') != NULL;

        printf("easeesim ready on %s://%s%s%s:%d\n", o->http.cert ? "https" : "http",
               v6 ? "[" : "", o->http.address, v6 ? "]" : "", http_port(h));
        fflush(stdout);
    }
    http_run(h);
    http_free(h);
    return 0;
}

int main(int argc, char **argv)
{
    struct options o = {
        .http = {.address = "127.0.0.1", .port = 8787},
          .sim = {.speed = 1,             .seed = 1   }
    };
    struct sim *s = calloc(1, sizeof *s);
    cJSON *world, *scenario = NULL;
    int status = 1;

    parse(argc, argv, &o);
    if (!s) {
        fail("start", "out of memory");
        return 1;
    }
    lws_set_log_level(LLL_ERR, NULL);
    o.sim.world = world =
        o.world_file ? read_json(o.world_file) : cJSON_Parse(world_default);
    if (o.scenario_file)
        o.sim.scenario = scenario = read_json(o.scenario_file);
    s->options = o.sim;
    if (check(s, &o)) {
        sim_reset(s, http_real_us(), http_unix_ms());
        status = serve(s, &o);
    }
    faults_remove(&s->faults, 0);
    ledger_release(&s->ledger);
    cJSON_Delete(world);
    cJSON_Delete(scenario);
    free(s);
    return status;
}
