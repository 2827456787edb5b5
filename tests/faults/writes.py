"""What users do that writes, each thing with what it promises where it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

from pymongo.asynchronous.client_session import AsyncClientSession

import gridproxy
from gridproxy import AsyncGridFile, Bucket, FileAlreadyStored, OutcomeUnknown
from gridproxy.adapters.document import Document, FileField
from gridproxy.gridfs.upload.staging import Staged

from .operation import LARGE, OLD, SMALL, TWO, Contents, OfStored, Operation

__all__ = ["TAKES_ID", "WRITES"]

MINE = "mine"  # a caller's id

# Putting in


class _Put(Operation):
    data: ClassVar[bytes]

    async def prepare(self) -> None:
        self.file = AsyncGridFile(bucket=self.scene.bucket)

    async def run(self) -> None:
        await self.file.put(self.data, id=self.id)

    async def look(self, error: BaseException | None) -> None:
        assert bool(self.file) is (error is None)
        assert self.file.closed

    async def again(self, error: BaseException) -> None:
        if isinstance(error, OutcomeUnknown) and await self.scene.bucket.file(error.id).exists():
            self.file = self.scene.bucket.file(error.id)  # it did land
            return
        if isinstance(error, FileAlreadyStored):
            await self.scene.bucket.delete(self.id)
        elif self.id is not None:
            await self.scene.bucket.discard(self.id)
        await self.run()


class PutSmall(_Put):
    name = "put small"
    data, after = SMALL, (SMALL,)


class PutLarge(_Put):
    name = "put large"
    data, after = LARGE, (LARGE,)


class Write(_Put):
    name = "write, close"
    id = MINE
    data, after = LARGE, (LARGE,)

    async def run(self) -> None:
        async with self.file.new_file(id=self.id):
            for at in range(0, len(LARGE), 1000):
                await self.file.write(LARGE[at : at + 1000])


class Replace(Operation):
    name = "replace"
    id = MINE
    before, between, after = (OLD,), ((LARGE, OLD),), (LARGE,)

    async def prepare(self) -> None:
        info = await self.scene.well.upload(OLD)
        self.old = info.id
        self.file = self.scene.bucket.file(info.id)

    async def run(self) -> None:
        await self.file.replace(LARGE, id=self.id)

    async def look(self, error: BaseException | None) -> None:
        assert await self.scene.well.read(self.file.id) == (OLD if self.file.id == self.old else LARGE)
        assert error is not None or self.file.id == self.id

    async def again(self, error: BaseException) -> None:
        if self.file.id != self.old:  # the error came of the old file's removal, and a note says so
            await self.scene.bucket.delete_many([self.old])
            return
        if isinstance(error, OutcomeUnknown | FileAlreadyStored):
            await self.scene.bucket.delete_many([self.id])
        await self.scene.bucket.discard(self.id)
        await self.run()


class Copy(Operation):
    name = "copy"
    id = "the copy"
    before, after = (LARGE,), (LARGE, LARGE)

    async def prepare(self) -> None:
        self.info = await self.scene.well.upload(LARGE)

    async def run(self) -> None:
        await self.scene.bucket.copy(self.info.id, new_id=self.id)

    async def again(self, error: BaseException) -> None:
        if isinstance(error, OutcomeUnknown | FileAlreadyStored):
            await self.scene.bucket.delete_many([self.id])
        await self.scene.bucket.discard(self.id)
        await self.run()


class UploadMany(Operation):
    name = "upload_many"
    # All of them in one request but the large one.
    sources: ClassVar[dict[str, bytes]] = {"one": SMALL, "two": TWO, "three": LARGE}
    between = ((SMALL,), (TWO,), (LARGE,), (SMALL, TWO), (LARGE, SMALL), (LARGE, TWO))
    after = (LARGE, SMALL, TWO)

    async def run(self) -> None:
        await self.scene.bucket.upload_many(self.sources)

    async def again(self, error: BaseException) -> None:
        # Where the clean-up could not be done either, or an outcome is unknown, the names tell what is there.
        left = [info.id async for info in self.scene.bucket.find({"filename": {"$in": list(self.sources)}})]
        await self.scene.bucket.delete_many(left)
        await self.run()


class Stage(Operation):
    name = "stage"
    id = MINE
    staged = 0, 1

    async def run(self) -> None:
        self.result = await self.scene.bucket.stage(LARGE, id=self.id)

    async def again(self, error: BaseException) -> None:
        await self.scene.bucket.discard(self.id)
        await self.run()


class _OfStaged(Operation):
    result: Staged

    async def prepare(self) -> None:
        staged = await self.scene.well.stage(LARGE)
        # As the client behind the link would have staged it.
        self.result = Staged(self.scene.bucket.store, staged.record, staged.chunk_ids)


class Publish(_OfStaged):
    name = "publish"
    staged, after = (1, 0), (LARGE,)

    async def run(self) -> None:
        await self.scene.bucket.publish(self.result)


class Discard(_OfStaged):
    name = "discard"
    staged = 1, 0
    all_or_nothing = False

    async def run(self) -> None:
        await self.scene.bucket.discard(self.result)


# Changing and taking away


class Delete(OfStored):
    name = "delete"
    after: ClassVar[Contents] = ()
    all_or_nothing = False

    async def run(self) -> None:
        await self.file.delete()

    async def look(self, error: BaseException | None) -> None:
        assert error is not None or not self.file


class DeleteMany(Operation):
    name = "delete_many"
    before = (LARGE, SMALL)
    between = ((LARGE,), (SMALL,))
    all_or_nothing = False

    async def prepare(self) -> None:
        self.ids = [(await self.scene.well.upload(data)).id for data in (SMALL, LARGE)]

    async def run(self) -> None:
        await self.scene.bucket.delete_many(self.ids)


class UpdateMetadata(OfStored):
    name = "update_metadata"

    async def run(self) -> None:
        await self.file.update_metadata(b=2)

    async def look(self, error: BaseException | None) -> None:
        metadata = dict((await self.scene.well.stat(self.file.id)).metadata)
        assert metadata.pop("sha256")
        assert metadata == {"a": 1, "b": 2} or (metadata == {"a": 1} and error is not None)


class Rename(OfStored):
    name = "rename"

    async def run(self) -> None:
        await self.file.rename("new name")

    async def look(self, error: BaseException | None) -> None:
        filename = (await self.scene.well.stat(self.file.id)).filename
        assert filename == "new name" or (filename == "old name" and error is not None)


# Documents


class Animal(Document):
    photo = FileField(on_delete="delete")


class DocumentSave(Operation):
    name = "Document.save"
    documents = ("animal",)
    before, between, after = (OLD,), ((LARGE, OLD),), (LARGE,)
    all_or_nothing = False

    async def prepare(self) -> None:
        with gridproxy.using(self.scene.well.database):
            self.animal = await Animal(photo=OLD).save()
        self.animal.photo.state.home = None  # the database behind the link is the same one
        self.animal.photo = LARGE

    async def run(self) -> None:
        with gridproxy.using(self.scene.bucket.database):
            await self.animal.save()

    async def again(self, error: BaseException) -> None:
        if isinstance(error, OutcomeUnknown):
            await self.scene.bucket.delete_many([error.id])
        await self.run()

    async def look(self, error: BaseException | None) -> None:
        with gridproxy.using(self.scene.well.database):
            found = await Animal.objects.get()
            content = await found.photo.read()
        assert content == LARGE or (content == OLD and error is not None)


class DocumentDelete(Operation):
    name = "Document.delete"
    documents = ("animal",)
    before = (OLD,)
    all_or_nothing = False

    async def prepare(self) -> None:
        with gridproxy.using(self.scene.well.database):
            self.animal = await Animal(photo=OLD).save()
        self.animal.photo.state.home = None  # the database behind the link is the same one

    async def run(self) -> None:
        with gridproxy.using(self.scene.bucket.database):
            await self.animal.delete()

    async def look(self, error: BaseException | None) -> None:
        with gridproxy.using(self.scene.well.database):
            found = await Animal.objects.first()
            if found is not None:
                assert error is not None
                assert await found.photo.read() == OLD

    async def again(self, error: BaseException) -> None:
        with gridproxy.using(self.scene.bucket.database):
            gone = await Animal.objects.first() is None
            # Where the document is gone the error came of its file's removal.
            await (self.animal.photo.delete() if gone else self.animal.delete())


# Transactions


class TransactionPut(Operation):
    name = "transaction: put, insert"
    documents = ("animal",)
    after = (LARGE,)
    lsid: object = None

    async def run(self) -> None:
        async with gridproxy.transaction(self.scene.bucket.database.client) as tx:
            self.lsid = tx.session.session_id
            id = await self.store(tx.session)
            await self.scene.bucket.database["animal"].insert_one({"photo": id}, session=tx.session)

    async def store(self, session: AsyncClientSession) -> object:
        """Store the file in the transaction, and return its id."""
        file = AsyncGridFile(bucket=self.scene.bucket)
        await file.put(LARGE, session=session)
        return file.id

    async def look(self, error: BaseException | None) -> None:
        well = self.scene.well
        found = [each["photo"] async for each in well.database["animal"].find()]
        assert [await well.read(id) for id in found] == [each async for each in contents_of(well)]
        assert len(found) == 1 or error is not None

    async def again(self, error: BaseException) -> None:
        if self.lsid is not None:  # a transaction that heard of no abort
            await self.scene.well.database.client.admin.command("killSessions", [self.lsid])
        if not [each async for each in contents_of(self.scene.well)]:  # else it is committed, whatever the error
            await self.run()


class TransactionPublish(TransactionPut):
    name = "transaction: publish, insert"
    staged = 1, 0

    async def prepare(self) -> None:
        staged = await self.scene.well.stage(LARGE)
        self.staged_there = Staged(self.scene.bucket.store, staged.record, staged.chunk_ids)

    async def store(self, session: AsyncClientSession) -> object:
        return (await self.scene.bucket.publish(self.staged_there, session=session)).id


async def contents_of(bucket: Bucket) -> AsyncIterator[bytes]:
    async for info in bucket.find():
        yield await bucket.read(info.id)


WRITES: list[type[Operation]] = [
    PutSmall,
    PutLarge,
    Write,
    Replace,
    Copy,
    UploadMany,
    Stage,
    Publish,
    Discard,
    UpdateMetadata,
    Rename,
    Delete,
    DeleteMany,
    DocumentSave,
    DocumentDelete,
    TransactionPut,
    TransactionPublish,
]
# Those that store a file under an id of the caller's, if one is given.
TAKES_ID: list[type[Operation]] = [PutSmall, PutLarge, Write, Replace, Copy, Stage]
