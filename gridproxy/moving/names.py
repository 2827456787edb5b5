"""Paths for the names of files, which other clients have chosen: none leads out of the folder, and none is taken twice.

A name is a path with slashes. What a system of files refuses or treats as something else is replaced: empty parts, `.`
and `..`, control characters, the separators and reserved names of Windows, and dots and dashes at the beginning.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from hashlib import sha256
from pathlib import PurePosixPath

import bson
from bson import ObjectId

MANIFEST = "manifest.jsonl"

_REFUSED = re.compile(r'[\\:*?"<>|]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
# In bytes of UTF-8. A part of a path may have 255, and an id is added to some.
_LONGEST_PART = 180
_LONGEST_PATH = 800
_LONGEST_SUFFIX = 20


def id_label(id: object) -> str:
    """Return a short text that is safe in a path, and another one for each id."""
    return str(id) if isinstance(id, ObjectId) else sha256(bson.encode({"": id})).hexdigest()[:24]


def safe_path(filename: str | None, id: object) -> str:
    """Return the path for a file. It is the name itself, if that is safe."""
    parts = [_safe_part(part) for part in (filename or "").split("/") if part]
    path = "/".join(parts) or id_label(id)
    return path if len(path.encode()) <= _LONGEST_PATH else _safe_part(path.replace("/", "_"))


def is_safe(path: str) -> bool:
    """Return whether a path from a manifest stays in its folder."""
    return all(part == _safe_part(part) for part in path.split("/")) and path != MANIFEST


def _safe_part(part: str) -> str:
    safe = "".join(each if each.isprintable() else "_" for each in _REFUSED.sub("_", part)).rstrip(". ")
    if not safe or safe[0] in ".-" or _RESERVED.fullmatch(safe):
        safe = f"_{safe.lstrip('.-')}"
    return safe if len(safe.encode()) <= _LONGEST_PART else _joined(safe, "", _LONGEST_PART)


def _joined(name: str, more: str, longest: int) -> str:
    """Add text before the suffix of a name, which is cut to so many bytes without it."""
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) < _LONGEST_SUFFIX else ""
    stem = name.removesuffix(suffix).encode()[: longest - len(suffix.encode())].decode(errors="ignore")
    return f"{stem.rstrip('. ')}{more}{suffix}"


def other_paths(path: str, id: object) -> Iterator[str]:
    """Yield paths with the id in them: beside the given one, then in the folder of the export itself."""
    folder, _, name = path.rpartition("/")
    label = f"~{id_label(id)}"
    longest = _LONGEST_PART - len(label)
    yield f"{folder}/{_joined(name, label, longest)}".removeprefix("/")
    if folder:
        yield _joined(path.replace("/", "_"), label, longest)


class TakenPaths:
    """The paths that are in use, compared as systems of files do that ignore case. It keeps 8 bytes of each."""

    def __init__(self) -> None:
        self._files: set[int] = {_key(MANIFEST)}
        self._folders: set[int] = set()

    def is_free(self, path: str) -> bool:
        """Return whether a file can have this path beside the others."""
        key = _key(path)
        if key in self._files or key in self._folders:
            return False
        return not self._files.intersection(_parents(path))

    def add(self, path: str) -> None:
        """Take a path."""
        self._files.add(_key(path))
        self._folders.update(_parents(path))


def _key(path: str) -> int:
    return hash(unicodedata.normalize("NFKC", path).casefold())


def _parents(path: str) -> list[int]:
    return [_key(str(parent)) for parent in PurePosixPath(path).parents][:-1]
