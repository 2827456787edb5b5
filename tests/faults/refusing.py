"""Servers and clients that lack something, played by a link in front of the real server.

A profile is what a server is known to refuse, to ignore and to say about itself. The codes and the words are those of
the real server where it was asked (FerretDB 1.24, pymongo, MongoDB's source), and otherwise of its users' reports.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.encryption_options import AutoEncryptionOpts

from gridproxy.runtime.capabilities import Feature

from ..observing import Commands
from .link import Break, Link

__all__ = ["PROFILES", "Profile", "command", "open_profile", "option", "silence", "word"]

Command = Mapping[str, Any]
_STATE_KEYS = ("topologyVersion", "setVersion", "electionId", "lastWrite", "me", "primary", "passives", "arbiters")
_SET_KEYS = ("setName", "hosts", "secondary", *_STATE_KEYS)


@dataclass(frozen=True)
class Refusal:
    """An error in place of the answer to some commands. Without a code there is no answer at all."""

    concerns: Callable[[Command], bool]
    code: int | None
    text: str


def command(name: str, code: int, text: str) -> Refusal:
    """Refuse a command."""
    return Refusal(lambda command: next(iter(command)) == name, code, text)


def silence(name: str) -> Refusal:
    """Never answer a command."""
    return Refusal(lambda command: next(iter(command)) == name, None, "")


def option(path: str, code: int, text: str, *, of: type = object) -> Refusal:
    """Refuse an option of a command, such as `findAndModify.fields`, if its value is of this type."""
    name, _, key = path.partition(".")
    return Refusal(
        lambda command: next(iter(command)) == name and key in command and isinstance(command[key], of), code, text
    )


def word(name: str, code: int, text: str) -> Refusal:
    """Refuse a stage, an operator or an accumulator, wherever it is in a pipeline or a projection."""
    return Refusal(
        lambda command: _mentions(command.get("pipeline"), name) or _mentions(command.get("projection"), name),
        code,
        text,
    )


def _mentions(value: object, name: str) -> bool:
    if isinstance(value, Mapping):
        return name in value or any(_mentions(each, name) for each in value.values())
    return isinstance(value, list) and any(_mentions(each, name) for each in value)


def _transaction(code: int, text: str) -> Refusal:
    return Refusal(
        lambda command: "startTransaction" in command and next(iter(command)) not in ("find", "aggregate"), code, text
    )


def _concise_lookup(code: int, text: str) -> Refusal:
    """Refuse a `$lookup` that has fields and a pipeline."""

    def concerns(command: Mapping[str, Any]) -> bool:
        stages = command.get("pipeline") or []
        lookups = [stage["$lookup"] for stage in stages if "$lookup" in stage]
        return any("pipeline" in each and "localField" in each for each in lookups)

    return Refusal(concerns, code, text)


@dataclass(frozen=True)
class Profile:
    """How a server, or a client, differs from MongoDB 8. It is the `Rules` of a `Link`."""

    name: str
    hello: Mapping[str, object] = field(default_factory=dict)  # None takes a key away
    refusals: tuple[Refusal, ...] = ()
    ignored: tuple[str, ...] = ()  # options that are dropped, such as `find.min`
    options: Mapping[str, Any] = field(default_factory=dict)  # of the client
    encrypted: bool = False
    missing: frozenset[Feature] = frozenset()  # what the client has to learn

    def answer(self, command: dict[str, Any]) -> Mapping[str, Any] | Break | None:
        """Return the refusal of a command, after its ignored options were dropped."""
        name = next(iter(command))
        for each in self.ignored:
            of, *steps, key = each.split(".")
            if of == name:
                place: Any = command
                for step in steps:
                    place = place.get(step) or {}
                place.pop(key, None)
        for refusal in self.refusals:
            if refusal.concerns(command):
                if refusal.code is None:
                    return Break.STALL_BEFORE
                return {"ok": 0.0, "code": refusal.code, "codeName": f"Code{refusal.code}", "errmsg": refusal.text}
        return None

    def describe(self, hello: dict[str, Any]) -> None:
        """Change what the server says about itself."""
        for key, value in self.hello.items():
            if value is None:
                hello.pop(key, None)
            elif key in hello:
                hello[key] = value


def _without(*keys: str) -> Iterator[tuple[str, None]]:
    return ((key, None) for key in keys)


_PLAIN_UPDATES = "Failed to parse update: field must be of BSON type object"
PROFILES = [
    Profile("MongoDB 8"),
    Profile(
        "MongoDB 8, feature compatibility version 7.0",
        refusals=(command("bulkWrite", 115, "bulkWrite may not run with featureCompatibilityVersion 7.0"),),
        missing=frozenset({Feature.BULK_WRITE}),
    ),
    Profile(
        "MongoDB 4.4",
        hello={"maxWireVersion": 9},
        refusals=(
            command("bulkWrite", 59, "no such command: 'bulkWrite'"),
            _concise_lookup(9, "$lookup with 'pipeline' may not specify 'localField' or 'foreignField'"),
        ),
        missing=frozenset({Feature.BULK_WRITE, Feature.LOOKUP}),
    ),
    Profile(
        "standalone MongoDB 8",
        hello=dict(_without(*_SET_KEYS)),
        refusals=(_transaction(20, "Transaction numbers are only allowed on a replica set member or mongos"),),
        missing=frozenset({Feature.TRANSACTIONS}),
    ),
    Profile(
        "Amazon DocumentDB 5",
        hello={"maxWireVersion": 13, **dict(_without(*_STATE_KEYS))},
        refusals=(
            command("bulkWrite", 303, "Feature not supported: bulkWrite"),
            word("$merge", 304, "Aggregation stage not supported: '$merge'"),
            word("$binarySize", 303, "Feature not supported: '$binarySize'"),
            _concise_lookup(303, "Feature not supported: $lookup on multiple join conditions"),
            option("findAndModify.update", 9, _PLAIN_UPDATES, of=list),
            # The client has to say retryWrites=false.
            Refusal(
                lambda command: "txnNumber" in command and "autocommit" not in command,
                301,
                "Retryable writes are not supported",
            ),
        ),
        options={"retryWrites": False},
        missing=frozenset({Feature.BULK_WRITE, Feature.LOOKUP, Feature.MERGE, Feature.BINARY_SIZE}),
    ),
    Profile(
        "Azure Cosmos DB (RU)",
        hello={"maxWireVersion": 13, **dict(_without(*_STATE_KEYS))},
        refusals=(
            command("bulkWrite", 115, "Command bulkWrite not supported"),
            word("$merge", 40324, "Unrecognized pipeline stage name: $merge"),
            word("$binarySize", 168, "Unrecognized expression '$binarySize'"),
            _concise_lookup(115, "pipeline is not supported in $lookup"),
            option("findAndModify.update", 9, _PLAIN_UPDATES, of=list),
            option("find.min", 115, "min is not supported"),
        ),
        options={"retryWrites": False},
        missing=frozenset({Feature.BULK_WRITE, Feature.LOOKUP, Feature.MERGE, Feature.BINARY_SIZE}),
    ),
    Profile(
        "FerretDB 1",
        hello={"maxWireVersion": 21, **dict(_without(*_STATE_KEYS))},  # started with --repl-set-name
        refusals=(
            *(
                command(name, 59, f"no such command: '{name}'")
                for name in ("bulkWrite", "commitTransaction", "abortTransaction")
            ),
            *(
                word(stage, 238, f'`aggregate` stage "{stage}" is not implemented yet')
                for stage in ("$merge", "$lookup", "$unionWith")
            ),
            *(
                word(operator, 238, f"The operator {operator} is not implemented yet")
                for operator in ("$binarySize", "$arrayElemAt", "$cond", "$max", "$min", "$mergeObjects", "$literal")
            ),
            Refusal(
                lambda command: (
                    next(iter(command)) == "find"
                    and any(isinstance(each, Mapping) for each in (command.get("projection") or {}).values())
                ),
                238,
                "projection expression is not supported",
            ),
            option("findAndModify.fields", 238, 'findAndModify: support for field "fields" is not implemented yet'),
            option("findAndModify.update", 238, "Aggregation pipelines are not supported yet", of=list),
            _transaction(9, 'unknown field "startTransaction"'),
        ),
        ignored=tuple(f"find.{key}" for key in ("min", "max", "hint", "startTransaction", "autocommit", "txnNumber")),
        missing=frozenset(Feature) - {Feature.SESSIONS},
    ),
    Profile(
        "no sessions",
        hello=dict(_without("logicalSessionTimeoutMinutes", *_SET_KEYS)),
        refusals=(Refusal(lambda command: "lsid" in command, 40415, "unknown field 'lsid'"),),
        missing=frozenset({Feature.SESSIONS, Feature.TRANSACTIONS}),
    ),
    Profile(
        "mongo-java-server 1.47",
        hello={"maxWireVersion": 9, **dict(_without("helloOk", "logicalSessionTimeoutMinutes", *_SET_KEYS))},
        refusals=(
            command("hello", 59, "no such command: 'hello'"),
            command("bulkWrite", 59, "no such command: 'bulkWrite'"),
            word("$binarySize", 168, "Unrecognized expression '$binarySize'"),
            _concise_lookup(9, "Failed to parse $lookup"),
            option("findAndModify.update", 9, "Update argument must be an object", of=list),
            Refusal(lambda command: "lsid" in command, 9, "unknown field 'lsid'"),
        ),
        missing=frozenset(Feature) - {Feature.MERGE},
    ),
    Profile("MongoDB 8, automatic encryption", encrypted=True, missing=frozenset({Feature.BULK_WRITE})),
]


def _encryption() -> AutoEncryptionOpts:
    pytest.importorskip("pymongocrypt", reason="a client with automatic encryption needs pymongocrypt")
    # Bypassed, because the analysis of commands needs a shared library that no package registry has.
    return AutoEncryptionOpts({"local": {"key": os.urandom(96)}}, "keys.vault", bypass_auto_encryption=True)


@contextlib.asynccontextmanager
async def open_profile(
    uri: str, profile: Profile, commands: Commands | None = None
) -> AsyncIterator[tuple[AsyncMongoClient[dict[str, Any]], Link]]:
    """Yield a client that knows the server at `uri` only as the profile shows it, and the link between them."""
    encryption: dict[str, Any] = {"auto_encryption_opts": _encryption()} if profile.encrypted else {}
    async with (
        Link.to(uri, profile) as link,
        AsyncMongoClient[dict[str, Any]](
            link.uri,
            serverMonitoringMode="poll",
            event_listeners=[] if commands is None else [commands],
            **profile.options,
            **encryption,
        ) as client,
    ):
        yield client, link
