"""Results on disk: one small JSON file for each method, seed, order and task, keyed by all that decides it.

A file whose key is another (other data, root, parameters, version of a strategy) is as good as absent: the step runs
again and replaces it. Files are written at once or not at all. Called by ``harness`` and ``report``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from evergraft import canonical
from evergraft.errors import UserError

FORMAT = 1
END = "end.json"


@dataclass(frozen=True)
class Run:
    """One method over one order with one seed; `quick` if over the subset."""

    method: str
    order: str
    seed: int
    quick: bool

    @property
    def place(self) -> Path:
        """Its folder below the results: ``a/graft/s0``, ``a-quick/graft/s0``."""
        return Path(self.order + ("-quick" if self.quick else "")) / self.method / f"s{self.seed}"


@dataclass(frozen=True)
class Step:
    """One task learned once. `position` counts from 0 over all passes; qualities are accuracies in 0…1.

    `quality` is of validation, `test_quality` of the test when learned. Parameters are numbers; `samples` and
    `forward_samples` images; `flops` operations, estimated; times in seconds of this task's learning.
    """

    key: str
    position: int
    task: str
    quality: float
    test_quality: float
    parameters_added: int
    parameters_total: int
    samples: int
    forward_samples: int
    flops: int
    cpu_seconds: float
    wall_seconds: float
    parent: str
    why: str
    profile: str


@dataclass(frozen=True)
class End:
    """After the last task: test accuracy of every task with what there is now, and how it was seen.

    `answers_checked` routes answered their golden inputs again, `answers_identical` of them with the same bits; both 0
    for a method without routes, whose tests are measured again instead.
    """

    key: str
    test_quality: Mapping[str, float]
    answers_checked: int
    answers_identical: int


Result = TypeVar("Result", Step, End)


def step_key(facts: Mapping[str, Any]) -> str:
    """The digest of all that decides a step's result."""
    return canonical.digest({"format": FORMAT, **facts})


def end_key(steps: Sequence[str]) -> str:
    """The digest of the keys of all steps of a run, in their order: an end counts only with these very steps."""
    return canonical.digest(list(steps))


def step_file(folder: Path, position: int, task: str) -> Path:
    """Where a step's result lies."""
    return folder / f"{position:02d}-{task}.json"


def read_step(path: Path, *, key: str | None = None) -> Step | None:
    """The recorded step; None if there is none, or one of another key.

    Raises:
        UserError: the file is damaged or cannot be read.
    """
    return _read(path, Step, key)


def read_end(folder: Path, *, key: str | None = None) -> End | None:
    """What was measured after the last task; None if it has not been, or of other steps.

    Raises:
        UserError: the file is damaged or cannot be read.
    """
    return _read(folder / END, End, key)


def write(path: Path, value: Step | End) -> None:
    """Write a result, whole or not at all.

    Raises:
        UserError: the folder cannot be written to.
    """
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps({"format": FORMAT, **asdict(value)}, indent=2, ensure_ascii=False) + "\n")
        os.replace(partial, path)  # noqa: PTH105 - one step, also over an older file
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); use another --results folder") from None


def runs_in(results: Path) -> Sequence[Run]:
    """Every run that has a folder in the results, in order of its place."""
    found = []
    for path in sorted(results.glob("*/*/s*")):
        order, method, seed = path.relative_to(results).parts
        if path.is_dir() and seed[1:].isdecimal():
            quick = order.endswith("-quick")
            found.append(Run(method, order.removesuffix("-quick"), int(seed[1:]), quick))
    return found


def steps_of(folder: Path) -> tuple[Step, ...]:
    """The steps recorded in a run's folder, in the order learned."""
    found = (read_step(path) for path in sorted(folder.glob("[0-9]*.json")))
    return tuple(step for step in found if step is not None)


def _read(path: Path, kind: type[Result], key: str | None) -> Result | None:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); use another --results folder") from None
    except ValueError:
        raise UserError(f"{path}: is no JSON; {_REMEDY}") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise UserError(f"{path}: is of another format than {FORMAT}; use another --results folder")
    if key is not None and value.get("key") != key:
        return None
    for item in fields(kind):
        if item.name not in value:
            raise UserError(f"{path}: lacks {item.name!r}; {_REMEDY}")
        if not _fits(value[item.name], str(item.type)):
            raise UserError(f"{path}: {item.name}: {value[item.name]!r:.60} is no {item.type}; {_REMEDY}")
    return kind(**{item.name: value[item.name] for item in fields(kind)})


_REMEDY = "remove the file, and it is made again"


def _fits(value: Any, kind: str) -> bool:
    """Whether a value from a file is of a field's type, as the annotation spells it."""
    if kind.startswith("Mapping"):
        return isinstance(value, dict) and all(_fits(item, "float") for item in value.values())
    if kind == "str":
        return isinstance(value, str)
    return isinstance(value, int if kind == "int" else int | float) and not isinstance(value, bool)
