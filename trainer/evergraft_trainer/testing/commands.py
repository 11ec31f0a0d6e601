"""Small Task files and what a command line said, for tests of commands."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TASK = """\
apiVersion: evergraft.dev/v1alpha1
kind: Task
metadata: {{name: {name}}}
spec:
  dataset: {{url: {url}{dataset}}}
  search: {{strategy: finetune, samples: 64, batchSize: 8, validations: 2{search}}}
"""


@dataclass(frozen=True)
class Answer:
    """What a command said. A traceback would have failed the test already."""

    code: int
    out: str
    err: str


Run = Callable[..., Answer]


def task_file(folder: Path, url: object, *, name: str = "pets", dataset: str = "", search: str = "") -> Path:
    """A Task in a file of its own."""
    path = folder / f"{name}.yaml"
    path.write_text(TASK.format(name=name, url=url, dataset=dataset, search=search))
    return path


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
