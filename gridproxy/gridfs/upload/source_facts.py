"""What an object says about the content that can be read from it: its name, its type and its length.

Asking never fails and never moves the object. The answer is None if the object does not know.
"""

from __future__ import annotations

import inspect
import io
import os
import stat
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Any

import anyio

# A file of these classes gives unpacked bytes, and its name is that of the packed file.
_UNPACKING = {"GzipFile", "BZ2File", "LZMAFile", "ZstdFile"}
_UNPACKED_SUFFIX = {
    **dict.fromkeys((".gz", ".gzip", ".bz2", ".bz", ".xz", ".lzma", ".zst"), ""),
    **dict.fromkeys((".tgz", ".taz", ".tbz", ".tbz2", ".txz", ".tlz", ".tzst"), ".tar"),
    ".svgz": ".svg",
}
# The first parameter of a `read` that returns something else than the next bytes: `ZipFile.read(name)`.
_NOT_A_SIZE = {"name", "names", "filename", "filenames", "path", "key"}
_ABSENT = object()


def ask(thing: object, name: str, default: object = None) -> Any:
    """Return an attribute, or `default` if it does not exist or cannot be read."""
    try:
        return getattr(thing, name, default)
    except Exception:  # noqa: BLE001  # a property of a foreign class may raise any error
        return default


def accepts(function: Callable[..., object], *arguments: object) -> bool:
    """Return whether a `read` can be called with these arguments. Without a signature it accepts a size."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return bool(arguments)
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return not arguments or next(iter(signature.parameters)) not in _NOT_A_SIZE


def base_name(name: object) -> str | None:
    """Return the last part of a name or path, and None for any other object or an empty name."""
    path = os.fspath(name) if isinstance(name, str | os.PathLike) else None
    return (os.path.basename(path) or None) if isinstance(path, str) else None


def name_of(file: object) -> str | None:
    """Return the name of the bytes that `file` gives: that of a member, an uploaded or an unpacked file."""
    file = _innermost(file)
    if _is_tar_member(file):
        name, archive = ask(file, "name"), ask(ask(file, "raw"), "fileobj")
        return None if name == ask(archive, "name") else base_name(name)  # Python 3.11 gives the name of the archive
    if {kind.__name__ for kind in type(file).__mro__} & _UNPACKING:
        return _unpacked_name(base_name(ask(file, "name")) or base_name(ask(ask(file, "_fp"), "name")))
    if not isinstance(file, io.IOBase):
        # Forms and responses have it, and the `name` beside it is that of the form's field.
        filename = ask(file, "filename", _ABSENT)
        if filename is None or isinstance(filename, str):
            return base_name(filename)
    return base_name(ask(ask(file, "content_disposition"), "filename")) or base_name(ask(file, "name"))


def _innermost(file: object) -> object:
    """Return what a buffered reader or anyio's file reads from."""
    while isinstance(file, io.BufferedReader | io.BufferedRandom | anyio.AsyncFile) and not _is_tar_member(file):
        inner = ask(file, "wrapped" if isinstance(file, anyio.AsyncFile) else "raw")
        if inner is None:
            break
        file = inner
    return file


def _is_tar_member(file: object) -> bool:
    return type(file).__module__ == "tarfile"


def _unpacked_name(name: str | None) -> str | None:
    if name is None:
        return None
    stem, suffix = os.path.splitext(name)
    return stem + _UNPACKED_SUFFIX.get(suffix.lower(), suffix)


def type_of(file: object) -> str | None:
    """Return the media type that a form's file or a response declares."""
    declared = ask(file, "content_type")
    if isinstance(declared, str):
        return declared
    headers = ask(file, "headers")
    if not isinstance(headers, Mapping | Message):
        return None
    declared = headers.get("content-type")
    return declared if isinstance(declared, str) else None


def is_form_file(file: object) -> bool:
    """Return whether `file` is a file of a form, such as Starlette's `UploadFile`, which can be rewound."""
    if isinstance(file, io.IOBase) or not callable(ask(file, "seek")):
        return False
    has_type = ask(file, "content_type", _ABSENT) is not _ABSENT
    return has_type and any(ask(file, name, _ABSENT) is not _ABSENT for name in ("file", "headers"))


def bytes_left(file: Any) -> int | None:
    """Return how many bytes a file has from its position on. Only files of the system and `BytesIO` know it."""
    file = ask(file, "file", file)  # `tempfile` wraps its files
    try:
        if isinstance(file, io.BytesIO):
            with file.getbuffer() as buffer:
                return max(0, buffer.nbytes - file.tell())
        if isinstance(file, io.FileIO) or isinstance(getattr(file, "raw", None), io.FileIO):
            size = size_of_open_file(file.fileno())
            return None if size is None else max(0, size - file.tell())
    except Exception:  # noqa: BLE001  # a closed file, a buffer in use, or any error of a foreign class
        return None
    return None


def size_of_open_file(descriptor: int) -> int | None:
    """Return the length of an ordinary file, and None for a pipe or a device."""
    status = os.fstat(descriptor)
    return status.st_size if stat.S_ISREG(status.st_mode) else None
