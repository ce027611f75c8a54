/* SPDX-License-Identifier: MIT
 * report.h - how the cloud learns what a charger does: observations, each with its delay.
 *
 * Pure. */
#ifndef EASEESIM_REPORT_H
#define EASEESIM_REPORT_H

#include "model.h"

/* Schedules a report of everything that differs from what the cloud has seen. */
void report_notice(struct model *m, struct charger *c);

/* Delivers the reports that are due; an offline charger delivers nothing. */
void report_run(struct model *m, struct charger *c);

/* The cloud has seen everything. */
void report_all(struct model *m, struct charger *c);

/* The charger re-reports observation ID now, changed or not. */
void report_again(struct model *m, struct charger *c, int id);

/* The cloud itself notes a value: the link to the charger came or went. */
void report_link(struct model *m, struct charger *c);

#endif
