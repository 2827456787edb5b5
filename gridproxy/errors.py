"""Every error that gridproxy raises by itself; server and network errors stay pymongo's own.

Each class derives from `GridProxyError` and from the class that users already catch::

    GridProxyError
    ├── FileMissing              gridfs.NoFile                      no file under this id or name
    │   └── FileVanished         + CorruptFile                      it was deleted while it was being read
    ├── FileAlreadyStored        gridfs.errors.FileExists           the id, or the proxy, holds a file already
    ├── CorruptFile              gridfs.errors.CorruptGridFile      chunks or record do not fit together
    ├── BadSource                TypeError                          content that is not bytes
    ├── BadOption                ValueError                         an argument out of its range
    │   ├── BadMetadata          ValueError                         metadata that cannot be stored
    │   │   └── DuplicateKey     + TypeError                        the same key said twice
    │   └── UnacknowledgedWriteConcern pymongo.errors.ConfigurationError  a write concern that confirms nothing
    ├── BadId                    TypeError                          something that cannot be a file's id
    ├── FileRefused              ValueError                         a limit of its field refuses the content
    │   ├── TooLarge             ValueError                         more bytes than `max_size` allows
    │   ├── ContentTypeRefused   ValueError                         no type of `content_types`, or not what it is called
    │   └── PictureRefused       ValueError                         no picture, or one that is too large to decode
    ├── BufferFull               BufferError                        too many bytes written and not awaited
    ├── FileClosed               ValueError                         a write after close(), or a read of a closed reader
    ├── InfoNotLoaded            RuntimeError                       a record's field asked before any I/O
    ├── UploadInProgress         RuntimeError                       the file is being written at this moment
    ├── OutcomeUnknown           pymongo.errors.PyMongoError        the server may or may not hold the file
    ├── CommitUnknown            pymongo.errors.PyMongoError        the server may or may not have committed
    ├── NestedTransaction        pymongo.errors.InvalidOperation    a transaction inside another one
    ├── TransactionsUnsupported  pymongo.errors.OperationFailure    a standalone server has no transactions
    ├── NotConnected             RuntimeError                       no database to work on
    ├── ValidationError          ValueError                         a document's field refuses a value
    ├── StaleDocument            RuntimeError                       somebody else changed the file field first
    ├── DocumentMissing          LookupError                        no document fits
    └── MultipleDocumentsFound         LookupError                        more than one document fits
"""

from __future__ import annotations

from bson import ObjectId
from gridfs.errors import CorruptGridFile, FileExists, NoFile
from pymongo.errors import ConfigurationError, InvalidOperation, OperationFailure, PyMongoError

__all__ = [
    "BadId",
    "BadMetadata",
    "BadOption",
    "BadSource",
    "BufferFull",
    "CommitUnknown",
    "ContentTypeRefused",
    "CorruptFile",
    "DocumentMissing",
    "DuplicateKey",
    "FileAlreadyStored",
    "FileClosed",
    "FileMissing",
    "FileRefused",
    "FileVanished",
    "GridProxyError",
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
    "UploadInProgress",
    "ValidationError",
]


def type_name(value: object) -> str:
    """The name of a value's type as an error message shows it: `int`, `io.StringIO`."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _rebuild(kind: type[GridProxyError], args: tuple[object, ...], state: dict[str, object]) -> GridProxyError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class GridProxyError(Exception):
    """The root: `except GridProxyError` catches whatever this package raises by itself."""

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process boundaries in data pipelines, and our constructors do not take `args` back.
        return _rebuild, (type(self), self.args, self.__dict__)


class FileMissing(GridProxyError, NoFile):
    """There is no file here (any more), or it has expired. `id` is what was asked for, None where that was no id."""

    def __init__(self, id: object = None, *, message: str | None = None) -> None:
        self.id = id
        hint = ""
        if isinstance(id, str) and ObjectId.is_valid(id):
            hint = f"; that is a str, and files have an ObjectId unless told otherwise: ObjectId({id!r})"
        super().__init__(message or f"no file is stored under the id {id!r}{hint}")


class FileAlreadyStored(GridProxyError, FileExists):
    """The id is taken, or the proxy holds a file already; that file is intact."""

    def __init__(self, id: object, *, message: str | None = None) -> None:
        self.id = id
        super().__init__(message or f"a file is already stored under the id {id!r}; it was left as it is")


class CorruptFile(GridProxyError, CorruptGridFile):
    """The record can be no file's, or the chunks do not make up what it promises; `reason` says where."""

    def __init__(self, id: object, reason: str) -> None:
        self.id = id
        self.reason = reason
        super().__init__(f"file {id!r} is corrupt: {reason}")


class FileVanished(FileMissing, CorruptFile):
    """The file was deleted (or replaced under its id) while it was being read."""

    def __init__(self, id: object) -> None:
        self.id = id
        self.reason = "it was deleted while it was being read"
        # Past both parents: each would call the next one's constructor with arguments of its own.
        GridProxyError.__init__(self, f"file {id!r}: {self.reason}")


class BadSource(GridProxyError, TypeError):
    """The content is nothing that bytes can be read from; nothing was stored."""


class BadOption(GridProxyError, ValueError):
    """An argument is out of its range; the message names it and what is allowed."""


class BadMetadata(BadOption):
    """Metadata that cannot be stored, or a key of them that cannot be edited; nothing was stored or changed."""


class DuplicateKey(BadMetadata, TypeError):
    """The same metadata key, `key`, was given twice (Python raises TypeError for a repeated keyword)."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"{key!r} was given twice: once in metadata= and once as a keyword; say it once")


class UnacknowledgedWriteConcern(BadOption, ConfigurationError):
    """A bucket over a write concern that confirms nothing: whether a file is stored could not be known."""


class BadId(GridProxyError, TypeError):
    """Something that MongoDB cannot take as a file's id, or that stands in the place of an id and is none."""


class FileRefused(GridProxyError, ValueError):
    """A limit of the field refuses the content; nothing was stored.

    `field` names the field (None where the file belongs to none), `limit` is what it allows, `came` what was found
    instead, `reason` the two in words.
    """

    def __init__(self, reason: str, *, field: str | None = None, limit: object = None, actual: object = None) -> None:
        self.reason = reason
        self.field = field
        self.limit = limit
        self.actual = actual
        super().__init__(f"{field + ': ' if field else ''}{reason}; nothing was stored")


class TooLarge(FileRefused):
    """The content is longer than `limit` bytes: it was stopped there, when `came` bytes had come or were announced."""

    limit: int

    def __init__(self, limit: int, *, field: str | None = None, actual: int | None = None) -> None:
        super().__init__(
            f"the content is longer than the {limit} bytes allowed here", field=field, limit=limit, actual=actual
        )


class ContentTypeRefused(FileRefused):
    """The content's type is none of `limit`, or is not what its name or its sender says; `came` is the type found.

    `came` is None where no type was declared and none shows in the bytes.
    """


class PictureRefused(FileRefused):
    """The content is no picture that can be decoded, or a bomb: more pixels than Pillow's limit, or too many frames.

    `limit` and `came` are in pixels, those of all frames together, or count frames; None where nobody knows.
    """


class BufferFull(GridProxyError, BufferError):
    """This write would hold more than `limit` bytes that nobody awaited: `waiting` bytes do already, and `came` bytes
    were to come. None of these was taken.
    """

    def __init__(self, waiting: int, came: int, limit: int) -> None:
        self.waiting = waiting
        self.came = came
        self.limit = limit
        super().__init__(
            f"{waiting} bytes written and not awaited, {came} more would pass the limit of {limit}: "
            "await write(...) so that they can leave, or put() the whole; nothing of this write was taken"
        )


class FileClosed(GridProxyError, ValueError):
    """A write where no new file is open (any more), a read of a closed reader, or the use of a discarded `Staged`."""


class InfoNotLoaded(GridProxyError, RuntimeError):
    """A field of the record was asked for before the record was loaded; the message names the call to make."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is not loaded yet: `await file.stat()` (or read, or open it) first")


class UploadInProgress(GridProxyError, RuntimeError):
    """The file, or the id, is being written at this moment, or in a transaction or a save that is not over."""


class OutcomeUnknown(GridProxyError, PyMongoError):
    """The server may or may not hold the file `id`: the reply to its record's insert never came.

    Nothing was removed. `stat(id)` tells, once the server answers again; if there is no file, its
    chunks are orphans, and `collect_garbage` removes them.
    """

    def __init__(self, id: object) -> None:
        self.id = id
        super().__init__(
            f"the server did not say whether the file {id!r} was stored; nothing was removed. "
            "Ask stat() when it answers again"
        )


class CommitUnknown(GridProxyError, PyMongoError):
    """The server may or may not have committed a transaction: no answer came, however often it was asked.

    `ids` are those of the files that were stored and deleted in it. No chunk of any of them was removed, and proxies
    keep the new ids. `stat(id)` tells, once the server answers again; what is left over, `collect_garbage` removes.
    """

    def __init__(self, ids: list[object]) -> None:
        self.ids = ids
        super().__init__(
            f"the server did not say whether the transaction was committed; nothing of the files {ids!r} was removed. "
            "Ask stat() when it answers again, and reload() the documents",
            error_labels=["UnknownTransactionCommitResult"],
        )


class NestedTransaction(GridProxyError, InvalidOperation):
    """A transaction was begun inside another one."""


class TransactionsUnsupported(GridProxyError, OperationFailure):
    """The server is a standalone one; MongoDB has transactions on replica sets (of one node, too) and behind mongos."""

    def __init__(self) -> None:
        super().__init__(
            "this is a standalone server, which has no transactions: start it with --replSet and initiate a set of one "
            "node, or leave the transaction out",
            20,
        )


class NotConnected(GridProxyError, RuntimeError):
    """No database is known for this alias: `gridproxy.connect(database)` sets one."""


class ValidationError(GridProxyError, ValueError):
    """A field of a document refuses a value; `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(f"{field}: {message}")


class StaleDocument(GridProxyError, RuntimeError):
    """Somebody else changed `field` since the document was loaded. Nothing was written, both files are whole."""

    def __init__(self, document: str, field: str) -> None:
        self.field = field
        super().__init__(
            f"{document}: the file in {field!r} was changed by somebody else since it was loaded; "
            "nothing was written. reload() it and decide again"
        )


class DocumentMissing(GridProxyError, LookupError):
    """No document fits, or it has been deleted."""


class MultipleDocumentsFound(GridProxyError, LookupError):
    """More than one document fits where exactly one was asked for."""
