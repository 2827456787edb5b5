"""FilesApp: the files of a bucket, or of a field of documents, as an ASGI application to mount."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal, NoReturn, TypedDict, Unpack
from urllib.parse import urlencode

from pymongo import ASCENDING, DESCENDING
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from gridproxy.bucket import Bucket
from gridproxy.errors import BadOption, CorruptFile, FileMissing
from gridproxy.file.options import FileOptions
from gridproxy.gridfs.operations.delete import delete_after_failure
from gridproxy.gridfs.operations.find import FoundFiles
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.server_clock import server_now
from gridproxy.http import Validators, Verdict, describe, evaluate, parse_date

from .authorize import Action, Authorize, Gate, Grant, Served, path_of
from .forms import Form, is_form, named_in_header
from .places import FilesById, FilesByName, FilesOfField, Incoming, Place
from .receiving import RequestBody, problem_response
from .response import GridFileResponse

_CONDITIONS = ("if-match", "if-none-match", "if-unmodified-since")
_PAGE, _LARGEST_PAGE = 100, 1000  # files
_RETRY_SECONDS = 10


class AppOptions(TypedDict, total=False):
    """The options of `FilesApp` that are not about what it serves."""

    max_uploads: int
    """How many uploads may run at once, 32 by default. Another one is answered by 503. Each takes up to 20 MB."""
    stall_timeout: float
    """After how many seconds without a byte from the client an upload is ended (408). 60 by default."""
    cache_control: str | None
    """As for `GridFileResponse`. A `Grant` or a signed link with a time replaces it."""
    resource_policy: str | None
    """As for `GridFileResponse`."""
    security_policy: str | None
    """As for `GridFileResponse`."""


class FilesApp:
    """Serve and accept files: `app.mount("/files", FilesApp(bucket, authorize=check))`.

    | request | what it does | status |
    |---|---|---|
    | `GET /{id}`, `HEAD /{id}` | sends the file, with ranges and conditions | 200, 206, 304, 412, 416 |
    | `POST /` | stores new files: a body, or each file of a form | 201 |
    | `PUT /{id}`, `POST /{id}` | stores a file under this id, or a new revision of this name | 201, 200 |
    | `DELETE /{id}` | removes the file, or all revisions of this name | 204 |
    | `GET /` | lists the files, if `listing` is True | 200 |

    A stored file is answered by its id, name, length, type and URL as JSON, a form by a list of these. A body may have
    its name in Content-Disposition. Uploads are streamed without a temporary copy, and one that fails leaves nothing.
    If a form of several files fails, none of them is left. PUT and DELETE honour If-Match and If-None-Match. The files
    of an id cannot be replaced (409). Errors are `application/problem+json`, as `problem_response` makes them.

    The application also works alone, and behind any prefix and proxy.

    ```python
    from gridproxy.adapters.starlette import FilesApp

    async def check(request, action, info):
        return request.headers.get("authorization") == "Bearer a-secret-token"

    app = FilesApp(bucket, authorize=check, options=FileOptions(max_size=10_000_000))
    ```

    Args:
        bucket: The bucket.
        authorize: An async function of the request, the action ("read", "create", "replace", "delete" or "list") and
            the file's `FileInfo`, which is None for a new or missing file. It returns True, False or a `Grant`. Or
            `SignedLinks`.
        options: The limits of uploads.
        by: "id", or "filename" for the newest revision of a name. Names may contain slashes. An id is an `ObjectId` if
            it has 24 hex digits, and a str otherwise.
        listing: Whether `GET /` lists the files in pages, with the parameters `limit` and `after`.
        **more: Those of `AppOptions`: max_uploads, stall_timeout (seconds), cache_control, resource_policy and
            security_policy.

    Raises:
        BadOption: `authorize` is missing, or an option is invalid.
    """

    served: Served
    """What the application serves: the names of the database and the collection, and how clients name a file."""

    uploads: int
    """How many uploads are running."""

    def __init__(
        self,
        bucket: Bucket,
        *,
        authorize: Authorize | None = None,
        options: FileOptions | None = None,
        by: Literal["id", "filename"] = "id",
        listing: bool = False,
        **more: Unpack[AppOptions],
    ) -> None:
        if by not in ("id", "filename"):
            raise BadOption(f"by is 'id' or 'filename', not {by!r}")
        place = FilesByName(bucket, options) if by == "filename" else FilesById(bucket, options)
        self._set_up(place, authorize, place if listing else None, **more)

    @staticmethod
    def for_field(
        model: type[Any],
        field: str,
        *,
        authorize: Authorize | None = None,
        engine: Any = None,
        **more: Unpack[AppOptions],
    ) -> FilesApp:
        """Serve the files in a field of documents: `/{document id}` is the file of that document.

        PUT and POST replace the file and save the document. DELETE saves the document without a file and then removes
        it. Neither makes or removes a document. The limits are those of the field. With Beanie, use `use_revision` or
        `use_state_management`: without them a save writes all fields, also those that changed during the upload.

        ```python
        from gridproxy.adapters.document import Document, FileField

        class Badger(Document):
            photo = FileField(max_size=10_000_000)

        async def check(request, action, badger):
            return action == "read" and badger is not None

        app = FilesApp.for_field(Badger, "photo", authorize=check)
        ```

        Args:
            model: A document class of Beanie (`FileDocument`), of ODMantic (`FileModel`), or the built-in `Document`.
            field: The name of the field.
            authorize: As for `FilesApp`. Its third argument is the document, or None if it is missing.
            engine: The `AsyncEngine` of an ODMantic model.
            **more: Those of `AppOptions`, as for `FilesApp`.

        Raises:
            BadOption: `authorize` is missing, the model has no such field, or it needs an engine.
        """
        return _FilesOfFieldApp(FilesOfField(model, field, engine), authorize, **more)

    def _set_up(
        self,
        place: Place,
        authorize: Authorize | None,
        listed: FilesById | None,
        *,
        max_uploads: int = 32,
        stall_timeout: float = 60.0,
        cache_control: str | None = None,
        resource_policy: str | None = None,
        security_policy: str | None = None,
    ) -> None:
        if type(max_uploads) is not int or max_uploads < 1:
            raise BadOption(f"max_uploads is a number of uploads, at least 1, not {max_uploads!r}")
        if type(stall_timeout) not in (int, float) or stall_timeout <= 0:
            raise BadOption(f"stall_timeout is a positive number of seconds, not {stall_timeout!r}")
        self.served = place.served
        self._place = place
        self._listed = listed
        self._gate = Gate(authorize, place.served, "FilesApp")
        self._cache_control = cache_control
        self._resource_policy = resource_policy
        self._security_policy = security_policy
        self._max_uploads = max_uploads
        self._stall_timeout = stall_timeout
        self.uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        request = Request(scope, self._impatient(receive))
        try:
            await (await self._answer(request))(scope, receive, watched)
        except Exception as error:
            if started:
                raise
            response = await problem_response(request, error)
            await response(scope, receive, send)

    def _impatient(self, receive: Receive) -> Receive:
        async def received() -> Message:
            try:
                async with asyncio.timeout(self._stall_timeout):
                    return await receive()
            except TimeoutError:
                raise HTTPException(
                    HTTPStatus.REQUEST_TIMEOUT, f"No byte arrived for {self._stall_timeout} seconds."
                ) from None

        return received

    async def _answer(self, request: Request) -> Response:
        key, method = _key_in(request.scope), request.method
        answers: dict[str, Callable[[], Awaitable[Response]]] = {}
        if key:
            answers = {
                "GET": lambda: self._send(request, key),
                "HEAD": lambda: self._send(request, key),
                "PUT": lambda: self._store_one(request, key),
                "POST": lambda: self._store_one(request, key),
                "DELETE": lambda: self._delete(request, key),
            }
        elif self._place.accepts_new:
            answers = {"POST": lambda: self._store_new(request)}
            if (listed := self._listed) is not None:
                answers["GET"] = answers["HEAD"] = lambda: self._list(request, listed)
        if method not in answers:
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(answers)})
        return await answers[method]()

    async def _permitted(self, request: Request, action: Action, key: str, *, find: bool) -> tuple[Any, Grant]:
        """Return the record or the document that a key names, and the terms of the permission.

        Without a permission nothing is loaded, unless `authorize` decides by it. With `find` it is loaded in any case.
        """
        if not self._gate.needs_info:
            grant = await self._gate.check(request, action, key=key)
            return await self._place.find(key) if find else None, grant
        found = await self._place.find(key)
        # A document that is found may have no file yet.
        if action == "create" and await self._place.info(found) is not None:
            action = "replace"
        return found, await self._gate.check(request, action, found, key=key)

    # Reading

    async def _send(self, request: Request, key: str) -> Response:
        found, grant = await self._permitted(request, "read", key, find=self._place.must_find)
        file = self._place.file(key, found)
        if file is None:
            raise FileMissing(message=f"there is no file {key!r}")
        bounded = None if grant.max_age is None else f"private, max-age={grant.max_age}"
        return _FileOfApp(
            file,
            filename=grant.filename,
            content_disposition_type=grant.disposition,
            cache_control=self._cache_control if bounded is None else bounded,
            resource_policy=self._resource_policy,
            security_policy=self._security_policy,
        )

    async def _list(self, request: Request, place: FilesById) -> Response:
        await self._gate.check(request, "list")
        limit = min(max(1, _number(request, "limit", _PAGE)), _LARGEST_PAGE)
        after = request.query_params.get("after")
        now = await server_now(place.bucket.store)
        if isinstance(place, FilesByName):
            infos, rest = await _names(place.bucket, now, limit, after)
        else:
            infos, rest = await _files(place.bucket, now, limit, _number(request, "after", 0))
        more = None if rest is None else "?" + urlencode({"limit": limit, "after": rest})
        files = [self._described(request, self._place.key_of(None, info), info) for info in infos]
        return JSONResponse({"files": files, "next": more}, headers={"Cache-Control": "private, no-cache"})

    # Storing

    async def _store_one(self, request: Request, key: str) -> Response:
        conditional = any(name in request.headers for name in _CONDITIONS)
        found, grant = await self._permitted(request, "create", key, find=self._place.must_find or conditional)
        info = await self._place.info(found)
        if conditional:
            _check_conditions(request, info)
        name = key if self.served.named_by == "filename" else None
        with self._upload():
            if is_form(request):
                file = await Form(request, alone=True).next_file()
                if file is None:
                    _refuse_form_without_file()
                stored = await self._place.store(key, found, Incoming(file, grant, name))
            else:
                stored = await self._place.store(key, found, _body(request, grant, name))
        return self._stored(request, self._place.key_of(key, stored), stored, created=info is None)

    async def _store_new(self, request: Request) -> Response:
        grant = await self._gate.check(request, "create")
        with self._upload():
            if not is_form(request):
                content = await self._new_content(request, _body(request, grant))
                stored = await self._place.store(None, None, content)
                return self._stored(request, self._place.key_of(None, stored), stored, created=True)
            infos: list[FileInfo] = []
            form = Form(request, alone=False)
            try:
                while (file := await form.next_file()) is not None:
                    content = await self._new_content(request, Incoming(file, grant))
                    infos.append(await self._place.store(None, None, content))
                if not infos:
                    _refuse_form_without_file()
            except BaseException as error:
                assert isinstance(self._place, FilesById), "a field accepts no new files"
                await delete_after_failure(self._place.bucket.store, [info.id for info in infos], None, error)
                raise
        files = [self._described(request, self._place.key_of(None, info), info) for info in infos]
        return JSONResponse(files, HTTPStatus.CREATED)

    async def _new_content(self, request: Request, content: Incoming) -> Incoming:
        """Ask again for a new file whose name makes it a revision of another one."""
        if self.served.named_by == "filename" and content.name is not None:
            found = await self._place.find(content.name)
            if found is not None:
                await self._gate.check(request, "replace", found, key=content.name)
        return content

    @contextmanager
    def _upload(self) -> Iterator[None]:
        if self.uploads >= self._max_uploads:
            raise HTTPException(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Too many files are being uploaded. Try again later.",
                {"Retry-After": str(_RETRY_SECONDS)},
            )
        self.uploads += 1
        try:
            yield
        finally:
            self.uploads -= 1

    # Removing

    async def _delete(self, request: Request, key: str) -> Response:
        found, _ = await self._permitted(request, "delete", key, find=True)
        info = await self._place.info(found)
        _check_conditions(request, info)
        if info is None:
            raise FileMissing(message=f"there is no file {key!r}")
        await self._place.delete(key, found)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    # Answers

    def _stored(self, request: Request, key: str, info: FileInfo, *, created: bool) -> Response:
        described = self._described(request, key, info)
        headers = {"Location": str(described["url"]), "ETag": describe(info)["etag"]}
        return JSONResponse(described, HTTPStatus.CREATED if created else HTTPStatus.OK, headers)

    def _described(self, request: Request, key: str, info: FileInfo) -> dict[str, object]:
        prefix = str(request.scope.get("root_path", "")).rstrip("/")
        date = info.upload_date
        return {
            "id": str(info.id),
            "filename": info.filename,
            "length": info.length,
            "content_type": info.content_type,
            "upload_date": None if date is None else date.isoformat(),
            "url": f"{prefix}/{path_of(key)}",
        }


class _FilesOfFieldApp(FilesApp):
    def __init__(self, place: FilesOfField, authorize: Authorize | None, **more: Unpack[AppOptions]) -> None:
        self._set_up(place, authorize, None, **more)


class _FileOfApp(GridFileResponse):
    async def _answer_missing(self, error: FileMissing, scope: Scope, receive: Receive, send: Send) -> None:
        raise error  # FilesApp answers it


def _key_in(scope: Scope) -> str:
    """Return the part of the path after the prefix that the application is mounted under."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", ""))
    if prefix and (path == prefix or path.startswith(prefix.rstrip("/") + "/")):
        path = path[len(prefix.rstrip("/")) :]
    return path.removeprefix("/")


def _body(request: Request, grant: Grant, name: str | None = None) -> Incoming:
    return Incoming(RequestBody(request, filename=named_in_header(request)).as_source(), grant, name)


def _refuse_form_without_file() -> NoReturn:
    raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, "The form contains no file.")


def _check_conditions(request: Request, info: FileInfo | None) -> None:
    """Raise 412 unless the conditions of a request that changes a file hold (RFC 9110, 13.2.2)."""
    fields = {name: request.headers[name] for name in _CONDITIONS if name in request.headers}
    if info is None:
        failed = "if-match" in fields
    else:
        described = describe(info)
        validators = Validators(described["etag"], parse_date(described.get("last-modified", "")))
        failed = evaluate(request.method, fields, validators) is Verdict.FAILED
    if failed:
        raise HTTPException(HTTPStatus.PRECONDITION_FAILED, "The file is not as the conditions of the request want it.")


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"{name} is a whole number.")
    return int(text)


def _shown(now: datetime) -> list[dict[str, Any]]:
    """Return the conditions of a record that is in a list: not expired, and not a smaller form of a picture."""
    return [{"expires_at": {"$not": {"$lte": now}}}, {"metadata.variant_of": {"$exists": False}}]


async def _files(bucket: Bucket, now: datetime, limit: int, skip: int) -> tuple[list[FileInfo], str | None]:
    """Return a page of files, the newest id first, and how many to skip for the next page."""
    async with aclosing(_search(bucket, _shown(now), [("_id", DESCENDING)], skip, limit + 1)) as found:
        page = [info async for info in found]
    return [info for info in page[:limit] if info is not None], str(skip + limit) if len(page) > limit else None


async def _names(bucket: Bucket, now: datetime, limit: int, after: str | None) -> tuple[list[FileInfo], str | None]:
    """Return the newest revision of each name of a page, and the last name if there are more."""
    names: dict[str, Any] = {"$type": "string"} if after is None else {"$gt": after, "$type": "string"}
    order = [("filename", ASCENDING), ("uploadDate", DESCENDING), ("_id", DESCENDING)]
    infos: list[FileInfo] = []
    async with aclosing(_search(bucket, [{"filename": names}, *_shown(now)], order)) as found:
        async for info in found:
            if info is None or (infos and infos[-1].filename == info.filename):
                continue
            if len(infos) == limit:
                return infos, infos[-1].filename
            infos.append(info)
    return infos, None


async def _search(
    bucket: Bucket, conditions: list[dict[str, Any]], order: list[tuple[str, int]], skip: int = 0, limit: int = 0
) -> AsyncGenerator[FileInfo | None, None]:
    """Yield the records that meet all conditions, and None for one that is not that of a file."""
    found = FoundFiles(
        bucket.store, {"$and": conditions}, sort=order, skip=skip, limit=limit, batch_size=_PAGE, session=None
    )
    async with aclosing(found):
        while True:
            try:
                yield await anext(found)
            except CorruptFile:
                yield None
            except StopAsyncIteration:
                return
