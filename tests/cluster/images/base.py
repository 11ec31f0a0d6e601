"""The base image of our Dockerfiles, made from Debian's packages, since no registry is within reach of the tests.

It stands in for the official ``python:3.11-slim-bookworm`` under that very name: the same Debian release, the same
minor version of Python at ``/usr/local/bin/python``, pip beside it. Python is Debian's build, not the official one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.cluster.harness.commands import run
from tests.cluster.harness.packages import IMAGES, install
from tests.cluster.images.buildah import buildah, export_image, image_id, load_image
from tests.cluster.images.cache import kept, key

NAME = "docker.io/library/python:3.11-slim-bookworm"
PACKAGES = ("ca-certificates", "netbase", "python3", "python3-venv", "tzdata")
SEARCH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
DEBOOTSTRAP_TIMEOUT_S = 900
UNUSED = ("var/lib/apt/lists", "var/cache", "var/log", "usr/share/doc", "usr/share/man", "usr/share/locale")


def key_of_base() -> str:
    """What decides the base image."""
    return key(Path(__file__))


def have_base() -> None:
    """Have the base image in the storage, which the caller holds. A minute or two the first time."""
    place = kept("base", key_of_base(), _make)
    load_image(NAME, (place / "id").read_text(), place / "image.tar")


def _make(place: Path) -> None:
    install(IMAGES)
    root = place / "root"
    packages = f"--include={','.join(PACKAGES)}"
    run("debootstrap", "--variant=minbase", packages, "bookworm", str(root), timeout_s=DEBOOTSTRAP_TIMEOUT_S)
    _place_python(root)
    _trim(root)
    _commit(root)
    export_image(NAME, place / "image.tar")
    (place / "id").write_text(image_id(NAME))
    shutil.rmtree(root)


def _place_python(root: Path) -> None:
    """Python and pip where the official image has them."""
    for name in ("python", "python3", "python3.11"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3.11")
    (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink(missing_ok=True)
    wheels = "/usr/share/python-wheels"
    (pip,) = (root / wheels[1:]).glob("pip-*.whl")
    bootstrap = [
        "/usr/bin/python3.11",
        f"{wheels}/{pip.name}/pip",
        "install",
        "--no-index",
        "--find-links",
        wheels,
        "pip",
    ]
    run("chroot", str(root), *bootstrap)


def _trim(root: Path) -> None:
    """Empty what no container reads, as slim images do."""
    for name in UNUSED:
        for path in (root / name).iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _commit(root: Path) -> None:
    container = buildah("from", "scratch")
    try:
        buildah("add", container, str(root), "/")
        buildah("config", "--env", f"PATH={SEARCH}", "--cmd", "python3", container)
        buildah("commit", "--format", "docker", container, NAME)
    finally:
        buildah("rm", container)
