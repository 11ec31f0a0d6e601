"""buildah with storage of our own: no daemon, no registry, nothing in the machine's own image store.

One build at a time. Layers stay in the cache's ``storage``, so that a build after a change of code makes the last
layer only; when the storage has grown past ``MOST_BYTES`` it is thrown away and begun anew.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.harness.errors import ClusterError
from tests.cluster.harness.packages import IMAGES, install
from tests.cluster.images.cache import folder, locked

MOST_BYTES = 12 * 2**30


class BuildFailedError(ClusterError):
    """buildah said no; the message ends with what it printed last."""


@contextmanager
def storage() -> Iterator[None]:
    """Hold the storage for one build."""
    install(IMAGES)
    with locked("storage"):
        place = _place()
        if place.exists() and _size(place) > MOST_BYTES:
            shutil.rmtree(place)
        place.mkdir(exist_ok=True)
        yield


def buildah(*arguments: str) -> str:
    """Run one command within `storage`; returns what it printed.

    Raises:
        BuildFailedError: it failed.
    """
    place = _place()
    where = ["--root", str(place / "root"), "--runroot", str(place / "run"), "--storage-driver", "overlay"]
    done = subprocess.run(["buildah", *where, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailedError(f"buildah {arguments[0]}:\n" + "\n".join((done.stdout + done.stderr).splitlines()[-40:]))
    return done.stdout.strip()


def has_image(name: str) -> bool:
    """Whether the storage holds an image of that name."""
    return name in buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()


def build_image(
    *, context: Path, dockerfile: Path, name: str, arguments: Mapping[str, str], volumes: Mapping[Path, str]
) -> str:
    """Build a Dockerfile as it stands; returns the image's id. Only RUN sees `volumes`, and no image keeps them."""
    flags = [flag for key, value in arguments.items() for flag in ("--build-arg", f"{key}={value}")]
    flags += [flag for path, target in volumes.items() for flag in ("--volume", f"{path}:{target}:ro")]
    fixed = ["--isolation", "chroot", "--pull-never", "--layers", "--format", "docker"]
    buildah("bud", *fixed, *flags, "--tag", name, "--file", str(dockerfile), str(context))
    return "sha256:" + buildah("inspect", "--type", "image", "--format", "{{.FromImageID}}", name)


def export_image(name: str, tar: Path) -> None:
    """Write an image as a docker-archive that carries its name."""
    buildah("push", name, f"docker-archive:{tar}:{name}")


def _place() -> Path:
    return folder() / "storage"


def _size(place: Path) -> int:
    return sum(path.lstat().st_size for path in place.rglob("*"))
