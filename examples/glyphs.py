"""Glyphs drawn from the fonts that matplotlib ships, as small grey images that differ as scans do.

The preparation scripts of the demo and of its root call it. One glyph of one face gives many images: size, slant,
rotation, place, stroke and blur vary with a random generator that the caller seeds, so the same call draws the same
image with the same FreeType.
"""

from __future__ import annotations

import math
import random
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

SIDE = 28
"""Side of the images in pixels."""
OVERSAMPLING = 3
"""Images are drawn this many times larger and then averaged down."""
BODY = 20
"""Longer side of a glyph's ink in pixels before its size varies: as in MNIST."""
FONT_SIZE = 96
"""Pixels per em at which a face is rasterised before it is bent and scaled."""

SANS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique")
MONO = ("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique")
STIX = ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta")
MODERN = ("cmr10", "cmb10", "cmss10", "cmtt10")
SERIF_UPRIGHT = ("DejaVuSerif", "DejaVuSerif-Bold")
SERIF_ITALIC = ("DejaVuSerif-Italic", "DejaVuSerif-BoldItalic")


@dataclass(frozen=True)
class Variation:
    """How far the images of one glyph differ. Angles in degrees, lengths in pixels of the finished image."""

    rotation: float = 8.0
    shear: float = 0.15
    smallest: float = 0.82
    largest: float = 1.12
    aspect: float = 0.12
    shift: float = 1.5
    strokes: tuple[int, ...] = (0, 0, 1, 2)
    blur: float = 0.7


def face_path(face: str) -> Path:
    """The font file of a face that matplotlib ships."""
    return Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"


@cache
def coverage(face: str) -> frozenset[str]:
    """The characters a face has glyphs for."""
    with TTFont(face_path(face), lazy=True) as font:
        return frozenset(map(chr, font.getBestCmap()))


@cache
def _font(face: str) -> ImageFont.FreeTypeFont:
    # The basic layout needs no optional library, so every machine sets the same glyph.
    return ImageFont.truetype(face_path(face), FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)


@cache
def ink(face: str, character: str) -> Image.Image:
    """The glyph in white on black, cropped to its ink."""
    canvas = Image.new("L", (3 * FONT_SIZE, 3 * FONT_SIZE))
    ImageDraw.Draw(canvas).text((FONT_SIZE, FONT_SIZE), character, fill=255, font=_font(face))
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"{face} draws nothing for {character!r}")
    return canvas.crop(box)


def faces_with(faces: Iterable[str], characters: Iterable[str]) -> tuple[str, ...]:
    """Those of the faces that have a glyph for every character."""
    wanted = frozenset(characters)
    return tuple(face for face in faces if wanted <= coverage(face))


def draw(face: str, character: str, rng: random.Random, variation: Variation) -> Image.Image:
    """One image of a glyph, SIDE by SIDE, 8-bit grey, white on black, varied by the generator."""
    glyph = ink(face, character)
    side = SIDE * OVERSAMPLING
    bent = glyph.transform((side, side), Image.Transform.AFFINE, _placement(glyph.size, rng, variation), _BICUBIC)
    stroke = rng.choice(variation.strokes)
    if stroke:
        bent = bent.filter(ImageFilter.MaxFilter(2 * stroke + 1))
    blurred = bent.filter(ImageFilter.GaussianBlur(OVERSAMPLING * variation.blur * rng.random()))
    return blurred.reduce(OVERSAMPLING)


_BICUBIC = Image.Resampling.BICUBIC


def _placement(size: tuple[int, int], rng: random.Random, variation: Variation) -> tuple[float, ...]:
    """The affine map from a pixel of the drawing to one of the glyph, as Pillow wants it."""
    angle = math.radians(rng.uniform(-variation.rotation, variation.rotation))
    shear = rng.uniform(-variation.shear, variation.shear)
    scale = BODY * OVERSAMPLING / max(size) * rng.uniform(variation.smallest, variation.largest)
    aspect = math.exp(rng.uniform(-variation.aspect, variation.aspect))
    shift = [OVERSAMPLING * rng.uniform(-variation.shift, variation.shift) for _ in range(2)]
    # Forward: x to R(angle) · Shear · diag(scale · aspect, scale / aspect) · x about the centre. Its inverse:
    cos, sin = math.cos(angle), math.sin(angle)
    across, down = scale * aspect, scale / aspect
    a, b = (cos - shear * -sin) / across, (sin - shear * cos) / across
    d, e = -sin / down, cos / down
    middle = SIDE * OVERSAMPLING / 2
    x, y = middle + shift[0], middle + shift[1]
    return (a, b, size[0] / 2 - a * x - b * y, d, e, size[1] / 2 - d * x - e * y)


def class_name(character: str) -> str:
    """A class's name in plain letters, distinct also where file names ignore case: `capital-letter-a`."""
    name = unicodedata.name(character).lower().replace(" ", "-")
    script, _, rest = name.partition("-")
    return rest if rest.startswith(("capital-", "small-")) and script in {"latin", "greek", "cyrillic"} else name


def draw_classes(
    characters: Sequence[str], faces: Sequence[str], per_face: int, seed: str, variation: Variation
) -> Mapping[str, list[Image.Image]]:
    """For each character's class, `per_face` images from every face that has it. No image comes twice."""
    drawn: dict[str, list[Image.Image]] = {}
    seen: set[bytes] = set()
    for character in characters:
        images = drawn.setdefault(class_name(character), [])
        for face in faces_with(faces, character):
            rng = random.Random(f"{seed}/{face}/{ord(character):x}")
            for _ in range(per_face):
                image = draw(face, character, rng, variation)
                if (content := image.tobytes()) not in seen:
                    seen.add(content)
                    images.append(image)
    return drawn


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Overlap of two glyphs' ink once both fill the same square: 1 for the same shape, 0 for no overlap."""
    first, second = (glyph.resize((SIDE, SIDE), _BICUBIC) for glyph in (one, other))
    shared = ImageChops.darker(first, second).histogram()
    either = ImageChops.lighter(first, second).histogram()
    return _mass(shared) / max(1, _mass(either))


def _mass(histogram: list[int]) -> int:
    return sum(value * count for value, count in enumerate(histogram))
