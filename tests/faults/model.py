"""Files, documents, crashes and the collector, against a plain dict: a state machine that hypothesis drives.

The machine does to the real thing what a rule says, and to its model what the documentation says. After each step the
buckets hold what the model holds, byte for byte. Where a step is broken off, what the model holds is either of the two
that are expected_size, and the machine looks which.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pymongo import AsyncMongoClient

import gridproxy
from gridproxy import AsyncGridFile, Bucket, FileAlreadyStored, FileMissing
from gridproxy.adapters.document import Document, FileField

from .cancelling import Outcome, Way, run_cancelled
from .link import Break, Link
from .trial import assert_collected, collected, error_of
from .whole import files_and_orphans

__all__ = ["FilesAndDocuments"]

T = TypeVar("T")
Work = Callable[[], Awaitable[object]]

CHUNK = 1024
FILES = 3
PETS = 2


class Pet(Document):
    photo = FileField(bucket="photos", on_delete="delete")


@dataclass
class Held:
    """What the model knows of a document: what it points to where it is stored, and what was put there since."""

    saved: bytes | None = None
    stored: bool = False
    since: list[bytes] = field(default_factory=list)

    def contents(self) -> list[bytes]:
        return [*([] if self.saved is None else [self.saved]), *self.since]


@dataclass(frozen=True)
class Cancelled:
    """Broken off by a cancellation after a number of steps."""

    at: int
    way: Way


@dataclass(frozen=True)
class Struck:
    """Broken off by a connection or a server that fails with the command of a number."""

    number: int
    kind: Break


Crash = Cancelled | Struck | None

FILE = st.integers(0, FILES - 1)
PET = st.integers(0, PETS - 1)
# Nothing, less than a chunk, exactly one, one request, several batches.
SIZE = st.sampled_from([0, 1, 700, CHUNK, 1500, 2 * CHUNK, 5000])
KINDS = [Break.ERROR, Break.NOT_PRIMARY, Break.CUT_BEFORE, Break.CUT_AFTER]
CRASH = st.one_of(
    st.none(),
    st.none(),
    st.builds(Cancelled, st.integers(0, 40), st.sampled_from(Way)),
    st.builds(Struck, st.integers(0, 5), st.sampled_from(KINDS)),
)


class FilesAndDocuments(RuleBasedStateMachine):
    """Three proxies in one bucket and two documents with a photo in another; nobody else works in the database."""

    def __init__(self, uri: str, database: str) -> None:
        super().__init__()
        self.serial = 0
        self.contents: list[bytes | None] = [None] * FILES
        self.held = [Held() for _ in range(PETS)]
        # Files that nobody points to any more, by bucket, and how many ids have chunks and no file.
        self.adrift: dict[str, Counter[bytes]] = {"fs": Counter(), "photos": Counter()}
        self.orphans = {"fs": 0, "photos": 0}
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.do(self.open(uri, database))

    async def open(self, uri: str, database: str) -> None:
        self.link = await self.stack.enter_async_context(Link.to(uri))
        client = await self.stack.enter_async_context(
            AsyncMongoClient[dict[str, Any]](self.link.uri, serverMonitoringMode="poll")
        )
        self.client = client
        self.database = client[database]
        self.bucket = Bucket(self.database, chunk_size=CHUNK)
        self.photos = Bucket(self.database, "photos", chunk_size=CHUNK)
        self.stack.enter_context(gridproxy.using(self.database))
        for bucket in (self.bucket, self.photos):
            await bucket.ensure_indexes()
        self.files = [AsyncGridFile(bucket=self.bucket) for _ in range(FILES)]
        self.pets = [Pet() for _ in range(PETS)]

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.do(self.close())
        self.runner.close()

    async def close(self) -> None:
        self.link.heal()
        for name in ("fs.files", "fs.chunks", "photos.files", "photos.chunks", "pet"):
            await self.database[name].delete_many({})
        await self.stack.aclose()

    def fresh(self, size: int) -> bytes:
        """Bytes that nobody else has."""
        self.serial += 1
        return (b"%06d " % self.serial * (size // 7 + 1))[:size]

    async def broken_off(self, work: Work, crash: Crash) -> bool:
        """Do the work, or begin it; whether it came to its end."""
        if isinstance(crash, Cancelled):
            return await run_cancelled(work, crash.at, crash.way) is not Outcome.CANCELLED
        if crash is None:
            await work()
            return True
        self.link.strike(crash.kind, skip=crash.number)
        error = await error_of(work())
        self.link.heal()
        return error is None

    # What lies there

    async def look(self, name: str) -> tuple[dict[Any, bytes], int]:
        files, orphans = await files_and_orphans(self.database, name)
        return files, len(orphans)

    @invariant()
    def the_buckets_hold_what_the_model_holds(self) -> None:
        self.do(self.compare())

    async def compare(self) -> None:
        expected = {
            "fs": Counter(content for content in self.contents if content is not None),
            "photos": Counter(content for held in self.held for content in held.contents()),
        }
        for name, counter in expected.items():
            files, orphans = await self.look(name)
            assert Counter(files.values()) == counter + self.adrift[name]
            assert orphans == self.orphans[name]
            for number, file in enumerate(self.files if name == "fs" else []):
                assert (None if file.id is None else files[file.id]) == self.contents[number]
        for number, held in enumerate(self.held):
            assert bool(self.pets[number].photo) is bool(held.contents())

    # Proxies

    @rule(number=FILE, size=SIZE, crash=CRASH)
    def put(self, number: int, size: int, crash: Crash) -> None:
        file, data = self.files[number], self.fresh(size)
        if self.contents[number] is not None:
            assert isinstance(self.do(error_of(file.put(data))), FileAlreadyStored)
        else:
            self.do(self.stored(number, data, lambda: file.put(data), crash))

    @rule(number=FILE, size=SIZE, crash=CRASH)
    def replace(self, number: int, size: int, crash: Crash) -> None:
        file, data = self.files[number], self.fresh(size)
        self.do(self.stored(number, data, lambda: file.replace(data), crash))

    @rule(number=FILE, sizes=st.lists(SIZE, max_size=4), awaited=st.booleans(), crash=CRASH)
    def write(self, number: int, sizes: list[int], awaited: bool, crash: Crash) -> None:
        file, pieces = self.files[number], [self.fresh(size) for size in sizes]

        async def write() -> None:
            async with file.new_file(replace=True):
                for piece in pieces:
                    written = file.write(piece)
                    if awaited:
                        await written

        self.do(self.stored(number, b"".join(pieces), write, crash))

    async def stored(self, number: int, data: bytes, work: Work, crash: Crash) -> None:
        old, old_id = self.contents[number], self.files[number].id
        done = await self.broken_off(work, crash)
        if done or self.files[number].id != old_id:
            self.contents[number] = data
        if not done:
            await self.adopt("fs", Counter([data]) + Counter([] if old is None else [old]))

    async def adopt(self, name: str, possible: Counter[bytes]) -> None:
        """Take in what a broken step may have left: files that are whole and nobody's, and chunks."""
        files, self.orphans[name] = await self.look(name)
        held = self.contents if name == "fs" else [content for each in self.held for content in each.contents()]
        known = Counter(content for content in held if content is not None) + self.adrift[name]
        there = Counter(files.values())
        assert not known - there, "a file is lost"
        assert not (there - known) - possible, "a file that nobody has put there"
        self.adrift[name] += there - known

    @rule(number=FILE, crash=CRASH)
    def delete(self, number: int, crash: Crash) -> None:
        self.do(self.deleted(number, crash))

    async def deleted(self, number: int, crash: Crash) -> None:
        file = self.files[number]
        if not await self.broken_off(file.delete, crash):
            await file.delete()
        self.contents[number] = None
        # A file that was gone before its chunks were: they go with the second try.

    @rule(number=FILE, start=st.integers(0, 6000), size=st.integers(0, 3000))
    def read(self, number: int, start: int, size: int) -> None:
        file, content = self.files[number], self.contents[number]
        if content is None:
            assert isinstance(self.do(error_of(file.read())), FileMissing)
            return
        assert self.do(file.read_range(start, start + size)) == content[start : start + size]
        self.do(file.seek(0))
        assert self.do(file.read()) == content
        assert self.do(file.verify()).length == len(content)

    @rule(number=FILE, other=FILE, crash=CRASH)
    def copy(self, number: int, other: int, crash: Crash) -> None:
        content = self.contents[number]
        if content is not None and self.contents[other] is None:
            self.do(self.copied(number, other, content, crash))

    async def copied(self, number: int, other: int, content: bytes, crash: Crash) -> None:
        async def copy() -> None:
            self.files[other] = await self.files[number].copy()

        if await self.broken_off(copy, crash):
            self.contents[other] = content
        else:
            await self.adopt("fs", Counter([content]))

    # Documents

    @rule(number=PET, size=SIZE, crash=CRASH)
    def photograph(self, number: int, size: int, crash: Crash) -> None:
        self.do(self.photographed(number, self.fresh(size), crash))

    async def photographed(self, number: int, data: bytes, crash: Crash) -> None:
        photo = self.pets[number].photo
        before = photo.id
        done = await self.broken_off(lambda: photo.replace(data), crash)
        if photo.id != before:
            self.held[number].since.append(data)
        assert not done or photo.id != before
        if not done:
            await self.adopt("photos", Counter([data]))

    @rule(number=PET, crash=CRASH)
    def save(self, number: int, crash: Crash) -> None:
        self.do(self.saved(number, crash))

    async def saved(self, number: int, crash: Crash) -> None:
        held = self.held[number]
        if not await self.broken_off(self.pets[number].save, crash):
            await self.points_to_a_file(number)
            await self.pets[number].save()
        held.stored = True
        if held.since:
            held.saved, held.since = held.since[-1], []
        # What the first try could not remove the second has, or it has left chunks.
        _, self.orphans["photos"] = await self.look("photos")

    async def points_to_a_file(self, number: int) -> None:
        found = await Pet.objects(id=self.pets[number].id).first() if self.pets[number].id else None
        if found is not None and found.photo:
            assert await found.photo.read() in self.held[number].contents()

    @rule(number=PET)
    def revert(self, number: int) -> None:
        self.do(self.pets[number].photo.revert())
        self.held[number].since = []

    @rule(number=PET)
    def abandon(self, number: int) -> None:
        """Forget the document in this process, and load it in another one."""
        self.do(self.abandoned(number))

    async def abandoned(self, number: int) -> None:
        held, pet = self.held[number], self.pets[number]
        self.adrift["photos"].update(held.since)
        held.since = []
        self.pets[number] = await Pet.objects(id=pet.id).get() if held.stored else Pet()
        if held.saved is not None:
            assert await self.pets[number].photo.read() == held.saved

    @rule(number=PET)
    def remove(self, number: int) -> None:
        if self.held[number].stored:
            self.do(self.pets[number].delete())
            self.held[number], self.pets[number] = Held(), Pet()

    # Crashes, and what puts an end to what they leave

    @rule(size=SIZE)
    def die_in_an_upload(self, size: int) -> None:
        """As `kill -9` leaves it: chunks, and nobody who knows of them."""
        self.do(self.bucket.stage(self.fresh(size)))
        self.orphans["fs"] += size > 0

    @rule()
    def collect_garbage(self) -> None:
        self.do(assert_collected(self.bucket))
        self.do(assert_collected(self.photos))
        self.orphans = {"fs": 0, "photos": 0}

    @rule()
    def collect_what_no_document_points_to(self) -> None:
        if any(held.since for held in self.held) or not any(held.stored for held in self.held):
            return  # what is not saved yet is nobody's either, and somebody waits to save it
        self.do(collected(self.photos, [("pet", "photo")]))
        self.adrift["photos"].clear()
        self.orphans["photos"] = 0

    # Transactions

    @rule(
        changes=st.dictionaries(FILE, st.one_of(st.none(), SIZE), min_size=1, max_size=FILES),
        pets=st.dictionaries(PET, SIZE, max_size=PETS),
        commit=st.booleans(),
    )
    def transact(self, changes: dict[int, int | None], pets: dict[int, int], commit: bool) -> None:
        self.do(self.transacted(changes, pets, commit))

    async def transacted(self, changes: dict[int, int | None], pets: dict[int, int], commit: bool) -> None:
        contents = {number: None if size is None else self.fresh(size) for number, size in changes.items()}
        photos = {number: self.fresh(size) for number, size in pets.items()}
        try:
            async with gridproxy.transaction(self.client) as tx:
                for number, content in contents.items():
                    if content is None:
                        await self.files[number].delete(session=tx.session)
                    else:
                        await self.files[number].replace(content, session=tx.session)
                for number, photo in photos.items():
                    await self.pets[number].photo.replace(photo, session=tx.session)
                    await self.pets[number].save(session=tx.session)
                if not commit:
                    raise InterruptedError
        except InterruptedError:
            return
        for number, content in contents.items():
            self.contents[number] = content
        for number, photo in photos.items():
            self.held[number] = Held(photo, stored=True)
