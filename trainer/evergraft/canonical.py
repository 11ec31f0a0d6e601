"""One canonical form of JSON, so that equal values have equal bytes and a digest names a value.

Used by every content id, digest and stored document of the project.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from typing import Any, NoReturn

FORMAT = 1
"""The format number every stored JSON document carries."""


def dumps(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces, no NaN or infinity; equal values give equal bytes.

    Raises:
        ValueError: the value holds a float that JSON cannot carry.
        TypeError: the value is not made of JSON types.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def loads(data: bytes | str) -> Any:
    """The JSON value in `data`, UTF-8 where it is bytes, if `dumps` could write it again: `data` is untrusted.

    Raises:
        ValueError: no UTF-8, no JSON, a number that is not finite, or text with half a surrogate pair.
        RecursionError: nested too deeply.
    """
    text = data if isinstance(data, str) else data.decode()
    value = _DECODER.decode(text)
    if "\\u" in text and _SURROGATE.search(text):  # rare: what this project writes escapes no letters
        try:
            json.dumps(value, ensure_ascii=False).encode()  # the parser joins whole pairs, and lets halves pass
        except UnicodeEncodeError:
            raise ValueError("text with half a surrogate pair") from None
    return value


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


def _finite(text: str) -> float:
    number = float(text)
    if -_LARGEST <= number <= _LARGEST:  # called for every float of every document, so no function of math
        return number
    raise ValueError(f"{text:.20} is more than a number may be")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not allowed")


_LARGEST = sys.float_info.max
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""The escape of half a surrogate pair, or of what looks like one."""
