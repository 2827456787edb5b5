"""Media types: which ones are valid in Content-Type, and which ones a browser runs."""

from __future__ import annotations

import re

OCTET_STREAM = "application/octet-stream"
"""The type of arbitrary bytes, which browsers neither show nor run."""

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*"'
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|{_QUOTED}))*")
# The script and XML types of WHATWG's MIME Sniffing standard, and containers that can hold HTML.
_RUNNABLE = re.compile(
    "(?:application|text)/(?:(?:x-)?(?:ecma|java)script|xml|xml-external-parsed-entity)"
    "|application/(?:hta|x-mimearchive|x-shockwave-flash|xml-dtd)"
    "|text/(?:html|jscript|livescript|x-server-parsed-html|xsl)"
    "|(?:multipart/|message/|text/javascript).*|.*\\+xml",
    re.DOTALL,
)


def checked_media_type(value: str | None) -> str:
    """Return a media type that is safe to send in Content-Type (RFC 9110, 8.3.1).

    The client that stored the file chose the type. Browsers use the last item if it looks like a list.

    ```python
    assert http.checked_media_type("image/png, text/html") == "application/octet-stream"
    ```

    Args:
        value: The stored type.

    Returns:
        `value` if it is a valid media type, otherwise `application/octet-stream`.
    """
    return value if value is not None and _MEDIA_TYPE.fullmatch(value) else OCTET_STREAM


def can_run(media_type: str) -> bool:
    """Check whether a browser may run code from a file of this type: HTML, SVG and other XML, scripts.

    ```python
    assert http.can_run("image/svg+xml") and not http.can_run("image/png")
    ```
    """
    return _RUNNABLE.fullmatch(media_type.partition(";")[0].strip().lower()) is not None
