"""Which errors say that a server or a client lacks a feature, and what is remembered of it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    InvalidOperation,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)

from gridproxy import Bucket
from gridproxy.runtime.capabilities import Capabilities, Feature, is_missing
from gridproxy.runtime.client_state import state_of
from gridproxy.runtime.sessions import own_session

ALL = set(Feature)
SAYS_MISSING: dict[str, tuple[PyMongoError, set[Feature]]] = {
    "CommandNotFound": (OperationFailure("no such command: 'bulkWrite'", 59), ALL),
    "CommandNotSupported": (OperationFailure("not before featureCompatibilityVersion 8.0", 115), ALL),
    "NotImplemented": (OperationFailure("not implemented yet", 238), ALL),
    "DocumentDB's feature": (OperationFailure("Feature not supported", 303), ALL),
    "DocumentDB's stage": (OperationFailure("Aggregation stage not supported", 304), ALL),
    "unknown field": (
        OperationFailure("BSON field 'bulkWrite.errorsOnly' is an unknown field", 40415),
        {Feature.BULK_WRITE, Feature.TRANSACTIONS},
    ),
    "unknown stage": (
        OperationFailure("Unrecognized pipeline stage name: $merge", 40324),
        {Feature.LOOKUP, Feature.MERGE, Feature.BINARY_SIZE},
    ),
    "unknown operator": (
        OperationFailure("Unrecognized expression '$binarySize'", 168),
        {Feature.LOOKUP, Feature.MERGE, Feature.BINARY_SIZE},
    ),
    "standalone": (OperationFailure("Transaction numbers are only allowed", 20), {Feature.TRANSACTIONS}),
    "old driver": (InvalidOperation("requires MongoDB server version 8.0+."), {Feature.BULK_WRITE}),
    "encryption": (InvalidOperation("does not currently support automatic encryption"), {Feature.BULK_WRITE}),
    "no sessions": (ConfigurationError("Sessions are not supported by this MongoDB deployment"), {Feature.SESSIONS}),
}
SAYS_NOTHING: dict[str, PyMongoError] = {
    "Unauthorized": OperationFailure("not authorized", 13),
    "no primary": NotPrimaryError("not primary", {"code": 10107}),
    "no primary, as an error": OperationFailure("not primary", 10107),
    "no connection": AutoReconnect("connection closed"),
    "write concern": WriteConcernError("waiting for replication timed out", 64),
    "write conflict": OperationFailure("WriteConflict", 112, {"errorLabels": ["TransientTransactionError"]}),
    "temporary, with a telling code": OperationFailure("shutting down", 59, {"errorLabels": ["RetryableWriteError"]}),
    "duplicate key": OperationFailure("E11000", 11000),
    "not in a transaction": OperationFailure("not allowed in a transaction", 263),
    "closed client": InvalidOperation("Cannot use AsyncMongoClient after close"),
    "options": ConfigurationError("reports wire version 6"),
}


@pytest.mark.parametrize("name", SAYS_MISSING)
def test_a_server_that_does_not_know_a_word_lacks_the_feature(name: str) -> None:
    error, features = SAYS_MISSING[name]
    assert {feature for feature in Feature if is_missing(feature, error)} == features


@pytest.mark.parametrize("name", SAYS_NOTHING)
def test_other_errors_say_nothing_about_features(name: str) -> None:
    assert [feature for feature in Feature if is_missing(feature, SAYS_NOTHING[name])] == []


def test_a_fallback_is_kept_with_its_reason_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gridproxy")
    capabilities = Capabilities()
    refused = OperationFailure("no such command: 'bulkWrite', full error: {'ok': 0.0}", 59)
    assert not capabilities.is_refused(Feature.BULK_WRITE, OperationFailure("not authorized", 13))
    assert [capabilities.is_refused(Feature.BULK_WRITE, refused) for _ in range(2)] == [True, True]
    assert capabilities.missing == {"client bulk write": "no such command: 'bulkWrite'"}
    assert [record.getMessage() for record in caplog.records] == [
        "fallback chosen feature='client bulk write' reason=\"no such command: 'bulkWrite'\" "
        "instead='chunks are inserted first, then records'"
    ]
    assert "client bulk write: chunks are inserted first, then records, $lookup: native" in repr(capabilities)


async def test_sessions_are_decided_by_the_first_command_of_a_client(mongodb_uri: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        capabilities = Bucket(client["zoo"]).capabilities
        unknown = capabilities.sessions, capabilities.transactions
        assert unknown == (None, None)  # the client has not asked any server yet
        async with own_session(client) as session:
            assert session is not None
        assert (capabilities.sessions, capabilities.transactions) == (True, True)
        assert state_of(client).capabilities is capabilities
