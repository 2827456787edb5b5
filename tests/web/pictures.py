"""Pictures for the gallery: mountains at some hour of the day, and a marmot on its meadow."""

from __future__ import annotations

import io
import math
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFilter

from tests.web.webm import webm

__all__ = ["as_file", "mountains", "video_of_a_day"]

Colour = tuple[int, int, int]

# (hour, top of the sky, its foot, the ridges)
_DAY: list[tuple[float, Colour, Colour, Colour]] = [
    (0, (12, 18, 44), (38, 46, 84), (18, 24, 46)),
    (6, (72, 84, 140), (246, 176, 128), (58, 62, 98)),
    (12, (92, 158, 214), (214, 234, 242), (74, 116, 96)),
    (19, (88, 70, 132), (250, 150, 96), (74, 54, 86)),
    (24, (12, 18, 44), (38, 46, 84), (18, 24, 46)),
]


def mountains(
    hour: float, *, width: int = 960, height: int = 720, place: float = 0.0, marmot: bool = False
) -> Image.Image:
    """Draw the same range at any hour, seen from another `place` each time."""
    top, foot, ridge = _colours(hour)
    column = Image.new("RGB", (1, height))
    for y in range(height):
        column.putpixel((0, y), _between(top, foot, min(1.0, y / height * 1.4)))
    picture = column.resize((width, height))
    draw = ImageDraw.Draw(picture)
    turn = (hour - 6) / 12 * math.pi
    sun_x, sun_y = width * (0.5 - 0.42 * math.cos(turn)), height * (0.62 - 0.5 * math.sin(turn))
    radius = height // 18
    draw.ellipse((sun_x - radius, sun_y - radius, sun_x + radius, sun_y + radius), fill=(255, 240, 205))
    for layer in range(4):
        shade = _between(foot, ridge, 0.35 + 0.2 * layer)
        base = height * (0.48 + 0.12 * layer)
        line = [
            (
                at,
                base
                + height * 0.1 * math.sin(at / width * (5 + 3 * layer) + place * (layer + 1) + layer)
                + height * 0.03 * math.sin(at / width * 23 + place * 7 + layer * 2),
            )
            for at in range(0, width + 8, 8)
        ]
        draw.polygon([(0, height), *line, (width + 8, height)], fill=shade)
    if marmot:
        _marmot(draw, width * 0.66, height * 0.98, height * 0.42, _between(ridge, (146, 110, 74), 0.75))
    return picture.filter(ImageFilter.GaussianBlur(0.6))


def video_of_a_day(frames: int) -> bytes:
    """Return a day above the marmot, in a few seconds of WebM."""
    hours = [5 + 15 * at / frames for at in range(frames)]
    return webm([mountains(hour, width=640, height=480, marmot=True) for hour in hours], 0.25)


def as_file(picture: Image.Image, kind: str) -> bytes:
    """Return the picture as a file of this kind ("JPEG", "PNG")."""
    file = io.BytesIO()
    picture.save(file, kind, quality=88)
    return file.getvalue()


def _colours(hour: float) -> tuple[Colour, Colour, Colour]:
    for (before, *earlier), (after, *later) in pairwise(_DAY):
        if before <= hour <= after:
            share = (hour - before) / (after - before)
            top, foot, ridge = (_between(old, new, share) for old, new in zip(earlier, later, strict=True))
            return top, foot, ridge
    raise ValueError(f"an hour is between 0 and 24, not {hour}")


def _between(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _marmot(draw: ImageDraw.ImageDraw, x: float, foot: float, tall: float, fur: Colour) -> None:
    def oval(left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        draw.ellipse((x + left * tall, foot - top * tall, x + right * tall, foot - bottom * tall), fill=fill)

    dark, light = _between(fur, (0, 0, 0), 0.7), _between(fur, (255, 255, 255), 0.35)
    oval(-0.30, 0.72, 0.30, -0.10, fur)
    for side in (-0.215, 0.155):
        oval(side, 0.95, side + 0.06, 0.87, dark)
    oval(-0.19, 1.00, 0.19, 0.62, fur)
    oval(-0.11, 0.80, 0.11, 0.65, light)
    oval(-0.04, 0.81, 0.04, 0.755, dark)
    for side in (-0.115, 0.075):
        oval(side, 0.91, side + 0.04, 0.87, dark)
    draw.rectangle((x - 0.03 * tall, foot - 0.715 * tall, x + 0.03 * tall, foot - 0.65 * tall), (250, 244, 230))
    oval(-0.15, 0.50, 0.15, 0.05, light)
