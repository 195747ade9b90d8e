# SPDX-License-Identifier: MIT
"""A gRPC server in front of the daemon's that passes every call on, and answers a chosen one with an
error, or tells a test of it: before the daemon gets it, or when it has carried it out."""

import collections
import concurrent.futures
import os
import threading

import grpc

# Events, waits, streams and what they overlap with: each call takes a thread.
CALLS_AT_ONCE = 64

# method: "Containers/Create". number: from 1, among the calls of that method. when: "before" the daemon
# gets it or "after" it has done it. answer: a grpc.StatusCode; or a function, after whose call all goes
# on as if nothing had been.
Fault = collections.namedtuple("Fault", "method number when answer")


class StatusProxy(grpc.GenericRpcHandler):
    """Serves at `path`. calls: the methods of all calls since the last reset(), in order; hits: how many
    met the fault."""

    WORDS = "the proxy's error"

    def __init__(self, path, target):
        self.path = path
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._under_way = 0
        self.reset()
        self._channel = grpc.insecure_channel("unix:" + target)
        self._server = grpc.server(
            concurrent.futures.ThreadPoolExecutor(CALLS_AT_ONCE), handlers=[self],
            options=[("grpc.max_receive_message_length", -1)])
        self._server.add_insecure_port("unix:" + path)
        self._server.start()

    def reset(self, fault=None):
        with self._lock:
            self.calls = []
            self.hits = 0
            self._fault = fault

    def await_idle(self, timeout):
        """Until the daemon has no call any more, also of a caller that is gone."""
        with self._idle:
            assert self._idle.wait_for(lambda: self._under_way == 0, timeout), self.calls

    def close(self):
        self._server.stop(None).wait()
        self._channel.close()
        if os.path.exists(self.path):
            os.unlink(self.path)

    def service(self, handler_call_details):
        """Of grpc.GenericRpcHandler: who answers a call."""
        full = handler_call_details.method
        method = full.rsplit(".", 1)[-1]
        with self._lock:
            self.calls.append(method)
            fault = self._fault
            is_due = fault and (method, self.calls.count(method)) == (fault.method, fault.number)
            self.hits += bool(is_due)
        # Messages stay bytes.
        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: self._answer(full, requests, context, is_due and fault))

    def _answer(self, method, requests, context, fault):
        call = self._pass_on(method, requests, context, fault)
        try:
            yield from self.replies(call, fault)
        except grpc.RpcError as error:
            context.set_trailing_metadata(error.trailing_metadata() or ())
            context.abort(error.code(), error.details())
        if fault and fault.when == "after":
            self._meet(fault, context)

    def replies(self, call, fault):
        """What the client gets of the daemon's replies (bytes)."""
        return call

    def _pass_on(self, method, requests, context, fault):
        """The call to the daemon."""
        with self._lock:
            self._under_way += 1
        try:
            if fault and fault.when == "before":
                self._meet(fault, context)
            metadata = [(key, value) for key, value in context.invocation_metadata()
                        if key.startswith("containerd-")]
            call = self._channel.stream_stream(method)(requests, metadata=metadata)
        except Exception:
            self._end()
            raise
        # False: it has ended.
        if not call.add_callback(self._end):
            self._end()
        if not context.add_callback(call.cancel):
            call.cancel()
        return call

    def _end(self):
        with self._idle:
            self._under_way -= 1
            self._idle.notify_all()

    def _meet(self, fault, context):
        if callable(fault.answer):
            fault.answer()
        else:
            context.abort(fault.answer, self.WORDS)
