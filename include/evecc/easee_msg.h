/* SPDX-License-Identifier: MIT
 * easee_msg.h - the texts exchanged with the Easee cloud: build a request, understand a
 * reply.
 *
 * Pure but for the memory cJSON takes and gives back within a call: no I/O, no clock. Any
 * bytes may arrive (easee-api 10; reliability F-35): the worst outcome is ERR_PARSE.
 *
 * Bodies to parse are NUL-terminated at BODY[LEN] and hold at most EASEE_BODY_MAX bytes;
 * keys are matched with their case; text after the document is an error; a double becomes
 * an integer here, once, range-checked, NaN and infinity refused.  64-bit values (ticks)
 * do not pass through a double.  Results are untouched on failure. */
#ifndef EVECC_EASEE_MSG_H
#define EVECC_EASEE_MSG_H

#include "evecc/charger.h"
#include "evecc/err.h"
#include "evecc/telemetry.h"

#include <stddef.h>

enum {
    EASEE_BODY_MAX = 256 * 1024,
    EASEE_TOKEN_MAX = 4096,
    EASEE_KEY_MAX = 32,
    EASEE_CHARGERS_MAX = 8
};

/* Requests.  Each writes a NUL-terminated JSON text into BUF of SIZE bytes and returns
 * its length, 0 when it does not fit.  Any byte sequence is legal in user, password and
 * tokens. */
size_t easee_msg_login(char *buf, size_t size, const char *user, const char *password);
size_t easee_msg_refresh(char *buf, size_t size, const char *access, const char *refresh);
/* Circuit settings (easee-api 3.2): all three phases, whole amps. */
size_t easee_msg_settings(char *buf, size_t size, struct amps amps);
/* One of the circuit's currents, as easee_msg_settings() all three phases.  All but the
 * dynamic ones are written to the charger's flash. */
enum easee_knob { EASEE_DYNAMIC, EASEE_MAX, EASEE_OFFLINE, EASEE_KNOBS };
size_t easee_msg_knob(char *buf, size_t size, enum easee_knob knob, struct amps amps);
/* The charger's own current (easee-api 5.1): EASEE_DYNAMIC, or EASEE_MAX, which is
 * written to flash. */
size_t easee_msg_charger(char *buf, size_t size, enum easee_knob knob, uint8_t amps);
/* dynamicCurrent (easee-api 4.2): the same with a time-to-live of 1 to 65535 minutes. */
size_t easee_msg_dynamic(char *buf, size_t size, struct amps amps, uint16_t ttl_min);

struct easee_token {
    int64_t expires_in_s;
    char access[EASEE_TOKEN_MAX];
    char refresh[EASEE_TOKEN_MAX];
};

/* Answer to login and refresh (easee-api 1.2). */
enum err easee_msg_token(const char *body, size_t len, struct easee_token *ret);

/* What an answer that is not 2xx means: status and body together (easee-api 5.6, 8.3).
 * 400 with errorCode 100 or InvalidUserPassword is ERR_CREDENTIALS; a 403 without an
 * Easee problem body, or a 429 whose text speaks of a block, is ERR_BLOCKED; 3xx is
 * ERR_REDIRECTED. DETAIL (may be NULL; at least DETAIL_SIZE bytes) receives title or text
 * as plain printable ASCII, cut to fit. */
enum err easee_msg_problem(unsigned http_status, const char *body, size_t len,
                           char *detail, size_t detail_size);

/* Which circuit is meant.  Empty texts and negative numbers: not given. */
struct easee_selector {
    int64_t site_id;
    int64_t circuit_id;
    int64_t panel_id;
    char site_key[EASEE_KEY_MAX];
    char charger[SERIAL_MAX + 1];
};

struct easee_circuit {
    int64_t site_id, circuit_id, panel_id;
    uint16_t rated_da;      /* the circuit's fuse as the cloud knows it; NA_U16 */
    uint16_t site_rated_da; /* the main fuse; NA_U16 */
    bool equalizer;         /* the site has one: another load balancer */
    uint8_t chargers;       /* in serial[], at most EASEE_CHARGERS_MAX */
    bool alone;             /* exactly one charger is on the circuit */
    char site_key[EASEE_KEY_MAX];
    char site_name[48];
    char serial[EASEE_CHARGERS_MAX][SERIAL_MAX + 1]; /* the master first */
    uint16_t product[EASEE_CHARGERS_MAX];            /* productCode, NA_U16 */
};

/* The id of the site with SITE_KEY in an answer to GET /api/sites; ERR_SITE_UNKNOWN. */
enum err easee_msg_find_site(const char *body, size_t len, const char *site_key,
                             int64_t *ret_site_id);

/* The circuit meant by SEL in an answer to GET /api/sites/{id} or
 * /api/chargers/{id}/site. With only a charger given, the circuit that holds it; with
 * nothing but a site, its only circuit.  With a charger given, that one alone is listed
 * in serial[] (alone still says whether others are there).  ERR_SITE_UNKNOWN when the
 * answer is for another site, ERR_CIRCUIT_UNKNOWN when no circuit, or more than one,
 * fits. */
enum err easee_msg_find_circuit(const char *body, size_t len,
                                const struct easee_selector *sel,
                                struct easee_circuit *ret);

/* As easee_msg_find_circuit() in a list of sites: GET /api/accounts/products. */
enum err easee_msg_find_listed(const char *body, size_t len,
                               const struct easee_selector *sel,
                               struct easee_circuit *ret);

/* All circuits in one site or in a list of them; at most MAX are kept. */
enum err easee_msg_circuits(const char *body, size_t len, struct easee_circuit *ret,
                            size_t max, size_t *ret_count);

struct easee_settings {
    uint16_t current_da[EASEE_KNOBS][PHASES]; /* NA_U16: null, or not there */
    bool equalizer;                           /* one is bound to the circuit */
};

/* GET .../settings with all it tells (easee-api 3.1). */
enum err easee_msg_circuit_settings(const char *body, size_t len,
                                    struct easee_settings *ret);

/* Dynamic currents out of GET .../settings or .../dynamicCurrent: deciamps, NA_U16 for
 * null, 10000 for the cloud's 1000.0. */
enum err easee_msg_currents(const char *body, size_t len, uint16_t ret_da[PHASES]);

struct easee_command {
    int64_t ticks; /* 0: none */
    int32_t command_id;
    char device[SERIAL_MAX + 1];
};

/* The commands an accepted POST announces: an empty body, [], an array or one object
 * (easee-api 3.2, 5.1).  At most MAX are kept. */
enum err easee_msg_commands(const char *body, size_t len, struct easee_command *ret,
                            size_t max, size_t *ret_count);

/* GET /state/{serial}/observations (easee-api 6.4); values as native JSON or as strings.
 * At most MAX are kept; entries that make no sense are left out. */
enum err easee_msg_observations(const char *body, size_t len, struct observation *ret,
                                size_t max, size_t *ret_count);

/* Unix milliseconds of an ISO 8601 UTC time such as 2026-01-05T11:58:02.123Z (fraction
 * and Z optional, offsets +hh:mm understood); false when it is none. */
bool easee_msg_time(const char *text, int64_t *ret_unix_ms);

/* productCode in words for register 7028, e.g. "Easee Home"; "Easee" when unknown. */
const char *easee_msg_product(uint16_t code);

#endif
