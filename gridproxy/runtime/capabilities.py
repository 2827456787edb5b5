"""What the server and the driver can do, decided once for each client by the topology and by the first refusal."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from pymongo.errors import ConfigurationError, InvalidOperation, OperationFailure, PyMongoError
from pymongo.topology_description import TopologyDescription

from gridproxy.errors import STANDALONE

from .events import Event, log_event


class Feature(enum.StrEnum):
    """What some servers or clients do not have."""

    BULK_WRITE = "client bulk write"
    LOOKUP = "$lookup"
    MERGE = "$merge"
    BINARY_SIZE = "$binarySize"
    SESSIONS = "sessions"
    TRANSACTIONS = "transactions"


_INSTEAD = {
    Feature.BULK_WRITE: "chunks are inserted first, then records",
    Feature.LOOKUP: "a file's record and its first chunks are read by two commands",
    Feature.MERGE: "copies are sent through the client",
    Feature.BINARY_SIZE: "chunks are read to learn their sizes",
    Feature.SESSIONS: "commands are sent without a session",
    Feature.TRANSACTIONS: "transaction() raises TransactionsUnsupported",
}

# Codes by which a server says that it does not have a command, a stage, an operator or an option.
_MISSING = frozenset(
    {
        59,  # CommandNotFound
        115,  # CommandNotSupported: also MongoDB 8.0 while its featureCompatibilityVersion is 7.0
        238,  # NotImplemented: FerretDB
        303,  # Amazon DocumentDB: feature not supported
        304,  # Amazon DocumentDB: aggregation stage not supported
    }
)
# Codes that say the same about one feature. The package's own commands are valid, so a server that cannot parse one of
# them does not know a word in it.
_MISSING_FEATURE: Mapping[Feature, frozenset[int]] = {
    Feature.BULK_WRITE: frozenset({40415}),  # MongoDB 7.0 does not know the field `errorsOnly`
    # 9: no pipeline beside two fields (MongoDB 4.4). 28769: no sharded collection (MongoDB 5.0).
    Feature.LOOKUP: frozenset({9, 168, 28769, 40324}),
    Feature.MERGE: frozenset({168, 40324}),  # unrecognized stage
    # 168, 31325: unknown expression. 2, 9: no expressions in projections (MongoDB 4.2).
    Feature.BINARY_SIZE: frozenset({2, 9, 168, 31325, 40324}),
    # 9, 40415: unknown field `startTransaction`. 20: no transaction numbers on a standalone server.
    Feature.TRANSACTIONS: frozenset({9, 20, 40415}),
}
_TRANSIENT = ("TransientTransactionError", "RetryableWriteError")


class Capabilities:
    """What the server and the driver of one client can do.

    A feature counts as native until the server or the driver refuses it. Then a fallback replaces it for as long as the
    client lives. `missing` maps the features that are replaced to the reason.

    ```python
    if "client bulk write" in bucket.capabilities.missing:
        print("small files take two round trips here:", bucket.capabilities)
    ```
    """

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        self.sessions: bool | None = None  # None: it is not known yet
        self.transactions: bool | None = None

    def __repr__(self) -> str:
        shown = [f"{feature}: {_INSTEAD[feature] if feature in self.missing else 'native'}" for feature in Feature]
        return f"<{type(self).__name__} {', '.join(shown)}>"

    def replace(self, feature: Feature, reason: str) -> None:
        """Use the fallback of this feature from now on, and log that once."""
        if feature not in self.missing:
            self.missing[feature] = reason
            log_event(Event.FALLBACK, feature=feature.value, reason=reason, instead=_INSTEAD[feature])

    def is_refused(self, feature: Feature, error: Exception) -> bool:
        """Return whether the error says that the feature is missing, and use its fallback from now on if so."""
        if not is_missing(feature, error):
            return False
        self.replace(feature, str(error).partition(", full error:")[0])
        return True

    def decide(self, topology: TopologyDescription) -> None:
        """Decide about sessions and transactions by what pymongo knows of the servers.

        `transactions` stays None if servers claim to have them that are not MongoDB's own.
        """
        servers = topology.readable_servers
        if not servers:
            return
        kinds = {server.server_type_name for server in servers}
        balanced = kinds == {"LoadBalancer"}
        self.sessions = balanced or all(server.logical_session_timeout_minutes for server in servers)
        if not self.sessions:
            self.replace(Feature.SESSIONS, "the server reports no logical sessions")
        if not self.sessions or "Standalone" in kinds:
            self.refuse_transactions(STANDALONE if "Standalone" in kinds else "the server has no sessions")
        elif self.transactions is None and (balanced or all(server.topology_version for server in servers)):
            self.transactions = True

    def refuse_transactions(self, reason: str) -> None:
        """Refuse transactions from now on."""
        self.transactions = False
        self.replace(Feature.TRANSACTIONS, reason)


def is_missing(feature: Feature, error: Exception) -> bool:
    """Return whether an error says that the server or the driver does not have the feature.

    Errors that may go away by themselves do not: no primary, a missing privilege, a write concern.
    """
    if isinstance(error, ConfigurationError):
        return feature is Feature.SESSIONS and "Sessions are not supported" in str(error)
    if isinstance(error, InvalidOperation):
        # pymongo refuses by itself before MongoDB 8.0, and on a client with automatic encryption.
        return feature is Feature.BULK_WRITE and ("8.0" in str(error) or "automatic encryption" in str(error))
    if not isinstance(error, OperationFailure) or _is_transient(error):
        return False
    return error.code in _MISSING or error.code in _MISSING_FEATURE.get(feature, ())


def _is_transient(error: PyMongoError) -> bool:
    return any(error.has_error_label(label) for label in _TRANSIENT)
