"""Which types are honest for a file, which are lies, and which type a file gets that nobody declared."""

from __future__ import annotations

import mimetypes
import time

import pytest

from gridproxy import BadOption, Bucket, ContentTypeRefused, FileInfo
from gridproxy.gridfs.content.limits import Limits, checked_content_types, likeliest_type
from gridproxy.gridfs.content.sniffing import HEAD_BYTES, sniff
from gridproxy.gridfs.records.media_types import NAMES, describe_type, type_by_name

from ..observing import Database
from .writers import DRAWING, FILES, HONEST, written, zipped

HTML = b"<!DOCTYPE html><html><body onload='alert(1)'></body></html>"
LIVE = '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def stored_type(head: bytes, *allowed: str, declared: str | None = None, filename: str | None = None) -> str | None:
    """Return the type that a field of the types `allowed` stores."""
    guesses = (None, type_by_name(filename)) if declared is None else None
    limits = Limits(content_types=checked_content_types(allowed))
    return limits.checked_type(declared, head[:HEAD_BYTES], guesses, filename)


def family(kind: str) -> str:
    return f"{kind.partition('/')[0]}/*"


# Honest declarations


def test_the_table_of_honest_declarations_is_long() -> None:
    assert len(HONEST) >= 250


@pytest.mark.parametrize(("name", "kind"), HONEST)
def test_an_honest_type_is_stored_as_declared(name: str, kind: str) -> None:
    head = written(name)
    assert stored_type(head, kind, declared=kind, filename=name) == kind
    assert stored_type(head, family(kind), declared=kind, filename=name) == kind
    assert likeliest_type((kind, None), head[:4096]) == kind


@pytest.mark.parametrize("name", [name for name, _, _ in FILES])
def test_a_file_without_a_declared_type_gets_that_of_its_name(name: str) -> None:
    guess = type_by_name(name)
    assert guess is not None
    assert stored_type(written(name), family(guess), filename=name) == guess
    assert stored_type(written(name), guess, filename=name) == guess


@pytest.mark.parametrize("name", [name for name, kinds, _ in FILES if not kinds.startswith(("text", "message"))])
def test_a_file_without_a_name_and_a_type_is_accepted_by_its_family(name: str) -> None:
    found = stored_type(written(name), "*/*")
    assert found is not None
    assert stored_type(written(name), family(found)) == found


@pytest.mark.parametrize(
    ("name", "allowed", "expected"),
    [
        ("voice.webm", "audio/*", "audio/webm"),
        ("isom.m4a", "video/*", "video/mp4"),
        ("a.mp4", "audio/*", "audio/mp4"),
        ("a.docx", "application/zip", "application/zip"),
    ],
)
def test_a_guess_by_name_gives_way_to_another_type_of_the_container(name: str, allowed: str, expected: str) -> None:
    head = written({"voice.webm": "voice.weba"}.get(name, name))
    assert stored_type(head, allowed, filename=name) == expected


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"OggS\0\2" + bytes(22) + b"\x80theora", "video/ogg"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500) + "EncryptedPackage".encode("utf-16-le"), WORD),
        (b"\0\0\0\x20moov" + bytes(40), "video/quicktime"),
        (b"\0\0\0\x08free" + bytes(40), "video/quicktime"),
        (bytes(8) + b"\2\0\2\0" + bytes(22) + b"LP" + bytes(9), "application/vnd.ms-fontobject"),
        (b"\x0b\x77\0\0\x40", "audio/ac3"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0avifmif1", "image/avif"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic"),
        (b"\0\0\0\x14ftypcrx \0\0\0\1crx ", "image/x-canon-cr3"),
        (b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0", "image/webp"),
        (zipped("META-INF/container.xml"), "application/epub+zip"),
        (zipped(mimetype="application/vnd.acme+zip"), "application/vnd.acme+zip"),
        (zipped("_rels/.rels"), WORD),  # the entries that show its kind may be further on
        (b"<math xmlns='http://www.w3.org/1998/Math/MathML'/>", "application/mathml+xml"),
        (b"<feed xmlns:h='http://www.w3.org/1999/xhtml'><h:script>a</h:script></feed>", "application/atom+xml"),
        (b"<feed xmlns:h='http://www.w3.org/1999/xhtml'><h:p>a</h:p></feed>", "application/atom+xml"),
    ],
)
def test_rare_containers_are_recognised(head: bytes, kind: str) -> None:
    assert stored_type(head, family(kind), declared=kind) == kind


def test_sound_frames_of_all_versions_are_mp3() -> None:
    for second in (0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2):
        head = bytes([0xFF, second, 0x50, 0xC4]) + bytes(400)
        assert stored_type(head, "audio/*", declared="audio/mpeg") == "audio/mpeg"


# Lies

_LIES = {
    "a.html": "image/png text/plain text/css text/csv text/markdown application/json video/mp4",
    "a.svg": "image/png text/plain text/css text/csv text/markdown application/json video/mp4",
    "a.png": "image/jpeg image/gif image/webp image/svg+xml text/plain application/pdf",
    "a.jpg": "image/png image/tiff image/heic video/mp4 text/html application/zip",
    "a.mp4": "image/heic image/avif video/webm audio/mpeg audio/ogg video/x-msvideo",
    "a.zip": f"{WORD} {SHEET} application/epub+zip application/x-7z-compressed image/png",
    "a.docx": f"{SHEET} application/epub+zip application/msword application/pdf",
    "a.odt": f"{WORD} application/vnd.oasis.opendocument.spreadsheet",
    "a.xls": f"{SHEET} application/pdf application/zip text/csv",
    "a.pdf": f"{WORD} application/msword image/png text/plain application/postscript",
    "a.mp3": "audio/wav audio/flac audio/ogg video/mp4 image/png text/plain",
    "a.gz": "application/zip application/x-tar application/x-xz text/plain",
    "a.webm": "video/mp4 audio/ogg image/webp",
    "a.csv": "image/png application/vnd.ms-excel application/pdf text/html",
    "a.ttf": "font/woff font/woff2 image/png",
    "a.wav": "video/x-msvideo image/webp audio/mpeg",
}
LIES = [(name, kind) for name, kinds in _LIES.items() for kind in kinds.split()]


def test_the_table_of_lies_is_long() -> None:
    assert len(LIES) >= 60


@pytest.mark.parametrize(("name", "kind"), LIES)
def test_a_wrong_type_is_refused_by_name_and_by_family(name: str, kind: str) -> None:
    for allowed in (kind, family(kind), "*/*"):
        with pytest.raises(ContentTypeRefused, match="is not "):
            stored_type(written(name), allowed, declared=kind)


@pytest.mark.parametrize(("name", "allowed"), [("a.pdf", "text/*"), ("a.ps", "image/*"), ("a.eps", "image/*")])
def test_another_name_of_a_type_lets_nothing_into_a_foreign_family(name: str, allowed: str) -> None:
    with pytest.raises(ContentTypeRefused):
        stored_type(written(name), allowed, filename=name)


# Markup that a browser would run

BEFORE = {
    "nothing": "",
    "blank lines": "\r\n\t \n",
    "a byte order mark": "\ufeff",
    "invisible characters": "\u200b\u2060\ufeff\xa0",
    "a comment with >": "<!-- a > b -->",
    "a comment with a tag": "<!-- <p> -- -->",
    "a comment that ends at once": "<!-->",
    "a comment that XML ends elsewhere": "<!--> hidden -->",
    "a comment that ends with !": "<!-- a --!>",
    "many comments": "<!-- -->" * 2000,
    "an instruction": "<?xml version='1.0' encoding='latin-1'?>",
    "an instruction with >": "<?note a > b?>",
    "a document type": "<!DOCTYPE svg>",
    "entities": "<!DOCTYPE svg [<!ENTITY a '>]'> <!-- ]> ' --> <!ENTITY b \"]>\">]>",
    "a public document type": '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/svg11.dtd">',
    "an end tag": "</p>",
    "a declaration": "<!foo bar>",
    "all of them": "\ufeff\n<?xml version='1.0'?><!-- > --><!DOCTYPE svg [<!ENTITY a 'b'>]><!---->\n",
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_markup_is_never_let_in_as_text(before: str, encoding: str) -> None:
    for element in (LIVE, "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<p><iframe src=x>", "<x:svg >"):
        head = f"{before}{element}".encode(encoding, "ignore")
        for declared in ("text/plain", "text/markdown", "text/csv", "application/json"):
            with pytest.raises(ContentTypeRefused):
                stored_type(head, family(declared), declared=declared)
            with pytest.raises(ContentTypeRefused):
                stored_type(head, declared, declared=declared)


@pytest.mark.parametrize("filler", [" ", "<!-- -->", "<!-- ", "<!DOCTYPE a [ <!-- -->"])
def test_markup_behind_the_inspected_bytes_is_not_let_in_as_text(filler: str) -> None:
    content = (filler * HEAD_BYTES)[:HEAD_BYTES].encode() + b"--> ]>" + LIVE.encode()
    with pytest.raises(ContentTypeRefused):
        stored_type(content, "text/*", declared="text/plain")


@pytest.mark.parametrize(
    "text",
    [
        "1 < 2 and <script> is a tag",
        "print('<svg onload=alert(1)>')",
        "# Title\n<script>alert(1)</script>",
        "<h1 align='center'>Marmots</h1>\n\nText",
        "<user@example.com> wrote",
        "<!-- only a comment -->",
        "",
    ],
)
def test_text_that_speaks_of_markup_is_text(text: str) -> None:
    assert stored_type(text.encode(), "text/*", declared="text/markdown") == "text/markdown"


@pytest.mark.parametrize(
    "part", ["<", "<!--", "<!DOCTYPE a [", "<?", "'", '"', "<a ", " on", "</a>", "[<!--", "PK\3\4"]
)
def test_crafted_bytes_are_inspected_quickly(part: str) -> None:
    began = time.process_time()
    for prefix in ("", "<!DOCTYPE a [", "<p ", "PK\3\4"):
        sniff((prefix + part * HEAD_BYTES).encode()[:HEAD_BYTES])
    assert time.process_time() - began < 2


# The order: explicit, declared, name, bytes


@pytest.mark.parametrize(
    ("declared", "filename", "content", "expected"),
    [
        ("video/3gpp", "film.3gp", "a.3gp", "video/3gpp"),
        ("audio/webm", "voice.webm", "voice.weba", "audio/webm"),
        ("audio/webm; codecs=opus", "voice.webm", "voice.weba", "audio/webm; codecs=opus"),
        ("text/plain", "notes.md", "a.md", "text/plain"),
        ("application/octet-stream", "a.docx", "a.docx", WORD),
        ("application/x-zip-compressed", "a.docx", "a.docx", WORD),
        ("application/vnd.ms-excel", "a.csv", "a.csv", "text/csv"),  # a browser on Windows with Excel
        ("image/png", "a.jpg", "a.jpg", "image/jpeg"),
        ("image/png", None, "a.jpg", "image/jpeg"),
        ("text/plain", None, "a.html", None),
        ("image/svg+xml", None, "latin.svg", "image/svg+xml"),
        ("application/vnd.acme", "a.png", "a.png", "application/vnd.acme"),
        ("", "a.MTS", "a.MTS", "video/mp2t"),
        (None, "a.unheard", "a.png", "image/png"),
        (None, None, "a.pdf", "application/pdf"),
        (None, None, "a.txt", None),
        (None, "a.png", "a.txt", "image/png"),
        ("nonsense", "a.png", "a.txt", "image/png"),
    ],
)
async def test_a_specific_declared_type_comes_before_the_name_and_the_bytes(
    declared: str | None, filename: str | None, content: str, expected: str | None, database: Database
) -> None:
    class Sent:
        content_type = declared

        def __init__(self) -> None:
            self.filename = filename
            self._content = written(content)

        def read(self, size: int) -> bytes:
            piece, self._content = self._content[:size], self._content[size:]
            return piece

    bucket = Bucket(database)
    assert (await bucket.upload(Sent())).content_type == expected
    assert (await bucket.upload(Sent(), content_type="a/b")).content_type == "a/b"
    assert [info.content_type for info in await bucket.upload_many([Sent()])] == [expected]


async def test_an_opened_upload_without_a_name_gets_the_type_of_its_bytes(database: Database) -> None:
    async with Bucket(database).open_upload() as writer:
        for byte in written("a.png"):
            await writer.write(bytes([byte]))
    assert writer.info is not None
    assert writer.info.content_type == "image/png"


# Names


def test_names_have_the_same_types_on_every_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mimetypes, "_db", None)
    monkeypatch.setattr(mimetypes, "knownfiles", ["/etc/mime.types"])
    mimetypes.add_type("model/vnd.mts", ".mts")
    expected = {
        "a.docx": WORD,
        "a.xlsx": SHEET,
        "a.odt": "application/vnd.oasis.opendocument.text",
        "a.mkv": "video/x-matroska",
        "a.flac": "audio/flac",
        "a.woff2": "font/woff2",
        "a.epub": "application/epub+zip",
        "a.webp": "image/webp",
        "a.md": "text/markdown",
        "x.MTS": "video/mp2t",
        "C:\\photos\\a.HEIC": "image/heic",
        "a.m4a": "audio/mp4",
        "a.3gp": "video/3gpp",
        "a.avi": "video/x-msvideo",
        ".png": None,
    }
    assert {name: type_by_name(name) for name in expected} == expected
    assert len(NAMES) > 300


@pytest.mark.parametrize("kind", sorted(set(NAMES.values())))
def test_every_type_of_a_name_is_a_valid_pattern(kind: str) -> None:
    assert checked_content_types(kind) == (kind,)


# Records of other writers


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"metadata": {"_contentType": "image/png"}}, "image/png"),  # Spring
        ({"metadata": {"mimetype": "image/png"}}, "image/png"),
        ({"metadata": {"mimeType": "image/png"}}, "image/png"),
        ({"metadata": {"type": "image/png"}}, "image/png"),
        ({"metadata": {"type": "portrait"}, "filename": "a.png"}, "image/png"),
        ({"metadata": {"Content-Type": "image/png"}}, "image/png"),
        ({"metadata": {"contentType": ""}, "contentType": "image/png"}, "image/png"),
        ({"metadata": {"content_type": " ", "contentType": "image/png"}}, "image/png"),
        ({"metadata": {"content_type": 7}, "mimetype": "image/png"}, "image/png"),
        ({"contentType": "image/png"}, "image/png"),
        ({"content_type": "image/png"}, "image/png"),
        ({"format": "PNG"}, "image/png"),  # MongoEngine
        ({"metadata": {"format": "JPEG"}}, "image/jpeg"),
        ({"format": "letter"}, None),
        ({"filename": "a.docx"}, WORD),
        ({"filename": "a.docx", "metadata": {"content_type": "application/octet-stream"}}, "application/octet-stream"),
        ({"filename": "notes"}, None),
    ],
)
def test_the_type_is_found_where_other_writers_put_it(record: dict[str, object], expected: str | None) -> None:
    info = FileInfo.from_record({"_id": 1, "length": 0, "chunkSize": 1, **record})
    assert info.content_type == expected
    assert FileInfo.from_snapshot(info.snapshot()).content_type == expected


# Messages


@pytest.mark.parametrize(
    ("limits", "declared", "filename", "message"),
    [
        (Limits(), "image/png", None, "This is not a PNG image (it looks like HTML), so nothing was stored"),
        (Limits(field="photo"), "image/png", None, "photo: this is not a PNG image (it looks like HTML), so "),
        (Limits(field="photo"), "image/png", "a.png", "photo: 'a.png' is not a PNG image (it looks like HTML), so "),
        (
            Limits(),
            "text/html",
            "a.html",
            "'a.html' is HTML, which is not allowed here (allowed: images (image/*), a PDF document), so ",
        ),
        (Limits(), WORD, "a.docx", "'a.docx' is a Word document, which is not allowed here (allowed: "),
    ],
)
def test_a_refusal_names_the_file_or_the_field_and_both_types(
    limits: Limits, declared: str, filename: str | None, message: str
) -> None:
    with pytest.raises(ContentTypeRefused) as caught:
        Limits(field=limits.field, content_types=("image/*", "application/pdf")).checked_type(
            declared, HTML, None, filename
        )
    assert str(caught.value).startswith(message)


def test_a_plain_zip_is_not_called_a_word_document() -> None:
    with pytest.raises(ContentTypeRefused, match="is a ZIP file"):
        stored_type(written("a.zip"), "image/*")
    with pytest.raises(ContentTypeRefused, match=r"is not a Word document \(it looks like a ZIP file\)"):
        stored_type(written("a.zip"), WORD, declared=WORD)


@pytest.mark.parametrize("kind", ["image/png", "audio/flac", "a/b", "video/*", "*/*", "application/x-foo"])
def test_every_type_can_be_described(kind: str) -> None:
    assert describe_type(kind)


def test_an_old_ebook_and_a_drawing_are_recognised() -> None:
    assert stored_type(bytes(60) + b"BOOKMOBI", "application/*") == "application/mobipocket-ebook"
    assert stored_type(DRAWING.encode(), "image/*") == "image/svg+xml"


@pytest.mark.parametrize("filename", ["C:\\Users\\me\\x.pdf", "\\\\server\\share\\x.pdf", "C:\\x.pdf"])
async def test_a_path_on_a_windows_client_is_its_last_part(filename: str, database: Database) -> None:
    class Sent:
        def read(self, size: int) -> bytes:
            return b""

    sent = Sent()
    sent.filename = filename  # type: ignore[attr-defined]  # as Starlette's UploadFile has it
    assert (await Bucket(database).upload(sent)).filename == "x.pdf"
    with pytest.raises(BadOption, match="NUL"):
        sent.filename = "a\0b"  # type: ignore[attr-defined]  # see above
        await Bucket(database).upload(sent)
