"""gridproxy: files in MongoDB GridFS, one object a file, over pymongo's native AsyncMongoClient.

The map of this house, from the ground up; every import points down:

- errors, extras, progress                        what is raised, what is told on the way
- ids, info, sniffing, limits, variants           values and arithmetic, no I/O
- images, options, request, chunks                the same: what a field and an upload are asked, chunks
- http                                            what HTTP says about serving a file, no I/O
- turns, tasks, identity, clients, sessions       work that settles; what is kept per object, per client; sessions
- store, indexes                                  the two collections, one method a round trip; their indexes
- ledger, transactions                            what moves together, and what is done when its outcome is known
- sources, sinks                                  anything -> blocks; blocks -> a path or a writable
- publish, footprint, staging, shipping, gate, upload, writer   the way in: chunks first, the record last
- download, reader                                the way out: ranges fetched ahead
- removal, editing, copying, many, pictures       what happens to stored files
- upkeep                                          what is wrong, and what is left over
- connection                                      from an alias to a database
- attachment, handle                              a file's place in a document, what it knows without I/O
- field_value, schema                             what a field holds, and what pydantic is told of it
- readable, new_file, writable, file              AsyncGridFile: what it reads, what it takes in, the rest
- readable_bucket, bucket                         GridFS itself, for services without proxies
- annotations, home, walk                         which files a model holds, and where they lie
- prefetch, references, owner                     what documents know of their files, and owe them
- wrap                                            a file beside an attribute that a class has already
- adapters                                        fields of documents
- testing                                         the contract of field adapters, as a suite to run
- embedded                                        a throw-away server for trials and tests
- cli, __main__                                   the command line
"""

from .bucket import Bucket
from .connection import connect, disconnect, using
from .errors import (
    BadId,
    BadMetadata,
    BadOption,
    BadSource,
    BufferFull,
    CommitUnknown,
    ContentTypeRefused,
    CorruptFile,
    DocumentMissing,
    DuplicateKey,
    FileAlreadyStored,
    FileClosed,
    FileMissing,
    FileRefused,
    FileVanished,
    GridProxyError,
    InfoNotLoaded,
    NestedTransaction,
    NotConnected,
    OutcomeUnknown,
    PictureRefused,
    SeveralDocuments,
    StaleDocument,
    TooLarge,
    TransactionsUnsupported,
    UnacknowledgedBucket,
    UploadInProgress,
    ValidationError,
)
from .file import AsyncGridFile
from .images import ImageOptions
from .info import FileInfo
from .options import FileOptions
from .prefetch import prefetch
from .reader import DownloadStream, Reader
from .references import rewrite_references
from .staging import Staged
from .transactions import Transaction, transaction, with_transaction
from .upkeep.findings import Finding, GarbageReport, Tally
from .wrap import wrap_field
from .writer import Writer

__all__ = [
    "AsyncGridFile",
    "BadId",
    "BadMetadata",
    "BadOption",
    "BadSource",
    "Bucket",
    "BufferFull",
    "CommitUnknown",
    "ContentTypeRefused",
    "CorruptFile",
    "DocumentMissing",
    "DownloadStream",
    "DuplicateKey",
    "FileAlreadyStored",
    "FileClosed",
    "FileInfo",
    "FileMissing",
    "FileOptions",
    "FileRefused",
    "FileVanished",
    "Finding",
    "GarbageReport",
    "GridProxyError",
    "ImageOptions",
    "InfoNotLoaded",
    "NestedTransaction",
    "NotConnected",
    "OutcomeUnknown",
    "PictureRefused",
    "Reader",
    "SeveralDocuments",
    "Staged",
    "StaleDocument",
    "Tally",
    "TooLarge",
    "Transaction",
    "TransactionsUnsupported",
    "UnacknowledgedBucket",
    "UploadInProgress",
    "ValidationError",
    "Writer",
    "connect",
    "disconnect",
    "prefetch",
    "rewrite_references",
    "transaction",
    "using",
    "with_transaction",
    "wrap_field",
]
