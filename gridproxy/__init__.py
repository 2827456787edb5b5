"""gridproxy: files in MongoDB GridFS, one object a file, over pymongo's native AsyncMongoClient."""

from importlib import import_module
from typing import TYPE_CHECKING

from gridproxy.fields.prefetch import prefetch
from gridproxy.fields.rewrite_references import rewrite_references
from gridproxy.fields.wrap import wrap_field
from gridproxy.file.assignable import AssignableFile
from gridproxy.file.connection import connect, disconnect, using
from gridproxy.file.file import AsyncGridFile
from gridproxy.file.options import FileOptions
from gridproxy.gridfs.content.images import ImageOptions
from gridproxy.gridfs.download.reader import DownloadStream, Reader
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.resumable.resumable_upload import ResumableUpload
from gridproxy.gridfs.transactions.transactions import Transaction, transaction, with_transaction
from gridproxy.gridfs.upload.staging import Staged
from gridproxy.gridfs.upload.writer import Writer
from gridproxy.upkeep.findings import Finding, GarbageReport, Tally

from .bucket import Bucket
from .errors import *

if TYPE_CHECKING:
    from gridproxy.moving.export import export_files, import_files
    from gridproxy.moving.report import TransferReport, UnmovedFile
    from gridproxy.moving.transfer import transfer

__version__ = "0.1.0"

__all__ = [
    "AssignableFile",
    "AsyncGridFile",
    "AsyncioRequired",
    "BadFilename",
    "BadId",
    "BadManifest",
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
    "EventLoopRunning",
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
    "IndexesNotAllowed",
    "InfoNotLoaded",
    "MultipleDocumentsFound",
    "NestedTransaction",
    "NotConnected",
    "OutcomeUnknown",
    "PictureRefused",
    "Reader",
    "ResumableUpload",
    "Staged",
    "StaleDocument",
    "Tally",
    "TooLarge",
    "Transaction",
    "TransactionsUnsupported",
    "TransferReport",
    "UnacknowledgedWriteConcern",
    "UniqueIndexViolation",
    "UnmovedFile",
    "UploadInProgress",
    "UploadMissing",
    "ValidationError",
    "Writer",
    "WrongLength",
    "WrongOffset",
    "connect",
    "disconnect",
    "export_files",
    "import_files",
    "prefetch",
    "rewrite_references",
    "transaction",
    "transfer",
    "using",
    "with_transaction",
    "wrap_field",
]

# Imported at the first use, since most programs move no files: this is a seventh of the time of the import.
_MOVING = {
    "TransferReport": "report",
    "UnmovedFile": "report",
    "export_files": "export",
    "import_files": "export",
    "transfer": "transfer",
}

if not TYPE_CHECKING:  # type checkers would accept any name

    def __getattr__(name: str) -> object:
        if name not in _MOVING:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found: object = getattr(import_module(f"{__name__}.moving.{_MOVING[name]}"), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MOVING})
