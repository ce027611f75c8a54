/* SPDX-License-Identifier: MIT
 * budget.h - how many calls may still leave, for one class of cloud endpoints.
 *
 * Pure: no I/O, no clock, no allocation.  NOW_MS is monotonic milliseconds and never goes
 * back.
 *
 * A budget keeps up to two rules "at most CALLS in any WINDOW_MS" over an exact sliding
 * window: it remembers the instant of each call, so no window anywhere ever holds more
 * than CALLS.  RESERVE of the CALLS are left for urgent calls (a decrease that protects a
 * fuse, the watchdog's fallback).  A pause (Retry-After) stops urgent calls too: obeying
 * it is what keeps the owner's address from being blocked (easee-api 8.2).
 *
 * Two 429 answers within ten minutes halve the CALLS of every rule for an hour; the
 * reserve within them stays (easee-api 8.2). */
#ifndef EVECC_BUDGET_H
#define EVECC_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

enum { BUDGET_RULES = 2, BUDGET_CALLS_MAX = 256 };

struct budget_rule {
    uint32_t window_ms;
    uint16_t calls;   /* 1 to BUDGET_CALLS_MAX; 0: the rule is not used */
    uint16_t reserve; /* of them, kept for urgent calls; less than half of calls */
};

struct budget {
    struct budget_rule rule[BUDGET_RULES];
    uint64_t at_ms[BUDGET_CALLS_MAX]; /* ring of the newest calls */
    uint64_t paused_until_ms;         /* 0: not paused */
    uint64_t halved_until_ms;         /* 0: not halved */
    uint64_t throttled_at_ms;         /* the last 429; NEVER: none */
    uint16_t next, held;              /* ring: next slot, slots in use */
};

/* Sets up B with up to BUDGET_RULES rules (COUNT of them).  Copies RULES. */
void budget_init(struct budget *b, const struct budget_rule *rules, unsigned count);

/* Milliseconds from NOW_MS until one more call may leave; 0: now. */
uint64_t budget_wait_ms(const struct budget *b, uint64_t now_ms, bool urgent);

/* Counts one call that leaves at NOW_MS.  The caller has seen budget_wait_ms() == 0; one
 * that was made without asking (a hidden retry of the HTTP library) is counted too. */
void budget_take(struct budget *b, uint64_t now_ms);

/* The cloud answered 429: no call for RETRY_AFTER_S seconds, clamped to 30..3600;
 * negative: no such header, 90 s.  A pause is never shortened. */
void budget_throttled(struct budget *b, int64_t retry_after_s, uint64_t now_ms);

/* No call before UNTIL_MS.  A pause is never shortened. */
void budget_pause(struct budget *b, uint64_t until_ms);

/* Calls left in the current window of rule 0, without the reserve. */
unsigned budget_left(const struct budget *b, uint64_t now_ms);

/* The account's budgets, one per class of endpoints, made from budgets.def. */
enum budget_class {
#define BUDGET(name, calls, reserve, window_s, meaning) BUDGET_##name,
#include "evecc/budgets.def"
#undef BUDGET
    BUDGET_CLASSES
};

struct budgets {
    struct budget of[BUDGET_CLASSES];
};

void budgets_init(struct budgets *b);

/* As budget_wait_ms() and budget_take(), for CLASS and BUDGET_ALL together. */
uint64_t budgets_wait_ms(const struct budgets *b, enum budget_class class,
                         uint64_t now_ms, bool urgent);
void budgets_take(struct budgets *b, enum budget_class class, uint64_t now_ms);

#endif
