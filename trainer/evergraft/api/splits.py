"""The syntax of a split: ``name``, or a part of it, ``name[a%:b%]``.

Called by the Task model, which refuses what does not parse, and by the data reader, which cuts by it. Standard
library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[([0-9]{1,3}%)?:([0-9]{1,3}%)?\])?$"
"""A split's form, for the schema; the order of the bounds is checked by `parse_split`."""

_SPLIT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[(?:([0-9]{1,3})%)?:(?:([0-9]{1,3})%)?\])?")


@dataclass(frozen=True)
class SplitPart:
    """The part of the split `name` from `start` to `stop` percent, `stop` excluded."""

    name: str
    start: int = 0
    stop: int = 100


def parse_split(text: str) -> SplitPart:
    """Read ``train``, ``train[90%:]`` or ``train[10%:20%]``.

    Raises:
        ValueError: not of that form, or an empty or impossible range; the message says what is allowed.
    """
    match = _SPLIT.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is no split; write a name or a part of it, such as "train" or "train[90%:]"')
    part = SplitPart(match[1], int(match[2] or 0), int(match[3] or 100))
    if not 0 <= part.start < part.stop <= 100:
        raise ValueError(f'"{text}" is an empty part; the percentages must grow and end by 100')
    return part
