"""Links that allow one request for one file until a moment, without a session or a record (HMAC-SHA256, RFC 2104)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol
from urllib.parse import quote, urlencode

from starlette.requests import Request

from gridproxy.bucket import Bucket
from gridproxy.errors import BadOption, type_name
from gridproxy.file.file import AsyncGridFile
from gridproxy.gridfs.content.limits import checked_content_types
from gridproxy.gridfs.records.file_info import local_time
from gridproxy.gridfs.upload.options import check_filename

from .authorize import Action, ContentDisposition, Grant, Served, path_of, target_of

_METHODS = ("GET", "PUT", "POST", "DELETE")
_SHORTEST_KEY = 16  # bytes
_SIGNED = ("expires", "filename", "disposition", "max_size", "types")
_NUMBER = re.compile("[0-9]{1,15}")


class _Application(Protocol):
    served: Served


class SignedLinks:
    """Make links that expire, and check them: pass it to `FilesApp(bucket, authorize=links)`.

    A link allows one method for one file in one application until it expires. It is valid behind any host, prefix and
    proxy, since only the file's part of the path is signed. A link cannot be called back: change the key, or delete the
    file.

    ```python
    from gridproxy.adapters.starlette import FilesApp, SignedLinks

    links = SignedLinks(keys=["a secret of at least 16 bytes"])
    files = FilesApp(bucket, authorize=links)
    assert links.url("/files", info.id, expires_in=3600).startswith(f"/files/{info.id}?expires=")
    ```

    Args:
        keys: Secrets of at least 16 bytes each, such as `secrets.token_hex(32)`. The first one signs, and all of them
            are accepted: put a new key in front, and remove the old one after the longest `expires_in`.

    Raises:
        BadOption: There is no key, or one is too short.
    """

    def __init__(self, keys: Sequence[str | bytes]) -> None:
        if isinstance(keys, str | bytes) or not keys:
            raise BadOption("keys is a list of secrets: SignedLinks(keys=[secret])")
        self._keys = [_checked_key(key) for key in keys]
        self._served: set[Served] = set()

    def __repr__(self) -> str:
        return f"<SignedLinks with {len(self._keys)} keys>"

    def add_application(self, served: Served) -> None:
        """Note what an application serves, so that `url` finds it. `FilesApp` calls this."""
        self._served.add(served)

    def url(
        self,
        prefix: str,
        file: object = None,
        *,
        expires_in: timedelta | float,
        method: str = "GET",
        filename: str | None = None,
        disposition: ContentDisposition | None = None,
        max_size: int | None = None,
        content_types: Iterable[str] | str | None = None,
        app: _Application | Bucket | None = None,
    ) -> str:
        """Return a link.

        ```python
        upload = links.url("https://example.org/files", expires_in=600, method="POST", max_size=10_000_000)
        ```

        Args:
            prefix: Where the application is mounted: "/files", or a whole address.
            file: The file, its info, its id, its name in an application with `by="filename"`, or a document in one of a
                field. None for a new file (POST).
            expires_in: How long the link is valid, in seconds.
            method: "GET" (which includes HEAD), "PUT", "POST" or "DELETE".
            filename: Of a download, the name that the client is offered. Of an upload, the name to store.
            disposition: Of a download, "inline" or "attachment".
            max_size: Of an upload, the largest size in bytes.
            content_types: Of an upload, the accepted types, such as "image/*". Needs the extra `sniff`.
            app: The application that the link is for, or the `Bucket` of one that serves by id. It is needed if several
                applications check these links, or none in this process.

        Raises:
            BadOption: A value is invalid, or the application is not known.
        """
        served = self._application(app, file)
        if method not in _METHODS:
            raise BadOption(f"method is one of {', '.join(_METHODS)}, not {method!r}")
        key = None if file is None else _key_of(file, served)
        if key is None and method != "POST":
            raise BadOption(f"a link for {method} needs a file. Only POST stores a new one")
        uploads = method in ("PUT", "POST")
        if not uploads and (max_size is not None or content_types is not None):
            raise BadOption(f"max_size and content_types limit uploads, and this link is for {method}")
        if method != "GET" and disposition is not None:
            raise BadOption(f"disposition is for downloads, and this link is for {method}")
        if disposition not in (None, "inline", "attachment"):
            raise BadOption(f"disposition is 'inline' or 'attachment', not {disposition!r}")
        if max_size is not None and (type(max_size) is not int or max_size < 0):
            raise BadOption(f"max_size is a number of bytes, not {max_size!r}")
        if filename is not None:
            check_filename(filename)
        types = checked_content_types(content_types)
        terms = {
            "expires": str(_expiry(expires_in)),
            "filename": filename,
            "disposition": disposition,
            "max_size": None if max_size is None else str(max_size),
            "types": None if types is None else ",".join(types),
        }
        query = {name: value for name, value in terms.items() if value is not None}
        query["signature"] = _sign(self._keys[0], served, key, method, query)
        path = "" if key is None else path_of(key)
        return f"{prefix.rstrip('/')}/{path}?{urlencode(query, quote_via=quote)}"

    async def __call__(self, request: Request, action: Action, info: object) -> bool | Grant:
        """Return what the link of a request allows, or False. An `authorize` of your own may call it.

        ```python
        async def check(request, action, info):
            return "authorization" in request.headers or await links(request, action, info)
        ```
        """
        target = target_of(request)
        terms: Mapping[str, str] = request.query_params
        method = "GET" if target.method == "HEAD" else target.method
        given = terms.get("signature", "").encode()
        valid = False
        for secret in self._keys:
            expected = _sign(secret, target.served, target.key, method, terms)
            valid |= hmac.compare_digest(expected.encode(), given)
        if not valid or not _NUMBER.fullmatch(terms["expires"]):
            return False
        left = int(terms["expires"]) - local_time()
        if left <= 0:
            return False
        types, size = terms.get("types"), terms.get("max_size")
        return Grant(
            max_size=None if size is None else int(size),
            content_types=None if types is None else types.split(","),
            filename=terms.get("filename"),
            disposition=_disposition(terms.get("disposition")),
            max_age=int(left),
        )

    def _application(self, app: _Application | Bucket | None, file: object) -> Served:
        if isinstance(app, Bucket):
            return Served.by_id(app)
        if app is not None:
            return app.served
        known = self._served
        if isinstance(file, AsyncGridFile):
            store = file.state.store()
            place = store.database.name, store.name
            known = {each for each in known if each[:2] == place} or {Served(*place, "id")}
        if len(known) == 1:
            return next(iter(known))
        reason = "several applications check these links" if known else "no application of this process checks them"
        raise BadOption(f"{reason}: say which one the link is for, with app=")


def _checked_key(key: object) -> bytes:
    if not isinstance(key, str | bytes):
        raise BadOption(f"a key is a str or bytes, not {type_name(key)}")
    secret = key.encode() if isinstance(key, str) else key
    if len(secret) < _SHORTEST_KEY:
        raise BadOption(f"a key has at least {_SHORTEST_KEY} bytes: make one with secrets.token_hex(32)")
    return secret


def _key_of(file: object, served: Served) -> str:
    name = "filename" if served.named_by == "filename" else "id"
    found = file if isinstance(file, str) else getattr(file, name, file)
    if found is None or found == "":
        raise BadOption(f"the file has no {name}, so no link can point to it")
    return str(found)


def _expiry(expires_in: object) -> int:
    seconds = expires_in.total_seconds() if isinstance(expires_in, timedelta) else expires_in
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < 10**11:
        raise BadOption(f"expires_in is a positive number of seconds or a timedelta, not {expires_in!r}")
    return int(local_time() + seconds)


def _sign(secret: bytes, served: Served, key: str | None, method: str, terms: Mapping[str, str]) -> str:
    # As JSON, because no two different lists of values have the same text.
    signed = ["gridproxy link 1", *served, key, method, *(terms.get(name) for name in _SIGNED)]
    digest = hmac.new(secret, json.dumps(signed).encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def _disposition(value: str | None) -> ContentDisposition | None:
    return "attachment" if value == "attachment" else "inline" if value == "inline" else None
