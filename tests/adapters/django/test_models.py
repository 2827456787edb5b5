"""Files and pictures in models, in the admin's form, and over HTTP."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile, File
from django.test import AsyncClient, Client, RequestFactory
from PIL import Image

from gridproxy import BadOption
from gridproxy.adapters.django import GridFSStorage, GridFSView

from .models import Animal

pytestmark = pytest.mark.usefixtures("django_database")


def picture(width: int = 64, height: int = 48) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (width, height), "brown").save(made, "PNG")
    return made.getvalue()


def body(response: Any) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


def test_files_of_a_model(storage: GridFSStorage) -> None:
    marmot = Animal(name="Mia")
    marmot.papers.save("papers.txt", ContentFile(b"a marmot"))
    marmot.photo = File(io.BytesIO(picture()), "mia.png")
    marmot.save()
    loaded = Animal.objects.get(name="Mia")
    assert (loaded.papers.name, loaded.papers.size, loaded.papers.read()) == ("papers/papers.txt", 8, b"a marmot")
    assert (loaded.photo.width, loaded.width, loaded.height) == (64, 64, 48)
    assert loaded.photo.url == "/media/photos/mia.png"
    with loaded.papers.open("w") as file:
        file.write("another")
    assert storage.open("papers/papers.txt").read() == b"another"
    loaded.papers.delete()
    assert not storage.exists("papers/papers.txt")
    assert not Animal.objects.get(name="Mia").papers


def test_the_admin_uploads_replaces_and_clears_files(storage: GridFSStorage) -> None:
    User.objects.create_superuser("keeper", password="secret")
    browser = Client()
    assert browser.login(username="keeper", password="secret")
    files = {"papers": ContentFile(b"large " * 600_000, "p.txt"), "photo": ContentFile(picture(), "p.png")}
    response = browser.post("/admin/django/animal/add/", {"name": "Max", **files})
    assert response.status_code == 302, response.content
    animal = Animal.objects.get(name="Max")
    assert (animal.papers.size, animal.width) == (3_600_000, 64)
    assert storage.file(animal.photo.name).content_type == "image/png"
    page = browser.get(f"/admin/django/animal/{animal.pk}/change/")
    assert b'href="/media/papers/p.txt"' in page.content
    change = {"name": "Max", "photo": ContentFile(picture(8, 8), "q.png"), "papers-clear": "on"}
    assert browser.post(f"/admin/django/animal/{animal.pk}/change/", change).status_code == 302
    animal.refresh_from_db()
    assert (animal.photo.name, animal.width, bool(animal.papers)) == ("photos/q.png", 8, False)
    refused = browser.post("/admin/django/animal/add/", {"name": "No", "photo": ContentFile(b"no picture", "r.png")})
    assert refused.status_code == 200
    assert not storage.exists("photos/r.png")


RANGES = {
    "bytes=2-5": (206, b"marm"),
    "bytes=-3": (206, b"mot"),
    "bytes=0-0,7-": (206, None),
    "bytes=90-": (416, b""),
    "marmots=1": (200, b"a marmot"),
}


@pytest.mark.parametrize("asked", RANGES)
def test_the_view_answers_ranges(storage: GridFSStorage, asked: str) -> None:
    storage.save("a/m.txt", ContentFile(b"a marmot"))
    response = Client().get("/media/a/m.txt", headers={"range": asked})
    status, expected = RANGES[asked]
    found = body(response)
    assert response.status_code == status
    assert len(found) == int(response["content-length"])
    if expected is None:
        assert response["content-type"].startswith("multipart/byteranges; boundary=")
        assert found.count(b"content-range: bytes ".title()) + found.lower().count(b"content-range: bytes ") >= 2
    else:
        assert found == expected


def test_the_view_answers_conditions_and_head(storage: GridFSStorage) -> None:
    storage.save("m.txt", ContentFile(b"a marmot"))
    browser = Client()
    whole = browser.get("/media/m.txt")
    assert body(whole) == b"a marmot"
    assert (whole["content-type"], whole["cache-control"]) == ("text/plain; charset=utf-8", "private")
    assert whole["content-disposition"] == 'inline; filename="m.txt"'
    head = browser.head("/media/m.txt")
    assert (head["content-length"], head["etag"], body(head)) == ("8", whole["etag"], b"")
    unchanged = browser.get("/media/m.txt", headers={"if-none-match": whole["etag"]})
    assert (unchanged.status_code, unchanged.content, "content-type" in unchanged) == (304, b"", False)
    assert browser.get("/media/m.txt", headers={"if-match": '"other"'}).status_code == 412
    assert browser.get("/media/missing.txt").status_code == 404
    assert browser.post("/media/m.txt").status_code == 405


async def test_under_asgi_the_view_streams_in_bounded_memory(storage: GridFSStorage) -> None:
    content = bytes(range(250)) * 40
    await asyncio.to_thread(storage.save, "m.bin", ContentFile(content))
    response = await AsyncClient().get("/media/m.bin", headers={"range": "bytes=10-9000"})
    assert response.status_code == 206
    parts = [part async for part in response.streaming_content]
    assert b"".join(parts) == content[10:9001]
    assert max(map(len, parts)) <= 1000
    dropped = await AsyncClient().get("/media/m.bin")
    assert len(await anext(aiter(dropped.streaming_content))) == 1000
    dropped.close()


def test_the_view_serves_a_storage_of_this_package_only(storage: GridFSStorage) -> None:
    storage.save("m.txt", ContentFile(b"a marmot"))
    request = RequestFactory().get("/")
    assert body(GridFSView.as_view(storage=storage, cache_control="no-store")(request, name="m.txt")) == b"a marmot"
    with pytest.raises(BadOption, match="not of"):
        GridFSView.as_view(storage="disk")(request, name="m.txt")
