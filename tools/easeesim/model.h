/* SPDX-License-Identifier: MIT
 * model.h - sites, circuits, chargers and cars, and what the cloud knows of them.
 *
 * Pure: no I/O, no clock, no allocation.  Time is a parameter: simulated milliseconds
 * since the start, never decreasing.  The same seed and the same calls give the same
 * world.
 *
 * Two truths live side by side.  What a charger *does* is in setting[], dynamic_a[],
 * op_mode and so on; what the cloud *knows* is in the fields named _cloud and in seen[],
 * and becomes new only when the charger has answered a command or reported an
 * observation. */
#ifndef EASEESIM_MODEL_H
#define EASEESIM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ACCOUNTS_MAX = 8,
    SITES_MAX = 16,
    CIRCUITS_MAX = 256,
    CHARGERS_MAX = 256,
    COMMANDS_MAX = 256, /* the newest; older ones are forgotten */
    NAME_SIZE = 64,
    SERIAL_SIZE = 16,
    STAMP_SIZE = 48,
    TEXT_SIZE = 264 /* the longest text of an observation, NUL included */
};

#define NEVER UINT64_MAX

/* A charger's settings: SETTING_x indexes setting[]. */
enum setting {
#define SETTING(name, json, kind, command, obs, flash, initial) SETTING_##name,
#include "settings.def"
#undef SETTING
    SETTINGS
};

enum kind {
    KIND_BOOL = 2,
    KIND_REAL = 3,
    KIND_INT = 4,
    KIND_TEXT = 6
}; /* easee-api 6.5 */

struct setting_info {
    const char *json;
    enum kind kind;
    int command, obs; /* obs 0: not reported as an observation */
    bool flash;
    double initial;
};
extern const struct setting_info setting_info[SETTINGS];

/* Observations a charger reports: OBS_x indexes seen[]. */
enum {
#define OBS(id, kind, lo_ms, hi_ms, when, value) OBS_##id,
#include "observations.def"
#undef OBS
    OBSERVATIONS
};

struct seen {
    double value;
    uint64_t at_ms;  /* when the charger reported it */
    uint64_t due_ms; /* a report of the true value is on its way; NEVER */
    bool known;
    char text[TEXT_SIZE];
};

struct obs_info {
    int id;
    enum kind kind;
};
extern const struct obs_info obs_info[OBSERVATIONS];

/* Switches for odd behaviour; quirks.def names and explains them. */
struct quirks {
#define QUIRK(name, initial, meaning) bool name;
#include "quirks.def"
#undef QUIRK
};

enum op_mode {
    OP_OFFLINE = 0,
    OP_DISCONNECTED = 1,
    OP_AWAITING_START = 2,
    OP_CHARGING = 3,
    OP_COMPLETED = 4,
    OP_ERROR = 5,
    OP_READY = 6,
    OP_AWAITING_AUTH = 7
};

enum stage { STAGE_IDLE, STAGE_STARTING, STAGE_CHARGING, STAGE_STOPPING };

/* What the charger does with commands. */
enum confirm { CONFIRM_NORMAL, CONFIRM_REJECT, CONFIRM_NEVER };

struct car {
    bool connected, full;
    double wants_a; /* below 6: the car takes nothing */
    int phases;     /* 1 or 3 */
};

struct charger {
    char serial[SERIAL_SIZE], name[NAME_SIZE];
    unsigned circuit; /* index */
    bool master;
    int product, firmware;
    int grid_type; /* detectedPowerGridType */
    bool online, error, authorised;
    enum confirm confirm;
    double cable_a;
    uint64_t answer_ms; /* from a command to its verdict; 0: as usual */
    struct car car;
    double setting[SETTINGS], setting_cloud[SETTINGS];
    uint64_t dynamic_ttl_ms; /* when the dynamic charger current lapses; NEVER */

    /* what it does now */
    enum stage stage;
    uint64_t stage_ms; /* when the stage ends by itself; NEVER */
    enum op_mode op_mode;
    int reason;          /* reasonForNoCurrent */
    double offer_a;      /* signalled to the car by the pilot */
    unsigned wires;      /* phases the relays would use now, bit 0 is L1 */
    unsigned relay;      /* phases whose relays are closed */
    bool stuck;          /* after 3p->1p at 6 A, until another limit is written */
    bool queued;         /* no share of the circuit was left */
    double share_a;      /* of the circuit, before anything else limits */
    double current_a[3]; /* flowing, by conductor L1 to L3 */
    uint64_t ramp_ms;    /* next step of the current; NEVER */
    uint64_t boot_ms;    /* back from a restart; NEVER */
    unsigned relay_switches, flash_writes, session;
    int reboot_reason;
    double session_kwh, lifetime_kwh, hour_kwh, last_hour_kwh, temperature_c;
    uint64_t session_start_ms;
    char session_text[TEXT_SIZE], start_text[TEXT_SIZE];

    /* what the cloud has seen of it */
    struct seen seen[OBSERVATIONS];
    uint64_t report_ms; /* the earliest due_ms */
};

struct circuit {
    int64_t id, panel;
    unsigned site; /* index */
    double rated_a;
    double max_a[3], offline_a[3], dynamic_a[3]; /* as the master has them */
    double max_cloud[3], offline_cloud[3], dynamic_cloud[3];
    bool idle_current;
    uint64_t ttl_ms; /* when dynamic_a lapses; NEVER */
    unsigned flash_writes;
};

struct site {
    int64_t id;
    unsigned account; /* index */
    char key[NAME_SIZE], name[NAME_SIZE];
    double rated_a;
};

struct account {
    char user[NAME_SIZE], phone[NAME_SIZE], password[256];
};

/* Device commands (easee-api 5.4). */
enum {
    CMD_REBOOT = 1,
    CMD_POLL_SINGLE = 2,
    CMD_POLL_ALL = 3,
    CMD_UPGRADE = 4,
    CMD_SETTINGS = 5,
    CMD_SMART_CHARGING = 11,
    CMD_OFFLINE_FALLBACK = 21,
    CMD_DYNAMIC_CIRCUIT = 22,
    CMD_MAX_CIRCUIT = 24,
    CMD_AUTHORISE = 25,
    CMD_DEAUTHORISE = 26,
    CMD_LOCK_CABLE = 30,
    CMD_DYNAMIC_CHARGER = 48,
    CMD_OVERRIDE_SCHEDULE = 60
};

/* Numbered as resultCode and the states of easee-api 5.5. */
enum verdict {
    VERDICT_SENT = 1,
    VERDICT_EXPIRED = 2,
    VERDICT_EXECUTED = 3,
    VERDICT_REJECTED = 4
};

struct order {
    int id;        /* CMD_x, or of a setting */
    int setting;   /* enum setting; -1: none */
    double arg[3]; /* phases, or one value in arg[0] */
    double ttl_min;
};

struct command {
    struct order order;
    unsigned charger; /* index */
    int64_t ticks;
    uint64_t sent_ms, due_ms; /* due: the charger answers, or the cloud gives up */
    uint64_t visible_ms;      /* GET /api/commands knows it from here on */
    uint64_t answered_ms;
    enum verdict verdict;
};

/* Who is told what the cloud learns, as it learns it; NULL: nobody. */
struct listener {
    void *arg;
    void (*observed)(void *arg, const struct charger *c, unsigned obs,
                     const struct seen *before);
    void (*answered)(void *arg, const struct command *q);
};

enum ttl_expiry { TTL_OFFLINE, TTL_MAXIMUM, TTL_NEVER };

struct model {
    uint64_t now_ms, unix0_ms; /* UNIX time = unix0_ms + now_ms */
    uint64_t weather_ms, hour_ms;
    uint64_t rng;
    int64_t last_ticks;
    struct quirks quirks;
    enum ttl_expiry ttl_expiry;
    struct listener listener;
    double voltage_v[3];
    unsigned n_accounts, n_sites, n_circuits, n_chargers;
    uint64_t n_commands; /* ever issued; command[n % COMMANDS_MAX] */
    struct account account[ACCOUNTS_MAX];
    struct site site[SITES_MAX];
    struct circuit circuit[CIRCUITS_MAX];
    struct charger charger[CHARGERS_MAX];
    struct command command[COMMANDS_MAX];
};

/* An empty world.  UNIX_MS is the wall-clock time of the start. */
void model_init(struct model *m, uint64_t seed, uint64_t unix_ms);

/* Each adds a thing with the defaults of a new installation and returns it, NULL when
 * full. The first charger of a circuit is its master. */
struct account *model_add_account(struct model *m, const char *user);
struct site *model_add_site(struct model *m, unsigned account, int64_t id);
struct circuit *model_add_circuit(struct model *m, unsigned site, int64_t id);
struct charger *model_add_charger(struct model *m, unsigned circuit, const char *serial);

/* All is added: chargers that can charge do, and the cloud has seen everything. */
void model_settle(struct model *m);

/* Lets the world run to NOW_MS; in the past: nothing. */
void model_advance(struct model *m, uint64_t now_ms);

/* When something next happens by itself. */
uint64_t model_wake(const struct model *m);

struct account *model_account(struct model *m, const char *user);
struct site *model_site(struct model *m, int64_t id);
struct circuit *model_circuit(struct model *m, int64_t id);
struct charger *model_charger(struct model *m, const char *serial);
struct charger *model_master(struct model *m, const struct circuit *k);

/* The cloud hands ORDER to charger C.  The command is valid until COMMANDS_MAX more are
 * sent. The charger answers within 0.5 to 1 s; if it is offline or CONFIRM_NEVER the
 * command expires. */
struct command *model_send(struct model *m, struct charger *c, const struct order *order);

/* The command with TICKS that the cloud already shows; NULL. */
struct command *model_command(struct model *m, const struct charger *c, int id,
                              int64_t ticks);

/* The newest command for C; NULL. */
const struct command *model_newest(const struct model *m, const struct charger *c);

/* Would ORDER change what the cloud has, or is about to have?  (Easee forwards changes
 * only.) */
bool model_changes(const struct model *m, const struct charger *c,
                   const struct order *order);

/* The world outside: a car comes, goes or changes its mind; the link to the cloud fails.
 */
void model_set_car(struct model *m, struct charger *c, const struct car *car);
void model_set_online(struct model *m, struct charger *c, bool online);
void model_reboot(struct model *m, struct charger *c, int reason);

/* Something was changed directly: work out what the chargers now do and will report. */
void model_touch(struct model *m);

uint64_t model_unix_ms(const struct model *m, uint64_t at_ms);
/* As "2026-01-05T11:58:02.000Z". */
void model_stamp(const struct model *m, uint64_t at_ms, char ret[static STAMP_SIZE]);

/* Random number in [lo, hi]. */
uint64_t model_random(struct model *m, uint64_t lo, uint64_t hi);

#endif
