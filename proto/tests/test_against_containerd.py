#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare our .proto files with those that containerd ships in its Go source package.

Ours may lack what we do not call, but whatever stands in them must be theirs: services,
methods with their types and stream flags, messages, fields with number, type, label, map and
oneof, enums and their values. What is newer than the installed files can't be compared: it is named.

usage: test_against_containerd.py [--ours DIR] [--theirs DIR]
Exit status: 0 the same, 1 a difference, 77 containerd's files are not installed.
"""

import argparse
import pathlib
import re
import sys

THEIRS = "/usr/share/gocode/src/github.com/containerd/containerd/api"
CGROUPS = pathlib.Path("/usr/share/gocode/src/github.com/containerd/cgroups")
GOOGLE = (
    "/usr/include/google/protobuf",
    "/usr/share/gocode/src/github.com/gogo/googleapis/google/rpc",
)
# Since containerd 1.7.
NEWER = ("containerd.services.streaming.v1.", "containerd.services.transfer.v1.",
         "containerd.types.transfer.")
HERE = pathlib.Path(__file__).resolve().parent

SCALARS = {
    "double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64",
    "fixed32", "fixed64", "sfixed32", "sfixed64", "bool", "string", "bytes",
}  # fmt: skip

TOKEN = re.compile(
    r"""\s+ | //[^\n]* | /\*.*?\*/
      | (?P<text>"(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*')
      | (?P<word>[A-Za-z_.][\w.]*)
      | (?P<number>-?\d[\w.]*)
      | (?P<mark>[{}()\[\]<>;=,:])""",
    re.VERBOSE | re.DOTALL,
)


class Parser:
    """Reads the part of the proto3 language that describes what goes over the wire."""

    def __init__(self, path):
        self.path = path
        self.package = ""
        self.facts = {}  # (kind, full name) -> description
        self.scopes = {}  # full name of what refers to a type -> the scope it stands in
        self.tokens = list(self.tokenize(path.read_text(encoding="utf-8")))
        self.at = 0
        self.parse_file()

    def tokenize(self, text):
        position = 0
        while position < len(text):
            match = TOKEN.match(text, position)
            if not match:
                raise SyntaxError(f"{self.path}: cannot read {text[position:position + 30]!r}")
            position = match.end()
            if match.lastgroup:
                yield match.group(match.lastgroup)

    def peek(self):
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, *expected):
        token = self.peek()
        if token is None or (expected and token not in expected):
            raise SyntaxError(f"{self.path}: found {token!r} where {expected} should stand")
        self.at += 1
        return token

    def skip_statement(self):
        """Up to the semicolon, over braces (an option's value may be a message)."""
        depth = 0
        while True:
            token = self.take()
            if token == "{":
                depth += 1
            elif token == "}":
                depth -= 1
            elif token == ";" and depth == 0:
                return

    def skip_block(self):
        self.take("{")
        depth = 1
        while depth:
            depth += {"{": 1, "}": -1}.get(self.take(), 0)

    def skip_field_options(self):
        if self.peek() == "[":
            depth = 0
            while True:
                depth += {"[": 1, "]": -1}.get(self.take(), 0)
                if depth == 0:
                    break
        self.take(";")

    def add(self, kind, name, scope, **description):
        self.facts[kind, name] = description
        self.scopes[kind, name] = scope

    def parse_file(self):
        while self.peek() is not None:
            token = self.peek()
            if token == "syntax":
                self.at += 1
                self.take("=")
                if self.take().strip("\"'") != "proto3":
                    raise SyntaxError(f"{self.path}: not proto3")
                self.take(";")
            elif token == "package":
                self.at += 1
                self.package = self.take()
                self.take(";")
            elif token in ("import", "option"):
                self.skip_statement()
            elif token == ";":
                self.at += 1
            elif token == "message":
                self.parse_message(self.package)
            elif token == "enum":
                self.parse_enum(self.package)
            elif token == "service":
                self.parse_service()
            else:
                raise SyntaxError(f"{self.path}: unknown statement {token!r}")

    def parse_message(self, scope):
        self.take("message")
        name = f"{scope}.{self.take()}"
        self.add("message", name, scope)
        self.take("{")
        self.parse_message_body(name, None)

    def parse_message_body(self, name, oneof):
        while True:
            token = self.peek()
            if token == "}":
                self.at += 1
                return
            if token == ";":
                self.at += 1
            elif token == "message" and self.tokens[self.at + 2] == "{":
                self.parse_message(name)
            elif token == "enum" and self.tokens[self.at + 2] == "{":
                self.parse_enum(name)
            elif token == "oneof":
                self.at += 1
                inner = self.take()
                self.take("{")
                self.parse_message_body(name, inner)
            elif token in ("option", "reserved", "extensions"):
                self.skip_statement()
            else:
                self.parse_field(name, oneof)

    def parse_field(self, message, oneof):
        label = "singular"
        if self.peek() in ("repeated", "optional", "required"):
            label = self.take()
        kind = self.take()
        if kind == "map" and self.peek() == "<":
            self.take("<")
            key = self.take()
            self.take(",")
            kind, label = self.take(), f"map by {key}"
            self.take(">")
        field = self.take()
        self.take("=")
        number = int(self.take(), 0)
        self.skip_field_options()
        self.add("field", f"{message}.{field}", message, number=number, type=kind, label=label,
                 oneof=oneof)  # fmt: skip

    def parse_enum(self, scope):
        self.take("enum")
        name = f"{scope}.{self.take()}"
        self.add("enum", name, scope)
        self.take("{")
        while self.peek() != "}":
            if self.peek() in ("option", "reserved"):
                self.skip_statement()
                continue
            value = self.take()
            self.take("=")
            number = int(self.take(), 0)
            self.skip_field_options()
            self.add("value", f"{name}.{value}", scope, number=number)
        self.take("}")

    def parse_service(self):
        self.take("service")
        name = f"{self.package}.{self.take()}"
        self.add("service", name, self.package)
        self.take("{")
        while self.peek() != "}":
            if self.peek() == "option":
                self.skip_statement()
                continue
            self.take("rpc")
            method = self.take()
            request, request_stream = self.parse_method_type()
            self.take("returns")
            reply, reply_stream = self.parse_method_type()
            if self.peek() == "{":
                self.skip_block()
            else:
                self.take(";")
            self.add("rpc", f"{name}.{method}", name, request=request,
                     request_stream=request_stream, reply=reply,
                     reply_stream=reply_stream)  # fmt: skip
        self.take("}")

    def parse_method_type(self):
        self.take("(")
        name = self.take()
        stream = name == "stream" and self.peek() != ")"
        if stream:
            name = self.take()
        self.take(")")
        return name, stream


def load(paths):
    """All facts of the files, with every reference resolved to a full name."""
    facts, scopes = {}, {}
    for path in paths:
        parser = Parser(path)
        for key, description in parser.facts.items():
            if key in facts:
                raise SyntaxError(f"{path}: {key[0]} {key[1]} is defined twice")
            facts[key] = description
            scopes[key] = parser.scopes[key]
    types = {name for kind, name in facts if kind in ("message", "enum")}
    for key, description in facts.items():
        for slot in ("type", "request", "reply"):
            if slot in description:
                description[slot] = resolve(description[slot], scopes[key], types)
    return facts


def resolve(name, scope, types):
    """The full name of a type, by protobuf's rule: innermost scope first."""
    if name in SCALARS:
        return name
    if name.startswith("."):
        return name[1:]
    while True:
        candidate = f"{scope}.{name}" if scope else name
        if candidate in types:
            return candidate
        if not scope:
            raise SyntaxError(f"type {name} is not defined")
        scope = scope.rpartition(".")[0]


def differences(ours, theirs):
    for (kind, name), description in sorted(ours.items()):
        other = theirs.get((kind, name))
        if other is None:
            yield f"{kind} {name}: not in containerd's files"
            continue
        for slot, value in description.items():
            if other[slot] != value:
                yield f"{kind} {name}: {slot} is {value!r}, containerd's is {other[slot]!r}"


def missing_methods(ours, theirs):
    """A service of ours is whole: a method that is left out would be missed late."""
    services = {name for kind, name in ours if kind == "service"}
    for kind, name in sorted(theirs):
        if kind == "rpc" and name.rpartition(".")[0] in services and (kind, name) not in ours:
            yield f"rpc {name}: missing in our files"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--ours", type=pathlib.Path, default=HERE.parent)
    arguments.add_argument("--theirs", type=pathlib.Path, default=pathlib.Path(THEIRS))
    options = arguments.parse_args()

    folders = [options.theirs, CGROUPS, *map(pathlib.Path, GOOGLE)]
    for folder in folders:
        if not folder.is_dir():
            print(f"skipped: {folder} is not there (apt-get install "
                  "golang-github-containerd-containerd-dev "
                  "golang-github-containerd-cgroups-dev golang-github-gogo-googleapis-dev "
                  "libprotobuf-dev)")  # fmt: skip
            return 77
    google = [
        pathlib.Path(folder) / path.name
        for folder in GOOGLE
        for path in sorted((options.ours / "google").glob("*/*.proto"))
        if (pathlib.Path(folder) / path.name).exists()
    ]
    containerd = [
        path
        for path in sorted([*options.theirs.rglob("*.proto"), *CGROUPS.rglob("*.proto")])
        # ttrpc defines the events service once more, under another package, for shims.
        if "ttrpc" not in path.parts
    ]
    ours = load(sorted(options.ours.rglob("*.proto")))
    theirs = load(containerd + google)
    absent = tuple(package for package in NEWER
                   if not any(name.startswith(package) for _, name in theirs))
    for package in absent:
        print(f"not compared: {package}*, which these containerd files have not got")
    ours = {key: value for key, value in ours.items() if not key[1].startswith(absent)}
    found = [*differences(ours, theirs), *missing_methods(ours, theirs)]
    for line in found:
        print(line)
    counts = {}
    for kind, _ in ours:
        counts[kind] = counts.get(kind, 0) + 1
    print("compared: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
    return 1 if found or counts.get("rpc", 0) == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
