"""buildah with storage of our own: no daemon, no registry, nothing in the machine's own image store.

One build at a time. Layers stay in the cache's ``storage``, so that a build after a change of code makes the last
layer only; when the storage has grown past ``MOST_BYTES`` it is thrown away and begun anew.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.harness.commands import run
from tests.cluster.harness.errors import CannotRunError
from tests.cluster.harness.packages import IMAGES, install
from tests.cluster.images.cache import folder, locked

MOST_BYTES = 12 * 2**30
TIMEOUT_S = 1800


@contextmanager
def storage() -> Iterator[None]:
    """Hold the storage for one build.

    Raises:
        CannotRunError: images cannot be built on this machine.
    """
    if os.geteuid() != 0:
        raise CannotRunError("building images needs root")
    install(IMAGES)
    with locked("storage"):
        place = _place()
        if _size(place) > MOST_BYTES:
            shutil.rmtree(place)
        place.mkdir(exist_ok=True)
        yield


def buildah(*arguments: str) -> str:
    """Run one command within `storage`; returns what it printed.

    Raises:
        ClusterError: it failed; the message ends with what it printed last.
    """
    place = _place()
    where = ["--root", str(place / "root"), "--runroot", str(place / "run"), "--storage-driver", "overlay"]
    return run("buildah", *where, *arguments, timeout_s=TIMEOUT_S).strip()


def image_id(name: str) -> str:
    """The id of the image that has this name in the storage, such as ``sha256:…``; empty when none has."""
    rows = (
        line.split() for line in buildah("images", "--no-trunc", "--format", "{{.Name}}:{{.Tag}} {{.ID}}").splitlines()
    )
    return next((number for found, number in rows if found == name), "")


def load_image(name: str, number: str, tar: Path) -> None:
    """Have `name` be the image `number`, out of its docker-archive when the storage has it no more."""
    if image_id(name) != number:
        buildah("pull", f"docker-archive:{tar}")


def build_image(
    *, context: Path, dockerfile: Path, name: str, arguments: Mapping[str, str], volumes: Mapping[Path, str]
) -> str:
    """Build a Dockerfile as it stands; returns the image's id. Only RUN sees `volumes`, and no image keeps them."""
    flags = [flag for key, value in arguments.items() for flag in ("--build-arg", f"{key}={value}")]
    flags += [flag for path, target in volumes.items() for flag in ("--volume", f"{path}:{target}:ro")]
    fixed = ["--isolation", "chroot", "--pull-never", "--layers", "--format", "docker"]
    buildah("bud", *fixed, *flags, "--tag", name, "--file", str(dockerfile), str(context))
    return image_id(name)


def export_image(name: str, tar: Path) -> None:
    """Write an image as a docker-archive that carries its name."""
    buildah("push", name, f"docker-archive:{tar}:{name}")


def _place() -> Path:
    return folder() / "storage"


def _size(place: Path) -> int:
    """Bytes of all layers, as the storage's own index has them: to walk over its files takes half a minute."""
    index = place / "root" / "overlay-layers" / "layers.json"
    rows: list[dict[str, Any]] = json.loads(index.read_text()) if index.exists() else []
    return sum(int(row.get("diff-size", 0)) for row in rows)
