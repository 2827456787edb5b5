"""What each adapter does with files on each of its ODM's operations: found out by trying, and shown as a table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from beanie import BulkWriter

from gridproxy.testing import FieldHarness

from .test_contract_beanie import ContractAnimal as BeanieAnimal
from .test_contract_document import ContractAnimal as OurAnimal

Run = Callable[[Any, Any], Awaitable[Any]]  # of the harness and the document


@dataclass(frozen=True)
class Operation:
    """One call of an ODM; it inserts a new document, writes a stored one, or deletes it."""

    name: str
    kind: str
    run: Run


async def _in_bulk(call: Callable[..., Awaitable[Any]]) -> None:
    async with BulkWriter() as writer:
        await call(bulk_writer=writer)


async def _updated(harness: Any, document: BeanieAnimal) -> None:
    await document.set({"photo": document.photo})


DOCUMENT = [
    Operation("save() of a new one", "insert", lambda _, document: document.save()),
    Operation("save()", "write", lambda _, document: document.save()),
    Operation("delete()", "delete", lambda _, document: document.delete()),
    Operation("objects(...).delete()", "delete", lambda _, document: OurAnimal.objects(id=document.id).delete()),
]
BEANIE = [
    Operation("insert(), create(), insert_one()", "insert", lambda _, document: document.insert()),
    Operation("save() of a new one", "insert", lambda _, document: document.save()),
    Operation("insert_many()", "insert", lambda _, document: BeanieAnimal.insert_many([document])),
    Operation("save()", "write", lambda _, document: document.save()),
    Operation("save_changes()", "write", lambda _, document: document.save_changes()),
    Operation("replace()", "write", lambda _, document: document.replace()),
    Operation("set({name: ...}), update(), inc()", "write", lambda _, document: document.set({"name": "another"})),
    Operation("set({photo: document.photo})", "write", _updated),
    Operation("replace(bulk_writer=...), replace_many()", "write", lambda _, document: _in_bulk(document.replace)),
    Operation("delete()", "delete", lambda _, document: document.delete()),
    Operation("delete(bulk_writer=...)", "delete", lambda _, document: _in_bulk(document.delete)),
    Operation(
        "find(...).delete(), delete_all()",
        "delete",
        lambda _, document: BeanieAnimal.find(BeanieAnimal.id == document.id).delete(),
    ),
]
ODMANTIC = [
    Operation("engine.save() of a new one", "insert", lambda harness, document: harness.engine.save(document)),
    Operation("engine.save()", "write", lambda harness, document: harness.engine.save(document)),
    Operation("engine.save_all()", "write", lambda harness, document: harness.engine.save_all([document])),
    Operation("engine.delete()", "delete", lambda harness, document: harness.engine.delete(document)),
    Operation(
        "engine.remove()",
        "delete",
        lambda harness, document: harness.engine.remove(type(document), type(document).id == document.id),
    ),
]


class Probe:
    """One operation of one adapter, tried on documents of its own."""

    def __init__(self, harness: FieldHarness, operation: Operation) -> None:
        self._harness = harness
        self._operation = operation

    async def row(self) -> str:
        """Return the row of the table."""
        cells = {"insert": self._inserting, "write": self._writing, "delete": self._deleting}[self._operation.kind]
        return f"| {self._harness.name} | `{self._operation.name}` | {' | '.join(await cells())} |"

    async def _inserting(self) -> tuple[str, str, str]:
        document = self._harness.new(name="new", photo=b"assigned")
        return await self._assigned(document), "", ""

    async def _writing(self) -> tuple[str, str, str]:
        assigned = await self._stored()
        assigned.photo = b"assigned"
        replaced = await self._stored()
        return await self._assigned(assigned), await self._replaced(replaced), ""

    async def _deleting(self) -> tuple[str, str, str]:
        document = await self._stored()
        file = document.attached.id
        await self._operation.run(self._harness, document)
        assert await self._harness.collection.count_documents({"_id": self._harness.id_of(document)}) == 0
        return "", "", "left" if await self._is_there(file) else "removed"

    async def _stored(self) -> Any:
        document = self._harness.new(name="stored", photo=b"old", attached=b"attached")
        await self._harness.save(document)
        return await self._harness.load(self._harness.id_of(document))

    async def _assigned(self, document: Any) -> str:
        before = document.photo.id
        try:
            await self._operation.run(self._harness, document)
        except Exception as error:  # each ODM has an error of its own; it has to say what it is about
            if "not stored yet" not in str(error):
                raise
            return "refused"
        stored = await self._harness.collection.find_one({"_id": self._harness.id_of(document)})
        assert stored is not None
        return "kept for later" if stored["photo"] == before else "stored"

    async def _replaced(self, document: Any) -> str:
        photo, old = document.photo, document.photo.id
        await photo.replace(b"new")
        await self._operation.run(self._harness, document)
        assert document.photo is photo
        stored = await self._harness.collection.find_one({"_id": self._harness.id_of(document)})
        assert stored is not None
        assert await self._is_there(stored["photo"])
        if stored["photo"] == old:
            return "kept, until it is saved"
        return "left until the next save" if await self._is_there(old) else "removed"

    async def _is_there(self, id: Any) -> bool:
        return await self._harness.database["fs.files"].find_one({"_id": id}) is not None
