"""What users do that reads."""

from __future__ import annotations

from .operation import LARGE, OLD, SMALL, TWO, OfStored, Operation

__all__ = ["READS"]


class _Reading(OfStored):
    changes = False
    result: object
    expected: object = LARGE

    async def look(self, error: BaseException | None) -> None:
        if error is None:
            assert self.result == self.expected


class Read(_Reading):
    name = "read"

    async def run(self) -> None:
        await self.file.close()  # the position goes back to the start, and what was fetched is forgotten
        self.result = await self.file.read(2000) + await self.file.read()


class Stream(_Reading):
    name = "stream"

    async def run(self) -> None:
        async with self.file.stream() as stream:
            self.result = b"".join([block async for block in stream])


class ReadRange(_Reading):
    name = "read_range"
    expected = LARGE[1000:3000]

    async def run(self) -> None:
        self.result = await self.file.read_range(1000, 3000)


class ReadRanges(_Reading):
    name = "read_ranges"
    expected = (LARGE[3300:3310], LARGE[5:1500])

    async def run(self) -> None:
        self.result = tuple(await self.file.read_ranges([(3300, 3310), (5, 1500)]))


class SaveTo(_Reading):
    name = "save_to"

    async def prepare(self) -> None:
        await super().prepare()
        self.target = self.scene.folder / "saved"

    async def run(self) -> None:
        self.target.write_bytes(OLD)
        await self.file.save_to(self.target)
        self.result = self.target.read_bytes()

    async def look(self, error: BaseException | None) -> None:
        await super().look(error)
        assert self.target.read_bytes() == (LARGE if error is None else OLD)
        assert [path.name for path in self.scene.folder.iterdir()] == ["saved"]


class Stat(_Reading):
    name = "stat"
    expected = len(LARGE)

    async def run(self) -> None:
        self.result = (await self.file.stat()).length


class ByName(_Reading):
    name = "by_name"
    expected = len(LARGE)

    async def run(self) -> None:
        self.result = (await self.scene.bucket.by_name("old name")).length


class ReadMany(Operation):
    name = "read_many"
    changes = False
    before = after = (LARGE, SMALL, TWO)

    async def prepare(self) -> None:
        self.expected = {(await self.scene.well.upload(data)).id: data for data in self.before}

    async def run(self) -> None:
        self.result = await self.scene.bucket.read_many(self.expected)

    async def look(self, error: BaseException | None) -> None:
        if error is None:
            assert self.result == self.expected


READS: list[type[Operation]] = [Read, Stream, ReadRange, ReadRanges, SaveTo, Stat, ByName, ReadMany]
