"""Write bucket.py, file.py and resumable.py of `gridproxy.sync`: `python -m tests.generate_sync`.

Each method has the name, the arguments and the docstring of the asynchronous one, and waits for it.
tests/sync/test_generated.py fails if the files are not up to date.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
FACADES = {
    "bucket.py": ("bucket.py", "Bucket"),
    "file.py": ("file/file.py", "AsyncGridFile"),
    "resumable.py": ("gridfs/resumable/resumable_upload.py", "ResumableUpload"),
}

# What needs a document, and what the heads below have.
_LEFT_OUT = {"finalize", "revert", "options", "database", "capabilities", "__init__", "as_source", "variants", "get"}
# How a result of the asynchronous method becomes that of the blocking one: its type, and the call.
_RESULTS = {
    "AsyncGridFile": ("GridFile", "GridFile({bucket}, {call})"),
    "AsyncIterator[FileInfo]": ("Iterator[FileInfo]", "Pulled({name}, {call})"),
    "AsyncIterator[Finding]": ("Iterator[Finding]", "Pulled({name}, {call}, at_most=1)"),
    "AsyncIterator[str]": ("Iterator[str]", "Pulled({name}, {call})"),
    "DownloadStream": ("DownloadStream", "DownloadStream({call})"),
    "NewFile[Self]": ("NewFile[Self]", "NewFile(self, {call})"),
    "ResumableUpload": ("ResumableUpload", "ResumableUpload(self, {call}, options)"),
    "Reader": ("Reader", "Reader({call})"),
    "Writer": ("Writer", 'Writer({call}, options.get("encoding", "utf-8"))'),
    "Written": ("int", None),
}
# Sentences that are about awaiting.
_SENTENCES = {
    "an async iterator of bytes and an `anyio.abc.ByteReceiveStream`, with": "an iterator of bytes with",
    "without an exception. Awaiting the result starts\n        the upload, too.": "without an exception.",
    "Copy `data` at the call, in order. Await the result to be held back while the server is slow.": (
        "Write `data`, and wait while the server is slow."
    ),
    ", an int that can be awaited. Without `await` the data is kept and sent at `close()`.": ".",
    ", an int that can be awaited.": ".",
    "            BufferFull: More than 64 MiB would wait without being awaited. Nothing was taken."
    " A single longer write is\n                taken.\n": "",
    "and so are `BadSource`, `BufferFull` and `TooLarge`": "and so are `BadSource` and `TooLarge`",
    "`await file.new_file()` and later `close()`, or `async with file.new_file():`": (
        "`file.new_file()` and later `close()`, or `with file.new_file():`"
    ),
    "by an exception or a\n        cancellation, the": "by an exception, the\n       ",
    "An object to await or to enter. Both start the new file.": "A context manager, which need not be entered.",
    "written in a worker thread": "written in this thread",
    "each\n                synchronous or asynchronous, an `AsyncGridFile`": (
        "each\n                synchronous or asynchronous, a `GridFile`"
    ),
}

_BUCKET = '''
"""The bucket of blocking code. Written by tests/generate_sync.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Unpack

from gridproxy import bucket as asynchronous
from gridproxy.file.options import FileOptions
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session
from gridproxy.gridfs.upload.options import TransferOptions, UploadOptions
from gridproxy.gridfs.upload.sources import SourceLike
from gridproxy.gridfs.upload.staging import Staged
from gridproxy.runtime.progress import Progress
from gridproxy.upkeep.document_paths import References
from gridproxy.upkeep.findings import Finding, GarbageReport

from .file import GridFile
from .portal import Portal, call, current_portal, in_callers_thread, listed
from .resumable import ResumableUpload
from .streams import DownloadStream, Pulled, Reader, Writer


class Bucket:
    """The files of one GridFS bucket, for code that does not await. `Client.bucket` returns it.

    Each method is that of `gridproxy.Bucket`, and blocks until it is done. Threads can share a bucket. Sources, sinks
    and `progress` are used in the calling thread. Ctrl-C cancels the operation, which removes what it has sent. In the
    thread of a running event loop every method raises `EventLoopRunning`. In the examples `info` is the record of a
    file in `bucket`.

    ```python
    bucket = client.bucket("zoo", "uploads")
    info = bucket.upload(b"some content", filename="notes.txt", metadata={"owner": 7})
    assert bucket.read(info.id, 5, 12) == b"content"
    ```
    """

    def __init__(self, connect: Callable[[], asynchronous.Bucket]) -> None:
        self._connect = connect
        self._current: tuple[Portal, asynchronous.Bucket] = current_portal(), connect()

    def asynchronous(self) -> asynchronous.Bucket:
        """Return the asynchronous bucket of this process, which works only in the event loop of this package.

        ```python
        assert bucket.asynchronous().name == bucket.name
        ```
        """
        portal = current_portal()
        if self._current[0] is not portal:  # this process was forked
            self._current = portal, self._connect()
        return self._current[1]

    def __repr__(self) -> str:
        return f"<gridproxy.sync.Bucket {self.asynchronous().store!r}>"

    def __eq__(self, other: object) -> bool:
        return self.asynchronous() == other.asynchronous() if isinstance(other, Bucket) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.asynchronous())

    def open(self, id: object, *, session: Session | None = None) -> Reader:
        """Open a stored file for reading, as a binary file of the standard library (`io.RawIOBase`).

        Args:
            id: The file's id.
            session: A session of pymongo's.

        Raises:
            FileMissing: There is no such file, or it has expired.
            CorruptFile: The record is not that of a file.

        ```python
        with bucket.open(info.id) as file:
            assert file.read(4) == b"some"
        ```
        """
        return self.file(id).open(session=session)

    def create(self, **options: Unpack[TransferOptions]) -> Writer:
        """Open a new file for writing, as a binary file of the standard library (`io.RawIOBase`). See `open_upload`.

        ```python
        with bucket.create(filename="notes.txt") as file:
            file.write(b"some text")
        assert bucket.read(file.info.id) == b"some text"
        ```
        """
        return self.open_upload(**options)
'''

_FILE = '''
"""The file object of blocking code. Written by tests/generate_sync.py."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Protocol, Self, Unpack, overload

from gridproxy import bucket as asynchronous
from gridproxy.file.file import AsyncGridFile
from gridproxy.gridfs.download.sinks import SinkLike
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.store.collections import Session
from gridproxy.gridfs.upload.options import TransferOptions
from gridproxy.gridfs.upload.sources import Data, Source, SourceLike
from gridproxy.gridfs.upload.staging import Staged
from gridproxy.runtime.progress import Progress

from .portal import call, in_callers_thread, listed
from .streams import DownloadStream, NewFile, Pulled, Reader


class Connected(Protocol):
    """The bucket of a file, which knows the asynchronous one of this process."""

    def asynchronous(self) -> asynchronous.Bucket:
        """Return the asynchronous bucket of this process."""


class GridFile:
    """One file in MongoDB GridFS, for code that does not await: empty (false) or stored (true).

    `Bucket.file` returns it. Each method is that of `gridproxy.AsyncGridFile`, and blocks until it is done. In the
    examples `file` is a stored file.

    ```python
    file = bucket.file(None)
    file.put(b"some content", filename="notes.txt", reviewed=False)
    assert file.read() == b"some content"
    ```
    """

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # the id changes

    def __init__(self, bucket: Connected, file: AsyncGridFile) -> None:
        self.bucket: Connected = bucket
        """The bucket that the file is in."""
        self._file = file

    def asynchronous(self) -> AsyncGridFile:
        """Return the asynchronous file of this process, which works only in the event loop of this package.

        ```python
        assert file.asynchronous().id == file.id
        ```
        """
        bucket = self.bucket.asynchronous()
        if self._file.options.bucket is not bucket:  # this process was forked
            self._file = AsyncGridFile(self._file.id, bucket=bucket, info=self._file.info)
        return self._file

    def __bool__(self) -> bool:
        return self.id is not None

    def __eq__(self, other: object) -> bool:
        return self.asynchronous() == other.asynchronous() if isinstance(other, GridFile) else NotImplemented

    def __repr__(self) -> str:
        return repr(self.asynchronous()).replace("AsyncGridFile", "gridproxy.sync.GridFile", 1)

    def __iter__(self) -> DownloadStream:
        return self.stream()

    def as_source(self, session: Session | None = None) -> Source:
        """Return the whole content as a source of another upload.

        Raises:
            FileMissing: The file is empty.

        ```python
        assert bucket.upload(file.as_source()).length == file.length
        ```
        """
        return self.asynchronous().as_source(session)

    def get(self, *, session: Session | None = None) -> Self | None:
        """Return this file with its record loaded, by MongoEngine's name, or None if it is empty.

        Raises:
            FileMissing: The file was deleted, or has expired.

        ```python
        assert bucket.file(None).get() is None
        ```
        """
        file = self.asynchronous()
        return None if call("AsyncGridFile.get", lambda: file.get(session=session)) is None else self

    @property
    def variants(self) -> Mapping[str, GridFile]:
        """A picture's variants by name, each a file of its own. Empty if there are none."""
        return {name: GridFile(self.bucket, file) for name, file in self.asynchronous().variants.items()}
'''
_RESUMABLE = '''
"""The resumable upload of blocking code. Written by tests/generate_sync.py."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gridproxy.file.options import FileOptions
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.resumable import resumable_upload as awaited
from gridproxy.gridfs.upload.sources import SourceLike

from .file import Connected
from .portal import call


class ResumableUpload:
    """An upload in parts, for code that does not await. `Bucket.resumable` and `Bucket.resume` return it.

    Each method is that of `gridproxy.ResumableUpload`, and blocks until it is done.

    ```python
    upload = bucket.resumable(filename="song.txt", length=9)
    upload.append(b"la ")
    later = bucket.resume(upload.id)  # in another process
    later.append(b"la la.", at=3)
    assert bucket.read(later.finish().id) == b"la la la."
    ```
    """

    def __init__(self, bucket: Connected, upload: awaited.ResumableUpload, options: FileOptions | None) -> None:
        self._bucket = bucket
        self._upload = upload
        self._options = options
        self._made_by = bucket.asynchronous()

    def asynchronous(self) -> awaited.ResumableUpload:
        """Return the asynchronous upload of this process, which works only in the event loop of this package.

        ```python
        upload = bucket.resumable(filename="notes.txt")
        assert upload.asynchronous().id == upload.id
        ```
        """
        bucket = self._bucket.asynchronous()
        if self._made_by is not bucket:  # this process was forked
            id, options = self._upload.id, self._options
            self._upload = call("Bucket.resume", lambda: bucket.resume(id, options=options))
            self._made_by = bucket
        return self._upload

    def __repr__(self) -> str:
        return repr(self.asynchronous()).replace("ResumableUpload", "gridproxy.sync.ResumableUpload", 1)
'''
_HEADS = {"bucket.py": _BUCKET, "file.py": _FILE, "resumable.py": _RESUMABLE}
_OWNERS = {"Bucket": "bucket", "AsyncGridFile": "file", "ResumableUpload": "upload"}


def generate(name: str) -> str:
    """Return the text of `gridproxy/sync/NAME`."""
    path, kind = FACADES[name]
    tree = ast.parse((ROOT / "gridproxy" / path).read_text(encoding="utf-8"))
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind)
    members = "\n".join(_members(found))
    return _formatted(_HEADS[name].lstrip() + "\n" + members)


def _formatted(text: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(ROOT / "gridproxy/sync/file.py"), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def _members(kind: ast.ClassDef) -> Iterator[str]:
    for node in kind.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_") | (
            node.name in _LEFT_OUT
        ):
            yield _member(kind.name, node)


def _member(kind: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    decorators = [ast.unparse(each) for each in node.decorator_list]
    returns = ast.unparse(node.returns) if node.returns else ""
    shown, wrap = _RESULTS.get(returns, (returns, "{call}"))
    lines = [f"@{each}" for each in decorators]
    lines.append(f"def {node.name}({ast.unparse(node.args)}) -> {shown}:")
    if "overload" in decorators:
        return "\n".join(f"    {line}" for line in [*lines[:-1], f"{lines[-1]} ..."])
    owner = _OWNERS[kind]
    name = f'"{kind}.{node.name}"'
    call = f"{owner}.{node.name}" if "property" in decorators else f"{owner}.{node.name}({_arguments(node.args)})"
    if isinstance(node, ast.AsyncFunctionDef) or wrap is None:
        call = f"call({name}, {call.removesuffix('()') if call.endswith('()') else f'lambda: {call}'})"
    call = (wrap or "{call}").format(call=call, name=name, bucket="self" if kind == "Bucket" else "self.bucket")
    lines.append(f'    """{_blocking(ast.get_docstring(node, clean=False) or "")}"""')
    lines.append(f"    {owner} = self.asynchronous()")
    if any(each.arg == "progress" for each in [*node.args.args, *node.args.kwonlyargs]):
        lines.append("    progress = in_callers_thread(progress)")
    given = [*node.args.args, *node.args.kwonlyargs]
    lines += [f"    {each.arg} = listed({each.arg})" for each in given if _is_iterated(each)]
    lines.append(f"    {'' if returns == 'None' else 'return '}{call}")
    return "\n".join(line if line.startswith("        ") and '"""' not in line else f"    {line}" for line in lines)


def _is_iterated(argument: ast.arg) -> bool:
    kind = "" if argument.annotation is None else ast.unparse(argument.annotation)
    return kind.startswith(("Iterable[object]", "Iterable[str]", "Iterable[Data]", "Sequence["))


def _arguments(arguments: ast.arguments) -> str:
    passed = [each.arg for each in arguments.args if each.arg != "self"]
    passed += [f"{each.arg}={each.arg}" for each in arguments.kwonlyargs]
    return ", ".join([*passed, f"**{arguments.kwarg.arg}"] if arguments.kwarg else passed)


def _blocking(text: str) -> str:
    """Return a docstring with examples that block."""
    text = text.replace("\\", "\\\\")
    for sentence, other in _SENTENCES.items():
        text = text.replace(sentence, other)
    text = re.sub(r"(?<!\w)\(await (.*?\))\)", r"\1", text)
    text = re.sub(r"\b(?:await |async (?=for|with))", "", text)
    text = text.replace("AsyncGridFile()", "bucket.file(None)").replace("AsyncGridFile", "GridFile")
    text = text.replace("gridproxy.transaction(client)", "client.transaction()")
    return text.replace('Bucket(client["zoo"], "old")', 'client.bucket("zoo", "old")')


def main() -> None:
    """Write the files."""
    for name in FACADES:
        (ROOT / "gridproxy/sync" / name).write_text(generate(name), encoding="utf-8")


if __name__ == "__main__":
    main()
