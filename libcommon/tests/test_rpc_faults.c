/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "content.pb-c.h"
#include "libcommon/rpc.h"
#include "libcommon/tests/faults.h"
#include "libcommon/tests/rpc_peer.h"
#include "namespaces.pb-c.h"

/* The client when its own allocations fail, and those of the messages that it unpacks. C core's
 * can't be borne: it ends the process. */

static struct rpc_peer peer;
static char directory[] = "/tmp/wfe-test-rpc-faults-XXXXXX";
static char target[64];
static struct wfe_rpc *rpc;

static int start(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    snprintf(target, sizeof target, "unix:%s/socket", directory);
    return rpc_peer_start(&peer, target) < 0 ? -1 : wfe_rpc_connect(target, NULL, &rpc, NULL);
}

static int stop(void **state)
{
    (void)state;
    wfe_rpc_free(rpc);
    rpc_peer_stop(&peer);
    unlink(target + strlen("unix:"));
    return rmdir(directory);
}

static int connect_and_part(void *context, struct wfe_error *err)
{
    (void)context;
    struct wfe_rpc *another;
    int r = wfe_rpc_connect(target, NULL, &another, err);
    if (r == 0)
        wfe_rpc_free(another);
    return r;
}

static int get(void *context, struct wfe_error *err)
{
    (void)context;
    struct wfe_rpc_context headers = {.namespace_ = "space", .lease = "lease", .timeout_ms = 60000};
    Namespaces__GetNamespaceRequest request = NAMESPACES__GET_NAMESPACE_REQUEST__INIT;
    request.name = (char *)"name";
    WFE_MESSAGE Namespaces__GetNamespaceResponse *reply = NULL;
    int r = wfe_rpc_unary(rpc, &headers,
        (struct wfe_rpc_method){&namespaces__namespaces__descriptor, "Get"}, &request.base,
        (ProtobufCMessage **)&reply, err);
    if (r == 0)
        assert_string_equal(reply->namespace_->name, "name");
    return r;
}

static int read_stream(void *context, struct wfe_error *err)
{
    (void)context;
    Content__ReadContentRequest request = CONTENT__READ_CONTENT_REQUEST__INIT;
    request.offset = 3;
    request.size = 1000;
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_rpc_start(rpc, NULL, (struct wfe_rpc_method){&content__content__descriptor, "Read"},
        &request.base, &call, err);
    size_t bytes = 0;
    while (r == 0) {
        WFE_MESSAGE Content__ReadContentResponse *message = NULL;
        r = wfe_rpc_receive(call, -1, (ProtobufCMessage **)&message, err);
        if (r == 0 && !message) {
            assert_int_equal(bytes, 3000);
            break;
        }
        bytes += message ? message->data.len : 0;
    }
    return r;
}

static int write_stream(void *context, struct wfe_error *err)
{
    (void)context;
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_rpc_start(rpc, NULL,
        (struct wfe_rpc_method){&content__content__descriptor, "Write"}, NULL, &call, err);
    Content__WriteContentRequest request = CONTENT__WRITE_CONTENT_REQUEST__INIT;
    request.ref = (char *)"ref";
    request.data.data = (uint8_t *)"data";
    request.data.len = 4;
    if (r == 0)
        r = wfe_rpc_send(call, &request.base, err);
    WFE_MESSAGE Content__WriteContentResponse *answer = NULL;
    if (r == 0)
        r = wfe_rpc_receive(call, -1, (ProtobufCMessage **)&answer, err);
    if (r == 0)
        assert_int_equal(answer->offset, 4);
    return r;
}

static void each_allocation_fails_once(void **state)
{
    (void)state;
    int (*const operations[])(void *context, struct wfe_error *err) = {
        connect_and_part, get, read_stream, write_stream};
    /* Sockets that C core opens while it connects are not ours. */
    assert_int_equal(get(NULL, NULL), 0);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        fault_each(FAULT_MEMORY, &(struct fault_case){.run = operations[i]});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
