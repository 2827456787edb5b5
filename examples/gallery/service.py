"""A gallery: pictures and videos in GridFS, a Beanie document for each.

Uploads go straight from the socket into the database, block by block; what comes out of it can be sought in, resumed
and cached. There is no folder of files, no temporary file, and nothing left behind when a browser goes away midway.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

from beanie import Document, PydanticObjectId, init_beanie
from beanie.exceptions import RevisionIdWasChanged
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from pymongo import AsyncMongoClient

from gridproxy import AsyncGridFile, FileOptions
from gridproxy.adapters.beanie import FileDocument
from gridproxy.adapters.starlette import GridFileResponse, RequestBody, exception_handlers

STATIC = Path(__file__).parent / "static"
LARGEST = 512 * 1024 * 1024

# What may be stored, and what becomes of it; the snapshot saves the list of items a query for their files.
MEDIA = FileOptions(
    bucket="media",
    store="snapshot",
    on_delete="delete",
    max_size=LARGEST,
    content_types=["image/*", "video/*"],
)

Name = Annotated[str, Query(min_length=1, max_length=200)]


class Item(FileDocument, Document):
    """A picture or a video."""

    name: str
    file: Annotated[AsyncGridFile, MEDIA] = AsyncGridFile()

    class Settings:
        name = "items"
        use_revision = True  # of two who replace a file at once, one is told


class Shown(BaseModel):
    """An item as the page gets it."""

    id: str
    name: str
    type: str
    size: int
    added: datetime | None
    url: str


def shown(item: Item) -> Shown:
    file = item.file
    return Shown(
        id=str(item.id),
        name=item.name,
        type=file.content_type or "",
        size=file.length,
        added=file.upload_date,
        # The file's id in the address: after a replace it is another one, so no browser shows the old picture.
        url=f"/items/{item.id}/file?v={file.id}",
    )


def gallery(uri: str) -> FastAPI:
    """Return the service, on the database that the address names, or on "gallery"."""

    @asynccontextmanager
    async def connected(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncMongoClient[dict[str, object]](uri) as client:
            await init_beanie(database=client.get_default_database("gallery"), document_models=[Item])
            yield

    # What is too large is a 413, of another type a 415, not there a 404.
    app = FastAPI(
        title="Gallery", lifespan=connected, exception_handlers=exception_handlers, dependencies=[Depends(from_here)]
    )

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"Content-Security-Policy": "default-src 'self'"})

    @app.get("/items")
    async def items() -> list[Shown]:
        return [shown(item) async for item in Item.find_all().sort("-_id")]

    @app.post("/items", status_code=201)
    async def add(name: Name, request: Request) -> Shown:
        item = Item(name=name, file=RequestBody(request, filename=name))
        await item.insert()  # stores the file, then the document: both, or neither
        return shown(item)

    @app.put("/items/{id}/file")
    async def replace(id: PydanticObjectId, name: Name, request: Request) -> Shown:
        item = await found(id)
        item.name = name
        item.file = RequestBody(request, filename=name)  # type: ignore[assignment]  # content, not a file yet
        await item.save()  # stores the new file, then the document; and only then the old file goes
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
            cache_control="private, max-age=31536000, immutable",
        )

    @app.exception_handler(RevisionIdWasChanged)
    async def too_late(request: Request, error: RevisionIdWasChanged) -> JSONResponse:
        return JSONResponse({"detail": "Somebody else has changed this item; load the page again."}, 409)

    app.mount("/static", StaticFiles(directory=STATIC))
    return app


async def found(id: PydanticObjectId) -> Item:
    item = await Item.get(id)
    if item is None:
        raise HTTPException(404, "This item is not here any more.")
    return item


async def from_here(request: Request, sec_fetch_site: Annotated[str | None, Header()] = None) -> None:
    """No page of another site changes anything here: browsers say whose page it is that asks."""
    if request.method not in ("GET", "HEAD") and sec_fetch_site not in (None, "none", "same-origin"):
        raise HTTPException(403, "Another site's page has asked for this.")
