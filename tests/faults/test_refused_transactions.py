"""Refused transactions: nested ones, on a standalone server, or without a client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo.errors import InvalidOperation, OperationFailure

import gridproxy
from gridproxy import BadOption, Bucket, NestedTransaction, TransactionsUnsupported

from .whole import Database, stored_files

NEW = bytes(range(256)) * 22


async def test_nesting_raises(bucket: Bucket, database: Database) -> None:
    client = bucket.database.client
    with pytest.raises(NestedTransaction) as caught:
        async with gridproxy.transaction(client) as tx:
            await bucket.upload(NEW, session=tx.session)
            async with gridproxy.transaction(client):
                pytest.fail("it began")
    assert isinstance(caught.value, InvalidOperation)
    assert await stored_files(database) == {}
    async with gridproxy.transaction(client):
        pass  # the outer transaction has ended


async def test_nesting_in_a_bound_transaction_raises(bucket: Bucket) -> None:
    client = bucket.database.client
    async with client.start_session() as session:
        if not hasattr(session, "bind"):
            pytest.skip("this pymongo has no session.bind()")
        async with session.bind(end_session=False):
            async with gridproxy.transaction(client):
                pass  # a session without a transaction
            async with await session.start_transaction():
                with pytest.raises(NestedTransaction):
                    async with gridproxy.transaction(client):
                        pytest.fail("it began")


async def test_a_transaction_may_start_after_another_has_ended(bucket: Bucket) -> None:
    client = bucket.database.client
    async with gridproxy.transaction(client) as tx:
        later = asyncio.create_task(anew(client, ended := asyncio.Event()))
        await asyncio.sleep(0)
    ended.set()
    assert repr(tx) == "<Transaction: over>"
    await later


async def anew(client: Any, ended: asyncio.Event) -> None:
    await ended.wait()
    async with gridproxy.transaction(client) as tx:
        assert repr(tx) == "<Transaction: open>"


@pytest.mark.parametrize("what", ["database", None, "localhost"])
async def test_an_object_that_is_not_a_client_is_refused(bucket: Bucket, what: Any) -> None:
    given: Any = bucket.database if what == "database" else what
    with pytest.raises(BadOption, match="AsyncMongoClient"):
        async with gridproxy.transaction(given):
            pytest.fail("it began")


async def test_a_hidden_standalone_server_is_recognised_by_its_error(bucket: Bucket) -> None:
    refused = OperationFailure("Transaction numbers are only allowed on a replica set member or mongos", 20)
    with pytest.raises(TransactionsUnsupported) as caught:
        async with gridproxy.transaction(bucket.database.client):
            raise refused
    assert caught.value.__cause__ is refused
    with pytest.raises(OperationFailure, match="temporary"):
        async with gridproxy.transaction(bucket.database.client):
            raise OperationFailure("a temporary collection", 20)
