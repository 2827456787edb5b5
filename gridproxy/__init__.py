"""gridproxy: files in MongoDB GridFS, one object a file, over pymongo's native AsyncMongoClient.

The map of this house, from the ground up; every import points down:

- errors, extras, progress                        what is raised, what is told on the way
- info, sniffing, limits, options, chunks         values and arithmetic, no I/O
- http                                            what HTTP says about serving a file, no I/O
- tasks, clients                                  work that has to settle; what is kept per client
- store                                           the two collections, one method a round trip
- sources, sinks                                  anything -> blocks; blocks -> a path or a writable
- publish, footprint, staging, shipping, gate, upload, writer   the way in: chunks first, the record last
- download, reader                                the way out: ranges fetched ahead
- removal, editing, copying, many, maintenance  what happens to stored files
- connection                                      from an alias to a database
- attachment, handle                              a file's place in a document, what it knows without I/O
- field_value, schema                             what a field holds, and what pydantic is told of it
- readable, file                                  AsyncGridFile: what it reads, what it writes
- readable_bucket, bucket                         GridFS itself, for services without proxies
- walk, prefetch, references, owner               which files documents hold, and what they owe each other
- adapters                                        fields of documents
- testing                                         the contract of field adapters, as a suite to run
- embedded                                        a throw-away server for trials and tests
"""

from .bucket import Bucket
from .connection import connect, disconnect, using
from .errors import (
    BadId,
    BadMetadata,
    BadOption,
    BadSource,
    BufferFull,
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
    NotConnected,
    OutcomeUnknown,
    PictureRefused,
    SeveralDocuments,
    StaleDocument,
    TooLarge,
    UnacknowledgedBucket,
    UploadInProgress,
    ValidationError,
)
from .file import AsyncGridFile
from .info import FileInfo
from .options import FileOptions
from .prefetch import prefetch
from .reader import DownloadStream, Reader
from .references import rewrite_references
from .staging import Staged
from .writer import Writer

__all__ = [
    "AsyncGridFile",
    "BadId",
    "BadMetadata",
    "BadOption",
    "BadSource",
    "Bucket",
    "BufferFull",
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
    "GridProxyError",
    "InfoNotLoaded",
    "NotConnected",
    "OutcomeUnknown",
    "PictureRefused",
    "Reader",
    "SeveralDocuments",
    "Staged",
    "StaleDocument",
    "TooLarge",
    "UnacknowledgedBucket",
    "UploadInProgress",
    "ValidationError",
    "Writer",
    "connect",
    "disconnect",
    "prefetch",
    "rewrite_references",
    "using",
]
