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


def require_for_import(package: str, extra: str, module: str) -> None:
    """Import `package`, which `module` imports, or raise `ModuleNotFoundError` with the command that installs it."""
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise  # it is installed, and a package of its own is not
        text = f"{module} needs {package}: pip install 'gridproxy-mongo[{extra}]'"
        raise ModuleNotFoundError(text, name=package) from error
