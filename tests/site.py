"""The documentation as a static site: `python -m tests.site [folder]`, or `site/`. A warning of Sphinx is an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def build(folder: Path) -> str:
    """Write the site into this folder, which may exist, and return the warnings and errors."""
    sphinx = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--fresh-env", "--builder", "html"]
    built = subprocess.run(
        [*sphinx, str(_ROOT / "docs"), str(folder)], stderr=subprocess.PIPE, text=True, check=False, cwd=_ROOT
    )
    return built.stderr or (f"Sphinx ended with code {built.returncode}." if built.returncode else "")


if __name__ == "__main__":
    site = Path(sys.argv[1] if len(sys.argv) > 1 else "site")
    if problems := build(site):
        sys.exit(problems)
    print(f"The site is in {site / 'index.html'}")
