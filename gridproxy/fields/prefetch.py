"""Prefetch: the infos, and small contents, of the files of many documents in few queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from gridproxy.errors import BadOption, type_name
from gridproxy.file.file import AsyncGridFile
from gridproxy.gridfs.operations.many import read_together, stat_many
from gridproxy.gridfs.records.chunks import RANGE_BYTES
from gridproxy.gridfs.records.ids import is_plain_id
from gridproxy.gridfs.store.collections import Session, Store

from .paths import enter_list, parse_path

# A small content fits into one chunk of the default size.
_SMALL_BYTES = 255 * 1024
_BEHIND_A_FILE = ("thumbnail", "variants")


async def prefetch(
    documents: Iterable[object], *fields: str, content: bool = False, session: Session | None = None
) -> None:
    """Load the infos of the files in many documents, with one query for each bucket and 200 files.

    Empty files and known infos are left out, and so are parts that a document lacks. A missing file has no info
    afterwards.

    Args:
        documents: Models, dataclasses, mappings or plain objects.
        *fields: Paths: "photo", "album" (each file of a list), "album.0", "owner.photo", "owners.photo" (of each owner
            in a list), "photo.thumbnail" (one more query if the infos of the pictures are unknown).
        content: Whether to load contents, too, with one more query for each bucket and 200 files: those of at most
            255 KiB, up to 4 MiB in all, in the order of the documents. The next `read()` to the end then needs no
            round trip.
        session: The session of pymongo for the queries.

    Raises:
        BadOption: A path is invalid, or leads to a value that is not a file.
        NotConnected: No database is known.
        CorruptFile: A record is not that of a file.

    ```python
    documents = [{"photo": AsyncGridFile(file.id)}, {"photo": AsyncGridFile()}]
    await prefetch(documents, "photo")
    assert documents[0]["photo"].length == 20
    ```
    """
    if not fields:
        raise BadOption("prefetch needs the names of the fields: prefetch(documents, 'photo')")
    documents = list(documents)
    paths = [parse_path(field) for field in fields]

    def found() -> list[AsyncGridFile]:
        return [file for document in documents for path in paths for file in _files_at(document, path, ".".join(path))]

    files = found()
    await load_infos(files, session)
    if any(set(path).intersection(_BEHIND_A_FILE) for path in paths):
        files = found()  # the thumbnails and variants of the pictures are known now
        await load_infos(files, session)
    if content:
        await _load_contents(files, session)


async def load_infos(files: Iterable[AsyncGridFile], session: Session | None) -> None:
    """Load the records that are unknown, with one query for each bucket and 200 files."""
    unknown = (file for file in files if file.info is None)
    for store, group in _by_store(unknown):
        infos = await stat_many(store, [file.id for file in group], session)
        for file in group:
            if file.id in infos and file.state.may_have(infos[file.id]):
                file.state.on_info(store, file.id, store.session_for(session))(infos[file.id])


async def _load_contents(files: list[AsyncGridFile], session: Session | None) -> None:
    left = RANGE_BYTES
    wanted = []
    for file in files:
        info = file.info
        now = file.state.store().now()
        fits = info is not None and 0 < info.length <= min(_SMALL_BYTES, left) and not info.expired(now)
        if info is not None and fits and file.tell() == 0:
            wanted.append(file)
            left -= info.length
    for store, group in _by_store(wanted):
        infos = {file.id: file.info for file in group if file.info is not None}
        contents = await read_together(store, list(infos.values()))
        for file in group:
            if file.id in contents:
                file.state.prime_reader(store, session, contents[file.id])


def _by_store(files: Iterable[AsyncGridFile]) -> list[tuple[Store, list[AsyncGridFile]]]:
    """Group files that one query can load, by their buckets."""
    groups: list[tuple[Store, list[AsyncGridFile]]] = []
    for file in files:
        # A query cannot compare other than plain ids with a list.
        if file.id is None or file.state.busy is not None or not is_plain_id(file.id):
            continue
        store = file.state.store()
        store = store.whole or store  # one query for the variants of many pictures
        same = next((group for other, group in groups if other.same_as(store)), None)
        if same is None:
            groups.append((store, [file]))
        else:
            same.append(file)
    return groups


def _files_at(value: object, path: list[str], whole: str) -> Iterator[AsyncGridFile]:
    if value is None:
        return
    if isinstance(value, list | tuple):
        items, path = enter_list(value, path)
        for _, each in items:
            yield from _files_at(each, path, whole)
    elif isinstance(value, AsyncGridFile) and (not path or value.info is None):
        yield value
    elif path:
        part = value.get(path[0]) if isinstance(value, Mapping) else _attribute(value, path[0], whole)
        yield from _files_at(part, path[1:], whole)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _files_at(each, path, whole)
    else:
        raise BadOption(f"{whole!r} leads to {type_name(value)}, not to a file")


def _attribute(value: object, name: str, whole: str) -> object:
    try:
        return getattr(value, name)
    except AttributeError:
        raise BadOption(f"{whole!r}: {type_name(value)} has no {name!r}") from None
