"""What people read has to run: every code block of the README and of the guides, and every example."""

from __future__ import annotations

import ast
import inspect
import io
import logging
import os
import pydoc
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import anyio
import httpx
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
RAW = "https://raw.githubusercontent.com/gridproxy/gridproxy/main/"
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


def programs() -> list[str]:
    """Return the Python blocks of the README. Each is a whole program."""
    return re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("program", "prints"),
    [(0, "marmot.png image/png"), (2, "http://localhost:8000/files/?expires="), (3, "weight")],
    ids=["quickstart", "links", "pandas"],
)
async def test_a_program_of_the_readme_runs_as_a_file(
    program: int, prints: str, mongodb_uri: str, client: AsyncMongoClient[dict[str, Any]], tmp_path: Path
) -> None:
    script = tmp_path / "program.py"
    script.write_text(programs()[program], encoding="utf-8")
    environment = {**os.environ, "MONGODB_URI": mongodb_uri, "PYTHONWARNINGS": "error", "PYTHONPATH": str(ROOT)}
    run = await anyio.run_process([sys.executable, str(script)], env=environment, cwd=tmp_path, check=False)
    await client.drop_database("zoo")
    assert (run.returncode, run.stderr.decode()) == (0, "")
    assert prints in run.stdout.decode()


async def test_the_service_of_the_readme_stores_and_serves_a_photo(
    mongodb_uri: str, client: AsyncMongoClient[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONGODB_URI", mongodb_uri)
    service = ModuleType("service")
    monkeypatch.setitem(sys.modules, "service", service)  # FastAPI looks up the annotations there
    exec(compile(programs()[1], "service.py", "exec", dont_inherit=True), vars(service))
    transport = httpx.ASGITransport(service.app)
    async with service.lifespan(service.app), httpx.AsyncClient(transport=transport, base_url="http://zoo") as browser:
        picture = io.BytesIO()
        Image.new("RGB", (64, 48), "brown").save(picture, "PNG")
        url, photo = "/animals/marmot/photo", picture.getvalue()
        assert (await browser.get(url)).status_code == 404
        assert (await browser.put(url, content=photo, headers={"Content-Type": "image/png"})).status_code == 200
        part = await browser.get(url, headers={"Range": "bytes=1-3"})
        assert (part.status_code, part.content, part.headers["Content-Type"]) == (206, b"PNG", "image/png")
    await client.drop_database("zoo")


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


def test_the_adapter_that_the_guide_shows_is_the_one_that_keeps_the_contract() -> None:
    adapter = (ROOT / "tests/adapters/mongoz_adapter.py").read_text(encoding="utf-8")
    assert f"```py\n{adapter}```" in GUIDES["adapters.md"]
    assert len(adapter.splitlines()) < 60


def test_the_page_of_errors_names_classes_that_they_derive_from() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", GUIDES["errors.md"], re.MULTILINE)
    for error, bases in rows:
        for base in re.findall(r"`([\w.]+)`", bases):
            kind = getattr(gridproxy, base, None) or pydoc.locate(base)
            assert isinstance(kind, type), base
            assert issubclass(getattr(gridproxy, error), kind), (error, base)
    assert len(rows) > 10


def test_the_readme_is_a_front_page() -> None:
    assert len(README.splitlines()) <= 200
    images = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)
    assert [image for image in images if not image.startswith("https://")] == []  # for the package index
    ours = [image.removeprefix(RAW) for image in images if image.startswith(RAW)]
    assert ours
    assert [image for image in ours if not (ROOT / image).is_file()] == []


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, "../CONTRIBUTING.md", "../SECURITY.md", "../CHANGELOG.md"])
def test_every_link_of_the_page_leads_somewhere(page: str) -> None:
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    dead = []
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
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
