/* SPDX-License-Identifier: MIT */
#include "cli.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_MAX = 1024, WIDTH = 78 };

/* ---- colours ---- */

const char *paint(enum style style)
{
    static const char *const codes[] = {
        [STYLE_PLAIN] = "\033[0m",    [STYLE_GOOD] = "\033[32m",
        [STYLE_WARNING] = "\033[33m", [STYLE_BAD] = "\033[31m",
        [STYLE_FAINT] = "\033[2m",    [STYLE_STRONG] = "\033[1m"};
    const char *off = getenv("NO_COLOR"), *term = getenv("TERM");

    if ((off != NULL && *off != '\0') || term == NULL || strcmp(term, "dumb") == 0 ||
        !isatty(STDOUT_FILENO))
        return "";
    return codes[style];
}

/* ---- errors ---- */

enum exit_code status_of(enum err err)
{
    switch (err) {
    case ERR_OK:
        return EXIT_OK;
    case ERR_SYSTEM:
        return EXIT_FAILED;
    case ERR_CONFIG:
    case ERR_CREDENTIALS:
        return EXIT_CONFIG;
    case ERR_BLOCKED:
    case ERR_THROTTLED:
        return EXIT_THROTTLED;
    case ERR_NOT_FOUND:
    case ERR_SITE_UNKNOWN:
    case ERR_CIRCUIT_UNKNOWN:
    case ERR_FORBIDDEN:
        return EXIT_NOT_FOUND;
    case ERR_BAD_REQUEST:
    case ERR_NOT_CONFIRMED:
    case ERR_REJECTED:
    case ERR_OVERRIDDEN:
    case ERR_EXPIRED:
        return EXIT_REFUSED;
    default: /* everything between us and the cloud */
        return EXIT_CLOUD;
    }
}

static enum exit_code say_failure(const struct cli *cli, enum exit_code status,
                                  const char *code, const char *remedy, const char *cause)
{
    progress_end();
    fflush(stdout);
    fprintf(stderr, "evecc: %s\n", cause);
    if (remedy != NULL && *remedy != '\0')
        fprintf(stderr, "       %s\n", remedy);
    if (cli->json) {
        cJSON *root = cJSON_CreateObject(),
              *error = cJSON_AddObjectToObject(root, "error");

        if (code != NULL)
            cJSON_AddStringToObject(error, "code", code);
        cJSON_AddNumberToObject(error, "exit", (double)status);
        cJSON_AddStringToObject(error, "cause", cause);
        if (remedy != NULL)
            cJSON_AddStringToObject(error, "remedy", remedy);
        print_json(root);
    }
    return status;
}

enum exit_code fail(const struct cli *cli, enum exit_code status, const char *remedy,
                    const char *cause, ...)
{
    char text[MESSAGE_MAX];
    va_list args;

    va_start(args, cause);
    vsnprintf(text, sizeof text, cause, args);
    va_end(args);
    return say_failure(cli, status, NULL, remedy, text);
}

/* errors.def speaks to the owner of a gateway. */
static const char *remedy(enum err err)
{
    switch (err) {
    case ERR_CREDENTIALS:
        return "Check user name (a phone number with its country code) and password; try "
               "them in the Easee app.";
    case ERR_UNAUTHORISED:
        return "Try again.";
    case ERR_THROTTLED:
        return "Wait as long as it says; look for other integrations on this line.";
    default:
        return err_remedy(err);
    }
}

enum exit_code fail_err(const struct cli *cli, enum err err, const char *detail,
                        const char *cause, ...)
{
    char what[MESSAGE_MAX / 2], text[MESSAGE_MAX];
    va_list args;

    va_start(args, cause);
    vsnprintf(what, sizeof what, cause, args);
    va_end(args);
    if (detail == NULL || *detail == '\0')
        snprintf(text, sizeof text, "%s: %s", what, err_text(err));
    else
        snprintf(text, sizeof text, "%s: %s (%s)", what, err_text(err), detail);
    return say_failure(cli, status_of(err), err_name(err), remedy(err), text);
}

void warn(const char *fmt, ...)
{
    char text[MESSAGE_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fflush(stdout);
    fprintf(stderr, "evecc: warning: %s\n", text);
}

enum exit_code print_json(cJSON *object)
{
    char *text = cJSON_Print(object);

    if (text != NULL)
        puts(text);
    cJSON_free(text);
    cJSON_Delete(object);
    return text != NULL ? EXIT_OK : EXIT_FAILED;
}

/* ---- text ---- */

void print_wrapped(FILE *to, const char *text, size_t column, size_t indent)
{
    size_t start = column;

    while (*text != '\0') {
        size_t len = strcspn(text, " ");

        if (column > start && column + 1 + len > WIDTH) {
            fprintf(to, "\n%*s", (int)indent, "");
            column = start = indent;
        } else if (column > start) {
            fputc(' ', to);
            column++;
        }
        fprintf(to, "%.*s", (int)len, text);
        column += len;
        text += len + strspn(text + len, " ");
    }
    fputc('\n', to);
}

static struct {
    FILE *terminal, *memory;
    char *text;
    size_t len;
} caught;

void text_begin(const struct cli *cli)
{
    caught.memory = cli->json ? open_memstream(&caught.text, &caught.len) : NULL;
    if (caught.memory == NULL)
        return;
    caught.terminal = stdout;
    stdout = caught.memory;
}

enum exit_code text_end(const struct cli *cli)
{
    cJSON *root;

    if (!cli->json)
        return EXIT_OK;
    if (caught.memory == NULL)
        return EXIT_FAILED;
    stdout = caught.terminal;
    fclose(caught.memory);
    root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "text", caught.text);
    free(caught.text);
    return print_json(root);
}

/* ---- progress ----
 *
 * A thread of its own, because what takes long may hold this one: a name server, a
 * connection attempt of libmodbus. */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool running, end;
    char what[WIDTH];
} line = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void put(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        return; /* a terminal that went away misses nothing */
}

static void *show_line(void *arg)
{
    struct timespec until;
    char text[2 * WIDTH];
    unsigned seconds = 0;

    (void)arg;
    clock_gettime(CLOCK_REALTIME, &until);
    pthread_mutex_lock(&line.lock);
    while (!line.end) {
        until.tv_sec++;
        while (!line.end &&
               pthread_cond_timedwait(&line.changed, &line.lock, &until) == 0)
            ;
        if (line.end)
            break;
        snprintf(text, sizeof text, "\r\033[K%s, %u s ", line.what, ++seconds);
        put(text);
    }
    if (seconds > 0)
        put("\r\033[K");
    pthread_mutex_unlock(&line.lock);
    return NULL;
}

void progress_begin(const char *what, ...)
{
    va_list args;

    progress_end();
    if (!isatty(STDERR_FILENO))
        return;
    va_start(args, what);
    vsnprintf(line.what, sizeof line.what, what, args);
    va_end(args);
    line.end = false;
    line.running = pthread_create(&line.thread, NULL, show_line, NULL) == 0;
}

void progress_end(void)
{
    if (!line.running)
        return;
    pthread_mutex_lock(&line.lock);
    line.end = true;
    pthread_cond_signal(&line.changed);
    pthread_mutex_unlock(&line.lock);
    pthread_join(line.thread, NULL);
    line.running = false;
}

bool parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *ret)
{
    uint64_t n = 0;

    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || n > (UINT64_MAX - 9) / 10)
            return false;
        n = n * 10 + (uint64_t)(*text - '0');
    }
    if (n < low || n > high)
        return false;
    *ret = n;
    return true;
}
