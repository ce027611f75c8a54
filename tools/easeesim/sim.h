/* SPDX-License-Identifier: MIT
 * sim.h - the simulated cloud as a whole: one request in, one answer out.
 *
 * No sockets and no clock: real time is a parameter, in microseconds from any origin,
 * never decreasing.  Simulated time runs SPEED times as fast and is brought up to date at
 * each call, with the scenario's events at their exact moments. */
#ifndef EASEESIM_SIM_H
#define EASEESIM_SIM_H

#include "faults.h"
#include "hub.h"
#include "ledger.h"
#include "limits.h"
#include "message.h"
#include "model.h"
#include "tokens.h"

#include <cjson/cJSON.h>

struct sim_options {
    double speed;
    uint64_t seed;
    bool legacy_state;
    const cJSON *world; /* borrowed for the simulator's life; checked by world_load() */
    const cJSON *scenario; /* the same, by scenario_check(); NULL: none */
};

struct sim {
    struct sim_options options;
    double speed, base_ms; /* simulated time at BASE_US of real time */
    uint64_t base_us, real_us, real_unix_ms;
    unsigned next_event; /* of the scenario */
    bool quit;           /* asked to end, once the answer is sent */
    struct model model;
    struct tokens tokens;
    struct limits limits;
    struct faults faults;
    struct hub hub;
    struct ledger ledger;
};

/* The initial world.  Also the way back to it.  S->ledger is initialised by the caller.
 */
void sim_reset(struct sim *s, uint64_t real_us, uint64_t unix_ms);

/* Answers REQUEST.  The response is initialised here; the caller releases it. */
void sim_answer(struct sim *s, const struct request *request, uint64_t real_us,
                uint64_t unix_ms, struct response *response);

/* Lets time pass; when something next happens by itself while somebody listens to the
 * hub, in real time; NEVER. */
void sim_run(struct sim *s, uint64_t real_us, uint64_t unix_ms);
uint64_t sim_wake_us(const struct sim *s);

/* The wall clock of the simulated world. */
uint64_t sim_unix_ms(const struct sim *s);

void sim_set_speed(struct sim *s, double speed);

/* Simulated milliseconds in the seconds of a client's clock, rounded up, at least 1. */
uint64_t sim_client_s(const struct sim *s, uint64_t ms);

#endif
