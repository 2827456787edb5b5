"""One command's run: from its options to a bucket, and from whatever is raised to an exit code.

A signal ends a command as a cancellation does: what it had begun is taken back, and only then does it leave.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from pymongo import AsyncMongoClient
from pymongo.errors import (
    ConfigurationError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from gridproxy.bucket import Bucket
from gridproxy.errors import (
    BadId,
    BadOption,
    CorruptFile,
    FileAlreadyStored,
    FileMissing,
    GridProxyError,
    UploadInProgress,
)

from .screen import Screen

FOUND, USAGE, MISSING, SERVER, TAKEN, LOCAL = 1, 2, 3, 4, 5, 6
_INTERRUPTED, _TERMINATED, _PIPE_CLOSED = 130, 143, 141
EXIT_CODES = """\b
Exit codes:
  0    all is well, or done
  1    something was found: by check, or a corrupt file by verify or get
  2    the command cannot be meant like that
  3    there is no such file
  4    the server cannot be reached, or refuses
  5    the id is taken, or is being written at this moment
  6    a local file cannot be read or written
  130  interrupted (143 terminated, 141 nobody reads the output any more)"""

_SELECTION_SECONDS = 10.0
_NO_DATABASE = (
    "no database is named: give --db, or name it in the URI's path, which ends where a ? begins its options: "
    "mongodb://host:27017/database?option=value"
)
_CREDENTIALS = re.compile(r"//(?P<user>[^/@]*?):(?P<password>.*)@")

Work = Callable[[Bucket, Screen], Awaitable[int | None]]


class Stop(Exception):
    """Ends a command with a message and an exit code."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the bucket lies, as the command was told; None for what it was not told."""

    uri: str | None = None
    db: str | None = None
    bucket: str | None = None
    timeout: float | None = None
    as_json: bool = False

    def completed_by(self, other: Connection) -> Connection:
        """The same with what `other` was told where this one was not."""
        return replace(
            self,
            uri=self.uri or other.uri,
            db=self.db or other.db,
            bucket=self.bucket or other.bucket,
            timeout=other.timeout if self.timeout is None else self.timeout,
            as_json=self.as_json or other.as_json,
        )

    def client(self) -> AsyncMongoClient[dict[str, Any]]:
        """A client that gives up on an unreachable server soon enough for somebody who waits."""
        if not self.uri:
            raise Stop(USAGE, "no server is named: give --uri, or set MONGODB_URI")
        options: dict[str, Any] = {"appname": "gridproxy"}
        if self.timeout is not None or "serverselectiontimeoutms" not in self.uri.lower():
            seconds = _SELECTION_SECONDS if self.timeout is None else self.timeout
            options["serverSelectionTimeoutMS"] = round(seconds * 1000)
        try:
            return AsyncMongoClient(self.uri, connect=False, **options)
        except (ConfigurationError, InvalidURI, ValueError) as error:
            # The text may quote any part of an address that is not well formed, and a password with it.
            raise Stop(
                USAGE,
                f"the server's address cannot be read ({type(error).__name__}); it is not shown, since there may be a "
                "password in it. It looks like mongodb://user:password@host:27017/database, user and password "
                "percent-encoded",
            ) from None

    def bucket_of(self, client: AsyncMongoClient[dict[str, Any]]) -> Bucket:
        """The bucket that is meant."""
        try:
            database = client[self.db] if self.db else client.get_default_database()
        except ConfigurationError:
            raise Stop(USAGE, _NO_DATABASE) from None
        return Bucket(database, self.bucket or "fs")

    def without_password(self, text: str) -> str:
        """The text as it may be shown."""
        found = _CREDENTIALS.search(self.uri or "")
        if found:
            for secret in {found["password"], unquote(found["password"])} - {""}:
                text = text.replace(secret, "***")
        return text


def run(connection: Connection, work: Work) -> int:
    """Do `work` on the bucket; the exit code. Whatever goes wrong has been said then."""
    screen = Screen(connection.as_json)
    try:
        with _warnings_told(connection, screen):
            return asyncio.run(_ended_by_signals(connection, work, screen))
    except KeyboardInterrupt:
        screen.failure("Interrupted", "interrupted; what was begun has been taken back")
        return _INTERRUPTED
    except asyncio.CancelledError:
        screen.failure("Terminated", "terminated; what was begun has been taken back")
        return _TERMINATED
    except BrokenPipeError:
        # Python flushes stdout once more at its exit, and would complain about the same thing.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except (Stop, GridProxyError, PyMongoError, OSError) as error:
        name = "Usage" if isinstance(error, Stop) else type(error).__name__
        screen.failure(name, connection.without_password(_said(error)))
        return _code_of(error)


@contextmanager
def _warnings_told(connection: Connection, screen: Screen) -> Iterator[None]:
    """pymongo warns of options in the URI that it does not know."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for warning in warned:
                screen.note(connection.without_password(f"warning: {warning.message}"))


async def _ended_by_signals(connection: Connection, work: Work, screen: Screen) -> int:
    task = asyncio.current_task()
    assert task is not None
    # Handlers are there neither on Windows nor outside the main thread.
    with suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with connection.client() as client:
        return await work(connection.bucket_of(client), screen) or 0


def _code_of(error: Exception) -> int:
    if isinstance(error, Stop):
        return error.code
    for kinds, code in (
        ((CorruptFile,), FOUND),
        ((FileMissing,), MISSING),
        ((FileAlreadyStored, UploadInProgress), TAKEN),
        ((PyMongoError,), SERVER),
        ((BadOption, BadId), USAGE),
    ):
        if isinstance(error, kinds):
            return code
    return LOCAL


def _said(error: Exception) -> str:
    if isinstance(error, ServerSelectionTimeoutError):
        # What follows is the whole topology, once for each server.
        return f"no server answers: {str(error).partition(', Timeout:')[0]}"
    if isinstance(error, OperationFailure):
        return f"the server refuses: {str(error).partition(', full error:')[0]}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
