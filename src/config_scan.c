/* SPDX-License-Identifier: MIT */
#include "config_parts.h"
#include "evecc/log.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LINE_LIMIT = 1022 }; /* iniparser 4.1 reads a line into 1024 bytes */

struct scan {
    struct loader *l;
    struct section *section; /* NULL: none yet, or an unknown one */
    unsigned line;
    bool begun; /* a section was seen */
    FILE *copy; /* the lines that are good, for iniparser */
};

/* Letters to insert, delete or replace on the way from A to B; a beginning counts as
 * close. */
static unsigned distance(const char *a, const char *b)
{
    enum { LONGEST = 32 };
    unsigned row[LONGEST + 1];
    size_t la = strlen(a), lb = strlen(b);

    if (la > LONGEST || lb > LONGEST)
        return UINT_MAX;
    if (la > 3 && !strncmp(a, b, la))
        return 1;
    for (unsigned j = 0; j <= lb; j++)
        row[j] = j;
    for (unsigned i = 1; i <= la; i++) {
        unsigned diagonal = row[0];

        row[0] = i;
        for (unsigned j = 1; j <= lb; j++) {
            unsigned replace = diagonal + (a[i - 1] != b[j - 1]);
            unsigned other = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);

            diagonal = row[j];
            row[j] = replace < other ? replace : other;
        }
    }
    return row[lb];
}

struct guess {
    const char *word; /* NULL: nothing is near */
    unsigned distance;
};

static void consider(struct guess *g, const char *word, const char *known)
{
    unsigned d = distance(word, known);

    if (d < g->distance)
        *g = (struct guess){known, d};
}

#define NOTHING_NEAR ((struct guess){NULL, 3})

static void unknown_key(struct scan *sc, const char *key)
{
    struct guess g = NOTHING_NEAR;
    char list[ALLOWED_MAX] = "", word[SHOWN_MAX];
    const char *title = sc->section->title;

    for (unsigned o = 0; o < OPTIONS; o++) {
        if (config_rows[o].kind != sc->section->kind)
            continue;
        consider(&g, key, config_table[o].key);
        config_append(list, sizeof list, *list ? ", " : "");
        config_append(list, sizeof list, config_table[o].key);
    }
    /* Without the value: it might be a password. */
    log_safe(key, word, sizeof word);
    if (g.word)
        config_complain(sc->l, sc->line, "[%s] %s: unknown key; did you mean %s?", title,
                        word, g.word);
    else
        config_complain(sc->l, sc->line, "[%s] %s: unknown key; allowed: %s", title, word,
                        list);
}

static void unknown_section(struct scan *sc, const char *title)
{
    struct guess g = NOTHING_NEAR;
    char word[SHOWN_MAX], first[CONFIG_NAME_MAX];

    snprintf(first, sizeof first, "%.*s", (int)strcspn(title, " \t"), title);
    for (unsigned k = 0; k < KINDS; k++)
        consider(&g, first, config_kinds[k]);
    config_complain(
        sc->l, sc->line,
        "[%s]: unknown section; %s%s%sallowed: [gateway], [easee], [listener NAME], "
        "[circuit NAME]",
        log_safe(title, word, sizeof word), g.word ? "did you mean " : "",
        g.word ? g.word : "", g.word ? "? " : "");
}

static char *trim(char *text)
{
    char *end;

    text += strspn(text, " \t\r");
    end = text + strlen(text);
    while (end > text && strchr(" \t\r", end[-1]))
        end--;
    *end = 0;
    return text;
}

static struct section *find_section(struct loader *l, enum kind kind, const char *name)
{
    for (size_t i = 0; i < l->sections; i++)
        /* iniparser does not tell capitals from small letters. */
        if (l->section[i].kind == kind && !strcasecmp(l->section[i].name, name))
            return &l->section[i];
    return NULL;
}

/* NULL: there are too many of this kind. */
static struct section *add_section(struct loader *l, enum kind kind, const char *name)
{
    size_t *count = kind == LISTENER ? &l->cfg.listeners : &l->cfg.circuits;
    struct section *s = &l->section[l->sections];

    if (kind == LISTENER || kind == CIRCUIT) {
        if (*count == (kind == LISTENER ? CONFIG_LISTENERS_MAX : CONFIG_CIRCUITS_MAX))
            return NULL;
        ++*count;
    }
    l->sections++;
    s->kind = kind;
    snprintf(s->name, sizeof s->name, "%s", name);
    snprintf(s->title, sizeof s->title, "%s%s%s", config_kinds[kind], *name ? " " : "",
             name);
    return s;
}

/* The kind that TITLE begins with, and the name after it; KINDS: none. */
static enum kind split_title(const char *title, const char **ret_name)
{
    for (unsigned k = 0; k < KINDS; k++) {
        size_t len = strlen(config_kinds[k]);

        if (!strncmp(title, config_kinds[k], len) && strchr(" \t", title[len])) {
            *ret_name = title + len + strspn(title + len, " \t");
            return k;
        }
    }
    return KINDS;
}

static void scan_section(struct scan *sc, char *text)
{
    char *end = strchr(text, ']');
    char word[SHOWN_MAX];
    const char *name;
    enum kind kind;
    bool named;

    sc->begun = true;
    sc->section = NULL;
    if (!end || end[1]) {
        config_complain(sc->l, sc->line,
                        "a section is [NAME] and nothing else on its line");
        return;
    }
    *end = 0;
    text = trim(text + 1);
    kind = split_title(text, &name);
    if (kind == KINDS) {
        unknown_section(sc, text);
        return;
    }
    log_safe(text, word, sizeof word);
    named = kind == LISTENER || kind == CIRCUIT;
    if (!named && *name) {
        config_complain(sc->l, sc->line, "[%s]: this section has no name; allowed: [%s]",
                        word, config_kinds[kind]);
        return;
    }
    if (named &&
        (!*name || strlen(name) >= CONFIG_NAME_MAX || !config_only(name, "_-"))) {
        config_complain(
            sc->l, sc->line,
            "[%s]: %s; allowed: [%s NAME], 1 to %d of letters, digits, _ and -", word,
            *name ? "not a name" : "a name is missing", config_kinds[kind],
            CONFIG_NAME_MAX - 1);
        return;
    }
    sc->section = find_section(sc->l, kind, name);
    if (sc->section && sc->section->line)
        config_complain(sc->l, sc->line, "[%s]: a second time, the first is in line %u",
                        word, sc->section->line);
    else if (!sc->section)
        sc->section = add_section(sc->l, kind, name);
    if (!sc->section) {
        config_complain(sc->l, sc->line,
                        "[%s]: too many; allowed: %d listeners, %d circuits", word,
                        CONFIG_LISTENERS_MAX, CONFIG_CIRCUITS_MAX);
        return;
    }
    if (!sc->section->line)
        sc->section->line = sc->line;
    fprintf(sc->copy, "[%s]\n", sc->section->title);
}

/* What iniparser would make of VALUE without a word: the rest of a line behind a quote
 * that is closed early or never, a value cut at ; or #, the next line joined to it. NULL:
 * nothing. */
static const char *trap(const char *value)
{
    const char *end;

    if (*value == '"' || *value == '\'') {
        end = strpbrk(value + 1, *value == '"' ? "\"\\" : "'\\");
        if (!end || *end == '\\')
            return "quotes must be closed, without a backslash between them";
        end += 1 + strspn(end + 1, " \t");
        if (*end && *end != ';' && *end != '#')
            return "only a comment may follow the quotes";
        return NULL;
    }
    end = strpbrk(value, ";#");
    if (end && end > value && end[-1] != ' ' && end[-1] != '\t')
        return "; or # begins a comment: put a blank before it, or the value in quotes";
    if (!end && *value && value[strlen(value) - 1] == '\\')
        return "a line is not continued by a backslash";
    return NULL;
}

static void scan_key(struct scan *sc, char *text)
{
    struct section *s = sc->section;
    char *equals = strchr(text, '=');
    char key[LINE_LIMIT + 1];
    const char *why;
    char *value;
    unsigned o = 0;

    if (!equals) {
        config_complain(sc->l, sc->line, "neither [SECTION] nor KEY = VALUE");
        return;
    }
    if (!sc->begun)
        config_complain(sc->l, sc->line, "before the first [SECTION]");
    if (!s)
        return;
    snprintf(key, sizeof key, "%.*s", (int)(equals - text), text);
    trim(key);
    while (o < OPTIONS &&
           (config_rows[o].kind != s->kind || strcmp(config_table[o].key, key) != 0))
        o++;
    if (o == OPTIONS) {
        unknown_key(sc, key);
        return;
    }
    if (s->key_line[o]) {
        config_complain(sc->l, sc->line,
                        "[%s] %s: a second time, the first is in line %u", s->title, key,
                        s->key_line[o]);
        return;
    }
    s->key_line[o] = sc->line;
    value = trim(equals + 1);
    why = trap(value);
    if (why) {
        s->bad |= BIT(o);
        config_complain(sc->l, sc->line, "[%s] %s: %s", s->title, key, why);
        return;
    }
    fprintf(sc->copy, "%s = %s\n", key, value);
}

static bool has_control(const char *text)
{
    for (; *text; text++)
        if (iscntrl((unsigned char)*text) && *text != '\t')
            return true;
    return false;
}

static void scan_line(struct scan *sc, char *text)
{
    text = trim(text);
    if (!*text || *text == '#' || *text == ';')
        return;
    if (strlen(text) > LINE_LIMIT - 2)
        config_complain(sc->l, sc->line, "longer than %d characters", LINE_LIMIT - 2);
    else if (has_control(text))
        config_complain(sc->l, sc->line, "a control character");
    else if (*text == '[')
        scan_section(sc, text);
    else
        scan_key(sc, text);
}

static void scan_lines(struct loader *l, char *text, FILE *copy)
{
    struct scan sc = {.l = l, .copy = copy};

    add_section(l, GATEWAY, "");
    add_section(l, EASEE, "");
    while (text) {
        char *line = strsep(&text, "\n");

        sc.line++;
        scan_line(&sc, line);
    }
}

static struct loader *complaining; /* iniparser's callback has no argument for it */

__attribute__((format(printf, 1, 2))) static int ini_complaint(const char *fmt, ...)
{
    char text[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    config_complain(complaining, 0, "%s", log_safe(text, text, sizeof text));
    return 0;
}

/* iniparser is shown what passed the scan: a sealed-off copy, so that nothing changes
 * between the scan and the reading, nor is anything in it that it misreads. */
void config_scan(struct loader *l, char *text)
{
    char path[sizeof "/proc/self/fd/" + 11];
    int fd = memfd_create("evecc.conf", MFD_CLOEXEC);
    FILE *copy = fd < 0 ? NULL : fdopen(fd, "w");

    if (!copy) {
        config_complain(l, 0, "no memory for it: %s", strerror(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    scan_lines(l, text, copy);
    if (fflush(copy) || ferror(copy)) {
        config_complain(l, 0, "no memory for it: %s", strerror(errno));
    } else {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        complaining = l;
        iniparser_set_error_callback(ini_complaint);
        l->ini = iniparser_load(path);
        iniparser_set_error_callback(NULL);
    }
    fclose(copy);
}
