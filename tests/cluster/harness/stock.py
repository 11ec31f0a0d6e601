"""Big images on new nodes in seconds: the disk of a node that had them is kept, and new disks link to its files.

Importing our two images takes a minute, and each code change makes new ones. So the node that imported last leaves a
copy of its runtime's folder in the cache: files of images never change, and so are linked; databases are copied.
What the stock lacks is imported by one node and joins it. Called by cluster, before pods run.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.cluster.harness import images
from tests.cluster.harness.commands import run
from tests.cluster.harness.layout import cache_folder
from tests.cluster.harness.node import Node

COPY_TIMEOUT_S = 300


def furnish(nodes: Sequence[Node], archives: Sequence[Path]) -> None:
    """Start the runtimes of new nodes, with `archives` imported."""
    first, *others = nodes
    _take(first)
    first.start_runtime()
    news = [archive for archive in archives if images.bring(first, archive)]
    if news and _can_link(first):
        _forget_replaced(first)
        first.stop_runtime()  # its databases hold still
        _put(first)
        first.start_runtime()
    for node in others:
        _take(node)
        node.start_runtime()
        for archive in archives:
            images.bring(node, archive)


def _take(node: Node) -> None:
    """Give the new node a disk with everything in stock."""
    with _lock() as shelf:
        if shelf.is_dir() and _can_link(node):
            (node.folder / "lib").mkdir(exist_ok=True)
            _link(shelf / "containerd", node.folder / "lib" / "containerd")
            shutil.copytree(shelf / "images", node.folder / "images", dirs_exist_ok=True)


def _put(node: Node) -> None:
    """Make the node's images the stock."""
    with _lock() as shelf:
        scratch = Path(tempfile.mkdtemp(prefix="stock-", dir=shelf.parent))
        try:
            _link(node.folder / "lib" / "containerd", scratch / "containerd")
            shutil.copytree(node.folder / "images", scratch / "images")
            if shelf.exists():
                shutil.rmtree(shelf)
            scratch.rename(shelf)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """The same tree at `target`: linked, but for the databases, which are written to in place."""
    shutil.rmtree(target, ignore_errors=True)
    run("cp", "-a", "--link", str(source), str(target), timeout_s=COPY_TIMEOUT_S)
    for database in source.glob("*/*.db"):
        run("cp", "-a", "--remove-destination", str(database), str(target / database.relative_to(source)))


def _forget_replaced(node: Node) -> None:
    """Drop images that only their ids still name, as a newer one has taken their names."""
    lines = [line.split() for line in node.ctr("images", "list").splitlines()[1:]]
    named = {line[2] for line in lines if not line[0].startswith("sha256:")}
    old = [line[0] for line in lines if line[0].startswith("sha256:") and line[2] not in named]
    if old:
        node.ctr("images", "remove", "--sync", *old, timeout_s=COPY_TIMEOUT_S)


def _can_link(node: Node) -> bool:
    return cache_folder().stat().st_dev == node.folder.stat().st_dev


@contextlib.contextmanager
def _lock() -> Iterator[Path]:
    """The stock's folder, for one process at a time."""
    with (cache_folder() / "stock.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield cache_folder() / "stock"
