"""Decoding: every mode to sensible uint8, upright, and nothing decoded that is too large or of an unknown kind."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evergraft.errors import DataError
from evergraft_trainer.data.decode import MAX_PIXELS, UnreadableImageError, decode, decode_image


def _encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds hardly anything."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 99))]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3), ("I;16", 1)]
)
def test_every_mode_becomes_uint8(mode: str, channels: int) -> None:
    pixels = decode(_encoded(Image.new(mode, (6, 4))), where="x.png")
    assert pixels.shape == (4, 6, channels)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_common_formats_are_read(kind: str) -> None:
    pixels = decode(_encoded(Image.new("RGB", (5, 3), (200, 10, 10)), kind), where="x")
    assert pixels.shape == (3, 5, 3)
    assert np.abs(pixels.astype(int) - (200, 10, 10)).max() <= 4


def test_cmyk_becomes_rgb() -> None:
    assert decode(_encoded(Image.new("CMYK", (2, 2)), "TIFF"), where="x").tolist() == [[[255] * 3] * 2] * 2


def test_sixteen_bits_keep_the_upper_eight() -> None:
    wide = np.array([[0, 0x00FF, 0x0100, 0xFFFF]], dtype=np.uint16)
    assert decode(_encoded(Image.fromarray(wide)), where="x")[0, :, 0].tolist() == [0, 0, 1, 255]


def test_transparency_is_laid_over_white() -> None:
    clear = Image.new("RGBA", (1, 1), (0, 0, 0, 0))
    assert decode(_encoded(clear), where="x").tolist() == [[[255, 255, 255]]]
    assert decode(_encoded(Image.new("LA", (1, 1), (10, 0))), where="x").tolist() == [[[255]]]
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 9, 9])
    assert decode(_encoded(palette, transparency=0), where="x").tolist() == [[[255, 255, 255]]]
    assert decode(_encoded(palette), where="x").tolist() == [[[9, 9, 9]]]


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_one_transparent_colour_is_laid_over_white_and_the_others_stay(mode: str) -> None:
    image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert(mode, dither=Image.Dither.NONE)
    clear = {"L": 10, "RGB": (10, 10, 10), "1": 0}[mode]
    plain = decode(_encoded(image), where="x")
    expected = np.where(plain == (0 if mode == "1" else 10), 255, plain)
    laid = decode(_encoded(image, transparency=clear), where="x")
    assert laid.shape == plain.shape
    assert np.array_equal(laid, expected)
    assert not np.array_equal(laid, plain)


def test_exif_orientation_turns_the_image_upright() -> None:
    image = Image.fromarray(np.array([[10, 200, 10]], dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode(_encoded(image, exif=exif), where="x")
    assert pixels.shape == (3, 1, 1)
    assert pixels[:, 0, 0].tolist() == [10, 200, 10]


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (2, 2), (0, 255, 0)), Image.new("RGB", (2, 2), (255, 0, 0))]
    assert decode(_encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), where="x")[0, 0, 1] == 255


@pytest.mark.parametrize("width", [MAX_PIXELS // 1000 + 1, 100_000, 400_000])
def test_an_image_over_the_limit_is_refused_by_its_header(width: int) -> None:
    with pytest.raises(DataError, match=r"big\.png: .*more than 64 Mpx; scale the image down") as caught:
        decode(_png_header(width, 1000), where="big.png")
    assert not isinstance(caught.value, UnreadableImageError)


def _broken() -> dict[str, bytes]:
    whole = _encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)))
    return {
        "empty": b"",
        "text": b"hello",
        "cut": whole[:-30],
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "float": _encoded(Image.new("F", (2, 2)), "TIFF"),
        "wide": _encoded(Image.fromarray(np.full((2, 2), 70000, dtype=np.int32)), "TIFF"),
    }


@pytest.mark.parametrize("what", sorted(_broken()))
def test_what_cannot_be_decoded_gives_a_reason(what: str) -> None:
    with pytest.raises(UnreadableImageError) as caught:
        decode(_broken()[what], where="x.png")
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"x\.png: no readable image: .*; save it as PNG or JPEG"):
        decode_image(_broken()[what], where="x.png")


_WHOLE = _encoded(Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)))


@given(st.data())
def test_damaged_bytes_give_pixels_or_a_reason_and_nothing_else(data: st.DataObject) -> None:
    damaged = bytearray(_WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(8, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DataError):
        assert decode(bytes(damaged), where="x").dtype == np.uint8
