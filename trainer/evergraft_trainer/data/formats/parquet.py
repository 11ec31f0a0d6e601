"""Parquet: columns ``image`` (bytes, {bytes, path}, or a path relative to the file) and ``label`` (text, integer).

Groups come from names: ``train/…`` folders, or ``train.parquet`` and ``train-00000-of-00004.parquet``. The encoded
images are copied once into an unlinked scratch file, because a row group cannot be read row by row; memory stays
bounded and any sample can be fetched again.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from evergraft.errors import DataError
from evergraft_trainer.data.decode import MAX_ENCODED_BYTES
from evergraft_trainer.data.listing import Format, Listing, check_label
from evergraft_trainer.data.source import Source, check_name

_SUFFIX: Final = ".parquet"
_SHARD: Final = re.compile(r"(.+?)-\d+(-of-\d+)?")
_ROWS: Final = 256


@dataclass(frozen=True)
class _Row:
    key: str
    label: str
    group: str
    owner: str
    span: tuple[int, int] | None
    """Offset and length in the scratch file; None if the owner is the image file itself."""


class _Scratch:
    """An unlinked temporary file that only grows; reads may come from any thread. Closed with its last user."""

    def __init__(self) -> None:
        self._fd, path = tempfile.mkstemp(prefix="evergraft-")
        os.unlink(path)  # noqa: PTH108
        self._size = 0
        weakref.finalize(self, os.close, self._fd)

    def append(self, data: bytes) -> tuple[int, int]:
        """Write `data` at the end; returns (offset, length)."""
        span = (self._size, len(data))
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._fd, rest, self._size)
            rest, self._size = rest[written:], self._size + written
        return span

    def read(self, span: tuple[int, int]) -> bytes:
        """The bytes of a span that `append` returned."""
        return os.pread(self._fd, span[1], span[0])


def matches(source: Source) -> bool:
    """Whether the URL names a .parquet file, or a folder that holds some."""
    if source.file is not None:
        return source.file.endswith(_SUFFIX)
    return any(_is_data(name) for name in source.tree)


def read(source: Source) -> Listing:
    """Read all labels, and copy all encoded images to scratch.

    Raises:
        DataError: unreadable file, missing or mistyped column, a null label, a path that leaves the root, or a link
            at the top that is not followed: it may stand for a split.
    """
    for name, item in source.tree.items() if source.file is None else ():
        if item.problem and "/" not in name and not _hidden(name):
            source.stat(name)
    files = (source.file,) if source.file is not None else tuple(filter(_is_data, source.tree))
    if not files:
        raise DataError(f"{source.url}: no {_SUFFIX} file; check dataset.url and format")
    scratch = _Scratch()
    rows = tuple(row for name in files for row in _rows(source, name, scratch))

    def fetch(position: int) -> bytes:
        row = rows[position]
        if row.span is None:
            return source.read(row.owner, limit=MAX_ENCODED_BYTES)
        return scratch.read(row.span)

    return Listing(
        keys=tuple(row.key for row in rows),
        labels=tuple(row.label for row in rows),
        groups=tuple(row.group for row in rows),
        owners=tuple(row.owner for row in rows),
        fetch=fetch,
        files=files,
    )


def _is_data(name: str) -> bool:
    return name.endswith(_SUFFIX) and not _hidden(name)


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def group_of(name: str) -> str:
    """The split a file's name speaks of: its folder, or its stem without shard numbers.

    A folder that only says ``data`` does not count.
    """
    folder, _, base = name.rpartition("/")
    top = folder.split("/", 1)[0]
    if top and top != "data":
        return top
    stem = base.removesuffix(_SUFFIX)
    shard = _SHARD.fullmatch(stem)
    return shard[1] if shard else stem


def _rows(source: Source, name: str, scratch: _Scratch) -> Iterator[_Row]:
    where = source.where(name)
    group = group_of(name)
    number = 0
    with source.open(name) as file:
        for label, image in _cells(file, where=where):
            at = f"{where}: row {number}"
            span, owner = _content(source, name, image, scratch, where=at)
            text = check_label("" if label is None else str(label), where=at)
            yield _Row(key=f"{name}#{number:08d}", label=text, group=group, owner=owner, span=span)
            number += 1


def _cells(file: io.BufferedReader, *, where: str) -> Iterator[tuple[Any, Any]]:
    """(label, image) of each row, as Python values, a few hundred rows at a time."""
    try:
        with pq.ParquetFile(file) as parquet:
            _check_columns(parquet.schema_arrow, where=where)
            for batch in parquet.iter_batches(batch_size=_ROWS, columns=["image", "label"]):
                labels, images = batch.column("label").to_pylist(), batch.column("image").to_pylist()
                yield from zip(labels, images, strict=True)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{where}: no readable Parquet file: {error}; write it again") from None


def _check_columns(schema: pa.Schema, *, where: str) -> None:
    for column in ("image", "label"):
        if len(schema.get_all_field_indices(column)) != 1:
            raise DataError(f"{where}: needs one column {column!r}; it has {', '.join(schema.names)}")
    image, label = schema.field("image").type, schema.field("label").type
    if pa.types.is_dictionary(label):
        label = label.value_type
    if not (pa.types.is_integer(label) or _is_text(label)):
        raise DataError(f"{where}: column 'label' is {label}; needed is text or an integer")
    if pa.types.is_struct(image):
        parts = {image.field(at).name for at in range(image.num_fields)}
        content = image.field("bytes").type if "bytes" in parts else None
        good = content is not None and (_is_bytes(content) or pa.types.is_null(content))
    else:
        good = _is_bytes(image) or _is_text(image)
    if not good:
        raise DataError(f"{where}: column 'image' is {image}; needed is bytes, {{bytes, path}} or a path")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _content(
    source: Source, name: str, image: Any, scratch: _Scratch, *, where: str
) -> tuple[tuple[int, int] | None, str]:
    """Where a row's image lies: a span of scratch, or None and the file it names."""
    path = image
    if isinstance(image, dict):
        path = image.get("path") if image.get("bytes") is None else None
        image = image.get("bytes")
    if isinstance(path, str):
        check_name(path, where=where)
        owner = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        source.stat(owner)
        return None, owner
    return scratch.append(image or b""), name


FORMAT: Final = Format(name="Parquet", matches=matches, read=read)
