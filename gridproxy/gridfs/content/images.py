"""Decodes, resizes and encodes pictures, as MongoEngine's `ImageField(size=, thumbnail_size=)` does. No I/O.

The functions block and run in a worker thread. A picture that needs no change is stored byte for byte. A changed one
keeps its format, and an animation keeps its frames.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from gridproxy.errors import BadOption, PictureRefused
from gridproxy.gridfs.records.media_types import describe_type
from gridproxy.runtime.extras import require_extra

from .sniffing import certain_type

if TYPE_CHECKING:
    from PIL.Image import Image

# Width and height in pixels, and whether the picture is cropped to exactly this size.
Size = tuple[int, int] | tuple[int, int, bool]

# Formats whose decoders are meant for untrusted input. Pillow also has one that starts Ghostscript.
# HEIF is one of them after `pillow_heif.register_heif_opener()`.
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "TIFF", "WEBP")
_SEVERAL_FRAMES = {"AVIF", "GIF", "PNG", "TIFF", "WEBP"}
# A limit of pixels does not bound the number of tiny frames, and each frame costs as much as a picture.
_MOST_FRAMES = 5000
_ORIENTATION = 0x0112
_QUALITY = 90
# About 256 MB of decoded pixels: the default of `Image.MAX_IMAGE_PIXELS`.
_MOST_PIXELS = 1024 * 1024 * 1024 // 4 // 3
# Compressions of TIFF that encode every mode. Others are for black and white, or can only be decoded.
_COMPRESSIONS = {"raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "lzma", "zstd"}
_ADDRESS = re.compile(r"\s*<[^<>]* at 0x[0-9a-fA-F]+>")


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The sizes in which a field stores its pictures. Needs the extra `images` (Pillow).

    A size is (width, height) in pixels, or (width, height, True) to crop the picture to exactly this size. Thumbnail
    and variants are smaller pictures that are stored, replaced and removed together with the main picture.

    Args:
        size: The largest size of the main picture. A larger picture is scaled down.
        thumbnail_size: The size of the thumbnail.
        variants: The sizes of further pictures by their names.
        max_pixels: The largest number of pixels in all frames. By default 89 million, or Pillow's
            `Image.MAX_IMAGE_PIXELS` if that is lower.
        format: The format of thumbnail and variants, such as "WEBP" or "AVIF". By default that of the main picture.
        quality: The quality of encoded JPEG, WebP, AVIF and HEIC pictures, from 1 to 100. 90 by default.

    Raises:
        BadOption: A name, a size or another option is not valid, or the extra is not installed.

    ```python
    options = ImageOptions(size=(1600, 1200), thumbnail_size=(150, 150, True), variants={"small": (400, 300)})
    photo = AsyncGridFile(options=FileOptions(image=options))
    ```
    """

    size: Size | None = None
    thumbnail_size: Size | None = None
    variants: Mapping[str, Size] = field(default_factory=dict, hash=False)
    max_pixels: int | None = None
    format: str | None = None
    quality: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.variants, Mapping):
            raise BadOption(
                f"variants is a mapping of names to sizes, such as {{'small': (200, 200)}}, not {self.variants!r}"
            )
        names: list[object] = list(self.variants)
        for name in names:
            if not isinstance(name, str) or not name or "." in name or "$" in name or "\0" in name:
                raise BadOption(f"a variant's name is a non-empty str without '.' and '$', not {name!r}")
        for what, size in (("size", self.size), ("thumbnail_size", self.thumbnail_size), *self.variants.items()):
            _check_size(what, size)
        object.__setattr__(self, "variants", dict(self.variants))
        require_extra("PIL", "images", "a field for pictures")
        if self.max_pixels is not None and not _all_pixels([self.max_pixels]):
            raise BadOption(f"max_pixels is a whole number from 1, not {self.max_pixels!r}")
        if self.quality is not None and not (_all_pixels([self.quality]) and self.quality <= 100):
            raise BadOption(f"quality is a whole number from 1 to 100, not {self.quality!r}")
        if self.format is not None:
            object.__setattr__(self, "format", _checked_format(self.format))


@dataclass(frozen=True, slots=True)
class Rendition:
    """One encoded picture, ready to be stored."""

    data: bytes
    width: int
    height: int
    format: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Picture:
    """The main picture with its thumbnail and variants."""

    main: Rendition
    thumbnail: Rendition | None
    variants: Mapping[str, Rendition]


def make_picture(data: bytes, options: ImageOptions, field: str | None = None, filename: str | None = None) -> Picture:
    """Decode a picture, rotate it as its EXIF data say, and encode it in the sizes of `options`.

    Raises `PictureRefused` if it cannot be decoded, or has more pixels (in all frames) or frames than the limits.
    """
    from PIL import Image  # noqa: PLC0415  # an extra, which `ImageOptions` has checked

    Image.init()
    try:
        with _open(data) as image:
            return _make(_Original(data, image, options, field), options)
    except PictureRefused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureRefused(str(error), field=field, limit=Image.MAX_IMAGE_PIXELS) from error
    except Exception as error:  # decoders raise any kind of error for crafted bytes
        found = certain_type(data[:4096])
        looks = "" if found is None else f", although it looks like {describe_type(found)}"
        reason = _ADDRESS.sub("", str(error)) or type(error).__name__
        subject = repr(filename) if filename else "this" if field else "This"
        raise PictureRefused(
            f"{subject} is not a picture that can be decoded{looks} ({reason})", field=field
        ) from error


def _open(data: bytes) -> Image:
    """Open a picture as `Image.open` does, but without its limit, which is replaced by `ImageOptions.max_pixels`."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415  # see make_picture

    for name in _FORMATS:
        if name in Image.OPEN:
            factory, accept = Image.OPEN[name]
            if accept is None or accept(data[:16]) is True:
                try:
                    return factory(BytesIO(data), "")
                except (SyntaxError, IndexError, TypeError, struct.error):  # the decoder declines, as in Image.open
                    continue
    raise UnidentifiedImageError("no registered decoder accepts it")


def _make(original: _Original, options: ImageOptions) -> Picture:
    size = options.size
    too_large = size is not None and (original.image.width > size[0] or original.image.height > size[1])
    main = original.main(size if too_large else None)
    thumbnail = None if options.thumbnail_size is None else original.rendition(options.thumbnail_size)
    return Picture(main, thumbnail, {name: original.rendition(size) for name, size in options.variants.items()})


class _Original:
    def __init__(self, data: bytes, image: Image, options: ImageOptions, field: str | None) -> None:
        from PIL import Image as pillow  # noqa: N813, PLC0415  # see make_picture
        from PIL import ImageOps  # noqa: PLC0415  # see make_picture

        self._data = data
        # Phones write a JPEG followed by a second picture.
        self._format = "JPEG" if image.format == "MPO" else str(image.format)
        self._options = options
        most = options.max_pixels or min(_MOST_PIXELS, pillow.MAX_IMAGE_PIXELS or _MOST_PIXELS)
        frames = _count_frames(image, most, field, several=self._format in _SEVERAL_FRAMES)
        self._animated = frames > 1
        self._rotated = not self._animated and image.getexif().get(_ORIENTATION, 1) not in (0, 1)
        image.load()
        self.image = ImageOps.exif_transpose(image) if self._rotated else image

    def main(self, size: Size | None) -> Rendition:
        """Return the main picture in this size, or its original bytes if it needs no change."""
        if size is None and not self._rotated:
            for _ in self._frames():  # decodes each frame, which fails if it is damaged
                pass
            kind = self.image.get_format_mimetype() if self._format == "HEIF" else None  # type: ignore[attr-defined]  # it was opened from a file
            return Rendition(self._data, *self.image.size, self._format, kind or _mime(self._format))
        return self._encoded(size, self._format, exif=True)

    def rendition(self, size: Size | None) -> Rendition:
        """Return a thumbnail or a variant. It has no EXIF data, which may reveal the place."""
        return self._encoded(size, self._options.format or self._format, exif=False)

    def _encoded(self, size: Size | None, kind: str, *, exif: bool) -> Rendition:
        from PIL import Image  # noqa: PLC0415  # see make_picture

        kind = kind if kind in Image.SAVE else "JPEG"  # a decoder may come without an encoder
        frames = [_fit(frame, size, kind) for frame in self._frames()]
        return Rendition(self._encode(frames, kind, exif), *frames[0].size, kind, _mime(kind))

    def _frames(self) -> Iterator[Image]:
        from PIL import ImageSequence  # noqa: PLC0415  # see make_picture

        if self._animated:
            for frame in ImageSequence.Iterator(self.image):
                frame.load()
                yield frame
        else:
            yield self.image

    def _encode(self, frames: list[Image], kind: str, exif: bool) -> bytes:
        info = self.image.info
        options: dict[str, Any] = {}
        if info.get("icc_profile") and (self.image.mode == "CMYK") == (frames[0].mode == "CMYK"):
            options["icc_profile"] = info["icc_profile"]
        if exif and info.get("exif"):
            options["exif"] = info["exif"]
        if kind in ("AVIF", "HEIF", "JPEG", "WEBP"):
            options["quality"] = self._options.quality or _QUALITY
        if kind == "TIFF":
            options["compression"] = _compression(info.get("compression"), frames)
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


def _count_frames(image: Image, most: int, field: str | None, *, several: bool) -> int:
    """Return the number of frames. Raises `PictureRefused` before a frame above the limits is decoded."""
    frames, pixels = 1, image.width * image.height

    def check() -> None:
        if frames > _MOST_FRAMES:
            reason = f"the picture has more than {_MOST_FRAMES} frames"
            raise PictureRefused(reason, field=field, limit=_MOST_FRAMES, actual=frames)
        if pixels > most:
            reason = f"the picture has {pixels} pixels in all frames, more than the {most} allowed here"
            raise PictureRefused(reason, field=field, limit=most, actual=pixels)

    if image.format not in ("GIF", "TIFF"):
        frames = getattr(image, "n_frames", 1) if several else 1
        pixels *= frames
        check()
        return frames
    # Their `n_frames` reads the whole file, which takes hours for the frames that fit into 64 MB. Pages differ in size.
    check()
    try:
        while True:
            image.seek(frames)
            frames += 1
            pixels += image.width * image.height
            check()
    except EOFError:
        image.seek(0)
        return frames


def _compression(original: object, frames: list[Image]) -> str:
    modes = {frame.mode for frame in frames}
    if original in _COMPRESSIONS or (original in ("group3", "group4", "tiff_ccitt") and modes == {"1"}):
        return str(original)
    if original == "jpeg" and modes <= {"L", "RGB", "CMYK", "YCbCr"}:
        return "jpeg"
    return "tiff_adobe_deflate"


def _mime(kind: str) -> str:
    from PIL import Image  # noqa: PLC0415  # see make_picture

    return Image.MIME[kind]


def _checked_format(name: object) -> str:
    from PIL import Image  # noqa: PLC0415  # see make_picture

    Image.init()
    kind = {"JPG": "JPEG", "HEIC": "HEIF"}.get(str(name).upper(), str(name).upper())
    if kind not in _FORMATS or kind not in Image.SAVE:
        encodable = ", ".join(each for each in _FORMATS if each in Image.SAVE)
        raise BadOption(f"format is one of {encodable}, not {name!r}")
    return kind


def _fit(image: Image, size: Size | None, kind: str) -> Image:
    from PIL import Image as pillow  # noqa: N813, PLC0415  # see make_picture
    from PIL import ImageOps  # noqa: PLC0415  # see make_picture

    if size is None:
        return _encodable(image, kind)
    smooth = _resizable(image)
    if size[2:] == (True,):
        fitted = ImageOps.fit(smooth, size[:2], pillow.Resampling.LANCZOS)
    else:
        fitted = smooth.copy()
        fitted.thumbnail(size[:2], pillow.Resampling.LANCZOS)
    if image.mode.startswith("I;16"):
        fitted = fitted.convert(image.mode)
    fitted.info = dict(image.info)
    return _encodable(fitted, kind)


def _encodable(image: Image, kind: str) -> Image:
    """Return the image in a mode that the format can store, on white if it has no transparency."""
    from PIL import Image as pillow  # noqa: N813, PLC0415  # see make_picture

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


def _check_size(what: str, size: object) -> None:
    if size is None and what in ("size", "thumbnail_size"):
        return
    is_size = isinstance(size, tuple) and len(size) in (2, 3)
    if not is_size or not _all_pixels(size[:2]) or not all(isinstance(crop, bool) for crop in size[2:]):  # type: ignore[index]  # `is_size` has checked its type
        raise BadOption(f"{what} is (width, height) or (width, height, crop), such as (800, 600, True), not {size!r}")


def _all_pixels(numbers: Iterable[object]) -> bool:
    return all(isinstance(each, int) and not isinstance(each, bool) and each > 0 for each in numbers)
