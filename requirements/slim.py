"""Make an installed environment ready for a small, read-only image: ``slim.py [--root ROOT] ENVIRONMENT``.

Bytecode is compiled once and never checked against a file's time, since nobody can write it later; what only a
compiler or a test suite would read goes. ``slim.py --interpreter`` takes pip out of the base image's Python and
compiles its standard library instead. The Dockerfiles run it, on a bare Python.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from py_compile import PycInvalidationMode

USELESS_FOLDERS = ("*/tests", "numpy/_core/include", "pyarrow/include", "torch/include", "torch/share")
AWS_SERVICES = {"s3", "signin", "sso", "sso-oidc", "sts"}
"""What reading and writing S3 needs of botocore's descriptions of services, signing in included."""
USELESS_FILES = ("*.a", "*.pxd", "*.pyx", "*.pyi")
INSTALLERS = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "ensurepip")
UNCOMPILED = re.compile(r"/(test|tests|idlelib|lib2to3|turtledemo)/|/kubernetes/(aio/)?client/(api|models)/[a-z]")
"""Left as source: what runs on another Python or never, and 1,500 modules of a client that loads the few it needs."""
LAUNCHER = re.compile(r"(pip|wheel)[0-9.]*")


def environment(place: Path, installed_as: Path) -> None:
    """Slim and compile the environment at `place`, which the image will have at `installed_as`."""
    for pattern in USELESS_FOLDERS:
        for folder in place.glob(f"lib/python*/site-packages/{pattern}"):
            shutil.rmtree(folder)
    for description in place.glob("lib/python*/site-packages/botocore/data/*/"):
        if description.is_dir() and description.name not in AWS_SERVICES:
            shutil.rmtree(description)
    for pattern in USELESS_FILES:
        for file in place.rglob(pattern):
            file.unlink()
    _compile(place / "lib", installed_as / "lib")


def interpreter() -> None:
    """Take installers out of this Python and compile its standard library."""
    homes = [
        Path(spec.origin).parent for name in INSTALLERS if (spec := importlib.util.find_spec(name)) and spec.origin
    ]
    for home in homes:
        for folder in [home, *home.parent.glob(f"{home.name}-*.dist-info")]:
            shutil.rmtree(folder)
        (home.parent / "distutils-precedence.pth").unlink(missing_ok=True)
    for program in Path("/usr/local/bin").iterdir():
        if LAUNCHER.fullmatch(program.name):
            program.unlink()
    standard = Path(sysconfig.get_path("stdlib"))
    _compile(standard, standard)


def _compile(place: Path, installed_as: Path) -> None:
    """Compile what is below; files for another Python stay source."""
    compileall.compile_dir(
        place,
        quiet=2,
        workers=os.cpu_count() or 1,
        stripdir=str(place),
        prependdir=str(installed_as),
        rx=UNCOMPILED,
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )


def main(arguments: Sequence[str]) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Make an installed environment ready for a small, read-only image.")
    parser.add_argument("environment", nargs="?", type=Path, help="the environment's folder in the image")
    parser.add_argument("--root", type=Path, help="a folder that stands for the image's root")
    parser.add_argument("--interpreter", action="store_true", help="the base image's own Python instead")
    args = parser.parse_args(arguments)
    if args.interpreter:
        interpreter()
    elif args.environment is None:
        parser.error("name an environment, or --interpreter")
    else:
        place = args.root / args.environment.relative_to("/") if args.root else args.environment
        environment(place, args.environment)


if __name__ == "__main__":
    main(sys.argv[1:])
