# SPDX-License-Identifier: MIT
"""What the daemon is asked after every test. Starting ctr as often took a third of all the tests' time."""

import importlib
import json
import os
import subprocess
import sys

import grpc

PROTO = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "proto")
SERVICES = ("containers", "content", "images", "leases", "namespaces", "snapshots", "tasks")
TIMEOUT_S = 60
# Tests restart daemons, and what is asked may be asked twice.
RETRIES = {"methodConfig": [{"name": [{}], "retryPolicy": {
    "maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"]}}]}


class DaemonClient:
    def __init__(self, address, scratch):
        """address: as the programs take it. scratch: a folder for generated modules."""
        target = address.removeprefix("tcp://").removeprefix("http://")
        if target == address:
            target = "unix:" + address.removeprefix("unix://")
        self._channel = grpc.insecure_channel(
            target, options=[("grpc.service_config", json.dumps(RETRIES))])
        self._modules = self._generate(os.path.join(scratch, "proto"))

    @staticmethod
    def _generate(folder):
        if not os.path.isdir(folder):
            os.makedirs(folder)
            files = [name for name in os.listdir(PROTO) if name.endswith(".proto")]
            subprocess.run(["protoc", "--proto_path", PROTO, "--proto_path", "/usr/include",
                            "--python_out", folder, "protobuf-c/protobuf-c.proto", *files],
                           check=True)
        sys.path.insert(0, folder)
        return {name: importlib.import_module(name + "_pb2") for name in SERVICES}

    def _call(self, namespace, service, method, **fields):
        """Returns the reply; a list of replies where they are a stream."""
        file = self._modules[service].DESCRIPTOR
        (described,) = file.services_by_name.values()
        kinds = described.methods_by_name[method]
        request = getattr(self._modules[service], kinds.input_type.name)(**fields)
        reply = getattr(self._modules[service], kinds.output_type.name, None)
        is_stream = (service, method) == ("snapshots", "List")
        make = self._channel.unary_stream if is_stream else self._channel.unary_unary
        call = make(f"/{described.full_name}/{method}", lambda message: message.SerializeToString(),
                    reply.FromString if reply else bytes)
        answer = call(request, timeout=TIMEOUT_S, wait_for_ready=True,
                      metadata=[("containerd-namespace", namespace)])
        return list(answer) if is_stream else answer

    def tasks(self, namespace):
        return [task.id for task in self._call(namespace, "tasks", "List").tasks]

    def containers(self, namespace):
        return [one.id for one in self._call(namespace, "containers", "List").containers]

    def leases(self, namespace):
        return [lease.id for lease in self._call(namespace, "leases", "List").leases]

    def uploads(self, namespace):
        """Those that are not finished."""
        return [one.ref for one in self._call(namespace, "content", "ListStatuses").statuses]

    def snapshots(self, namespace, snapshotter, is_committed):
        """Names of those that are committed, or of the others."""
        kind = self._modules["snapshots"].COMMITTED
        replies = self._call(namespace, "snapshots", "List", snapshotter=snapshotter)
        return [info.name for reply in replies for info in reply.info
                if (info.kind == kind) == is_committed]

    def remove_images(self, namespace):
        """All of them, and what nothing else holds."""
        images = [image.name for image in self._call(namespace, "images", "List").images]
        for n, name in enumerate(images):
            self._call(namespace, "images", "Delete", name=name, sync=n + 1 == len(images))

    def remove_namespace(self, namespace):
        """One that still holds something stays."""
        try:
            self._call(namespace, "namespaces", "Delete", name=namespace)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
                raise

    def close(self):
        self._channel.close()
