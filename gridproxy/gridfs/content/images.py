"""Decodes, resizes and encodes pictures, as MongoEngine's `ImageField(size=, thumbnail_size=)` does. No I/O.

The functions block and run in a worker thread. A picture that needs no change is stored byte for byte. A changed one
keeps its format, and an animation keeps its frames.
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

# Width and height in pixels, and whether the picture is cropped to exactly this size.
Size = tuple[int, int] | tuple[int, int, bool]

# Formats whose decoders are meant for untrusted input. Pillow also has one that starts Ghostscript.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "TIFF", "WEBP")
_SEVERAL_FRAMES = {"AVIF", "GIF", "PNG", "TIFF", "WEBP"}
# A limit of pixels does not bound the number of tiny frames, and each frame costs as much as a picture.
_MOST_FRAMES = 5000
_ORIENTATION = 0x0112
_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """The sizes in which a field stores its pictures. Needs the extra `images` (Pillow).

    A size is (width, height) in pixels, or (width, height, True) to crop the picture to exactly this size. Thumbnail
    and variants are smaller pictures that are stored, replaced and removed together with the main picture.

    Args:
        size: The largest size of the main picture. A larger picture is scaled down.
        thumbnail_size: The size of the thumbnail.
        variants: The sizes of further pictures by their names.

    Raises:
        BadOption: A name or a size is not valid, or the extra is not installed.

    ```python
    options = ImageOptions(size=(1600, 1200), thumbnail_size=(150, 150, True), variants={"small": (400, 300)})
    photo = AsyncGridFile(options=FileOptions(image=options))
    ```
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
                raise BadOption(f"a variant's name is a non-empty str without '.' and '$', not {name!r}")
        for what, size in (("size", self.size), ("thumbnail_size", self.thumbnail_size), *self.variants.items()):
            _check_size(what, size)
        object.__setattr__(self, "variants", dict(self.variants))
        require_extra("PIL", "images", "a field for pictures")


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


def make_picture(data: bytes, options: ImageOptions, field: str | None = None) -> Picture:
    """Decode a picture, rotate it as its EXIF data say, and encode it in the sizes of `options`.

    Raises `PictureRefused` if it cannot be decoded, has more pixels (in all frames) than Pillow's limit, or more than
    5000 frames.
    """
    from PIL import Image  # noqa: PLC0415  # an extra, which `ImageOptions` has checked

    Image.init()
    try:
        with Image.open(BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
            return _make(_Original(data, image, field), options)
    except PictureRefused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureRefused(str(error), field=field, limit=Image.MAX_IMAGE_PIXELS) from error
    except Exception as error:  # decoders raise any kind of error for crafted bytes
        raise PictureRefused(f"this is not a picture that can be decoded ({error})", field=field) from error


def _make(original: _Original, options: ImageOptions) -> Picture:
    size = options.size
    too_large = size is not None and (original.image.width > size[0] or original.image.height > size[1])
    main = original.rendition(size if too_large else None, main=True)
    thumbnail = None if options.thumbnail_size is None else original.rendition(options.thumbnail_size)
    return Picture(main, thumbnail, {name: original.rendition(size) for name, size in options.variants.items()})


class _Original:
    def __init__(self, data: bytes, image: Image, field: str | None) -> None:
        from PIL import Image as pillow  # noqa: N813, PLC0415  # see make_picture
        from PIL import ImageOps  # noqa: PLC0415  # see make_picture

        self._data = data
        # Phones write a JPEG followed by a second picture.
        self._format = "JPEG" if image.format == "MPO" else str(image.format)
        self._content_type = pillow.MIME[self._format]
        frames = _frames_in(image) if self._format in _SEVERAL_FRAMES else 1
        if frames > _MOST_FRAMES:
            reason = f"the picture has more than {_MOST_FRAMES} frames"
            raise PictureRefused(reason, field=field, limit=_MOST_FRAMES, actual=frames)
        pixels, limit = image.width * image.height * frames, pillow.MAX_IMAGE_PIXELS
        if limit is not None and pixels > limit:
            reason = f"the picture has {pixels} pixels in all frames, more than Image.MAX_IMAGE_PIXELS ({limit})"
            raise PictureRefused(reason, field=field, limit=limit, actual=pixels)
        self._animated = frames > 1
        self._rotated = not self._animated and image.getexif().get(_ORIENTATION, 1) not in (0, 1)
        image.load()
        self.image = ImageOps.exif_transpose(image) if self._rotated else image

    def rendition(self, size: Size | None, *, main: bool = False) -> Rendition:
        """Return the picture in this size, or its original bytes if it needs no change."""
        if main and size is None and not self._rotated:
            for _ in self._frames():  # decodes each frame, which fails if it is damaged
                pass
            return Rendition(self._data, *self.image.size, self._format, self._content_type)
        frames = [_fit(frame, size) for frame in self._frames()]
        return Rendition(self._encode(frames, main), *frames[0].size, self._format, self._content_type)

    def _frames(self) -> Iterator[Image]:
        from PIL import ImageSequence  # noqa: PLC0415  # see make_picture

        if self._animated:
            for frame in ImageSequence.Iterator(self.image):
                frame.load()
                yield frame
        else:
            yield self.image

    def _encode(self, frames: list[Image], main: bool) -> bytes:
        info = self.image.info
        options: dict[str, Any] = {"icc_profile": info["icc_profile"]} if info.get("icc_profile") else {}
        if main and info.get("exif"):  # may contain the place, which a thumbnail should not reveal
            options["exif"] = info["exif"]
        if self._format in ("AVIF", "JPEG", "WEBP"):
            options["quality"] = _QUALITY
        if self._format == "JPEG":
            options["progressive"] = bool(info.get("progressive"))
        if self._animated:
            options |= {"save_all": True, "append_images": frames[1:]}
            options |= {"loop": info["loop"]} if "loop" in info else {}
            if all("duration" in frame.info for frame in frames):
                options["duration"] = [frame.info["duration"] for frame in frames]
            if self._format == "GIF":
                options["disposal"] = 2  # here each frame is a complete picture
        target = BytesIO()
        frames[0].save(target, self._format, **options)
        return target.getvalue()


def _frames_in(image: Image) -> int:
    """Return the number of frames. GIF and TIFF frames are counted only up to `_MOST_FRAMES` + 1."""
    if image.format not in ("GIF", "TIFF"):
        return getattr(image, "n_frames", 1)
    # Their `n_frames` reads the whole file, which takes hours for the frames that fit into 64 MB.
    frames = 1
    try:
        while frames <= _MOST_FRAMES:
            image.seek(frames)
            frames += 1
    except EOFError:
        pass
    image.seek(0)
    return frames


def _fit(image: Image, size: Size | None) -> Image:
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
