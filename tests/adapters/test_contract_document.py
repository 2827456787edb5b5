"""The field adapter's contract, kept by the built-in Document; and the suite itself: does it find what is broken?"""

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
from gridproxy.testing.trial import Trial

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
async def test_the_document_keeps_the_contract(check: FieldAdapterCheck, database: Database) -> None:
    await check(DocumentHarness(database))


async def test_the_suite_runs_what_it_is_told_and_names_it(database: Database) -> None:
    names = ["chapter: replace", "lists: of files"]
    assert await check_field_adapter(DocumentHarness(database), only=names) == names
    with pytest.raises(ValueError, match="no check is called 'chapter: sing'; there are: chapter: put"):
        await check_field_adapter(DocumentHarness(database), only=["chapter: sing"])
    assert all(check.promise for check in field_adapter_checks())


async def test_the_suite_reports_every_failure_by_its_name(database: Database) -> None:
    class Forgetful(DocumentHarness):
        async def save(self, document: Any, session: Any = None) -> None:
            pass

    with pytest.raises(AdapterContractBroken, match=r"Document fails 2 checks .*\n  chapter: replace: ") as caught:
        await check_field_adapter(
            Forgetful(database), only=["chapter: replace", "snapshots: malformed", "states: empty"]
        )
    assert list(caught.value.failures) == ["chapter: replace", "states: empty"]


async def test_what_cannot_be_passed_is_said_and_must_not_be_passed(database: Database) -> None:
    class Modest(DocumentHarness):
        unsupported: ClassVar[dict[str, str]] = {"chapter: replace": "we never do"}

    with pytest.raises(AdapterContractBroken, match=r"passes 'chapter: replace', and its harness says .*: we never do"):
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


async def test_the_suite_finds_what_is_promised_and_not_kept(database: Database) -> None:
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
        "snapshots: stored and loaded": "a sub-document is stored",
        "snapshots: malformed": "a snapshot without an id: ValueError or TypeError was expected",
        "deleting: the document": "None was expected",
    }
    with pytest.raises(AdapterContractBroken) as caught:
        await check_field_adapter(harness, only=broken)
    assert list(caught.value.failures) == list(broken)
    for name, words in broken.items():
        assert words in str(caught.value.failures[name])
    with pytest.raises(AssertionError, match="not stored under its id"):
        await Trial(harness).raw(Unsnapped())


async def test_the_suite_needs_no_pytest_and_no_odm() -> None:
    others = "{'pytest', 'pydantic', 'beanie', 'odmantic'}"
    code = f"import sys, gridproxy.testing; sys.exit(bool({others} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_reload_keeps_a_snapshot_that_another_has_saved() -> None:
    animal = await ContractAnimal().save()
    other = await ContractAnimal.objects.get()
    other.badge = b"data"
    await other.save()
    assert (await animal.reload()).badge.length == 4
