/* SPDX-License-Identifier: MIT
 * device.h - what the chargers of a circuit do: limits, phases, relays, current, energy.
 *
 * Pure.  The part of the model that knows electricity and firmware (easee-api 9). */
#ifndef EASEESIM_DEVICE_H
#define EASEESIM_DEVICE_H

#include "model.h"

/* Shares the circuit's limit out and moves every charger on it along.  To be called after
 * anything that a charger could react to. */
void device_decide(struct model *m, struct circuit *k);

/* When the charger next does something by itself; NEVER. */
uint64_t device_wake(const struct charger *c);

/* Does what is due by now: end of a stage, a step of the current, the end of a restart.
 */
void device_run(struct model *m, struct charger *c);

/* Opens the relays at once: unplugged, restarted, in error. */
void device_drop(struct model *m, struct charger *c);

/* Counts energy over DT_MS at the present current. */
void device_integrate(const struct model *m, struct charger *c, uint64_t dt_ms);

double device_power_w(const struct model *m, const struct charger *c);
int device_output_phase(const struct charger *c);

/* On terminals T1 to T5; which of them is L1 depends on the grid (easee-api 6.2). */
double device_terminal_a(const struct charger *c, int terminal);
double device_terminal_v(const struct model *m, const struct charger *c, int from,
                         int to);

#endif
