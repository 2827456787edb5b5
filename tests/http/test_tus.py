"""The rules of the tus protocol, without a server."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime

import pytest

from gridproxy.http import tus
from gridproxy.http.tus import Checksum, Creation, Patch, TusRefused

TYPE = {"content-type": "application/offset+octet-stream"}


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", {}),
        ("filename d29ybGQ=", {"filename": "world"}),
        (
            f"filename {b64('Käse/ö.txt')},filetype {b64('text/plain')}",
            {"filename": "Käse/ö.txt", "filetype": "text/plain"},
        ),
        ("is_confidential, filename d29ybGQ=", {"is_confidential": "", "filename": "world"}),
        ("empty ,other", {"empty": "", "other": ""}),
        (f"name {b64(chr(13) + chr(10) + 'X-Evil: 1')}", {"name": "\r\nX-Evil: 1"}),
    ],
)
def test_metadata_are_decoded(text: str, pairs: dict[str, str]) -> None:
    assert tus.parse_metadata(text) == pairs


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "a,,b",
        " a b c",
        "a YQ==,a YQ==",
        "a YQ==\r\nX-Evil: 1",
        "a\tYQ==",
        "a Y",
        "a YQ=",
        "a =YQ",
        "a Y Q",
        "a _-_-",
        "ä YQ==",
        f"a {b64(bytes([255, 254]))}",
        "a " + "A" * 9000,
        "\x00 YQ==",
    ],
)
def test_other_metadata_are_refused(text: str) -> None:
    with pytest.raises(TusRefused) as refused:
        tus.parse_metadata(text)
    assert refused.value.status == 400
    assert "\n" not in refused.value.reason


@pytest.mark.parametrize("number", ["0", "5", "9223372036854775807"])
def test_a_creation_is_read(number: str) -> None:
    fields = {"upload-length": number, "upload-metadata": " a YQ== ", **TYPE}
    assert tus.parse_creation(fields) == Creation(int(number), {"a": "a"}, "a YQ==", True, None)
    deferred = {"upload-defer-length": "1", "content-type": "text/plain"}
    assert tus.parse_creation(deferred) == Creation(None, {}, "", False, None)


NO_NUMBERS = ["", "-1", "+1", "1.0", "1e3", " 1", "0x10", "९", "9223372036854775808", "1" * 20, "1" * 5000, "1, 1"]


@pytest.mark.parametrize("number", NO_NUMBERS, ids=lambda number: number[:30])
def test_lengths_and_offsets_that_are_no_sizes_are_refused(number: str) -> None:
    for parse, fields in (
        (tus.parse_creation, {"upload-length": number}),
        (tus.parse_patch, {"upload-offset": number, **TYPE}),
        (tus.parse_patch, {"upload-offset": "0", "upload-length": number, **TYPE}),
    ):
        with pytest.raises(TusRefused) as refused:
            parse(fields)
        assert refused.value.status == 400


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"upload-length": "1", "upload-defer-length": "1"},
        {"upload-defer-length": "0"},
        {"upload-concat": "partial", "upload-length": "1"},
        {"upload-length": "1", "upload-checksum": "crc32 AAAA"},
        {"upload-length": "1", "upload-checksum": "sha1"},
        {"upload-length": "1", "upload-checksum": "sha1 ?"},
        {"upload-length": "1", "upload-checksum": "sha1 ä"},
    ],
    ids=str,
)
def test_other_creations_are_refused(fields: dict[str, str]) -> None:
    with pytest.raises(TusRefused) as refused:
        tus.parse_creation(fields)
        tus.parse_patch({**fields, **TYPE, "upload-offset": "0"})
    assert refused.value.status == 400


def test_a_patch_is_read() -> None:
    digest = hashlib.sha1(b"content", usedforsecurity=False).digest()
    fields = {"upload-offset": "7", "upload-length": "9", "upload-checksum": f"sha1 {b64(digest)}", **TYPE}
    patch = tus.parse_patch(fields)
    assert patch == Patch(7, 9, Checksum("sha1", digest))
    assert patch.checksum is not None
    found = patch.checksum.start()
    found.update(b"content")
    patch.checksum.check(found)
    found.update(b"!")
    with pytest.raises(TusRefused) as refused:
        patch.checksum.check(found)
    assert refused.value.status == 460


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"upload-offset": "0"}, 415),
        ({"upload-offset": "0", "content-type": "application/octet-stream"}, 415),
        ({"upload-offset": "0", **TYPE, "content-encoding": "gzip"}, 415),
        (TYPE, 400),
    ],
    ids=str,
)
def test_other_patches_are_refused(fields: dict[str, str], status: int) -> None:
    with pytest.raises(TusRefused) as refused:
        tus.parse_patch(fields)
    assert refused.value.status == status


def test_the_version_is_checked() -> None:
    tus.check_version({"tus-resumable": "1.0.0"})
    for other in ({}, {"tus-resumable": "0.2.2"}):
        with pytest.raises(TusRefused) as refused:
            tus.check_version(other)
        assert (refused.value.status, refused.value.fields) == (412, {"Tus-Version": "1.0.0"})


def test_what_is_answered() -> None:
    assert tus.method_of("POST", {"x-http-method-override": "patch"}) == "PATCH"
    assert tus.method_of("HEAD", {}) == "HEAD"
    assert tus.method_of("GET", {"x-http-method-override": "DELETE"}) == "GET"
    assert tus.options_fields(5)["Tus-Max-Size"] == "5"
    assert "Tus-Max-Size" not in tus.options_fields(None)
    assert tus.state_fields(3, None) == {
        "Upload-Offset": "3",
        "Cache-Control": "no-store",
        "Upload-Defer-Length": "1",
    }
    expires = datetime(2026, 11, 29, 12, tzinfo=UTC)
    assert tus.state_fields(3, 9, expires, "a YQ==") == {
        "Upload-Offset": "3",
        "Cache-Control": "no-store",
        "Upload-Length": "9",
        "Upload-Expires": "Sun, 29 Nov 2026 12:00:00 GMT",
        "Upload-Metadata": "a YQ==",
    }
