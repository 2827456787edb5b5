"""A weak mapping by identity, for keys that may be unhashable or equal to other objects."""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class WeakIdentityMap(Generic[K, V]):
    """A mapping that holds its keys weakly and compares them with `is`. A value must not reference its own key."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[K], V]] = {}

    def get(self, key: K) -> V | None:
        """Return the value that was set for exactly this object, else None."""
        entry = self._entries.get(id(key))
        return entry[1] if entry is not None and entry[0]() is key else None

    def set(self, key: K, value: V) -> None:
        """Set the value of this object. Raises `TypeError` if the object's class has no weak references."""
        entries, at = self._entries, id(key)
        entries[at] = (weakref.ref(key, lambda _: entries.pop(at, None)), value)

    def __len__(self) -> int:
        return len(self._entries)
