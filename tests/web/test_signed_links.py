"""SignedLinks: what a link allows, and that nothing else is allowed by it."""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from gridproxy import BadFilename, BadOption, Bucket
from gridproxy.adapters.document import Document, FileField
from gridproxy.adapters.starlette import FilesApp, SignedLinks, signed_links
from gridproxy.adapters.starlette.authorize import Served
from tests.observing import contents
from tests.web.asgi import Exchange
from tests.web.test_files_app import PNG, allow, browsing

NEW, OLD = "the new key, 0123456789", b"the old key, 0123456789"


class Badger(Document):
    photo = FileField()


@pytest.fixture
def links() -> SignedLinks:
    return SignedLinks(keys=[NEW, OLD])


@pytest.fixture
def app(bucket: Bucket, links: SignedLinks) -> FilesApp:
    return FilesApp(bucket, authorize=links)


@pytest.fixture
async def info(bucket: Bucket) -> Any:
    return await bucket.upload(b"hello, world", filename="a.txt", id="a")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time of the links in a list, where a test can change it."""
    now = [1_000_000.5]
    monkeypatch.setattr(signed_links, "local_time", lambda: now[0])
    return now


def changed(url: str, **terms: str | None) -> str:
    """Return the link with other terms. None removes one."""
    split = urlsplit(url)
    query = {**dict(parse_qsl(split.query)), **terms}
    return split._replace(query=urlencode({name: value for name, value in query.items() if value is not None})).geturl()


# What a link allows


async def test_a_link_is_valid_until_it_expires_and_behind_any_prefix(
    app: FilesApp, links: SignedLinks, info: Any, clock: list[float]
) -> None:
    url = links.url("https://cdn.example/v1/files/", info, expires_in=timedelta(minutes=1))
    assert url.startswith("https://cdn.example/v1/files/a?expires=1000060&signature=")
    path = url.removeprefix("https://cdn.example")
    inner = Starlette(routes=[Mount("/files", app), Mount("/moved", app)])
    async with browsing(Starlette(routes=[Mount("/v1", inner)])) as browser:
        whole = await browser.get(path)
        others = [await browser.get(path.replace("/files", "/moved")), await browser.head(path)]
        clock[0] = 1_000_059.9
        late = await browser.get(path, headers={"If-None-Match": whole.headers["etag"]})
        clock[0] = 1_000_060.0
        expired = await browser.get(path)
    assert (whole.content, whole.headers["cache-control"]) == (b"hello, world", "private, max-age=59")
    assert [answer.status_code for answer in others] == [200, 200]
    assert (late.status_code, late.headers["cache-control"]) == (304, "private, max-age=0")
    assert (expired.status_code, expired.headers.get("cache-control")) == (403, None)


async def test_a_link_is_valid_behind_a_proxy_that_keeps_the_prefix(
    app: FilesApp, links: SignedLinks, info: Any
) -> None:
    path, _, query = links.url("/files", info, expires_in=60).partition("?")
    for root, seen in (("/files", path), ("", "/a"), ("/other", "/a")):
        exchange = Exchange()
        exchange.scope.update(path=seen, root_path=root, query_string=query.encode())
        assert (await exchange.run(app)).status == 200


async def test_the_name_and_the_disposition_of_a_link_are_used(app: FilesApp, links: SignedLinks, info: Any) -> None:
    url = links.url("/", info.id, expires_in=60, filename="ü & b.txt", disposition="attachment")
    async with browsing(app) as browser:
        disposition = (await browser.get(url)).headers["content-disposition"]
    assert disposition == "attachment; filename=\"u & b.txt\"; filename*=UTF-8''%C3%BC%20&%20b.txt"


async def test_an_upload_link_has_limits_and_stores_once(app: FilesApp, links: SignedLinks, bucket: Bucket) -> None:
    limits: dict[str, Any] = {"max_size": 100, "content_types": ["image/*", "text/plain"], "filename": "b.png"}
    url = links.url("", "b", method="PUT", expires_in=60, **limits)
    async with browsing(app) as browser:
        refused = [await browser.put(url, content=each) for each in (PNG + bytes(100), b"%PDF-1.7")]
        stored = await browser.put(url, files={"file": ("c.png", PNG)})
        replayed = await browser.put(url, content=PNG)
        others = [await browser.get(url), await browser.delete(url), await browser.post(url, content=PNG)]
    assert [answer.status_code for answer in refused] == [413, 415]
    assert (stored.status_code, stored.json()["filename"], replayed.status_code) == (201, "b.png", 409)
    assert [answer.status_code for answer in others] == [403, 403, 403]
    assert await contents(bucket.database) == (1, 1)


async def test_a_link_for_new_files_stores_only_new_files(bucket: Bucket, links: SignedLinks) -> None:
    await bucket.upload(b"1", filename="a")
    app = FilesApp(bucket, authorize=links, by="filename")
    url = links.url("/", method="POST", expires_in=60)
    async with browsing(app) as browser:
        taken = await browser.post(url, files={"f": ("a", b"2")})
        new = await browser.post(url, files={"f": ("b", b"2")})
        read = await browser.get(url)
        replaced = await browser.put(links.url("/", "a", method="PUT", expires_in=60), content=b"3")
        removed = await browser.delete(links.url("/", "a", method="DELETE", expires_in=60))
    assert [each.status_code for each in (taken, new, read, replaced, removed)] == [403, 201, 405, 200, 204]
    assert [info.filename async for info in bucket.find()] == ["b"]


@pytest.mark.usefixtures("connected")
async def test_a_link_to_the_file_of_a_document(links: SignedLinks) -> None:
    badger = await Badger(photo=b"a badger").save()
    app = FilesApp.for_field(Badger, "photo", authorize=links)
    async with browsing(app) as browser:
        assert (await browser.get(links.url("", badger, expires_in=60))).content == b"a badger"
        assert (await browser.get(f"/{badger.id}")).status_code == 403


async def test_keys_are_exchanged_one_after_the_other(bucket: Bucket, info: Any) -> None:
    urls = {key: SignedLinks(keys=[key]).url("", "a", expires_in=60, app=bucket) for key in (OLD, NEW, "x" * 16)}
    async with browsing(FilesApp(bucket, authorize=SignedLinks(keys=[NEW, OLD]))) as browser:
        assert {key: (await browser.get(url)).status_code for key, url in urls.items()} == {
            OLD: 200,
            NEW: 200,
            "x" * 16: 403,
        }
        # The first key signs.
        rotated = SignedLinks(keys=[NEW, OLD]).url("", "a", expires_in=60, app=bucket)
        assert (await browser.get(rotated)).status_code == 200
    assert rotated == changed(urls[NEW], **dict(parse_qsl(urlsplit(rotated).query)))


async def test_links_can_be_one_of_several_permissions(bucket: Bucket, links: SignedLinks, info: Any) -> None:
    async def check(request: Request, action: str, info: object) -> Any:
        return "authorization" in request.headers or await links(request, action, info)  # type: ignore[arg-type]

    async with browsing(FilesApp(bucket, authorize=check)) as browser:
        answers = [
            await browser.get("/a"),
            await browser.get("/a", headers={"Authorization": "x"}),
            await browser.get(links.url("", "a", expires_in=60, app=bucket)),
        ]
    assert [answer.status_code for answer in answers] == [403, 200, 200]


# What a link does not allow


@pytest.mark.parametrize(
    "terms",
    [
        {"expires": "99999999999"},
        {"expires": None},
        {"expires": "-1"},
        {"filename": "b.html"},
        {"filename": None},
        {"disposition": "inline"},
        {"max_size": "5"},
        {"types": "text/html"},
        {"signature": None},
        {"signature": ""},
        {"signature": "ü"},
    ],
)
async def test_a_forged_link_is_refused(
    app: FilesApp, links: SignedLinks, info: Any, terms: dict[str, str | None]
) -> None:
    url = links.url("", info, expires_in=60, filename="a.txt", disposition="attachment")
    async with browsing(app) as browser:
        answer = await browser.get(changed(url, **terms))
        assert (await browser.get(url)).status_code == 200
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert b"hello" not in answer.content


@pytest.mark.parametrize(
    "change", [lambda url: url[:-1], lambda url: url + "A", lambda url: f"{url}&expires=99999999999"]
)
async def test_a_truncated_or_lengthened_link_is_refused(
    app: FilesApp, links: SignedLinks, info: Any, change: Any
) -> None:
    async with browsing(app) as browser:
        assert (await browser.get(change(links.url("", info, expires_in=60)))).status_code == 403


async def test_a_link_is_refused_in_any_other_place(
    bucket: Bucket, app: FilesApp, links: SignedLinks, info: Any
) -> None:
    other = Bucket(bucket.database, "other")
    elsewhere = Bucket(bucket.database.client[f"{bucket.database.name}_2"])
    for each in (other, elsewhere):
        await each.upload(b"secret", id="a", filename="a")
    await bucket.upload(b"secret", id="b", filename="a")
    url = links.url("", "a", expires_in=60, app=app)
    places = [FilesApp(each, authorize=links) for each in (other, elsewhere)]
    places += [FilesApp(bucket, authorize=links, by="filename"), FilesApp.for_field(Badger, "photo", authorize=links)]
    try:
        for place in places:
            async with browsing(place) as browser:
                assert (await browser.get(url)).status_code == 403
        async with browsing(app) as browser:
            assert (await browser.get(url.replace("/a?", "/b?"))).status_code == 403
            assert (await browser.get(url)).status_code == 200
    finally:
        await bucket.database.client.drop_database(elsewhere.database)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
async def test_a_link_is_refused_for_another_method(
    bucket: Bucket, app: FilesApp, links: SignedLinks, info: Any, method: str
) -> None:
    async with browsing(app) as browser:
        for path in (links.url("", "a", expires_in=60), links.url("", "b", expires_in=60)):
            assert (await browser.request(method, path, content=b"2")).status_code == 403
    assert await contents(bucket.database) == (1, 1)


async def test_signatures_are_compared_in_constant_time_with_every_key(
    app: FilesApp, links: SignedLinks, info: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def noting(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noting)
    async with browsing(app) as browser:
        await browser.get(links.url("", "a", expires_in=60))
        await browser.get("/a?signature=x")
    assert len(compared) == 4


@pytest.mark.parametrize(
    "path",
    [
        "/%7B%22$gt%22:%22%22%7D",  # {"$gt":""}
        "/%7B%22_id%22:null%7D",
        "/?_id[$ne]=1",
        "/$where",
        "/..%2F..%2Fetc%2Fpasswd",
        "/a%2F..%2Fb",
        "//a",
        "/a/",
        "/A",
        "/a%00",
        "/%ff%fe",
        "/a%0d%0aX-Evil:%201",
        "/" + "a" * 5000,
        "/.files",
    ],
)
@pytest.mark.parametrize("by", ["id", "filename"])
async def test_tricks_with_ids_and_names_reach_no_file(bucket: Bucket, by: Any, path: str) -> None:
    await bucket.upload(b"secret", id="a", filename="a")
    async with browsing(FilesApp(bucket, authorize=allow, by=by)) as browser:
        for method in ("GET", "DELETE"):
            answer = await browser.request(method, path)
            assert answer.status_code in (400, 404, 405)
            assert b"secret" not in answer.content
            assert "x-evil" not in answer.headers
    assert await contents(bucket.database) == (1, 1)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a//b", "/a", "a/./b", "a b?c#d", "50%25", "ü", "{'$ne': 1}", "a\\b"]
)
@pytest.mark.parametrize("by", ["id", "filename"])
async def test_names_are_only_names(bucket: Bucket, links: SignedLinks, by: Any, name: str) -> None:
    """Whatever a name looks like, its link leads to this file."""
    info = await bucket.upload(name.encode(), id=name, filename=name)
    async with browsing(Starlette(routes=[Mount("/files", FilesApp(bucket, authorize=links, by=by))])) as browser:
        answer = await browser.get(links.url("/files", info, expires_in=60))
    assert (answer.status_code, answer.content) == (200, name.encode())
    assert "/" not in answer.headers["content-disposition"].partition(";")[2].partition("filename*")[0]


async def test_a_link_of_files_that_are_missing_says_no_more_than_that(app: FilesApp, links: SignedLinks) -> None:
    async with browsing(app) as browser:
        missing = await browser.get(links.url("", "nothing", expires_in=60))
        refused = await browser.get("/nothing")
    assert (missing.status_code, refused.status_code) == (404, 403)


# Mistakes


@pytest.mark.parametrize("keys", [[], "a secret of 16 bytes and more", ["short"], [1], [b"123456789012345"]])
def test_keys_that_are_missing_or_weak_are_refused(keys: Any) -> None:
    with pytest.raises(BadOption, match="key"):
        SignedLinks(keys=keys)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": -1}, "expires_in"),
        ({"expires_in": True}, "expires_in"),
        ({"expires_in": "1"}, "expires_in"),
        ({"expires_in": timedelta(days=-1)}, "expires_in"),
        ({"expires_in": float("nan")}, "expires_in"),
        ({"method": "PATCH"}, "method is one of"),
        ({"method": "HEAD"}, "method is one of"),
        ({"max_size": 1}, "limit uploads"),
        ({"content_types": "image/*"}, "limit uploads"),
        ({"method": "PUT", "max_size": -1}, "max_size is a number"),
        ({"method": "PUT", "max_size": 1.5}, "max_size is a number"),
        ({"method": "PUT", "content_types": "image"}, "content_types are"),
        ({"method": "PUT", "disposition": "inline"}, "for downloads"),
        ({"disposition": "other"}, "disposition is"),
        ({"file": None}, "needs a file"),
        ({"file": ""}, "has no id"),
        ({"filename": "\ud800"}, "UTF-8"),
    ],
)
def test_mistakes_in_a_link_are_refused(links: SignedLinks, options: dict[str, Any], reason: str) -> None:
    links.add_application(Served("zoo", "fs", "id"))
    with pytest.raises(BadOption if reason != "UTF-8" else BadFilename, match=reason):
        links.url("", options.pop("file", "a"), **{"expires_in": 60, **options})


async def test_the_application_of_a_link_has_to_be_known(bucket: Bucket, links: SignedLinks) -> None:
    with pytest.raises(BadOption, match="no application of this process"):
        links.url("", "a", expires_in=60)
    assert links.url("", bucket.file("a"), expires_in=60)  # a file knows its bucket
    app, other = FilesApp(bucket, authorize=links), FilesApp(bucket, authorize=links, by="filename")
    with pytest.raises(BadOption, match="several applications"):
        links.url("", "a", expires_in=60)
    urls = {links.url("", "a", expires_in=60, app=each) for each in (app, other, bucket)}
    assert len(urls) == 2
    assert repr(links) == "<SignedLinks with 2 keys>"


async def test_links_are_asked_only_by_an_application(links: SignedLinks) -> None:
    with pytest.raises(BadOption, match="only for a request"):
        await links(Request(Exchange().scope), "read", None)
