"""The settings of the site: guides in Markdown, and a reference from the docstrings. See `tests/site.py`."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from sphinx.pycode import ModuleAnalyzer

_DOCS = Path(__file__).resolve().parent
_ROOT = _DOCS.parent
sys.path.insert(0, str(_ROOT))

import gridproxy  # noqa: E402  # the working copy, whatever is installed

project = "gridproxy"
author = "gridproxy authors"
version = release = gridproxy.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
smartquotes = False
html_theme = "furo"
html_title = "gridproxy"
html_show_sourcelink = False
html_copy_source = False

# Docstrings are Markdown with single backticks. A name in them becomes a link if the reference has it.
default_role = "py:obj"
autodoc_default_options = {
    "members": True,
    "inherited-members": "object,Exception,BaseModel",
    "no-value": True,
    "show-inheritance": True,
}
autodoc_typehints_format = "short"
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

# The inventories of other projects are kept here, with the names that these pages use. So a build reads no network, and
# a name that another project renames breaks no build. Beanie, Starlette and FastAPI publish no inventory.
_PROJECTS = {
    "python": "https://docs.python.org/3/",
    "pymongo": "https://pymongo.readthedocs.io/en/stable/",
    "anyio": "https://anyio.readthedocs.io/en/stable/",
    "pydantic": "https://docs.pydantic.dev/",
}
intersphinx_mapping = {name: (url, str(_DOCS / "inventories" / f"{name}.txt")) for name, url in _PROJECTS.items()}

_REPOSITORY = "https://github.com/gridproxy/gridproxy/blob/main"


def _read(app: Any, page: str, source: list[str]) -> None:
    """Make links to files outside of `docs/` lead to the repository."""
    source[0] = re.sub(r"(?<!!)\[([^\]]*)\]\(\.\./([^)]*)\)", rf"[\1]({_REPOSITORY}/\2)", source[0])


def _convert(app: Any, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Make reStructuredText of the Markdown of a docstring: fences, links, and code that is not a name."""
    if what == "data":
        lines[:] = _docstring_of_constant(name)
    converted = ""
    parts = re.split(r"^( *)```(\w*)\n(.*?)^ *```$", "\n".join(lines), flags=re.MULTILINE | re.DOTALL)
    for prose, indent, language, code in zip(parts[::4], *([*parts[n::4], ""] for n in (1, 2, 3)), strict=True):
        linked = re.sub(r"\[([^\]]+)\]\((https?://[^)]+)\)", r"`\1 <\2>`__", prose)
        escaped = re.sub(r"(?<=/)\*(?!`)", r"\\*", linked)  # `image/*` without backticks
        escaped = re.sub(r"(?:^ *\|.*\n?)+", _table, escaped, flags=re.MULTILINE)
        converted += re.sub(r"(?<![`\w>])`([^`<]+)`(?![`_])", _code, escaped)
        if code:
            indented = re.sub(r"^(?=.)", "    ", code, flags=re.MULTILINE)
            converted += f"\n{indent}.. code-block:: {language or 'text'}\n\n{indented}"
    lines[:] = converted.split("\n")


def _code(found: re.Match[str]) -> str:
    for module in (gridproxy.errors, gridproxy):
        if found[1] in module.__all__:
            return f"`~{module.__name__}.{found[1]}`"
    return found[0] if re.fullmatch(r"[A-Za-z_][\w.]*", found[1]) else f"``{found[1]}``"


def _table(found: re.Match[str]) -> str:
    rows = [row.strip().strip("|").split(" | ") for row in found[0].splitlines() if not re.fullmatch(r"[ |:-]+", row)]
    cells = (f"   {'  -' if n else '* -'} {cell.strip()}\n" for row in rows for n, cell in enumerate(row))
    return "\n.. list-table::\n   :header-rows: 1\n\n" + "".join(cells) + "\n"


def _docstring_of_constant(name: str) -> list[str]:
    """Return the docstring of a constant or a command, which a package imports from one of its modules."""
    package, _, constant = name.rpartition(".")
    for path in sorted(_ROOT.joinpath(*package.split(".")).glob("*.py")):
        analyzer = ModuleAnalyzer.for_module(f"{package}.{path.stem}".removesuffix(".__init__"))
        if found := analyzer.find_attr_docs().get(("", constant)):
            return found
    return inspect.cleandoc(getattr(getattr(sys.modules[package], constant), "help", None) or "").splitlines()


def _skip(app: Any, what: str, name: str, thing: object, skip: bool, options: object) -> bool | None:
    """Leave out the members of other packages, and the errors in `gridproxy`, which have a page of their own."""
    if what == "module":
        is_error = getattr(gridproxy.errors, name, None) is thing
        return True if is_error and app.env.docname == "reference/gridproxy" else None
    origin = getattr(getattr(thing, "fget", thing), "__module__", None)
    return True if origin and not origin.startswith("gridproxy") else None


def setup(app: Any) -> None:
    """Connect the conversions."""
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _convert, priority=100)  # before napoleon
    app.connect("autodoc-skip-member", _skip)
