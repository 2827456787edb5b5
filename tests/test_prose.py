"""Plain English in what people read: pages, docstrings, comments and error messages (CONTRIBUTING.md, "Rules").

A check of words, because proselint has no list of one's own, and vale downloads its program at the first run.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/**/*.md")]
)
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "gridproxy").rglob("*.py"))

# What has to be read twice, or names no actor, and what to write instead.
IDIOMS = {
    r"whoever|nobody|somebody|anybody": "name the actor: the caller, another client, the server",
    r"meanwhile|at hand|in the midst": "during this time, here, during",
    r"lies|lands?|landed|stands?|stood": "is, is stored, is inserted, stays",
    r"goes|went|came|comes": "is removed, is sent, was given, returned",
    r"tells|told": "says, reports, is set",
    r"takes? back|taking back|taken back|took back": "roll back, remove",
    r"the chapter|the kit|the collector|the house": "the quickstart, the adapter API, the garbage collector",
    r"(?<!here )(?<!there )is no (?!such|longer|more)|(?<!here )is (?-i:none)": "is not a",
}


def prose_of_page(text: str) -> str:
    """Blank out fences, code and link targets, and keep the line numbers."""
    text = re.sub(r"^```.*?^```$", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`|\]\([^)\n]*\)|^<!--.*", "", text, flags=re.MULTILINE)
    return re.sub(r"&\w+;", "", text)


def prose_of_module(source: str) -> Iterator[tuple[int, str]]:
    """Yield docstrings, comments and strings of three words or more, each with its line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(("# type:", "# noqa")):
            yield token.start[0], re.sub(r"`[^`]*`", "", token.string)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") > 1:
            text = re.sub(r"```.*?```|`[^`]*`|(?m:^ *\w+:)", "", node.value, flags=re.DOTALL)
            yield node.lineno, text


def idioms(text: str) -> Iterator[tuple[int, str]]:
    """Yield what to change, with the number of line breaks before it."""
    for idiom, better in IDIOMS.items():
        for found in re.finditer(rf"\b(?:{idiom})\b", text, re.IGNORECASE):
            yield text.count("\n", 0, found.start()), f"{found[0]!r}: {better}"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_plain_english(page: str) -> None:
    text = prose_of_page((ROOT / page).read_text(encoding="utf-8"))
    found = [f"{page}:{line + 1}: {problem}" for line, problem in idioms(text)]
    semicolons = [number for number, line in enumerate(text.split("\n"), 1) if ";" in line]
    found += [f"{page}:{number}: a semicolon: write two sentences" for number in semicolons]
    assert found == []


def test_docstrings_comments_and_messages_are_plain_english() -> None:
    found = [
        f"{module}:{line + offset}: {problem}"
        for module in MODULES
        for line, text in prose_of_module((ROOT / module).read_text(encoding="utf-8"))
        for offset, problem in idioms(text)
    ]
    assert found == []


def test_the_check_finds_an_idiom_and_skips_code() -> None:
    assert [problem for _, problem in idioms("whoever lands it")] != []
    assert list(idioms(prose_of_page("`whoever` stays\n```sh\nnobody\n```\n[a](lies.md)"))) == []
    assert [line for line, _ in prose_of_module('"""One two three."""\n# a comment\nx = 1\n')] == [2, 1]
