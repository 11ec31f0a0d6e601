"""Readers of untrusted JSON fields, each refusing with a SpecError that names the field.

A stored search is written by another process, maybe another version, maybe by nobody we know. Called by
``api.resolved``; standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from evergraft import canonical
from evergraft.api.ladders import shown
from evergraft.api.splits import parse_split
from evergraft.errors import FormatError, SpecError


def check_format(value: Any, *, what: str) -> Mapping[str, Any]:
    """The document, if it is a JSON object of a format this version reads.

    Raises:
        SpecError: no object, or no format number.
        FormatError: a newer format.
    """
    number = value.get("format") if isinstance(value, dict) else None
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise SpecError(f"{what}: not a document of this project (no format number)")
    if number > canonical.FORMAT:
        raise FormatError(
            f"{what}: format {number} is newer than {canonical.FORMAT}, which this evergraft reads; "
            f"install a version that reads format {number}"
        )
    return dict(value)


class Fields:
    """The fields of one JSON object at `path`; each method reads one field or raises SpecError."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            raise SpecError(f"{path}: expected an object, got {shown(value)}")
        self._value = value
        self.path = path

    def raw(self, name: str) -> Any:
        """The field as it is; it must be there."""
        if name not in self._value:
            raise SpecError(f"{self.path}.{name}: missing")
        return self._value[name]

    def _refuse(self, name: str, expected: str) -> SpecError:
        return SpecError(f"{self.path}.{name}: expected {expected}, got {shown(self._value[name])}")

    def text(self, name: str, *, allowed: tuple[str, ...] = ()) -> str:
        """A string, one of `allowed` if any are given."""
        value = self.raw(name)
        if not isinstance(value, str):
            raise self._refuse(name, "a string")
        if allowed and value not in allowed:
            raise self._refuse(name, "one of " + ", ".join(allowed))
        return value

    def text_or_none(self, name: str, *, allowed: tuple[str, ...] = ()) -> str | None:
        """A string or null."""
        return None if self.raw(name) is None else self.text(name, allowed=allowed)

    def split_or_none(self, name: str) -> str | None:
        """A split, such as ``train[90%:]``, or null."""
        text = self.text_or_none(name)
        if text is not None:
            try:
                parse_split(text)
            except ValueError as error:
                raise SpecError(f"{self.path}.{name}: {error}") from None
        return text

    def integer(self, name: str, *, low: int) -> int:
        """An integer of at least `low`."""
        value = self.raw(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise self._refuse(name, f"an integer of at least {low}")
        return value

    def integer_or_none(self, name: str, *, low: int) -> int | None:
        """An integer of at least `low`, or null."""
        return None if self.raw(name) is None else self.integer(name, low=low)

    def decimal(self, name: str, *, low: float = 0.0, high: float = math.inf) -> float:
        """A decimal string within `low` … `high`."""
        value = self.raw(name)
        try:
            number = float(value) if isinstance(value, str) else math.nan
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and low <= number <= high):
            raise self._refuse(name, f"a decimal string from {low:g} to {high:g}")
        return number

    def decimal_or_none(self, name: str) -> float | None:
        """A decimal string of at least 0, or null."""
        return None if self.raw(name) is None else self.decimal(name)

    def items(self, name: str) -> tuple[Any, ...]:
        """A list."""
        value = self.raw(name)
        if not isinstance(value, list):
            raise self._refuse(name, "a list")
        return tuple(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        items = self.items(name)
        if not all(isinstance(item, str) for item in items):
            raise self._refuse(name, "a list of strings")
        return items

    def mapping(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        value = self.raw(name)
        if not isinstance(value, Mapping):
            raise self._refuse(name, "an object")
        return dict(value)
