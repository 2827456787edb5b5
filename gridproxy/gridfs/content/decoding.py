"""Decodes, resizes and encodes pictures with Pillow.

The functions run in a worker thread, or in a worker process that can be killed: `runtime/worker_process.py` starts
this file as a script. For that reason it imports only the standard library and Pillow, and a job and its result are
values that JSON can hold, and bytes. All limits are checked before pixels are decoded.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import queue
import re
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, TypedDict

if TYPE_CHECKING:
    from PIL.Image import Image

# Formats whose decoders are meant for untrusted input. Pillow also has one that starts Ghostscript.
# HEIF is one of them after `pillow_heif.register_heif_opener()`.
FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "TIFF", "WEBP")
_SEVERAL_FRAMES = {"AVIF", "GIF", "PNG", "TIFF", "WEBP"}
_ORIENTATION = 0x0112
_QUALITY = 90
# Compressions of TIFF that encode every mode. Others are for black and white, or can only be decoded.
_COMPRESSIONS = {"raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "lzma", "zstd"}
_SCAN = b"\xff\xda"
_ADDRESS = re.compile(r"\s*<[^<>]* at 0x[0-9a-fA-F]+>")

# Bytes that Pillow uses for one pixel of a mode.
_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
# Bytes for one pixel that decoders and encoders use beside the picture, as `python -m tests.benchmarks.pictures` found.
_DECODER = {"AVIF": 10, "BMP": 2, "GIF": 4, "HEIF": 10, "JPEG": 0, "JPEG2000": 22, "PNG": 1, "TIFF": 4, "WEBP": 12}
_ENCODER = {"AVIF": 40, "HEIF": 40, "JPEG": 7, "JPEG2000": 40, "WEBP": 20}
# A PNG may have its orientation after its pixels.
_ORIENTED_PNG = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")


# The JSON part of a message, and the bytes that follow it.
Message = tuple[dict[str, Any], list[bytes]]


class Job(TypedDict):
    """What to make of a picture. A size is a list as in `ImageOptions`, which JSON keeps."""

    size: Sequence[int] | None
    thumbnail_size: Sequence[int] | None
    variants: dict[str, Sequence[int]]
    max_pixels: int
    max_frames: int
    format: str | None
    quality: int | None
    truncated: bool  # `ImageFile.LOAD_TRUNCATED_IMAGES` of the application
    plugins: dict[str, dict[str, list[str] | str | None]]


class Refused(Exception):
    """A limit is exceeded, or (`undecodable`) the bytes are not a picture."""

    def __init__(self, reason: str, limit: int | None = None, actual: int | None = None, *, undecodable: bool = False):
        super().__init__(reason)
        self.reason = reason
        self.limit = limit
        self.actual = actual
        self.undecodable = undecodable


class Made(TypedDict):
    """One encoded picture. Its bytes are None if they are those of the original."""

    data: bytes | None
    width: int
    height: int
    format: str
    content_type: str


# Formats of the application


def plugin_references() -> tuple[dict[str, dict[str, list[str] | str | None]], set[str]]:
    """Return how another process imports the decoders that the application registered, and those that it cannot."""
    from PIL import Image  # noqa: PLC0415  # an extra

    Image.init()
    found: dict[str, dict[str, list[str] | str | None]] = {}
    unknown = set()
    for name in FORMATS:
        if name not in Image.OPEN or Image.OPEN[name][0].__module__.startswith("PIL."):
            continue
        opener, accept = Image.OPEN[name]
        parts = {"open": opener, "accept": accept, "save": Image.SAVE.get(name), "save_all": Image.SAVE_ALL.get(name)}
        references = {key: None if part is None else _reference(part) for key, part in parts.items()}
        if any(references[key] is None for key, part in parts.items() if part is not None):
            unknown.add(name)
        else:
            found[name] = {**references, "mime": Image.MIME.get(name)}
    return found, unknown


def _reference(part: object) -> list[str] | None:
    module, name = getattr(part, "__module__", "__main__"), getattr(part, "__qualname__", "")
    found: object = sys.modules.get(module)
    for each in name.split("."):
        found = getattr(found, each, None)
    return [module, name] if found is part and module != "__main__" else None


def _register(plugins: Mapping[str, Mapping[str, list[str] | str | None]]) -> None:
    from PIL import Image  # noqa: PLC0415  # an extra

    for name in FORMATS:  # those of the application's last job
        if name in Image.OPEN and not Image.OPEN[name][0].__module__.startswith("PIL."):
            del Image.OPEN[name]
    for name, plugin in plugins.items():
        parts = {key: _imported(value) for key, value in plugin.items() if isinstance(value, list)}
        Image.register_open(name, parts["open"], parts.get("accept"))
        for key, registered in (("save", Image.SAVE), ("save_all", Image.SAVE_ALL)):
            registered.pop(name, None)
            if key in parts:
                registered[name] = parts[key]
        if mime := plugin["mime"]:
            Image.register_mime(name, str(mime))


def _imported(reference: Sequence[str]) -> Any:
    found: Any = import_module(reference[0])
    for each in reference[1].split("."):
        found = getattr(found, each)
    return found


def accepting(data: bytes) -> Iterator[str]:
    """Yield the formats that may be the one of these bytes."""
    from PIL import Image  # noqa: PLC0415  # an extra

    for name in FORMATS:
        if name in Image.OPEN:
            accept = Image.OPEN[name][1]
            if accept is None or accept(data[:16]) is True:
                yield name


# The decoder


def make(data: bytes, job: Job) -> dict[str, Any]:
    """Decode a picture, rotate it as its EXIF data say, and encode it in the sizes of `job`.

    Raises `Refused` if it cannot be decoded, or has more pixels (in all frames) or frames than the limits.
    """
    with _refusing():
        return Original(data, job).made()


class _refusing:  # noqa: N801  # used like a function
    """Turn what a decoder raises into `Refused`."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from PIL import Image  # noqa: PLC0415  # an extra

        if error is None or isinstance(error, Refused) or not isinstance(error, Exception):
            return
        if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
            raise Refused(str(error), Image.MAX_IMAGE_PIXELS) from error
        if isinstance(error, MemoryError):
            raise Refused("decoding the picture needs more memory than its header says") from error
        reason = _ADDRESS.sub("", str(error)) or type(error).__name__
        raise Refused(reason, undecodable=True) from error


class Original:
    """A picture that is opened and measured. `made` decodes it."""

    def __init__(self, data: bytes, job: Job) -> None:
        from PIL import Image as pillow  # noqa: N813, PLC0415  # an extra. `Image` is the class here
        from PIL import ImageFile  # noqa: PLC0415  # an extra

        pillow.init()
        if job["truncated"]:
            ImageFile.LOAD_TRUNCATED_IMAGES = True
        self._data = data
        self._job = job
        self.image: Image = _open(data)
        # Phones write a JPEG followed by a second picture.
        self._format = "JPEG" if self.image.format == "MPO" else str(self.image.format)
        tally = _measure(self.image, data, job, several=self._format in _SEVERAL_FRAMES)
        self._animated = tally.frames > 1
        # `getexif` of a PNG decodes it. All others are turned and scaled as their headers say.
        png = self._format == "PNG"
        self._plan(1 if png else self._orientation())
        self._halved = 0
        self._scale()
        self.memory: int = self._estimate(
            tally, turning=any(mark in data for mark in _ORIENTED_PNG) if png else self._rotated
        )

    def _orientation(self) -> int:
        return 1 if self._animated else self.image.getexif().get(_ORIENTATION, 1)

    def _plan(self, orientation: int) -> None:
        job = self._job
        self._rotated = orientation not in (0, 1)
        self._turned = orientation in (5, 6, 7, 8)
        self.size: tuple[int, int] = self.image.size[::-1] if self._turned else self.image.size
        size = job["size"]
        too_large = size is not None and (self.size[0] > size[0] or self.size[1] > size[1])
        self._main_size = size if too_large else None
        self._smaller = [each for each in (job["thumbnail_size"], *job["variants"].values()) if each is not None]

    def _scale(self) -> None:
        """Let the decoder scale the picture down, to twice the largest size that is needed."""
        sizes = [*self._smaller, *([] if self._main_size is None else [self._main_size])]
        if self._rotated and self._main_size is None:
            return
        width = 2 * max([1, *(min(size[0], self.size[0]) for size in sizes)])
        height = 2 * max([1, *(min(size[1], self.size[1]) for size in sizes)])
        if self._turned:
            width, height = height, width
        image: Any = self.image
        if self._format == "JPEG":
            image.draft(None, (width, height))
        elif self._format == "JPEG2000":
            fitting = min(image.width // width, image.height // height)
            self._halved = min(max(0, fitting.bit_length() - 1), _levels(self._data))
            image.reduce = self._halved

    def _estimate(self, tally: Tally, *, turning: bool) -> int:
        """Return how many bytes decoding and encoding take at most, beside those of the file."""
        image: Any = self.image
        mode = "RGBA" if self._animated else image.mode  # frames may have other modes
        pixel = _PIXEL.get(mode, 4)
        area = math.prod(image.size) if self._format == "JPEG" else tally.largest >> 2 * self._halved
        sizes: list[Sequence[int] | None] = [*self._smaller]
        if turning or self._main_size is not None:
            sizes.append(self._main_size)
        decoder = _DECODER.get(self._format, 10) * area
        if self._format == "JPEG" and self._data.count(_SCAN) > 1:
            decoder += _coefficients(image, math.prod(self.size))
        converted = 0
        if sizes and mode not in ("L", "RGB", "YCbCr", "CMYK"):
            transparent = mode == "PA" or "transparency" in image.info
            converted = 8 if mode in ("P", "PA") and transparent else 4  # to interpolate, with multiplied transparency
        elif sizes and self._job["format"]:
            converted = 4
        kept = 8 * area if self._format == "WEBP" else 0  # its decoder keeps two canvases
        made = [self._made_bytes(size, tally.frames) + (converted * area if size else 0) for size in sizes]
        turned = pixel * area if turning else 0
        return pixel * area + max(decoder, kept + max([turned, *made]))

    def _made_bytes(self, size: Sequence[int] | None, frames: int) -> int:
        area = math.prod(self.size)
        kind = self._format
        if size is not None:
            exact = len(size) > 2 and size[2]
            area = size[0] * size[1] if exact else min(area, size[0] * size[1])
            kind = self._job["format"] or kind
        frame = 8 if size is not None or frames > 1 else 0  # a resized frame, and one in the mode of the encoder
        return area * (frame * frames + _ENCODER.get(kind, 1))

    def made(self) -> dict[str, Any]:
        """Return the main picture, the thumbnail and the variants."""
        from PIL import ImageOps  # noqa: PLC0415  # an extra

        self.image.load()
        if self._format == "PNG":
            self._plan(self._orientation())
        if self._rotated:
            ImageOps.exif_transpose(self.image, in_place=True)
        job = self._job
        return {
            "main": self._main(),
            "thumbnail": None if job["thumbnail_size"] is None else self._rendition(job["thumbnail_size"]),
            "variants": {name: self._rendition(size) for name, size in job["variants"].items()},
        }

    def _main(self) -> Made:
        """Return the main picture in its size, or its original bytes if it needs no change."""
        if self._main_size is None and not self._rotated:
            for _ in self._frames():  # decodes each frame, which fails if it is damaged
                pass
            kind = self.image.get_format_mimetype() if self._format == "HEIF" else None  # type: ignore[attr-defined]  # it was opened from a file
            return _made(None, self.size, self._format, kind)
        return self._encoded(self._main_size, self._format, exif=True)

    def _rendition(self, size: Sequence[int]) -> Made:
        """Return a thumbnail or a variant. It has no EXIF data, which may reveal the place."""
        return self._encoded(size, self._job["format"] or self._format, exif=False)

    def _encoded(self, size: Sequence[int] | None, kind: str, *, exif: bool) -> Made:
        from PIL import Image  # noqa: PLC0415  # an extra

        kind = kind if kind in Image.SAVE else "JPEG"  # a decoder may come without an encoder
        frames = [_fit(frame, self._full_size(frame), size, kind) for frame in self._frames()]
        return _made(self._encode(frames, kind, exif), frames[0].size, kind)

    def _full_size(self, frame: Image) -> tuple[int, int]:
        return frame.size if self._animated else self.size

    def _frames(self) -> Iterator[Image]:
        if not self._animated:
            yield self.image
            return
        tally = Tally(self._job["max_pixels"], self._job["max_frames"])
        for at in itertools.count():
            try:
                self.image.seek(at)
            except EOFError:
                return
            tally.add(*self.image.size)  # again, because the frame's own header may say more than the file's
            self.image.load()
            yield self.image

    def _encode(self, frames: list[Image], kind: str, exif: bool) -> bytes:
        info = self.image.info
        options: dict[str, Any] = {}
        if info.get("icc_profile") and (self.image.mode == "CMYK") == (frames[0].mode == "CMYK"):
            options["icc_profile"] = info["icc_profile"]
        if exif and info.get("exif"):
            options["exif"] = info["exif"]
        if kind in ("AVIF", "HEIF", "JPEG", "WEBP"):
            options["quality"] = self._job["quality"] or _QUALITY
        if kind == "TIFF":
            options["compression"] = tiff_compression(info.get("compression"), frames)
        if kind == "JPEG":
            options["progressive"] = bool(info.get("progressive"))
        if self._animated and kind in _SEVERAL_FRAMES:
            options |= {"save_all": True, "append_images": frames[1:]}
            options |= {"loop": info["loop"]} if "loop" in info else {}
            if all("duration" in frame.info for frame in frames):
                options["duration"] = [frame.info["duration"] for frame in frames]
            if kind == "GIF":
                options["disposal"] = 2  # here each frame is a complete picture
        target = BytesIO()
        frames[0].save(target, kind, **options)
        return target.getvalue()


def _open(data: bytes) -> Image:
    """Open a picture as `Image.open` does, but without its limit, which is replaced by `max_pixels`."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415  # an extra

    for name in accepting(data):
        try:
            return Image.OPEN[name][0](BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # the decoder declines, as in Image.open
            continue
    raise UnidentifiedImageError("no registered decoder accepts it")


def _measure(image: Image, data: bytes, job: Job, *, several: bool) -> Tally:
    """Count the frames and their pixels. Raises `Refused`, before pixels are decoded."""
    tally = Tally(job["max_pixels"], job["max_frames"])
    if image.format == "GIF":
        for width, height in gif_frames(data):
            tally.add(max(width, image.width), max(height, image.height))
    elif image.format == "TIFF":  # pages differ in size, and its `n_frames` reads the whole file
        tally.add(*image.size)
        try:
            while True:
                image.seek(tally.frames)
                tally.add(*image.size)
        except EOFError:
            image.seek(0)
    else:
        tally.add(*image.size, getattr(image, "n_frames", 1) if several else 1)
    return tally


class Tally:
    """The frames and pixels so far. Limits bound them."""

    def __init__(self, max_pixels: int, max_frames: int) -> None:
        self._max_pixels = max_pixels
        self._max_frames = max_frames
        self.frames: int = 0
        self.pixels: int = 0
        self.largest: int = 0

    def add(self, width: int, height: int, frames: int = 1) -> None:
        """Count frames of this size. Raises `Refused` above a limit."""
        self.frames += frames
        self.pixels += width * height * frames
        self.largest = max(self.largest, width * height)
        if self.frames > self._max_frames:
            raise Refused(f"the picture has more than {self._max_frames} frames", self._max_frames, self.frames)
        if self.pixels > self._max_pixels:
            reason = (
                f"the picture has {self.pixels} pixels in all frames, more than the {self._max_pixels} allowed here"
            )
            raise Refused(reason, self._max_pixels, self.pixels)


def gif_frames(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the size that the canvas needs for each frame. Pillow decodes each frame to find the next one."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _colours(flags)
    while at < len(data) and (kind := data[at]) != 0x3B:
        if kind == 0x2C and at + 10 < len(data):
            left, top, wide, high, flags = struct.unpack_from("<HHHHB", data, at + 1)
            width, height = max(width, left + wide), max(height, top + high)  # Pillow enlarges the canvas
            yield width, height
            at += 11 + _colours(flags)
        elif kind == 0x21:
            at += 2
        else:
            at += 1  # Pillow skips what it does not know
            continue
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1


def _colours(flags: int) -> int:
    return 3 * 2 ** (1 + (flags & 7)) if flags & 0x80 else 0


def _coefficients(image: Any, area: int) -> int:
    """Return how many bytes libjpeg keeps for a JPEG of several scans, in whatever size it is decoded."""
    factors = [(across, down) for _, across, down, _ in image.layer]
    most = max(across for across, _ in factors) * max(down for _, down in factors)
    return int(2 * area * sum(across * down for across, down in factors) / most)


def _levels(data: bytes) -> int:
    """Return how often a JPEG 2000 can be halved while it is decoded: the decomposition levels of its COD segment."""
    start = data.find(b"\xff\x4f\xff\x51")
    at = data.find(b"\xff\x52", start) if start >= 0 else -1
    return data[at + 9] if 0 <= at < len(data) - 9 and data[at + 9] <= 32 else 0


def tiff_compression(original: object, frames: Sequence[Image]) -> str:
    """Return the compression of the original if it can encode these frames."""
    modes = {frame.mode for frame in frames}
    if original in _COMPRESSIONS or (original in ("group3", "group4", "tiff_ccitt") and modes == {"1"}):
        return str(original)
    if original == "jpeg" and modes <= {"L", "RGB", "CMYK", "YCbCr"}:
        return "jpeg"
    return "tiff_adobe_deflate"


def _made(data: bytes | None, size: tuple[int, int], kind: str, content_type: str | None = None) -> Made:
    from PIL import Image  # noqa: PLC0415  # an extra

    return {
        "data": data,
        "width": size[0],
        "height": size[1],
        "format": kind,
        "content_type": content_type or Image.MIME[kind],
    }


def _fit(image: Image, full: tuple[int, int], size: Sequence[int] | None, kind: str) -> Image:
    from PIL import Image as pillow  # noqa: N813, PLC0415  # an extra
    from PIL import ImageOps  # noqa: PLC0415  # an extra

    if size is None:
        return _encodable(image, kind)
    smooth = _resizable(image)
    if len(size) > 2 and size[2]:
        fitted = ImageOps.fit(smooth, (size[0], size[1]), pillow.Resampling.LANCZOS)
    else:
        fitted = smooth.resize(_contained(full, size[0], size[1]), pillow.Resampling.LANCZOS, reducing_gap=2.0)
    if image.mode.startswith("I;16"):
        fitted = fitted.convert(image.mode)
    fitted.info = dict(image.info)
    return _encodable(fitted, kind)


def _contained(full: tuple[int, int], x: int, y: int) -> tuple[int, int]:
    """Return the size that `Image.thumbnail` gives a picture of the size `full`, which may be decoded smaller."""
    width, height = full
    if x >= width and y >= height:
        return full
    aspect = width / height
    if x / y >= aspect:
        return _nearest(y * aspect, lambda n: abs(aspect - n / y)), y
    return x, _nearest(x / aspect, lambda n: abs(aspect - x / n) if n else 0)


def _nearest(number: float, error: Any) -> int:
    return max(min(math.floor(number), math.ceil(number), key=error), 1)


def _encodable(image: Image, kind: str) -> Image:
    """Return the image in a mode that the format can store, on white if it has no transparency."""
    from PIL import Image as pillow  # noqa: N813, PLC0415  # an extra

    if kind == "PNG" and image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        return image.convert("RGB")
    if kind not in ("AVIF", "HEIF", "JPEG", "WEBP"):
        return image
    if image.mode.startswith(("I", "F")):
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if kind != "JPEG" or image.mode in ("1", "L", "RGB", "CMYK", "YCbCr"):
        return image.convert("RGB") if kind != "JPEG" and image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else image
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer, flat = image.convert("RGBA"), pillow.new("RGB", image.size, "white")
    flat.paste(layer, mask=layer.getchannel("A"))
    flat.info = dict(image.info)
    return flat


def _resizable(image: Image) -> Image:
    """Return the image in a mode that can be interpolated, unlike a palette."""
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I;16"):
        return image.convert("I")
    if image.mode not in ("P", "PA"):
        return image
    return image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")


# The worker process. A message is the length of its JSON, the JSON, and the bytes whose lengths its "blobs" lists.


def main() -> None:
    """Answer messages on stdin until it ends, which it also does if the parent is killed."""
    answers = os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)  # a library that prints does not spoil an answer
    requests: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    worker = _Worker()
    while (request := requests.get()) is not None:
        head, blobs = worker.answer(*request)
        send(answers, head, blobs)


def _read_requests(requests: queue.SimpleQueue[Message | None]) -> None:
    with os.fdopen(0, "rb", 0, closefd=False) as stream:
        try:
            while True:
                requests.put(receive(stream))
        except (EOFError, OSError):
            requests.put(None)
    time.sleep(1)
    os._exit(1)  # a decoder is busy, for a parent that has ended


def send(stream: BinaryIO, head: Mapping[str, Any], blobs: Sequence[bytes]) -> None:
    """Write one message."""
    text = json.dumps({**head, "blobs": [len(blob) for blob in blobs]}).encode()
    for part in (struct.pack(">I", len(text)) + text, *blobs):
        view = memoryview(part)
        while view:
            view = view[stream.write(view) :]


def receive(stream: BinaryIO) -> Message:
    """Read one message. Raises `EOFError` at the end of the stream."""
    (length,) = struct.unpack(">I", _exactly(stream, 4))
    head: dict[str, Any] = json.loads(_exactly(stream, length))
    return head, [_exactly(stream, each) for each in head["blobs"]]


def _exactly(stream: BinaryIO, length: int) -> bytes:
    parts = bytearray(length)
    view = memoryview(parts)
    while view:
        count: int | None = stream.readinto(view)  # type: ignore[attr-defined]  # an unbuffered file
        if not count:
            raise EOFError
        view = view[count:]
    view.release()
    return bytes(parts)


class _Worker:
    def __init__(self) -> None:
        self._original: Original | None = None
        self._plugins: dict[str, Any] = {}

    def answer(self, head: dict[str, Any], blobs: list[bytes]) -> Message:
        try:
            with _refusing():
                return getattr(self, f"_do_{head['do']}")(head, blobs)  # type: ignore[no-any-return]  # by the name of the request
        except Refused as error:
            self._original = None
            lift_memory_limit()
            refused = {"reason": error.reason, "limit": error.limit, "actual": error.actual}
            return {"refused": {**refused, "undecodable": error.undecodable}}, []

    def _do_start(self, head: dict[str, Any], blobs: list[bytes]) -> Message:
        sys.path[:] = head["path"]
        from PIL import Image  # noqa: PLC0415  # it is found on the path of the parent

        Image.MAX_IMAGE_PIXELS = None  # `max_pixels` is the limit
        Image.init()
        if avif := sys.modules.get("PIL.AvifImagePlugin"):
            avif.DEFAULT_MAX_THREADS = 1  # type: ignore[attr-defined]  # a setting of this module
        return {}, []

    def _do_wait(self, head: dict[str, Any], blobs: list[bytes]) -> Message:
        """Answer, so that the parent knows when this process has started."""
        return {}, []

    def _do_inspect(self, head: dict[str, Any], blobs: list[bytes]) -> Message:
        """Open and measure a picture, and say how much memory decoding it takes."""
        if head["job"]["plugins"] != self._plugins:
            self._plugins = head["job"]["plugins"]
            _register(self._plugins)
        if head["slow"] and hasattr(os, "nice"):
            os.nice(10)  # the service and its other pictures come first
        limit_memory(head["memory"])
        self._original = None
        self._original = Original(blobs[0], head["job"])
        return {"memory": self._original.memory}, []

    def _do_make(self, head: dict[str, Any], blobs: list[bytes]) -> Message:
        assert self._original is not None  # "inspect" has succeeded
        limit_memory(head["memory"])
        original, self._original = self._original, None
        made = original.made()
        del original
        lift_memory_limit()
        found = [made["main"], made["thumbnail"], *made["variants"].values()]
        changed = [each for each in found if each is not None and each["data"] is not None]
        data = [each["data"] for each in changed]
        for at, each in enumerate(changed):
            each["data"] = at
        return made, data


def limit_memory(more: int) -> None:
    """Allow this process so many more bytes, if the system can say how many it has (Linux)."""
    try:
        with open("/proc/self/statm", "rb") as file:
            now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return
    _set_memory_limit(now + more)


def lift_memory_limit() -> None:
    """Allow this process the memory that the system allows it. The next file has to be read."""
    _set_memory_limit(None)


def _set_memory_limit(most: int | None) -> None:
    try:
        import resource  # noqa: PLC0415  # not on Windows
    except ImportError:
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    allowed = hard if most is None else most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))


if __name__ == "__main__":
    main()
