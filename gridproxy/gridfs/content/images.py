"""The sizes and limits of pictures, as of MongoEngine's `ImageField(size=, thumbnail_size=)`, and what is made. No I/O.

A picture that needs no change is stored byte for byte. A changed one keeps its format, and an animation keeps its
frames. `decoding.py` makes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from gridproxy.errors import BadOption, PictureRefused
from gridproxy.gridfs.records.media_types import describe_type
from gridproxy.runtime.extras import require_extra

from .decoding import FORMATS, Job, Refused
from .sniffing import certain_type

# Width and height in pixels, and whether the picture is cropped to exactly this size.
Size = tuple[int, int] | tuple[int, int, bool]

# A limit of pixels does not bound the number of tiny frames, and each frame costs as much as a picture.
_MOST_FRAMES = 5000
# About 256 MB of decoded pixels: the default of `Image.MAX_IMAGE_PIXELS`.
_MOST_PIXELS = 1024 * 1024 * 1024 // 4 // 3


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
        max_frames: The largest number of frames of an animation, or of pages.
        timeout: The number of seconds that decoding and encoding may take. Waiting for other pictures is not counted.
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
    max_frames: int = _MOST_FRAMES
    timeout: float = 20.0
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
        import_module("PIL.Image").init()  # imports the decoders, which would block the loop at the first upload
        if self.max_pixels is not None and not _all_pixels([self.max_pixels]):
            raise BadOption(f"max_pixels is a whole number from 1, not {self.max_pixels!r}")
        if not _all_pixels([self.max_frames]):
            raise BadOption(f"max_frames is a whole number from 1, not {self.max_frames!r}")
        if not _is_time(self.timeout):
            raise BadOption(f"timeout is a number of seconds above 0, not {self.timeout!r}")
        if self.quality is not None and not (_all_pixels([self.quality]) and self.quality <= 100):
            raise BadOption(f"quality is a whole number from 1 to 100, not {self.quality!r}")
        if self.format is not None:
            object.__setattr__(self, "format", _checked_format(self.format))

    def job(self, plugins: dict[str, dict[str, list[str] | str | None]]) -> Job:
        """Return these options for a decoder, which may be another process."""
        from PIL import Image, ImageFile  # noqa: PLC0415  # an extra, which `__post_init__` has checked

        return {
            "size": self.size,
            "thumbnail_size": self.thumbnail_size,
            "variants": dict(self.variants),
            "max_pixels": self.max_pixels or min(_MOST_PIXELS, Image.MAX_IMAGE_PIXELS or _MOST_PIXELS),
            "max_frames": self.max_frames,
            "format": self.format,
            "quality": self.quality,
            "truncated": ImageFile.LOAD_TRUNCATED_IMAGES,
            "plugins": plugins,
        }


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


def picture_of(made: Mapping[str, Any], data: bytes) -> Picture:
    """Return what a decoder made. The main picture has the bytes of the original if it is unchanged."""

    def rendition(each: Mapping[str, Any]) -> Rendition:
        return Rendition(**{**each, "data": data if each["data"] is None else each["data"]})

    thumbnail = None if made["thumbnail"] is None else rendition(made["thumbnail"])
    return Picture(
        rendition(made["main"]), thumbnail, {name: rendition(each) for name, each in made["variants"].items()}
    )


def refusal(error: Refused, data: bytes, field: str | None, filename: str | None) -> PictureRefused:
    """Return the error for the caller, which names the file and what it looks like."""
    if not error.undecodable:
        return PictureRefused(error.reason, field=field, limit=error.limit, actual=error.actual)
    found = certain_type(data[:4096])
    looks = "" if found is None else f", although it looks like {describe_type(found)}"
    subject = repr(filename) if filename else "this" if field else "This"
    return PictureRefused(f"{subject} is not a picture that can be decoded{looks} ({error.reason})", field=field)


def _checked_format(name: object) -> str:
    from PIL import Image  # noqa: PLC0415  # see ImageOptions.job

    Image.init()
    kind = {"JPG": "JPEG", "HEIC": "HEIF"}.get(str(name).upper(), str(name).upper())
    if kind not in FORMATS or kind not in Image.SAVE:
        encodable = ", ".join(each for each in FORMATS if each in Image.SAVE)
        raise BadOption(f"format is one of {encodable}, not {name!r}")
    return kind


def _check_size(what: str, size: object) -> None:
    if size is None and what in ("size", "thumbnail_size"):
        return
    is_size = isinstance(size, tuple) and len(size) in (2, 3)
    if not is_size or not _all_pixels(size[:2]) or not all(isinstance(crop, bool) for crop in size[2:]):  # type: ignore[index]  # `is_size` has checked its type
        raise BadOption(f"{what} is (width, height) or (width, height, crop), such as (800, 600, True), not {size!r}")


def _all_pixels(numbers: Iterable[object]) -> bool:
    return all(isinstance(each, int) and not isinstance(each, bool) and each > 0 for each in numbers)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
