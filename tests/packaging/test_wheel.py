"""The wheel by itself, in an empty environment, on every Python that the package names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from .conftest import ROOT
from .interpreters import interpreters, pip, run

# The core and the dependencies of pymongo and anyio.
CORE = {"gridproxy-mongo", "pymongo", "dnspython", "anyio", "idna", "sniffio", "typing-extensions"}

QUICKSTART = """
import ast, asyncio, inspect, sys
import gridproxy
for number, block in enumerate(BLOCKS):
    code = compile(block, f"quickstart block {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    BLOCKS[number] = code
async def main():
    names = {}
    for code in BLOCKS:
        result = eval(code, names)
        if inspect.isawaitable(result):
            await result
    assert names["photo"].startswith(b"GIF89a"), names["photo"]
    names["marmot_photo"].close()
    await names["client"].drop_database("zoo")
    await names["client"].close()
asyncio.run(main())
print(gridproxy.__file__)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def quickstart() -> list[str]:
    """Return the code blocks of the quickstart, in order."""
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_wheel_holds_the_package_its_types_and_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"gridproxy"}
    assert "gridproxy/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert sorted(name for name in names if name.endswith(".py")) == sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / "gridproxy").rglob("*.py")
    )


def test_every_link_of_the_readme_leads_somewhere_on_the_package_index(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        readme = re.sub(r"^```.*?^```$", "", archive.read(name).decode(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)\)", readme)
    assert [link for link in links if not link.startswith("https://")] == []
    assert (
        "https://github.com/gridproxy/gridproxy/blob/main/docs/quickstart.md" in links
    )  # test_documents.py follows it


def test_this_python_is_one_that_the_package_names() -> None:
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in interpreters()


def test_without_extras_it_brings_pymongo_and_anyio_alone(installed: Path) -> None:
    listed = json.loads(pip(installed, "list", "--format=json"))
    names = {re.sub(r"[-_.]+", "-", package["name"].lower()) for package in listed}
    assert names <= CORE
    assert {"gridproxy-mongo", "pymongo", "anyio"} <= names


def test_the_quickstart_runs_from_the_wheel_alone(installed: Path, mongodb_uri: str, tmp_path: Path) -> None:
    for name in ("marmot.jpg", "another_marmot.png"):
        (tmp_path / name).write_bytes(b"GIF89a, as far as anybody looks")
    blocks = quickstart()
    assert len(blocks) > 4
    script = tmp_path / "quickstart.py"
    script.write_text(f"BLOCKS = {blocks!r}\n{QUICKSTART}", encoding="utf-8")
    where, modules = run(installed, "-W", "error", script, cwd=tmp_path, MONGODB_URI=mongodb_uri).splitlines()
    assert Path(where).is_relative_to(installed.parent.parent)
    assert not set(modules.split()) & {"pydantic", "beanie", "odmantic", "starlette", "click", "PIL"}


def test_the_command_line_says_which_extra_it_needs(installed: Path) -> None:
    script = installed.with_name("gridproxy")
    done = subprocess.run([script, "ls"], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "pip install 'gridproxy-mongo[cli]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
