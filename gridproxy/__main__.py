"""Where the command `gridproxy` starts, and `python -m gridproxy`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what it needs."""
    try:
        from .cli import cli  # noqa: PLC0415 (the extra may not be there)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("click", "rich"):
            raise
        # Not 1, which would say that `check` found something.
        sys.stderr.write(f"gridproxy: the command line needs {missing}: pip install 'gridproxy-mongo[cli]'\n")
        sys.exit(2)
    cli(prog_name="gridproxy")


if __name__ == "__main__":
    main()
