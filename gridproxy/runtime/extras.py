"""Optional packages (extras) that single features need."""

from __future__ import annotations

from importlib import import_module

from gridproxy.errors import BadOption


def require_extra(package: str, extra: str, what: str) -> None:
    """Import `package`, or raise `BadOption` with the command that installs it.

    Call this when the feature is declared, because an import at the first upload would block the event loop.
    """
    try:
        import_module(package)
    except ImportError as error:
        raise BadOption(f"{what} needs {package}: pip install 'gridproxy-mongo[{extra}]'") from error
