"""HTTP dates (RFC 9110, 5.6.7): written in the one form, read in all three."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
# Not strptime, whose names of months and days are those of the process's locale.
_FORMS = (
    re.compile(f"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(f"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(f"{_DAY} {_MONTH} (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)


def format_date(moment: datetime) -> str:
    """A `moment` of any time zone as an IMF-fixdate, in UTC and whole seconds: `Sun, 06 Nov 1994 08:49:37 GMT`."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def parse_date(value: str, *, now: datetime | None = None) -> datetime | None:
    """The moment that an HTTP-date names, in UTC; None for anything else, which the RFC wants ignored.

    `now`, in UTC, is what years of two digits are taken to be near to; by default this moment.
    """
    for form in _FORMS:
        found = form.fullmatch(value)
        if found is not None:
            break
    else:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:
        # RFC 9110: what lies more than 50 years ahead is the last year in the past with these two digits.
        this_year = (now or datetime.now(UTC)).year
        year += this_year // 100 * 100
        if year > this_year + 50:
            year -= 100
    month = _MONTHS.index(found["month"]) + 1
    try:
        return datetime(
            year, month, int(found["day"]), int(found["hour"]), int(found["minute"]), int(found["second"]), tzinfo=UTC
        )
    except ValueError:  # the 31st of February
        return None
