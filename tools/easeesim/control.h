/* SPDX-License-Identifier: MIT
 * control.h - the interface under /sim/: look at the world, change it, order faults. */
#ifndef EASEESIM_CONTROL_H
#define EASEESIM_CONTROL_H

#include "sim.h"

void control_answer(struct sim *s, const struct request *request,
                    struct response *response);

#endif
