"""ReadableBucket: where a bucket lies, and the half of it that reads stored files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, Self

from pymongo import ASCENDING, DESCENDING, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import _ServerMode

from gridproxy.gridfs.download.download import Download, check_offset, load_info, read_range, read_ranges
from gridproxy.gridfs.download.reader import DownloadStream
from gridproxy.gridfs.download.verify import verify_file
from gridproxy.gridfs.operations.many import read_many, stat_many
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import DEFAULT_CHUNK_SIZE, DEFAULT_NAME, Session, Store
from gridproxy.runtime.progress import Progress
from gridproxy.runtime.session_lock import iterate_locked
from gridproxy.upkeep.bucket_scanner import check_age
from gridproxy.upkeep.check import check_bucket
from gridproxy.upkeep.document_paths import References, parse_references
from gridproxy.upkeep.findings import Finding


class ReadableBucket:
    """The stored files of one bucket: found by what their records say, read as a stream or in ranges."""

    def __init__(
        self,
        database: AsyncDatabase[Any],
        name: str = DEFAULT_NAME,
        *,
        chunk_size: int = DEFAULT_CHUNK_SIZE,
        checksum: Literal["sha256"] | None = "sha256",
        write_concern: WriteConcern | None = None,
        read_concern: ReadConcern | None = None,
        read_preference: _ServerMode | None = None,
    ) -> None:
        self.store: Store = Store(
            database,
            name,
            chunk_size=chunk_size,
            checksum=checksum,
            write_concern=write_concern,
            read_concern=read_concern,
            read_preference=read_preference,
        )

    @property
    def database(self) -> AsyncDatabase[Any]:
        """The database that the bucket lies in."""
        return self.store.database

    @property
    def name(self) -> str:
        """The bucket's name, the prefix of its two collections (`fs.files`, `fs.chunks`)."""
        return self.store.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.store!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ReadableBucket):
            return NotImplemented
        return self.database == other.database and self.name == other.name

    def __hash__(self) -> int:
        return hash((self.database.name, self.name))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # a connection is shared, never doubled

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (self.name,)  # nor can it travel: what is pickled with a bucket keeps its name

    def stream(
        self, id: object, start: int = 0, stop: int | None = None, *, session: Session | None = None
    ) -> DownloadStream:
        """Bytes `start` to `stop` (exclusive; None for the end), clipped to the file, as blocks that are fetched ahead.

        Raises `BadOption` for a negative offset. Reading it raises `FileMissing`, for an expired file too,
        `CorruptFile`, and `FileVanished` where it was deleted meanwhile; it never ends short.
        """
        check_offset(start, "start")
        if stop is not None:
            check_offset(stop, "stop")
        return DownloadStream(Download(self.store, id, start, stop, session=session))

    async def read(
        self, id: object, start: int = 0, stop: int | None = None, *, session: Session | None = None
    ) -> bytes:
        """Bytes `start` to `stop` (exclusive; None for the end), clipped to the file. Raises as `stream`."""
        return await read_range(self.store, id, start, stop, session)

    async def read_ranges(
        self, id: object, ranges: Sequence[tuple[int, int]], *, session: Session | None = None
    ) -> list[bytes]:
        """The bytes of each of `ranges` (start, stop; exclusive), clipped to the file, in the order given; only the
        chunks that they lie in are fetched, each once. Raises as `stream`.
        """
        return await read_ranges(self.store, id, ranges, session)

    async def stat(self, id: object, *, session: Session | None = None) -> FileInfo:
        """The file's record. Raises `FileMissing`, for an expired file too, `CorruptFile` where it can be no file's."""
        return await load_info(self.store, id, session)

    async def stat_many(self, ids: Iterable[object], *, session: Session | None = None) -> dict[object, FileInfo]:
        """The records of many files by id, in the order given, without those that are missing or expired.

        Raises `BadId` for an id that no dict can have as a key (a dict), `CorruptFile` as `stat`.
        """
        return await stat_many(self.store, ids, session)

    async def read_many(self, ids: Iterable[object], *, session: Session | None = None) -> dict[object, bytes]:
        """The contents of many files by id, all of them in memory, without the missing ones: small files share round
        trips.

        Raises `CorruptFile` naming the file, `BadId` as `stat_many`.
        """
        return await read_many(self.store, ids, session)

    async def find(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: str | Sequence[tuple[str, int]] | None = None,
        skip: int = 0,
        limit: int = 0,
        session: Session | None = None,
    ) -> AsyncIterator[FileInfo]:
        """The files that fit a filter on their records (`{"metadata.owner": 7}`), expired ones included.

        `sort` is a key, with a '-' before it for downwards, or pairs as pymongo takes them; the first `skip` files are
        left out, and `limit` files come at most (0 for all). The filter is a query of yours: what comes from outside
        belongs into its values only, as `{"$eq": value}`. Raises `CorruptFile` at a record that cannot be a file's.
        """
        session = self.store.session_for(session)
        cursor = self.store.files.find(filter or {}, sort=_order(sort), skip=skip, limit=limit, session=session)
        async with cursor:
            async for record in iterate_locked(session, cursor):
                yield FileInfo.from_record(record)

    async def verify(self, id: object, *, session: Session | None = None, progress: Progress | None = None) -> FileInfo:
        """Read a file again and compare number and sizes of its chunks, and the SHA-256 where the record has one; its
        info.

        `progress` is called with (bytes done, bytes in all). Raises `CorruptFile` saying what is wrong, `FileMissing`,
        and `FileVanished` where it was deleted meanwhile.
        """
        return await verify_file(self.store, id, session, progress)

    def check(
        self,
        *,
        references: References | None = None,
        older_than: timedelta = timedelta(0),
        progress: Progress | None = None,
    ) -> AsyncIterator[Finding]:
        """Whatever is not as it should be in the whole bucket, one `Finding` at a time (see there for the kinds).

        Files whose chunks are missing or wrong by number or size (no bytes come here: `verify` compares those), expired
        files, and chunks without a file, running uploads included. With `references`, where documents hold files
        (`[("animals", "photo"), ("zoos", "rooms.photos")]`: a collection's name or an `AsyncCollection`, and a dotted
        path through sub-documents, lists and maps, `*` for every key of a map), also files that no document points to,
        and documents that point to no file. Pictures point to their thumbnails.

        `older_than` leaves out chunks without a file, and unreferenced files, that are younger by the server's clock.
        `progress` is called with the numbers of records and documents looked at, and to be looked at. Memory is
        bounded. No transaction takes part, neither does a bound session. Raises `BadOption` for references and ages
        that are none.
        """
        return check_bucket(self.store, parse_references(self.store, references), check_age(older_than), progress)


def _order(sort: str | Sequence[tuple[str, int]] | None) -> Sequence[tuple[str, int]] | None:
    if not isinstance(sort, str):
        return sort
    return [(sort.removeprefix("-"), DESCENDING if sort.startswith("-") else ASCENDING)]
