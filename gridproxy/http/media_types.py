"""Media types: what may stand in a Content-Type, and what a browser would run."""

from __future__ import annotations

import re

OCTET_STREAM = "application/octet-stream"
"""Any bytes: what a browser neither shows nor runs."""

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*"'
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|{_QUOTED}))*")
# The essences of WHATWG's MIME Sniffing for scripts and XML, and the containers that HTML can lie in.
_RUN = frozenset(
    {
        "application/ecmascript",
        "application/hta",
        "application/javascript",
        "application/x-ecmascript",
        "application/x-javascript",
        "application/x-mimearchive",
        "application/x-shockwave-flash",
        "application/xml",
        "application/xml-dtd",
        "application/xml-external-parsed-entity",
        "text/ecmascript",
        "text/html",
        "text/javascript",
        "text/jscript",
        "text/livescript",
        "text/x-ecmascript",
        "text/x-javascript",
        "text/x-server-parsed-html",
        "text/xml",
        "text/xml-external-parsed-entity",
        "text/xsl",
    }
)


def checked_media_type(value: str | None) -> str:
    """The media type as it may be sent; `application/octet-stream` for anything that is none.

    Strictly RFC 9110, 8.3.1: whoever stored the file chose it, and of what looks like a list browsers take the last.
    """
    return value if value is not None and _MEDIA_TYPE.fullmatch(value) else OCTET_STREAM


def can_run(media_type: str) -> bool:
    """Whether a browser that opens it may run something in the name of the site: HTML, SVG and other XML, scripts."""
    essence = media_type.partition(";")[0].strip().lower()
    return (
        essence in _RUN or essence.endswith("+xml") or essence.startswith(("multipart/", "message/", "text/javascript"))
    )
