"""Readers of untrusted values: whatever is there, they give the type that was asked for and never raise.

Kubernetes objects carry text of users, of kubelets and of workers. Text is cut to a length, and control characters,
line breaks and invisible signs become spaces, so that it may stand in a status, an event or a log line. Called by
``observed``, ``report`` and ``status``.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

Moment = datetime.datetime
"""A time with zone UTC, whole seconds."""

MAX_WHOLE = 2**53 - 1
"""What a JSON number holds exactly, and the CRDs allow."""
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def mapping(value: Any, *path: str) -> Mapping[str, Any]:
    """The object at `path` inside `value`; empty where there is none."""
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def items(value: Any, *path: str, at_most: int = 1000) -> tuple[Any, ...]:
    """The first items of the list at `path` inside `value`; none where there is no list."""
    found = mapping(value, *path[:-1]).get(path[-1]) if path else value
    return tuple(found[:at_most]) if isinstance(found, list) else ()


def objects(value: Any, *path: str, at_most: int = 1000) -> Iterator[Mapping[str, Any]]:
    """Those items of a list that are objects."""
    return (item for item in items(value, *path, at_most=at_most) if isinstance(item, dict))


def text(value: Any, limit: int = 253) -> str:
    """`value` as one printable line of at most `limit` characters; empty if it is no text."""
    if not isinstance(value, str):
        return ""
    # A cut before the work bounds it; four to one leaves room for what is squeezed out.
    signs = value[: 4 * limit]
    if not signs.isprintable():
        signs = "".join(sign if sign.isprintable() else " " for sign in signs)
    return " ".join(signs.split())[:limit].strip()


def text_or_none(value: Any, limit: int = 253) -> str | None:
    """Like `text`, None for nothing."""
    return text(value, limit) or None


def whole(value: Any, *, low: int = 0, high: int = MAX_WHOLE) -> int | None:
    """An integer within `low` … `high`, else None. A float with an integral value counts."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not (math.isfinite(value) and value.is_integer()):
        return None
    number = int(value)
    return number if low <= number <= high else None


def number(value: Any, *, low: float = 0.0, high: float = 1e15) -> float | None:
    """A finite number within `low` … `high`, also as a decimal string, else None."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float | str)
        or (isinstance(value, str) and len(value) > 64)
    ):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and low <= found <= high else None


def moment(value: Any) -> Moment | None:
    """A time as Kubernetes writes it (RFC 3339), whole seconds in UTC, else None."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        found = datetime.datetime.fromisoformat(value)
        found = found.astimezone(datetime.UTC).replace(microsecond=0) if found.tzinfo else EPOCH
    except (ValueError, OverflowError):
        return None
    return found if found > EPOCH else None


def written(time: Moment) -> str:
    """A time as Kubernetes writes it."""
    return time.astimezone(datetime.UTC).strftime(_TIME_FORMAT)


def seconds_between(earlier: Moment | None, later: Moment | None) -> float:
    """Seconds from one time to a later one; 0 where one is unknown or the order is wrong."""
    return max(0.0, (later - earlier).total_seconds()) if earlier and later else 0.0


def json_object(value: Any, *, max_bytes: int) -> Mapping[str, Any]:
    """The JSON object in a text or in bytes of at most `max_bytes`; empty if it is none."""
    if isinstance(value, str):
        value = value[: max_bytes + 1].encode("utf-8", "replace")
    if not isinstance(value, bytes) or len(value) > max_bytes:
        return {}
    try:
        return mapping(json.loads(value))
    except (ValueError, RecursionError):
        return {}


def capped(value: str, max_bytes: int) -> str:
    """`value`, cut with an ellipsis where its UTF-8 is longer than `max_bytes`."""
    data = value.encode("utf-8", "replace")
    if len(data) <= max_bytes:
        return data.decode()
    return data[: max_bytes - 3].decode("utf-8", "ignore") + "…"
