"""`transfer`, `export_files` and `import_files` for code that does not await."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from gridproxy.errors import BadOption, describe_object
from gridproxy.moving import export
from gridproxy.moving import transfer as transferring
from gridproxy.moving.report import TransferReport
from gridproxy.runtime.progress import Progress

from .bucket import Bucket
from .portal import call, in_callers_thread


def transfer(
    source: Bucket,
    target: Bucket,
    filter: Mapping[str, Any] | None = None,
    *,
    keep: Collection[str] = ("id", "upload_date", "metadata"),
    delete: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Copy or move files from one bucket to another one, as `gridproxy.transfer`.

    Args:
        source: The bucket to read from.
        target: The bucket to store into.
        filter: As for `gridproxy.transfer`, and so are all other arguments.
        keep: What the files keep.
        delete: Whether to remove each file from the source after it was verified.
        progress: Called in this thread with (bytes done, bytes in all).

    Returns:
        The counts, and the files that were not moved with the reasons.

    Raises:
        BadOption: As `gridproxy.transfer`, or a bucket is not one of `gridproxy.sync`.
        GridProxyError: As `gridproxy.transfer`.

    ```python
    from gridproxy.sync import transfer

    report = transfer(bucket, client.bucket("zoo", "archive"))
    assert report.ok
    ```
    """
    buckets = _asynchronous(source, "source"), _asynchronous(target, "target")
    reported = in_callers_thread(progress)
    work = partial(transferring.transfer, *buckets, filter, keep=keep, delete=delete, progress=reported)
    return call("gridproxy.transfer", work)


def export_files(
    bucket: Bucket,
    target: str | os.PathLike[str],
    filter: Mapping[str, Any] | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Write files to a folder or a URL, with a manifest, as `gridproxy.export_files`.

    Args:
        bucket: The bucket to read from.
        target: A folder, or a URL that fsspec can open.
        filter: As for `gridproxy.export_files`, and so are all other arguments.
        storage_options: What fsspec needs to open the URL.
        progress: Called in this thread with (bytes done, bytes in all).

    Returns:
        The counts, and the files that were not written with the reasons.

    Raises:
        BadOption: As `gridproxy.export_files`, or the bucket is not one of `gridproxy.sync`.
        BadManifest: The folder has a `manifest.jsonl` that is not one of an export.
        OSError: A file cannot be written.

    ```python
    from tempfile import TemporaryDirectory

    from gridproxy.sync import export_files

    with TemporaryDirectory() as folder:
        assert export_files(bucket, folder).ok
    ```
    """
    reported = in_callers_thread(progress)
    work = partial(
        export.export_files,
        _asynchronous(bucket, "bucket"),
        target,
        filter,
        storage_options=storage_options,
        progress=reported,
    )
    return call("gridproxy.export_files", work)


def import_files(
    source: str | os.PathLike[str],
    bucket: Bucket,
    *,
    storage_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Store the files of an export, as `gridproxy.import_files`.

    Args:
        source: The folder or the URL that was the target of `export_files`.
        bucket: The bucket to store into.
        storage_options: What fsspec needs to open the URL.
        progress: Called in this thread with (bytes done, bytes in all).

    Returns:
        The counts, and the files that were not stored with the reasons.

    Raises:
        BadOption: As `gridproxy.import_files`, or the bucket is not one of `gridproxy.sync`.
        BadManifest: The manifest is missing or wrong, or a file is missing. Nothing was stored.
        OutcomeUnknown: The server did not answer. Run it again.

    ```python
    from tempfile import TemporaryDirectory

    from gridproxy.sync import export_files, import_files

    with TemporaryDirectory() as folder:
        export_files(bucket, folder)
        assert import_files(folder, client.bucket("zoo", "restored")).ok
    ```
    """
    reported = in_callers_thread(progress)
    work = partial(
        export.import_files,
        source,
        _asynchronous(bucket, "bucket"),
        storage_options=storage_options,
        progress=reported,
    )
    return call("gridproxy.import_files", work)


def _asynchronous(bucket: object, name: str) -> Any:
    if not isinstance(bucket, Bucket):
        raise BadOption(
            f"{name} is a bucket of gridproxy.sync, such as client.bucket('zoo'), not {describe_object(bucket)}"
        )
    return bucket.asynchronous()
