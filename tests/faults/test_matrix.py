"""The table of what was tried and survived: as it is printed, and as docs/guarantees.md shows it."""

from __future__ import annotations

from pathlib import Path

from .matrix import OPERATIONS, Fault, Matrix, noted, table, tried

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guarantees.md"


def test_the_page_shows_every_operation_and_every_fault_that_the_suite_tries() -> None:
    assert "\n".join(table(tried())) in PAGE.read_text(encoding="utf-8")


def test_what_was_noted_is_printed_with_dashes_for_what_was_not() -> None:
    properties: list[tuple[str, object]] = [("somebody else's", "property")]
    matrix = Matrix(lambda name, value: properties.append((name, value)))
    assert noted(properties) == []
    matrix.survived("rename", Fault.ERROR)
    matrix.survived("rename", Fault.ERROR, 2)
    head, rule, *rows = noted(properties)
    assert head.count("|") == rule.count("|") == len(Fault) + 2
    assert len(rows) == len(OPERATIONS)
    assert "| rename | 3 | - | - | - | - | - | - | - | - |" in rows


def test_every_operation_has_a_name_of_its_own() -> None:
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)
