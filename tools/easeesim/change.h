/* SPDX-License-Identifier: MIT
 * change.h - changes to the simulated world from outside the cloud's interface. */
#ifndef EASEESIM_CHANGE_H
#define EASEESIM_CHANGE_H

#include "sim.h"

/* Applies {"charger":...}, {"circuit":...}, {"account":...} or what concerns the cloud as
 * a whole, such as {"speed":...}.  False: WHY (JSON_WHY bytes) says what is wrong;
 * members before the wrong one stay applied. */
bool change_apply(struct sim *s, const cJSON *change, char *why);

const char *change_expiry_name(enum ttl_expiry e);
const char *change_confirm_name(enum confirm c);

#endif
