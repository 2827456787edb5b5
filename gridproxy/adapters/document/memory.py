"""What a document is given back when a transaction is aborted, and what it may rely on when that was committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridproxy.gridfs.transactions.transaction_log import Hooks, TransactionLog

if TYPE_CHECKING:
    from .model import Document
    from .stored import StoredDocument


def remember_state(document: StoredDocument, tx_log: TransactionLog) -> None:
    """Its `_id`, and what the collection held of it: what is dirty now will be so again."""

    def hooks() -> Hooks:
        before = document._id, document._made_id, document._stored, list(document._outcome_unknown)

        def on_abort() -> None:
            document._id, document._made_id, document._stored = before[:3]
            document._outcome_unknown[:] = before[3]

        def on_unknown() -> None:
            document._stored = before[2]  # what was sent since is in `_outcome_unknown`, as whenever no answer came

        return Hooks(on_abort=on_abort, on_unknown=on_unknown)

    tx_log.enlist(document, hooks)


def remember_values(document: Document, tx_log: TransactionLog) -> None:
    """Its values, which are about to be taken from what may never be committed."""

    def hooks() -> Hooks:
        before = dict(document._values)
        return Hooks(on_abort=lambda: document._values.update(before))

    tx_log.enlist(document, hooks, "values")


def remember_written(document: StoredDocument, tx_log: TransactionLog) -> None:
    """It was written: with the commit, nothing of that is without an answer any more."""
    tx_log.enlist(document, lambda: Hooks(on_commit=document._outcome_unknown.clear), "written")
