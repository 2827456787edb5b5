"""Files from one bucket to another: in one server without a byte through the client, else with bounded memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import bson
from bson import ObjectId

from gridproxy.bucket import Bucket
from gridproxy.errors import BadOption, CorruptFile, shown
from gridproxy.file.writing import StoredFile
from gridproxy.gridfs.content.variants import is_legacy_thumbnail, named_variants, thumbnail_id, variant_ids
from gridproxy.gridfs.download.download import Download
from gridproxy.gridfs.download.reader import DownloadStream
from gridproxy.gridfs.operations.many import read_together
from gridproxy.gridfs.records.file_info import UPLOAD_ID, FileInfo
from gridproxy.gridfs.records.ids import id_filter, id_key, is_plain_id
from gridproxy.gridfs.store.collections import Record, Store
from gridproxy.gridfs.store.server_clock import server_now
from gridproxy.runtime.events import Event, log_event
from gridproxy.runtime.progress import Progress
from gridproxy.runtime.tasks import interruptible, run_to_completion
from gridproxy.upkeep.bucket_scanner import BucketScanner, open_scanner

from .receiver import MovingFile, Outcome, Receiver, count_outcomes, exact_store, without_own_keys
from .report import Tallies, TransferReport, UnmovedFile
from .workers import Workers

_KEPT = ("id", "upload_date", "metadata")
# Servers process long `$in` lists slowly (the embedded one in quadratic time).
_FILES_PER_PAGE = 200
_PAGES_AT_ONCE = 3
_FILES_PER_REMOVAL = 50
_REMOVAL_BYTES = 4 * 1024 * 1024
# Ranges of 4 MB of one large file that are read ahead of its upload. More would need more memory than 48 MB.
RANGES_AHEAD = 2


async def transfer(
    source: Bucket,
    target: Bucket,
    filter: Mapping[str, Any] | None = None,
    *,
    keep: Collection[str] = _KEPT,
    delete: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Copy or move files from one bucket to another one, of the same server or of another.

    If both buckets have the same client, the server copies the content. Otherwise the content passes through the
    client, which compares its SHA-256, in at most 48 MB of memory. The variants of a picture are moved with it. Expired
    files stay behind.

    It can be interrupted and run again at any time. A file that is in the target already is skipped if it is whole and
    has the same record, and else it is listed in `different` and never overwritten.

    Args:
        source: The bucket to read from.
        target: The bucket to store into.
        filter: A MongoDB query on the records. None for all files. Put values from outside into `{"$eq": value}` only.
        keep: What the files keep beside their name, type, chunks and expiry. Without "id" a file gets an id that is
            computed from its old one, so that a repetition finds it. Without "upload_date" it is uploaded now. Without
            "metadata" it has only its content type and its SHA-256.
        delete: Whether to remove each file from the source. What passed through the client is read again from the
            target first, and its SHA-256 is compared. A file that was changed in between stays.
        progress: Called with (bytes done, bytes in all).

    Returns:
        The counts, and the files that were not moved with the reasons.

    Raises:
        BadOption: An argument is wrong, both are the same bucket, or it runs in a block of `session.bind()`.
        IndexesNotAllowed: The user may not look at the indexes of the target.
        OutcomeUnknown: The server did not answer. Run it again.

    ```python
    archive = gridproxy.Bucket(client["zoo"], "archive")
    report = await gridproxy.transfer(bucket, archive, {"metadata.owner": 7})
    assert (report.transferred, report.ok) == (1, True)
    assert await archive.stat(info.id) == info
    ```
    """
    return await transfer_as(source, target, filter, keep=keep, delete=delete, progress=progress)


async def transfer_as(
    source: Bucket,
    target: Bucket,
    filter: Mapping[str, Any] | None,
    *,
    rename: Callable[[str], str] | None = None,
    new_name: str = "",
    keep: Collection[str] = _KEPT,
    delete: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Transfer files to other names, which `rename` returns for the old ones. See `transfer`.

    Both buckets may be the same if the filter does not match the new files. `new_name` distinguishes copies of one file
    under several names, if the id is not kept.
    """
    kept = _check_keep(keep)
    stores = exact_store(source, "source"), exact_store(target, "target", target=True)
    same = stores[0].same_as(stores[1])
    if same and rename is None:
        raise _same_bucket(stores[0])
    if filter is not None and not isinstance(filter, Mapping):
        raise BadOption(f"filter is a MongoDB query such as {{'metadata.owner': 7}}, not {shown(filter)}")
    # Two clients may lead to one server, and `delete` would remove the only copy.
    maybe = not same and stores[0].key == stores[1].key
    if maybe and await run_to_completion(stores[1].is_seen_by(stores[0]), client=stores[1].client):
        raise _same_bucket(stores[0])
    tallies = Tallies(progress, await total_bytes(stores[0], filter, progress))
    move = _Transfer(*stores, filter or {}, kept, delete, tallies, rename, new_name)
    await move.run()
    return move.tallies.report()


def _same_bucket(store: Store) -> BadOption:
    # A search that continues would find the copies, too.
    return BadOption(f"source and target are both {store.description}. bucket.copy() copies files inside a bucket")


def _check_keep(keep: object) -> frozenset[str]:
    if isinstance(keep, str) or not isinstance(keep, Collection) or not set(keep) <= set(_KEPT):
        raise BadOption(f"keep contains some of {_KEPT}, and is not {shown(keep)}")
    return frozenset(keep)


async def total_bytes(store: Store, filter: Mapping[str, Any] | None, progress: Progress | None) -> int | None:
    """Return how many bytes the selected files have, if that is asked for."""
    if progress is None:
        return None
    stages: list[Mapping[str, Any]] = [
        {"$match": filter or {}},
        {"$group": {"_id": None, "bytes": {"$sum": "$length"}}},
    ]

    async def added() -> list[Record]:
        async with store.own_session() as session, await store.files.aggregate(stages, session=session) as cursor:
            return await cursor.to_list()

    return sum(int(row["bytes"]) for row in await interruptible(added()))


class BucketOrigin:
    """The content of the files of a bucket. `inside`: the server of the target can copy from it."""

    def __init__(self, store: Store, *, inside: bool) -> None:
        self._store = store
        self.inside: Store | None = store if inside else None

    async def read_small(self, files: Sequence[MovingFile]) -> dict[Hashable, bytes]:
        """Return the contents of small files, without those that are damaged or gone."""
        contents = await interruptible(read_together(self._store, [file.source for file in files]))
        return {file.key: contents[file.source.id] for file in files if file.source.id in contents}

    def open(self, file: MovingFile) -> StoredFile:
        """Return the content of one file."""
        return StoredFile(
            DownloadStream(Download(self._store, file.source.id, info=file.source, most_ahead=RANGES_AHEAD))
        )


class _Transfer:
    def __init__(
        self,
        source: Store,
        target: Store,
        filter: Mapping[str, Any],
        keep: frozenset[str],
        delete: bool,
        tallies: Tallies,
        rename: Callable[[str], str] | None,
        new_name: str,
    ) -> None:
        self.tallies = tallies
        self._rename = rename
        self._new_name = new_name
        self._source = source
        self._target = target
        self._filter = filter
        self._keep = keep
        self._delete = delete
        origin = BucketOrigin(source, inside=source.client is target.client)
        self._receiver = Receiver(target, origin, tallies, any_date="upload_date" not in keep)

    async def run(self) -> None:
        await self._receiver.prepare()
        async with open_scanner(self._source) as scanner, Workers(_PAGES_AT_ONCE) as workers:
            pages = scanner.pages(scanner.files, None, self._filter, _FILES_PER_PAGE)
            while records := await interruptible(anext(pages, None)):
                page, families = await self._complete(scanner, records)
                await workers.start(self._move(page, families))

    async def _complete(
        self, scanner: BucketScanner, page: list[Record]
    ) -> tuple[list[Record], dict[Hashable, Hashable]]:
        """Add the variants of pictures before their pictures, and leave out those that come with another page.

        Return also the key of the picture for each variant.
        """
        page = await self._without_brought(scanner, page)
        there = {id_key(record["_id"]): record for record in page}
        named = {id_key(id): id for record in page for id in variant_ids(record) if is_plain_id(id)}
        more = [id for key, id in named.items() if key not in there]
        found = await _find(scanner, {"_id": {"$in": more}}) if more else []
        by_key = there | {id_key(record["_id"]): record for record in found}
        ordered: dict[Hashable, Record] = {}
        families: dict[Hashable, Hashable] = {}
        for record in page:
            picture = id_key(record["_id"])
            for variant in map(id_key, variant_ids(record)):
                if variant in by_key and _is_variant_of(by_key[variant], record):
                    families[variant] = picture
                    ordered[variant] = by_key[variant]
            ordered[picture] = record
        return list(ordered.values()), families

    async def _without_brought(self, scanner: BucketScanner, page: list[Record]) -> list[Record]:
        """Leave out the variants whose pictures are selected, too, because a picture brings its variants."""
        owners = [(record, _metadata(record).get("variant_of")) for record in page]
        wanted = [id for _, id in owners if id is not None and is_plain_id(id)]
        if not wanted:
            return page
        query = {"$and": [self._filter, {"_id": {"$in": wanted}}]}
        brought = {id_key(id) for picture in await _find(scanner, query) for id in variant_ids(picture)}
        return [record for record, id in owners if id is None or id_key(record["_id"]) not in brought]

    async def _move(self, page: list[Record], families: Mapping[Hashable, Hashable]) -> None:
        now = await server_now(self._source)
        files, records = [], {}
        ids = {id_key(record["_id"]): record["_id"] for record in page}
        for record in page:
            try:
                file = MovingFile(self._new_record(record, ids, families), FileInfo.from_record(record))
            except CorruptFile as error:
                self.tallies.add_failed(UnmovedFile(record["_id"], None, error.reason))
                continue
            if not file.source.expired(now):
                files.append(file)
                records[file.key] = record
        await self._receiver.receive(files)
        if self._delete:
            await self._receiver.verify([file for file in files if file.is_whole], self._source)
            # A picture and its variants are removed together or not at all.
            family = {id(file): families.get(key_of(file), key_of(file)) for file in files}
            kept = {family[id(file)] for file in files if not file.is_whole}
            moved = [file for file in files if family[id(file)] not in kept]
            for group in _grouped_by_records(moved, records):
                await self._remove(group, records)
        count_outcomes(files, self.tallies)

    def _new_record(
        self, record: Record, ids: Mapping[Hashable, object], families: Mapping[Hashable, Hashable]
    ) -> Record:
        """Return the record for the target."""
        new = without_own_keys(record)
        if self._rename is not None and isinstance(name := record.get("filename"), str):
            new["filename"] = self._rename(name)
        if "upload_date" not in self._keep:
            new["uploadDate"] = self._target.now()
        if "metadata" not in self._keep:
            new = _without_metadata(new)
        if "id" not in self._keep:
            new = self._with_new_ids(new, ids, families)
        return new

    def _with_new_ids(
        self, record: Record, ids: Mapping[Hashable, object], families: Mapping[Hashable, Hashable]
    ) -> Record:
        """Return the record with another id, and with the new ids of its variants or its picture."""
        new = self._computed_id
        own = id_key(record["_id"])
        variants = {variant for variant, picture in families.items() if picture == own}
        metadata = dict(_metadata(record))
        if own in families and "variant_of" in metadata:
            metadata["variant_of"] = new(ids[families[own]])
        if id_key(metadata.get("thumbnail_id")) in variants:
            metadata["thumbnail_id"] = new(metadata["thumbnail_id"])
        if named := named_variants(metadata):
            metadata["variants"] = {name: new(id) if id_key(id) in variants else id for name, id in named.items()}
        changed = {**record, "_id": new(record["_id"])}
        if "metadata" in record and metadata != record["metadata"] and isinstance(record["metadata"], Mapping):
            changed["metadata"] = metadata
        if id_key(record.get("thumbnail_id")) in variants:
            changed["thumbnail_id"] = new(record["thumbnail_id"])
        return changed

    def _computed_id(self, id: object) -> ObjectId:
        key = {"database": self._source.database.name, "bucket": self._source.name, "id": id, "name": self._new_name}
        return ObjectId(sha256(bson.encode(key, codec_options=self._source.codec_options)).digest()[:12])

    async def _remove(self, files: Sequence[MovingFile], records: Mapping[Hashable, Record]) -> None:
        """Remove files from the source. One that was changed since it was read stays, and is noted as failed."""
        began = time.monotonic()
        changed = await run_to_completion(
            self._remove_unchanged([records[file.key] for file in files]), client=self._source.client
        )
        for file in files:
            if key_of(file) in changed:
                file.end(Outcome.DIFFERENT, "it was changed in the source during the transfer, so it stays there")
            else:
                self.tallies.removed += 1
                log_event(Event.REMOVED, self._source, file.source.id, size=file.source.length, since=began)

    async def _remove_unchanged(self, records: Sequence[Record]) -> set[Hashable]:
        """Remove the records that are as they were read, then their chunks. Return the keys of the others."""
        store = self._source
        same = list(map(_same_record, records))
        queries = _queries([record["_id"] for record in records])
        left: set[Hashable] = set()
        for query in queries:
            # The condition on the ids alone is what a server looks up in the index.
            await store.delete_records({**query, "$or": same}, None)
            left |= {id_key(id) for id in await store.find_ids(query, None)}
        gone = [record for record in records if id_key(record["_id"]) not in left]
        await store.delete_chunks_of_all([(record["_id"], record.get(UPLOAD_ID)) for record in gone])
        return left


async def _find(scanner: BucketScanner, query: Mapping[str, Any]) -> list[Record]:
    return await interruptible(scanner.files.find(query, session=scanner.session).to_list())


def key_of(file: MovingFile) -> Hashable:
    """Return the id in the source as a key of a dict."""
    return id_key(file.source.id)


def _grouped_by_records(files: Sequence[MovingFile], records: Mapping[Hashable, Record]) -> Iterator[list[MovingFile]]:
    """Group files so that their records fit into one query."""
    group: list[MovingFile] = []
    size = 0
    for file in files:
        own = len(bson.encode(_same_record(records[file.key])))
        if group and (len(group) == _FILES_PER_REMOVAL or size + own > _REMOVAL_BYTES):
            yield group
            group, size = [], 0
        group.append(file)
        size += own
    if group:
        yield group


def _same_record(record: Record) -> dict[str, Any]:
    """Return the condition that a record is as it was read. Of a very long one only a part is compared."""
    keys = record if len(bson.encode(record)) < _REMOVAL_BYTES else ("_id", "uploadDate", "length", UPLOAD_ID)
    return {UPLOAD_ID: None, **{key: {"$eq": record[key]} for key in keys if key in record}}


def _queries(ids: Iterable[object]) -> list[dict[str, Any]]:
    plain = [id for id in ids if is_plain_id(id)]
    return [{"_id": {"$in": plain}}, *({"_id": id_filter(id)} for id in ids if not is_plain_id(id))]


def _metadata(record: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = record.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


def _is_variant_of(record: Record, picture: Record) -> bool:
    owner = _metadata(record).get("variant_of")
    if owner is not None:
        return id_key(owner) == id_key(picture["_id"])
    legacy = thumbnail_id({}, picture)
    return legacy is not None and id_key(legacy) == id_key(record["_id"]) and is_legacy_thumbnail(record)


def _without_metadata(record: Record) -> Record:
    """Return the record with its type and its SHA-256 as the only metadata, and without keys of other writers."""
    standard = ("_id", "length", "chunkSize", "uploadDate", "filename", "expires_at", "contentType")
    computed = {key: value for key, value in _metadata(record).items() if key in ("content_type", "sha256")}
    return {**{key: record[key] for key in standard if key in record}, "metadata": computed}
