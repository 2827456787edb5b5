"""One line for what became of a file, under the logger `gridproxy`, which is silent unless the application logs.

A line names the bucket, the id and the class of an error. It has no content, filename, metadata or message of an error,
because these are from users and may be secrets.
"""

from __future__ import annotations

import enum
import logging
import time
from typing import Any

from bson import ObjectId

from gridproxy.errors import shortened, shown

# Hot paths ask `logger.isEnabledFor(INFO)` before they call `log_event`.
INFO = logging.INFO
WARNING = logging.WARNING
logger: logging.Logger = logging.getLogger("gridproxy")
logger.addHandler(logging.NullHandler())


class Event(enum.StrEnum):
    """What a line reports."""

    STORED = "stored"
    REPLACED = "replaced"
    REMOVED = "removed"
    REFUSED = "refused"
    ROLLED_BACK = "rolled back"
    OUTCOME_UNKNOWN = "outcome unknown"
    RETRIED = "retried on the primary"
    FALLBACK = "fallback chosen"
    GARBAGE_REMOVED = "garbage removed"


def log_event(
    event: Event,
    bucket: object = None,
    id: object = None,
    *,
    size: int | None = None,
    since: float | None = None,
    level: int = INFO,
    **more: Any,
) -> None:
    """Log one event with its fields: in the line, and as attributes `gridfs_...` of the record.

    Args:
        event: What happened.
        bucket: An object whose `repr` names the database and the bucket.
        id: The file's id.
        size: The number of bytes.
        since: When the operation began, by the steady clock. Its milliseconds are logged.
        level: The level of the line.
        **more: Further fields. Those that are None are left out.
    """
    if not logger.isEnabledFor(level):
        return
    fields: dict[str, object] = {
        "bucket": None if bucket is None else repr(bucket),
        "id": _plain(id),
        "bytes": size,
        "ms": None if since is None else round(1000 * (time.monotonic() - since), 1),
        **{name: _plain(value) for name, value in more.items()},
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    # Ids are from outside, and one with a line break would make two lines.
    parts = [shown(value) if isinstance(value, str) else value for value in fields.values()]
    extra = {f"gridfs_{name}": value for name, value in fields.items()}
    template = " ".join([event.value, *(f"{name}=%s" for name in fields)])
    logger.log(level, template, *parts, extra={"gridfs_event": event.value, **extra}, stacklevel=2)


def _plain(value: object) -> object:
    """Return a value that every formatter can write: a number, or a text that is not too long."""
    if value is None or isinstance(value, int | float):
        return value
    return shortened(str(value)) if isinstance(value, str | ObjectId) else shown(value)
