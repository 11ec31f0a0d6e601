"""The cluster's own level in the machine's cgroup hierarchies: made for each node, and taken away without a trace.

Works on the separate hierarchies of version 1 and on the one of version 2. Called by node and cluster.
"""

from __future__ import annotations

import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
REMOVE_TIMEOUT_S = 10.0


def hierarchies() -> list[Path]:
    """The root of every hierarchy that containers' limits use."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    return [path for path in sorted(ROOT.iterdir()) if path.is_dir() and not path.is_symlink()]


def can_limit_memory() -> bool:
    """Whether this machine offers what a kubelet cannot do without."""
    if not ROOT.is_dir():
        return False
    version_2 = ROOT / "cgroup.controllers"
    return "memory" in version_2.read_text().split() if version_2.exists() else (ROOT / "memory").is_dir()


def make(name: str) -> None:
    """The group `name`, such as a/b, in every hierarchy, level by level."""
    for root in hierarchies():
        group = root
        for level in name.split("/"):
            parent, group = group, group / level
            group.mkdir(exist_ok=True)
            for file in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group of version 1, and then no process fits
                if root != ROOT and (parent / file).exists() and not (group / file).read_text().strip():
                    (group / file).write_text((parent / file).read_text())


def remove(name: str) -> None:
    """Take the group `name` and all below it away from every hierarchy; its processes are dead, or about to be."""
    deadline = time.monotonic() + REMOVE_TIMEOUT_S
    while left := remaining(name):
        for top in left:
            for group in sorted(top.glob("**/"), key=lambda path: len(path.parts), reverse=True):
                _remove_one(group)
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def remaining(name: str) -> list[Path]:
    """Where the group `name` still is."""
    return [root / name for root in hierarchies() if (root / name).is_dir()]


def _remove_one(group: Path) -> None:
    try:
        group.rmdir()
    except OSError:  # busy for a moment after its last process, or gone already
        return
