/* SPDX-License-Identifier: MIT */
#include "config_parts.h"
#include "evecc/log.h"
#include "evecc/owner.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

const char *const config_kinds[KINDS] = {[GATEWAY] = "gateway",
                                         [EASEE] = "easee",
                                         [LISTENER] = "listener",
                                         [CIRCUIT] = "circuit"};

#define REQUIRED NULL
#define OPTION(section, key, type, default_value, low, high, unit, text) \
    {section, #key, #type, default_value, unit, text, low, high},
const struct config_option config_table[OPTIONS] = {
#define GATEWAY_OPT(...)  OPTION("gateway", __VA_ARGS__)
#define EASEE_OPT(...)    OPTION("easee", __VA_ARGS__)
#define LISTENER_OPT(...) OPTION("listener", __VA_ARGS__)
#define CIRCUIT_OPT(...)  OPTION("circuit", __VA_ARGS__)
#include "evecc/options.def"
};

const struct config_option *config_options(size_t *ret_count)
{
    *ret_count = OPTIONS;
    return config_table;
}

static bool wrong(struct value *v, const char *why)
{
    snprintf(v->why, sizeof v->why, "%s", why);
    return false;
}

const char *config_number(const char *text, uint64_t low, uint64_t high, uint64_t *ret)
{
    uint64_t n = 0;

    if (!*text || text[strspn(text, "0123456789")])
        return "not a whole number";
    if (text[0] == '0' && text[1])
        return "not a whole number: it begins with 0";
    for (const char *p = text; *p; p++) {
        n = n * 10 + (uint64_t)(*p - '0');
        if (n > high)
            return "out of range";
    }
    if (n < low)
        return "out of range";
    *ret = n;
    return NULL;
}

bool config_only(const char *text, const char *more)
{
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !strchr(more, *text))
            return false;
    return true;
}

static bool to_text(struct value *v)
{
    if (strlen(v->text) >= v->size)
        return wrong(v, "too long");
    memcpy(v->member, v->text, strlen(v->text) + 1);
    return true;
}

static bool to_uint(struct value *v)
{
    uint64_t n;
    const char *why = config_number(v->text, v->option->low, v->option->high, &n);

    if (why)
        return wrong(v, why);
    *(uint32_t *)v->member = (uint32_t)n;
    return true;
}

static const char *const level_words[] = {[LOG_LEVEL_ERROR] = "error",
                                          [LOG_LEVEL_WARNING] = "warning",
                                          [LOG_LEVEL_INFO] = "info",
                                          [LOG_LEVEL_DEBUG] = "debug",
                                          NULL};
static const char *const action_words[] = {[FALLBACK_HOLD] = "hold",
                                           [FALLBACK_PAUSE] = "pause",
                                           [FALLBACK_LIMIT] = "limit",
                                           NULL};
static const char *const owner_words[] = {
    [OWNER_NONE] = "none", [OWNER_FIRST] = "first", [OWNER_LAST] = "last", NULL};
static const char *const profile_words[] = {"native", NULL};
static const char *const bool_words[] = {[false] = "no", [true] = "yes", NULL};

static bool find_word(struct value *v, const char *const *words, unsigned *ret)
{
    for (unsigned i = 0; words[i]; i++)
        if (!strcmp(words[i], v->text)) {
            *ret = i;
            return true;
        }
    return wrong(v, "unknown word");
}

static bool to_bool(struct value *v)
{
    unsigned word;

    if (!find_word(v, bool_words, &word))
        return false;
    *(bool *)v->member = word;
    return true;
}

static bool to_level(struct value *v)
{
    return find_word(v, level_words, v->member);
}

static bool to_action(struct value *v)
{
    return find_word(v, action_words, v->member);
}

static bool to_profile(struct value *v)
{
    return find_word(v, profile_words, v->member);
}

static bool to_owner(struct value *v)
{
    return find_word(v, owner_words, v->member);
}

static bool to_nets(struct value *v)
{
    struct acl acl;
    char bad[64];

    if (!acl_parse(v->text, &acl, bad))
        return wrong(v, bad);
    /* An empty list means everyone: not what a lone comma was meant to say. */
    if (!acl.count)
        return wrong(v, "no network in it");
    memcpy(v->member, &acl, sizeof acl);
    return true;
}

bool config_address(const char *text, struct in6_addr *ret)
{
    struct in6_addr a = {
        .s6_addr = {[10] = 0xff, [11] = 0xff}
    };

    if (inet_pton(AF_INET, text, &a.s6_addr[12]) != 1 &&
        inet_pton(AF_INET6, text, &a) != 1)
        return false;
    *ret = a;
    return true;
}

static bool to_address(struct value *v)
{
    struct in6_addr a;

    return config_address(v->text, &a) ? to_text(v) : wrong(v, "not an IP address");
}

bool config_is_loopback(const char *host)
{
    char text[INET6_ADDRSTRLEN];
    bool bracket = host[0] == '[';
    size_t len = strcspn(host + bracket, "]");
    struct in6_addr a;

    if (!strcasecmp(host, "localhost"))
        return true;
    if (len >= sizeof text)
        return false;
    snprintf(text, len + 1, "%s", host + bracket);
    if (!config_address(text, &a))
        return false;
    return IN6_IS_ADDR_LOOPBACK(&a) || (IN6_IS_ADDR_V4MAPPED(&a) && a.s6_addr[12] == 127);
}

/* Takes HOST or [HOST] from *TEXT. */
static bool take_host(const char **text, char host[static CONFIG_TEXT_MAX])
{
    bool bracket = **text == '[';
    const char *begin = *text + bracket;
    size_t len = strcspn(begin, bracket ? "]" : ":/");
    struct in6_addr a;

    if (len == 0 || len >= CONFIG_TEXT_MAX)
        return false;
    snprintf(host, len + 1, "%s", begin);
    *text = begin + len + (bracket && begin[len]);
    return bracket ? begin[len] && inet_pton(AF_INET6, host, &a) == 1
                   : config_only(host, ".-");
}

static bool take_port(const char **text)
{
    char port[8];
    size_t len;
    uint64_t n;

    if (**text != ':')
        return true;
    len = strcspn(++*text, "/");
    if (len >= sizeof port)
        return false;
    snprintf(port, len + 1, "%s", *text);
    *text += len;
    return !config_number(port, 1, UINT16_MAX, &n);
}

static bool to_url(struct value *v)
{
    const char *p = v->text;
    char host[CONFIG_TEXT_MAX];
    bool plain = !strncmp(p, "http://", 7);
    size_t len = strlen(p);

    if (strchr(p, '@'))
        return wrong(v, "a user name or password has no place in it");
    if (!plain && strncmp(p, "https://", 8) != 0)
        return wrong(v, "neither https:// nor http://");
    p += plain ? 7 : 8;
    if (!take_host(&p, host) || !take_port(&p) || (*p && *p != '/'))
        return wrong(v, "host or port malformed");
    if (!config_only(p, "/-._~"))
        return wrong(v, "a query, a fragment or a character that a path may not have");
    if (plain && !config_is_loopback(host))
        return wrong(v, "plain http to another machine");
    if (len >= v->size)
        return wrong(v, "too long");
    while (v->text[len - 1] == '/')
        len--;
    snprintf(v->member, len + 1, "%s", v->text);
    return true;
}

static bool to_site(struct value *v)
{
    uint64_t id;
    const char *why;

    if (!config_only(v->text, "-"))
        return wrong(v, "neither a site key nor a number");
    if (!v->text[strspn(v->text, "0123456789")]) {
        why = config_number(v->text, 1, INT32_MAX, &id);
        if (why)
            return wrong(v, why);
    }
    return to_text(v);
}

static bool to_circuit(struct value *v)
{
    bool by_id = !strncmp(v->text, "id:", 3);
    uint64_t n;
    const char *why = config_number(v->text + (by_id ? 3 : 0), by_id, INT32_MAX, &n);

    return why ? wrong(v, why) : to_text(v);
}

static bool to_serial(struct value *v)
{
    return config_only(v->text, "") ? to_text(v) : wrong(v, "not a serial number");
}

/* clang-format off */
static const struct config_type
    type_TEXT    = {to_text, NULL, "1 to 255 characters"},
    type_PATH    = {to_text, NULL, "a path of at most 255 characters"},
    type_URL     = {to_url, NULL, "https://HOST[:PORT][/PATH], http:// to loopback only"},
    type_ADDRESS = {to_address, NULL, "an IPv4 or IPv6 address"},
    type_NETS    = {to_nets, NULL, "networks such as 10.0.0.0/8, fd00::/8"},
    type_UINT    = {to_uint, NULL, NULL},
    type_BOOL    = {to_bool, bool_words, NULL},
    type_LEVEL   = {to_level, level_words, NULL},
    type_ACTION  = {to_action, action_words, NULL},
    type_PROFILE = {to_profile, profile_words, NULL},
    type_OWNER   = {to_owner, owner_words, NULL},
    type_SITE    = {to_site, NULL, "a site key such as ABCD-1234, or the site id"},
    type_CIRCUIT = {to_circuit, NULL, "the number in the panel, or the id as id:12345"},
    type_SERIAL  = {to_serial, NULL, "up to 16 letters and digits"};
/* clang-format on */

#define ROW(kind, struct_name, key, type, ...)                                        \
    {kind, offsetof(struct struct_name, key), sizeof(((struct struct_name *)0)->key), \
     &type_##type},
const struct config_row config_rows[OPTIONS] = {
#define GATEWAY_OPT(...)  ROW(GATEWAY, config_gateway, __VA_ARGS__)
#define EASEE_OPT(...)    ROW(EASEE, config_easee, __VA_ARGS__)
#define LISTENER_OPT(...) ROW(LISTENER, config_listener, __VA_ARGS__)
#define CIRCUIT_OPT(...)  ROW(CIRCUIT, config_circuit, __VA_ARGS__)
#include "evecc/options.def"
};

void config_append(char *buf, size_t size, const char *text)
{
    size_t len = strlen(buf);

    snprintf(buf + len, size - len, "%s", text);
}

const char *config_allowed(enum option_id o, char buf[static ALLOWED_MAX])
{
    const struct config_type *type = config_rows[o].type;

    if (type->allowed)
        return type->allowed;
    if (!type->words) {
        snprintf(buf, ALLOWED_MAX, "%u to %u%s%s", config_table[o].low,
                 config_table[o].high, *config_table[o].unit ? " " : "",
                 config_table[o].unit);
        return buf;
    }
    *buf = 0;
    for (unsigned i = 0; type->words[i]; i++) {
        if (i)
            config_append(buf, ALLOWED_MAX, type->words[i + 1] ? ", " : " or ");
        config_append(buf, ALLOWED_MAX, type->words[i]);
    }
    return buf;
}

static enum option_id find_option(const char *section, const char *key)
{
    enum option_id o = 0;

    while (o < OPTIONS && (strcmp(config_table[o].section, section) != 0 ||
                           strcmp(config_table[o].key, key) != 0))
        o++;
    return o;
}

bool config_set(void *target, const char *section, const char *key, const char *text,
                char *why, size_t why_size)
{
    enum option_id o = find_option(section, key);
    const char *standard = o < OPTIONS ? config_table[o].default_value : NULL;
    char buf[ALLOWED_MAX];
    struct value v;

    if (o == OPTIONS) {
        snprintf(why, why_size, "no such option");
        return false;
    }
    if (!text)
        text = standard ? standard : "";
    v = (struct value){&config_table[o], text, (char *)target + config_rows[o].offset,
                       config_rows[o].size, ""};
    if (!*text && (!standard || !*standard)) {
        memset(v.member, 0, v.size);
        return true;
    }
    if (*text && config_rows[o].type->convert(&v))
        return true;
    snprintf(why, why_size, "%s; allowed: %s", *text ? v.why : "empty",
             config_allowed(o, buf));
    return false;
}

void config_defaults(struct config *ret)
{
    char why[WHY_MAX];

    *ret = (struct config){0};
    for (unsigned o = 0; o < OPTIONS; o++)
        if (config_rows[o].kind == GATEWAY || config_rows[o].kind == EASEE)
            config_set(config_rows[o].kind == EASEE ? (void *)&ret->easee : &ret->gateway,
                       config_table[o].section, config_table[o].key, NULL, why,
                       sizeof why);
}
