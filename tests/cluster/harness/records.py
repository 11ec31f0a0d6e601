"""Which clusters this machine has: one folder each, with a record of who owns it and which boxes it started.

A name is free again when its owner is dead; whoever takes it first removes what the dead one left, and only that.
Called by cluster and by the command line.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.cluster.harness import cgroups, network
from tests.cluster.harness.box import Box, started
from tests.cluster.harness.commands import run
from tests.cluster.harness.errors import ClusterError
from tests.cluster.harness.layout import MAX_INDEX, Layout, clusters_folder

RECORD = "cluster.json"
TRASH = ".trash-"


@dataclass(frozen=True)
class Record:
    """A cluster's record. A tied cluster ends with its owner, a process; a detached one when it is ended."""

    name: str
    index: int
    owner: tuple[int, int | None]
    detached: bool
    num_nodes: int
    boxes: tuple[Box, ...] = ()

    @property
    def layout(self) -> Layout:
        return Layout(self.name, self.index)

    def alive(self) -> bool:
        """Whether somebody still uses it."""
        pid, since = self.owner
        return (since is not None and started(pid) == since) or (self.detached and any(b.alive() for b in self.boxes))

    def save(self) -> None:
        """Write it to its cluster's folder, whole or not at all."""
        _write(self.layout.folder, self)


def reserve(name: str, *, detached: bool, num_nodes: int) -> Record:
    """Take the name and an index, after removing what a dead cluster of that name left.

    Raises:
        ClusterError: the cluster is running, or there are too many.
    """
    with _registry() as folder:
        old = read(name)
        if old is not None and old.alive():
            raise ClusterError(
                f"cluster {name} is running already; end it with: tests/cluster/cluster.py down --name {name}"
            )
        if old is not None:
            remove(old)
        return _create(folder, name, detached=detached, num_nodes=num_nodes)


def reserve_free(prefix: str, *, detached: bool, num_nodes: int) -> Record:
    """Like `reserve`, with the first name PREFIX1, PREFIX2 and so on that nobody uses."""
    with _registry() as folder:
        for number in range(1, MAX_INDEX + 2):
            name = f"{prefix}{number}"
            old = read(name)
            if old is None or not old.alive():
                if old is not None:
                    remove(old)
                return _create(folder, name, detached=detached, num_nodes=num_nodes)
    raise ClusterError(f"too many clusters named {prefix}N; end some with tests/cluster/cluster.py down --name NAME")


def read(name: str) -> Record | None:
    """The record of the cluster `name`; None where there is none."""
    path = clusters_folder() / name / RECORD
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    boxes = tuple(Box(*box) for box in data.pop("boxes"))
    pid, since = data.pop("owner")
    return Record(owner=(pid, since), boxes=boxes, **data)


def everything() -> list[Record]:
    """The records of all clusters of this machine."""
    folder = clusters_folder()
    names = [path.parent.name for path in sorted(folder.glob(f"*/{RECORD}"))]
    return [record for name in names if not name.startswith(".") and (record := read(name)) is not None]


def remove(record: Record) -> None:
    """Remove all of the cluster: boxes, interface, cgroups and folder. Nothing else bears its names.

    Raises:
        ClusterError: a process of it does not die.
    """
    for box in reversed(record.boxes):
        box.kill()
    network.remove_from_host(record.layout)
    cgroups.remove(record.layout.cgroup)
    if record.layout.folder.exists():
        trash = Path(tempfile.mkdtemp(prefix=TRASH, dir=clusters_folder()))
        record.layout.folder.rename(trash / record.name)
        _delete_later(trash)


def adopt(record: Record) -> Record:
    """The record with this process as its owner."""
    return replace(record, owner=(os.getpid(), started(os.getpid())))


@contextlib.contextmanager
def _registry() -> Iterator[Path]:
    """The folder of all clusters, for one process at a time; deletes what earlier ones did not come to."""
    folder = clusters_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for trash in folder.glob(f"{TRASH}*"):
            _delete_later(trash)
        yield folder


def _create(folder: Path, name: str, *, detached: bool, num_nodes: int) -> Record:
    used = {record.index for record in everything()}
    free = [index for index in range(MAX_INDEX + 1) if index not in used]
    if not free:
        raise ClusterError("too many clusters; end some with tests/cluster/cluster.py down --name NAME")
    record = Record(name=name, index=free[0], owner=(0, None), detached=detached, num_nodes=num_nodes)
    record = adopt(record)
    assert record.layout.folder.parent == folder
    scratch = Path(tempfile.mkdtemp(prefix=TRASH, dir=folder))
    try:
        _write(scratch, record)
        scratch.rename(record.layout.folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return record


def _write(folder: Path, record: Record) -> None:
    data = {
        "name": record.name,
        "index": record.index,
        "owner": list(record.owner),
        "detached": record.detached,
        "num_nodes": record.num_nodes,
        "boxes": [[box.name, box.pid, box.started] for box in record.boxes],
    }
    scratch = folder / f".{RECORD}"
    scratch.write_text(json.dumps(data, indent=1))
    scratch.rename(folder / RECORD)


def _delete_later(trash: Path) -> None:
    """Delete in the background: images are tens of thousands of files."""
    run("sh", "-c", 'nice rm -rf "$1" < /dev/null > /dev/null 2>&1 &', "sh", str(trash))
