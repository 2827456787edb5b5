"""The adapter contract on the built-in Document, and whether the contract finds broken adapters."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import Any, ClassVar

import pytest
from pymongo.errors import DuplicateKeyError

from gridproxy.adapters.document import Document, FileField, ImageField, ListField, StringField
from gridproxy.testing import (
    AdapterContractBroken,
    FieldAdapterCheck,
    FieldHarness,
    check_field_adapter,
    field_adapter_checks,
)
from gridproxy.testing.helpers import Helper

from ..observing import Database

pytestmark = pytest.mark.usefixtures("connected")


class ContractAnimal(Document):
    name = StringField()
    photo = FileField()
    album = ListField(FileField())
    badge = FileField(store="snapshot")
    attached = FileField(on_delete="delete")
    limited = FileField(max_size=1000, content_types=["text/plain", "image/png"])
    portrait = ImageField(thumbnail_size=(8, 8, True))


class DocumentHarness(FieldHarness):
    name = "Document"

    def __init__(self, database: Database) -> None:
        self.collection = database["contract_animal"]

    def new(self, **values: Any) -> ContractAnimal:
        return ContractAnimal(**values)

    async def save(self, document: Any, session: Any = None) -> None:
        await document.save(session=session)

    async def load(self, id: Any, session: Any = None) -> ContractAnimal:
        return await ContractAnimal.objects(id=id).session(session).get()

    async def delete(self, document: Any, session: Any = None) -> None:
        await document.delete(session=session)


@pytest.mark.parametrize("check", field_adapter_checks(), ids=str)
async def test_document_keeps_the_contract(check: FieldAdapterCheck, database: Database) -> None:
    await check(DocumentHarness(database))


async def test_only_selects_checks_and_an_unknown_name_is_an_error(database: Database) -> None:
    names = ["chapter: replace", "lists: of files"]
    assert await check_field_adapter(DocumentHarness(database), only=names) == names
    with pytest.raises(ValueError, match=r"there is no check named 'chapter: sing'. The checks are: chapter: put"):
        await check_field_adapter(DocumentHarness(database), only=["chapter: sing"])
    assert all(check.promise for check in field_adapter_checks())


async def test_every_failed_check_is_reported_by_name(database: Database) -> None:
    class Forgetful(DocumentHarness):
        async def save(self, document: Any, session: Any = None) -> None:
            pass

    with pytest.raises(AdapterContractBroken, match=r"Document fails 2 checks .*\n  chapter: replace: ") as caught:
        await check_field_adapter(
            Forgetful(database), only=["chapter: replace", "snapshots: malformed", "states: empty"]
        )
    assert list(caught.value.failures) == ["chapter: replace", "states: empty"]


async def test_an_unsupported_check_must_fail(database: Database) -> None:
    class Modest(DocumentHarness):
        unsupported: ClassVar[dict[str, str]] = {"chapter: replace": "we never do"}

    with pytest.raises(AdapterContractBroken, match=r"passes 'chapter: replace', but .* unsupported: we never do"):
        await check_field_adapter(Modest(database), only=["chapter: replace"])

    class Failing(Modest):
        async def save(self, document: Any, session: Any = None) -> None:
            raise NotImplementedError

    names = ["chapter: replace", "snapshots: malformed"]
    assert await check_field_adapter(Failing(database), only=names) == ["snapshots: malformed"]


class Unsnapped(Document):
    name = StringField()
    photo = FileField()
    album = ListField(FileField())
    badge = FileField()
    attached = FileField()


async def test_the_contract_finds_broken_promises(database: Database) -> None:
    class Careless(DocumentHarness):
        def new(self, **values: Any) -> Any:
            values.pop("badge", None)
            return Unsnapped(**values)

        async def save(self, document: Any, session: Any = None) -> None:
            with suppress(DuplicateKeyError):
                await document.save(session=session)

        async def load(self, id: Any, session: Any = None) -> Any:
            return await Unsnapped.objects(id=id).get()

    harness = Careless(database)
    harness.collection = database["unsnapped"]
    broken = {
        "replacing: a save that fails": "was expected to fail",
        "snapshots: stored and loaded": "expected a sub-document in the stored field",
        "snapshots: malformed": "a snapshot without an id: expected ValueError or TypeError",
        "deleting: the document": "expected None",
    }
    with pytest.raises(AdapterContractBroken) as caught:
        await check_field_adapter(harness, only=broken)
    assert list(caught.value.failures) == list(broken)
    for name, words in broken.items():
        assert words in str(caught.value.failures[name])
    with pytest.raises(AssertionError, match="not stored under its id"):
        await Helper(harness).raw(Unsnapped())


async def test_the_contract_imports_neither_pytest_nor_an_odm() -> None:
    others = "{'pytest', 'pydantic', 'beanie', 'odmantic'}"
    code = f"import sys, gridproxy.testing; sys.exit(bool({others} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_reload_reads_the_snapshot_that_another_client_saved() -> None:
    animal = await ContractAnimal().save()
    other = await ContractAnimal.objects.get()
    other.badge = b"data"
    await other.save()
    assert (await animal.reload()).badge.length == 4
