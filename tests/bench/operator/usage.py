"""What processes have used, from /proc: processor seconds and memory, of the control plane, the operator and others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.harness.box import Box

TICKS = os.sysconf("SC_CLK_TCK")
PARTS = {"kube-apiserver": "API server", "etcd": "etcd", "kube-controller-manager": "controller manager"}


def control_plane(box: Box) -> dict[str, int]:
    """The pids of what runs in the box of the control plane, by name."""
    found = {}
    for pid in _below(box.pid):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
        if (name := PARTS.get(Path(command).name)) is not None:
            found[name] = pid
    assert set(found) == set(PARTS.values()), found
    return found


def seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Processor seconds used so far, user and system, by name."""
    return {name: _ticks(pid) / TICKS for name, pid in pids.items()}


def memory(pid: int, field: str = "VmRSS") -> float:
    """Resident memory in MiB; with `VmHWM` the most there ever was."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024
    raise AssertionError(field)


def load() -> float:
    """The machine's load over the last minute."""
    return os.getloadavg()[0]


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _below(pid: int) -> list[int]:
    children = [int(item) for item in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [one for child in children for one in _below(child)]
