"""One canonical form of JSON, so that equal values have equal bytes and a digest names a value.

Used by every content id, digest and stored document of the project.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

FORMAT = 1
"""The format number every stored JSON document carries."""


def dumps(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces, no NaN or infinity; equal values give equal bytes.

    Raises:
        ValueError: the value holds a float that JSON cannot carry.
        TypeError: the value is not made of JSON types.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(data: bytes | bytearray | memoryview) -> str:
    """The 64 hex digits of SHA-256 over `data`."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 over the canonical form of a JSON value."""
    return sha256(dumps(value))


def newer(written: int, *, what: str) -> str:
    """What to tell the user of a document `what` whose format number is higher than this version reads."""
    return (
        f"{what}: format {written} is newer than {FORMAT}, which this evergraft reads; "
        f"install a version that reads format {written}"
    )
