"""TusApp: resumable uploads to a bucket as an ASGI application to mount."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from http import HTTPStatus

from bson import ObjectId
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from gridproxy.adapters.starlette.authorize import Authorize, Gate, Grant, Served
from gridproxy.adapters.starlette.receiving import problem_response
from gridproxy.bucket import Bucket
from gridproxy.errors import (
    BadOption,
    FileAlreadyStored,
    FileMissing,
    UploadInProgress,
    UploadMissing,
    WrongLength,
    WrongOffset,
)
from gridproxy.file.options import FileOptions
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.resumable.resumable_upload import ResumableUpload
from gridproxy.gridfs.upload.sources import Source
from gridproxy.http import tus
from gridproxy.runtime.tasks import SETTLE_SECONDS

OnStored = Callable[[Request, FileInfo], Awaitable[object]]

_NOTHING = FileOptions()
_RETRY_SECONDS = 5
# An id, which others can guess, and a secret, which they cannot.
_KEY = re.compile(r"([0-9a-f]{24})-([\w-]{22})", re.ASCII)
_QUERY = re.compile(rb"[!-~]*")


class TusApp:
    """Accept resumable uploads (tus 1.0.0): `app.mount("/uploads", TusApp(bucket, authorize=check))`.

    | request | what it does | status |
    |---|---|---|
    | `OPTIONS /` | says what the server can do, to everybody | 204 |
    | `POST /` | begins an upload, perhaps with its first bytes | 201 |
    | `HEAD /{key}` | says how many bytes are stored | 200 |
    | `PATCH /{key}` | appends bytes. The last ones make the file | 204 |
    | `DELETE /{key}` | aborts the upload | 204 |

    The extensions are creation, creation-with-upload, creation-defer-length, expiration, termination and checksum. The
    file has the name and type of the client's metadata `filename` and `filetype`, and the 24 hex digits at the start of
    `key` are its id. No file exists before the last byte is stored. Errors are `application/problem+json`, and 409, 423
    and 460 as the protocol has them.

    The address of an upload has a secret part, so only the client that began it can continue it, if `authorize` allows
    that, too. Give the address of the application to clients with a slash at its end.

    ```python
    from gridproxy.adapters.tus import TusApp

    async def check(request, action, info):
        return request.headers.get("authorization") == "Bearer a-secret-token"

    app = TusApp(bucket, authorize=check, options=FileOptions(max_size=10_000_000_000))
    ```

    Args:
        bucket: The bucket.
        authorize: An async function of the request, the action, which is always "create", and the `FileInfo` that the
            file will have, which is None for a new upload. It returns True, False or a `Grant`. Or `SignedLinks`, of
            which a link for POST allows the whole upload.
        on_stored: An async function of the request and the file's `FileInfo`, such as one that stores a document for
            the file. It is called before the client learns that the file is stored, and again if the client asks again:
            the answer may have been lost, or the function has raised. So a repeated call for an id must do no harm.
        options: The limits of uploads.
        lifetime: How long an upload may rest, as a timedelta or in seconds.
        max_uploads: How many requests may send bytes at once. Another one is answered by 503. Each takes up to 12 MB.
        stall_timeout: After how many seconds without a byte from the client a request is ended (408). The bytes before
            are stored.

    Raises:
        BadOption: `authorize` is missing, or an option is invalid.
    """

    served: Served
    """What the application serves: the names of the database and the collection, and how clients name a file."""

    uploads: int
    """How many requests are sending bytes."""

    def __init__(
        self,
        bucket: Bucket,
        *,
        authorize: Authorize | None = None,
        on_stored: OnStored | None = None,
        options: FileOptions | None = None,
        lifetime: timedelta | float = timedelta(days=1),
        max_uploads: int = 32,
        stall_timeout: float = 60.0,
    ) -> None:
        if type(max_uploads) is not int or max_uploads < 1:
            raise BadOption(f"max_uploads is a number of uploads, at least 1, not {max_uploads!r}")
        if type(stall_timeout) not in (int, float) or stall_timeout <= 0:
            raise BadOption(f"stall_timeout is a positive number of seconds, not {stall_timeout!r}")
        if options is not None and options.image is not None:
            raise BadOption("a resumable upload processes no picture: leave out image=")
        self.served = Served.by_id(bucket)
        self.uploads = 0
        self._bucket = bucket
        self._on_stored = on_stored
        self._options = options or _NOTHING
        self._lifetime = lifetime
        self._gate = Gate(authorize, self.served, "TusApp")
        self._max_uploads = max_uploads
        self._stall_timeout = stall_timeout
        self._idle = asyncio.Event()
        self._idle.set()

    async def aclose(self) -> None:
        """Wait until the requests that the server has ended have stored what they received, at most 10 seconds.

        Call it in the lifespan of your application before the client of the database is closed. Without it the bytes of
        these requests may be lost, and their uploads cannot be continued for 15 seconds.

        ```python
        from contextlib import asynccontextmanager

        @asynccontextmanager
        async def lifespan(_):
            async with client:
                yield
                await app.aclose()
        ```
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Exception as error:  # noqa: BLE001  # `problem_response` raises what is no error of the client's
            response = await _problem(request, error)
        response.headers["Tus-Resumable"] = tus.VERSION
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        key, fields = _key_in(request.scope), request.headers
        method = tus.method_of(request.method, fields)
        if method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=tus.options_fields(self._options.max_size))
        tus.check_version(fields)
        answers: dict[str, Callable[[], Awaitable[Response]]] = {"POST": lambda: self._create(request)}
        if key:
            answers = {
                "HEAD": lambda: self._describe(request, key),
                "PATCH": lambda: self._append(request, key),
                "DELETE": lambda: self._abort(request, key),
            }
        if method not in answers:
            allowed = {"Allow": ", ".join(["OPTIONS", *answers])}
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers=allowed)
        return await answers[method]()

    async def _create(self, request: Request) -> Response:
        creation = tus.parse_creation(request.headers)
        grant = await self._permit(request)
        options = self._options.narrowed(max_size=grant.max_size, content_types=grant.content_types)
        secret = secrets.token_urlsafe(16)
        with self._slot():
            upload = await self._bucket.resumable(
                length=creation.length,
                lifetime=self._lifetime,
                options=options,
                filename=grant.filename or creation.metadata.get("filename"),
                content_type=creation.metadata.get("filetype") or None,
                metadata=grant.metadata,
                annotations={"tus": {"secret": _hashed(secret), "metadata": creation.raw_metadata}},
            )
            if creation.has_content:
                await self._receive(request, upload, 0, creation.checksum)
            elif upload.length == 0:
                await self._finish(request, upload)
        location = f"{str(request.scope.get('root_path', '')).rstrip('/')}/{upload.id}-{secret}"
        query: bytes = request.scope.get("query_string", b"")
        if query and _QUERY.fullmatch(query):
            location += "?" + query.decode("ascii")  # a signed link allows the next requests, too
        headers = {"Location": location, **_fields(upload)}
        return Response(status_code=HTTPStatus.CREATED, headers=headers)

    async def _describe(self, request: Request, key: str) -> Response:
        upload = await self._find(request, key)
        if upload.is_busy:
            raise UploadInProgress("another request writes to this upload at this moment")
        if upload.offset == upload.length:
            await self._finish(request, upload)  # clients believe that they are done
        return Response(headers=_fields(upload, _raw(upload)))

    async def _append(self, request: Request, key: str) -> Response:
        patch = tus.parse_patch(request.headers)
        upload = await self._find(request, key)
        with self._slot():
            if patch.length is not None and not upload.is_finished:
                await upload.announce(patch.length)
            if upload.is_finished and patch.offset == upload.offset:
                await self._finish(request, upload)  # the answer to the last bytes was lost
            else:
                await self._receive(request, upload, patch.offset, patch.checksum)
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=_fields(upload))

    async def _abort(self, request: Request, key: str) -> Response:
        await (await self._find(request, key)).abort()
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _receive(
        self, request: Request, upload: ResumableUpload, offset: int, checksum: tus.Checksum | None
    ) -> None:
        content = _Content(request, self._stall_timeout, checksum)
        # With a checksum, it is known only at the end whether the bytes are right.
        if await upload.append(content, at=offset, whole=checksum is not None) == upload.length:
            await self._finish(request, upload)

    async def _finish(self, request: Request, upload: ResumableUpload) -> None:
        info = await upload.finish()
        if self._on_stored is not None:
            await self._on_stored(request, info)

    async def _find(self, request: Request, key: str) -> ResumableUpload:
        """Return the upload of a key, if the request may continue it."""
        found = _KEY.fullmatch(key)
        upload = None
        try:
            if found is not None:
                upload = await self._bucket.resume(ObjectId(found[1]), options=self._options)
        except UploadMissing:
            pass
        known = "" if upload is None else _secret(upload)
        if not hmac.compare_digest(known, _hashed("" if found is None else found[2])):
            upload = None
        await self._permit(request, upload)
        if upload is None:
            raise UploadMissing(None)
        return upload

    async def _permit(self, request: Request, upload: ResumableUpload | None = None) -> Grant:
        return await self._gate.check(request, "create", None if upload is None else upload.info, method="POST")

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if self.uploads >= self._max_uploads:
            raise HTTPException(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Too many files are being uploaded. Try again later.",
                {"Retry-After": str(_RETRY_SECONDS)},
            )
        self.uploads += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.uploads -= 1
            if not self.uploads:
                self._idle.set()


class _Content(Source):
    """The body of a request. It raises after `stall_timeout` seconds without a byte."""

    what = "the body of the request"

    def __init__(self, request: Request, stall_timeout: float, checksum: tus.Checksum | None) -> None:
        length = request.headers.get("content-length", "")
        self.size = int(length) if re.fullmatch("[0-9]{1,19}", length) else None
        self._receive = request.receive
        self._stall_timeout = stall_timeout
        self._checksum = checksum
        self._hash = None if checksum is None else checksum.start()
        self._more = True

    async def read(self) -> bytes:
        while self._more:
            message = await self._next()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._more = message.get("more_body", False)
            if block := bytes(message.get("body", b"")):
                if self._hash is not None:
                    self._hash.update(block)
                return block
        if self._checksum is not None and self._hash is not None:
            self._checksum.check(self._hash)
        return b""

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout(self._stall_timeout):
                return await self._receive()
        except TimeoutError:
            raise HTTPException(
                HTTPStatus.REQUEST_TIMEOUT, f"No byte arrived for {self._stall_timeout:g} seconds."
            ) from None


def _key_in(scope: Scope) -> str:
    """Return the part of the path after the prefix that the application is mounted under."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return (path[len(prefix) :] if path.startswith(f"{prefix}/") or path == prefix else path).removeprefix("/")


def _fields(upload: ResumableUpload, raw_metadata: str = "") -> dict[str, str]:
    expires_at = None if upload.is_finished else upload.expires_at
    return tus.state_fields(upload.offset, upload.length, expires_at, raw_metadata)


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _secret(upload: ResumableUpload) -> str:
    return str(upload.annotations.get("tus", {}).get("secret", ""))


def _raw(upload: ResumableUpload) -> str:
    return str(upload.annotations.get("tus", {}).get("metadata", ""))


async def _problem(request: Request, error: Exception) -> Response:
    """Answer an error of the client with the status that the protocol has for it."""
    refusal: tuple[int, str, dict[str, str]] | None = None
    if isinstance(error, tus.TusRefused):
        refusal = error.status, error.reason, error.fields
    elif isinstance(error, WrongOffset):
        refusal = HTTPStatus.CONFLICT, str(error), {"Upload-Offset": str(error.offset)}
    elif isinstance(error, WrongLength):
        refusal = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error), {}
    elif isinstance(error, UploadInProgress):
        refusal = HTTPStatus.LOCKED, str(error), {"Retry-After": str(_RETRY_SECONDS)}
    elif isinstance(error, FileAlreadyStored):
        refusal = HTTPStatus.GONE, "This upload is finished.", {}
    elif isinstance(error, FileMissing):
        refusal = HTTPStatus.NOT_FOUND, "There is no such upload. It was aborted, or it has expired.", {}
    if refusal is None:
        return await problem_response(request, error)
    status, reason, fields = refusal
    title = "Checksum Mismatch" if status == tus.CHECKSUM_MISMATCH else HTTPStatus(status).phrase
    problem = {"title": title, "status": int(status), "detail": reason}
    return JSONResponse(problem, status, fields, media_type="application/problem+json")
