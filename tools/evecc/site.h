/* SPDX-License-Identifier: MIT
 * site.h - one circuit of the account: which it is, what is set, what its charger says.
 */
#ifndef EVECC_SITE_H
#define EVECC_SITE_H

#include "cloud.h"
#include "evecc/phase.h"
#include "evecc/telemetry.h"

struct site {
    struct config_circuit cfg; /* from the configuration or the command line */
    bool configured;           /* in the configuration */
    struct easee_circuit where;
    struct easee_settings settings;
    struct charger charger;  /* the master */
    uint16_t max_charger_da; /* observation 47 */
    uint16_t phase_mode;     /* observation 38: 1, 2 auto, 3 */
};

/* Which circuit is meant: of the command line, else the configuration, else the only one
 * of the account; found in the cloud.  Says what is wrong. */
enum exit_code site_find(struct cloud *c, struct site *ret);

/* Opens the cloud, finds the circuit and reads its settings.  Says what is wrong. */
enum exit_code site_start(const struct cli *cli, struct cloud *c, struct site *ret);

/* Nothing known. */
void site_init(struct site *s);

/* Looks s->cfg.selector up in the cloud; nothing is said. */
enum err site_resolve(struct cloud *c, struct site *s);

/* The circuit that the command line names, by site, circuit or charger, into s->cfg;
 * *RET_GIVEN: it does.  Says what is wrong. */
enum exit_code site_from_flags(const struct cli *cli, struct site *s, bool *ret_given);

/* Reads the circuit's settings; the charger's observations. */
enum err site_read(struct cloud *c, struct site *s);
enum err site_observe(struct cloud *c, struct site *s);

/* Reads again, with OBSERVE the charger's observations too, until REACHED: 1, 2, 4 and 8
 * s apart.  ERR_NOT_CONFIRMED: that was not enough; ERR_SYSTEM: interrupted. */
enum err site_confirm(struct cloud *c, struct site *s, bool observe,
                      bool (*reached)(const struct site *s, const void *arg),
                      const void *arg);

/* Sets a current of the circuit, or of its first charger; nothing is waited for. */
enum err site_set(struct cloud *c, const struct site *s, enum easee_knob knob,
                  struct amps amps);
enum err site_set_charger(struct cloud *c, const struct site *s, enum easee_knob knob,
                          uint8_t amps);

/* Whether one phase alone is possible: three wired, TN grid, charger alone. */
bool site_may_switch(const struct site *s);

/* "10 / 10 / 10 A", "-" where it is not known. */
const char *site_amps_text(const uint16_t da[PHASES], char buf[static 48]);
cJSON *site_amps_json(const uint16_t da[PHASES]);

/* "Home (ABCD-1234), circuit 1, EH123456 Easee Home" */
void site_print_head(const struct site *s);
void site_head_json(const struct site *s, cJSON *to);

/* All circuits of the account; COUNT of at most MAX. */
enum err site_list(struct cloud *c, struct easee_circuit *ret, size_t max,
                   size_t *ret_count);

#endif
