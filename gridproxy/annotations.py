"""Annotations: what the type of a model's field says of files in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import get_args

from .file import AsyncGridFile
from .options import FileOptions

__all__ = ["is_file", "options_in", "parts_of"]


def parts_of(annotation: object) -> Iterator[object]:
    """The annotation, and all that it is made of: `list[str] | None` has `list[str]`, `str` and `NoneType` in it."""
    yield annotation
    for part in get_args(annotation):
        yield from parts_of(part)


def is_file(part: object) -> bool:
    """Whether a part of an annotation is a class of files."""
    return isinstance(part, type) and issubclass(part, AsyncGridFile)


def options_in(annotation: object, metadata: Iterable[object]) -> FileOptions:
    """The options that a field was annotated with, around all of its type (`metadata`, as pydantic has it) or in it."""
    said = [*metadata, *parts_of(annotation)]
    return next((each for each in said if isinstance(each, FileOptions)), FileOptions())
