"""`AssignableFile` is `AsyncGridFile` at run time. tests/typing/api.py shows what it is to a type checker."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import BaseModel

from gridproxy import AssignableFile, AsyncGridFile, FileOptions


class Poster(BaseModel, validate_assignment=True):
    title: str
    picture: Annotated[AssignableFile, FileOptions(max_size=7)] = AssignableFile()


@pytest.mark.usefixtures("connected")
async def test_a_field_of_this_type_accepts_content_and_has_its_options() -> None:
    assert AssignableFile is AsyncGridFile  # type: ignore[comparison-overlap]  # two types for checkers, on purpose
    poster = Poster(title="The marmot", picture=b"content")
    await poster.picture.put(b"smaller")
    poster.picture = b"another"
    assert isinstance(poster.picture, AsyncGridFile)
    assert poster.picture.options.max_size == 7
