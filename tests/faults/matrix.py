"""What was tried and survived: fault by operation, noted by the tests themselves and printed at their end."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from .reads import READS
from .writes import TAKES_ID, WRITES

__all__ = ["OPERATIONS", "Fault", "Matrix", "noted", "table", "tried"]

OPERATIONS = WRITES + READS
_PROPERTY = "survived"


class Fault(enum.Enum):
    """The columns of the matrix."""

    ERROR = "error reply"
    CUT_BEFORE = "cut before"
    CUT_AFTER = "cut after"
    STALLED = "stalled"
    NOT_PRIMARY = "not primary"
    TAKEN = "id taken"
    CANCELLED = "cancelled"
    SERVER_KILLED = "server killed"
    CLIENT_KILLED = "client killed"


class Matrix:
    """Notes the times that a fault struck an operation, and all was well afterwards, with the report of its test.

    So they come to whoever prints them, from the workers of pytest-xdist as well.
    """

    def __init__(self, note: Callable[[str, object], None]) -> None:
        self._note = note

    def survived(self, operation: str, fault: Fault, times: int = 1) -> None:
        """Note what was tried `times` times."""
        self._note(_PROPERTY, [operation, fault.name, times])


def noted(properties: Iterable[tuple[str, object]]) -> list[str]:
    """Return the table of the notes in the reports of tests, or an empty text without notes."""
    counts: Counter[tuple[str, Fault]] = Counter()
    for name, value in properties:
        if name == _PROPERTY and isinstance(value, list):
            operation, fault, times = value
            counts[operation, Fault[fault]] += times
    return list(table({cell: str(count) for cell, count in counts.items()})) if counts else []


def table(cells: Mapping[tuple[str, Fault], str]) -> Iterator[str]:
    """Return the matrix as a table in Markdown. A dash stands for a missing cell."""
    yield "| | " + " | ".join(fault.value for fault in Fault) + " |"
    yield "|---" * (len(Fault) + 1) + "|"
    for operation in OPERATIONS:
        row = [cells.get((operation.name, fault), "-") for fault in Fault]
        yield " | ".join([f"| {operation.name}", *row]) + " |"


def tried() -> dict[tuple[str, Fault], str]:
    """Return the cells of a whole run: every operation and every fault, and a taken id if the operation accepts one."""
    return {
        (operation.name, fault): "✓"
        for operation in OPERATIONS
        for fault in Fault
        if fault is not Fault.TAKEN or operation in TAKES_ID
    }
