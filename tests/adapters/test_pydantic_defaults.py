"""The default of a pydantic field, which pydantic copies and does not validate: its field's options hold for it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Optional

import pytest
from bson import ObjectId
from pydantic import BaseModel, Field, create_model
from pydantic.dataclasses import dataclass
from typing_extensions import TypeAliasType

from gridproxy import AsyncGridFile, BadId, BadOption, FileOptions, TooLarge

from ..observing import Database

SMALL = FileOptions(bucket="pdfs", max_size=10)
Pdf = TypeAliasType("Pdf", Annotated[AsyncGridFile, SMALL])
Nest = TypeAliasType("Nest", "AsyncGridFile | list[Nest]")
EMPTY = AsyncGridFile()


class Report(BaseModel):
    pdf: Annotated[AsyncGridFile, FileOptions(bucket="pdfs", max_size=10)] = AsyncGridFile()
    plain: AsyncGridFile = AsyncGridFile()
    perhaps: Annotated[AsyncGridFile | None, SMALL] = AsyncGridFile()
    within: Optional[Annotated[AsyncGridFile, SMALL]] = AsyncGridFile()  # noqa: UP045  # as people write it, too
    aliased: Pdf = AsyncGridFile()
    nested: Nest = AsyncGridFile()
    shared: Annotated[AsyncGridFile, SMALL] = EMPTY
    shared_again: Annotated[AsyncGridFile, FileOptions(bucket="others")] = EMPTY
    constant: ClassVar[AsyncGridFile] = AsyncGridFile(bucket="constants")
    _private: AsyncGridFile = AsyncGridFile(bucket="private")


class Inheriting(Report):
    title: str = ""


class Overriding(Report):
    pdf: Annotated[AsyncGridFile, FileOptions(max_size=3)] = AsyncGridFile()


LIMITED = ("pdf", "perhaps", "within", "aliased", "shared")


def validated_in_the_end() -> Any:
    return Field(default_factory=AsyncGridFile, validate_default=True)


class Validating(BaseModel):
    made: Annotated[AsyncGridFile, SMALL] = validated_in_the_end()
    given: Annotated[AsyncGridFile, SMALL] = Field(default=AsyncGridFile(), validate_default=True)
    without: Annotated[AsyncGridFile, SMALL] = Field(description="no default: always there")


MAKING: list[Callable[[type[Report]], Report]] = [
    lambda kind: kind(),
    lambda kind: kind.model_validate({}),
    lambda kind: kind.model_construct(),
]


@pytest.mark.parametrize("kind", [Report, Inheriting])
@pytest.mark.parametrize("make", MAKING)
async def test_a_default_has_the_options_of_its_field(
    kind: type[Report], make: Callable[[type[Report]], Report], connected: None
) -> None:
    report = make(kind)
    for name in LIMITED:
        file = getattr(report, name)
        assert file.options.bucket == "pdfs"
        with pytest.raises(TooLarge, match=f"^{name}: .*10 bytes"):
            await file.put(b"x" * 11)
    assert isinstance(report.nested, AsyncGridFile)
    assert report.plain.options == report.nested.options == FileOptions()
    assert report.shared_again.options.bucket == "others"


async def test_a_put_file_is_read_from_the_bucket_of_its_field(connected: None, database: Database) -> None:
    report = Report()
    await report.pdf.put(b"a report")
    assert await Report.model_validate(report.model_dump()).pdf.read() == b"a report"
    assert await database["pdfs.files"].count_documents({}) == 1


def test_each_object_has_a_file_of_its_own() -> None:
    one, other = Report(), Report()
    assert one.pdf is not other.pdf
    assert one.pdf.options == other.pdf.options
    again = pickle.loads(pickle.dumps(copy.deepcopy(one)))
    assert again.pdf.options.max_size == 10


def test_a_subclass_that_declares_the_field_again_has_its_own_default() -> None:
    assert (Overriding().pdf.options.max_size, Overriding().pdf.options.bucket) == (3, None)
    assert Report().pdf.options.max_size == 10


def test_an_attribute_that_is_not_a_field_is_unchanged() -> None:
    assert copy.copy(Report.constant).options.bucket == "constants"
    assert Report()._private.options.bucket == "private"

    class Plain:
        file = EMPTY

    assert Plain.file is EMPTY


def test_a_model_made_by_a_call() -> None:
    made: Any = create_model("Made", pdf=(Annotated[AsyncGridFile, SMALL], AsyncGridFile()))
    assert made().pdf.options.max_size == 10


def test_a_default_in_another_bucket_is_refused() -> None:
    with pytest.raises(BadId, match=r"is in bucket 'fs' and this field keeps its files in bucket 'pdfs'"):

        class Elsewhere(BaseModel):
            pdf: Annotated[AsyncGridFile, SMALL] = AsyncGridFile(ObjectId())

        Elsewhere()  # pydantic 2.7 copies defaults for the signature, and the class is not made


def test_an_annotation_that_can_be_read_late(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(BaseModel):
        pdf: Annotated[AsyncGridFile, LateOptions(max_size=10)] = AsyncGridFile()  # noqa: F821  # comes below

    class Sub(Late):
        title: str = ""

    # Its options are unknown, and no content may bypass a limit.
    with pytest.raises(BadOption, match=r"Late\.pdf: its annotation .*LateOptions.* cannot be read yet.*model_rebuild"):
        Late.model_construct()
    monkeypatch.setitem(globals(), "LateOptions", FileOptions)
    assert Sub().pdf.options.max_size == 10
    assert Late().pdf.options.max_size == 10


def test_other_defaults_are_validated_with_validate_default() -> None:
    model = Validating()  # type: ignore[call-arg]  # a file that is not given is empty
    assert [file.options.max_size for file in (model.made, model.given, model.without)] == [10] * 3


def test_a_dataclass_validates_defaults_with_validate_default() -> None:
    @dataclass
    class Fields:
        made: Annotated[AsyncGridFile, SMALL] = validated_in_the_end()
        twice: Annotated[AsyncGridFile, SMALL, SMALL] = validated_in_the_end()

    assert (Fields().made.options.max_size, Fields().twice.options.max_size) == (10, 10)
    with pytest.raises(BadOption, match="there is none in"):  # two that differ: neither may be ignored

        @dataclass
        class Differing:
            pdf: Annotated[AsyncGridFile, SMALL, FileOptions(max_size=3)]


def test_a_dataclass_refuses_a_file_as_default() -> None:
    with pytest.raises(ValueError, match="mutable default"):

        @dataclass
        class Wrong:
            pdf: Annotated[AsyncGridFile, SMALL] = AsyncGridFile()
