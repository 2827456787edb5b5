"""HTTP rules for serving a stored file (RFC 9110, 6266, 8187, 9530), without any I/O.

Lengths and offsets are in bytes and start at 0. The end of a span is exclusive. Datetimes are time-zone aware.
No header that a client sends raises an error, except in `gridproxy.http.tus`, the rules of resumable uploads.

```python
from datetime import UTC, datetime

from gridproxy import http
```
"""

from .answer import Answer, answer
from .conditions import CONDITIONS, Validators, Verdict, evaluate, range_applies
from .dates import format_date, parse_date
from .description import (
    OCTET_STREAM,
    can_run,
    checked_media_type,
    content_disposition,
    describe,
    is_loaded,
    repr_digest,
)
from .ranges import MAX_RANGES, Multipart, Span, content_range, parse_ranges

__all__ = [
    "CONDITIONS",
    "MAX_RANGES",
    "OCTET_STREAM",
    "Answer",
    "Multipart",
    "Span",
    "Validators",
    "Verdict",
    "answer",
    "can_run",
    "checked_media_type",
    "content_disposition",
    "content_range",
    "describe",
    "evaluate",
    "format_date",
    "is_loaded",
    "parse_date",
    "parse_ranges",
    "range_applies",
    "repr_digest",
]
