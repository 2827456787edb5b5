"""The database of an alias: the default, its override in one context, and a factory for each loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase

import gridproxy
from gridproxy import BadOption, Bucket, NotConnected, connect, disconnect, using
from gridproxy.file.connection import get_database, store_for

Database = AsyncDatabase[dict[str, Any]]

# No server is asked by any of these: clients connect at their first operation only.
_client = AsyncMongoClient[dict[str, Any]]("mongodb://127.0.0.1:1", connect=False)
ZOO, OTHER, TENANT = _client["zoo"], _client["other"], _client["tenant"]


@pytest.fixture(autouse=True)
def _unconnected() -> Iterator[None]:
    yield
    for alias in ("default", "archive"):
        disconnect(alias)


def test_without_a_connection_the_error_names_the_call_to_make() -> None:
    with pytest.raises(NotConnected, match=r"call gridproxy\.connect\(database\) first, or give a bucket"):
        get_database()
    with pytest.raises(NotConnected, match=r"gridproxy\.connect\(database, 'archive'\)"):
        get_database("archive")


def test_disconnect_undoes_connect() -> None:
    connect(ZOO)
    assert get_database() is ZOO
    assert get_database("default") is ZOO
    connect(OTHER)
    assert get_database() is OTHER, "the last one counts"
    disconnect()
    with pytest.raises(NotConnected):
        get_database()
    disconnect()


def test_aliases_are_independent() -> None:
    connect(ZOO)
    connect(OTHER, alias="archive")
    assert (get_database(), get_database("archive")) == (ZOO, OTHER)
    disconnect("archive")
    assert get_database() is ZOO
    with pytest.raises(NotConnected):
        get_database("archive")


def test_using_overrides_for_the_block_and_nests() -> None:
    connect(ZOO)
    with using(TENANT):
        assert get_database() is TENANT
        with using(OTHER):
            assert get_database() is OTHER
            with using(ZOO, alias="archive"):
                assert (get_database(), get_database("archive")) == (OTHER, ZOO)
            with pytest.raises(NotConnected):
                get_database("archive")
        assert get_database() is TENANT
    assert get_database() is ZOO


def test_using_works_without_a_connection_and_ends_on_an_exception() -> None:
    with pytest.raises(LookupError), using(TENANT):
        assert get_database() is TENANT
        raise LookupError
    with pytest.raises(NotConnected):
        get_database()


def test_an_override_wins_over_connect_and_disconnect_inside_it() -> None:
    with using(TENANT):
        connect(ZOO)
        assert get_database() is TENANT
        disconnect()
        assert get_database() is TENANT


async def test_an_override_is_seen_in_tasks_started_in_it_and_nowhere_else() -> None:
    connect(ZOO)
    inside, leave = asyncio.Event(), asyncio.Event()

    async def what_is_seen() -> Database:
        await asyncio.sleep(0)
        return get_database()

    async def tenant() -> Database:
        with using(TENANT):
            inside.set()
            await leave.wait()
            return await asyncio.create_task(what_is_seen())

    running = asyncio.create_task(tenant())
    await inside.wait()
    assert await asyncio.create_task(what_is_seen()) is ZOO
    leave.set()
    assert await running is TENANT


def test_a_connection_is_seen_in_every_thread_and_an_override_is_not() -> None:
    connect(ZOO)
    seen = []
    with using(TENANT):
        thread = threading.Thread(target=lambda: seen.append(get_database()))
        thread.start()
        thread.join()
    assert seen == [ZOO]


def test_an_override_may_be_left_in_another_context() -> None:
    connect(ZOO)
    manager = using(TENANT)
    contextvars.copy_context().run(manager.__enter__)
    assert get_database() is ZOO
    manager.__exit__(None, None, None)
    assert get_database() is ZOO


async def test_an_override_around_a_yield_may_be_cleaned_up_by_the_loop() -> None:
    async def tenants() -> AsyncIterator[Database]:
        with using(TENANT):
            yield get_database()

    connect(ZOO)
    generator = tenants()
    assert await anext(generator) is TENANT
    await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]  # a generator has one


# Factories


def test_a_factory_is_called_once_for_each_event_loop() -> None:
    calls = []

    def factory() -> Database:
        calls.append(asyncio.get_running_loop())
        return _client[f"zoo{len(calls)}"]

    async def names() -> list[str]:
        await asyncio.sleep(0)
        return [get_database().name, get_database().name]

    connect(factory)
    assert calls == []
    assert asyncio.run(names()) == ["zoo1", "zoo1"]
    assert asyncio.run(names()) == ["zoo2", "zoo2"]
    assert len(set(map(id, calls))) == 2


def test_a_factory_needs_a_running_loop() -> None:
    connect(lambda: ZOO)
    with pytest.raises(NotConnected, match="no event loop is running"):
        get_database()


async def test_a_factory_can_be_an_override() -> None:
    connect(ZOO)
    with using(lambda: TENANT):
        assert get_database() is TENANT
    assert get_database() is ZOO


def test_the_database_of_a_closed_loop_is_released() -> None:
    class Loop(asyncio.SelectorEventLoop):
        """One that can be watched."""

    def factory() -> Database:
        client = AsyncMongoClient[dict[str, Any]]("mongodb://127.0.0.1:1", connect=False)
        client.loop = asyncio.get_running_loop()  # type: ignore[attr-defined]  # as a client in use keeps it
        return client["zoo"]

    async def used() -> Database:
        return get_database()

    connect(factory)
    first = Loop()
    first.run_until_complete(used())
    first.close()
    watched = weakref.ref(first)
    del first
    assert asyncio.run(used()).name == "zoo"
    gc.collect()
    assert watched() is None


@pytest.mark.parametrize("made", [None, 5, "zoo", _client], ids=lambda made: type(made).__name__)
async def test_a_factory_that_returns_another_object_is_refused_on_use(made: Any) -> None:
    connect(lambda: made)
    with pytest.raises(BadOption, match=f"a database of pymongo's AsyncMongoClient is needed.*{type(made).__name__}"):
        get_database()


# Values that are not a database


@pytest.mark.parametrize(
    "wrong", [None, 5, "zoo", _client, ZOO["animals"], Bucket(ZOO)], ids=lambda x: type(x).__name__
)
def test_a_value_that_is_not_a_database_is_refused_by_connect(wrong: Any) -> None:
    for call in (connect, using):
        with pytest.raises(BadOption, match=f"not .*{type(wrong).__name__}"):
            manager = call(wrong)
            if manager is not None:
                manager.__enter__()
    with pytest.raises(NotConnected):
        get_database()


def test_a_synchronous_client_and_its_database_are_refused() -> None:
    with MongoClient[dict[str, Any]]("mongodb://127.0.0.1:1", connect=False) as client:
        for wrong in (client, client["zoo"]):
            with pytest.raises(BadOption, match="AsyncMongoClient is needed"):
                connect(wrong)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("alias", [None, 5, b"default"], ids=repr)
def test_an_alias_is_a_str(alias: Any) -> None:
    with pytest.raises(BadOption, match="an alias must be a str"):
        connect(ZOO, alias=alias)
    with pytest.raises(BadOption, match="an alias must be a str"), using(ZOO, alias=alias):
        pass


# The collections of a file


def test_a_bucket_by_name_is_in_the_present_database_of_its_alias() -> None:
    connect(ZOO)
    connect(OTHER, alias="archive")
    assert repr(store_for(None, None)) == "zoo.fs"
    assert repr(store_for("photos", None)) == "zoo.photos"
    assert repr(store_for("photos", "archive")) == "other.photos"
    with gridproxy.using(TENANT):
        assert repr(store_for("photos", None)) == "tenant.photos"


def test_a_bucket_needs_no_connection() -> None:
    bucket = Bucket(ZOO, "photos")
    assert store_for(bucket, None) is bucket.store
