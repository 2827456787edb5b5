"""The API reference from the docstrings, as a static site: `python -m tests.reference [folder]`, or `site/`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pdoc
import pdoc.doc
import pdoc.render
from pdoc.doc_ast import walk_tree

# What users import. pdoc finds the pages of adapters by their package.
PUBLIC = [
    "gridproxy",
    "gridproxy.adapters",
    "gridproxy.cli",
    "gridproxy.embedded",
    "gridproxy.errors",
    "gridproxy.fields",
    "gridproxy.http",
    "gridproxy.sync",
    "gridproxy.testing",
    # A module that shares its name with its function, which is what users import.
    "!gridproxy.http.answer",
]


def build(folder: Path) -> None:
    """Write the site into this folder, which may exist."""
    # The bases of public classes are in modules without a page. Their members are shown as the class's own.
    pdoc.doc.Class.own_members = property(_own_members)  # type: ignore[assignment, method-assign]  # a cached property
    pdoc.doc.Class.inherited_members = property(_members_of_others)  # type: ignore[assignment, method-assign]  # the same
    pdoc.doc.Module._var_docstrings = property(_variable_docstrings)  # type: ignore[assignment, method-assign]  # the same
    pdoc.render.configure(docformat="google", footer_text="gridproxy: files in MongoDB GridFS")
    pdoc.pdoc(*PUBLIC, output_directory=folder)


def _own_members(shown: pdoc.doc.Class) -> list[pdoc.doc.Doc[Any]]:
    return [member for origin, members in shown._members_by_origin.items() if _is_own(origin) for member in members]


def _members_of_others(shown: pdoc.doc.Class) -> dict[tuple[str, str], list[pdoc.doc.Doc[Any]]]:
    return {origin: members for origin, members in shown._members_by_origin.items() if not _is_own(origin)}


def _variable_docstrings(shown: pdoc.doc.Module) -> dict[str, str]:
    """Return docstrings of variables, those that a package imports from its modules included.

    pdoc knows the origin of functions and classes only.
    """
    docstrings = dict(walk_tree(shown.obj).var_docstrings)
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{shown.modulename}."):
            tree = walk_tree(module)
            found = {**tree.func_docstrings, **tree.var_docstrings}  # click makes objects of functions
            docstrings.update((name, found[name]) for name in getattr(shown.obj, "__all__", ()) if name in found)
    return docstrings


def _is_own(origin: tuple[str, str]) -> bool:
    return origin[0].partition(".")[0] == "gridproxy"


if __name__ == "__main__":
    site = Path(sys.argv[1] if len(sys.argv) > 1 else "site")
    build(site)
    print(f"The reference is in {site / 'index.html'}")
