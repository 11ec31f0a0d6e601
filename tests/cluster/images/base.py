"""The base image of our Dockerfiles, made from Debian's packages, since no registry is within reach of the tests.

It stands in for the official ``python:3.11-slim-bookworm`` under that very name: the same Debian release, the same
minor version of Python at ``/usr/local/bin/python``, pip beside it. Python is Debian's build, not the official one.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.cluster.harness.packages import IMAGES, install
from tests.cluster.images.buildah import buildah, export_image, has_image
from tests.cluster.images.cache import kept, key

NAME = "docker.io/library/python:3.11-slim-bookworm"
PACKAGES = ("ca-certificates", "netbase", "python3", "python3-venv", "tzdata")
SEARCH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
UNUSED = ("var/lib/apt/lists", "var/cache", "var/log", "usr/share/doc", "usr/share/man", "usr/share/locale")


def key_of_base() -> str:
    """What decides the base image."""
    return key(Path(__file__))


def have_base() -> None:
    """Have the base image in the storage, which the caller holds. A minute or two the first time."""
    tar = kept("base", key_of_base(), _make) / "image.tar"
    if not has_image(NAME):
        buildah("pull", f"docker-archive:{tar}")


def _make(place: Path) -> None:
    install(IMAGES)
    root = place / "root"
    log = place / "debootstrap.log"
    with log.open("w") as out:
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", str(root)]
        subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=True)
    _place_python(root)
    _trim(root)
    _commit(root, place / "image.tar")
    shutil.rmtree(root)


def _place_python(root: Path) -> None:
    """Python and pip where the official image has them."""
    for name in ("python", "python3", "python3.11"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3.11")
    (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink(missing_ok=True)
    wheels = "/usr/share/python-wheels"
    (pip,) = (root / wheels[1:]).glob("pip-*.whl")
    install = [
        "/usr/bin/python3.11",
        f"{wheels}/{pip.name}/pip",
        "install",
        "--no-index",
        "--find-links",
        wheels,
        "pip",
    ]
    environment = {"PATH": SEARCH, "HOME": "/tmp"}
    subprocess.run(["chroot", str(root), *install], env=environment, check=True, capture_output=True)


def _trim(root: Path) -> None:
    """Empty what no container reads, as slim images do."""
    for name in UNUSED:
        for path in (root / name).iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _commit(root: Path, tar: Path) -> None:
    container = buildah("from", "scratch")
    try:
        buildah("add", container, str(root), "/")
        buildah("config", "--env", f"PATH={SEARCH}", "--cmd", "python3", container)
        buildah("commit", "--format", "docker", container, NAME)
    finally:
        buildah("rm", container)
    export_image(NAME, tar)
