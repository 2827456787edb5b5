"""What HTTP says about serving a stored file (RFC 9110, 6266, 8187, 9530): text in, decisions out, no I/O.

Lengths and offsets are in bytes, from 0, ends exclusive; moments are aware. Whatever a client may send, nothing is
raised for it.
"""

from .answer import Answer, answer
from .conditions import CONDITIONS, Validators, Verdict, evaluate, range_applies
from .dates import format_date, parse_date
from .description import describe, repr_digest
from .disposition import content_disposition
from .media_types import OCTET_STREAM, can_run, checked_media_type
from .multipart import Multipart
from .ranges import MAX_RANGES, Span, content_range, parse_ranges

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
    "parse_date",
    "parse_ranges",
    "range_applies",
    "repr_digest",
]
