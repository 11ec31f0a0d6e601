"""One encoded image to uint8 pixels, with Pillow, from bytes that nobody vouches for.

The header is read and the size checked before any pixel is decoded; only common formats are tried (none that run
programs). Called by ``images`` for each sample, and by the predictor.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from evergraft.errors import DataError

MAX_PIXELS: Final = 64_000_000
"""Largest image accepted, in pixels."""

MAX_ENCODED_BYTES: Final = 512 << 20
"""Largest encoded image accepted: an uncompressed one of MAX_PIXELS in 16-bit RGB, and some."""

FORMATS: Final = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF")
"""Tried in this order: the first five are loaded with Pillow itself, the others when one of them is met."""

_ALPHA: Final = ("LA", "La", "PA", "RGBA", "RGBa")
_ONE_CLEAR: Final = ("P", "L", "RGB", "1")
"""Modes in which an image may name a colour that is transparent."""


class UnreadableImageError(DataError):
    """The bytes are no image that can be decoded. The message is the reason, without the file's name."""


def decode(data: bytes, *, where: str) -> NDArray[np.uint8]:
    """The pixels as a fresh uint8 H×W×C array, C 1 or 3, upright as the EXIF orientation says.

    Transparency is laid over white (a PNG's one transparent colour where a channel has 1 or 8 bits; Pillow does not
    scale it with the others), palettes become RGB, 16-bit gray keeps its upper 8 bits, an animation gives its first
    frame.

    Raises:
        UnreadableImageError: the bytes cannot be decoded.
        DataError: the image is larger than MAX_PIXELS; `where` is named.
    """
    if not data:
        raise UnreadableImageError("empty file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_size(image.height, image.width, where=where)
            return _pixels(_upright(image))
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(where) from None
    except Exception as error:  # noqa: BLE001 - decoders of broken bytes raise anything
        raise UnreadableImageError(f"{type(error).__name__}: {error}".replace("\n", " ")[:200]) from None


def decode_image(data: bytes, *, where: str) -> NDArray[np.uint8]:
    """As `decode`, for one image that a person names: the error names it too.

    Raises:
        DataError: the bytes cannot be decoded or are too large an image.
    """
    try:
        return decode(data, where=where)
    except UnreadableImageError as error:
        raise DataError(f"{where}: no readable image: {error}; save it as PNG or JPEG") from None


def check_size(height: int, width: int, *, where: str) -> None:
    """Refuse an image by its stated size.

    Raises:
        DataError: over MAX_PIXELS, or without a pixel.
    """
    if height < 1 or width < 1:
        raise UnreadableImageError(f"{height}×{width} pixels")
    if height * width > MAX_PIXELS:
        raise _too_large(where, f"{height}×{width}: ")


def _too_large(where: str, size: str = "") -> DataError:
    return DataError(f"{where}: {size}more than {MAX_PIXELS // 10**6} Mpx; scale the image down or remove it")


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        return ImageOps.exif_transpose(image) or image
    except Exception:  # noqa: BLE001 - broken EXIF says nothing about the pixels, which did decode
        return image


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _ALPHA or (image.mode in _ONE_CLEAR and "transparency" in image.info):
        gray = image.mode in ("LA", "La", "L", "1")
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, layer).convert("L" if gray else "RGB")
    elif image.mode.startswith("I"):
        return _upper_bits(np.asarray(image))
    elif image.mode == "F":
        raise UnreadableImageError("floating-point pixels have no agreed range; save it with 8 or 16 bits")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    pixels = np.array(image, dtype=np.uint8)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _upper_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > 0xFFFF:
        raise UnreadableImageError("integer pixels beyond 16 bits; save it with 8 or 16 bits")
    return (wide >> 8).astype(np.uint8)[:, :, None]
