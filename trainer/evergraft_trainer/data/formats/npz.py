"""Npz: one file with ``<split>_images`` (uint8 N×H×W[×C]), ``<split>_labels`` (integers or text), maybe ``labels``.

The archive is hostile until shown otherwise: each member's name and header is checked, and object arrays are
refused, before any array is read; pickle is never allowed. The arrays stay in memory whole.
"""

from __future__ import annotations

import io
import lzma
import stat
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from evergraft.errors import DataError
from evergraft_trainer.data.decode import check_size
from evergraft_trainer.data.listing import Format, Listing, check_label
from evergraft_trainer.data.source import Source, check_name

MAX_ARRAY_BYTES: Final = 8 << 30
"""Largest member accepted: arrays are held in memory."""

_DAMAGED: Final = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, RuntimeError)
"""What zipfile and the decompressors below it raise over broken bytes; NotImplementedError is a RuntimeError."""

_IMAGES: Final = "_images"
_LABELS: Final = "_labels"


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def matches(source: Source) -> bool:
    """Whether the URL names an .npz file, or a folder with one at its top."""
    if source.file is not None:
        return source.file.endswith(".npz")
    return any(name.endswith(".npz") and "/" not in name for name in source.tree)


def read(source: Source) -> Listing:
    """Read the arrays into memory.

    Raises:
        DataError: pickled or object content, members that leave the archive, wrong names, shapes or types.
    """
    name = _file(source)
    where = source.where(name)
    with source.open(name) as file:
        arrays = _arrays(file, where=where)
    names = arrays.get("labels")
    parts = [key.removesuffix(_IMAGES) for key in arrays if key.endswith(_IMAGES)]
    if not parts:
        raise DataError(f"{where}: no array named <split>_images; found {', '.join(arrays) or 'none'}")
    images: list[NDArray[np.uint8]] = []
    labels: list[str] = []
    for part in parts:
        pixels = _pixels(arrays[part + _IMAGES], where=f"{where}: {part}{_IMAGES}")
        images.append(pixels)
        labels += _text(arrays.get(part + _LABELS), names, count=len(pixels), where=f"{where}: {part}{_LABELS}")
    sizes = [len(pixels) for pixels in images]
    starts = np.cumsum([0, *sizes])

    def fetch(position: int) -> NDArray[np.uint8]:
        part = int(np.searchsorted(starts, position, side="right")) - 1
        pixels: NDArray[np.uint8] = images[part][position - starts[part]]
        return pixels

    return Listing(
        keys=tuple(f"{part}/{row:08d}" for part, size in zip(parts, sizes, strict=True) for row in range(size)),
        labels=tuple(labels),
        groups=tuple(part for part, size in zip(parts, sizes, strict=True) for _ in range(size)),
        owners=(name,) * sum(sizes),
        fetch=fetch,
        files=(name,),
        declared=() if names is None else tuple(str(text) for text in names.tolist()),
    )


def _file(source: Source) -> str:
    if source.file is not None:
        return source.file
    found = [name for name in source.tree if name.endswith(".npz") and "/" not in name]
    if len(found) != 1:
        raise DataError(f"{source.url}: {len(found)} .npz files; let dataset.url name the one to read")
    return found[0]


def _arrays(file: io.BufferedReader, *, where: str) -> Mapping[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            for member in members:
                _check_member(member, where=where)
            names = [member.filename.removesuffix(".npy") for member in members]
            if len(set(names)) != len(names):
                raise DataError(f"{where}: two members of one name; write the file again with numpy.savez")
            return {
                name: _array(archive, member, where=f"{where}: {name}")
                for name, member in zip(names, members, strict=True)
                if name.endswith((_IMAGES, _LABELS)) or name == "labels"
            }
    except _DAMAGED as error:
        raise DataError(f"{where}: no readable .npz file: {error}; write it with numpy.savez") from None


def _check_member(member: zipfile.ZipInfo, *, where: str) -> None:
    check_name(member.filename, where=where)
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(f"{where}: member {member.filename!r} is a link; write the file again with numpy.savez")
    if not member.filename.endswith(".npy"):
        raise DataError(f"{where}: member {member.filename!r} is no .npy array; write the file with numpy.savez")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, *, where: str) -> NDArray[Any]:
    try:
        with archive.open(member) as stream:
            header = _header(stream, where=where)
        num_bytes = int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
        if header.dtype.hasobject:
            raise DataError(f"{where}: holds Python objects (pickle), which are never read; save plain arrays")
        if num_bytes > min(MAX_ARRAY_BYTES, member.file_size):
            raise DataError(
                f"{where}: its header claims {num_bytes:,} bytes where the member holds {member.file_size:,} and "
                f"{MAX_ARRAY_BYTES:,} are allowed; use Parquet or ImageFolder for large data"
            )
        with archive.open(member) as stream:
            array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            return array
    except ValueError as error:
        raise DataError(f"{where}: no readable array: {error}; write the file again with numpy.savez") from None


def _header(stream: Any, *, where: str) -> _Header:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in readers:
        raise DataError(f"{where}: .npy version {version} is not read here; write it with numpy.savez")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            shape, _, dtype = readers[version](stream)
        except Exception as error:  # noqa: BLE001 - numpy evaluates the header's text, so broken text raises anything
            reason = str(error)[:200]  # numpy quotes the header whole
            raise DataError(f"{where}: no readable array: {reason}; write the file again with numpy.savez") from None
    if not all(type(size) is int and size >= 0 for size in shape):  # True counts as a number until an array is shaped
        raise DataError(f"{where}: its header claims shape {shape}; write the file again with numpy.savez")
    return _Header(shape=shape, dtype=dtype)


def _pixels(array: NDArray[Any], *, where: str) -> NDArray[np.uint8]:
    pixels = array[..., None] if array.ndim == 3 else array
    if array.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] not in (1, 3):
        raise DataError(f"{where}: {array.dtype} of shape {array.shape}; needed is uint8 N×H×W, N×H×W×1 or N×H×W×3")
    if len(pixels):
        if 0 in pixels.shape:
            raise DataError(
                f"{where}: images of {pixels.shape[1]}×{pixels.shape[2]} pixels; write images that have some"
            )
        check_size(pixels.shape[1], pixels.shape[2], where=where)
    return np.ascontiguousarray(pixels)


def _text(array: NDArray[Any] | None, names: NDArray[Any] | None, *, count: int, where: str) -> list[str]:
    """Each sample's label as text: its decimal name, its own text, or the entry of `names` that it counts to."""
    if array is None:
        raise DataError(f"{where}: missing; each <split>_images needs its <split>_labels")
    if array.shape not in ((count,), (count, 1)):
        raise DataError(f"{where}: shape {array.shape} where {count} images need ({count},)")
    flat = array.reshape(-1)
    if array.dtype.kind not in "iuU":
        raise DataError(f"{where}: {array.dtype}; labels are integers or fixed-width text")
    if names is None or array.dtype.kind == "U":
        return [check_label(str(value), where=where) for value in flat.tolist()]
    if names.dtype.kind != "U" or names.ndim != 1:
        raise DataError(f"{where}: `labels` is {names.dtype} of shape {names.shape}; needed is 1-d fixed-width text")
    if count and not (int(flat.min()) >= 0 and int(flat.max()) < len(names)):
        raise DataError(f"{where}: a number outside 0…{len(names) - 1}, the entries of `labels`")
    texts = [check_label(str(text), where=f"{where}: labels") for text in names.tolist()]
    return [texts[value] for value in flat.tolist()]


FORMAT: Final = Format(name="Npz", matches=matches, read=read)
