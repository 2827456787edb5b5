"""walk: every file in a value, with its path."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import BaseModel, ConfigDict

from gridproxy import AsyncGridFile
from gridproxy.fields.discovery import files_in


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    photo: AsyncGridFile = AsyncGridFile()


@dataclasses.dataclass
class Plain:
    photo: AsyncGridFile
    other: Any = None


def paths(value: object, **options: Any) -> list[str]:
    return [path for path, _ in files_in(value, **options)]


def test_files_are_found_in_every_container() -> None:
    file = AsyncGridFile
    assert paths(file()) == [""]
    assert paths({"a": file(), "b": [file(), {"c": file()}], "d": (file(), 7)}) == ["a", "b.0", "b.1.c", "d.0"]
    assert paths(Plain(file(), [Plain(file())])) == ["photo", "other.0.photo"]
    assert paths(Open.model_validate({"more": file(), "deep": {"x": Open()}})) == ["photo", "more", "deep.x.photo"]
    assert paths({1: file()}) == ["1"]
    for nothing in (7, "text", None, Plain, {"a": object()}):
        assert paths(nothing) == []


def test_an_object_in_two_places_is_yielded_once_and_cycles_end() -> None:
    file = AsyncGridFile()
    circle: list[Any] = [file, file]
    circle.append(circle)
    assert paths(circle) == ["0"]


def test_objects_beyond_are_left_out_unless_they_are_the_start() -> None:
    value = Plain(AsyncGridFile(), other=Plain(AsyncGridFile()))
    assert paths(value, beyond=lambda part: isinstance(part, Plain)) == ["photo"]
