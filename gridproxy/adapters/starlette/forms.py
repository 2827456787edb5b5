"""Read the files of a form (multipart/form-data, RFC 7578) while they arrive, without a copy on a disk."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from gridproxy.gridfs.upload.sources import Source

from .receiving import RequestRefused, check_fields

MOST_FILES = 100
"""How many files one form may hold."""

# The bytes of one form that are not content of files: fields, headers and boundaries.
_MOST_OVERHEAD = 1024 * 1024
_MOST_HEADERS = 16 * 1024  # of one part, in bytes


class FormFile(Source):
    """One file of a form, which can be read once, before the next file is asked for."""

    def __init__(self, form: Form, name: str, content_type: str | None, *, alone: bool) -> None:
        self.name: str | None = name
        self.content_type: str | None = content_type
        self._form = form
        self._alone = alone

    async def read(self) -> bytes:
        block = await self._form.read_part()
        if not block and self._alone:
            # Before the file is stored: a form with another file, or one that breaks off, is refused as a whole.
            await self._form.next_file()
        return block


class Form:
    """The body of a request that contains a form. Fields without a file are skipped.

    Args:
        request: The request.
        alone: Whether the form has to contain exactly one file.

    Raises:
        RequestRefused: The form is not valid, is compressed, or has too many parts. Each method may raise it.
    """

    def __init__(self, request: Request, *, alone: bool) -> None:
        check_fields(request)
        _, options = parse_options_header(request.headers["content-type"])
        boundary = options.get(b"boundary")
        if not boundary:
            raise _invalid("its Content-Type names no boundary")
        self._alone = alone
        self._blocks: AsyncIterator[bytes] = request.stream()
        self._events: deque[tuple[str, bytes]] = deque()
        self._in_part = False
        self._ended = False
        self._overhead = 0
        self._files = 0
        names = ("part_begin", "header_field", "header_value", "header_end", "part_data", "part_end", "end")
        callbacks = {f"on_{name}": partial(self._note, name) for name in names}
        callbacks["on_headers_finished"] = partial(self._note, "headers_finished")
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]  # a TypedDict of these names
        except FormParserError as error:
            raise _invalid(str(error)) from error

    def _note(self, event: str, data: bytes = b"", start: int = 0, end: int = 0) -> None:
        self._events.append((event, data[start:end]))

    async def next_file(self) -> FormFile | None:
        """Return the next file, or None at the end of the form. The file before it must have been read to its end."""
        while (headers := await self._next_headers()) is not None:
            _, options = parse_options_header(headers.get("content-disposition"))
            if name := _decoded(options.get(b"filename", b"")):
                self._files += 1
                if self._files > (1 if self._alone else MOST_FILES):
                    raise RequestRefused(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                        "the form contains more than one file: send each one by itself"
                        if self._alone
                        else f"the form contains more than {MOST_FILES} files",
                    )
                kind = headers.get("content-type")
                return FormFile(self, name, None if kind is None else _decoded(kind), alone=self._alone)
            while block := await self.read_part():
                self._count(len(block))  # a field of the form
        return None

    async def read_part(self) -> bytes:
        """Return the next bytes of the current part, or nothing at its end."""
        while self._in_part:
            event, data = await self._next_event()
            if event == "part_end":
                self._in_part = False
            elif event == "part_data" and data:
                return data
        return b""

    async def _next_headers(self) -> dict[str, bytes] | None:
        """Return the headers of the next part, or None at the end of the form."""
        headers: dict[str, bytes] = {}
        name, value, size = b"", b"", 0
        while True:
            event, data = await self._next_event()
            size += len(data)
            self._count(len(data))
            if size > _MOST_HEADERS:
                raise _invalid(f"the headers of a part have more than {_MOST_HEADERS} bytes")
            if event == "end":
                return None
            if event == "header_field":
                name += data
            elif event == "header_value":
                value += data
            elif event == "header_end":
                headers.setdefault(name.decode("latin-1").lower(), value)
                name, value = b"", b""
            elif event == "headers_finished":
                self._in_part = True
                return headers

    async def _next_event(self) -> tuple[str, bytes]:
        while not self._events:
            if self._ended:
                return "end", b""
            block = await anext(self._blocks, b"")
            if not block:
                raise _invalid("it ends in the middle")
            try:
                self._parser.write(block)
            except FormParserError as error:
                raise _invalid(str(error)) from error
            if not self._events:
                self._count(len(block))  # what is before the first part, or a line break that may be a boundary
        event = self._events.popleft()
        if event[0] == "end":
            self._ended = True
        elif event[0] == "part_begin":
            self._count(1)
        return event

    def _count(self, size: int) -> None:
        self._overhead += size
        if self._overhead > _MOST_OVERHEAD:
            raise RequestRefused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the fields of the form have more than {_MOST_OVERHEAD} bytes"
            )


def is_form(request: Request) -> bool:
    """Return whether the body of a request is a form."""
    kind = request.headers.get("content-type", "").partition(";")[0]
    return kind.strip().lower() == "multipart/form-data"


def named_in_header(request: Request) -> str | None:
    """Return the name that the client gives to a body that is not a form: Content-Disposition (RFC 6266)."""
    declared = request.headers.get("content-disposition")
    if declared is None:
        return None
    _, options = parse_options_header(declared)
    return _decoded(options.get(b"filename", b"")) or None


def _decoded(text: bytes) -> str:
    # Browsers send UTF-8 in forms, whatever the encoding of the page's other requests.
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _invalid(reason: str) -> RequestRefused:
    return RequestRefused(HTTPStatus.BAD_REQUEST, f"this is not a valid form: {reason}")
