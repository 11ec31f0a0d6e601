"""Print what extras of pyproject.toml require, one requirement a line: ``extras.py EXTRA… [--without NAME…]``.

The Dockerfiles run it in a small stage of its own, so that their dependencies are decided by pyproject.toml and
change with it alone. It runs on a bare Python.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path


def requirements(pyproject: Path, extras: Sequence[str], without: Collection[str] = ()) -> list[str]:
    """The project's own requirements and those of `extras`, sorted, but none of the projects `without`.

    Raises:
        KeyError: there is no such extra.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    wanted = set(project["dependencies"])
    for extra in extras:
        wanted.update(project["optional-dependencies"][extra])
    return sorted(line for line in wanted if name(line) not in without)


def name(requirement: str) -> str:
    """The normalized name at the beginning of a requirement."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def main(arguments: Sequence[str]) -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description="Print what extras of pyproject.toml require.")
    parser.add_argument("extras", nargs="*", metavar="EXTRA")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--pyproject", type=Path, default=Path("pyproject.toml"), metavar="FILE")
    args = parser.parse_args(arguments)
    sys.stdout.write("".join(f"{line}\n" for line in requirements(args.pyproject, args.extras, args.without)))


if __name__ == "__main__":
    main(sys.argv[1:])
