"""What is in a built image, and what its programs do under the restrictions that pods have.

Files and configuration are read from the docker-archive itself. Programs run as user 65532 in namespaces of their own,
on a read-only root with a writable /tmp, without a network. Called by test_images.py.
"""

from __future__ import annotations

import json
import tarfile
from typing import IO, Any

from tests.cluster.harness.commands import run
from tests.cluster.images.build import Image
from tests.cluster.images.buildah import buildah, load_image, storage

LIKE_A_POD = """
set -e
mount --bind "$0" "$0"
mount -o remount,ro,bind "$0"
mount -t tmpfs -o mode=1777 tmpfs "$0/tmp"
mount -t proc proc "$0/proc"
mount --rbind /dev "$0/dev"
exec chroot --userspec=65532:65532 "$0" env -i "$@"
"""


def run_inside(image: Image, *command: str, timeout_s: float = 120) -> str:
    """What a command prints in the image.

    Raises:
        ClusterError: it failed; holds what it said.
    """
    environment = configuration(image)["config"]["Env"]
    namespaces = ("--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child=KILL", "--propagation", "private")
    with storage():
        load_image(image.name, image.digest, image.tar)
        container = buildah("from", "--pull-never", image.name)
        try:
            root = buildah("mount", container)
            child = ("sh", "-c", LIKE_A_POD, root, *environment, *command)
            return run("unshare", *namespaces, *child, timeout_s=timeout_s)
        finally:
            buildah("rm", container)


def configuration(image: Image) -> dict[str, Any]:
    """The image's configuration: environment, user, labels, history."""
    with tarfile.open(image.tar) as archive:
        (manifest,) = json.load(_member(archive, "manifest.json"))
        found: dict[str, Any] = json.load(_member(archive, manifest["Config"]))
    return found


def layers(image: Image) -> list[dict[str, tarfile.TarInfo]]:
    """The entries of each layer by path, from the base up."""
    with tarfile.open(image.tar) as archive:
        (manifest,) = json.load(_member(archive, "manifest.json"))
        return [_entries(archive, name) for name in manifest["Layers"]]


def files(image: Image) -> dict[str, tarfile.TarInfo]:
    """What the image shows: its layers on top of each other, what upper ones remove taken out."""
    seen: dict[str, tarfile.TarInfo] = {}
    for layer in layers(image):
        for path, entry in layer.items():
            folder, _, name = path.rpartition("/")
            if name.startswith(".wh."):
                gone = f"{folder}/{name.removeprefix('.wh.')}".lstrip("/")
                seen = {old: value for old, value in seen.items() if old != gone and not old.startswith(f"{gone}/")}
            else:
                seen[path] = entry
    return seen


def _entries(archive: tarfile.TarFile, name: str) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=_member(archive, name)) as layer:
        return {entry.name.removeprefix("./").strip("/"): entry for entry in layer}


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    assert file is not None, name
    return file
