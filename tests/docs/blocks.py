"""Fenced blocks of the documentation, and how those that are marked are run.

A reader sees the marks as little as a renderer shows them; they follow the language on the fence's first line:

- ``sh runnable``: run by test_commands.py in a folder that looks like a checkout;
- ``sh runnable cluster``: run by tests/cluster/test_documented_commands.py against a real cluster;
- ``python runnable``: like the first, by Python;
- ``yaml file=NAME``: written to that file for the blocks that follow on the page.

Words in capitals that stand for something of the reader's, such as NAMESPACE, are replaced by what a test has.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        REPOSITORY / "README.md",
        REPOSITORY / "charts/evergraft/README.md",
        *REPOSITORY.glob("docs/**/*.md"),
    ]
)
CHECKOUT = ("charts", "manifests", "images.txt")
"""What commands of the documentation read of a checkout."""
MARKS = re.compile(r"runnable|cluster|file=[\w./-]+")


@dataclass(frozen=True)
class Block:
    """A fenced block: `line` is its first fence's, from 1; `marks` what follows the language there."""

    page: str
    line: int
    language: str
    marks: tuple[str, ...]
    text: str

    @property
    def place(self) -> str:
        """Where it is, as editors understand it."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file it is the content of."""
        return next((mark.removeprefix("file=") for mark in self.marks if mark.startswith("file=")), None)

    def runs(self, *, cluster: bool) -> bool:
        """Whether it is run, with a cluster or without."""
        return "runnable" in self.marks and ("cluster" in self.marks) is cluster


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order.

    Raises:
        ValueError: a fence is not closed.
    """
    found: list[Block] = []
    begun: tuple[int, list[str]] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.startswith("```"):
            lines.append(line)
        elif begun is None:
            begun, lines = (number, line[3:].split() or [""]), []
        else:
            first, (language, *marks) = begun
            name = str(page.relative_to(REPOSITORY))
            found.append(Block(name, first, language, tuple(marks), "\n".join(lines) + "\n"))
            begun = None
    if begun is not None:
        raise ValueError(f"{page}:{begun[0]}: this fence is not closed")
    return found


@dataclass
class Desk:
    """Where a reader sits: a folder like a checkout, and what the words in capitals stand for."""

    folder: Path
    environment: Mapping[str, str]
    meant: dict[str, str] = field(default_factory=dict)

    def furnish(self) -> None:
        """Copy what a checkout has; `make demo`'s environment is this one."""
        for name in CHECKOUT:
            source = REPOSITORY / name
            if source.is_dir():
                shutil.copytree(source, self.folder / name, dirs_exist_ok=True)
            else:
                shutil.copy2(source, self.folder / name)
        (self.folder / ".venv").symlink_to(sys.prefix)

    def said(self, text: str) -> str:
        """A text with everything that is the reader's put in."""
        words = "|".join(re.escape(word) for word in sorted(self.meant, key=len, reverse=True))
        return re.sub(rf"(?<![\w-])(?:{words})(?![\w-])", lambda found: self.meant[found[0]], text) if words else text

    def write(self, block: Block) -> None:
        """Write the block to its file."""
        assert block.file is not None
        target = self.folder / block.file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(self.said(block.text), encoding="utf-8")

    def run(self, block: Block, *, timeout_s: float = 300) -> str:
        """Run the block as a whole; the first command that fails ends it. Returns what it printed.

        Raises:
            AssertionError: it failed; has where it is and what was said.
        """
        program = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
        done = subprocess.run(
            [*program, self.said(block.text)],
            cwd=self.folder,
            env=dict(self.environment),
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{block.place}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout
