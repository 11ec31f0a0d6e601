"""Small datasets in every format, made from numbered pictures that are all different.

Used by the tests of data, training and the command line.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image


class DatasetMaker:
    """Writes datasets under one temporary folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def picture(self, number: int, *, size: int = 8, channels: int = 1) -> NDArray[np.uint8]:
        """The picture of that number: always the same, unlike every other."""
        pixels: NDArray[np.uint8] = np.random.default_rng(number).integers(
            0, 256, (size, size, channels), dtype=np.uint8
        )
        return pixels

    def png(self, number: int, *, size: int = 8, channels: int = 1) -> bytes:
        """The picture as a PNG file."""
        pixels = self.picture(number, size=size, channels=channels)
        stream = io.BytesIO()
        Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels).save(stream, format="PNG")
        return stream.getvalue()

    def folder(self, counts: Mapping[str, int], *, name: str = "images", channels: int = 1) -> Path:
        """An ImageFolder: `counts` maps ``class`` or ``split/class`` to a number of images."""
        number = 0
        for path, count in counts.items():
            folder = self.root / name / path
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                (folder / f"{index:04d}.png").write_bytes(self.png(number, channels=channels))
                number += 1
        return self.root / name

    def npz(self, counts: Mapping[str, int], *, classes: int = 2, name: str = "data.npz") -> Path:
        """An npz file: `counts` maps split names to a number of images; labels go round."""
        arrays: dict[str, NDArray[np.generic]] = {}
        start = 0
        for split, count in counts.items():
            pictures = [self.picture(start + index)[..., 0] for index in range(count)]
            arrays[f"{split}_images"] = np.stack(pictures)
            arrays[f"{split}_labels"] = np.arange(count) % classes
            start += count
        np.savez(self.root / name, **arrays)  # type: ignore[arg-type]
        return self.root / name

    def parquet(self, count: int, *, classes: int = 2, name: str = "data.parquet", start: int = 0) -> Path:
        """A Parquet file of image bytes; labels go round."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        table = {
            "image": [self.png(start + index) for index in range(count)],
            "label": [index % classes for index in range(count)],
        }
        pq.write_table(pa.table(table), path)
        return path
