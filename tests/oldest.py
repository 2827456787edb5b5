"""The oldest end: the adapters' tests on the oldest versions that the extras allow, in an environment of their own.

    python -m tests.oldest

`tests/oldest.txt` names the versions. The temporary environment holds these alone, and takes all other packages from
the environment that runs this.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_CONSTRAINTS = _ROOT / "tests" / "oldest.txt"
# Installed again, because the release in this environment needs newer versions than the pins. pip finds one that fits.
_BESIDE = ["fastapi>=0.115"]
# Mongoz needs newer versions than the pins.
_LEFT_OUT = {"test_contract_mongoz.py"}


def _tests() -> list[str]:
    adapters = ("pydantic*", "beanie*", "odmantic*", "contract_*")
    names = [*(f"adapters/test_{name}.py" for name in adapters), "fields/test_wrap*.py"]
    found = [path for name in names for path in sorted((_ROOT / "tests").glob(name))]
    return [str(path.relative_to(_ROOT)) for path in found if path.name not in _LEFT_OUT]


def main() -> int:
    """Install and run, and return the exit code of the tests."""
    began = time.monotonic()
    pins = re.findall(r"^[\w-]+==[\w.]+$", _CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    with tempfile.TemporaryDirectory(prefix="gridproxy-oldest-") as folder:
        venv.create(folder)
        python = str(Path(folder) / "bin" / "python")
        # Python looks into the new environment first, and finds pip, pytest and all the rest in this one.
        own = sysconfig.get_path("purelib", vars={"base": folder, "platbase": folder})
        (Path(own) / "newest.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
        install = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
        subprocess.run([*install, "--no-warn-conflicts", *pins, *_BESIDE], check=True)
        print(f"oldest: installed in {time.monotonic() - began:.0f} s: {', '.join(pins)}", flush=True)
        run = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_tests()]
        # The embedded server is a program of this environment.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        code = subprocess.run(run, cwd=_ROOT, check=False, env={**os.environ, "PATH": path}).returncode
    word = "ok" if code == 0 else "FAILED"
    print(f"oldest: {word} with {', '.join(pins)}, in {time.monotonic() - began:.0f} s", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
