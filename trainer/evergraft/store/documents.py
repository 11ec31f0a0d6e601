"""Read and write JSON documents of a store: untrusted bytes in, checked objects out.

Every stored document is a JSON object with a format number. Called by everything that reads or writes one; the
size limit is checked before parsing, so that a planted document cannot exhaust memory in the parser, and before
writing, so that nothing is put that nobody could read.
"""

from __future__ import annotations

import zlib
from typing import Any

from evergraft import canonical
from evergraft.errors import DataError, IntegrityError
from evergraft.graph.route import check_format

MAX_DOCUMENT_BYTES = 256 << 20

FASTEST = 1
"""The level of deflating for what is large and written once: a third of the time, a tenth more bytes."""


def encode(value: Any, *, what: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The canonical bytes of a document, to be written where readers take at most `max_bytes`.

    Raises:
        DataError: as `check_size`.
    """
    return check_size(canonical.dumps(value), what=what, max_bytes=max_bytes)


def check_size(data: bytes, *, what: str, max_bytes: int) -> bytes:
    """`data` itself, the bytes of a document that is about to be written.

    Raises:
        DataError: no reader would take so many. Never the world's fault: what goes in has too many classes or samples.
    """
    if len(data) > max_bytes:
        raise DataError(f"{what}: it would have {len(data)} bytes, more than the {max_bytes} such a document may have")
    return data


def decode(data: bytes, *, what: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> dict[str, Any]:
    """The JSON object in `data`, of a format this version reads.

    Raises:
        IntegrityError: too large, no JSON that could be written again, no object, or without a format number.
        FormatError: a newer format.
    """
    if len(data) > max_bytes:
        raise IntegrityError(f"{what}: {len(data)} bytes, more than the {max_bytes} such a document may have")
    try:
        value = canonical.loads(data)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{what}: no JSON: {error}") from None
    check_format(value, what=what)
    return value  # type: ignore[no-any-return]  # check_format holds it to be an object


def deflate(data: bytes, *, level: int = zlib.Z_DEFAULT_COMPRESSION) -> bytes:
    """A document as it is stored where it is large and repeats itself: a zlib stream."""
    return zlib.compress(data, level)


def inflate(data: bytes, *, what: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The document in a zlib stream; one that is stored plainly is returned as it is.

    Raises:
        IntegrityError: no whole stream, or one that holds more than a document may.
    """
    if data[:1] == b"{":
        return data
    stream = zlib.decompressobj()
    try:
        document = stream.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise IntegrityError(f"{what}: no JSON, plain or deflated: {error}") from None
    if len(document) > max_bytes:
        raise IntegrityError(f"{what}: it grows to more than the {max_bytes} bytes such a document may have")
    if not stream.eof:
        raise IntegrityError(f"{what}: no JSON, or its end is missing")
    return document
