/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_USER_H
#define WFE_EXECUTOR_USER_H

/*
 * Whom a step runs as: USER[:GROUP], each a number or a name of the image's /etc/passwd or
 * /etc/group, resolved as docker does.
 *
 * USER without GROUP has the primary group that the image's files know for it, a number without
 * an entry the group 0, and each group that names the user as a member. With GROUP there is that
 * one alone. UID:GID in numbers needs no file.
 *
 * Lines of the files that are malformed are passed over. Pure. Threads: calls are independent.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libcommon/error.h"

#define WFE_USER_MAX_NAME 256
#define WFE_USER_MAX_GROUPS 1024
#define WFE_USER_FILE_MAX_BYTES (1024 * 1024)

struct wfe_user {
    uint32_t uid, gid;
    uint32_t *groups; /* besides gid, none of them twice */
    size_t group_count;
};

void wfe_user_done(struct wfe_user *user);

/* Whether text has the form. Numbers are below 4294967295, names at most WFE_USER_MAX_NAME bytes
 * without blanks, control characters, ':' and '/', and begin with none of '-' and '+'. */
bool wfe_user_is_valid(const char *text);

/* The files of the image that a valid text is looked up in. */
#define WFE_USER_NEEDS_PASSWD 1u
#define WFE_USER_NEEDS_GROUP 2u
unsigned wfe_user_needs(const char *text);

/* Whether a valid text is a number alone, which means something without the files as well. */
bool wfe_user_is_number(const char *text);

/* A file of the image; data NULL: it is not there. */
struct wfe_user_file {
    const char *data; /* any bytes */
    size_t length;
};

/* Resolve a valid text. Errors: WFE_ERROR_INPUT (ENOENT: there is no such name), WFE_ERROR_LIMIT
 * (too many groups), WFE_ERROR_INTERNAL. The caller releases *ret with wfe_user_done(). */
int wfe_user_resolve(const char *text, struct wfe_user_file passwd, struct wfe_user_file group,
    struct wfe_user *ret, struct wfe_error *err);

#endif
