"""The Python blocks of the README and the guides under mypy and pyright: `python -m tests.typing.pages`.

Each page becomes a module whose blocks are the body of an async function. Each program of the README is a module as it
is. A page that does not pass yet is in `UNTYPED`, with the reason.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
UNTYPED = {
    "mongoengine.md": "MongoEngine has no types, and both sides define the same names",
    "running.md": "Celery has no types, and one block shows what is refused",
    "django.md": "Django has no types",
    "sync.md": "Celery has no types",
    **dict.fromkeys(["gallery.md", "resumable.md"], "not tried with types yet"),
}
# Their functions leave out annotations to stay short.
_SHORT = {"moving.md", "serving.md"}
_UNANNOTATED = "# mypy: allow-untyped-defs, allow-untyped-calls\n# mypy: disable-error-code=var-annotated\n"
_PYRIGHT = {
    "typeCheckingMode": "strict",
    "include": ["."],
    "exclude": [page.replace(".md", "_page.py") for page in _SHORT],
    "extraPaths": [str(_ROOT)],
    # A block may show a value and not use it.
    **dict.fromkeys(
        ["reportUnusedVariable", "reportUnusedExpression", "reportUnusedFunction", "reportUnusedClass"], False
    ),
    # fsspec has no types, and some of Beanie and ODMantic are incomplete.
    **dict.fromkeys(["reportMissingTypeStubs", "reportUnknownMemberType", "reportUnknownVariableType"], False),
}


def modules() -> dict[str, str]:
    """Return the modules by name."""
    found = {
        f"readme_{number}": block
        for number, block in enumerate(_BLOCK.findall((_ROOT / "README.md").read_text(encoding="utf-8")))
    }
    for page in sorted((_ROOT / "docs").glob("*.md")):
        blocks = _BLOCK.findall(page.read_text(encoding="utf-8"))
        if blocks and page.name not in UNTYPED:
            body = textwrap.indent("\n".join(blocks), "    ")
            settings = _UNANNOTATED if page.name in _SHORT else ""
            found[page.stem.replace("-", "_") + "_page"] = f"{settings}async def page() -> None:\n{body}"
    return found


def main() -> int:
    """Check all modules with mypy and pyright, and return 0 if they found nothing."""
    folder = _ROOT / ".mypy_cache" / "pages"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, source in modules().items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    (folder / "pyrightconfig.json").write_text(json.dumps(_PYRIGHT), encoding="utf-8")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--allow-redefinition", str(folder)]
    pyright = [sys.executable, "-m", "pyright", "--project", str(folder), "--pythonpath", sys.executable]
    return max(subprocess.run(command, cwd=_ROOT, check=False).returncode for command in (mypy, pyright))


if __name__ == "__main__":
    sys.exit(main())
