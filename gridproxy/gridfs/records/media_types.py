"""The one table of media types: names of files, other names of types, containers and signatures, as data.

It is the same on every host: the standard library's built-in table and this one, never the files of the system. Types
are in lower case. A canonical type has no parameters and no `x-` before its subtype.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping
from functools import cache
from posixpath import splitext

OCTET_STREAM = "application/octet-stream"


def words(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


# What senders use for bytes of a type that they do not know.
_UNSPECIFIC = words(
    "application/octet-stream application/binary application/data application/download application/force-download "
    "application/unknown application/undefined binary/octet-stream octet/stream application/www-form-urlencoded "
    "unknown/unknown content/unknown multipart/form-data"
)

_OOXML = "application/vnd.openxmlformats-officedocument."
_ODF = "application/vnd.oasis.opendocument."
_MS = "application/vnd.ms-"

# A type and the endings of names that have it. These come before the standard library's.
_ENDINGS: dict[str, str] = {
    # Documents
    "application/pdf": "pdf",
    "application/rtf": "rtf",
    "application/msword": "doc dot wiz",
    "application/vnd.ms-excel": "xls xlt xla xlb",
    "application/vnd.ms-powerpoint": "ppt pps pot ppa",
    "application/vnd.ms-outlook": "msg",
    "application/vnd.ms-project": "mpp mpt",
    "application/vnd.visio": "vsd vst vss",
    "application/vnd.ms-visio.drawing": "vsdx",
    "application/vnd.ms-xpsdocument": "xps",
    "application/oxps": "oxps",
    "application/onenote": "one",
    f"{_OOXML}wordprocessingml.document": "docx",
    f"{_OOXML}wordprocessingml.template": "dotx",
    f"{_MS}word.document.macroenabled.12": "docm",
    f"{_OOXML}spreadsheetml.sheet": "xlsx",
    f"{_OOXML}spreadsheetml.template": "xltx",
    f"{_MS}excel.sheet.macroenabled.12": "xlsm",
    f"{_MS}excel.sheet.binary.macroenabled.12": "xlsb",
    f"{_OOXML}presentationml.presentation": "pptx",
    f"{_OOXML}presentationml.slideshow": "ppsx",
    f"{_OOXML}presentationml.template": "potx",
    f"{_MS}powerpoint.presentation.macroenabled.12": "pptm",
    f"{_ODF}text": "odt",
    f"{_ODF}text-template": "ott",
    f"{_ODF}spreadsheet": "ods",
    f"{_ODF}spreadsheet-template": "ots",
    f"{_ODF}presentation": "odp",
    f"{_ODF}presentation-template": "otp",
    f"{_ODF}graphics": "odg",
    f"{_ODF}formula": "odf",
    f"{_ODF}base": "odb",
    "application/vnd.apple.pages": "pages",
    "application/vnd.apple.numbers": "numbers",
    "application/vnd.apple.keynote": "keynote",
    "application/epub+zip": "epub",
    "application/x-mobipocket-ebook": "mobi prc azw",
    "application/vnd.amazon.ebook": "azw3 kfx",
    "application/x-fictionbook+xml": "fb2",
    "application/vnd.comicbook+zip": "cbz",
    "application/vnd.comicbook-rar": "cbr",
    "image/vnd.djvu": "djvu djv",
    "application/postscript": "ps eps ai",
    "application/x-tex": "tex",
    "application/x-bibtex": "bib",
    # Text
    "text/plain": "txt text log conf cfg ini env properties lst def list in nfo",
    "text/html": "html htm",
    "application/xhtml+xml": "xhtml xht",
    "text/css": "css",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv tab",
    "text/markdown": "md markdown mdown mkd mkdn",
    "text/x-rst": "rst",
    "text/asciidoc": "adoc asciidoc",
    "text/org": "org",
    "text/calendar": "ics ifb",
    "text/vcard": "vcf vcard",
    "text/vtt": "vtt",
    "text/x-diff": "diff patch",
    "text/x-python": "py pyi pyw",
    "text/x-c": "c h",
    "text/x-c++": "cc cpp cxx hh hpp hxx",
    "text/x-java-source": "java",
    "text/x-go": "go",
    "text/x-rust": "rs",
    "text/x-ruby": "rb",
    "text/x-perl": "pl pm",
    "text/x-php": "php",
    "text/x-lua": "lua",
    "text/x-swift": "swift",
    "text/x-kotlin": "kt kts",
    "text/x-scala": "scala",
    "text/x-r": "r",
    "text/x-scss": "scss",
    "text/x-sass": "sass",
    "text/x-less": "less",
    "text/x-tcl": "tcl",
    "text/javascript": "js mjs cjs",
    "text/jsx": "jsx",
    "text/tsx": "tsx",
    "application/json": "json map",
    "application/ld+json": "jsonld",
    "application/geo+json": "geojson",
    "application/manifest+json": "webmanifest",
    "application/x-ipynb+json": "ipynb",
    "application/x-ndjson": "ndjson jsonl",
    "application/json5": "json5",
    "application/yaml": "yaml yml",
    "application/toml": "toml",
    "application/sql": "sql",
    "application/graphql": "graphql gql",
    "application/x-sh": "sh bash zsh",
    "application/x-powershell": "ps1",
    "application/x-bat": "bat cmd",
    "application/x-subrip": "srt",
    "text/x-ssa": "ssa ass",
    "application/xml": "xml xsd rng",
    "application/xslt+xml": "xslt xsl",
    "application/rss+xml": "rss",
    "application/atom+xml": "atom",
    "application/gpx+xml": "gpx",
    "application/vnd.google-earth.kml+xml": "kml",
    "application/gml+xml": "gml",
    "application/vnd.recordare.musicxml+xml": "musicxml",
    "application/mathml+xml": "mathml",
    "application/x-pem-file": "pem",
    "application/pgp-keys": "asc",
    "application/pgp-signature": "sig",
    "message/rfc822": "eml mht mhtml",
    "application/mbox": "mbox",
    "application/vnd.apple.mpegurl": "m3u8",
    "audio/mpegurl": "m3u",
    "audio/x-scpls": "pls",
    "application/dash+xml": "mpd",
    # Pictures
    "image/png": "png",
    "image/apng": "apng",
    "image/jpeg": "jpg jpeg jpe jfif pjpeg pjp",
    "image/gif": "gif",
    "image/bmp": "bmp dib",
    "image/webp": "webp",
    "image/avif": "avif avifs",
    "image/heic": "heic",
    "image/heif": "heif hif",
    "image/tiff": "tif tiff",
    "image/svg+xml": "svg",
    "image/vnd.microsoft.icon": "ico",
    "image/x-win-bitmap": "cur",
    "image/x-icns": "icns",
    "image/vnd.adobe.photoshop": "psd psb",
    "image/jp2": "jp2 jpg2",
    "image/jpx": "jpx jpf",
    "image/j2c": "j2k j2c jpc",
    "image/jxl": "jxl",
    "image/jxr": "jxr wdp hdp",
    "image/qoi": "qoi",
    "image/x-pcx": "pcx",
    "image/x-tga": "tga",
    "image/x-exr": "exr",
    "image/vnd.radiance": "hdr",
    "image/vnd-ms.dds": "dds",
    "image/x-xcf": "xcf",
    "image/emf": "emf",
    "image/wmf": "wmf",
    "image/fits": "fits fit fts",
    "image/x-portable-pixmap": "ppm",
    "image/x-portable-graymap": "pgm",
    "image/x-portable-bitmap": "pbm",
    "image/x-portable-anymap": "pnm pam",
    "image/x-rgb": "rgb sgi bw",
    "image/x-xbitmap": "xbm",
    "image/x-xpixmap": "xpm",
    "image/x-adobe-dng": "dng",
    "image/x-canon-cr2": "cr2",
    "image/x-canon-cr3": "cr3",
    "image/x-nikon-nef": "nef",
    "image/x-sony-arw": "arw",
    "image/x-fuji-raf": "raf",
    "image/x-olympus-orf": "orf",
    "image/x-panasonic-rw2": "rw2",
    "image/vnd.dxf": "dxf",
    "image/vnd.dwg": "dwg",
    "application/dicom": "dcm dicom",
    # Sound
    "audio/mpeg": "mp3 mp2 mpga",
    "audio/mp4": "m4a m4b m4p m4r",
    "audio/aac": "aac adts",
    "audio/ogg": "ogg oga spx",
    "audio/opus": "opus",
    "audio/flac": "flac",
    "audio/wav": "wav wave",
    "audio/aiff": "aif aiff aifc",
    "audio/basic": "au snd",
    "audio/midi": "mid midi kar rmi",
    "audio/x-caf": "caf",
    "audio/x-ms-wma": "wma",
    "audio/amr": "amr",
    "audio/amr-wb": "awb",
    "audio/ac3": "ac3",
    "audio/eac3": "eac3",
    "audio/x-ape": "ape",
    "audio/x-wavpack": "wv",
    "audio/x-musepack": "mpc",
    "audio/x-tta": "tta",
    "audio/webm": "weba",
    "audio/x-matroska": "mka",
    "audio/vnd.dts": "dts",
    # Films
    "video/mp4": "mp4 mp4v mpg4",
    "video/x-m4v": "m4v",
    "video/quicktime": "mov qt",
    "video/3gpp": "3gp 3gpp",
    "video/3gpp2": "3g2 3gpp2",
    "video/webm": "webm",
    "video/x-matroska": "mkv mk3d",
    "video/x-msvideo": "avi",
    "video/mpeg": "mpg mpeg mpe m1v m2v vob",
    "video/mp2t": "ts mts m2ts m2t",
    "video/ogg": "ogv",
    "application/ogg": "ogx",
    "video/x-flv": "flv",
    "video/x-ms-wmv": "wmv",
    "video/x-ms-asf": "asf asx",
    "application/mxf": "mxf",
    "application/vnd.rn-realmedia": "rm rmvb",
    # Archives
    "application/zip": "zip",
    "application/gzip": "gz tgz taz svgz",
    "application/x-bzip2": "bz2 tbz tbz2",
    "application/x-xz": "xz txz",
    "application/zstd": "zst tzst",
    "application/x-lz4": "lz4",
    "application/x-lzma": "lzma",
    "application/x-lzip": "lz",
    "application/x-brotli": "br",
    "application/x-tar": "tar",
    "application/x-7z-compressed": "7z",
    "application/vnd.rar": "rar",
    "application/x-cpio": "cpio",
    "application/x-iso9660-image": "iso",
    "application/vnd.ms-cab-compressed": "cab",
    "application/vnd.debian.binary-package": "deb udeb",
    "application/x-rpm": "rpm",
    "application/x-apple-diskimage": "dmg",
    "application/x-xar": "xar pkg",
    "application/java-archive": "jar war ear",
    "application/vnd.android.package-archive": "apk",
    "application/x-xpinstall": "xpi",
    "application/x-chrome-extension": "crx",
    "application/x-wheel+zip": "whl",
    "application/vnd.google-earth.kmz": "kmz",
    # Fonts
    "font/ttf": "ttf",
    "font/otf": "otf",
    "font/collection": "ttc otc",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "application/vnd.ms-fontobject": "eot",
    "application/x-font-type1": "pfb",
    # Data and programs
    "application/vnd.sqlite3": "sqlite sqlite3 db3",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.file": "arrow feather",
    "application/avro": "avro",
    "application/x-hdf5": "h5 hdf5 hdf",
    "application/netcdf": "nc cdf",
    "application/x-numpy": "npy",
    "application/vnd.tcpdump.pcap": "pcap cap",
    "application/x-pcapng": "pcapng",
    "application/x-bittorrent": "torrent",
    "application/x-msaccess": "mdb accdb",
    "application/x-plist": "plist",
    "application/wasm": "wasm",
    "application/java-vm": "class",
    "application/x-msdownload": "exe dll",
    "application/x-msi": "msi",
    "application/x-elf": "elf",
    "application/x-shockwave-flash": "swf",
    "application/pkix-cert": "cer der crt",
    "application/x-pkcs12": "p12 pfx",
    "application/pkcs7-signature": "p7s",
    "model/gltf-binary": "glb",
    "model/gltf+json": "gltf",
    "model/stl": "stl",
    "model/obj": "obj",
    "model/mtl": "mtl",
    "model/3mf": "3mf",
    "model/vnd.usdz+zip": "usdz",
    "model/step": "step stp",
    "application/x-blender": "blend",
}
NAMES: dict[str, str] = {f".{ending}": kind for kind, endings in _ENDINGS.items() for ending in endings.split()}
"""The media type of each ending of a name, in lower case with its dot."""

# The canonical name of a type, and its other names. All are canonical forms, without "x-".
_ALIASES: dict[str, str] = {
    "application/7z-compressed": "application/7z",
    "application/bzip2": "application/bzip",
    "application/dicom": "image/dicom",
    "application/epub+zip": "application/epub",
    "application/gzip": "application/gunzip application/gzip-compressed application/tgz application/gtar-compressed",
    "application/hdf5": "application/hdf",
    "application/iso9660-image": "application/cd-image",
    "application/java-archive": "application/jar",
    "application/json": "text/json",
    "application/msdownload": "application/dosexec application/msdos-program application/exe "
    "application/vnd.microsoft.portable-executable",
    "application/ndjson": "application/jsonl application/jsonlines application/json-seq text/ndjson",
    "application/netcdf": "application/cdf",
    "application/pdf": "application/acrobat application/vnd.pdf",
    "application/pkix-cert": "application/x509-ca-cert application/x509-user-cert",
    "application/postscript": "application/eps",
    "application/rar": "application/vnd.rar application/rar-compressed",
    "application/rtf": "text/rtf text/richtext",
    "application/sh": "text/sh text/shellscript application/shellscript",
    "application/sql": "text/sql",
    "application/subrip": "text/srt application/srt",
    "application/tar": "application/gtar",
    "application/toml": "text/toml",
    "application/vnd.ms-excel": "application/msexcel application/excel application/xls application/ms-excel "
    "application/dos_ms_excel",
    "application/vnd.ms-fontobject": "font/eot",
    "application/vnd.ms-powerpoint": "application/mspowerpoint application/powerpoint",
    "application/vnd.sqlite3": "application/sqlite3 application/sqlite",
    "application/vnd.visio": "application/visio",
    "application/xml": "text/xml",
    "application/yaml": "text/yaml text/vnd.yaml",
    "application/zip": "application/zip-compressed multipart/zip",
    "application/zstd": "application/zstandard",
    "audio/aac": "audio/aacp audio/hx-aac-adts",
    "audio/aiff": "audio/aif audio/aifc",
    "audio/basic": "audio/au audio/snd",
    "audio/midi": "audio/mid audio/sp-midi",
    "audio/mp4": "audio/m4a audio/m4b audio/mp4a-latm",
    "audio/mpeg": "audio/mp3 audio/mpeg3 audio/mpeg-3 audio/mpg audio/mp2 audio/mpa audio/mpga",
    "audio/wav": "audio/wave audio/vnd.wave audio/pn-wav",
    "font/collection": "application/font-ttc",
    "font/otf": "application/font-otf application/font-opentype application/vnd.ms-opentype font/opentype",
    "font/ttf": "application/font-ttf application/font-truetype font/truetype",
    "font/woff": "application/font-woff",
    "font/woff2": "application/font-woff2",
    "image/bmp": "image/ms-bmp image/windows-bmp image/dib",
    "image/heif": "image/heic image/heif-sequence image/heic-sequence",
    "image/icon": "image/vnd.microsoft.icon image/ico",
    "image/jp2": "image/jpeg2000 image/jpeg2000-image image/jpx image/jpm",
    "image/jpeg": "image/jpg image/pjpeg image/jpe image/jfif",
    "image/png": "image/apng image/vnd.mozilla.apng",
    "image/svg+xml": "image/svg",
    "image/tga": "image/targa",
    "image/tiff": "image/tif",
    "image/vnd.adobe.photoshop": "image/photoshop image/psd application/photoshop application/psd",
    "image/vnd.djvu": "image/djvu",
    "image/vnd.dwg": "application/acad image/dwg application/dwg",
    "image/wmf": "application/msmetafile image/wmf",
    "message/rfc822": "application/mht multipart/related",
    "text/csv": "application/csv text/comma-separated-values",
    "text/javascript": "application/javascript text/ecmascript application/ecmascript",
    "text/markdown": "text/web-markdown",
    "text/vcard": "text/directory",
    "video/avi": "video/msvideo video/vnd.avi",
    "video/mp2t": "video/vnd.dlna.mpeg-tts video/mpegts",
    "video/mpeg": "video/mpg video/mpeg2 video/mpeg-system video/mp2p",
    "video/mp4": "video/m4v video/mp4v application/mp4",
}
_CANONICAL = {alias: kind for kind, aliases in _ALIASES.items() for alias in aliases.split()}
_CANONICAL["image/heics"] = "image/heif"

# A container, and the canonical types that may be in it. Any of them is honest, the first is the likeliest.
_CONTAINERS: dict[str, str] = {
    "mp4": "video/mp4 audio/mp4 video/quicktime video/3gpp audio/3gpp video/3gpp2 audio/3gpp2 audio/aac "
    "audio/vnd.audible.aax video/mj2",
    "quicktime": "video/quicktime video/mp4 audio/mp4",
    "heif": "image/heif",
    "avif": "image/avif image/avif-sequence image/heif",
    "cr3": "image/canon-cr3",
    "webm": "video/webm audio/webm video/matroska audio/matroska",
    "matroska": "video/matroska audio/matroska video/webm audio/webm video/matroska-3d",
    "ogg": "audio/ogg video/ogg application/ogg audio/opus audio/vorbis audio/speex audio/flac video/theora",
    "ogg-video": "video/ogg application/ogg video/theora audio/ogg",
    "ole": "application/ole-storage application/cdfv2 application/msword application/vnd.ms-excel "
    "application/vnd.ms-powerpoint application/vnd.ms-outlook application/vnd.ms-project application/vnd.ms-publisher "
    "application/mspublisher application/vnd.visio application/vnd.ms-works application/msi application/hwp "
    "application/vnd.hancom.hwp",
    "asf": "video/ms-wmv audio/ms-wma video/ms-asf application/vnd.ms-asf video/ms-wm",
    "gzip": "application/gzip application/gnumeric application/dia-diagram image/svg+xml-compressed",
    "tiff": "image/tiff image/adobe-dng image/canon-cr2 image/nikon-nef image/sony-arw image/pentax-pef image/tiff-fx",
    "sfnt": "font/ttf font/otf font/sfnt application/font-sfnt",
    "opentype": "font/otf font/ttf font/sfnt application/font-sfnt",
    "mpeg-ts": "video/mp2t video/mpeg",
    "id3": "audio/mpeg audio/aac",
    "jp2": "image/jp2 video/mj2",
    "ar": "application/vnd.debian.binary-package application/archive application/unix-archive",
    "hdf5": "application/hdf5 application/netcdf application/matlab-data",
    "matlab": "application/matlab-data application/matlab",
    "real": "application/vnd.rn-realmedia audio/pn-realaudio audio/vnd.rn-realaudio application/vnd.rn-realmedia-vbr",
    "rar": "application/rar application/vnd.comicbook-rar application/cbr",
    "mobi": "application/mobipocket-ebook application/vnd.amazon.ebook",
    "netpbm": "image/portable-anymap image/portable-pixmap image/portable-graymap image/portable-bitmap",
    "postscript": "application/postscript application/illustrator application/font-type1",
    "der": "application/pkix-cert application/pkcs12 application/pkcs7-signature application/pkcs7-mime "
    "application/pkcs8 application/pkix-crl",
    "elf": "application/elf application/executable application/sharedlib application/object application/coredump",
    "plist": "application/plist application/binary-plist",
    "pdf": "application/pdf application/illustrator",
}
_ZIP_OF_ANYTHING = (
    "application/zip application/vnd.comicbook+zip application/cbz application/vnd.google-earth.kmz "
    "application/java-archive application/vnd.android.package-archive application/xpinstall "
    "application/vnd.apple.pages "
    "application/vnd.apple.numbers application/vnd.apple.keynote application/vnd.recordare.musicxml model/3mf "
    "application/wheel+zip model/vnd.usdz+zip application/iwork-pages-sffpages"
)
_OFFICE: dict[str, str] = {
    "word/": f"{_OOXML}wordprocessingml.document {_OOXML}wordprocessingml.template "
    f"{_MS}word.document.macroenabled.12 {_MS}word.template.macroenabled.12",
    "xl/": f"{_OOXML}spreadsheetml.sheet {_OOXML}spreadsheetml.template {_MS}excel.sheet.macroenabled.12 "
    f"{_MS}excel.sheet.binary.macroenabled.12 {_MS}excel.template.macroenabled.12 {_MS}excel.addin.macroenabled.12",
    "ppt/": f"{_OOXML}presentationml.presentation {_OOXML}presentationml.slideshow {_OOXML}presentationml.template "
    f"{_MS}powerpoint.presentation.macroenabled.12 {_MS}powerpoint.slideshow.macroenabled.12",
    "visio/": "application/vnd.ms-visio.drawing application/vnd.visio",
    "documents/1/": f"{_MS}xpsdocument application/oxps",
}
OFFICE = {folder: tuple(kinds.split()) for folder, kinds in _OFFICE.items()}
"""The canonical types of Office Open XML by the folder in the ZIP file that only they have."""

OPEN_DOCUMENTS = (*(kind for kind in _ENDINGS if kind.startswith(_ODF)), "application/epub+zip")
"""The canonical types of ZIP files that name themselves in an entry `mimetype`."""

# The first bytes of a file, where they are, and a container or a canonical type.
_SIGNATURES: list[tuple[str, int, bytes]] = [
    ("image/png", 0, b"\x89PNG\r\n\x1a\n"),
    ("image/jpeg", 0, b"\xff\xd8\xff"),
    ("image/gif", 0, b"GIF87a"),
    ("image/gif", 0, b"GIF89a"),
    ("tiff", 0, b"II*\0"),
    ("tiff", 0, b"MM\0*"),
    ("tiff", 0, b"II+\0"),
    ("tiff", 0, b"MM\0+"),
    ("image/icon", 0, b"\0\0\1\0"),
    ("image/win-bitmap", 0, b"\0\0\2\0"),
    ("image/icns", 0, b"icns\0"),
    ("image/vnd.adobe.photoshop", 0, b"8BPS\0"),
    ("jp2", 0, b"\0\0\0\x0cjP  \r\n\x87\n"),
    ("image/j2c", 0, b"\xff\x4f\xff\x51"),
    ("image/jxl", 0, b"\xff\x0a"),
    ("image/jxl", 0, b"\0\0\0\x0cJXL \r\n\x87\n"),
    ("image/jxr", 0, b"II\xbc\1"),
    ("image/qoi", 0, b"qoif\0"),
    ("image/exr", 0, b"\x76\x2f\x31\x01"),
    ("image/vnd.radiance", 0, b"#?RADIANCE\n"),
    ("image/vnd-ms.dds", 0, b"DDS \x7c\0\0\0"),
    ("image/xcf", 0, b"gimp xcf "),
    ("image/emf", 40, b" EMF\0\0"),
    ("image/wmf", 0, b"\xd7\xcd\xc6\x9a\0\0"),
    ("image/vnd.djvu", 0, b"AT&TFORM"),
    ("image/fits", 0, b"SIMPLE  =                    T"),
    ("image/rgb", 0, b"\x01\xda\0"),
    ("image/rgb", 0, b"\x01\xda\1"),
    ("image/fuji-raf", 0, b"FUJIFILMCCD-RAW"),
    ("image/olympus-orf", 0, b"IIRO\x08\0\0\0"),
    ("image/panasonic-rw2", 0, b"IIU\0"),
    ("image/vnd.dwg", 0, b"AC10"),
    ("application/dicom", 128, b"DICM"),
    ("image/webp", 8, b"WEBPVP8"),
    ("audio/flac", 0, b"fLaC\0"),
    ("id3", 0, b"ID3\2"),
    ("id3", 0, b"ID3\3"),
    ("id3", 0, b"ID3\4"),
    ("audio/basic", 0, b".snd\0"),
    ("audio/midi", 0, b"MThd\0\0\0\6"),
    ("audio/caf", 0, b"caff\0\1"),
    ("audio/amr", 0, b"#!AMR\n"),
    ("audio/amr-wb", 0, b"#!AMR-WB\n"),
    ("audio/ape", 0, b"MAC \x96\x0f"),
    ("audio/wavpack", 0, b"wvpk"),
    ("audio/musepack", 0, b"MPCK"),
    ("audio/tta", 0, b"TTA1"),
    ("audio/vnd.dts", 0, b"\x7f\xfe\x80\x01"),
    ("ogg", 0, b"OggS\0"),
    ("asf", 0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9"),
    ("video/flv", 0, b"FLV\1"),
    ("video/mpeg", 0, b"\0\0\1\xba"),
    ("video/mpeg", 0, b"\0\0\1\xb3"),
    ("application/mxf", 0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02"),
    ("real", 0, b".RMF\0"),
    ("ole", 0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    ("application/rtf", 0, b"{\\rtf"),
    ("postscript", 0, b"%!PS"),
    ("postscript", 0, b"\xc5\xd0\xd3\xc6"),
    ("application/font-type1", 0, b"\x80\x01"),
    ("application/zip", 0, b"PK\5\6"),
    ("gzip", 0, b"\x1f\x8b\x08"),
    ("application/bzip2", 0, b"BZh"),
    ("application/xz", 0, b"\xfd7zXZ\0"),
    ("application/lzma", 0, b"]\0\0"),
    ("application/zstd", 0, b"\x28\xb5\x2f\xfd"),
    ("application/lz4", 0, b"\x04\x22\x4d\x18"),
    ("application/lzip", 0, b"LZIP\1"),
    ("application/compress", 0, b"\x1f\x9d"),
    ("application/tar", 257, b"ustar"),
    ("application/7z-compressed", 0, b"7z\xbc\xaf\x27\x1c"),
    ("rar", 0, b"Rar!\x1a\x07"),
    ("application/cpio", 0, b"070701"),
    ("application/cpio", 0, b"070702"),
    ("application/cpio", 0, b"070707"),
    ("application/iso9660-image", 32769, b"CD001"),
    ("application/vnd.ms-cab-compressed", 0, b"MSCF\0\0\0\0"),
    ("ar", 0, b"!<arch>\n"),
    ("application/rpm", 0, b"\xed\xab\xee\xdb"),
    ("application/xar", 0, b"xar!\0"),
    ("application/chrome-extension", 0, b"Cr24"),
    ("sfnt", 0, b"\0\1\0\0\0"),
    ("sfnt", 0, b"true\0"),
    ("opentype", 0, b"OTTO\0"),
    ("font/collection", 0, b"ttcf\0"),
    ("font/woff", 0, b"wOFF"),
    ("font/woff2", 0, b"wOF2"),
    ("application/vnd.sqlite3", 0, b"SQLite format 3\0"),
    ("application/vnd.apache.parquet", 0, b"PAR1"),
    ("application/vnd.apache.arrow.file", 0, b"ARROW1\0"),
    ("application/avro", 0, b"Obj\1"),
    ("hdf5", 0, b"\x89HDF\r\n\x1a\n"),
    ("application/netcdf", 0, b"CDF\1"),
    ("application/netcdf", 0, b"CDF\2"),
    ("application/numpy", 0, b"\x93NUMPY"),
    ("matlab", 0, b"MATLAB 5.0 MAT-file"),
    ("application/vnd.tcpdump.pcap", 0, b"\xd4\xc3\xb2\xa1"),
    ("application/vnd.tcpdump.pcap", 0, b"\xa1\xb2\xc3\xd4"),
    ("application/pcapng", 0, b"\x0a\x0d\x0d\x0a"),
    ("application/bittorrent", 0, b"d8:announce"),
    ("application/bittorrent", 0, b"d7:comment"),
    ("application/msaccess", 0, b"\0\1\0\0Standard "),
    ("plist", 0, b"bplist00"),
    ("application/wasm", 0, b"\0asm"),
    ("application/java-vm", 0, b"\xca\xfe\xba\xbe\0"),
    ("application/msdownload", 0, b"MZ\x90\0"),
    ("elf", 0, b"\x7fELF"),
    ("application/shockwave-flash", 0, b"FWS"),
    ("application/shockwave-flash", 0, b"CWS"),
    ("der", 0, b"\x30\x82"),
    ("model/gltf-binary", 0, b"glTF\2\0\0\0"),
    ("application/blender", 0, b"BLENDER"),
    ("mobi", 60, b"BOOKMOBI"),
    ("netpbm", 0, b"P4\n"),
    ("netpbm", 0, b"P5\n"),
    ("netpbm", 0, b"P6\n"),
    ("netpbm", 0, b"P7\n"),
]
CONTAINERS = {name: tuple(kinds.split()) for name, kinds in _CONTAINERS.items()}
CONTAINERS |= {"zip": tuple(_ZIP_OF_ANYTHING.split())}
SIGNATURES = [(CONTAINERS.get(name, (name,)), at, sign) for name, at, sign in _SIGNATURES]
"""The canonical types of a file, where their signature begins, and the signature."""

BRANDS: dict[str, str] = {
    **dict.fromkeys(("avif", "avis"), "avif"),
    **dict.fromkeys(("heic", "heix", "hevc", "hevx", "heim", "heis", "hevm", "mif1", "mif2", "msf1", "miaf"), "heif"),
    "crx ": "cr3",
    "qt  ": "quicktime",
}
"""Brands of ISO base media files (ISO 14496-12) and their containers. All others are "mp4"."""

RIFF: dict[bytes, tuple[str, ...]] = {
    b"WAVE": ("audio/wav",),
    b"AVI ": ("video/avi",),
    b"WEBP": ("image/webp",),
    b"RMID": ("audio/midi",),
    b"AIFF": ("audio/aiff",),
    b"AIFC": ("audio/aiff",),
    b"8SVX": ("audio/8svx",),
    b"ILBM": ("image/ilbm",),
}
"""The types of RIFF and IFF files by their form."""

TEXTUAL = words(
    "application/bat application/bibtex application/geo+json application/graphql application/http application/json "
    "application/json5 application/latex application/mbox application/ndjson application/n-quads "
    "application/n-triples application/pem-certificate-chain application/pem-file application/pgp-encrypted "
    "application/pgp-keys application/pgp-signature application/perl application/php application/powershell "
    "application/python application/ruby application/sdp application/sh application/sparql-query "
    "application/sparql-update application/sql application/subrip application/tcl application/tex "
    "application/texinfo application/toml application/trig application/troff application/troff-man "
    "application/typescript application/vnd.apple.mpegurl application/vnd.dart application/wsdl application/xml "
    "application/xml-dtd application/yaml application/httpd-php application/dxf application/ecmascript "
    "application/javascript application/illustrator application/plist application/pkix-cert application/pkix-crl "
    "application/pkcs7-mime application/pkcs7-signature application/pkcs8 audio/mpegurl audio/scpls image/vnd.dxf "
    "image/xbitmap image/xpixmap message/rfc822 message/http model/iges model/mtl model/obj model/step model/stl "
    "model/vrml model/x3d-vrml chemical/pdb chemical/xyz image/portable-pixmap image/portable-graymap "
    "image/portable-bitmap image/portable-anymap"
)
"""Canonical types outside `text/*` whose files are text, or may be."""

# Types whose files may begin with something else than their signature.
_LOOSE = words("audio/mpeg audio/aac video/mpeg video/mp2t application/tar application/msdownload")

_WORDS: dict[str, str] = {
    "application/epub+zip": "an EPUB book",
    "application/gzip": "a GZIP file",
    "application/json": "JSON",
    "application/msdownload": "a Windows program",
    "application/msword": "a Word document",
    "application/ole-storage": "an old Office document",
    "application/pdf": "a PDF document",
    "application/vnd.ms-excel": "an Excel sheet",
    "application/vnd.ms-powerpoint": "a PowerPoint presentation",
    "application/xhtml+xml": "XHTML",
    "application/xml": "XML",
    "application/zip": "a ZIP file",
    "audio/mpeg": "MP3 sound",
    "image/heif": "a HEIC image",
    "image/icon": "an icon",
    "image/svg+xml": "an SVG image",
    "text/csv": "CSV",
    "text/html": "HTML",
    "text/javascript": "JavaScript",
    "text/markdown": "Markdown",
    "text/plain": "plain text",
    "video/matroska": "a Matroska video",
    "video/quicktime": "a QuickTime video",
    f"{_OOXML}presentationml.presentation": "a PowerPoint presentation",
    f"{_OOXML}spreadsheetml.sheet": "an Excel sheet",
    f"{_OOXML}wordprocessingml.document": "a Word document",
    f"{_ODF}presentation": "an OpenDocument presentation",
    f"{_ODF}spreadsheet": "an OpenDocument sheet",
    f"{_ODF}text": "an OpenDocument text",
}
_PATTERNS: dict[str, str] = {
    "*/*": "files of any known type",
    "application/*": "documents and archives (application/*)",
    "audio/*": "sound (audio/*)",
    "font/*": "fonts (font/*)",
    "image/*": "images (image/*)",
    "text/*": "text (text/*)",
    "video/*": "videos (video/*)",
}
# The names of formats that Pillow has, which MongoEngine stores with a picture.
_FORMATS = {"MPO": "image/jpeg", "JPEG2000": "image/jp2", "ICO": "image/vnd.microsoft.icon", "HEIF": "image/heif"}
_FORMATS |= {name.upper(): f"image/{name}" for name in ["png", "jpeg", "gif", "bmp", "tiff", "webp", "avif"]}

_MEDIA_TYPE = re.compile(r"\s*[\w.+-]+/[\w.+-]+\s*(;.*)?", re.DOTALL)
# The keys under which other writers keep the type, and those that may hold something else.
_TYPE_KEYS = ("content_type", "contentType", "_contentType", "Content-Type", "content-type", "ContentType")
_LOOSE_KEYS = (
    "contenttype",
    "mimetype",
    "mimeType",
    "mime_type",
    "mime-type",
    "MimeType",
    "mime",
    "type",
    "media_type",
)


def canonical_type(declared: str) -> str:
    """Return a media type in lower case, without parameters and under its canonical name."""
    main, _, sub = declared.partition(";")[0].strip().lower().partition("/")
    name = f"{main}/{sub.removeprefix('x-')}"
    return _CANONICAL.get(name, name)


def names_of(kind: str) -> set[str]:
    """Return all names of a canonical type."""
    return {kind, *_ALIASES.get(kind, "").split()}


def is_specific(declared: str | None) -> bool:
    """Return whether a declared type says anything about the content."""
    return (
        declared is not None
        and bool(_MEDIA_TYPE.fullmatch(declared))
        and declared.isprintable()
        and canonical_type(declared) not in _UNSPECIFIC
    )


@cache
def signed_types() -> frozenset[str]:
    """Return the canonical types that have a signature in this table."""
    found = {kind for kinds, _, _ in SIGNATURES for kind in kinds}
    found.update(*CONTAINERS.values(), *OFFICE.values(), *RIFF.values(), OPEN_DOCUMENTS)
    return frozenset({*found, "application/vnd.ms-fontobject", "image/bmp", "image/pcx", "audio/ac3", "audio/eac3"})


def must_have_signature(kind: str) -> bool:
    """Return whether a file of this canonical type always begins with a signature of this table."""
    return kind in signed_types() and kind not in _LOOSE and kind not in TEXTUAL


def is_textual(kind: str) -> bool:
    """Return whether files of this canonical type are text."""
    return kind.startswith("text/") or kind in TEXTUAL or kind.endswith(("+json", "+xml", "+yaml"))


def type_by_name(filename: str | None) -> str | None:
    """Return the media type of a file with this name, or None if the name says nothing."""
    _, ending = splitext((filename or "").replace("\\", "/").rpartition("/")[2])
    if not ending:
        return None
    table = _standard_library()
    if (found := NAMES.get(ending.lower())) is not None:
        return found
    if ending in table.encodings_map or ending.lower() in table.encodings_map:
        return OCTET_STREAM  # compressed by a program that has no media type
    return table.types_map[True].get(ending.lower())


@cache
def _standard_library() -> mimetypes.MimeTypes:
    return mimetypes.MimeTypes(filenames=())


def recorded_type(metadata: object, extra: object, filename: str | None) -> str | None:
    """Return the media type that any GridFS driver, Spring, MongoEngine or a telling name gave to a stored file."""
    places = [each for each in (metadata, extra) if hasattr(each, "get")]
    for keys, checked in ((_TYPE_KEYS, False), (_LOOSE_KEYS, True)):
        for place in places:
            for key in keys:
                value = place.get(key)
                if isinstance(value, str) and value.strip() and (not checked or _MEDIA_TYPE.fullmatch(value)):
                    return value
    for place in places:
        if isinstance(value := place.get("format"), str) and value.upper() in _FORMATS:
            return _FORMATS[value.upper()]
    return type_by_name(filename)


TYPE_KEYS = frozenset({*_TYPE_KEYS, *_LOOSE_KEYS})
"""The keys of a record under which some program looks for the media type."""


def named_types(place: Mapping[str, object]) -> dict[str, str]:
    """Return the keys, other than `content_type`, that name a media type, with these types."""
    found = {key: place[key] for key in TYPE_KEYS.intersection(place) if key != "content_type"}
    return {key: value for key, value in found.items() if isinstance(value, str) and _MEDIA_TYPE.fullmatch(value)}


def describe_type(kind: str) -> str:
    """Return the words for a type or a pattern in a message: "a PNG image", "HTML", "images (image/*)"."""
    pattern = kind.strip().lower()
    if pattern in _PATTERNS:
        return _PATTERNS[pattern]
    canonical = canonical_type(kind)
    main, _, sub = canonical.partition("/")
    word = _WORDS.get(canonical)
    if word is None and main in ("image", "video") and re.fullmatch(r"[a-z0-9]+", sub):
        word = f"{'an' if sub[0] in 'aeio' else 'a'} {sub.upper()} {main}"
    if word is None and main == "audio" and re.fullmatch(r"[a-z0-9]+", sub):
        word = f"{sub.upper()} sound"
    return word or f"a file of the type {canonical}"
