"""Sums recorded runs up: one row a method and order.

Everything comes from the result files; nothing is trained here. A run that is not whole says how far it is, and its
means are over what it has. Called by ``evergraft bench stream report``, ``claims`` and ``picture``.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evergraft_trainer.bench import records
from evergraft_trainer.bench.catalog import ORDERS, order_of
from evergraft_trainer.bench.methods import METHODS
from evergraft_trainer.bench.records import End, Run, Step


@dataclass(frozen=True)
class Row:
    """A method over one order, means over its seeds. Accuracies in 0…1; the rest a task, but for `steps` of `of`.

    What a task costs is summed over all passes.

    `learned` is the mean test accuracy of each task's last route when it was learned, `end` the same after the last
    task; None while no seed has been measured. `forgetting` is the mean loss between the two, gains not counted.
    """

    method: str
    order: str
    quick: bool
    seeds: tuple[int, ...]
    steps: int
    of: int
    learned: float
    end: float | None
    forgetting: float | None
    answers_identical: bool | None
    parameters_added: float
    parameters_share: float
    samples: float
    forward_samples: float
    gflops: float
    cpu_seconds: float

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class Recorded:
    """One run as its files tell it."""

    run: Run
    steps: tuple[Step, ...]
    end: End | None

    @property
    def learned(self) -> Mapping[str, float]:
        """Test accuracy of each task when it was last learned."""
        return {step.task: step.test_quality for step in self.steps}

    def a_task(self, cost: Callable[[Step], float]) -> float:
        """A cost of its steps a task: those of all passes count."""
        return sum(map(cost, self.steps)) / max(1, len(self.learned))


def recorded(results: Path, *, quick: bool, keys: Callable[[Run], Collection[str]] | None = None) -> list[Recorded]:
    """Every run in the results that has at least one step, of the quick subset or of the whole stream.

    `keys` tells what a run's steps are keyed by now: steps of other keys, say of an older version, are left out.

    Raises:
        UserError: a file is damaged.
    """
    found = []
    for run in records.runs_in(results):
        if run.quick != quick or run.method not in METHODS or run.order not in ORDERS:
            continue
        folder = results / run.place
        wanted = keys(run) if keys is not None else None
        steps = tuple(step for step in records.steps_of(folder) if wanted is None or step.key in wanted)
        if steps:
            # An end that was measured after other steps, say those of an older version, tells nothing of these.
            end = records.read_end(folder, key=records.end_key([step.key for step in steps]))
            found.append(Recorded(run, steps, end))
    return found


def learned_by(method: str, order: str, runs: Sequence[Recorded]) -> Mapping[tuple[int, str], float]:
    """Test accuracy of what a method has learned in an order, by seed and task.

    Where it learns every task by itself, the other order's results are the same and count.
    """
    return {
        (item.run.seed, task): value
        for item in runs
        if item.run.method == method and (item.run.order == order or not METHODS[method].chained)
        for task, value in item.learned.items()
    }


def summarise(runs: Sequence[Recorded], *, root_parameters: int) -> list[Row]:
    """One row a method and order, in the order of METHODS."""
    groups: dict[tuple[str, str], list[Recorded]] = {}
    for item in runs:
        groups.setdefault((item.run.order, item.run.method), []).append(item)
    names = list(METHODS)
    keys = sorted(groups, key=lambda key: (key[0], names.index(key[1])))
    return [_row(groups[key], root_parameters) for key in keys]


def _row(runs: Sequence[Recorded], root_parameters: int) -> Row:
    first = runs[0].run
    ends = [item for item in runs if item.end is not None]
    added = _costs(runs, lambda step: step.parameters_added)
    tasks = len(order_of(first.order, quick=first.quick)) * METHODS[first.method].passes
    return Row(
        method=first.method,
        order=first.order,
        quick=first.quick,
        seeds=tuple(item.run.seed for item in runs),
        steps=sum(len(item.steps) for item in runs),
        of=tasks * len(runs),
        learned=statistics.fmean(_mean(item.learned) for item in runs),
        end=statistics.fmean(_mean(item.end.test_quality) for item in ends if item.end) if ends else None,
        forgetting=statistics.fmean(map(forgetting, ends)) if ends else None,
        answers_identical=_answers(ends),
        parameters_added=added,
        parameters_share=added / root_parameters,
        samples=_costs(runs, lambda step: step.samples),
        forward_samples=_costs(runs, lambda step: step.forward_samples),
        gflops=_costs(runs, lambda step: step.flops) / 1e9,
        cpu_seconds=_costs(runs, lambda step: step.cpu_seconds),
    )


def _costs(runs: Sequence[Recorded], cost: Callable[[Step], float]) -> float:
    return statistics.fmean(item.a_task(cost) for item in runs)


def forgetting(item: Recorded) -> float:
    """Mean loss of test accuracy between learning and the end; 0 where a task only gained."""
    assert item.end is not None
    end = item.end.test_quality
    return statistics.fmean(max(0.0, value - end[task]) for task, value in item.learned.items())


def _answers(ends: Sequence[Recorded]) -> bool | None:
    """Whether every route answered as it did; None where there are no routes to ask."""
    checked = [item.end for item in ends if item.end is not None and item.end.answers_checked]
    return all(end.answers_identical == end.answers_checked for end in checked) if checked else None


def _mean(values: Mapping[str, float]) -> float:
    return statistics.fmean(values.values())
