/* SPDX-License-Identifier: MIT
 * config.h - the configuration file: read by iniparser, judged by options.def.
 *
 * Every value is read as text and converted strictly; all errors are reported, not only
 * the first, each with file, section, key, value and what is allowed. */
#ifndef EVECC_CONFIG_H
#define EVECC_CONFIG_H

#include "evecc/acl.h"
#include "evecc/easee_msg.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CONFIG_NAME_MAX = 32,
    CONFIG_TEXT_MAX = 256,
    CONFIG_LISTENERS_MAX = 16,
    CONFIG_CIRCUITS_MAX = 256,
    CONFIG_FILE_MAX = 1 << 20,
    CONFIG_PASSWORD_MAX = 256
};

/* A member per option.  What the special types become: SITE -> text; CIRCUIT -> text
 * (both are also decoded into `selector`); NETS -> struct acl; LEVEL, ACTION, PROFILE,
 * OWNER -> the enum value as unsigned. */
#define CONFIG_MEMBER(key, type, ...) CONFIG_MEMBER_##type(key)
#define CONFIG_MEMBER_TEXT(key)       char key[CONFIG_TEXT_MAX];
#define CONFIG_MEMBER_PATH(key)       char key[CONFIG_TEXT_MAX];
#define CONFIG_MEMBER_URL(key)        char key[CONFIG_TEXT_MAX];
#define CONFIG_MEMBER_ADDRESS(key)    char key[64];
#define CONFIG_MEMBER_NETS(key)       struct acl key;
#define CONFIG_MEMBER_UINT(key)       uint32_t key;
#define CONFIG_MEMBER_BOOL(key)       bool key;
#define CONFIG_MEMBER_LEVEL(key)      unsigned key;
#define CONFIG_MEMBER_ACTION(key)     unsigned key;
#define CONFIG_MEMBER_PROFILE(key)    unsigned key;
#define CONFIG_MEMBER_OWNER(key)      unsigned key;
#define CONFIG_MEMBER_SITE(key)       char key[EASEE_KEY_MAX];
#define CONFIG_MEMBER_CIRCUIT(key)    char key[EASEE_KEY_MAX];
#define CONFIG_MEMBER_SERIAL(key)     char key[SERIAL_MAX + 1];

struct config_gateway {
#define GATEWAY_OPT CONFIG_MEMBER
#include "evecc/options.def"
};

struct config_easee {
#define EASEE_OPT CONFIG_MEMBER
#include "evecc/options.def"
    char password[CONFIG_PASSWORD_MAX]; /* from password_file or the credential */
};

struct config_listener {
    char name[CONFIG_NAME_MAX];
#define LISTENER_OPT CONFIG_MEMBER
#include "evecc/options.def"
};

struct config_circuit {
    char name[CONFIG_NAME_MAX];
#define CIRCUIT_OPT CONFIG_MEMBER
#include "evecc/options.def"
    struct easee_selector selector; /* site, circuit and charger, decoded */
};

struct config {
    struct config_gateway gateway;
    struct config_easee easee;
    struct config_listener *listener; /* in the order of the file */
    struct config_circuit *circuit;
    size_t listeners, circuits;
};

/* Receives one error as a whole sentence without a newline. */
typedef void config_report(void *arg, const char *message);

/* Reads and judges PATH, and the password behind it.  Reports every error through REPORT
 * and returns ERR_CONFIG; RET is then empty.  On success RET owns memory, released with
 * config_release(); bytes that nothing uses are zero: sections compare by memcmp(). */
enum err config_load(struct config *ret, const char *path, config_report *report,
                     void *arg);

/* As config_load(), but leaves the password alone: for those who bring their own or need
 * none. */
enum err config_load_public(struct config *ret, const char *path, config_report *report,
                            void *arg);

/* Every option of [gateway] and [easee] at its default, those without one empty; no
 * listener, no circuit. */
void config_defaults(struct config *ret);

/* Sets the option KEY of SECTION ("gateway", "easee", "circuit"...) in its structure
 * TARGET to TEXT, judged as in a file.  TEXT NULL: its default.  False: WHY (at least 128
 * bytes) says what is wrong and what is allowed. */
bool config_set(void *target, const char *section, const char *key, const char *text,
                char *why, size_t why_size);

/* Decodes site, circuit and charger of C into its selector. */
void config_select(struct config_circuit *c);

/* The first line of the file PATH, guarded as password_file is; "": the systemd
 * credential. False: WHY says what is wrong. */
bool config_password(const char *path, char ret[static CONFIG_PASSWORD_MAX], char *why,
                     size_t why_size);

/* Frees what CFG owns and wipes the password.  An empty CFG is fine. */
void config_release(struct config *cfg);

/* One option, for the generated documents and the command line tool. */
struct config_option {
    const char *section; /* "gateway", "easee", "listener", "circuit" */
    const char *key;
    const char *type;          /* as in options.def */
    const char *default_value; /* NULL: required */
    const char *unit;
    const char *text;
    uint32_t low, high; /* of UINT */
};

/* The table in its order; RET_COUNT options.  Static storage. */
const struct config_option *config_options(size_t *ret_count);

/* HOST, as it stands in a URL, is this machine: secrets may go there without TLS. */
bool config_is_loopback(const char *host);

#endif
