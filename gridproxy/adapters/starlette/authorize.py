"""Who may do what: the question that an application asks before it reads or writes a file."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request

from gridproxy.bucket import Bucket
from gridproxy.errors import BadOption, describe_object

Action = Literal["read", "create", "replace", "delete", "list"]
"""What a request asks for."""

ContentDisposition = Literal["inline", "attachment"]

# Clients change a path with such a part before they send it: a//b, a/./b, a/../b.
_DOTS = re.compile(r"(?:^|/)\.{0,2}(?:/|$)")
_TARGET = "gridproxy.target"  # in the scope of the request


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A permission with terms, which `authorize` returns in place of True.

    ```python
    async def check(request, action, info):
        return Grant(max_size=1_000_000, metadata={"owner": 7}) if action == "create" else False
    ```

    Args:
        max_size: Of an upload, the largest size in bytes. The limit of the application stays.
        content_types: Of an upload, the accepted types, such as "image/*". The types of the application stay.
        metadata: Of an upload, keys to store in the metadata.
        filename: Of an upload, the name to store. Of a download, the name to offer.
        disposition: Of a download, "inline" or "attachment".
        max_age: Of a download, the longest time in seconds that the client may keep it (Cache-Control).
    """

    max_size: int | None = None
    content_types: Iterable[str] | str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    filename: str | None = None
    disposition: ContentDisposition | None = None
    max_age: int | None = None


class Authorize(Protocol):
    """An async function of a request, an action and what the action is about.

    ```python
    async def check(request, action, info):
        return action == "read" and info is not None and "public" in info.metadata
    ```
    """

    def __call__(self, request: Request, action: Action, info: Any, /) -> Awaitable[bool | Grant]:
        """Decide.

        Args:
            request: The request. Its path, query and headers are known, and its body was not read.
            action: "read", "create", "replace", "delete" or "list".
            info: The `FileInfo` of the file, or the document in `FilesApp.for_field`. None for a new file, for a list
                and for a missing file.

        Returns:
            True, a `Grant`, or False, which is answered by 403.

        Raises:
            HTTPException: Starlette's, for another answer such as 401.
        """


class Served(NamedTuple):
    """What one application serves: the names of the database and of the collection, and how clients name a file."""

    database: str
    collection: str
    named_by: str

    @classmethod
    def by_id(cls, bucket: Bucket) -> Served:
        """Return what an application serves that finds the files of a bucket by their ids."""
        return cls(bucket.database.name, bucket.name, "id")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one request is about, for an `authorize` that compares it with something signed."""

    served: Served
    key: str | None  # the part of the path that names the file, None for a new file or a list
    method: str


@runtime_checkable
class Links(Protocol):
    """An `authorize` that decides by the request alone, so that no record has to be loaded for it."""

    def add_application(self, served: Served) -> None:
        """Note what an application serves, so that links for it can be made."""

    async def __call__(self, request: Request, action: Action, info: object) -> bool | Grant:
        """Decide."""


class Gate:
    """Ask `authorize`, and refuse all that it does not clearly allow.

    Args:
        authorize: The function, or `SignedLinks`.
        served: What the application serves.
        application: The name of the application's class, for the errors.

    Raises:
        BadOption: `authorize` is None or cannot be called.
    """

    def __init__(self, authorize: Authorize | None, served: Served, application: str) -> None:
        if authorize is None:
            raise BadOption(
                f"{application} needs authorize=: without it every client could read, replace and delete the files. "
                "Pass an async function of (request, action, info) that returns True or False, or SignedLinks(...)"
            )
        if not callable(authorize):
            raise BadOption(
                f"authorize is an async function of (request, action, info) or SignedLinks(...), "
                f"not {describe_object(authorize)}"
            )
        self._authorize = authorize
        self._served = served
        # Whether the record has to be loaded before `check`.
        self.needs_info: bool = not isinstance(authorize, Links)
        if isinstance(authorize, Links):
            authorize.add_application(served)

    async def check(
        self,
        request: Request,
        action: Action,
        info: object = None,
        *,
        key: str | None = None,
        method: str | None = None,
    ) -> Grant:
        """Return what the request may do.

        Args:
            request: The request.
            action: What it asks for.
            info: The record of the file or the document. It may be None if `needs_info` is False.
            key: The part of the path that names the file. None for a new file and for a list.
            method: The method that a signed link has to allow. None for that of the request. A protocol that uploads
                one file with several requests passes the method of the first one for all of them.

        Raises:
            HTTPException: The request is refused (403), or `authorize` raised it.
            TypeError: `authorize` is not async, or it returned something else than True, False, None or a `Grant`.
        """
        request.scope[_TARGET] = Target(served=self._served, key=key, method=method or request.method)
        answer: object = self._authorize(request, action, info)
        if not inspect.isawaitable(answer):
            raise TypeError("authorize is not async: write `async def` for it")
        verdict = await answer
        if isinstance(verdict, Grant):
            return verdict
        if verdict is True:
            return Grant()
        if verdict is None or verdict is False:
            raise HTTPException(HTTPStatus.FORBIDDEN, "You may not do this.")
        raise TypeError(f"authorize returns True, False or a Grant, not {describe_object(verdict)}")


def path_of(key: str) -> str:
    """Return the part of a path that names a file, as a URL has it."""
    return quote(key, safe="" if _DOTS.search(key) else "/")


def target_of(request: Request) -> Target:
    """Return what a request is about, which `Gate.check` noted."""
    target = request.scope.get(_TARGET)
    if not isinstance(target, Target):
        raise BadOption("SignedLinks can be asked only for a request that FilesApp or TusApp received")
    return target
