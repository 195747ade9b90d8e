/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_DOCKER_CONFIG_H
#define WFE_EXECUTOR_DOCKER_CONFIG_H

/*
 * What `docker login` has kept: config.json in $DOCKER_CONFIG, else ~/.docker, with the credentials
 * of each registry (auths), or with the programs that keep them (credHelpers, credsStore:
 * docker-credential-NAME, which gets the registry on standard input and answers with JSON).
 *
 * A registry is looked for by its host, with or without a scheme and a path; docker.io is
 * "https://index.docker.io/v1/" there.
 *
 * Limits: 1 MiB of configuration, 64 KiB of a program's answer, 30 s for it.
 */

#include "executor/image/registry_auth.h"

/*
 * The credentials for host; none is no error. Errors: WFE_ERROR_INPUT that names the file or the
 * program (malformed, not there, it failed), WFE_ERROR_LIMIT, WFE_ERROR_SYSTEM, WFE_ERROR_TIMEOUT,
 * WFE_ERROR_CANCELLED.
 */
int wfe_docker_config_find(const char *host, struct wfe_cancel *cancel,
    struct wfe_registry_credentials *ret, struct wfe_error *err);

/* The same in the text of a configuration, programs left out: *ret_program (allocated) is the NAME
 * of the one to be asked first, NULL for none. Errors: WFE_ERROR_INPUT, WFE_ERROR_INTERNAL. */
int wfe_docker_config_parse(const char *text, size_t length, const char *host,
    struct wfe_registry_credentials *ret, char **ret_program, struct wfe_error *err);

#endif
