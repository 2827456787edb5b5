"""Run one command: connect to the bucket, and turn errors into exit codes.

A signal cancels a command. It exits after the cancelled operation has been rolled back.
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
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import unquote

from pymongo import AsyncMongoClient
from pymongo.errors import ConfigurationError, InvalidURI, OperationFailure, PyMongoError, ServerSelectionTimeoutError

from gridproxy import errors
from gridproxy.bucket import Bucket

from .screen import Screen

FOUND, USAGE, MISSING, SERVER, TAKEN, LOCAL = 1, 2, 3, 4, 5, 6
_INTERRUPTED, _TERMINATED, _PIPE_CLOSED = 130, 143, 141
EXIT_CODES = """\b
Exit codes:
  0    success
  1    check found a problem, or a file is corrupt
  2    the arguments are invalid
  3    the file does not exist
  4    the server cannot be reached, or refuses the command
  5    the id, or a value in a unique index, is in use, or an upload with the id is running,
       or a file in the target differs
  6    a local file cannot be read or written
  130  interrupted (143: terminated, 141: the output pipe was closed)"""

_CREDENTIALS = re.compile(r"//(?P<user>[^/@]*?):(?P<password>.*)@")

# The options for the parameters of Python that errors name. Some names are also words.
_OPTIONS = {"references": "--reference", "metadata": "--meta", "filename": "--name", "unreferenced": "--unreferenced"}
_OPTIONS |= {
    name: f"--{name.replace('_', '-')}" for name in ("chunk_size", "content_type", "expires_after", "older_than")
}
_PARAMETER = re.compile(
    r"\b(chunk_size|content_type|expires_after|older_than)\b=?|^(filename|references|metadata)\b=?"
    r"|\b(filename|references|metadata|unreferenced)=(?:True\b)?"
)

Work = Callable[[Bucket, Screen], Awaitable[int | None]]


class Stop(Exception):
    """An error that ends a command with a message and an exit code."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """The connection options of a command. None means that an option was not given."""

    uri: str | None = None
    db: str | None = None
    bucket: str | None = None
    timeout: float | None = None
    as_json: bool = False

    def completed_by(self, other: Connection) -> Connection:
        """Return the options with those of `other` for missing ones."""
        names = [field.name for field in fields(self)]
        return replace(self, **{name: getattr(self, name) or getattr(other, name) for name in names})

    def client(self) -> AsyncMongoClient[dict[str, Any]]:
        """Create a client with a short server selection timeout."""
        if not self.uri:
            raise Stop(USAGE, "no server is given: use --uri, or set MONGODB_URI")
        options: dict[str, Any] = {"appname": "gridproxy"}
        if self.timeout is not None or "serverselectiontimeoutms" not in self.uri.lower():
            options["serverSelectionTimeoutMS"] = 10_000 if self.timeout is None else round(self.timeout * 1000)
        try:
            return AsyncMongoClient(self.uri, connect=False, **options)
        except (ConfigurationError, InvalidURI, ValueError) as error:
            # The error's text may contain any part of a malformed address, including a password.
            raise Stop(
                USAGE,
                f"the server's address cannot be read ({type(error).__name__}). It is not shown because it may contain "
                "a password. The format is mongodb://user:password@host:27017/database, with user and password "
                "percent-encoded",
            ) from None

    def bucket_of(self, client: AsyncMongoClient[dict[str, Any]]) -> Bucket:
        """Return the bucket that the options select."""
        try:
            database = client[self.db] if self.db else client.get_default_database()
        except ConfigurationError:
            message = "no database is given: use --db, or add it to the URI's path before the options: "
            raise Stop(USAGE, f"{message}mongodb://host:27017/database?option=value") from None
        return Bucket(database, self.bucket or "fs")

    def without_password(self, text: str) -> str:
        """Replace the password in a text."""
        found = _CREDENTIALS.search(self.uri or "")
        if found:
            for secret in {found["password"], unquote(found["password"])} - {""}:
                text = text.replace(secret, "***")
        return text


def run(connection: Connection, work: Work) -> int:
    """Run `work` on the bucket, show its errors, and return the exit code."""
    screen = Screen(connection.as_json)
    try:
        with _show_warnings(connection, screen):
            return asyncio.run(_run_until_signal(connection, work, screen))
    except KeyboardInterrupt as error:
        screen.failure("Interrupted", f"interrupted, and {_what_is_left(error.__context__)}")
        return _INTERRUPTED
    except asyncio.CancelledError as error:
        screen.failure("Terminated", f"terminated, and {_what_is_left(error)}")
        return _TERMINATED
    except BrokenPipeError:
        # Python flushes stdout again at exit, which would print the same error.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except (Stop, errors.GridProxyError, PyMongoError, OSError) as error:
        name = "Usage" if isinstance(error, Stop) else type(error).__name__
        screen.failure(name, connection.without_password(_message(error)))
        return _code_of(error)


@contextmanager
def _show_warnings(connection: Connection, screen: Screen) -> Iterator[None]:
    """Show the warnings of pymongo about unknown options in the URI."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for warning in warned:
                screen.note(connection.without_password(f"warning: {warning.message}"))


async def _run_until_signal(connection: Connection, work: Work, screen: Screen) -> int:
    task = asyncio.current_task()
    assert task is not None
    # Windows and threads other than the main one do not support signal handlers.
    with suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with connection.client() as client:
        return await work(connection.bucket_of(client), screen) or 0


def _with_options(text: str) -> str:
    """Replace the names of Python's parameters in an error by those of the options."""
    text = text.replace("references=[('animals', 'photo'), ...]", "--reference animals.photo")
    return _PARAMETER.sub(lambda found: _OPTIONS[found[found.lastindex or 0]], text)


def _what_is_left(cancelled: BaseException | None) -> str:
    if getattr(cancelled, "__notes__", None):
        return "the server did not answer. What was sent may still happen. `gridproxy gc` removes what is left"
    return "the unfinished operation was rolled back"


def _code_of(error: Exception) -> int:
    if isinstance(error, Stop):
        return error.code
    codes = {errors.CorruptFile: FOUND, errors.FileMissing: MISSING, errors.FileAlreadyStored: TAKEN}
    codes |= {
        errors.UploadInProgress: TAKEN,
        errors.UniqueIndexViolation: TAKEN,
        PyMongoError: SERVER,
        errors.BadOption: USAGE,
        errors.BadId: USAGE,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), LOCAL)


def _message(error: Exception) -> str:
    if isinstance(error, ServerSelectionTimeoutError):
        # The rest of the message repeats the whole topology for each server.
        return f"no server responds: {str(error).partition(', Timeout:')[0]}"
    if isinstance(error, OperationFailure) and not isinstance(error, errors.GridProxyError):
        return f"the server refuses the command: {str(error).partition(', full error:')[0]}"
    if isinstance(error, errors.BadOption | errors.BadId):
        return _with_options(str(error))
    if isinstance(error, errors.FileMissing) and isinstance(error.id, str):
        return f"{error}. For a filename, use --name"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
