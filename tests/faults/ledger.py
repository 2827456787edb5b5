"""What was tried and survived: fault by operation, noted by the tests themselves and printed at their end."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Mapping

from .reads import READS
from .writes import TAKES_ID, WRITES

__all__ = ["OPERATIONS", "Fault", "Ledger", "table", "tried"]

OPERATIONS = WRITES + READS


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


class Ledger:
    """Counts the times that a fault struck an operation, and all was well afterwards."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Fault]] = Counter()

    def survived(self, operation: str, fault: Fault, times: int = 1) -> None:
        """Note what was tried `times` times."""
        self._counts[operation, fault] += times

    def lines(self) -> Iterator[str]:
        """The table of what ran; nothing where nothing did."""
        if self._counts:
            yield from table({cell: str(count) for cell, count in self._counts.items()})


def table(cells: Mapping[tuple[str, Fault], str]) -> Iterator[str]:
    """The matrix as a table in Markdown; a dash where there is no cell."""
    yield "| | " + " | ".join(fault.value for fault in Fault) + " |"
    yield "|---" * (len(Fault) + 1) + "|"
    for operation in OPERATIONS:
        row = [cells.get((operation.name, fault), "-") for fault in Fault]
        yield " | ".join([f"| {operation.name}", *row]) + " |"


def tried() -> dict[tuple[str, Fault], str]:
    """The cells that a whole run fills: every operation and every fault, an id that is taken where one can be given."""
    return {
        (operation.name, fault): "✓"
        for operation in OPERATIONS
        for fault in Fault
        if fault is not Fault.TAKEN or operation in TAKES_ID
    }
