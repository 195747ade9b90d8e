/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_CLEANUP_H
#define WFE_LIBCOMMON_CLEANUP_H

/*
 * Scope-bound release of local resources:
 *
 *     WFE_FREE char *path = NULL;
 *     WFE_CLOSE int fd = -1;
 *
 * A pointer leaves its scope alive with wfe_steal(&path). Remote objects
 * (lease, snapshot, container, task, mount) are never released this way:
 * their undo can fail and needs a deadline.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#define WFE_CLEANUP(function) __attribute__((cleanup(function)))

static inline void wfe_cleanup_free(void *pointer)
{
    free(*(void **)pointer);
}

static inline void wfe_cleanup_close(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
    }
}

static inline void wfe_cleanup_fclose(FILE **file)
{
    if (*file)
        fclose(*file);
}

static inline void wfe_cleanup_json(cJSON **json)
{
    cJSON_Delete(*json);
}

#define WFE_FREE WFE_CLEANUP(wfe_cleanup_free)
#define WFE_CLOSE WFE_CLEANUP(wfe_cleanup_close)
#define WFE_FCLOSE WFE_CLEANUP(wfe_cleanup_fclose)
#define WFE_JSON WFE_CLEANUP(wfe_cleanup_json)

/* Hand a pointer over: yields *pointer and leaves NULL behind. */
#define wfe_steal(pointer)                                                                         \
    __extension__({                                                                                \
        __typeof__(pointer) stolen_from = (pointer);                                               \
        __typeof__(*stolen_from) stolen = *stolen_from;                                            \
        *stolen_from = NULL;                                                                       \
        stolen;                                                                                    \
    })

/* The same for a descriptor: yields *fd and leaves -1 behind. */
static inline int wfe_steal_fd(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

#endif
