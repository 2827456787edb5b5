"""The end of work in worker threads. A thread that the event loop has abandoned may still work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class ThreadGuard:
    """Runs `end` once: when `finish` is called, or when the thread ends that works at that moment.

    A file must not be closed under a thread that reads it, and the event loop must not wait for that thread.
    """

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self._working = False
        self._finished = False
        self._lock = threading.Lock()

    def run(self, work: Callable[[], T]) -> T:
        """Run `work` in this thread. Raises `ValueError` after `finish`."""
        with self._lock:
            if self._finished:
                raise ValueError("I/O operation on closed file")
            self._working = True
        try:
            return work()
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._working = False
            if self._finished:
                self._end()

    def finish(self) -> None:
        """End the work, now or as soon as its thread has ended. A second call has no effect."""
        with self._lock:
            if not self._finished and not self._working:
                self._end()
            self._finished = True
