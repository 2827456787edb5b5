"""A gallery of pictures and videos in GridFS, with one Beanie document for each.

Uploads are streamed from the socket to the database without temporary files. An upload that a browser interrupts leaves
nothing behind. Browsers can seek in the files, resume downloads and cache them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

from beanie import Document, PydanticObjectId, init_beanie
from beanie.exceptions import RevisionIdWasChanged
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from guard import LOOPBACK, Guard
from pydantic import BaseModel
from pymongo import AsyncMongoClient

from gridproxy import AsyncGridFile, FileOptions
from gridproxy.adapters.beanie import FileDocument
from gridproxy.adapters.starlette import GridFileResponse, RequestBody, exception_handlers

STATIC = Path(__file__).parent / "static"
LARGEST = 512 * 1024 * 1024

# With the snapshot, the list of items needs no query for the files.
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
        use_revision = True  # Of two concurrent replacements, one fails.


class Shown(BaseModel):
    """The form of an item that the page receives."""

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
        # A replacement changes the file's id and so the address, which prevents that browsers show the old picture.
        url=f"/items/{item.id}/file?v={file.id}",
    )


def gallery(uri: str, hosts: Iterable[str] = LOOPBACK) -> FastAPI:
    """Create the service on the database in the address, or on "gallery", for browsers that call it by these names."""

    @asynccontextmanager
    async def connected(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncMongoClient[dict[str, object]](uri) as client:
            await init_beanie(database=client.get_default_database("gallery"), document_models=[Item])
            yield

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
    async def items() -> list[Shown]:
        return [shown(item) async for item in Item.find_all().sort("-_id")]

    @app.post("/items", status_code=201)
    async def add(name: Name, request: Request) -> Shown:
        item = Item(name=name, file=RequestBody(request, filename=name))
        await item.insert()  # Stores the file and then the document, or neither.
        return shown(item)

    @app.put("/items/{id}/file")
    async def replace(id: PydanticObjectId, name: Name, request: Request) -> Shown:
        item = await found(id)
        item.name = name
        item.file = RequestBody(request, filename=name)  # type: ignore[assignment]  # save() accepts content
        await item.save()  # Stores the new file and the document, then deletes the old file.
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
        return JSONResponse({"detail": "Another user has changed this item. Reload the page."}, 409)

    app.mount("/static", StaticFiles(directory=STATIC))
    return app


async def found(id: PydanticObjectId) -> Item:
    item = await Item.get(id)
    if item is None:
        raise HTTPException(404, "This item does not exist any more.")
    return item
