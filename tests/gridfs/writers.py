"""The first bytes of files that real programs wrote, and the media types that are honest for them."""

from __future__ import annotations

import bz2
import contextlib
import csv
import email.message
import gzip
import io
import json
import lzma
import plistlib
import sqlite3
import tarfile
import wave
import zipfile
from collections.abc import Callable
from functools import cache
from typing import Any

import av
import docx
import fpdf
import numpy as np
import odf.opendocument
import openpyxl
import pillow_heif
import pptx
import xlsxwriter
import xlwt
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.t2CharStringPen import T2CharStringPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

OOXML = "application/vnd.openxmlformats-officedocument."
ODF = "application/vnd.oasis.opendocument."
MP4 = "video/mp4 audio/mp4 audio/x-m4a application/mp4 video/quicktime video/3gpp audio/3gpp video/3gpp2 video/x-m4v"
WEBM = "video/webm audio/webm video/x-matroska audio/x-matroska"
OGG = "audio/ogg video/ogg application/ogg audio/opus audio/vorbis"
OLE = (
    "application/vnd.ms-excel application/msword application/vnd.ms-powerpoint application/x-ole-storage "
    "application/x-msi"
)
ZIP = "application/zip application/x-zip-compressed"
XML = "application/xml text/xml"


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    target = io.BytesIO()
    save(target)
    return target.getvalue()


def picture(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    return _saved(lambda target: Image.new(mode, (64, 48)).save(target, kind, **options))


def film(container: str, video: str | None, audio: str | None, options: dict[str, str] | None = None) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format=container, options=options or {}) as file:
        made: Any = file
        pictures = made.add_stream(video, rate=25) if video else None
        if pictures is not None:
            pictures.width, pictures.height = (176, 144) if video == "h263" else (64, 48)
            pictures.pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(video or "", "yuv420p")
        rate = 44100 if audio == "wmav2" else 48000
        sound = made.add_stream(audio, rate=rate) if audio else None
        if sound is not None:
            sound.bit_rate = 128_000
        if pictures is not None:
            for _ in range(3):
                frame = av.VideoFrame.from_ndarray(np.zeros((pictures.height, pictures.width, 3), np.uint8), "rgb24")
                file.mux(pictures.encode(frame))
            file.mux(pictures.encode())
        if sound is not None:
            layout, form = sound.codec_context.layout.name, sound.codec_context.format
            planes = 1 if not form.is_planar else len(sound.codec_context.layout.channels)
            width = len(sound.codec_context.layout.channels) if not form.is_planar else 1
            kind = {"flt": np.float32, "s16": np.int16, "s32": np.int32, "u8": np.uint8}[form.name.removesuffix("p")]
            silence = av.AudioFrame.from_ndarray(np.zeros((planes, 9216 * width), kind), form.name, layout)
            silence.sample_rate = rate
            resampler = av.AudioResampler(form, layout, rate, frame_size=sound.codec_context.frame_size or 1024)
            for each in [*resampler.resample(silence), *resampler.resample(None)]:
                file.mux(sound.encode(each))
            file.mux(sound.encode())
    return target.getvalue()


def zipped(*names: str, mimetype: str | None = None) -> bytes:
    def save(target: io.BytesIO) -> None:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            if mimetype is not None:
                archive.writestr("mimetype", mimetype, zipfile.ZIP_STORED)
            for name in names:
                archive.writestr(name, "<a/>" * 100)

    return _saved(save)


def workbook() -> bytes:
    return _saved(openpyxl.Workbook().save)


def workbook_of_another_writer() -> bytes:
    def save(target: io.BytesIO) -> None:
        with xlsxwriter.Workbook(target) as book:
            book.add_worksheet().write(0, 0, "marmot")

    return _saved(save)


def old_workbook() -> bytes:
    book = xlwt.Workbook()
    book.add_sheet("marmots").write(0, 0, "marmot")
    return _saved(book.save)


def open_document(kind: str) -> bytes:
    return _saved(getattr(odf.opendocument, f"OpenDocument{kind}")().save)


def font(flavor: str | None, outlines: str = "glyf") -> bytes:
    builder = FontBuilder(1000, isTTF=outlines == "glyf")
    builder.setupGlyphOrder([".notdef"])
    builder.setupCharacterMap({})
    if outlines == "glyf":
        builder.setupGlyf({".notdef": TTGlyphPen(None).glyph()})
    else:
        builder.setupCFF("Marmot", {}, {".notdef": T2CharStringPen(500, None).getCharString()}, {})
    builder.setupHorizontalMetrics({".notdef": (500, 0)})
    builder.setupHorizontalHeader()
    builder.setupNameTable({"familyName": "Marmot"})
    builder.setupOS2()
    builder.setupPost()
    builder.font.flavor = flavor
    return _saved(builder.save)


def pdf() -> bytes:
    document = fpdf.FPDF()
    document.add_page()
    return bytes(document.output())


def database() -> bytes:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE marmots (name)")
        return connection.serialize()


def tarred(form: int, packed: str = "") -> bytes:
    def save(target: io.BytesIO) -> None:
        mode: Any = f"w:{packed}"
        with tarfile.open(fileobj=target, mode=mode, format=form) as archive:
            archive.addfile(tarfile.TarInfo("a/marmot.txt"), io.BytesIO())

    return _saved(save)


def waved() -> bytes:
    def save(target: io.BytesIO) -> None:
        with wave.open(target, "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes(bytes(100))

    return _saved(save)


def message() -> bytes:
    made = email.message.EmailMessage()
    made["Subject"] = "Marmots"
    made.set_content("They whistle.")
    return bytes(made)


def table(dialect: str) -> bytes:
    target = io.StringIO()
    csv.writer(target, dialect).writerows([["name", "weight"], ["Mürmel", 5]])
    return target.getvalue().encode()


def high_efficiency() -> bytes:
    heif: Any = pillow_heif.from_pillow(Image.new("RGB", (64, 64)))
    return _saved(lambda target: heif.save(target, quality=50))


SVG = "image/svg+xml application/xml text/xml"
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>'
XHTML = b'<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml"><body/></html>'
DOCTYPE = (
    '<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/svg11.dtd" [\n'
    '<!ENTITY ns_svg "http://www.w3.org/2000/svg">\n<!-- it\'s > an entity -->\n]>\n<svg xmlns="&ns_svg;"></svg>'
)

# The name of a file, its honest types, and what writes it.
FILES: list[tuple[str, str, Callable[[], bytes]]] = [
    ("a.png", "image/png image/x-png", lambda: picture("PNG")),
    ("animated.apng", "image/apng image/png", lambda: picture("PNG", save_all=True)),
    ("a.jpg", "image/jpeg image/jpg image/pjpeg", lambda: picture("JPEG")),
    ("b.jpeg", "image/jpeg", lambda: picture("JPEG", "L", exif=Image.Exif().tobytes())),
    ("a.gif", "image/gif", lambda: picture("GIF", "P")),
    ("a.bmp", "image/bmp image/x-ms-bmp image/x-bmp", lambda: picture("BMP")),
    ("a.dib", "image/bmp", lambda: picture("BMP", "1")),
    ("a.tiff", "image/tiff image/tif", lambda: picture("TIFF")),
    ("fax.tif", "image/tiff", lambda: picture("TIFF", "1", compression="group4")),
    ("big.tif", "image/tiff", lambda: picture("TIFF", big_tiff=True)),
    ("a.webp", "image/webp", lambda: picture("WEBP")),
    ("lossless.webp", "image/webp", lambda: picture("WEBP", "RGBA", lossless=True)),
    ("a.avif", "image/avif", lambda: picture("AVIF")),
    ("a.heic", "image/heic image/heif image/heic-sequence", high_efficiency),
    ("b.heif", "image/heif image/heic", high_efficiency),
    ("a.ico", "image/vnd.microsoft.icon image/x-icon image/ico", lambda: picture("ICO", "RGBA")),
    ("a.icns", "image/x-icns image/icns", lambda: picture("ICNS", "RGBA")),
    ("a.jp2", "image/jp2 image/jpeg2000", lambda: picture("JPEG2000")),
    ("a.j2k", "image/j2c", lambda: picture("JPEG2000", no_jp2=True)),
    ("a.pcx", "image/x-pcx image/pcx", lambda: picture("PCX")),
    ("a.dds", "image/vnd-ms.dds", lambda: picture("DDS")),
    ("a.ppm", "image/x-portable-pixmap image/x-portable-anymap", lambda: picture("PPM")),
    ("a.pgm", "image/x-portable-graymap", lambda: picture("PPM", "L")),
    ("a.sgi", "image/x-rgb", lambda: picture("SGI")),
    ("a.xbm", "image/x-xbitmap", lambda: picture("XBM", "1")),
    ("a.eps", "application/postscript", lambda: picture("EPS")),
    ("by_pillow.pdf", "application/pdf application/x-pdf", lambda: picture("PDF")),
    ("mpo.jpg", "image/jpeg", lambda: picture("MPO")),
    ("a.svg", SVG, DRAWING.encode),
    ("commented.svg", SVG, f"<?xml version='1.0'?>\n<!-- a > b -->{DRAWING}".encode),
    ("entities.svg", SVG, DOCTYPE.encode),
    ("latin.svg", SVG, lambda: f"<?xml version='1.0' encoding='iso-8859-1'?><!-- é > -->{DRAWING}".encode("latin-1")),
    ("utf16.svg", SVG, lambda: DRAWING.encode("utf-16")),
    ("a.mp4", MP4, lambda: film("mp4", "mpeg4", "aac")),
    ("fragmented.mp4", MP4, lambda: film("mp4", "mpeg4", None, {"movflags": "frag_keyframe+empty_moov+dash"})),
    ("a.m4a", f"{MP4} audio/m4a audio/mp4a-latm audio/aac", lambda: film("ipod", None, "aac")),
    ("isom.m4a", f"{MP4} audio/aac", lambda: film("mp4", None, "aac", {"brand": "isom"})),
    ("mp42.m4a", MP4, lambda: film("mp4", None, "aac", {"brand": "mp42"})),
    ("3gp4.m4a", MP4, lambda: film("3gp", None, "aac", {"brand": "3gp4"})),
    ("a.3gp", MP4, lambda: film("3gp", "mpeg4", "aac")),
    ("a.3g2", MP4, lambda: film("3g2", "mpeg4", "aac")),
    ("a.mov", "video/quicktime video/mp4", lambda: film("mov", "mpeg4", "pcm_s16le")),
    ("a.webm", WEBM, lambda: film("webm", "libvpx", "libopus")),
    ("voice.weba", WEBM, lambda: film("webm", None, "libopus")),
    ("a.mkv", WEBM, lambda: film("matroska", "mpeg4", "aac")),
    ("a.mka", WEBM, lambda: film("matroska", None, "libopus")),
    ("a.ogg", OGG, lambda: film("ogg", None, "libopus")),
    ("a.opus", OGG, lambda: film("ogg", None, "libopus")),
    ("a.oga", OGG, lambda: film("oga", None, "libopus")),
    ("a.mp3", "audio/mpeg audio/mp3 audio/x-mp3", lambda: film("mp3", None, "libmp3lame")),
    ("frames.mp3", "audio/mpeg audio/mp3 audio/mpeg3", lambda: film("mp3", None, "libmp3lame", {"id3v2_version": "0"})),
    ("a.mp2", "audio/mpeg", lambda: film("mp2", None, "mp2")),
    ("a.aac", "audio/aac audio/x-aac audio/aacp", lambda: film("adts", None, "aac")),
    ("a.flac", "audio/flac audio/x-flac", lambda: film("flac", None, "flac")),
    ("a.wav", "audio/wav audio/x-wav audio/wave audio/vnd.wave", waved),
    ("b.wav", "audio/wav audio/x-wav", lambda: film("wav", None, "pcm_s16le")),
    ("a.aiff", "audio/aiff audio/x-aiff", lambda: film("aiff", None, "pcm_s16be")),
    ("a.au", "audio/basic audio/x-au", lambda: film("au", None, "pcm_s16be")),
    ("a.caf", "audio/x-caf", lambda: film("caf", None, "pcm_s16be")),
    ("a.ac3", "audio/ac3", lambda: film("ac3", None, "ac3")),
    ("a.wma", "audio/x-ms-wma video/x-ms-asf", lambda: film("asf", None, "wmav2")),
    ("a.wmv", "video/x-ms-wmv video/x-ms-asf", lambda: film("asf", "wmv2", "wmav2")),
    ("a.wv", "audio/x-wavpack", lambda: film("wv", None, "wavpack")),
    ("a.tta", "audio/x-tta", lambda: film("tta", None, "tta")),
    ("a.avi", "video/x-msvideo video/avi video/msvideo video/vnd.avi", lambda: film("avi", "mpeg4", "libmp3lame")),
    ("a.flv", "video/x-flv", lambda: film("flv", "flv1", "libmp3lame")),
    ("a.mpg", "video/mpeg video/mpg", lambda: film("mpeg", "mpeg1video", "mp2")),
    ("a.ts", "video/mp2t video/mpeg", lambda: film("mpegts", "mpeg2video", "mp2")),
    ("a.MTS", "video/mp2t", lambda: film("mpegts", "mpeg2video", "mp2", {"mpegts_m2ts_mode": "1"})),
    ("a.mxf", "application/mxf", lambda: film("mxf", "mpeg2video", "pcm_s16le")),
    ("a.xlsx", f"{OOXML}spreadsheetml.sheet {ZIP}", workbook),
    ("b.xlsx", f"{OOXML}spreadsheetml.sheet application/zip", workbook_of_another_writer),
    ("a.xlsm", "application/vnd.ms-excel.sheet.macroEnabled.12", workbook),
    ("a.xls", OLE, old_workbook),
    ("a.docx", f"{OOXML}wordprocessingml.document {ZIP}", lambda: _saved(docx.Document().save)),
    ("a.dotx", f"{OOXML}wordprocessingml.template", lambda: _saved(docx.Document().save)),
    ("a.pptx", f"{OOXML}presentationml.presentation {ZIP}", lambda: _saved(pptx.Presentation().save)),
    ("a.odt", f"{ODF}text application/zip", lambda: open_document("Text")),
    ("a.ods", f"{ODF}spreadsheet application/zip", lambda: open_document("Spreadsheet")),
    ("a.odp", f"{ODF}presentation application/zip", lambda: open_document("Presentation")),
    ("a.odg", f"{ODF}graphics application/zip", lambda: open_document("Drawing")),
    ("a.epub", "application/epub+zip application/zip", lambda: zipped("META-INF/x", mimetype="application/epub+zip")),
    ("a.zip", ZIP, lambda: zipped("marmot.txt")),
    ("empty.zip", ZIP, zipped),
    ("a.jar", "application/java-archive application/x-java-archive application/zip", lambda: zipped("META-INF/M")),
    ("a.apk", "application/vnd.android.package-archive", lambda: zipped("AndroidManifest.xml")),
    ("a.kmz", "application/vnd.google-earth.kmz", lambda: zipped("doc.kml")),
    ("a.cbz", "application/vnd.comicbook+zip application/x-cbz", lambda: zipped("1.jpg")),
    ("a.gz", "application/gzip application/x-gzip", lambda: gzip.compress(b"marmot")),
    ("a.bz2", "application/x-bzip2 application/bzip2 application/x-bzip", lambda: bz2.compress(b"marmot")),
    ("a.xz", "application/x-xz", lambda: lzma.compress(b"marmot")),
    ("a.lzma", "application/x-lzma", lambda: lzma.compress(b"marmot", lzma.FORMAT_ALONE)),
    ("a.tar", "application/x-tar application/x-gtar", lambda: tarred(tarfile.USTAR_FORMAT)),
    ("gnu.tar", "application/x-tar", lambda: tarred(tarfile.GNU_FORMAT)),
    ("pax.tar", "application/x-tar", lambda: tarred(tarfile.PAX_FORMAT)),
    ("a.tgz", "application/gzip application/x-gzip application/x-tgz", lambda: tarred(tarfile.PAX_FORMAT, "gz")),
    ("a.ttf", "font/ttf application/x-font-ttf font/sfnt", lambda: font(None)),
    ("a.otf", "font/otf application/x-font-otf application/vnd.ms-opentype", lambda: font(None, "CFF")),
    ("a.woff", "font/woff application/font-woff application/x-font-woff", lambda: font("woff")),
    ("a.woff2", "font/woff2 application/font-woff2", lambda: font("woff2")),
    ("a.pdf", "application/pdf application/x-pdf application/acrobat", pdf),
    ("bom.pdf", "application/pdf", lambda: b"\xef\xbb\xbf" + pdf()),
    ("blank.pdf", "application/pdf", lambda: b"\r\n\r\n  \n" + pdf()),
    ("spooled.pdf", "application/pdf", lambda: b"\x1b%-12345X@PJL\r\n" + pdf()),
    ("a.sqlite", "application/vnd.sqlite3 application/x-sqlite3", database),
    ("a.npy", "application/x-numpy", lambda: _saved(lambda target: np.save(target, np.zeros(3)))),
    ("a.plist", "application/x-plist", lambda: plistlib.dumps({"a": 1}, fmt=plistlib.FMT_BINARY)),
    ("xml.plist", f"application/x-plist {XML}", lambda: plistlib.dumps({"a": 1})),
    ("a.txt", "text/plain", "Mürmel\n".encode),
    ("latin.txt", "text/plain", lambda: "Mürmel\n".encode("latin-1")),
    ("utf16.txt", "text/plain", lambda: "Mürmel\n".encode("utf-16")),
    ("a.csv", "text/csv text/plain application/csv text/comma-separated-values", lambda: table("excel")),
    ("a.tsv", "text/tab-separated-values text/plain", lambda: table("excel-tab")),
    ("a.json", "application/json text/json", lambda: json.dumps({"a": 1}).encode()),
    ("a.geojson", "application/geo+json application/json", lambda: b'{"type": "FeatureCollection", "features": []}'),
    ("a.ndjson", "application/x-ndjson", lambda: b'{"a": 1}\n{"a": 2}\n'),
    ("a.md", "text/markdown text/x-markdown text/plain", lambda: b"# Marmots\n\nThey <b>whistle</b>.\n"),
    ("readme.md", "text/markdown", lambda: b'<!-- badges -->\n<p align="center"><img src="a.png"></p>\n\n# Marmots\n'),
    ("a.xml", XML, lambda: b"<?xml version='1.0'?><marmots/>"),
    ("feed.atom", f"application/atom+xml {XML}", lambda: b"<feed xmlns='http://www.w3.org/2005/Atom'/>"),
    ("a.html", "text/html", lambda: b"<!DOCTYPE html><html><body>Marmots</body></html>"),
    ("a.xhtml", f"application/xhtml+xml text/html {XML}", lambda: XHTML),
    ("a.css", "text/css", lambda: b"marmot { color: brown }"),
    ("a.js", "text/javascript application/javascript application/x-javascript", lambda: b"alert('<script>')"),
    ("a.yaml", "application/yaml text/yaml application/x-yaml text/x-yaml", lambda: b"marmots:\n  - one\n"),
    ("a.toml", "application/toml", lambda: b"[marmots]\na = 1\n"),
    ("a.sql", "application/sql", lambda: b"SELECT 1;\n"),
    ("a.sh", "application/x-sh", lambda: b"#!/bin/sh\necho marmot\n"),
    ("a.py", "text/x-python", lambda: b"print('<svg>')\n"),
    ("a.ics", "text/calendar", lambda: b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n"),
    ("a.vcf", "text/vcard text/x-vcard", lambda: b"BEGIN:VCARD\r\nEND:VCARD\r\n"),
    ("a.srt", "application/x-subrip text/srt", lambda: b"1\n00:00:00,000 --> 00:00:01,000\nMarmot\n"),
    ("a.vtt", "text/vtt", lambda: b"WEBVTT\n\n00:00.000 --> 00:01.000\nMarmot\n"),
    ("a.m3u8", "application/vnd.apple.mpegurl", lambda: b"#EXTM3U\n"),
    ("a.rtf", "application/rtf text/rtf", lambda: b"{\\rtf1\\ansi marmot}"),
    ("a.eml", "message/rfc822", message),
    ("a.ps", "application/postscript", lambda: b"%!PS-Adobe-3.0\nshowpage\n"),
    ("a.pem", "application/x-pem-file", lambda: b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
    ("empty.txt", "text/plain", lambda: b""),
]

HONEST = [(name, kind) for name, kinds, _ in FILES for kind in dict.fromkeys(kinds.split())]


@cache
def written(name: str) -> bytes:
    """Return what the writer of this file writes."""
    return next(write for each, _, write in FILES if each == name)()
