"""What people read has to run: every code block of the README and of the guides, and every example."""

from __future__ import annotations

import ast
import inspect
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.util._once import Once
from PIL import Image
from pymongo import AsyncMongoClient, MongoClient

import gridproxy

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The pages of `docs/`. A block in ```python runs, one in ```py is only shown.
GUIDES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
# Their blocks do not await, and each page runs as one script.
SCRIPTS = ["django.md", "sync.md"]
PAGES = {"README.md": README, **GUIDES}
# The gallery is a folder, and has a test of its own: tests/web/test_gallery.py.
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
ARGUMENTS = {"marmot.py": ["24"]}  # megabytes
# What an example has to print beside its last line.
PRINTS = {"marmot.py": ["of them without a file: 0"]}


def python_blocks(name: str) -> list[CodeType]:
    """Compile the page's blocks with the page's line numbers, so that a failure points into the page."""
    blocks = []
    page = PAGES[name]
    for found in re.finditer(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        line = page.count("\n", 0, found.start(1))
        code = "\n" * line + found.group(1)
        # Not with this file's `from __future__ import annotations`: who copies a block has none.
        blocks.append(compile(code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True))
    return blocks


async def run_blocks(blocks: list[CodeType], names: dict[str, Any]) -> None:
    """Run the blocks of a page in its order, in one namespace. A `client` that the page makes is closed."""
    try:
        for block in blocks:
            result = eval(block, names)
            if inspect.isawaitable(result):
                await result
    finally:
        gridproxy.disconnect()
        if isinstance(client := names.get("client"), AsyncMongoClient):
            await client.close()


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 48), "brown").save("marmot.jpg")
    Image.new("RGB", (64, 48), "black").save("another_marmot.png")


@pytest.mark.usefixtures("pictures")
async def test_every_code_block_of_the_readme_runs_in_the_order_of_the_page(
    mongodb_uri: str, client: AsyncMongoClient[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URI", mongodb_uri)
    names: dict[str, Any] = {}
    blocks = python_blocks("README.md")
    try:
        await run_blocks(blocks, names)
    finally:
        if "marmot_photo" in names:
            names["marmot_photo"].close()
        await client.drop_database("zoo")
    assert len(blocks) > 8
    assert names["photo"].startswith(b"\xff\xd8")
    assert names["content_type"] == "image/jpeg"
    assert names["middle"] == b"part"


@pytest.fixture
def own_observers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a page sets for the whole process: logging, and the provider of spans."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    logger = logging.getLogger("gridproxy")
    handlers, level = [*logger.handlers], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.mark.parametrize("page", sorted(GUIDES.keys() - set(SCRIPTS)))
@pytest.mark.usefixtures("pictures", "own_observers")
async def test_every_code_block_of_a_guide_runs_in_the_order_of_the_page(
    page: str, mongodb_uri: str, client: AsyncMongoClient[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URI", mongodb_uri)
    try:
        await run_blocks(python_blocks(page), {})
    finally:
        await client.drop_database("zoo")


@pytest.mark.parametrize("page", SCRIPTS)
def test_a_guide_without_await_is_a_script(page: str, mongodb_uri: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDES[page], re.DOTALL | re.MULTILINE)
    script = tmp_path / "script.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    try:
        run = subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, "MONGODB_URI": mongodb_uri, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        with MongoClient[dict[str, Any]](mongodb_uri) as client:
            client.drop_database("zoo")
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES)
def test_every_test_file_that_the_page_names_exists(page: str) -> None:
    named = set(re.findall(r"tests/[\w/]+\.py", PAGES[page]))
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_the_adapter_that_the_readme_shows_is_the_one_that_keeps_the_contract() -> None:
    adapter = (ROOT / "tests/adapters/mongoz_adapter.py").read_text(encoding="utf-8")
    assert f"```py\n{adapter}```" in README
    assert len(adapter.splitlines()) < 60


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_the_page_leads_somewhere(page: str) -> None:
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        if not target.is_file() or (anchor and anchor not in anchors_of(target)):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs_as_it_stands(name: str, mongodb_uri: str) -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *ARGUMENTS.get(name, [])],
        env={**os.environ, "MONGODB_URI": mongodb_uri, "PYTHONWARNINGS": "error", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    assert "All of the quickstart ran" in run.stdout
    assert [words for words in PRINTS.get(name, []) if words not in run.stdout] == []
