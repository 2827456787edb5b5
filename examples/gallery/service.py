"""A gallery of pictures and videos in GridFS, with one Beanie document for each.

Uploads are streamed from the socket to the database without temporary files. The page uploads with the tus protocol, so
an upload can be paused, and goes on after the connection, the page or this service was gone. Browsers can seek in the
files, resume downloads and cache them. Links to single files can be given to other people, and expire.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from beanie import Document, PydanticObjectId, init_beanie
from beanie.exceptions import RevisionIdWasChanged
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from guard import LOOPBACK, Guard
from pydantic import BaseModel
from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError

from gridproxy import AsyncGridFile, Bucket, FileInfo, FileOptions, FileRefused, ImageOptions
from gridproxy.adapters.beanie import FileDocument
from gridproxy.adapters.starlette import FilesApp, GridFileResponse, RequestBody, SignedLinks, exception_handlers
from gridproxy.adapters.tus import TusApp

STATIC = Path(__file__).parent / "static"
LARGEST = 4 * 1024**3
PAGE = 24
FOR_GOOD = "private, max-age=31536000, immutable"  # a new file has a new address

# With the snapshot, the list of items needs no query for the files.
MEDIA = FileOptions(
    bucket="media",
    store="snapshot",
    on_delete="delete",
    max_size=LARGEST,
    content_types=["image/*", "video/*"],
)
# For the grid, which would take minutes to load with full pictures.
THUMBNAILS = FileOptions(
    bucket="thumbnails", on_delete="delete", max_size=64 * 1024**2, image=ImageOptions(size=(480, 360, True))
)

Hours = Annotated[int, Query(ge=1, le=24 * 30)]
Search = Annotated[str, Query(max_length=100)]
Name = Annotated[str, Query(min_length=1, max_length=200)]


class Item(FileDocument, Document):
    """A picture or a video."""

    name: str
    file: Annotated[AsyncGridFile, MEDIA] = AsyncGridFile()
    thumbnail: Annotated[AsyncGridFile, THUMBNAILS] = AsyncGridFile()

    class Settings:
        name = "items"
        use_revision = True  # Of two concurrent replacements, one fails.


class Shown(BaseModel):
    """The form of an item that the page receives."""

    id: str
    name: str
    type: str
    size: int
    added: datetime | None
    url: str
    thumbnail: str | None


class Summary(BaseModel):
    """How many items there are, and how many bytes they have."""

    items: int
    size: int


class Link(BaseModel):
    """The address of a file for people who have only this address."""

    url: str
    until: datetime


def shown(item: Item) -> Shown:
    file = item.file
    return Shown(
        id=str(item.id),
        name=item.name,
        type=file.content_type or "",
        size=file.length,
        added=file.upload_date,
        # A replacement changes the file's id and so the address, which prevents that browsers show the old picture.
        url=f"/items/{item.id}/file?v={file.id}",
        thumbnail=f"/items/{item.id}/thumbnail?v={item.thumbnail.id}" if item.thumbnail else None,
    )


async def make_thumbnail(item: Item) -> None:
    """Store a small form of a picture. A video has none, nor has a picture that Pillow cannot read, such as an SVG."""
    try:
        if not (item.file.content_type or "").startswith("image/"):
            await item.thumbnail.delete()  # of the picture that the video replaces
        else:
            await item.thumbnail.replace(item.file)
    except FileRefused:
        await item.thumbnail.delete()
    await item.save()


async def anybody(request: Request, action: str, info: FileInfo | None) -> bool:
    """Allow uploads. The guard has checked where the request comes from."""
    return True


def gallery(uri: str, hosts: Iterable[str] = LOOPBACK) -> FastAPI:
    """Create the service on the database in the address, or on "gallery", for browsers that call it by these names."""

    client = AsyncMongoClient[dict[str, object]](uri)
    database = client.get_default_database("gallery")
    media = Bucket(database, "media")

    async def stored(request: Request, info: FileInfo) -> None:
        """Make an item of an upload. This may be repeated, so the item has the id of its file."""
        name = (info.filename or "Untitled")[:200]
        item = Item.model_validate({"id": info.id, "name": name, "file": info.snapshot()})
        try:
            await item.insert()
        except DuplicateKeyError:
            return
        await make_thumbnail(item)

    # Links of an earlier process hold only if the key is kept.
    links = SignedLinks([os.environ.get("GALLERY_KEY") or secrets.token_hex(32)])
    shared = FilesApp(media, authorize=links)
    limits = FileOptions(max_size=MEDIA.max_size, content_types=MEDIA.content_types)
    uploads = TusApp(media, authorize=anybody, on_stored=stored, options=limits, lifetime=timedelta(days=7))

    @asynccontextmanager
    async def connected(app: FastAPI) -> AsyncIterator[None]:
        async with client:
            await init_beanie(database=database, document_models=[Item])
            yield
            await uploads.aclose()  # Stores what the interrupted requests have sent.

    # The handlers answer 413 for too large files, 415 for other types, 404 for missing files.
    # The pages /docs and /redoc would load scripts from other hosts.
    app = FastAPI(
        title="Gallery", lifespan=connected, exception_handlers=exception_handlers, docs_url=None, redoc_url=None
    )
    app.add_middleware(Guard, hosts=hosts)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/items")
    async def items(answer: Response, search: Search = "", after: PydanticObjectId | None = None) -> list[Shown]:
        query = matching(search) | ({} if after is None else {"_id": {"$lt": after}})
        found = await Item.find(query).sort("-_id").limit(PAGE + 1).to_list()
        if len(found) > PAGE:
            answer.headers["Next-After"] = str(found[PAGE - 1].id)
        return [shown(item) for item in found[:PAGE]]

    @app.get("/summary")
    async def summary(search: Search = "") -> Summary:
        totals = {"$group": {"_id": None, "items": {"$sum": 1}, "size": {"$sum": "$file.length"}}}
        found = await Item.find(matching(search)).aggregate([totals]).to_list()
        return Summary(**found[0]) if found else Summary(items=0, size=0)

    @app.get("/items/{id}")
    async def one(id: PydanticObjectId) -> Shown:
        return shown(await found(id))

    @app.post("/items", status_code=201)
    async def add(name: Name, request: Request) -> Shown:
        item = Item(name=name, file=RequestBody(request, filename=name))
        await item.insert()  # Stores the file and then the document, or neither.
        await make_thumbnail(item)
        return shown(item)

    @app.put("/items/{id}/file")
    async def replace(id: PydanticObjectId, name: Name, request: Request) -> Shown:
        item = await found(id)
        item.name = name
        item.file = RequestBody(request, filename=name)  # type: ignore[assignment]  # save() accepts content
        await item.save()  # Stores the new file and the document, then deletes the old file.
        await make_thumbnail(item)
        return shown(item)

    @app.delete("/items/{id}", status_code=204)
    async def delete(id: PydanticObjectId) -> None:
        await (await found(id)).delete()

    @app.head("/items/{id}/file", include_in_schema=False)
    @app.get("/items/{id}/file", response_class=GridFileResponse)
    async def file(id: PydanticObjectId, download: bool = False) -> GridFileResponse:
        return GridFileResponse(
            (await found(id)).file,
            content_disposition_type="attachment" if download else None,
            cache_control=FOR_GOOD,
        )

    @app.get("/items/{id}/thumbnail", response_class=GridFileResponse)
    async def thumbnail(id: PydanticObjectId) -> GridFileResponse:
        item = await found(id)
        if not item.thumbnail:
            raise HTTPException(404, "This item has no thumbnail.")
        return GridFileResponse(item.thumbnail, cache_control=FOR_GOOD)

    @app.post("/items/{id}/link", status_code=201)
    async def link(id: PydanticObjectId, request: Request, hours: Hours = 24) -> Link:
        item, duration = await found(id), timedelta(hours=hours)
        url = links.url(f"{request.base_url}shared", item.file, expires_in=duration, filename=item.name, app=shared)
        return Link(url=url, until=datetime.now(UTC) + duration)

    @app.exception_handler(RevisionIdWasChanged)
    async def too_late(request: Request, error: RevisionIdWasChanged) -> JSONResponse:
        return JSONResponse({"detail": "Another user has changed this item. Reload the page."}, 409)

    app.mount("/uploads", uploads)
    app.mount("/shared", shared)
    app.mount("/static", StaticFiles(directory=STATIC))
    return app


def matching(search: str) -> dict[str, Any]:
    """Return the filter of items whose name contains these characters."""
    return {"name": {"$regex": re.escape(search), "$options": "i"}} if search else {}


async def found(id: PydanticObjectId) -> Item:
    item = await Item.get(id)
    if item is None:
        raise HTTPException(404, "This item does not exist any more.")
    return item
