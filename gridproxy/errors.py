"""The errors that gridproxy raises itself. Errors of the server and the network stay pymongo's own.

Each class derives from `GridProxyError` and from the class that users already catch::

    GridProxyError
    ├── FileMissing              gridfs.NoFile                      no file has this id or name
    │   └── FileVanished         + CorruptFile                      the file was deleted while it was read
    ├── FileAlreadyStored        gridfs.errors.FileExists           the id or the proxy already has a file
    ├── CorruptFile              gridfs.errors.CorruptGridFile      chunks and record do not fit together
    ├── BadSource                TypeError                          the content is not bytes
    ├── BadOption                ValueError                         an argument has a value that is not allowed
    │   ├── BadMetadata          ValueError                         the metadata cannot be stored
    │   │   └── DuplicateKey     + TypeError                        a metadata key was passed twice
    │   ├── BadFilename          ValueError                         the name of a file cannot be stored
    │   ├── BadManifest          ValueError                         the manifest of an export cannot be imported
    │   └── UnacknowledgedWriteConcern pymongo.errors.ConfigurationError  the write concern confirms nothing
    ├── BadId                    TypeError                          the value cannot be a file's id
    ├── FileRefused              ValueError                         a limit of the field refuses the content
    │   ├── TooLarge             ValueError                         the content is longer than `max_size`
    │   ├── ContentTypeRefused   ValueError                         the content type is not in `content_types`
    │   └── PictureRefused       ValueError                         the picture is unreadable or too large to decode
    ├── BufferFull               BufferError                        too many written bytes were not awaited
    ├── FileClosed               ValueError                         a write or a read after close()
    ├── InfoNotLoaded            RuntimeError                       the file's record was not loaded yet
    ├── UploadInProgress         RuntimeError                       the file is being written at this moment
    ├── UniqueIndexViolation     pymongo.errors.DuplicateKeyError   a unique index of the application's has the value
    ├── IndexesNotAllowed        pymongo.errors.OperationFailure    the user may not list or create indexes
    ├── OutcomeUnknown           pymongo.errors.PyMongoError        the server may or may not have stored the file
    ├── CommitUnknown            pymongo.errors.PyMongoError        the server may or may not have committed
    ├── NestedTransaction        pymongo.errors.InvalidOperation    a transaction inside another one
    ├── TransactionsUnsupported  pymongo.errors.OperationFailure    the server has no transactions
    ├── NotConnected             RuntimeError                       no database is connected
    ├── AsyncioRequired          RuntimeError                       trio, or no event loop, runs the call
    ├── EventLoopRunning         RuntimeError                       a blocking call in the thread of an event loop
    ├── ValidationError          ValueError                         a document's field refuses a value
    ├── StaleDocument            RuntimeError                       another client changed the file field first
    ├── DocumentMissing          LookupError                        no document matches
    └── MultipleDocumentsFound   LookupError                        more than one document matches
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import ObjectId
from gridfs.errors import CorruptGridFile, FileExists, NoFile
from pymongo.errors import ConfigurationError, DuplicateKeyError, InvalidOperation, OperationFailure, PyMongoError

__all__ = [
    "AsyncioRequired",
    "BadFilename",
    "BadId",
    "BadManifest",
    "BadMetadata",
    "BadOption",
    "BadSource",
    "BufferFull",
    "CommitUnknown",
    "ContentTypeRefused",
    "CorruptFile",
    "DocumentMissing",
    "DuplicateKey",
    "EventLoopRunning",
    "FileAlreadyStored",
    "FileClosed",
    "FileMissing",
    "FileRefused",
    "FileVanished",
    "GridProxyError",
    "IndexesNotAllowed",
    "InfoNotLoaded",
    "MultipleDocumentsFound",
    "NestedTransaction",
    "NotConnected",
    "OutcomeUnknown",
    "PictureRefused",
    "StaleDocument",
    "TooLarge",
    "TransactionsUnsupported",
    "UnacknowledgedWriteConcern",
    "UniqueIndexViolation",
    "UploadInProgress",
    "ValidationError",
]


_LONGEST = 300  # characters of a value in an error message
STANDALONE = "it is a standalone server"


def type_name(value: object) -> str:
    """Return the name of a value's type for an error message: `int`, `io.StringIO`."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def describe_object(value: object) -> str:
    """Return the name of a value's type, and what to use instead if it belongs to another driver than the async one."""
    modules = [base.__module__ for base in type(value).__mro__]
    if any(module.startswith("motor.") for module in modules):
        return f"{type_name(value)}, which is Motor's: replace Motor's client by pymongo's AsyncMongoClient"
    if any(module.startswith("pymongo.synchronous.") for module in modules):
        return f"{type_name(value)}, which is synchronous: replace MongoClient by AsyncMongoClient"
    return type_name(value)


def shortened(text: str) -> str:
    """Return a text for an error message, without its middle if it is long."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 100]} ... {text[-80:]}"


def server_text(error: OperationFailure) -> str:
    """Return what the server says in its error."""
    return str((error.details or {}).get("errmsg") or error)


_LONGEST_MESSAGE = 2000


def shown(value: object) -> str:
    """Return the `repr` of a value from outside for an error message, without its middle if it is long."""
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # an int of more than 4300 digits, a value that contains itself
        return f"<{type_name(value)}>"


class GridProxyError(Exception):
    """The base class of all errors that this package raises itself."""

    def __str__(self) -> str:
        # Messages name ids and names from outside, and may be sent back to a client.
        text = super().__str__()
        return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}... ({len(text)} characters)"

    def __reduce__(self) -> tuple[object, ...]:
        # The constructors do not accept `args`, and data pipelines pickle errors to send them to other processes.
        return type(self).__new__, (type(self), *self.args), self.__dict__


class FileMissing(GridProxyError, NoFile):
    """No file has this id or name, or the file has expired.

    Attributes:
        id: The requested id, or None if the file was requested by its name.
    """

    def __init__(self, id: object = None, *, bucket: str | None = None, message: str | None = None) -> None:
        self.id = id
        place = f" in {bucket}" if bucket else ""
        hint = ""
        if isinstance(id, str) and ObjectId.is_valid(id):
            hint = f". This id is a str, and ids are ObjectIds by default: try ObjectId({id!r})"
        super().__init__(message or f"no file is stored under the id {shown(id)}{place}{hint}")


class FileAlreadyStored(GridProxyError, FileExists):
    """The id or the proxy already has a file. That file was not changed.

    Attributes:
        id: The id of the existing file.
    """

    def __init__(self, id: object, *, message: str | None = None) -> None:
        self.id = id
        super().__init__(message or f"a file is already stored under the id {shown(id)}. It was not changed")


class CorruptFile(GridProxyError, CorruptGridFile):
    """The stored record is invalid, or the stored chunks do not match it.

    Attributes:
        id: The file's id.
        reason: The first mismatch, in words.
    """

    def __init__(self, id: object, reason: str) -> None:
        self.id = id
        self.reason = reason
        super().__init__(f"file {shown(id)} is corrupt: {reason}")


class FileVanished(FileMissing, CorruptFile):
    """The file was deleted, or replaced under its id, while it was being read. It has `id` and `reason`."""

    def __init__(self, id: object) -> None:
        self.id = id
        self.reason = "it was deleted while it was being read"
        # Each parent's constructor would call the other one with the wrong arguments.
        GridProxyError.__init__(self, f"file {shown(id)}: {self.reason}")


class BadSource(GridProxyError, TypeError):
    """The content is not something that bytes can be read from. Nothing was stored."""


class BadOption(GridProxyError, ValueError):
    """An argument has a value that is not allowed. The message names the argument and the allowed values."""


class BadMetadata(BadOption):
    """The metadata cannot be stored, or a metadata key cannot be edited. Nothing was stored or changed."""


class BadFilename(BadOption):
    """The name of a file is not text that MongoDB and UTF-8 can store. Nothing was stored or changed."""


class BadManifest(BadOption):
    """The manifest of an export cannot be read, or a file that it names is missing. Nothing was imported."""


class DuplicateKey(BadMetadata, TypeError):
    """The same metadata key was passed twice. (Python raises `TypeError` for a repeated keyword.)

    Attributes:
        key: The repeated key.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"{key!r} was passed twice: once in metadata= and once as a keyword. Pass it once")


class UnacknowledgedWriteConcern(BadOption, ConfigurationError):
    """The bucket's write concern does not confirm writes, so gridproxy could not know whether a file was stored."""


class BadId(GridProxyError, TypeError):
    """MongoDB does not accept the value as `_id`, or the argument has to be an id and is something else."""


class FileRefused(GridProxyError, ValueError):
    """A limit of the field refuses the content. Nothing was stored.

    Attributes:
        field: The field's name, or None if the file does not belong to a field.
        limit: What the field allows: bytes (`TooLarge`), content types (`ContentTypeRefused`), pixels of all frames or
            frames (`PictureRefused`). None if unknown.
        actual: What was found instead, in the same unit. None if unknown.
        reason: Both in words.
    """

    def __init__(self, reason: str, *, field: str | None = None, limit: object = None, actual: object = None) -> None:
        self.reason = reason
        self.field = field
        self.limit = limit
        self.actual = actual
        super().__init__(f"{field + ': ' if field else ''}{reason}, so nothing was stored")


class TooLarge(FileRefused):
    """The content is longer than `limit` bytes. It was stopped when `actual` bytes were received or announced."""

    limit: int

    def __init__(self, limit: int, *, field: str | None = None, actual: int | None = None) -> None:
        reason = f"the content is longer than the {limit} bytes allowed here"
        super().__init__(reason, field=field, limit=limit, actual=actual)


class ContentTypeRefused(FileRefused):
    """The content type is not one of `content_types`, or the content is not of its declared type."""


class PictureRefused(FileRefused):
    """The content is not a decodable picture, or it has more pixels or frames than gridproxy decodes."""


class BufferFull(GridProxyError, BufferError):
    """A write would buffer more bytes than the limit, because earlier writes were not awaited. It wrote nothing.

    Attributes:
        waiting: How many written bytes wait to be sent.
        came: How many bytes this write would add.
        limit: The largest number of waiting bytes.
    """

    def __init__(self, waiting: int, came: int, limit: int) -> None:
        self.waiting = waiting
        self.came = came
        self.limit = limit
        super().__init__(
            f"{waiting} written bytes were not awaited, and {came} more would exceed the limit of {limit}. "
            "Await write(...) so that the bytes can be sent, or pass the complete content to put(). "
            "This write added nothing"
        )


class FileClosed(GridProxyError, ValueError):
    """A write to a file that is not open, a read of a closed reader, or the use of a discarded `Staged`."""


class InfoNotLoaded(GridProxyError, RuntimeError):
    """A field of the file's record was read before the record was loaded. The message names the call to make."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is not loaded yet: `await file.stat()` (or read, or open it) first")


class UploadInProgress(GridProxyError, RuntimeError):
    """The file or the id is being written at this moment, or in a transaction or a save that has not ended."""


class UniqueIndexViolation(GridProxyError, DuplicateKeyError):
    """A unique index that the application added to the bucket already has this value. The file was not stored.

    Attributes:
        index: The name of the index, or None if the server did not name it.
        value: The refused value, `{"filename": "a.jpg"}`, or the server's text for it, or None.
        details: What the server answered.
    """

    def __init__(self, index: str | None, value: object, *, bucket: str, details: Mapping[str, Any]) -> None:
        self.index = index
        self.value = value
        self.answer: dict[str, Any] = dict(details)
        name = "a unique index" if index is None else f"the unique index {index!r}"
        shown = "this value" if value is None else shortened(value if isinstance(value, str) else repr(value))
        super().__init__(
            f"{name} of {bucket} already has {shown}. Choose another value, or remove the file that has it", 11000
        )

    @property
    def details(self) -> Mapping[str, Any]:
        """What the server answered: `keyPattern`, `keyValue` and `errmsg`."""
        return self.answer


class IndexesNotAllowed(GridProxyError, OperationFailure):
    """The user may not list or create the indexes of GridFS. Nothing was stored.

    `Bucket(..., indexes=False)` and `FileOptions(indexes=False)` leave them to another user.
    """

    def __init__(self, bucket: str, error: OperationFailure) -> None:
        super().__init__(
            f"the indexes of {bucket} cannot be checked or created ({shortened(server_text(error))}). Let a user with "
            "the privileges listIndexes and createIndex call ensure_indexes(), and use the bucket here with "
            "Bucket(..., indexes=False) or FileOptions(indexes=False)",
            error.code,
        )


class OutcomeUnknown(GridProxyError, PyMongoError):
    """The server did not answer the insert of the file's record, so the file may or may not be stored.

    Nothing was removed. Call `stat(id)` when the server answers again. If the file was not stored, its chunks are
    orphans, and `collect_garbage` removes them.

    Attributes:
        id: The file's id.
    """

    def __init__(self, id: object) -> None:
        self.id = id
        super().__init__(
            f"the server did not say whether the file {shown(id)} was stored, so nothing was removed. "
            "Call stat() when the server answers again"
        )


class CommitUnknown(GridProxyError, PyMongoError):
    """The server did not answer the commit, however often it was repeated, so it may or may not have committed.

    No chunk was removed, and proxies keep the new ids. Call `stat(id)` when the server answers again. `collect_garbage`
    removes what is left over.

    Attributes:
        ids: The ids of the files that the transaction stored or deleted.
    """

    def __init__(self, ids: list[object]) -> None:
        self.ids = ids
        super().__init__(
            f"the server did not say whether the transaction was committed, so no chunk of the files {shown(ids)} was "
            "removed. Call stat() when the server answers again, and reload() the documents",
            error_labels=["UnknownTransactionCommitResult"],
        )


class NestedTransaction(GridProxyError, InvalidOperation):
    """A transaction was started inside another one, which MongoDB does not have."""


class TransactionsUnsupported(GridProxyError, OperationFailure):
    """The server has no transactions. MongoDB has them on replica sets (also of one node) and behind mongos.

    Attributes:
        reason: Why the server is known to have none.
    """

    def __init__(self, reason: str = STANDALONE) -> None:
        self.reason = reason
        super().__init__(
            "this is a standalone server, which has no transactions: start it with --replSet and initiate a set of one "
            "node, or do not use a transaction"
            if reason == STANDALONE
            else f"this server has no transactions ({reason}): do not use a transaction",
            20,
        )


class NotConnected(GridProxyError, RuntimeError):
    """No database is known for this alias. `gridproxy.connect(database)` sets one."""


class AsyncioRequired(GridProxyError, RuntimeError):
    """The call runs without asyncio, on which pymongo's `AsyncMongoClient` depends. Trio has no such client."""

    def __init__(self) -> None:
        super().__init__(
            "gridproxy needs asyncio, because pymongo's AsyncMongoClient does, and no asyncio event loop is running "
            "here: start the program with asyncio.run() or anyio.run(backend='asyncio') instead of trio"
        )


class EventLoopRunning(GridProxyError, RuntimeError):
    """A call of `gridproxy.sync` would block the event loop that runs in its thread.

    Await the same call of `gridproxy.Bucket` or `gridproxy.AsyncGridFile` there, or make it in another thread. In a
    notebook's cell blocking calls are allowed.

    Attributes:
        name: The asynchronous call, such as `Bucket.read`.
    """

    def __init__(self, name: str) -> None:
        self.name: str = name
        super().__init__(
            f"this call of gridproxy.sync would block the event loop that runs in this thread: use {name}() of "
            f"gridproxy, which is asynchronous, or make the call in a thread (asyncio.to_thread)"
        )


class ValidationError(GridProxyError, ValueError):
    """A field of a document refuses a value.

    Attributes:
        field: The field's name.
    """

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(f"{field}: {message}")


class StaleDocument(GridProxyError, RuntimeError):
    """Another client changed the file field after the document was loaded. Nothing was written, and both files exist.

    Attributes:
        field: The field's name.
    """

    def __init__(self, document: str, field: str) -> None:
        self.field = field
        super().__init__(
            f"{document}: another client changed the file in {field!r} after the document was loaded. "
            "Nothing was written. reload() the document and decide again"
        )


class DocumentMissing(GridProxyError, LookupError):
    """No document matches, or the document was deleted."""


class MultipleDocumentsFound(GridProxyError, LookupError):
    """More than one document matches, but exactly one was requested."""
