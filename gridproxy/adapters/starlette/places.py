"""Where an application finds, stores and removes files: in a bucket by id or by name, or in a field of documents."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from bson import ObjectId
from bson.errors import BSONError

from gridproxy.bucket import Bucket
from gridproxy.errors import BadOption, FileMissing, FileRefused, StaleDocument, type_name
from gridproxy.file.file import AsyncGridFile
from gridproxy.file.options import FileOptions
from gridproxy.gridfs.content.limits import Limits, checked_content_types
from gridproxy.gridfs.content.sniffing import HEAD_BYTES
from gridproxy.gridfs.operations.delete import remove_file
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.records.media_types import type_by_name
from gridproxy.gridfs.upload.sources import Source

from .authorize import Grant, Served


def parse_id(text: str) -> object:
    """Return the id that a part of a path names: an `ObjectId` for 24 hex digits, else the text itself."""
    return ObjectId(text) if ObjectId.is_valid(text) else text


class Incoming(Source):
    """The content of a request, with the terms of the permission to store it.

    The terms are checked here, because the limits of a field are those of its model.
    """

    def __init__(self, source: Source, grant: Grant, filename: str | None = None) -> None:
        name = filename or grant.filename
        self.name: str | None = source.name if name is None else name
        self.content_type: str | None = source.content_type
        self.size: int | None = source.size
        self.metadata: Mapping[str, Any] = grant.metadata
        self._limits = Limits(max_size=grant.max_size, content_types=checked_content_types(grant.content_types))
        self._source = source
        self._head = b""
        self._length = 0

    async def prepare(self) -> None:
        if self.size is not None:
            self._limits.check_size(self.size)
        if self._limits.content_types is not None:
            head = bytearray()
            while len(head) < HEAD_BYTES and (block := await self._read()):
                head += block
            self._head = bytes(head)
            named = None if self.name is None else type_by_name(self.name)
            self.content_type = self._limits.checked_type(
                None, self._head[:HEAD_BYTES], (self.content_type, named), self.name
            )

    async def read(self) -> bytes | memoryview:
        head, self._head = self._head, b""
        return head or await self._read()

    async def _read(self) -> bytes | memoryview:
        block = await self._source.read()
        self._length += len(block)
        self._limits.check_size(self._length)
        return block


class Place(ABC):
    """What one application serves. `found` is what `find` returned: a record, a document, or None."""

    served: Served
    must_find: bool = False
    """Whether a file can only be read or stored after `find`."""

    accepts_new: bool = True
    """Whether files can be stored without a key, and listed."""

    @abstractmethod
    async def find(self, key: str) -> Any:
        """Return the record or the document that a key names, or None."""

    @abstractmethod
    def file(self, key: str, found: Any) -> AsyncGridFile | None:
        """Return the file to send, or None if it is missing."""

    @abstractmethod
    async def info(self, found: Any) -> FileInfo | None:
        """Return the record of the file that was found, or None."""

    @abstractmethod
    async def store(self, key: str | None, found: Any, content: Incoming) -> FileInfo:
        """Store the content under a key, or under a new one."""

    @abstractmethod
    async def delete(self, key: str, found: Any) -> None:
        """Remove the file."""

    @abstractmethod
    def key_of(self, key: str | None, info: FileInfo) -> str:
        """Return the key of a file that `store` stored under `key`."""


class FilesById(Place):
    """The files of a bucket by their ids."""

    def __init__(self, bucket: Bucket, options: FileOptions | None) -> None:
        if not isinstance(bucket, Bucket):
            raise BadOption(f"FilesApp serves a Bucket, not {type_name(bucket)}")
        self.bucket: Bucket = bucket
        options = options or FileOptions()
        if options.bucket not in (None, bucket):
            raise BadOption(f"options names the bucket {options.bucket!r}, and FilesApp serves {bucket!r}")
        self._options = replace(options, bucket=bucket)
        self.served: Served = Served.by_id(bucket)

    async def find(self, key: str) -> FileInfo | None:
        with suppress(FileMissing):
            return await self.bucket.stat(parse_id(key))
        return None

    def file(self, key: str, found: Any) -> AsyncGridFile | None:
        return self.bucket.file(parse_id(key))

    async def info(self, found: FileInfo | None) -> FileInfo | None:
        return found

    async def store(self, key: str | None, found: Any, content: Incoming) -> FileInfo:
        return await self._put(content, None if key is None else parse_id(key))

    async def _put(self, content: Incoming, id: object = None) -> FileInfo:
        source: Any = content  # a source that is opened already
        info: FileInfo = await AsyncGridFile(options=self._options).put(source, id=id)
        return info

    async def delete(self, key: str, found: Any) -> None:
        await self.bucket.delete(found.id)

    def key_of(self, key: str | None, info: FileInfo) -> str:
        return str(info.id)


class FilesByName(FilesById):
    """The files of a bucket by their names: the newest revision is served, and storing adds one."""

    must_find: bool = True

    def __init__(self, bucket: Bucket, options: FileOptions | None) -> None:
        super().__init__(bucket, options)
        self.served: Served = self.served._replace(named_by="filename")

    async def find(self, key: str) -> FileInfo | None:
        with suppress(FileMissing):
            return (await self.bucket.by_name(key)).info
        return None

    def file(self, key: str, found: FileInfo | None) -> AsyncGridFile | None:
        return None if found is None else AsyncGridFile(found.id, bucket=self.bucket, info=found)

    async def store(self, key: str | None, found: Any, content: Incoming) -> FileInfo:
        if key is None and content.name is None:
            raise FileRefused("the file has no name, and files are found by their names here")
        return await self._put(content)

    async def delete(self, key: str, found: Any) -> None:
        await self.bucket.delete_by_name(key)

    def key_of(self, key: str | None, info: FileInfo) -> str:
        return info.filename or ""


class FilesOfField(Place):
    """The files in one field of documents: Beanie's, ODMantic's (which need an engine), or the built-in ones."""

    must_find: bool = True
    accepts_new: bool = False

    def __init__(self, model: Any, field: str, engine: Any) -> None:
        self._model, self._field, self._engine = model, field, engine
        schema = getattr(model, "document_schema", None)
        fields = getattr(model, "model_fields", {}) if schema is None else schema.fields
        if field not in fields:
            raise BadOption(f"{getattr(model, '__name__', model)!r} is not a model with the field {field!r}")
        self._is_builtin = schema is not None
        if not self._is_builtin and engine is None and not hasattr(model, "get"):
            raise BadOption(f"{model.__name__} is loaded by an engine: pass engine=AsyncEngine(client, database)")
        self.served: Served = Served("", model.__qualname__, f"document.{field}")

    async def find(self, key: str) -> Any:
        id = parse_id(key)
        if self._is_builtin:
            return await self._model.objects(id=id).first()
        try:
            if self._engine is not None:
                return await self._engine.find_one(self._model, self._model.id == id)
            return await self._model.get(id)
        except (ValueError, BSONError):  # pydantic's error: this is not an id of this model
            return None

    def file(self, key: str, found: Any) -> AsyncGridFile | None:
        file = None if found is None else self._file_of(found)
        return file or None

    def _file_of(self, document: Any) -> AsyncGridFile:
        file = getattr(document, self._field)
        if file is None:  # an optional field
            return AsyncGridFile()
        if not isinstance(file, AsyncGridFile):
            raise BadOption(f"{self._field!r} holds {type_name(file)}, not a file")
        return file

    async def info(self, found: Any) -> FileInfo | None:
        file = self.file("", found)
        with suppress(FileMissing):
            return None if file is None else await file.stat()
        return None

    async def store(self, key: str | None, found: Any, content: Incoming) -> FileInfo:
        if found is None:
            raise FileMissing(message="there is no such document")
        setattr(found, self._field, content)
        await self._save(found)
        info = self._file_of(found).info
        assert info is not None, "the file was stored by the save"
        return info

    async def delete(self, key: str, found: Any) -> None:
        file = self._file_of(found)
        store, id = file.state.require_stored()
        setattr(found, self._field, None)
        await self._save(found)  # first, so that no document points to a missing file
        await remove_file(store, id)

    async def _save(self, document: Any) -> None:
        if self._engine is not None:
            await self._engine.save(document)
            return
        tracks = getattr(type(document), "use_state_management", None)
        try:
            # Beanie writes the whole document otherwise, with what another client has changed during the upload.
            await (document.save_changes() if tracks is not None and tracks() else document.save())
        except Exception as error:
            if type(error).__name__ == "RevisionIdWasChanged":
                raise StaleDocument(type(document).__name__, self._field) from error
            raise

    def key_of(self, key: str | None, info: FileInfo) -> str:
        return key or ""
