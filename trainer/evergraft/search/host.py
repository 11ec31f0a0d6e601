"""Which process this is, so that another on the same machine can tell at once that it has died.

Claims carry it. On another machine, or in another container, nothing can be told: there a claim dies by silence.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def identity() -> dict[str, Any]:
    """This process: pid, when it started (clock ticks since boot), its boot and its pid namespace."""
    return dict(_identity(os.getpid()))


@functools.cache
def _identity(pid: int) -> dict[str, Any]:
    """That of this process, read once."""
    return {"pid": pid, "started": _started(pid), "boot": _text("/proc/sys/kernel/random/boot_id"), "pids": _pids()}


def has_died(claimed: Mapping[str, Any]) -> bool:
    """Whether the process of a claim ran here and is gone; False wherever that cannot be known."""
    here = _identity(os.getpid())
    if not here["boot"] or claimed.get("boot") != here["boot"] or claimed.get("pids") != here["pids"]:
        return False
    pid = claimed.get("pid")
    return isinstance(pid, int) and pid > 0 and _started(pid) != claimed.get("started")


def _started(pid: int) -> int | None:
    """A process's start in clock ticks since boot; None if there is no such process, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _pids() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
