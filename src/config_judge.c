/* SPDX-License-Identifier: MIT */
#include "config_parts.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static void judge_option(struct loader *l, struct section *s, enum option_id o)
{
    struct value v = {&config_table[o], config_text(l, s, o),
                      (char *)s->target + config_rows[o].offset, config_rows[o].size, ""};
    char buf[ALLOWED_MAX];

    if (s->bad & BIT(o))
        return;
    if (!v.text) {
        s->bad |= BIT(o);
        config_complain(l, 0, "[%s] %s: missing; allowed: %s", s->title,
                        config_table[o].key, config_allowed(o, buf));
        return;
    }
    /* Empty is a value where it is the default. */
    if (!*v.text && config_table[o].default_value && !*config_table[o].default_value)
        return;
    if (!*v.text)
        config_refuse(l, s, o, "empty", NULL);
    else if (!config_rows[o].type->convert(&v))
        config_refuse(l, s, o, v.why, NULL);
}

static void judge_currents(struct loader *l, struct section *s,
                           const struct config_circuit *c)
{
    char range[WHY_MAX];

    if (s->bad & (BIT(CIRCUIT_min_current) | BIT(CIRCUIT_max_current)))
        return;
    if (c->min_current > c->max_current) {
        snprintf(range, sizeof range, "%u to %u A, max_current",
                 config_table[CIRCUIT_min_current].low, c->max_current);
        config_refuse(l, s, CIRCUIT_min_current, "above max_current", range);
        return;
    }
    if (s->bad & BIT(CIRCUIT_fallback_current) || c->fallback_current == 0 ||
        (c->fallback_current >= c->min_current && c->fallback_current <= c->max_current))
        return;
    snprintf(range, sizeof range, "0, or %u to %u A, min_current to max_current",
             c->min_current, c->max_current);
    config_refuse(l, s, CIRCUIT_fallback_current, "out of range", range);
}

void config_select(struct config_circuit *c)
{
    struct easee_selector *sel = &c->selector;
    uint64_t id;

    *sel = (struct easee_selector){.site_id = -1, .circuit_id = -1, .panel_id = -1};
    if (!config_number(c->site, 1, INT32_MAX, &id))
        sel->site_id = (int64_t)id;
    else
        memcpy(sel->site_key, c->site, sizeof sel->site_key);
    if (!config_number(c->circuit, 0, INT32_MAX, &id))
        sel->panel_id = (int64_t)id;
    else if (*c->circuit && !config_number(c->circuit + 3, 1, INT32_MAX, &id))
        sel->circuit_id = (int64_t)id;
    memcpy(sel->charger, c->charger, sizeof sel->charger);
}

static const uint64_t selector_bits =
    BIT(CIRCUIT_site) | BIT(CIRCUIT_circuit) | BIT(CIRCUIT_charger);

static void judge_circuit(struct loader *l, struct section *s)
{
    struct config_circuit *c = s->target;

    memcpy(c->name, s->name, sizeof c->name);
    if (!(s->bad & BIT(CIRCUIT_phases)) && c->phases == 2)
        config_refuse(l, s, CIRCUIT_phases, "not possible", "1 or 3");
    if (!(s->bad & BIT(CIRCUIT_watchdog)) && c->watchdog > 0 && c->watchdog < 10)
        config_refuse(l, s, CIRCUIT_watchdog, "too short",
                      "0, which is off, or 10 to 65534 s");
    if (!(s->bad & BIT(CIRCUIT_fallback_phases)) && c->fallback_phases == 2)
        config_refuse(l, s, CIRCUIT_fallback_phases, "not possible", "0, 1 or 3");
    judge_currents(l, s, c);
    if (s->bad & selector_bits)
        return;
    config_select(c);
    if (!*c->site && !*c->charger) {
        s->bad |= selector_bits;
        config_complain(l, 0,
                        "[%s] site, charger: neither is given; allowed: the site of the "
                        "circuit, or a "
                        "charger on it",
                        s->title);
    }
}

/* A and B have an address in common. */
static bool nets_meet(const struct acl_net *a, const struct acl_net *b)
{
    unsigned bits = a->bits < b->bits ? a->bits : b->bits;

    for (unsigned i = 0; i < bits; i++)
        if ((a->addr[i / 8] ^ b->addr[i / 8]) & (0x80 >> i % 8))
            return false;
    return true;
}

/* A network with a right that never gets in is a mistake of its owner. */
static void judge_right(struct loader *l, struct section *s, enum option_id option,
                        const struct acl *allow, const struct acl *right)
{
    char address[INET6_ADDRSTRLEN], why[WHY_MAX];

    for (unsigned w = 0; allow->count && w < right->count; w++) {
        const struct acl_net *net = &right->net[w];
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
        bool v4 = net->bits >= 96 && !memcmp(net->addr, mapped, sizeof mapped);
        unsigned a = 0;

        while (a < allow->count && !nets_meet(net, &allow->net[a]))
            a++;
        if (a < allow->count)
            continue;
        inet_ntop(v4 ? AF_INET : AF_INET6, net->addr + (v4 ? 12 : 0), address,
                  sizeof address);
        snprintf(why, sizeof why, "%s/%u is not in allow, nobody could use it", address,
                 net->bits - (v4 ? 96u : 0u));
        config_refuse(l, s, option, why, "networks that allow lets in");
    }
}

static void judge_listener(struct loader *l, struct section *s)
{
    struct config_listener *c = s->target;

    memcpy(c->name, s->name, sizeof c->name);
    if (!(s->bad & (BIT(LISTENER_allow) | BIT(LISTENER_write))))
        judge_right(l, s, LISTENER_write, &c->allow, &c->write);
    if (!(s->bad & (BIT(LISTENER_allow) | BIT(LISTENER_priority))))
        judge_right(l, s, LISTENER_priority, &c->allow, &c->priority);
    if (!l->cfg.circuits)
        config_complain(l, 0, "%s: no circuit to serve; add a [circuit NAME]", s->title);
}

static void judge_easee(struct loader *l, struct section *s)
{
    struct config_easee *c = s->target;
    char why[WHY_MAX];
    struct stat st;
    int fd;

    if (!(s->bad & BIT(EASEE_password_file)) && !l->without_password)
        config_read_password(l, s);
    if (s->bad & BIT(EASEE_ca_file) || !*c->ca_file)
        return;
    fd = config_open(c->ca_file, 0, &st, why);
    if (fd < 0)
        config_refuse(l, s, EASEE_ca_file, why, "a file that can be read");
    else
        close(fd);
}

/* ---- two sections that contradict each other ---- */

/* Both at once cannot be bound: one address, or one that includes the other. */
static bool listeners_meet(const struct config_listener *a,
                           const struct config_listener *b)
{
    static const struct in6_addr any4 = {
        .s6_addr = {[10] = 0xff, [11] = 0xff}
    };
    struct in6_addr aa, bb;

    if (a->port != b->port || !config_address(a->address, &aa) ||
        !config_address(b->address, &bb))
        return false;
    if (IN6_IS_ADDR_UNSPECIFIED(&aa) || IN6_IS_ADDR_UNSPECIFIED(&bb) ||
        IN6_ARE_ADDR_EQUAL(&aa, &bb))
        return true;
    return IN6_IS_ADDR_V4MAPPED(&aa) && IN6_IS_ADDR_V4MAPPED(&bb) &&
           (IN6_ARE_ADDR_EQUAL(&aa, &any4) || IN6_ARE_ADDR_EQUAL(&bb, &any4));
}

static bool same_site(const struct easee_selector *a, const struct easee_selector *b)
{
    return (a->site_id >= 0 && a->site_id == b->site_id) ||
           (*a->site_key && !strcasecmp(a->site_key, b->site_key));
}

/* As far as can be told without asking the cloud.  A setpoint goes to a circuit, so two
 * chargers of one circuit are the same. */
static bool same_circuit(const struct easee_selector *a, const struct easee_selector *b)
{
    bool both_name_a_charger = *a->charger && *b->charger;

    if (both_name_a_charger && !strcasecmp(a->charger, b->charger))
        return true;
    if (a->circuit_id >= 0 && a->circuit_id == b->circuit_id)
        return true;
    if (!same_site(a, b) || a->panel_id != b->panel_id || a->circuit_id != b->circuit_id)
        return false;
    return a->panel_id >= 0 || !both_name_a_charger;
}

static void judge_circuits(struct loader *l, const struct section *first,
                           struct section *second)
{
    const struct config_circuit *a = first->target, *b = second->target;
    char why[WHY_MAX];

    if (!((first->bad | second->bad) & BIT(CIRCUIT_unit)) && a->unit == b->unit) {
        snprintf(why, sizeof why, "also the unit of [%s]", first->title);
        config_refuse(l, second, CIRCUIT_unit, why, "a unit of its own, 1 to 247");
    }
    if (!((first->bad | second->bad) & selector_bits) &&
        same_circuit(&a->selector, &b->selector)) {
        second->bad |= selector_bits;
        config_complain(
            l, 0,
            "[%s] site = %s, circuit = %s, charger = %s: also the circuit of [%s]; "
            "allowed: one section for a circuit",
            second->title, b->site, b->circuit, b->charger, first->title);
    }
}

static void judge_listeners(struct loader *l, const struct section *first,
                            struct section *second)
{
    const struct config_listener *a = first->target, *b = second->target;
    char why[WHY_MAX];

    if ((first->bad | second->bad) & (BIT(LISTENER_address) | BIT(LISTENER_port)) ||
        !listeners_meet(a, b))
        return;
    snprintf(why, sizeof why, "port %u is taken by [%s], which listens on %s", a->port,
             first->title, a->address);
    config_refuse(l, second, LISTENER_address, why, "another address or another port");
}

static void judge_pairs(struct loader *l)
{
    for (size_t j = 0; j < l->sections; j++) {
        struct section *second = &l->section[j];

        for (size_t i = 0; i < j; i++) {
            if (l->section[i].kind != second->kind)
                continue;
            if (second->kind == CIRCUIT)
                judge_circuits(l, &l->section[i], second);
            else if (second->kind == LISTENER)
                judge_listeners(l, &l->section[i], second);
        }
    }
}

/* A renewal costs two calls in the worst case, so a life four (doc/commissioning.md). One
 * minute of life for each circuit that has one: four calls a minute for all together,
 * half of what BUDGET_WRITE allows without its reserve, are left to setpoints. */
static void judge_renewals(struct loader *l)
{
    char why[WHY_MAX], range[WHY_MAX];
    unsigned renewed = 0;

    for (size_t i = 0; i < l->cfg.circuits; i++)
        renewed += l->cfg.circuit[i].deadman > 0;
    for (size_t i = 0; i < l->sections; i++) {
        struct section *s = &l->section[i];
        const struct config_circuit *c = s->target;

        if (s->kind != CIRCUIT || s->bad & BIT(CIRCUIT_deadman) || c->deadman == 0 ||
            c->deadman >= renewed)
            continue;
        snprintf(why, sizeof why,
                 "renewing it on %u circuits would use up the calls of the account",
                 renewed);
        snprintf(range, sizeof range, "0, or %u to %u min", renewed,
                 config_table[CIRCUIT_deadman].high);
        config_refuse(l, s, CIRCUIT_deadman, why, range);
    }
}

void config_judge(struct loader *l)
{
    static void (*const judges[KINDS])(struct loader *, struct section *) = {
        [EASEE] = judge_easee, [LISTENER] = judge_listener, [CIRCUIT] = judge_circuit};

    for (size_t i = 0; i < l->sections; i++) {
        struct section *s = &l->section[i];

        for (unsigned o = 0; o < OPTIONS; o++)
            if (config_rows[o].kind == s->kind)
                judge_option(l, s, o);
        if (judges[s->kind])
            judges[s->kind](l, s);
    }
    judge_pairs(l);
    judge_renewals(l);
    if (!l->cfg.listeners)
        config_complain(l, 0, "nobody could connect; add a [listener NAME]");
    if (!l->cfg.circuits && !l->cfg.listeners)
        config_complain(l, 0, "nothing to control; add a [circuit NAME]");
}
