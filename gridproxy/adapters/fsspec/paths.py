"""What a path means: the first part is the bucket, and the rest is the name of a file in it. No I/O."""

from __future__ import annotations

import errno
import re
from typing import Any

from bson import ObjectId

from gridproxy.errors import BadFilename
from gridproxy.gridfs.records.file_info import FileInfo
from gridproxy.gridfs.upload.options import check_filename

PROTOCOL = "gridfs"


def split_path(path: str) -> tuple[str, str]:
    """Split a path without its protocol into the bucket and the name. Both are empty for the root.

    Raises `BadFilename` for the parts `.` and `..`, which other tools would resolve to another path.
    """
    bucket, _, name = path.partition("/")
    if dots := {".", ".."}.intersection(path.split("/")):
        raise BadFilename(
            f"{PROTOCOL}://{path} has the part {min(dots)!r}. GridFS has no relative paths: give the whole name"
        )
    return bucket, name


def split_target(path: str) -> tuple[str, str]:
    """Split the path of a file that is about to be stored.

    Raises `BadFilename` if there is no bucket or no name, or if listings could not show the name.
    """
    bucket, name = split_path(path)
    if not bucket or not name:
        raise BadFilename(
            f"{PROTOCOL}://{path} names no file: a URL is {PROTOCOL}://BUCKET/NAME, such as "
            f"{PROTOCOL}://fs/{name or bucket or 'name'}"
        )
    if not is_path(name):
        raise BadFilename(f"{PROTOCOL}://{path} has an empty part: remove the repeated slash")
    check_filename(name)
    return bucket, name


def is_path(name: str) -> bool:
    """Return whether listings can show a name: it has no part that is empty, `.` or `..`."""
    return not {"", ".", ".."}.intersection(name.split("/"))


def parents_of(name: str) -> list[str]:
    """Return the names that would be directories above a file: `a` and `a/b` for `a/b/c`."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def beginning(prefix: str, rest: str = "") -> dict[str, str]:
    """Return a condition on names that begin with `prefix`. The index of the GridFS specification serves it.

    `rest` is an expression for what follows.
    """
    return {"$regex": f"^{re.escape(prefix)}{rest}"}


def is_newer(info: FileInfo, other: FileInfo) -> bool:
    """Return whether `info` is a later revision than `other`, in the order of `Bucket.by_name`."""
    if info.upload_date is None or other.upload_date is None:
        return other.upload_date is None
    if info.upload_date != other.upload_date:
        return info.upload_date > other.upload_date
    return isinstance(info.id, ObjectId) and isinstance(other.id, ObjectId) and info.id > other.id


def file_entry(bucket: str, info: FileInfo) -> dict[str, Any]:
    """Return what `info()` and `ls()` say about a file."""
    return {
        "name": f"{bucket}/{info.filename}",
        "size": info.length,
        "type": "file",
        "id": info.id,
        "sha256": info.sha256,
        "etag": info.etag,
        "content_type": info.content_type,
        "created": info.upload_date,
        # Seconds, because pyarrow and web frameworks expect a number under this name.
        "mtime": None if info.upload_date is None else info.upload_date.timestamp(),
        "metadata": dict(info.metadata),
    }


def directory_entry(path: str) -> dict[str, Any]:
    """Return what `info()` and `ls()` say about a directory."""
    return {"name": path, "size": 0, "type": "directory"}


def missing(path: str, reason: str) -> FileNotFoundError:
    """Return the error for a file or a directory that does not exist."""
    return FileNotFoundError(errno.ENOENT, reason, f"{PROTOCOL}://{path}")
