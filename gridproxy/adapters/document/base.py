"""What a field and a query know of a document: its values, and what its collection holds of it. No I/O."""

from __future__ import annotations

from typing import Any, ClassVar

from gridproxy.gridfs.records.ids import id_filter
from gridproxy.gridfs.transactions.transaction_log import Hooks, TransactionLog

Raw = dict[str, Any]


class DocumentState:
    """The values of one document, and what the collection holds of it as far as is known."""

    def __init__(self, id: object) -> None:
        self.id = id
        self.values: dict[str, Any] = {}
        self.stored: Raw | None = None  # None before the first save
        self.made_id: bool = False  # whether the id was made here, and so belongs to no other document
        self.outcome_unknown: list[Raw] = []  # writes that were not answered, or that a transaction may roll back

    def enlist(self, tx_log: TransactionLog) -> None:
        """Keep the id and what the collection holds: after an abort, what is changed now is changed again."""

        def hooks() -> Hooks:
            before = self.id, self.made_id, self.stored, list(self.outcome_unknown)

            def on_abort() -> None:
                self.id, self.made_id, self.stored = before[:3]
                self.outcome_unknown[:] = before[3]

            def on_unknown() -> None:
                self.stored = before[2]  # the writes since are in `outcome_unknown`

            return Hooks(on_abort=on_abort, on_unknown=on_unknown)

        tx_log.enlist(self, hooks)

    def enlist_values(self, tx_log: TransactionLog) -> None:
        """Keep the values, which are about to be loaded from writes that may be rolled back."""

        def hooks() -> Hooks:
            before = dict(self.values)
            return Hooks(on_abort=lambda: self.values.update(before))

        tx_log.enlist(self, hooks, "values")

    def enlist_written(self, tx_log: TransactionLog) -> None:
        """Know every write as answered once the transaction is committed."""
        tx_log.enlist(self, lambda: Hooks(on_commit=self.outcome_unknown.clear), "written")


class BaseDocument:
    """A document, as its fields see it."""

    document_state: DocumentState
    document_alias: ClassVar[str | None] = None


def copied(value: Any) -> Any:
    """Copy the containers of a raw value, so that a change in place differs from what was stored."""
    if isinstance(value, dict):
        return {key: copied(each) for key, each in value.items()}
    return [copied(each) for each in value] if isinstance(value, list) else value


def exactly(value: Any) -> Any:
    """Return the query operand that matches this very value."""
    return {"$eq": value} if isinstance(value, list) else id_filter(value)


def flat(value: Any) -> list[Any]:
    """Return the values of nested lists, one after the other."""
    return [each for item in value for each in flat(item)] if isinstance(value, list) else [value]
