/* SPDX-License-Identifier: MIT
 * evecc status: one circuit as its gateway sees it, explained. */
#include "link.h"
#include "values.h"

#include "evecc/words.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SCREEN_MAX = 8192 };

/* What is shown, collected before any of it is written: a live view must not flicker. */
struct screen {
    char text[SCREEN_MAX];
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void put(struct screen *s, const char *fmt,
                                                      ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(s->text + s->len, sizeof s->text - s->len, fmt, args);
    va_end(args);
    if (n > 0)
        s->len += (size_t)n;
    if (s->len >= sizeof s->text)
        s->len = sizeof s->text - 1;
}

static struct value get(const uint16_t *image, unsigned addr)
{
    return value_of(regmap_row((uint16_t)addr), image);
}

static const char *text(const uint16_t *image, unsigned addr,
                        char buf[static VALUE_TEXT_MAX])
{
    struct value v = get(image, addr);
    const char *word = word_text(v.row, v.raw);

    /* The number of a word is for programs. */
    if (!v.none && word != NULL && !word_is_bits(v.row) && v.row->addr != REG_IEC_STATE)
        return word;
    return value_text(&v, buf);
}

static void label(struct screen *s, const char *name)
{
    put(s, "%s%-11s%s", paint(STYLE_FAINT), name, paint(STYLE_PLAIN));
}

/* "12 s ago", "never", in words that get shorter as it matters less. */
static const char *ago(struct value age, char buf[static 32])
{
    if (age.none)
        return "never";
    if (age.raw >= 65534)
        return "long ago";
    if (age.raw < 120)
        snprintf(buf, 32, "%.0f s ago", age.number);
    else if (age.raw < 7200)
        snprintf(buf, 32, "%.0f min ago", floor(age.number / 60));
    else
        snprintf(buf, 32, "%.0f h ago", floor(age.number / 3600));
    return buf;
}

static const char *duration(struct value v, char buf[static 32])
{
    unsigned s = (unsigned)v.raw;

    if (v.none)
        return "-";
    snprintf(buf, 32, "%u:%02u:%02u", s / 3600, s / 60 % 60, s % 60);
    return buf;
}

/* A number in another unit than the register's, "-" when it is not available. */
static const char *scaled(struct value v, double by, int digits, const char *unit,
                          char buf[static 32])
{
    if (v.none)
        return "-";
    snprintf(buf, 32, "%.*f%s%s", digits, v.number * by, *unit != '\0' ? " " : "", unit);
    return buf;
}

/* ---- the parts ---- */

static void put_head(struct screen *s, const struct link *l, const uint16_t *image)
{
    char serial[VALUE_TEXT_MAX], model[VALUE_TEXT_MAX];

    put(s, "%s%s%sunit %d%s at %s port %s   %s %s\n\n", paint(STYLE_STRONG), l->name,
        *l->name != '\0' ? ", " : "", l->unit, paint(STYLE_PLAIN), l->host, l->port,
        text(image, REG_MODEL, model), text(image, REG_SERIAL, serial));
}

static void put_triple(struct screen *s, const uint16_t *image, unsigned first, double by,
                       int digits, const char *unit)
{
    unsigned words = regmap_row((uint16_t)first)->words;
    bool any = false;
    char buf[32];

    for (unsigned i = 0; i < 3; i++) {
        struct value v = get(image, first + i * words);

        any = any || !v.none;
        put(s, "%s%s", i > 0 ? " / " : "", scaled(v, by, digits, "", buf));
    }
    put(s, "%s%s", any ? " " : "", any ? unit : "");
}

static void put_charger(struct screen *s, const uint16_t *image)
{
    struct value iec = get(image, REG_IEC_STATE),
                 reason = get(image, REG_NO_CURRENT_REASON);
    bool online = get(image, REG_ONLINE).raw == 1;
    char buf[VALUE_TEXT_MAX], a[32], b[32];
    enum style style = iec.none                           ? STYLE_PLAIN
                       : iec.raw == 'C'                   ? STYLE_GOOD
                       : iec.raw == 'E' || iec.raw == 'F' ? STYLE_BAD
                                                          : STYLE_PLAIN;

    label(s, "charger");
    if (iec.none && get(image, REG_OPERATION_MODE).none)
        put(s, "nothing known yet\n");
    else
        put(s, "%s%c%s  %s, %s   %s\n", paint(style), iec.none ? '-' : (char)iec.raw,
            paint(STYLE_PLAIN), text(image, REG_OPERATION_MODE, buf),
            online ? "online" : "offline", ago(get(image, REG_STATE_AGE), a));
    if (!reason.none && reason.raw != 0) {
        label(s, "");
        put(s, "%s\n", text(image, REG_NO_CURRENT_REASON, buf));
    }
    label(s, "power");
    put(s, "%s   ", scaled(get(image, REG_POWER), 0.001, 2, "kW", a));
    put_triple(s, image, REG_CURRENT_L1, 0.001, 1, "A");
    put(s, "   ");
    put_triple(s, image, REG_VOLTAGE_L1, 1, 0, "V");
    put(s, "   %s\n", ago(get(image, REG_POWER_AGE), a));
    label(s, "energy");
    put(s, "session %s in %s, total %s\n",
        scaled(get(image, REG_SESSION_ENERGY), 0.001, 2, "kWh", a),
        duration(get(image, REG_SESSION_DURATION), b),
        scaled(get(image, REG_ENERGY), 0.001, 1, "kWh", buf));
}

/* What the client wants, in one line. */
static void put_wish(struct screen *s, const uint16_t *image)
{
    struct value power = get(image, REG_POWER_LIMIT),
                 current = get(image, REG_CURRENT_LIMIT);
    char buf[VALUE_TEXT_MAX];
    bool limit = false;

    label(s, "wanted");
    if (get(image, REG_STAGE).raw == STAGE_NONE) {
        put(s, "no setpoint yet: nothing is sent to the cloud\n");
        return;
    }
    if (get(image, REG_ENABLE).raw == 0) {
        put(s, "charging disabled   ");
        limit = true;
    }
    if (!power.none) {
        put(s, "%s   ", value_text(&power, buf));
        limit = true;
    }
    if (!current.none) {
        put(s, "%s   ", value_text(&current, buf));
        limit = true;
    }
    for (unsigned i = 0; i < 3; i++) {
        struct value v = get(image, REG_CURRENT_LIMIT_L1 + i);

        if (v.none)
            continue;
        put(s, "L%u %s   ", i + 1, value_text(&v, buf));
        limit = true;
    }
    put(s, "%sphases %s   %s\n", limit ? "" : "no limit   ",
        text(image, REG_PHASE_MODE, buf), ago(get(image, REG_WRITE_AGE), buf));
}

static void put_row(struct screen *s, const uint16_t *image, const char *name,
                    unsigned first)
{
    char buf[VALUE_TEXT_MAX];

    label(s, name);
    for (unsigned i = 0; i < 4; i++) {
        struct value v = get(image, first + i);

        put(s, "%6s ", v.none ? "-" : scaled(v, 1, i < 3, "", buf));
    }
}

static void put_setpoint(struct screen *s, const uint16_t *image)
{
    struct value result = get(image, REG_RESULT), stage = get(image, REG_STAGE);
    char buf[VALUE_TEXT_MAX], a[32];
    enum style style = stage.raw >= STAGE_REFUSED     ? STYLE_BAD
                       : stage.raw >= STAGE_CONFIRMED ? STYLE_GOOD
                                                      : STYLE_PLAIN;

    put(s, "\n%s%-11s%6s %6s %6s %6s%s\n", paint(STYLE_FAINT), "A", "L1", "L2", "L3",
        "phases", paint(STYLE_PLAIN));
    put_row(s, image, "requested", REG_REQUESTED_L1);
    put(s, "\n");
    put_row(s, image, "target", REG_TARGET_L1);
    put(s, "  limited by: %s\n", text(image, REG_BINDING, buf));
    put_row(s, image, "sent", REG_SENT_L1);
    put(s, "  %s\n", ago(get(image, REG_CALL_AGE), a));
    put_row(s, image, "confirmed", REG_CONFIRMED_L1);
    put(s, "  %s\n", ago(get(image, REG_CONFIRMATION_AGE), a));
    label(s, "effective");
    put(s, "%6s  offered to the vehicle\n",
        scaled(get(image, REG_EFFECTIVE), 1, 1, "", a));
    label(s, "stage");
    put(s, "%s%s%s\n", paint(style), text(image, REG_STAGE, buf), paint(STYLE_PLAIN));
    if (result.raw != 0) {
        label(s, "result");
        put(s, "%s%s%s\n", paint(STYLE_BAD), text(image, REG_RESULT, buf),
            paint(STYLE_PLAIN));
        label(s, "");
        put(s, "%s\n", err_remedy((enum err)(int16_t)result.raw));
    }
}

/* "NAME in N s" when it runs. */
static void put_left(struct screen *s, const uint16_t *image, const char *name,
                     unsigned addr)
{
    struct value v = get(image, addr);

    if (!v.none && v.raw > 0)
        put(s, ", %s %.0f s", name, v.number);
}

static void put_gateway(struct screen *s, const uint16_t *image)
{
    struct value faults = get(image, REG_FAULTS),
                 watchdog = get(image, REG_WATCHDOG_STATE),
                 error = get(image, REG_LAST_ERROR), owner = get(image, REG_OWNER),
                 connection = get(image, REG_CONNECTION);
    char buf[VALUE_TEXT_MAX], a[32];
    bool connected =
        connection.raw == CONNECTION_POLLING || connection.raw == CONNECTION_STREAMING;

    put(s, "\n");
    label(s, "gateway");
    put(s, "version %s, running for %s\n", text(image, REG_GATEWAY_VERSION, buf),
        duration(get(image, REG_UPTIME), a));
    label(s, "cloud");
    put(s, "%s%s%s", connected ? paint(STYLE_GOOD) : paint(STYLE_WARNING),
        text(image, REG_CONNECTION, buf), paint(STYLE_PLAIN));
    put_left(s, image, "back-off", REG_BACKOFF_LEFT);
    put(s, ", calls left: %s", scaled(get(image, REG_CALLS_LEFT), 1, 0, "", a));
    put(s, " in %s", scaled(get(image, REG_CALL_WINDOW), 1, 0, "s", a));
    put_left(s, image, "next call in", REG_NEXT_CALL);
    put(s, "\n");
    label(s, "watchdog");
    put(s, "%s%s%s", watchdog.raw == 2 ? paint(STYLE_BAD) : "",
        text(image, REG_WATCHDOG_STATE, buf), paint(STYLE_PLAIN));
    put_left(s, image, "trips in", REG_WATCHDOG_LEFT);
    put_left(s, image, "setpoint valid for", REG_VALIDITY_LEFT);
    put_left(s, image, "phases may change in", REG_DWELL_LEFT);
    put(s, "\n");
    if (!owner.none) {
        label(s, "owner");
        put(s, "%s", owner.text);
        put_left(s, image, "for", REG_OWNER_LEFT);
        put(s, "\n");
    }
    label(s, "faults");
    put(s, "%s%s%s\n", faults.none || faults.raw == 0 ? "" : paint(STYLE_BAD),
        value_text(&faults, buf), paint(STYLE_PLAIN));
    if (!error.none) {
        label(s, "last error");
        put(s, "%s\n", error.text);
    }
}

static void fill(struct screen *s, const struct link *l, const uint16_t *image)
{
    s->len = 0;
    put_head(s, l, image);
    put_charger(s, image);
    put(s, "\n");
    put_wish(s, image);
    put_setpoint(s, image);
    put_gateway(s, image);
}

static enum exit_code print_status_json(const struct link *l, const uint16_t *image)
{
    cJSON *root = cJSON_CreateObject(), *map;
    size_t count;
    const struct reg_row *rows = regmap_rows(&count);
    char name[64];

    cJSON_AddStringToObject(root, "host", l->host);
    cJSON_AddStringToObject(root, "port", l->port);
    cJSON_AddNumberToObject(root, "unit", l->unit);
    map = cJSON_AddObjectToObject(root, "registers");
    for (size_t i = 0; i < count; i++) {
        struct value v = value_of(&rows[i], image);

        cJSON_AddItemToObject(map, value_name(&rows[i], name), value_json(&v));
    }
    return print_json(root);
}

/* ---- the live view ---- */

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static void write_all(const char *p, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, p, len);

        if (n <= 0)
            return;
        p += n;
        len -= (size_t)n;
    }
}

/* Over what was there before, each line cut clean, in one write. */
static void redraw(const struct screen *s)
{
    static char out[2 * SCREEN_MAX];
    size_t n = (size_t)snprintf(out, sizeof out, "\033[H");

    for (size_t i = 0; i < s->len && n < sizeof out - 16; i++) {
        if (s->text[i] == '\n')
            n += (size_t)snprintf(out + n, sizeof out - n, "\033[K");
        out[n++] = s->text[i];
    }
    n += (size_t)snprintf(out + n, sizeof out - n, "\033[J");
    write_all(out, n);
}

/* One frame: what was read, or since when there is no answer. */
static void fill_frame(struct screen *s, struct link *l, time_t *answered)
{
    static uint16_t image[REGMAP_COUNT];
    time_t now = time(NULL);
    char clock[32];
    struct tm tm;
    int name;

    if ((l->ctx != NULL || link_try(l, &name) == LINK_OPEN) && link_fetch(l, image)) {
        *answered = now;
        fill(s, l, image);
    } else {
        link_close(l);
        s->len = 0;
        put(s, "%sNo answer%s from %s port %s for %.0f s, trying again\n",
            paint(STYLE_BAD), paint(STYLE_PLAIN), l->host, l->port,
            difftime(now, *answered));
    }
    strftime(clock, sizeof clock, "%H:%M:%S", localtime_r(&now, &tm));
    put(s, "\n%s%s   Ctrl-C ends%s\n", paint(STYLE_FAINT), clock, paint(STYLE_PLAIN));
}

/* Until a signal; the terminal is left as it was. */
static enum exit_code watch(struct link *l, double interval_s)
{
    static const char enter[] = "\033[?1049h\033[?25l", leave[] = "\033[?25h\033[?1049l";
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction catch = {.sa_handler = on_signal};
    const struct timespec pause = {.tv_sec = (time_t)interval_s,
                                   .tv_nsec =
                                       (long)((interval_s - floor(interval_s)) * 1e9)};
    time_t answered = time(NULL);
    static struct screen screen;

    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &catch, NULL);
    write_all(enter, sizeof enter - 1);
    while (interrupted == 0) {
        fill_frame(&screen, l, &answered);
        if (interrupted != 0)
            break;
        redraw(&screen);
        nanosleep(&pause, NULL);
    }
    write_all(leave, sizeof leave - 1);
    return EXIT_OK;
}

enum exit_code run_status(struct cli *cli)
{
    const char *interval = cli->flag[FLAG_interval];
    uint16_t image[REGMAP_COUNT];
    struct screen screen;
    struct link l;
    char *end;
    double interval_s = interval != NULL ? strtod(interval, &end) : 1;
    enum exit_code status;

    if (interval != NULL && (*end != '\0' || !(interval_s >= 0.5 && interval_s <= 3600)))
        return fail(cli, EXIT_USAGE, NULL, "--interval %s: allowed: 0.5 to 3600 s",
                    interval);
    if (cli->flag[FLAG_watch] != NULL && (cli->json || !isatty(STDOUT_FILENO)))
        return fail(cli, EXIT_USAGE, "Leave it out for one reading.",
                    "--watch needs a terminal");
    status = link_find(cli, &l);
    if (status == EXIT_OK)
        status = link_open(cli, &l);
    if (status != EXIT_OK)
        return status;
    if (cli->flag[FLAG_watch] != NULL) {
        status = watch(&l, interval_s);
    } else {
        status = link_read(cli, &l, image);
        if (status == EXIT_OK && cli->json)
            status = print_status_json(&l, image);
        else if (status == EXIT_OK) {
            fill(&screen, &l, image);
            fputs(screen.text, stdout);
        }
    }
    link_close(&l);
    return status;
}
