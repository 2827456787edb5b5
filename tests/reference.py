"""The API reference from the docstrings, as a static site: `python -m tests.reference [folder]`, or `site/`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pdoc
import pdoc.doc
import pdoc.render
from pdoc.doc_ast import walk_tree

# What users import; the rest of the package is how these are made. An adapter's page is found by its package's.
PUBLIC = [
    "gridproxy",
    "gridproxy.adapters",
    "gridproxy.cli",
    "gridproxy.embedded",
    "gridproxy.errors",
    "gridproxy.http",
    "gridproxy.testing",
    # Modules that share their name with what they are there for.
    "!gridproxy.prefetch",
    "!gridproxy.http.answer",
]


def build(folder: Path) -> None:
    """Write the site into this folder, which may be there already."""
    # A public class is put together from several modules that have no page: what they bring is shown as its own.
    pdoc.doc.Class.own_members = property(_ours)  # type: ignore[assignment, method-assign]  # a cached property
    pdoc.doc.Class.inherited_members = property(_of_others)  # type: ignore[assignment, method-assign]  # the same
    pdoc.doc.Module._var_docstrings = property(_said_of_variables)  # type: ignore[assignment, method-assign]  # the same
    pdoc.render.configure(docformat="google", footer_text="gridproxy: files in MongoDB GridFS")
    pdoc.pdoc(*PUBLIC, output_directory=folder)


def _ours(shown: pdoc.doc.Class) -> list[pdoc.doc.Doc[Any]]:
    return [member for origin, members in shown._members_by_origin.items() if _is_ours(origin) for member in members]


def _of_others(shown: pdoc.doc.Class) -> dict[tuple[str, str], list[pdoc.doc.Doc[Any]]]:
    return {origin: members for origin, members in shown._members_by_origin.items() if not _is_ours(origin)}


def _said_of_variables(shown: pdoc.doc.Module) -> dict[str, str]:
    """Those in the package's modules, too: of functions and classes alone pdoc knows where they come from."""
    said = dict(walk_tree(shown.obj).var_docstrings)
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{shown.modulename}."):
            tree = walk_tree(module)
            found = {**tree.func_docstrings, **tree.var_docstrings}  # a command is no function any more
            said.update((name, found[name]) for name in getattr(shown.obj, "__all__", ()) if name in found)
    return said


def _is_ours(origin: tuple[str, str]) -> bool:
    return origin[0].partition(".")[0] == "gridproxy"


if __name__ == "__main__":
    site = Path(sys.argv[1] if len(sys.argv) > 1 else "site")
    build(site)
    print(f"The reference lies in {site / 'index.html'}")
