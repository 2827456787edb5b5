"""Prefetch: the infos, and small contents, of the files of many documents at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from gridproxy.errors import BadOption, type_name
from gridproxy.file.file import AsyncGridFile
from gridproxy.gridfs.operations.many import read_together, stat_many
from gridproxy.gridfs.records.chunks import RANGE_BYTES
from gridproxy.gridfs.records.ids import is_plain_id
from gridproxy.gridfs.store.collections import Session, Store

# A content is small where it fits into one chunk of the usual size.
_SMALL_BYTES = 255 * 1024
_BEHIND_A_FILE = ("thumbnail", "variants")


async def prefetch(
    documents: Iterable[object], *fields: str, content: bool = False, session: Session | None = None
) -> None:
    """Load the infos of the files in these `fields` of many documents: one query for each bucket and 200 files.

    Documents are of any kind: models, dataclasses, mappings, plain objects. A field is a path: "photo", "album" (every
    file of a list), "album.0", "owner.photo", "owners.photo" (of every owner in a list), "photo.thumbnail" (a query
    more, where the pictures' own infos are not known). Empty files, and what is not there in one of the documents, are
    left out; so are infos that are known already. A file that is missing keeps none.

    `content` fetches contents as well, with one more query for each bucket and 200 files: those of at most 255 KiB, and
    4 MiB of them in all, in the order of the documents. They stay with the files until the next `read()` to the end,
    which costs no round trip.

    Raises `BadOption` for a path that leads to something else, naming what it is, `NotConnected` where no database is
    known, and `CorruptFile` for a record that cannot be a file's.

    ```python
    documents = [{"photo": AsyncGridFile(file.id)}, {"photo": AsyncGridFile()}]
    await prefetch(documents, "photo")
    assert documents[0]["photo"].length == 20
    ```
    """
    if not fields:
        raise BadOption("prefetch takes the names of the fields, too: prefetch(documents, 'photo')")
    documents = list(documents)
    paths = [_path(field) for field in fields]

    def found() -> list[AsyncGridFile]:
        return [file for document in documents for path in paths for file in _files_at(document, path, ".".join(path))]

    files = found()
    await load_infos(files, session)
    if any(set(path).intersection(_BEHIND_A_FILE) for path in paths):
        files = found()  # what belongs to pictures can be named, now that these are known
        await load_infos(files, session)
    if content:
        await _load_contents(files, session)


async def load_infos(files: Iterable[AsyncGridFile], session: Session | None) -> None:
    """Ask for the records that are not known yet: one query for each bucket and 200 files."""
    unknown = (file for file in files if file.info is None)
    for store, group in _by_store(unknown):
        infos = await stat_many(store, [file.id for file in group], session)
        for file in group:
            if file.id in infos:
                file.state.on_info(file.id, store.session_for(session))(infos[file.id])


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
    """Files that can be asked for together, by the bucket that they lie in."""
    groups: list[tuple[Store, list[AsyncGridFile]]] = []
    for file in files:
        # Ids that are no plain values cannot stand in a list of them.
        if file.id is None or file.state.busy is not None or not is_plain_id(file.id):
            continue
        store = file.state.store()
        same = next((group for other, group in groups if other.same_as(store)), None)
        if same is None:
            groups.append((store, [file]))
        else:
            same.append(file)
    return groups


def _path(field: object) -> list[str]:
    if not isinstance(field, str) or not all(field.split(".")):
        raise BadOption(f"a field is a name or a dotted path such as 'owner.photo', not {field!r}")
    return field.split(".")


def _files_at(value: object, path: list[str], whole: str) -> Iterator[AsyncGridFile]:
    if value is None:
        return
    if isinstance(value, list | tuple):
        if path and path[0].isdigit():
            inside = value[int(path[0]) : int(path[0]) + 1]
            path = path[1:]
        else:
            inside = value
        for each in inside:
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
        raise BadOption(f"{whole!r} leads to {type_name(value)}, and not to a file")


def _attribute(value: object, name: str, whole: str) -> object:
    try:
        return getattr(value, name)
    except AttributeError:
        raise BadOption(f"{whole!r}: {type_name(value)} has no {name!r}") from None
