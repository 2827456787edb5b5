"""What a document is given back when a transaction is aborted, and what it may rely on when that was committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...ledger import Ledger, Memory

if TYPE_CHECKING:
    from .model import Document
    from .stored import StoredDocument

__all__ = ["remember_state", "remember_values", "remember_written"]


def remember_state(document: StoredDocument, ledger: Ledger) -> None:
    """Its `_id`, and what the collection held of it: what is dirty now will be so again."""

    def memory() -> Memory:
        before = document._id, document._made_id, document._stored, list(document._unsure)

        def aborted() -> None:
            document._id, document._made_id, document._stored = before[:3]
            document._unsure[:] = before[3]

        def unknown() -> None:
            document._stored = before[2]  # what was sent since is in `_unsure`, as whenever no answer came

        return Memory(aborted=aborted, unknown=unknown)

    ledger.remember(document, memory)


def remember_values(document: Document, ledger: Ledger) -> None:
    """Its values, which are about to be taken from what may never be committed."""

    def memory() -> Memory:
        before = dict(document._values)
        return Memory(aborted=lambda: document._values.update(before))

    ledger.remember(document, memory, "values")


def remember_written(document: StoredDocument, ledger: Ledger) -> None:
    """It was written: with the commit, nothing of that is without an answer any more."""
    ledger.remember(document, lambda: Memory(committed=document._unsure.clear), "written")
