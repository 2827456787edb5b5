"""HTTP dates (RFC 9110, 5.6.7): written as IMF-fixdate, read in all three forms."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
# strptime would expect the names of months and days in the locale of the process.
_FORMS = (
    re.compile(f"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(f"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(f"{_DAY} {_MONTH} (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)


def format_date(moment: datetime) -> str:
    """Format an aware datetime of any time zone as an IMF-fixdate, in UTC and whole seconds.

    ```python
    assert http.format_date(datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)) == "Sun, 06 Nov 1994 08:49:37 GMT"
    ```
    """
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def parse_date(value: str, *, now: datetime | None = None) -> datetime | None:
    """Parse an HTTP date.

    ```python
    assert http.parse_date("Sun, 06 Nov 1994 08:49:37 GMT").year == 1994
    ```

    Args:
        value: The value of a header field.
        now: The time, in UTC, that decides the century of a two-digit year. Defaults to the current time.

    Returns:
        The date in UTC, or None if `value` is not an HTTP date. RFC 9110 requires recipients to ignore such a field.
    """
    found = next(filter(None, (form.fullmatch(value) for form in _FORMS)), None)
    if found is None:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:
        # RFC 9110: a year more than 50 years ahead means the most recent past year with these two digits.
        this_year = (now or datetime.now(UTC)).year
        year += this_year // 100 * 100
        if year > this_year + 50:
            year -= 100
    month = _MONTHS.index(found["month"]) + 1
    day, hour, minute, second = map(int, found.group("day", "hour", "minute", "second"))
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:  # the 31st of February
        return None
