"""The other end: the adapters' tests on the oldest versions that the extras allow, in an environment of their own.

    python -m tests.oldest

What is installed stands in `tests/oldest.txt`; the ordinary run has the newest versions. The environment is made anew,
and is gone afterwards.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_CONSTRAINTS = _ROOT / "tests" / "oldest.txt"
# What these tests need beside the extras, in whatever version fits.
_BESIDE = ["attrs", "fastapi>=0.115", "pytest>=9.0"]
# The ODM of this one asks for newer versions than ours do.
_LEFT_OUT = {"test_contract_mongoz.py"}


def _tests() -> list[str]:
    names = ("test_pydantic*.py", "test_beanie*.py", "test_odmantic*.py", "test_wrap*.py", "test_contract_*.py")
    found = [path for name in names for path in sorted((_ROOT / "tests" / "adapters").glob(name))]
    return [str(path.relative_to(_ROOT)) for path in found if path.name not in _LEFT_OUT]


def main() -> int:
    """Installs and runs; returns the exit code of the tests."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gridproxy-oldest-") as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        install = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
        project = f"{_ROOT}[beanie,embedded,odmantic,pydantic]"
        subprocess.run([*install, "--constraint", str(_CONSTRAINTS), "--editable", project, *_BESIDE], check=True)
        print(f"oldest: installed in {time.monotonic() - began:.0f} s", flush=True)
        subprocess.run([python, "-m", "pip", "list", "--disable-pip-version-check"], check=True)
        run = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_tests()]
        code = subprocess.run(run, cwd=_ROOT, check=False).returncode
    pins = [line for line in _CONSTRAINTS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    word = "ok" if code == 0 else "FAILED"
    print(f"oldest: {word} with {', '.join(pins)}, in {time.monotonic() - began:.0f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
