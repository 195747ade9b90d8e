/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_ERROR_H
#define WFE_LIBCOMMON_ERROR_H

/*
 * One error value for both programs: owned by the caller, without heap.
 *
 * A function that can fail returns 0 or a negative errno and takes
 * `struct wfe_error *err` last. `err` is written once, where the failure is
 * seen, and untouched on success; each caller may put its context in front
 * with wfe_error_prefix(). `err` may be NULL where the text does not matter.
 *
 * Threads: a value belongs to one thread at a time.
 */

#include <stdarg.h>

/* A kind exists only where a caller acts differently upon it. */
enum wfe_error_kind {
    WFE_ERROR_NONE = 0,
    WFE_ERROR_INPUT,      /* a document, argument or name that the user must mend */
    WFE_ERROR_SYSTEM,     /* a system call failed: errnum says which way */
    WFE_ERROR_CONTAINERD, /* the daemon refused or failed: grpc_status says how */
    WFE_ERROR_ARCHIVE,    /* an archive is malformed or breaks the path policy */
    WFE_ERROR_INTEGRITY,  /* bytes do not match their digest or size */
    WFE_ERROR_LIMIT,      /* one of our bounds was reached */
    WFE_ERROR_TIMEOUT,    /* a time limit passed */
    WFE_ERROR_CANCELLED,  /* the user or a signal asked to stop */
    WFE_ERROR_INTERNAL,   /* a defect of ours, or memory ran out */
};

struct wfe_error {
    enum wfe_error_kind kind;
    int errnum;      /* positive errno value */
    int grpc_status; /* grpc_status_code, 0 when gRPC was not involved */
    char message[512];
};

#define WFE_ERROR_INIT                                                                             \
    {                                                                                              \
        .kind = WFE_ERROR_NONE                                                                     \
    }

/* The stable word for a kind, as it stands in a result's error.kind. */
const char *wfe_error_kind_name(enum wfe_error_kind kind);

/*
 * Record a failure. errnum is a positive errno; the text is printf-formatted
 * and cut at the size of `message`, on a UTF-8 boundary. Returns -errnum, so that
 * `return wfe_error_set(err, ...)` is the usual way out.
 */
int wfe_error_set(struct wfe_error *err, enum wfe_error_kind kind, int errnum, const char *format,
    ...) __attribute__((format(printf, 4, 5)));

/* WFE_ERROR_SYSTEM with ": " and the text of errnum added. Returns -errnum. */
int wfe_error_system(struct wfe_error *err, int errnum, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* WFE_ERROR_INTERNAL for exhausted memory. Returns -ENOMEM. */
int wfe_error_nomem(struct wfe_error *err);

/* Put "context: " in front of the message of a recorded failure; NULL is fine. Returns nothing
 * on purpose: the code to return is the failed call's. */
void wfe_error_prefix(struct wfe_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#ifdef WFE_ANALYSIS
/* That what is returned is negative, an analyser can't see from here. */
static inline int wfe_error_promised(int r)
{
    if (r >= 0)
        __builtin_unreachable();
    return r;
}
#define wfe_error_set(...) wfe_error_promised(wfe_error_set(__VA_ARGS__))
#define wfe_error_system(...) wfe_error_promised(wfe_error_system(__VA_ARGS__))
#define wfe_error_nomem(err) wfe_error_promised(wfe_error_nomem(err))
#endif

#endif
