/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_RUN_SERVICES_H
#define WFE_EXECUTOR_RUN_SERVICES_H

/*
 * The services of a run: those of the workflow that its data do not know as being up already
 * (`services`), brought up before the first step and taken down after the last.
 */

#include "executor/run/run.h"

struct wfe_run_services;

/* Bring them up, and put them into the workflow's data. *ret is NULL when there are none. Errors:
 * those of wfe_connect() and wfe_services_up(). */
int wfe_run_services_up(struct wfe_workflow *workflow, const struct wfe_run_options *options,
    struct wfe_run_services **ret, struct wfe_error *err);

/* Whether one has ended meanwhile, which has triggered the options' token: err tells of it. */
bool wfe_run_services_ended(struct wfe_run_services *services, struct wfe_error *err);

/* Take them down; NULL is fine. */
void wfe_run_services_down(struct wfe_run_services *services);

#endif
