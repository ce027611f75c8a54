/* SPDX-License-Identifier: MIT
 * world.h - worlds and scenarios as JSON: what there is, and what happens when. */
#ifndef EASEESIM_WORLD_H
#define EASEESIM_WORLD_H

#include "sim.h"

/* The default world. */
extern const char world_default[];

/* Fills M, which is freshly initialised.  False: WHY (JSON_WHY bytes; NULL: WORLD is
 * known to be good) says what is wrong. */
bool world_load(const cJSON *world, struct model *m, char *why);

/* False: WHY (JSON_WHY bytes) says what is wrong. */
bool scenario_check(const cJSON *scenario, char *why);

/* The N-th event, and when it happens; NULL: there are no more. */
const cJSON *scenario_event(const cJSON *scenario, unsigned n);
uint64_t scenario_time_ms(const cJSON *event);
void scenario_run(struct sim *s, const cJSON *event);

#endif
