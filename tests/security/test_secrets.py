"""A password in a URI is shown by nothing: no repr, no error, no log, no warning, no pickle."""

from __future__ import annotations

import gc
import logging
import pickle
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from pymongo import AsyncMongoClient
from pymongo.errors import ServerSelectionTimeoutError

import gridproxy
from gridproxy import AsyncGridFile, BadOption, Bucket, FileOptions, GridProxyError
from gridproxy.adapters.document import Document, FileField
from gridproxy.cli import cli
from gridproxy.embedded import EmbeddedServer, server_uri
from gridproxy.file.connection import get_database
from gridproxy.gridfs.upload.staging import Staged

SECRET = "s3cr3t-Pa55"
NOWHERE = f"mongodb://somebody:{SECRET}@127.0.0.1:1/zoo?serverSelectionTimeoutMS=1&tlsCertificateKeyFilePassword={SECRET}&tls=true"


class Animal(Document):
    photo = FileField()


@pytest.fixture
def nowhere() -> Iterator[AsyncMongoClient[dict[str, Any]]]:
    client = AsyncMongoClient[dict[str, Any]](NOWHERE, connect=False)
    gridproxy.connect(client["zoo"])
    yield client
    gridproxy.disconnect()


async def test_no_repr_and_no_pickle_has_it(nowhere: AsyncMongoClient[dict[str, Any]]) -> None:
    bucket = Bucket(nowhere["zoo"])
    file = AsyncGridFile("id", bucket=bucket)
    things: list[object] = [
        bucket,
        bucket.store,
        file,
        file.options,
        AsyncGridFile(),
        bucket.open_upload(),
        bucket.stream("id"),
        file.open(),
        Staged(bucket.store, {"_id": 1, "length": 1}, b""),
        Animal(photo=file),
        Animal.objects(photo=file),
        FileOptions(bucket=bucket),
        EmbeddedServer(),
        gridproxy.transaction(nowhere),
        get_database,
    ]
    for thing in things:
        assert SECRET not in repr(thing) + str(thing)
        assert SECRET not in repr(getattr(thing, "__dict__", ""))
    for thing in (bucket, file, FileOptions(bucket=bucket), Animal(photo=file)):
        assert SECRET.encode() not in pickle.dumps(thing)
    await nowhere.close()


async def test_no_error_has_it(nowhere: AsyncMongoClient[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bucket = Bucket(nowhere["zoo"])
    file = AsyncGridFile("id", bucket=bucket)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for work in (
            bucket.read("id"),
            bucket.upload(b"x"),
            bucket.stage(b"x"),
            bucket.collect_garbage(),
            file.put(b"x"),
            file.delete(),
            Animal.objects.first(),
            Animal(photo=b"x").save(),
        ):
            with pytest.raises((ServerSelectionTimeoutError, GridProxyError)) as caught:
                await work
            assert SECRET not in "".join(traceback.format_exception(caught.value))
            assert SECRET.encode() not in pickle.dumps(str(caught.value))
        collection = nowhere["zoo"]["c"]
        for bad in (nowhere, collection, [nowhere], [(collection,)], [(nowhere, "a")], [(collection, "")]):
            with pytest.raises(BadOption) as refused:
                bucket.check(references=bad)  # type: ignore[arg-type]  # the error is the test
            assert SECRET not in str(refused.value)
            assert "AsyncMongoClient(" not in str(refused.value)
        for bad_database in (nowhere, NOWHERE, nowhere["zoo"]["c"]):
            for use in (Bucket, gridproxy.connect):
                with pytest.raises(BadOption) as wrong:
                    use(bad_database)  # type: ignore[arg-type]  # the error is the test
                assert SECRET not in str(wrong.value)
        await nowhere.close()
        del nowhere, work, collection
        gc.collect()
    assert SECRET not in caplog.text + "".join(str(each.message) for each in warned)


@pytest.mark.parametrize(
    "uri",
    [
        f"mongodb://u:{SECRET}@127.0.0.1:1/db",
        f"mongodb://u:{SECRET}@127.0.0.1:x/db",
        f"mongodb://u:{SECRET}@[::1/db",
        f"mongodb://u:{SECRET}%zz@h/db",
        f"mongodb://u:a@{SECRET}@127.0.0.1:1/db",
        f"mongodb://u:{SECRET}/b@127.0.0.1:1/db",
        f"mongodb://u:{SECRET}@127.0.0.1:1/db?w={SECRET}&maxPoolSize={SECRET}&unknown={SECRET}",
        f"mongodb://u:{SECRET}@127.0.0.1:1/db?{SECRET}&{SECRET}=1",
        f"mongodb://u:{SECRET}@127.0.0.1:1/db?authMechanism=MONGODB-AWS&authMechanismProperties=AWS_SESSION_TOKEN:{SECRET}",
        f"mongodb://127.0.0.1:1/db?tls=true&tlsCertificateKeyFile=/nothing&tlsCertificateKeyFilePassword={SECRET}",
        f"http://u:{SECRET}@h",
        f"u:{SECRET}@h",
    ],
)
def test_the_command_line_shows_no_password(uri: str) -> None:
    for more in ([], ["--json"]):
        shown = CliRunner().invoke(cli, ["ls", "--timeout", "0.001", "--uri", uri, *more])
        assert shown.exit_code in (2, 4, 6)
        assert SECRET not in shown.stdout + shown.stderr


@pytest.mark.parametrize("password", [SECRET, f"{SECRET}/{SECRET}", f"{SECRET}@{SECRET}", f"?{SECRET}"])
def test_the_label_of_a_server_shows_no_password(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setenv("MONGODB_URI", f"mongodb://u:{password}@h:1/db")
    with server_uri() as (_, label):
        assert SECRET not in label
