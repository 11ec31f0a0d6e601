"""What a search tells while it runs: (event name, fields), for progress and logs. Nothing decides by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Emit = Callable[[str, Mapping[str, Any]], None]
"""Receives one event."""


def silent(name: str, fields: Mapping[str, Any]) -> None:
    """An event receiver that drops everything."""
