/* SPDX-License-Identifier: MIT */
#include "config_parts.h"
#include "evecc/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ERRORS_LIMIT = 1000 };

void config_complain(struct loader *l, unsigned line, const char *fmt, ...)
{
    char message[PATH_MAX + 1024];
    int len;
    va_list args;

    if (l->errors++ >= ERRORS_LIMIT) {
        if (l->errors == ERRORS_LIMIT + 1)
            l->report(l->arg, "more errors follow, not shown");
        return;
    }
    len = snprintf(message, PATH_MAX, line ? "%s:%u: " : "%s: ", l->path, line);
    if (len >= PATH_MAX)
        len = PATH_MAX - 1;
    va_start(args, fmt);
    vsnprintf(message + len, sizeof message - (size_t)len, fmt, args);
    va_end(args);
    l->report(l->arg, message);
}

const char *config_text(const struct loader *l, const struct section *s, enum option_id o)
{
    char key[sizeof s->title + CONFIG_NAME_MAX];

    if (!s->key_line[o])
        return config_table[o].default_value;
    snprintf(key, sizeof key, "%s:%s", s->title, config_table[o].key);
    return iniparser_getstring(l->ini, key, NULL);
}

/* The text as an error may show it: printable, not endless, and without the password that
 * somebody put into a URL. */
static const char *shown(enum option_id o, const char *text, char buf[static SHOWN_MAX])
{
    const char *at = strrchr(text, '@');

    if (at && !strcmp(config_table[o].type, "URL"))
        text = at;
    return log_safe(text, buf, SHOWN_MAX);
}

void config_refuse(struct loader *l, struct section *s, enum option_id o, const char *why,
                   const char *may_be)
{
    char buf[ALLOWED_MAX], value[SHOWN_MAX];

    s->bad |= BIT(o);
    config_complain(l, 0, "[%s] %s = %s: %s; allowed: %s", s->title, config_table[o].key,
                    shown(o, config_text(l, s, o), value), why,
                    may_be ? may_be : config_allowed(o, buf));
}

/* O_NONBLOCK, so that a FIFO does not hold us. */
int config_open(const char *path, int flags, struct stat *st, char why[static WHY_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | flags);

    if (fd < 0) {
        snprintf(why, WHY_MAX, "%s",
                 errno == ELOOP && flags ? "a symbolic link" : strerror(errno));
        return -1;
    }
    if (!fstat(fd, st) && S_ISREG(st->st_mode))
        return fd;
    snprintf(why, WHY_MAX, "%s",
             S_ISDIR(st->st_mode) ? "a directory" : "not a regular file");
    close(fd);
    return -1;
}

/* A file that nobody else may have changed, or read: FORBIDDEN are bits of its mode. */
static int open_guarded(const char *path, mode_t forbidden, struct stat *st,
                        char why[static WHY_MAX])
{
    int fd = config_open(path, O_NOFOLLOW, st, why);

    if (fd < 0)
        return -1;
    if (st->st_uid != 0 && st->st_uid != geteuid())
        snprintf(why, WHY_MAX, "owned by uid %u", (unsigned)st->st_uid);
    else if (st->st_mode & forbidden)
        snprintf(why, WHY_MAX, "%s by others (mode %04o)",
                 st->st_mode & forbidden & (S_IWGRP | S_IWOTH) ? "writable" : "readable",
                 (unsigned)st->st_mode & 07777);
    else
        return fd;
    close(fd);
    return -1;
}

/* At most SIZE bytes, -1 with errno. */
static ssize_t read_all(int fd, char *buf, size_t size)
{
    size_t len = 0;
    ssize_t n;

    do {
        n = read(fd, buf + len, size - len);
        if (n > 0)
            len += (size_t)n;
    } while (len < size && (n > 0 || (n < 0 && errno == EINTR)));
    return n < 0 ? -1 : (ssize_t)len;
}

/* The whole file as a string, freed by the caller; NULL: it is refused. */
static char *read_file(struct loader *l)
{
    char why[WHY_MAX] = "";
    char *text = NULL;
    ssize_t len = 0;
    struct stat st;
    int fd = open_guarded(l->path, S_IWGRP | S_IWOTH, &st, why);

    if (fd < 0)
        goto out;
    if (st.st_size > CONFIG_FILE_MAX) {
        snprintf(why, sizeof why, "too large");
        goto out;
    }
    text = malloc((size_t)st.st_size + 1);
    len = text ? read_all(fd, text, (size_t)st.st_size) : -1;
    if (len < 0)
        snprintf(why, sizeof why, "%s", strerror(errno));
    else if (memchr(text, 0, (size_t)len))
        snprintf(why, sizeof why, "a NUL byte in it");
    else
        text[len] = 0;
out:
    if (fd >= 0)
        close(fd);
    if (!*why)
        return text;
    config_complain(l, 0,
                    "%s; allowed: a text file of at most %d bytes, owned by root or uid "
                    "%u, that nobody else can write",
                    why, CONFIG_FILE_MAX, (unsigned)geteuid());
    free(text);
    return NULL;
}

/* The first line of the file FD; NULL: RET holds it, otherwise what is wrong with it. */
static const char *first_line(int fd, char ret[static CONFIG_PASSWORD_MAX])
{
    char buf[CONFIG_PASSWORD_MAX + 2]; /* with \r\n */
    ssize_t n = read_all(fd, buf, sizeof buf);
    size_t len = n < 0 ? 0 : (size_t)n;
    const char *newline = memchr(buf, '\n', len);
    const char *why = NULL;

    if (newline)
        len = (size_t)(newline - buf);
    if (len > 0 && buf[len - 1] == '\r')
        len--;
    if (n < 0)
        why = strerror(errno);
    else if (len == 0)
        why = "its first line is empty";
    else if (len >= CONFIG_PASSWORD_MAX)
        why = "its first line is too long";
    else if (memchr(buf, 0, len))
        why = "a NUL byte in its first line";
    else
        snprintf(ret, CONFIG_PASSWORD_MAX, "%.*s", (int)len, buf);
    explicit_bzero(buf, sizeof buf);
    return why;
}

/* A file that is for root alone is read by the service manager, which gives us what is in
 * it as a credential.  So the same option serves the service and a check by root. */
static bool is_for_root_alone(const char *path)
{
    return euidaccess(path, R_OK) != 0 && errno == EACCES;
}

/* A password may hold any character, a value of the INI file may not: so it has a file of
 * its own.  systemd gives credentials the modes 0400 and 0440. */
bool config_password(const char *file, char ret[static CONFIG_PASSWORD_MAX], char *why,
                     size_t why_size)
{
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    bool credential = !*file || (directory && is_for_root_alone(file));
    char path[PATH_MAX], guard[WHY_MAX] = "";
    const char *line = guard;
    struct stat st;
    int fd;

    if (credential && !directory) {
        snprintf(why, why_size, "no password_file and no systemd credential");
        return false;
    }
    snprintf(path, sizeof path, "%s%s", credential ? directory : file,
             credential ? "/easee-password" : "");
    fd = open_guarded(path, credential ? S_IWGRP | S_IRWXO : S_IRWXG | S_IRWXO, &st,
                      guard);
    if (fd >= 0) {
        line = first_line(fd, ret);
        close(fd);
    }
    if (line)
        snprintf(why, why_size, "%s%s", credential ? "credential easee-password: " : "",
                 line);
    return !line;
}

void config_read_password(struct loader *l, struct section *s)
{
    struct config_easee *c = s->target;
    char why[WHY_MAX];

    if (!*c->password_file && !getenv("CREDENTIALS_DIRECTORY")) {
        config_refuse(l, s, EASEE_password_file, "no password",
                      "a file, or empty with a systemd credential named easee-password");
        return;
    }
    if (config_password(c->password_file, c->password, why, sizeof why))
        return;
    s->bad |= BIT(EASEE_password_file);
    config_complain(l, 0,
                    "[%s] password_file = %s: %s; allowed: a file owned by root or uid "
                    "%u that nobody else can read, with the password of 1 to %d bytes in "
                    "its first line",
                    s->title, c->password_file, why, (unsigned)geteuid(),
                    CONFIG_PASSWORD_MAX - 1);
}

/* Gives every section its part of the configuration. */
static bool place_sections(struct loader *l)
{
    struct config *cfg = &l->cfg;
    struct config_listener *listener;
    struct config_circuit *circuit;

    listener = cfg->listener = calloc(cfg->listeners + 1, sizeof *listener);
    circuit = cfg->circuit = calloc(cfg->circuits + 1, sizeof *circuit);
    if (!listener || !circuit)
        return false;
    for (size_t i = 0; i < l->sections; i++) {
        struct section *s = &l->section[i];

        switch (s->kind) {
        case LISTENER:
            s->target = listener++;
            break;
        case CIRCUIT:
            s->target = circuit++;
            break;
        case EASEE:
            s->target = &cfg->easee;
            break;
        default:
            s->target = &cfg->gateway;
        }
    }
    return true;
}

static enum err load(struct config *ret, const char *path, bool without_password,
                     config_report *report, void *arg)
{
    struct loader *l = calloc(1, sizeof *l);
    enum err err;
    char *text;

    *ret = (struct config){0};
    if (!l) {
        report(arg, "out of memory");
        return ERR_CONFIG;
    }
    l->path = path;
    l->without_password = without_password;
    l->report = report;
    l->arg = arg;
    text = read_file(l);
    if (text)
        config_scan(l, text);
    if (l->ini && place_sections(l))
        config_judge(l);
    else if (!l->errors)
        config_complain(l, 0, "out of memory");
    err = l->errors ? ERR_CONFIG : ERR_OK;
    if (err == ERR_OK)
        *ret = l->cfg;
    else
        config_release(&l->cfg);
    iniparser_freedict(l->ini);
    explicit_bzero(l, sizeof *l); /* the password */
    free(l);
    free(text);
    return err;
}

enum err config_load(struct config *ret, const char *path, config_report *report,
                     void *arg)
{
    return load(ret, path, false, report, arg);
}

enum err config_load_public(struct config *ret, const char *path, config_report *report,
                            void *arg)
{
    return load(ret, path, true, report, arg);
}

void config_release(struct config *cfg)
{
    free(cfg->listener);
    free(cfg->circuit);
    explicit_bzero(cfg->easee.password, sizeof cfg->easee.password);
    *cfg = (struct config){0};
}
