"""Images: what is made of a picture's bytes; computed in a worker thread, no I/O.

As MongoEngine's users know it (`ImageField(size=, thumbnail_size=)`), and with the picture kept as it came where
nothing has to be done to it: a progressive JPEG stays one, an animation keeps its frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from gridproxy.errors import BadOption, PictureRefused
from gridproxy.runtime.extras import require_extra

if TYPE_CHECKING:
    from PIL.Image import Image

# Width, height, and whether exactly these are wanted, cut to their proportions.
Size = tuple[int, int] | tuple[int, int, bool]

# Decoders that were made to meet strangers; Pillow's others include one that starts Ghostscript.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "TIFF", "WEBP")
_SEVERAL_FRAMES = {"AVIF", "GIF", "PNG", "TIFF", "WEBP"}
# Frames of one pixel are below any limit of pixels, and each costs as much as a picture.
_MOST_FRAMES = 5000
_ORIENTATION = 0x0112
_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What a field makes of the pictures that are put into it (extra `images`: Pillow).

    `size`, `thumbnail_size` and those of `variants` are (width, height) in pixels, or (width, height, True) for exactly
    these, cut to their proportions. `size` is the largest that the picture itself may have; a larger one is scaled
    down. `thumbnail_size` and `variants`, by name, are smaller pictures that are stored, replaced and removed together
    with it.

    Raises `BadOption` for names and sizes that are none, and where the extra is missing.
    """

    size: Size | None = None
    thumbnail_size: Size | None = None
    variants: Mapping[str, Size] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.variants, Mapping):
            raise BadOption(
                f"variants is a mapping of names to sizes, such as {{'small': (200, 200)}}, not {self.variants!r}"
            )
        names: list[object] = list(self.variants)
        for name in names:
            if not isinstance(name, str) or not name or "." in name or "$" in name or "\0" in name:
                raise BadOption(f"a variant's name is a str without '.' and '$', not {name!r}")
        for what, size in (("size", self.size), ("thumbnail_size", self.thumbnail_size), *self.variants.items()):
            _check_size(what, size)
        object.__setattr__(self, "variants", dict(self.variants))
        require_extra("PIL", "images", "a picture's field")


@dataclass(frozen=True, slots=True)
class Rendition:
    """One picture as it is going to be stored."""

    data: bytes
    width: int
    height: int
    format: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Picture:
    """The picture itself and what goes with it."""

    main: Rendition
    thumbnail: Rendition | None
    variants: Mapping[str, Rendition]


def make_picture(data: bytes, options: ImageOptions, field: str | None = None) -> Picture:
    """Decode a picture, turn it upright as its EXIF data say, and make what `options` ask for.

    Raises `PictureRefused` for what cannot be decoded, has more pixels (in all of its frames) than Pillow's limit, or
    more than 5000 frames.
    """
    from PIL import Image  # noqa: PLC0415  # an extra: whoever made the options has it

    Image.init()
    try:
        with Image.open(BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
            return _made(_Original(data, image), options)
    except _TooMuch as error:
        raise PictureRefused(str(error), field=field, limit=error.limit, actual=error.actual) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureRefused(str(error), field=field, limit=Image.MAX_IMAGE_PIXELS) from error
    except Exception as error:  # decoders fail in any way on bytes that somebody made up
        raise PictureRefused(f"this is no picture that can be decoded ({error})", field=field) from error


class _TooMuch(Exception):
    def __init__(self, message: str, limit: int, actual: int) -> None:
        self.limit = limit
        self.actual = actual
        super().__init__(message)


def _made(original: _Original, options: ImageOptions) -> Picture:
    size = options.size
    too_large = size is not None and (original.image.width > size[0] or original.image.height > size[1])
    main = original.rendition(size if too_large else None, main=True)
    thumbnail = None if options.thumbnail_size is None else original.rendition(options.thumbnail_size)
    return Picture(main, thumbnail, {name: original.rendition(size) for name, size in options.variants.items()})


class _Original:
    def __init__(self, data: bytes, image: Image) -> None:
        from PIL import Image as pillow  # noqa: N813, PLC0415  # see make_picture
        from PIL import ImageOps  # noqa: PLC0415  # see make_picture

        self._data = data
        # Phones write a JPEG with a second picture behind it.
        self._format = "JPEG" if image.format == "MPO" else str(image.format)
        self._content_type = pillow.MIME[self._format]
        frames = _frames_in(image) if self._format in _SEVERAL_FRAMES else 1
        if frames > _MOST_FRAMES:
            raise _TooMuch(f"the picture has more than {_MOST_FRAMES} frames", _MOST_FRAMES, frames)
        pixels, limit = image.width * image.height * frames, pillow.MAX_IMAGE_PIXELS
        if limit is not None and pixels > limit:
            message = f"the picture has {pixels} pixels in all, more than the {limit} of Image.MAX_IMAGE_PIXELS"
            raise _TooMuch(message, limit, pixels)
        self._moving = frames > 1
        self._turned = not self._moving and image.getexif().get(_ORIENTATION, 1) not in (0, 1)
        image.load()
        self.image = ImageOps.exif_transpose(image) if self._turned else image

    def rendition(self, size: Size | None, *, main: bool = False) -> Rendition:
        """The picture in this size; as it came where that is its own, and it stands upright."""
        if main and size is None and not self._turned:
            for _ in self._frames():  # each has to be one
                pass
            return Rendition(self._data, *self.image.size, self._format, self._content_type)
        frames = [_fitted(frame, size) for frame in self._frames()]
        return Rendition(self._encoded(frames, main), *frames[0].size, self._format, self._content_type)

    def _frames(self) -> Iterator[Image]:
        from PIL import ImageSequence  # noqa: PLC0415  # see make_picture

        if self._moving:
            for frame in ImageSequence.Iterator(self.image):
                frame.load()
                yield frame
        else:
            yield self.image

    def _encoded(self, frames: list[Image], main: bool) -> bytes:
        info = self.image.info
        options: dict[str, Any] = {"icc_profile": info["icc_profile"]} if info.get("icc_profile") else {}
        if main and info.get("exif"):  # of a small picture nobody wants to know where it was taken
            options["exif"] = info["exif"]
        if self._format in ("AVIF", "JPEG", "WEBP"):
            options["quality"] = _QUALITY
        if self._format == "JPEG":
            options["progressive"] = bool(info.get("progressive"))
        if self._moving:
            options |= {"save_all": True, "append_images": frames[1:]}
            options |= {"loop": info["loop"]} if "loop" in info else {}
            if all("duration" in frame.info for frame in frames):
                options["duration"] = [frame.info["duration"] for frame in frames]
            if self._format == "GIF":
                options["disposal"] = 2  # every frame is a whole picture here
        target = BytesIO()
        frames[0].save(target, self._format, **options)
        return target.getvalue()


def _frames_in(image: Image) -> int:
    """How many frames there are; not counted past `_MOST_FRAMES`, where they are not simply told."""
    if image.format not in ("GIF", "TIFF"):
        return getattr(image, "n_frames", 1)
    # Their `n_frames` goes through all of the file, which takes hours for as many as can lie in 64 MB.
    frames = 1
    try:
        while frames <= _MOST_FRAMES:
            image.seek(frames)
            frames += 1
    except EOFError:
        pass
    image.seek(0)
    return frames


def _fitted(image: Image, size: Size | None) -> Image:
    from PIL import Image as pillow  # noqa: N813, PLC0415  # see make_picture
    from PIL import ImageOps  # noqa: PLC0415  # see make_picture

    if size is None:
        return image
    smooth = _resizable(image)
    if size[2:] == (True,):
        fitted = ImageOps.fit(smooth, size[:2], pillow.Resampling.LANCZOS)
    else:
        fitted = smooth.copy()
        fitted.thumbnail(size[:2], pillow.Resampling.LANCZOS)
    if image.mode.startswith("I;16"):
        fitted = fitted.convert(image.mode)
    fitted.info = dict(image.info)
    return fitted


def _resizable(image: Image) -> Image:
    """In a mode that has what lies between two of its values: a palette has not."""
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
    whole = isinstance(size, tuple) and len(size) in (2, 3)
    if not whole or not _all_pixels(size[:2]) or not all(isinstance(force, bool) for force in size[2:]):  # type: ignore[index]  # `whole` says that it can be
        raise BadOption(f"{what} is (width, height) or (width, height, force), such as (800, 600, True), not {size!r}")


def _all_pixels(numbers: Iterable[object]) -> bool:
    return all(isinstance(each, int) and not isinstance(each, bool) and each > 0 for each in numbers)
