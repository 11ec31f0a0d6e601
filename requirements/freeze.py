"""Print constraints for the images: everything they install, at the versions that are installed here.

``make check`` and the tests ran with these. Writing them anew: ``.venv/bin/python requirements/freeze.py >
requirements/constraints.txt``. torch is left to ``torch-*.txt``, since each accelerator has its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOTS = ("evergraft[operator,trainer,gcs,s3]", "hatchling")
BY_ACCELERATOR = {"evergraft", "torch", "torchvision", "triton"}
HEAD = """\
# What the images install, exactly; written by requirements/freeze.py. torch and what it alone needs: torch-*.txt.
"""


def main() -> None:
    """Print the file."""
    pins: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    for root in ROOTS:
        _collect(Requirement(root), pins, seen)
    sys.stdout.write(HEAD + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))


def _collect(requirement: Requirement, pins: dict[str, str], seen: set[tuple[str, frozenset[str]]]) -> None:
    """Pin a requirement and all that it needs here; what is not installed is not needed."""
    name = canonicalize_name(requirement.name)
    if name.startswith(("nvidia-", "cuda-")) or (name, frozenset(requirement.extras)) in seen:
        return
    seen.add((name, frozenset(requirement.extras)))
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return
    if name not in BY_ACCELERATOR:
        pins[name] = found.version
    for needed in _needs(found.requires or [], requirement.extras or {""}):
        _collect(needed, pins, seen)


def _needs(lines: list[str], extras: set[str]) -> Iterator[Requirement]:
    for line in lines:
        needed = Requirement(line)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            yield needed


if __name__ == "__main__":
    main()
