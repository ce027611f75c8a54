/* SPDX-License-Identifier: MIT
 * log.h - one line, one fact: `key=value` pairs after a few words.
 *
 * Lines go to standard error, each in one write, with the <N> priority prefix of
 * sd-daemon when standard error is the journal (JOURNAL_STREAM), else with time and
 * level.  A line that cannot be written is dropped, and the next that can is preceded by
 * one that says how many were; logging never blocks for long and never fails.  Any
 * thread.  Nothing a client or the cloud sent reaches the log but through log_safe(). */
#ifndef EVECC_LOG_H
#define EVECC_LOG_H

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Lines above LEVEL are not written.  Default: info. */
void log_set_level(enum log_level level);

#define LOG_PRINTF __attribute__((format(printf, 1, 2)))
void log_error(const char *fmt, ...) LOG_PRINTF;   /* someone must act */
void log_warning(const char *fmt, ...) LOG_PRINTF; /* we coped */
void log_info(const char *fmt, ...) LOG_PRINTF;    /* a change */
void log_debug(const char *fmt, ...) LOG_PRINTF;   /* traffic */

/* TEXT with everything but printable ASCII replaced by '?', cut to SIZE; returns BUF. */
const char *log_safe(const char *text, char *buf, size_t size);

/* Lets one line through per INTERVAL_MS and counts the rest: true when the caller may
 * log; *RET_MISSED is then how many were held back since.  Zero-initialised.  Time passed
 * in. */
struct log_limit {
    uint64_t next_ms;
    uint32_t missed;
};
_Bool log_limit_pass(struct log_limit *l, uint32_t interval_ms, uint64_t now_ms,
                     uint32_t *ret_missed);

#endif
