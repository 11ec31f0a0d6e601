"""What of a cluster is on this machine: processes, mounts, interface, routes, cgroups, folder.

After a stop there must be nothing; the tests of the harness ask here, and not what the stop itself believes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.cluster.harness import cgroups
from tests.cluster.harness.commands import run
from tests.cluster.harness.layout import Layout, clusters_folder


def leftovers(layout: Layout) -> list[str]:
    """A line for each thing that is there, none where nothing is."""
    found = [f"process {line}" for line in _processes(layout)]
    found += [f"mount {line}" for line in _lines("/proc/self/mountinfo") if f"{layout.folder}/" in line]
    interfaces = run("ip", "-o", "link").splitlines()
    found += [f"interface {line}" for line in interfaces if f" {layout.host_interface}@" in line]
    found += [
        f"route {line}" for line in run("ip", "route", "show", "table", "all").splitlines() if _is_ours(layout, line)
    ]
    found += [f"cgroup {path}" for path in cgroups.remaining(layout.cgroup)]
    found += [f"folder {path}" for path in (layout.folder, *_trash(layout)) if path.exists()]
    return found


def _processes(layout: Layout) -> Iterator[str]:
    """Processes that name the cluster's folder, or live where it is mounted, as every container does."""
    inside = f"{layout.folder}/"
    for entry in Path("/proc").glob("[0-9]*"):
        command = " ".join(_lines(entry / "cmdline")).replace("\0", " ")
        if inside in command or any(inside in line for line in _lines(entry / "mountinfo")):
            yield f"{entry.name} {command[:200]}"


def _is_ours(layout: Layout, route: str) -> bool:
    return any(
        network in route for network in (layout.network, layout.services, layout.node_pods(1), layout.node_pods(2))
    )


def _trash(layout: Layout) -> list[Path]:
    """Its files on their way out."""
    return list(clusters_folder().glob(f".trash-*/{layout.name}"))


def _lines(path: Path | str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except (OSError, ValueError):  # it ended while we looked
        return []
