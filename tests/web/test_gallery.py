"""The gallery as people use it: in a real browser, on a real server, started with its one command."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bson import ObjectId
from PIL import Image
from pymongo import MongoClient
from pymongo.database import Database

from tests.web.chromium import ARGUMENTS, CHROMIUM
from tests.web.pictures import as_file, mountains, video_of_a_day
from tests.web.webm import webm

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload, Page

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian's package: chromium)")


@pytest.fixture(scope="module")
def database(mongodb_uri: str) -> Iterator[Database[dict[str, Any]]]:
    name = f"gridproxy_test_{uuid.uuid4().hex}"
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        yield client[name]
        client.drop_database(name)


@contextmanager
def started(mongodb_uri: str, database: str, port: int = 0) -> Iterator[str]:
    """Run the gallery, and yield its address."""
    host, _, options = mongodb_uri.partition("://")[2].partition("/")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "gallery"), "--port", str(port)],
        env={**os.environ, "MONGODB_URI": f"mongodb://{host}/{database}?{options.partition('?')[2]}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            found = next(filter(None, (re.search(r"http://\S+", line) for line in process.stdout)))
            yield found[0]
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0


@pytest.fixture(scope="module")
def url(mongodb_uri: str, database: Database[dict[str, Any]]) -> Iterator[str]:
    with started(mongodb_uri, database.name) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, url: str, database: Database[dict[str, Any]]) -> Iterator[Page]:
    """Open the gallery's page, which is empty."""
    for collection in database.list_collection_names():
        database[collection].delete_many({})
    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        page = context.new_page()
        page.set_default_timeout(15_000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.locator("#empty").wait_for()
        yield page
        assert errors == []


def left(database: Database[dict[str, Any]]) -> dict[str, int]:
    """Count the stored data."""
    names = ("items", "media.files", "media.chunks", "thumbnails.files")
    return {name: database[name].count_documents({}) for name in names}


def one(chunks: int = 1) -> dict[str, int]:
    """Return the counts of one picture."""
    return {"items": 1, "media.files": 1, "media.chunks": chunks, "thumbnails.files": 1}


NOTHING = {"items": 0, "media.files": 0, "media.chunks": 0, "thumbnails.files": 0}


def screenshot(page: Page, state: str) -> None:
    """Set GALLERY_PICTURES=examples/gallery/pictures to take the pictures of docs/gallery.md anew."""
    if folder := os.environ.get("GALLERY_PICTURES"):
        page.screenshot(path=Path(folder) / f"{state}.png")


def file(name: str, content: bytes, kind: str = "") -> FilePayload:
    return {"name": name, "mimeType": kind, "buffer": content}


def limit_throughput(page: Page, *, upload: int = -1, download: int = -1) -> None:
    """Limit the bytes per second. -1 removes the limit."""
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": download, "uploadThroughput": upload}
    network.send("Network.emulateNetworkConditions", limits)


def choose(page: Page, button: str, *files: FilePayload) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator(button).click()
    chooser.value.set_files(list(files))


def drop(page: Page, *files: FilePayload) -> None:
    """Drop files on the page, as the mouse would."""
    sent = [
        {"name": each["name"], "type": each["mimeType"], "content": base64.b64encode(each["buffer"]).decode()}
        for each in files
    ]
    carried = page.evaluate_handle(
        """async (files) => {
            const carried = new DataTransfer();
            for (const { name, type, content } of files) {
                const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
                carried.items.add(new File([bytes], name, { type }));
            }
            return carried;
        }""",
        sent,
    )
    page.dispatch_event("main", "dragenter", {"dataTransfer": carried})
    page.locator("#drop").wait_for()
    page.dispatch_event("main", "drop", {"dataTransfer": carried})
    page.locator("#drop").wait_for(state="hidden")


def test_a_dropped_file_appears_and_is_there_when_the_page_is_loaded_again(
    page: Page, database: Database[dict[str, Any]]
) -> None:
    drop(page, file("Noon.jpg", as_file(mountains(12), "JPEG"), "image/jpeg"))
    for _ in range(2):
        item = page.locator(".item")
        item.wait_for()
        assert item.locator(".name").inner_text() == "Noon.jpg"
        assert item.locator(".meta").inner_text().startswith("JPEG · ")
        shown = item.locator("img").evaluate("async (picture) => (await picture.decode(), picture.naturalWidth)")
        assert shown == 480  # the thumbnail
        assert page.locator("#empty").is_hidden()
        page.reload()
    assert left(database)["media.files"] == 1


def test_an_upload_shows_how_far_it_is_and_leaves_nothing_when_it_is_cancelled(
    page: Page, database: Database[dict[str, Any]]
) -> None:
    limit_throughput(page, upload=400_000)
    content = as_file(Image.effect_noise((2000, 2000), 100), "PNG")
    drop(page, file("Large.png", content, "image/png"))
    upload = page.locator(".upload")
    upload.locator(".state", has_text=re.compile(r"^[1-9]\d? % of")).wait_for()
    assert 0 < upload.locator("progress").evaluate("(bar) => bar.value") < 1
    upload.get_by_title("Cancel").click()
    upload.wait_for(state="detached")
    limit_throughput(page)
    # The next upload is the only one, because the cancelled one was rolled back.
    drop(page, file("Small.png", as_file(mountains(6, width=40, height=30), "PNG"), "image/png"))
    page.locator(".item").wait_for()
    assert page.locator(".item .name").all_inner_texts() == ["Small.png"]
    assert left(database) == one()


def test_an_upload_goes_on_after_a_pause_after_a_reload_and_after_the_service_was_gone(
    page: Page, mongodb_uri: str, database: Database[dict[str, Any]], tmp_path: Path
) -> None:
    content = as_file(Image.effect_noise((1100, 1100), 100), "PNG")
    path = tmp_path / "Large.png"
    path.write_bytes(content)

    def begin() -> None:
        with page.expect_file_chooser() as chooser:
            page.locator("#choose").click()
        chooser.value.set_files(path)

    def stored() -> int:
        return int((database["media.uploads"].find_one() or {"offset": 0})["offset"])

    upload = page.locator(".upload")
    state = upload.locator(".state")
    with started(mongodb_uri, database.name) as url:
        page.goto(url)
        limit_throughput(page, upload=400_000)
        begin()
        state.filter(has_text=re.compile(r"^[1-9]\d % of")).wait_for()
        upload.get_by_title("Pause").click()
        state.filter(has_text="Paused at").wait_for()
        screenshot(page, "paused")
        upload.get_by_title("Resume").click()
        state.filter(has_text=re.compile(r"^[23]\d % of")).wait_for()
        assert 0 < stored() < len(content)
        page.reload()
        limit_throughput(page, upload=400_000)
        begin()  # the page remembers the file
        state.filter(has_text=re.compile(r"^[3-9]\d % of")).wait_for()
    state.filter(has_text="Waiting for the server").wait_for()
    screenshot(page, "waiting")
    limit_throughput(page)
    with started(mongodb_uri, database.name, port=int(url.rpartition(":")[2])):
        page.locator(".item", has_text="Large.png").wait_for()
        [item] = page.request.get(f"{url}/items").json()
        assert page.request.get(url + item["url"]).body() == content
    assert left(database) == one(chunks=-(-len(content) // (255 * 1024)))


def test_items_are_searched_and_shown_in_pages(page: Page, database: Database[dict[str, Any]]) -> None:
    from playwright.sync_api import expect

    picture = as_file(mountains(12, width=40, height=30), "PNG")
    choose(page, "#add", file("First.png", picture, "image/png"))
    page.locator(".item").wait_for()
    # As many more as a page has, of the same file.
    item = database["items"].find_one() or {}
    database["items"].insert_many(
        [{**item, "_id": ObjectId(f"7{at:023x}"), "name": f"More (.*) {at}.png"} for at in range(24)]
    )
    page.reload()
    page.locator("#more").wait_for()
    assert page.locator(".item").count() == 24
    assert page.locator("#summary").inner_text().startswith("25 items")
    page.locator("#more").click()
    page.locator(".item", has_text="First.png").wait_for()
    assert page.locator("#more").is_hidden()
    for words, found in (("FIRST", 1), ("(.*) 1", 11), ("nothing", 0)):
        page.locator("#search").fill(words)
        expect(page.locator(".item")).to_have_count(found)
        expect(page.locator("#none")).to_be_visible(visible=found == 0)
    screenshot(page, "search")
    assert page.locator("#empty").is_hidden()


def test_a_link_shows_one_file_until_it_ends(page: Page, browser: Browser, url: str) -> None:
    from playwright.sync_api import expect

    content = as_file(mountains(12, width=400, height=300), "PNG")
    choose(page, "#add", file("Käse & Brot.png", content, "image/png"))
    page.locator(".item [data-act=share]").click()
    link = page.locator("#share input")
    expect(link).to_have_value(re.compile("signature="))
    screenshot(page, "link")
    address = link.input_value()
    assert address.startswith(url + "/shared/")
    with browser.new_context() as context:
        answer = context.request.get(address)
        assert (answer.status, answer.body()) == (200, content)
        assert "K%C3%A4se" in answer.headers["content-disposition"]
        assert 86_000 < int(re.search(r"max-age=(\d+)", answer.headers["cache-control"])[1]) <= 86_400  # type: ignore[index]  # it matches
        for forged in (address.replace("expires=", "expires=9"), address.partition("?")[0]):
            assert context.request.get(forged).status == 403
    page.locator("#share select").select_option("1")
    expect(link).not_to_have_value(address)


def test_a_video_plays_and_can_be_sought_in(page: Page, tmp_path: Path) -> None:
    noise = [Image.effect_noise((320, 240), 80 + at) for at in range(2)]
    content = webm([noise[at % 2] for at in range(100)], 1)
    assert len(content) > 4_000_000
    limit_throughput(page, download=200_000)  # or all of it would be there before it is sought in
    ranges: list[str] = []
    page.on("request", lambda request: ranges.append(request.headers.get("range", "")))
    statuses: list[tuple[str, int]] = []
    page.on("response", lambda answer: statuses.append((answer.url, answer.status)))
    (tmp_path / "Noise.webm").write_bytes(content)
    with page.expect_file_chooser() as chooser:
        page.locator("#choose").click()
    chooser.value.set_files(tmp_path / "Noise.webm")
    page.locator(".item .badge", has_text="1:40").wait_for()
    page.locator(".item .open").click()
    video = page.locator("#viewer video")
    video.evaluate(
        "(video) => new Promise((playing) => { video.ontimeupdate = () => video.currentTime > 0.2 && playing() })"
    )
    sought = video.evaluate(
        """(video) => new Promise((sought) => {
            video.onseeked = () => sought([video.currentTime, video.readyState >= 2, video.error]);
            video.currentTime = 90;
        })"""
    )
    assert sought == [pytest.approx(90, abs=1), True, None]
    starts = [int(each.removeprefix("bytes=").partition("-")[0]) for each in ranges if each]
    assert max(starts) > len(content) / 2
    assert {status for url, status in statuses if "/file?" in url} == {206}
    page.keyboard.press("Escape")
    page.locator("#viewer").wait_for(state="hidden")


def test_replacing_a_file_deletes_the_old_one(page: Page, database: Database[dict[str, Any]]) -> None:
    choose(page, "#add", file("Morning.png", as_file(mountains(7, width=400, height=300), "PNG"), "image/png"))
    page.locator(".item", has_text="Morning.png").wait_for()
    (old,) = database["media.files"].distinct("_id")
    choose(
        page, "[data-act=replace]", file("Night.jpg", as_file(mountains(23, width=80, height=60), "JPEG"), "image/jpeg")
    )
    item = page.locator(".item", has_text="Night.jpg")
    item.wait_for()
    assert item.locator("img").evaluate("async (picture) => (await picture.decode(), picture.naturalWidth)") == 80
    assert left(database) == one()
    assert database["media.files"].distinct("_id") != [old]


def test_a_file_is_downloaded_under_its_name(page: Page) -> None:
    content = as_file(mountains(19, width=40, height=30), "PNG")
    choose(page, "#add", file("Abendröte 1.png", content, "image/png"))
    with page.expect_download() as download:
        page.get_by_title("Download").click()
    assert download.value.suggested_filename == "Abendröte 1.png"
    assert download.value.path().read_bytes() == content


def test_an_item_is_deleted_after_a_question(page: Page, database: Database[dict[str, Any]]) -> None:
    choose(page, "#add", file("Gone.png", as_file(mountains(12, width=40, height=30), "PNG"), "image/png"))
    page.locator(".item [data-act=delete]").click()
    page.get_by_role("button", name="Keep it").click()
    assert page.locator(".item").count() == 1
    page.locator(".item [data-act=delete]").click()
    page.locator("#confirm").get_by_role("button", name="Delete").click()
    page.locator("#empty").wait_for()
    assert left(database) == NOTHING


def test_a_file_that_is_not_a_picture_is_refused_with_a_reason(page: Page, database: Database[dict[str, Any]]) -> None:
    drop(page, file("Page.png", b"<html><script>alert(1)</script></html>", "image/png"))
    failed = page.locator(".upload.failed")
    failed.wait_for()
    words = failed.locator(".state").inner_text()
    assert words == "'Page.png' is not a PNG image (it looks like HTML), so nothing was stored"
    page.evaluate("Object.defineProperty(File.prototype, 'size', { get: () => 5e9 })")
    drop(page, file("Long.webm", b"a film of five gigabytes", "video/webm"))
    failed.filter(has_text="This file has 5 GB, and at most 4.3 GB fit here.").wait_for()
    screenshot(page, "refused")
    assert left(database) == NOTHING


def test_the_picture_of_the_gallery_for_the_readme(page: Page, tmp_path: Path) -> None:
    """Set GALLERY_PICTURE=examples/gallery/gallery.png to take it anew."""
    shots = [
        ("Dawn", 5.2, 0.0),
        ("Morning", 7.0, 1.3),
        ("Noon", 12.0, 2.1),
        ("Afternoon", 16.0, 3.2),
        ("Evening", 18.2, 0.7),
        ("Dusk", 20.2, 4.4),
    ]
    for number, (name, hour, place) in enumerate(shots):
        picture = mountains(hour, place=place, marmot=number % 2 == 1)
        drop(page, file(f"{name}.jpg", as_file(picture, "JPEG"), "image/jpeg"))
        page.locator(".item", has_text=name).wait_for()
    drop(page, file("One day.webm", video_of_a_day(18), "video/webm"))
    page.locator(".badge", has_text="0:04").wait_for()
    night = mountains(22.5, place=5, marmot=True)
    drop(page, file("Night.jpg", as_file(night, "JPEG"), "image/jpeg"))
    page.locator(".item", has_text="Night").wait_for()
    page.locator(".upload").wait_for(state="detached")
    for shown in page.locator(".item img").all():
        shown.evaluate("(picture) => picture.decode()")
    path = Path(os.environ.get("GALLERY_PICTURE") or tmp_path / "gallery.png")
    page.screenshot(path=path)
    assert path.stat().st_size < 300_000
    with Image.open(path) as taken:
        assert taken.size == (1280, 800)
        assert len(taken.convert("RGB").getcolors(1 << 24) or []) > 2000  # pictures, and not their absence
