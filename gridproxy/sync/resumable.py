"""The resumable upload of blocking code. Written by tests/generate_sync.py."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gridproxy.file.options import FileOptions
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.resumable import resumable_upload as awaited
from gridproxy.gridfs.upload.sources import SourceLike

from .file import Connected
from .portal import call


class ResumableUpload:
    """An upload in parts, for code that does not await. `Bucket.resumable` and `Bucket.resume` return it.

    Each method is that of `gridproxy.ResumableUpload`, and blocks until it is done.

    ```python
    upload = bucket.resumable(filename="song.txt", length=9)
    upload.append(b"la ")
    later = bucket.resume(upload.id)  # in another process
    later.append(b"la la.", at=3)
    assert bucket.read(later.finish().id) == b"la la la."
    ```
    """

    def __init__(self, bucket: Connected, upload: awaited.ResumableUpload, options: FileOptions | None) -> None:
        self._bucket = bucket
        self._upload = upload
        self._options = options
        self._made_by = bucket.asynchronous()

    def asynchronous(self) -> awaited.ResumableUpload:
        """Return the asynchronous upload of this process, which works only in the event loop of this package.

        ```python
        upload = bucket.resumable(filename="notes.txt")
        assert upload.asynchronous().id == upload.id
        ```
        """
        bucket = self._bucket.asynchronous()
        if self._made_by is not bucket:  # this process was forked
            id, options = self._upload.id, self._options
            self._upload = call("Bucket.resume", lambda: bucket.resume(id, options=options))
            self._made_by = bucket
        return self._upload

    def __repr__(self) -> str:
        return repr(self.asynchronous()).replace("ResumableUpload", "gridproxy.sync.ResumableUpload", 1)

    @property
    def id(self) -> object:
        """The id for `Bucket.resume`, which the file will have, too."""
        upload = self.asynchronous()
        return upload.id

    @property
    def offset(self) -> int:
        """How many bytes are stored, as far as this object knows. The next append begins there."""
        upload = self.asynchronous()
        return upload.offset

    @property
    def length(self) -> int | None:
        """The announced length in bytes, or None."""
        upload = self.asynchronous()
        return upload.length

    @property
    def info(self) -> FileInfo:
        """The info that the file would have if the upload ended here."""
        upload = self.asynchronous()
        return upload.info

    @property
    def expires_at(self) -> datetime:
        """When the upload expires, in UTC. Each append moves this."""
        upload = self.asynchronous()
        return upload.expires_at

    @property
    def is_finished(self) -> bool:
        """Whether the file was stored."""
        upload = self.asynchronous()
        return upload.is_finished

    @property
    def is_busy(self) -> bool:
        """Whether another client was appending when this object learned of the upload, and may still be."""
        upload = self.asynchronous()
        return upload.is_busy

    @property
    def annotations(self) -> Mapping[str, Any]:
        """What the application stored with the upload, and not with the file."""
        upload = self.asynchronous()
        return upload.annotations

    def append(self, source: SourceLike, *, at: int | None = None, whole: bool = False) -> int:
        """Append all bytes of `source`, and return the new offset.

        If the source fails or the call is cancelled, the bytes that arrived before are stored, and `offset` counts
        them. After a failure of the server, `Bucket.resume` finds the offset.

        Args:
            source: As for `Bucket.upload`. Its name and type are ignored.
            at: The offset of the first byte. None for `offset`.
            whole: Whether to store all bytes or none if the source fails. A caller needs that who knows only at the end
                that the bytes are right.

        Raises:
            WrongOffset: The upload has more or fewer bytes than `at`. Nothing was stored.
            WrongLength: The source has more bytes than announced. Those that fit may be stored.
            UploadInProgress: Another client appends at this moment, or has taken over after a pause.
            UploadMissing: The upload was aborted, or has expired.
            FileAlreadyStored: The upload is finished.
            FileRefused: A limit refuses the content. The whole upload was removed.
            BadSource: Bytes cannot be read from the source.

        ```python
        upload = bucket.resumable(filename="notes.txt")
        assert upload.append(b"some text") == 9
        ```
        """
        upload = self.asynchronous()
        return call("ResumableUpload.append", lambda: upload.append(source, at=at, whole=whole))

    def announce(self, length: int) -> None:
        """Say how long the content is, if that was not known at the beginning. To repeat it is not an error.

        Args:
            length: The length of the whole content in bytes.

        Raises:
            WrongLength: Another length was announced, or the upload is longer already.
            UploadMissing: The upload was aborted, or has expired.
            TooLarge: `length` is above the limit.

        ```python
        upload = bucket.resumable(filename="notes.txt")
        upload.announce(9)
        assert upload.length == 9
        ```
        """
        upload = self.asynchronous()
        call("ResumableUpload.announce", lambda: upload.announce(length))

    def finish(self) -> FileInfo:
        """Make a file of all appended bytes, and return its record. This may be repeated.

        The SHA-256 is computed while the bytes arrive. If another process received a part of them, this reads them
        back, which takes about as long as a download.

        Raises:
            WrongLength: Fewer bytes than announced were appended.
            UploadInProgress: Another client writes to the upload at this moment.
            UploadMissing: The upload was aborted, or has expired.
            FileMissing: The upload was finished before, and the file was deleted.
            FileRefused: A limit refuses the content. The upload was removed.
            FileAlreadyStored: Another file has the id.
            CorruptFile: Chunks are gone. No file was stored.
            OutcomeUnknown: The server did not answer. The file may be stored: finish again.

        ```python
        upload = bucket.resumable(filename="empty.txt")
        assert upload.finish().length == 0
        ```
        """
        upload = self.asynchronous()
        return call("ResumableUpload.finish", upload.finish)

    def abort(self) -> None:
        """Remove the upload and its bytes. To abort it again is not an error. An append of another client fails.

        Raises:
            FileAlreadyStored: The upload is finished. `delete` removes the file.

        ```python
        upload = bucket.resumable(filename="notes.txt")
        upload.abort()
        ```
        """
        upload = self.asynchronous()
        call("ResumableUpload.abort", upload.abort)
