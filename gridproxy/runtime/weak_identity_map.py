"""What is remembered of an object while it lives, by its identity: it may be unhashable, or equal to another."""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class WeakIdentityMap(Generic[K, V]):
    """A mapping whose keys are held weakly and compared with `is`; a value goes with its key.

    A value that holds its own key strongly keeps both for ever.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[K], V]] = {}

    def get(self, key: K) -> V | None:
        """What was set for this very object, else None."""
        known = self._known.get(id(key))
        return known[1] if known is not None and known[0]() is key else None

    def set(self, key: K, value: V) -> None:
        """Remember `value`; raises TypeError where the key's class takes no weak references."""
        known, at = self._known, id(key)
        known[at] = (weakref.ref(key, lambda _: known.pop(at, None)), value)

    def __len__(self) -> int:
        return len(self._known)
