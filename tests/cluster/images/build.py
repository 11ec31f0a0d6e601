"""The images that the cluster tests run, built from the very Dockerfiles that are published from.

``python tests/cluster/images/build.py [operator|trainer]…`` prints the docker-archive of each;
``build("operator")`` hands them to tests. An image is built once per content: the first build takes minutes, one after
a change of code seconds, and one of the same content nothing. Needs root and Debian or the packages it names.
The trainer is for CPUs, with hollow CUDA libraries (slimtorch.py), and must never be published.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.cluster.harness.errors import ClusterError
from tests.cluster.images.base import have_base, key_of_base
from tests.cluster.images.buildah import build_image, export_image, storage
from tests.cluster.images.cache import ROOT, kept, key
from tests.cluster.images.wheelhouse import MOUNT, operator_wheels, trainer_wheels

CONTEXT = (".dockerignore", "LICENSE", "README.md", "pyproject.toml", "requirements", "operator", "trainer")
"""What .dockerignore lets through, and itself."""


@dataclass(frozen=True)
class Image:
    """An image that a node can import."""

    name: str
    """Fully qualified, as containerd wants it."""
    tar: Path
    """A docker-archive."""
    digest: str
    """The image's id: sha256 of its configuration."""


@dataclass(frozen=True)
class _Recipe:
    name: str
    wheels: Callable[[], Path]
    arguments: dict[str, str]


RECIPES = {
    "operator": _Recipe("docker.io/evergraft/operator:test", operator_wheels, {}),
    "trainer": _Recipe("docker.io/evergraft/trainer:test-cpu", trainer_wheels, {"ACCELERATOR": "cpu"}),
}
NAMES = tuple(RECIPES)


def build(name: str) -> Image:
    """The image `name`, one of NAMES; built when no image of this content is in the cache.

    Raises:
        CannotRunError: this machine cannot build it; says why.
        ClusterError: the Dockerfile does not build; holds the end of its output.
    """
    recipe = RECIPES[name]
    wheels = recipe.wheels()
    with tempfile.TemporaryDirectory(prefix="evergraft-image-") as folder:
        context = _copy_context(Path(folder) / "context")
        digest = key(context, key_of_base(), wheels.name, Path(__file__), str(recipe.arguments))
        place = kept(name, digest, lambda place: _build(name, recipe, context, wheels, place))
    return Image(recipe.name, place / "image.tar", (place / "id").read_text())


def _copy_context(target: Path) -> Path:
    """The context as it is now: what is built is what the key was made from, though somebody edits meanwhile."""
    target.mkdir()
    for name in CONTEXT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy2(source, target / name)
    return target


def _build(name: str, recipe: _Recipe, context: Path, wheels: Path, place: Path) -> None:
    volumes = {wheels / "wheels": MOUNT, wheels / "pip.conf": "/etc/pip.conf"}
    with storage():
        have_base()
        number = build_image(
            context=context,
            dockerfile=context / name / "Dockerfile",
            name=recipe.name,
            # pip looks at no index here; but layers made from other wheels must not be taken for these.
            arguments={**recipe.arguments, "PIP_INDEX_URL": f"file://{MOUNT}/{wheels.name}"},
            volumes=volumes,
        )
        export_image(recipe.name, place / "image.tar")
    (place / "id").write_text(number)


def main(arguments: list[str]) -> int:
    """Build what the command line names, everything by default, and print where it is."""
    parser = argparse.ArgumentParser(description="Build the images of the cluster tests; print their docker-archives.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; all by default")
    names = parser.parse_args(arguments).names or list(NAMES)
    if not set(names) <= set(NAMES):
        parser.error(f"images are {', '.join(NAMES)}")
    try:
        for name in names:
            print(build(name).tar)
    except ClusterError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
