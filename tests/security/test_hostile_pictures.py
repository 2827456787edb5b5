"""Pictures that were made to use up time and memory. Each is refused, and none keeps others waiting."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import pillow_heif
import pytest
from PIL import Image, UnidentifiedImageError
from pymongo.asynchronous.database import AsyncDatabase
from starlette.datastructures import UploadFile

from gridproxy import AsyncGridFile, Bucket, FileOptions, ImageOptions, PictureRefused
from gridproxy.adapters.document import Document, ImageField
from gridproxy.gridfs.content import decoding
from gridproxy.gridfs.operations import decode_picture
from gridproxy.runtime.client_state import state_of
from gridproxy.runtime.weighted_limit import WeightedLimit
from gridproxy.runtime.worker_process import Worker, WorkerDied, WorkerPool
from tests.observing import contents

from . import hostile_pictures as hostile

Database = AsyncDatabase[dict[str, Any]]
ROOT = Path(__file__).resolve().parents[2]
THUMBNAIL = ImageOptions(thumbnail_size=(32, 32))

pytestmark = pytest.mark.usefixtures("connected")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can limit the memory of a process by bytes")


def photo(image: ImageOptions = THUMBNAIL) -> AsyncGridFile:
    return AsyncGridFile(options=FileOptions(image=image))


def endless(image: ImageOptions | None = None) -> tuple[AsyncGridFile, bytes]:
    """Return a file, and a JPEG that takes minutes for it."""
    return photo(image or ImageOptions(timeout=600)), hostile.jpeg_of_scans(4_000, 20_000)


def large() -> bytes:
    """Return an honest photo that is too large for a thread."""
    return hostile.saved(Image.new("RGB", (2_000, 1_500), "red"), "JPEG")


def workers() -> WorkerPool:
    return decode_picture._workers()


@pytest.fixture(autouse=True)
def all_given_back(database: Database) -> Iterator[None]:
    yield
    limits = state_of(database.client).decoding
    assert (limits.processes.used, limits.memory.used) == (0, 0)


# What is refused


@pytest.mark.parametrize("name", hostile.REFUSED)
async def test_a_hostile_picture_is_refused(name: str, database: Database) -> None:
    with pytest.raises(PictureRefused):
        await photo().put(hostile.REFUSED[name](), filename="a.png")
    assert await contents(database) == (0, 0)


TOO_LARGE = [
    name
    for name in hostile.REFUSED
    if any(word in name for word in ("above", "large ", "too many", "frames", "terapixel"))
    and not any(word in name for word in ("hidden", "codestream", "a tile"))  # only the decoder finds out
]


@pytest.mark.parametrize("name", TOO_LARGE)
async def test_what_says_that_it_is_too_large_is_not_decoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(self: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", decoded)
    monkeypatch.setattr("PIL.GifImagePlugin.GifImageFile.load", decoded, raising=False)
    job = ImageOptions().job({})
    with pytest.raises(decoding.Refused) as caught:
        decoding.make(hostile.REFUSED[name](), job)
    assert caught.value.limit in (job["max_pixels"], job["max_frames"])


@pytest.mark.parametrize("kind", hostile.FOREIGN)
async def test_other_formats_of_pillow_are_refused_unseen(
    kind: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*arguments: object) -> None:
        raise AssertionError("a decoder was started")

    for name in set(Image.OPEN) - set(decoding.FORMATS):
        monkeypatch.setitem(Image.OPEN, name, (started, Image.OPEN[name][1]))
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", started)
    with pytest.raises(PictureRefused, match="not a picture that can be decoded"):
        await photo().put(hostile.FOREIGN[kind], filename="a.png")
    with pytest.raises((decoding.Refused, UnidentifiedImageError)):
        decoding.make(hostile.FOREIGN[kind], ImageOptions().job({}))
    assert await contents(database) == (0, 0)


@pytest.mark.parametrize("way", ["put", "replace", "form", "document"])
async def test_every_way_in_has_the_limits(way: str, database: Database) -> None:
    class Portrait(Document):
        face = ImageField(bucket="fs", max_frames=3)

    data = hostile.gif(10, 4)
    file = photo(ImageOptions(max_frames=3))
    if way == "replace":
        await file.put(hostile.gif(10, 3))
    with pytest.raises(PictureRefused, match="more than 3 frames") as caught:
        if way == "put":
            await file.put(data)
        elif way == "replace":
            await file.replace(data)
        elif way == "form":
            await file.put(UploadFile(BytesIO(data), filename="a.gif"))
        else:
            await Portrait(face=data).save()
    assert (caught.value.limit, caught.value.actual) == (3, 4)
    assert await contents(database) == ((1, 1) if way == "replace" else (0, 0))


async def test_tags_that_all_hold_the_same_bytes_use_no_more_memory_than_is_allowed() -> None:
    """Old versions of Pillow copy the megabyte 5,000 times. New ones skip most of the tags."""
    with contextlib.suppress(PictureRefused):
        await photo().put(hostile.tiff_of_tags(5_000, 1_000_000))


async def test_texts_of_a_png_do_not_count_as_a_small_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_threads(monkeypatch)
    await photo().put(hostile.png_of_profiles(20))


# Time


async def test_decoding_has_a_limit_of_time(database: Database) -> None:
    file, data = endless(ImageOptions(timeout=0.5))
    with pytest.raises(PictureRefused, match=r"takes more than 0\.5 seconds"):
        await file.put(data)
    assert await contents(database) == (0, 0)


async def test_a_photo_that_should_be_fast_and_is_not_goes_on_among_the_slow_ones(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_picture, "_USUAL_SECONDS", 1e-6)
    limit, held = state_of(database.client).decoding.processes, list[bool]()
    hold = limit.hold

    def noted(weight: int, *, heavy: bool) -> Any:
        held.append(heavy)
        return hold(weight, heavy=heavy)

    monkeypatch.setattr(limit, "hold", noted)
    await photo().put(large())
    assert held == [False, True]


@asynccontextmanager
async def attack(count: int, database: Database) -> AsyncIterator[set[asyncio.Task[Any]]]:
    """Upload so many endless pictures in the block."""
    files = [endless() for _ in range(count)]
    running = {asyncio.ensure_future(file.put(data)) for file, data in files}
    limits = state_of(database.client).decoding
    while limits.processes.used < min(count, limits.processes.heavy):  # noqa: ASYNC110  # it has no event
        await asyncio.sleep(0.01)
    try:
        yield running
    finally:
        for each in running:
            each.cancel()
        await asyncio.wait(running)


@pytest.mark.parametrize("count", [2, 10])
async def test_endless_uploads_do_not_keep_others_waiting(count: int, database: Database) -> None:
    async with attack(count, database) as running:
        await photo().put(hostile.png(64, 64))
        await photo().put(large())
        if count == 2:  # it is as heavy as the attack
            await photo().put(hostile.saved(Image.new("RGB", (300, 200)), "TIFF"))
        assert not any(each.done() for each in running)


# Memory


async def test_a_picture_above_the_budget_is_refused_before_it_is_decoded(database: Database) -> None:
    state_of(database.client).decoding.memory = WeightedLimit(40_000_000, 30_000_000)
    with pytest.raises(PictureRefused, match="MB, more than the 28 MB allowed here") as caught:
        await photo().put(hostile.png(3_000, 3_000, rows=1))
    assert caught.value.limit == 30_000_000
    assert isinstance(caught.value.actual, int)
    assert caught.value.actual >= 3_000 * 3_000 * 4
    assert await contents(database) == (0, 0)


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000", "MPO"])
async def test_a_thumbnail_of_a_large_picture_needs_little_memory(kind: str, database: Database) -> None:
    """Decoding 4,000 by 3,000 pixels would take 36 MB. The decoder scales while it decodes."""
    state_of(database.client).decoding.memory = WeightedLimit(20_000_000, 15_000_000)
    file = photo(ImageOptions(thumbnail_size=(150, 150), variants={"square": (100, 100, True)}))
    await file.put(hostile.saved(Image.new("RGB", (4_000, 2_999), "red"), kind))
    assert (file.width, file.height) == (4_000, 2_999)
    for variant, size in ((file.thumbnail, (150, 112)), (file.variants["square"], (100, 100))):
        with Image.open(BytesIO(await variant.read())) as image:
            assert image.size == size
            pixel: Any = image.convert("RGB").getpixel((50, 50))
            assert pixel[0] > 200


async def test_pictures_wait_for_the_memory_of_others(database: Database) -> None:
    limit = state_of(database.client).decoding.memory = WeightedLimit(70_000_000, 52_500_000)
    used = []
    take = limit._take

    def noted(weight: int, heavy: bool) -> None:
        take(weight, heavy)
        used.append(limit.used)

    limit._take = noted  # type: ignore[method-assign]  # what is observed
    data = hostile.png(1_500, 1_500)
    await asyncio.gather(*[photo().put(data) for _ in range(6)])
    assert len(used) == 12
    assert 0 < max(used) <= limit.heavy


@on_linux
async def test_a_worker_cannot_use_more_memory_than_it_said() -> None:
    worker = workers().take()
    job = ImageOptions().job({})
    data = hostile.png(3_000, 3_000)
    head, _ = await worker.call({"do": "inspect", "job": job, "memory": 2**30, "slow": False}, data)
    assert head["memory"] >= 4 * 3_000 * 3_000
    head, _ = await worker.call({"do": "make", "memory": 1_000_000})
    assert "more memory" in head["refused"]["reason"]
    # The next picture of this worker has a limit of its own
    head, _ = await worker.call({"do": "inspect", "job": job, "memory": 2**30, "slow": False}, data)
    head, _ = await worker.call({"do": "make", "memory": 2**30})
    assert (head["main"]["width"], head["main"]["data"]) == (3_000, None)
    workers().give_back(worker)


# Work that is abandoned


async def test_a_cancelled_upload_kills_its_worker_and_holds_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = list[Worker]()
    take = WorkerPool.take

    def noted(self: WorkerPool) -> Worker:
        taken.append(take(self))
        return taken[-1]

    monkeypatch.setattr(WorkerPool, "take", noted)
    async with attack(1, database):
        [worker] = taken
    worker.join(30)
    assert worker._process is not None
    assert worker._process.returncode is not None
    assert await contents(database) == (0, 0)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8, 13, 40, 100])
async def test_a_cancellation_at_any_moment_holds_nothing(after: int, database: Database) -> None:
    putting = asyncio.ensure_future(photo().put(large()))
    for _ in range(after):
        await asyncio.sleep(0.001)
    putting.cancel()
    await asyncio.wait({putting})
    assert await contents(database) == ((0, 0) if putting.cancelled() else (2, 2))


async def test_a_worker_that_dies_refuses_one_picture_and_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = list[Worker]()
    take = WorkerPool.take

    def noted(self: WorkerPool) -> Worker:
        taken.append(take(self))
        return taken[-1]

    monkeypatch.setattr(WorkerPool, "take", noted)
    file, data = endless()
    putting = asyncio.ensure_future(file.put(data))
    while not (taken and taken[0]._process):  # noqa: ASYNC110  # it has no event
        await asyncio.sleep(0.01)
    taken[0]._process.kill()
    with pytest.raises(PictureRefused, match="the decoder failed: it ended with code"):
        await putting
    assert await contents(database) == (0, 0)
    await photo().put(large())


async def test_an_idle_worker_that_died_is_replaced() -> None:
    await photo().put(large())
    [*idle] = workers()._idle
    for worker in idle:
        assert worker._process is not None
        worker._process.kill()
        worker._process.wait()
    await photo().put(large())


async def test_a_worker_that_cannot_be_started_is_an_error_with_its_reason(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = WorkerPool(Path(decoding.__file__), decoding.send, decoding.receive, most_idle=1)
    monkeypatch.setattr(decode_picture, "_workers", lambda: pool)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(PictureRefused, match="could not be started"):
        await photo().put(large())
    assert await contents(database) == (0, 0)


async def test_a_call_after_the_worker_has_ended_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = WorkerPool(Path(decoding.__file__), decoding.send, decoding.receive, most_idle=1)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    worker = pool.take()
    worker.join(10)
    with anyio.fail_after(10):
        with pytest.raises(WorkerDied, match="could not be started"):
            await worker.call({"do": "wait"})
        with pytest.raises(WorkerDied, match="could not be started"):
            await worker.call({"do": "wait"})


SERVICE = """
    import asyncio, os, signal, sys
    from gridproxy import ImageOptions
    from gridproxy.gridfs.operations import decode_picture
    from gridproxy.runtime.client_state import DecodingLimits
    from tests.security import hostile_pictures as hostile

    print("the main module was imported", flush=True)

    async def main():
        data = hostile.jpeg_of_scans(4_000, 20_000)
        decoding = [
            decode_picture.decode_picture(DecodingLimits(), data, ImageOptions(timeout=600), field=None, filename=None)
            for _ in range(2)
        ]
        task = asyncio.gather(*decoding)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        pool = decode_picture._workers()
        while len([each for each in pool._all if each._process]) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        print(*[each._process.pid for each in pool._all], flush=True)
        await task

    asyncio.run(main())
"""


def run_python(code: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", *options, "-c", textwrap.dedent(code)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def runs(pid: int) -> bool:
    """Whether the process runs. One that has ended may be without a parent that reaps it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@on_linux
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_service_ends_at_once_and_leaves_no_worker(how: signal.Signals) -> None:
    with run_python(SERVICE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "the main module was imported\n"
        pids = [int(each) for each in process.stdout.readline().split()]
        assert len(pids) == 2
        assert all(runs(pid) for pid in pids)
        process.send_signal(how)
        rest, errors = process.communicate(timeout=60)  # decoding would take some minutes
    assert rest == ""  # a worker does not import the main module
    assert "Warning" not in errors
    until = time.monotonic() + 60
    while any(runs(pid) for pid in pids):
        assert time.monotonic() < until
        await asyncio.sleep(0.05)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
async def test_a_fork_has_workers_of_its_own() -> None:
    code = """
        import asyncio, os, warnings
        from gridproxy import ImageOptions
        from gridproxy.gridfs.operations import decode_picture
        from gridproxy.runtime.client_state import DecodingLimits
        from tests.security import hostile_pictures as hostile

        data = hostile.png(2_000, 2_000)

        def decode():
            made = decode_picture.decode_picture(DecodingLimits(), data, ImageOptions(), field=None, filename=None)
            assert asyncio.run(made).main.width == 2_000
            [worker] = decode_picture._workers()._all
            return worker._process.pid

        first = decode()
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads
        if (child := os.fork()) == 0:
            assert decode() != first
        else:
            assert os.waitpid(child, 0)[1] == 0
            assert decode() == first
    """
    with run_python(code) as process:
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")


# Formats of the application, and programs without an interpreter


def refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise AssertionError("a thread decoded it")

    monkeypatch.setattr(decoding, "make", refused)


def refuse_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: WorkerPool) -> Worker:
        raise AssertionError("a worker decoded it")

    monkeypatch.setattr(WorkerPool, "take", refused)


@pytest.fixture
def registered() -> Iterator[None]:
    kept = dict(Image.OPEN), dict(Image.SAVE), list(Image.ID), dict(Image.MIME), dict(Image.EXTENSION)
    pillow_heif.register_heif_opener()
    yield
    Image.OPEN, Image.SAVE, Image.ID, Image.MIME, Image.EXTENSION = kept


@pytest.mark.usefixtures("registered")
async def test_a_worker_knows_the_formats_of_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_threads(monkeypatch)
    file = photo()
    await file.put(hostile.heif(64))
    assert (file.width, file.format, file.content_type) == (64, "HEIF", "image/heic")
    Image.OPEN.pop("HEIF")
    with pytest.raises(PictureRefused, match="not a picture"):
        await photo().put(hostile.heif(64))


@pytest.mark.usefixtures("registered")
async def test_a_format_that_a_worker_cannot_import_is_decoded_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    class Opener(pillow_heif.HeifImageFile):
        pass

    refuse_workers(monkeypatch)
    monkeypatch.setattr(decode_picture, "_THREAD_PIXELS", 10_000)
    Image.register_open("HEIF", Opener, Image.OPEN["HEIF"][1])
    file = photo()
    await file.put(hostile.heif(64))
    assert (file.width, file.format) == (64, "HEIF")
    with pytest.raises(PictureRefused, match="more than the 10000 allowed"):
        await photo().put(hostile.heif(128))


async def test_a_frozen_program_decodes_in_a_thread_with_a_lower_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_workers(monkeypatch)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    await photo().put(large())
    with pytest.raises(PictureRefused, match="25010001 pixels in all frames, more than the 25000000 allowed"):
        await photo().put(hostile.png(5_001, 5_001, rows=1))


async def test_a_small_picture_needs_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_workers(monkeypatch)
    picture = Image.new("RGB", (300, 200))
    for kind, options in (("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {})):
        await photo().put(hostile.saved(picture, kind, **options))


async def test_the_setting_for_damaged_pictures_reaches_a_worker(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = large()[:-500]
    with pytest.raises(PictureRefused, match="truncated"):
        await photo().put(data)
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    await photo().put(data)
