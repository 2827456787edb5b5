"""Annotations: what the type of a model's field says of files in it."""

from __future__ import annotations

from collections.abc import Iterable

from gridproxy.file.file import AsyncGridFile
from gridproxy.file.options import FileOptions
from gridproxy.file.pydantic import parts_of


def is_file(part: object) -> bool:
    """Whether a part of an annotation is a class of files."""
    return isinstance(part, type) and issubclass(part, AsyncGridFile)


def options_in(annotation: object, metadata: Iterable[object]) -> FileOptions:
    """The options that a field was annotated with, around all of its type (`metadata`, as pydantic has it) or in it."""
    said = [*metadata, *parts_of(annotation)]
    return next((each for each in said if isinstance(each, FileOptions)), FileOptions())
