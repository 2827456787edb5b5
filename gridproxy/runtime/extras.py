"""Extras: packages that one feature needs, and the core does not."""

from __future__ import annotations

from importlib import import_module

from gridproxy.errors import BadOption


def require_extra(package: str, extra: str, what: str) -> None:
    """Import `package`, or raise `BadOption` that says how to install it.

    Asked when `what` is declared, and not at the first upload: a check that silently does not happen would be worse
    than none, and an import would stall the event loop.
    """
    try:
        import_module(package)
    except ImportError as error:
        raise BadOption(f"{what} needs {package}: pip install 'gridproxy-mongo[{extra}]'") from error
