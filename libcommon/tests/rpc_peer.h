/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_TESTS_RPC_PEER_H
#define WFE_LIBCOMMON_TESTS_RPC_PEER_H

/*
 * A gRPC server for the client's tests, in a process of its own: in the client's process C
 * core would serve both sides on whichever thread waits, and hide calls that stand still.
 *
 * Namespaces/Get: the name of the request says what comes back:
 *     status:CODE:TEXT   that status
 *     bytes:N            a name of N times 'x'
 *     hang               nothing
 *     garbage            bytes that are no message
 *     nothing            success without a message
 *     anything else      the name again, and the request's headers as labels
 * Content/Read: `offset` messages of `size` bytes each; with a digest the status DATA_LOSS
 * at the end.
 * Content/Write: each request answered with offset + length of the data; the ref
 * "exists" is refused with ALREADY_EXISTS, the ref "enough" ends the stream well.
 * Tasks/Wait: answered once `released` is set.
 */

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

/* Memory that test and server share. */
struct rpc_peer_state {
    atomic_uint ready;     /* the server listens */
    atomic_uint waiting;   /* calls of Tasks/Wait that have come in */
    atomic_uint hanging;   /* "hang" calls that have come in */
    atomic_uint cancelled; /* calls whose client went away */
    atomic_uint released;
    atomic_uint_least64_t streamed_bytes; /* by Content/Read, taken by the transport */
};

struct rpc_peer {
    struct rpc_peer_state *state;
    pid_t pid;
    int control; /* the server ends when it is closed */
};

/* To be called before the calling process uses gRPC. Returns 0 or -1. */
int rpc_peer_start(struct rpc_peer *peer, const char *address);
void rpc_peer_stop(struct rpc_peer *peer);

#endif
