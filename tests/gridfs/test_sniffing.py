"""The types that the first bytes of a file show, and how `content_types` checks a declared type with them."""

from __future__ import annotations

import codecs
import gzip
import io
import wave
import zipfile
from typing import Any

import pytest
from PIL import Image

from gridproxy import BadOption, ContentTypeRefused
from gridproxy.gridfs.content.limits import Limits, checked_content_types
from gridproxy.gridfs.content.sniffing import _known_types, has_signature, sniff
from gridproxy.gridfs.records.media_types import canonical_type


def picture(kind: str) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(target, kind)
    return target.getvalue()


def zipped() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    return target.getvalue()


def waved() -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(100))
    return target.getvalue()


PNG, JPEG, GIF, BMP = map(picture, ("PNG", "JPEG", "GIF", "BMP"))
HTML = b"<!DOCTYPE html><html><script>alert(1)</script></html>"
SVG = b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"></svg>'
TEXT = b"a;b\n1;2\n"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\x00"
EXE = b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff" + bytes(100)
UNKNOWN = b"\xa7\x00\x01" * 20


def stored_type(head: bytes, declared: str | None, *allowed: str) -> str | None:
    return Limits(content_types=checked_content_types(allowed)).checked_type(declared, head)


@pytest.mark.parametrize(
    ("head", "declared", "allowed"),
    [
        (PNG, "image/png", "image/png"),
        (PNG, "image/x-png", "image/png"),
        (PNG, "IMAGE/PNG; charset=binary", "image/*"),
        (JPEG, "image/jpeg", "image/*"),
        (JPEG, "image/jpg", "image/jpeg"),
        (GIF, "image/gif", "*/*"),
        (BMP, "image/bmp", "image/*"),
        (PDF, "application/pdf", "application/pdf"),
        (zipped(), "application/zip", "application/zip"),
        (zipped(), "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "application/*"),
        (gzip.compress(TEXT, mtime=0), "application/gzip", "application/x-gzip"),
        (waved(), "audio/wav", "audio/*"),
        (SVG, "image/svg+xml", "image/*"),
        (SVG, "application/xml", "application/xml"),
        (HTML, "text/html", "text/*"),
        (TEXT, "text/csv", "text/csv"),
        (TEXT, "text/plain", "text/*"),
        (b"", "text/plain", "text/*"),
        (b'{"a": 1}', "application/json", "application/json"),
        (b"BM, or MZ, or GIF", "text/plain", "text/*"),
        ("käse".encode("latin-1"), "text/plain", "text/*"),
        ("käse".encode()[:2], "text/plain", "text/*"),  # cut inside a character
        (codecs.BOM_UTF8 + b"a,b", "text/csv", "text/*"),
        ("a,b".encode("utf-16"), "text/csv", "text/*"),
        (UNKNOWN, "application/vnd.acme.notes", "application/vnd.acme.notes"),
        (zipped(), "application/vnd.acme.notes", "application/vnd.acme.notes"),
        (EXE, "application/octet-stream", "application/octet-stream"),
    ],
)
def test_a_declared_type_that_the_bytes_confirm_is_stored(head: bytes, declared: str, allowed: str) -> None:
    assert stored_type(head, declared, allowed) == declared


@pytest.mark.parametrize(
    ("head", "declared", "allowed", "found"),
    [
        # Not one of the allowed types
        (PNG, "image/png", "image/gif", "image/png"),
        (HTML, "text/html", "image/*", "text/html"),
        (PNG, None, "application/pdf", "image/png"),
        (UNKNOWN, None, "image/*", None),
        (EXE, "application/octet-stream", "image/*", None),
        # A wrong declaration
        (GIF, "image/png", "image/*", "image/gif"),
        (HTML, "image/png", "image/png", "text/html"),
        (TEXT, "image/png", "image/*", "text/plain"),
        (b"BM, a text", "image/bmp", "image/*", "text/plain"),
        (UNKNOWN, "image/png", "image/*", None),
        (b"", "image/png", "image/*", "text/plain"),
        (HTML, "text/plain", "text/*", "text/html"),
        (HTML, "application/xml", "application/xml", "text/html"),
        (SVG, "text/plain", "text/*", "image/svg+xml"),
        (HTML, "application/vnd.acme.notes", "application/vnd.acme.notes", "text/html"),
        (PNG, "text/plain", "text/*", "image/png"),
        (JPEG[:3], "text/plain", "text/*", "image/jpeg"),
        # A type without a known signature is not accepted by a pattern
        (UNKNOWN, "image/x-acme", "image/*", None),
    ],
)
def test_a_type_that_is_not_allowed_or_wrongly_declared_is_refused(
    head: bytes, declared: str | None, allowed: str, found: str | None
) -> None:
    with pytest.raises(ContentTypeRefused) as caught:
        stored_type(head, declared, allowed)
    assert caught.value.limit == (allowed,)
    if found is not None:
        assert caught.value.actual == found


def test_an_undeclared_type_is_found_in_the_bytes() -> None:
    assert stored_type(PNG, None, "image/*") == "image/png"
    assert stored_type(PNG, "application/octet-stream", "image/*") == "image/png"
    assert stored_type(TEXT, None, "text/*") == "text/plain"
    assert str(stored_type(zipped(), None, "application/*")).endswith("wordprocessingml.document")


def test_without_a_limit_the_bytes_are_not_inspected() -> None:
    assert Limits().checked_type("image/png", HTML) == "image/png"


@pytest.mark.parametrize("types", [(), "image", ("image/png", 7), "image/png;q=1", 7, ("*/png",)])
def test_invalid_patterns_are_refused_when_they_are_declared(types: Any) -> None:
    with pytest.raises(BadOption, match="content_types"):
        checked_content_types(types)


def test_one_type_may_be_a_str_and_case_does_not_matter() -> None:
    assert checked_content_types("Image/PNG") == ("image/png",)
    assert checked_content_types(iter(["image/*"])) == ("image/*",)
    assert checked_content_types(None) is None


def test_without_the_extra_the_declaration_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "puremagic", None)
    with pytest.raises(BadOption, match=r"pip install 'gridproxy-mongo\[sniff\]'"):
        checked_content_types("image/png")


def test_several_names_of_one_type_are_equal() -> None:
    assert canonical_type("audio/x-wav") == canonical_type("Audio/Wave") == canonical_type("audio/vnd.wave")
    assert not sniff(UNKNOWN).types


def test_types_with_a_signature_are_known_with_puremagic_1_and_2(monkeypatch: pytest.MonkeyPatch) -> None:
    # Version 2 has the tables of signatures in `puremagic.main` alone.
    monkeypatch.delattr("puremagic.magic_header_array", raising=False)
    monkeypatch.delattr("puremagic.magic_footer_array", raising=False)
    _known_types.cache_clear()
    assert has_signature("image/png")
    assert has_signature("text/html")
    assert not has_signature("application/vnd.acme.notes")
