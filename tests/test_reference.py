"""The site builds without a warning, every link leads to a place, every public name is there, every example runs."""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import re
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from django.core.files import File
from pymongo import AsyncMongoClient, MongoClient

import gridproxy
import gridproxy.sync
from gridproxy.adapters.django import GridFSStorage

from .adapters.django import conftest as _settings  # noqa: F401  # configures Django
from .site import build

MODULES = [
    "gridproxy",
    "gridproxy.adapters.beanie",
    "gridproxy.adapters.django",
    "gridproxy.adapters.document",
    "gridproxy.adapters.fsspec",
    "gridproxy.adapters.odmantic",
    "gridproxy.adapters.starlette",
    "gridproxy.adapters.tus",
    "gridproxy.cli",
    "gridproxy.embedded",
    "gridproxy.errors",
    "gridproxy.fields",
    "gridproxy.http",
    "gridproxy.sync",
    "gridproxy.testing",
]


# Their examples block.
BLOCKING = ("gridproxy.adapters.django", "gridproxy.sync")


class Page(HTMLParser):
    """What a page can be asked for, and what it points to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name == "href" and tag == "a" and value:
                self.links.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site. A warning is an error: a dead link, a page that no other lists, a docstring with bad markup."""
    folder = tmp_path_factory.mktemp("site")
    assert build(folder) == ""
    return folder


def test_every_link_within_the_site_leads_somewhere(site: Path) -> None:
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    followed, broken = 0, []
    for path, page in pages.items():
        for link in page.links:
            split = urlsplit(link)
            if split.scheme:
                continue
            followed += 1
            there = (path.parent / unquote(split.path)).resolve() if split.path else path
            if there not in pages or (split.fragment and unquote(split.fragment) not in pages[there].anchors):
                broken.append(f"{path.relative_to(site.resolve())}: {link}")
    assert broken == []
    assert followed > 500


@pytest.fixture(scope="module")
def places(site: Path) -> set[str]:
    """Return the full names that the reference has."""
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split(" ")[0] for line in zlib.decompress(inventory).decode().splitlines() if " py:" in line}


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_its_place(name: str, places: set[str]) -> None:
    module = importlib.import_module(name)
    wanted = {place for place, _ in public_things(module)} | {f"{name}.{each}" for each in module.__all__}
    if name == "gridproxy":  # its errors have a page of their own
        wanted = {
            re.sub(rf"^gridproxy\.(?=({'|'.join(gridproxy.errors.__all__)})\b)", "gridproxy.errors.", each)
            for each in wanted
        }
    assert sorted(wanted - places) == []


def public_things(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Yield the public names of a module, and the public members of this package's classes among them."""
    yield module.__name__, module
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) or callable(thing):
            yield f"{module.__name__}.{name}", thing
        if inspect.isclass(thing) and thing.__name__ == name:  # not a second name of a class
            for member_name, member in inspect.getmembers(thing):
                ours = getattr(getattr(member, "fget", member), "__module__", None) or ""
                if not member_name.startswith("_") and ours.startswith("gridproxy"):
                    yield f"{module.__name__}.{name}.{member_name}", member


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_says_what_it_is(name: str) -> None:
    things = list(public_things(importlib.import_module(name)))
    assert [place for place, thing in things if not inspect.getdoc(thing)] == []


def examples() -> Iterator[tuple[str, str]]:
    """Each with its place, in the order of the pages: one may use what an earlier one made."""
    seen = set()
    for module in MODULES:
        for place, thing in public_things(importlib.import_module(module)):
            for block in re.findall(r"```python\n(.*?)```", inspect.getdoc(thing) or "", re.DOTALL):
                if block not in seen:
                    yield place, block
                    seen.add(block)


async def test_every_example_runs(client: AsyncMongoClient[dict[str, Any]], connected: None) -> None:
    names: dict[str, Any] = {
        **vars(gridproxy),
        "gridproxy": gridproxy,
        "AsyncMongoClient": AsyncMongoClient,
        "client": client,
    }
    ran = []
    for number, (place, block) in enumerate(examples()):
        if place.startswith(BLOCKING):
            continue
        # Each example has a stored file, a bucket and the record of a file in it.
        names["client"], names["file"] = client, gridproxy.AsyncGridFile()
        await names["file"].put(b"a marmot and another", filename="marmots.txt")
        names["bucket"] = gridproxy.Bucket(client["zoo"], f"uploads{number}")
        names["info"] = await names["bucket"].upload(b"some content", filename="notes.txt", metadata={"owner": 7})
        running = eval(compile(block, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if inspect.isawaitable(running):
            await running
        ran.append(place)
    await client.drop_database("zoo")
    assert "gridproxy.Bucket" in ran
    assert "gridproxy.embedded" in ran


def test_every_example_of_blocking_code_runs(mongodb_uri: str) -> None:
    ran = []
    with gridproxy.sync.Client(mongodb_uri) as client:
        for number, (place, block) in enumerate(examples()):
            if not place.startswith(BLOCKING):
                continue
            bucket = client.bucket("zoo", f"blocking{number}")
            info = bucket.upload(b"some content", filename="notes.txt", metadata={"owner": 7})
            file = bucket.file(None)
            file.put(b"a marmot and another", filename="marmots.txt")
            names = {**vars(gridproxy.sync), "uri": mongodb_uri, "bucket": bucket, "info": info, "file": file}
            if "django" in place:
                names |= {"GridFSStorage": GridFSStorage, "io": io, "File": File}
                names["storage"] = GridFSStorage(uri=mongodb_uri, database="zoo", bucket=bucket.name)
            # An example closes its client.
            names["client"] = gridproxy.sync.Client(mongodb_uri) if place.endswith("Client.close") else client
            exec(compile(block, place, "exec"), names)
            ran.append(place)
    with MongoClient[dict[str, Any]](mongodb_uri) as driver:
        driver.drop_database("zoo")
    assert "gridproxy.sync.Bucket.upload" in ran
    assert "gridproxy.sync.Writer" in ran
