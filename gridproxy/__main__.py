"""The entry point of `gridproxy` and `python -m gridproxy`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or name the missing extra."""
    try:
        from .cli import cli  # noqa: PLC0415 (the extra may be missing)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("click", "rich"):
            raise
        # Exit code 1 would mean that `check` found a problem.
        sys.stderr.write(f"gridproxy: the command line needs {missing}: pip install 'gridproxy-mongo[cli]'\n")
        sys.exit(2)
    cli(prog_name="gridproxy")


if __name__ == "__main__":
    main()
