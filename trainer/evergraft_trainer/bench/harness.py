"""Runs a method over an order of the stream, task by task, and records each as it comes.

What is recorded under the same key is not run again, so a run goes on where it was cut off, in another sitting or on
another machine. Where the run's graph is not in this machine's cache, its earlier tasks are learned again, and their
figures must be the recorded ones. Called by ``evergraft bench stream run``.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from evergraft.api.load import load_root
from evergraft.errors import UserError
from evergraft.search.events import Emit
from evergraft_trainer import profile, roots
from evergraft_trainer.bench import records
from evergraft_trainer.bench.catalog import order_of
from evergraft_trainer.bench.datasets import Built
from evergraft_trainer.bench.learner import Finished, Learned, ProductLearner
from evergraft_trainer.bench.methods import REPLAY, Method, method_of
from evergraft_trainer.bench.packages import cache_folder
from evergraft_trainer.bench.records import End, Run, Step
from evergraft_trainer.bench.replay import ReplayLearner
from evergraft_trainer.nn.extract import layer_of

MAY_DIFFER = ("cpu_seconds", "wall_seconds", "why", "profile")
"""What of a step that is learned again need not be as recorded."""


class Learner(Protocol):
    """Who learns the tasks of one run, one after another."""

    def learn(self, data: Built, *, turn: int) -> Learned:
        """Learn a task in pass `turn`, or say again what came of it."""
        ...

    def finish(self, tasks: Mapping[str, Built]) -> Finished:
        """What every task is worth now."""
        ...


@dataclass(frozen=True)
class Place:
    """One task at its place in a run; `turn` counts passes from 1."""

    position: int
    turn: int
    task: str
    key: str


@dataclass
class Meter:
    """Seconds of the step at work, over all sittings that worked on it."""

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def begin(self, file: Path) -> None:
        """Count a step, on from what an earlier sitting noted in `file`."""
        self._file = file
        self.cpu_seconds, self.wall_seconds = json.loads(file.read_text()) if file.exists() else (0.0, 0.0)
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def note(self) -> None:
        """Add what was spent since the last time, and keep it."""
        cpu, wall = time.process_time(), time.monotonic()
        self.cpu_seconds += cpu - self._cpu
        self.wall_seconds += wall - self._wall
        self._cpu, self._wall = cpu, wall
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps([self.cpu_seconds, self.wall_seconds]))
        os.replace(partial, self._file)  # noqa: PTH105 - one step, also over an older file


@dataclass(frozen=True)
class Sitting:
    """Where results lie, what root every run starts from, and who is told."""

    results: Path
    root: Path
    emit: Emit
    meter: Meter = field(default_factory=Meter)

    def run(self, run: Run, data: Mapping[str, Built]) -> None:
        """Learn what is not recorded yet of one run, then measure its end.

        Raises:
            UserError, DataError, StoreError: as the product does.
        """
        profile.apply(threads=1)
        method = method_of(run.method)
        folder = self.results / run.place
        places = tuple(places_of(run, _digests(data), root=self.root))
        end_key = _end_key(places)
        if all(self._recorded(folder, place) for place in places) and records.read_end(folder, key=end_key):
            return
        work = _work_folder(run, end_key)
        learner = self._learner(method, run.seed, work)
        for place in places:
            self._step(run, place, learner, data[place.task], folder=folder, work=work)
        finished = learner.finish({task: data[task] for task in dict.fromkeys(place.task for place in places)})
        records.write(folder / records.END, End(key=end_key, **asdict(finished)))

    def forget(self, run: Run, data: Mapping[str, Built]) -> None:
        """Remove a run's results and its graph, so that it runs again from its beginning."""
        places = tuple(places_of(run, _digests(data), root=self.root))
        shutil.rmtree(_work_folder(run, _end_key(places)), ignore_errors=True)
        shutil.rmtree(self.results / run.place, ignore_errors=True)

    def _learner(self, method: Method, seed: int, work: Path) -> Learner:
        if method.strategy == REPLAY:
            return ReplayLearner(method, seed=seed, root=self.root, folder=work)
        return ProductLearner(method, seed=seed, root=self.root, folder=work, emit=self._hear)

    def _hear(self, event: str, fields: Mapping[str, Any]) -> None:
        """Pass an event on. Where a search has saved its state, what was spent on it is saved as well."""
        if event == "validation":
            self.meter.note()
        self.emit(event, fields)

    def _step(self, run: Run, place: Place, learner: Learner, data: Built, *, folder: Path, work: Path) -> None:
        """Learn one task, unless this machine has; record it, unless it is."""
        journal = work / _journal(place)
        known = self._recorded(folder, place)
        if journal.exists() and known is not None:
            return
        self.meter.begin(work / f"spent-{place.position:02d}.json")
        try:
            learned = learner.learn(data, turn=place.turn)
        finally:
            self.meter.note()
        step = Step(
            key=place.key,
            position=place.position,
            task=place.task,
            cpu_seconds=round(self.meter.cpu_seconds, 2),
            wall_seconds=round(self.meter.wall_seconds, 2),
            **asdict(learned),
        )
        if known is not None:
            _same(known, step, folder)
        else:
            records.write(records.step_file(folder, place.position, place.task), step)
        journal.write_text(place.key + "\n")
        fields = {"method": run.method, "order": run.order, "seed": run.seed}
        self.emit("learned", {**fields, "task": place.task, "test": step.test_quality, "seconds": step.cpu_seconds})

    def _recorded(self, folder: Path, place: Place) -> Step | None:
        return records.read_step(records.step_file(folder, place.position, place.task), key=place.key)


def places_of(run: Run, digests: Mapping[str, str], *, root: Path) -> Iterator[Place]:
    """Every task of a run at its place, with the key of its result; `digests` are of each task's data.

    A chained method's result depends on the tasks before; another's on its own data alone.
    """
    method = method_of(run.method)
    tasks = order_of(run.order, quick=run.quick)
    before: list[list[str]] = []
    known = root_facts(root)
    for turn in range(1, method.passes + 1):
        for number, task in enumerate(tasks):
            before.append([task, digests[task]])
            facts = {
                "method": method.to_json(),
                "seed": run.seed,
                "root": known,
                "data": before if method.chained else before[-1:],
                "pass": turn,
            }
            yield Place((turn - 1) * len(tasks) + number, turn, task, records.step_key(facts))


def _digests(data: Mapping[str, Built]) -> Mapping[str, str]:
    return {task: built.digest for task, built in data.items()}


def root_facts(root: Path) -> dict[str, Any]:
    """What decides the root, wherever its weights lie: backbone, config, and the digest of the weights or the seed.

    Raises:
        SpecError: there is no such file, or no root in it.
    """
    facts: dict[str, Any] = load_root(root).model_dump(mode="json", by_alias=True, exclude_none=True)
    if "weights" in facts:
        facts["weights"] = facts["weights"]["sha256"]
    return facts


def root_parameters(root: Path) -> int:
    """Parameters of the root, without a head."""
    layers, _ = roots.make_root(load_root(root))
    return sum(layer_of(name, module).parameters for name, module in layers)


def _same(known: Step, found: Step, folder: Path) -> None:
    """Refuse to go on from another result than the recorded one: the end would be held against another chain."""
    names = [item.name for item in fields(Step) if item.name not in MAY_DIFFER]
    other = next((name for name in names if getattr(known, name) != getattr(found, name)), None)
    if other is not None:
        why = (
            "the code has changed what this key means"
            if known.profile == found.profile
            else "this machine computes otherwise; go on where the run was begun"
        )
        raise UserError(
            f"{folder}: {known.task}: recorded {other} {getattr(known, other)}, learned again {getattr(found, other)}: "
            f"{why}, or forget the run with --again"
        )


def _journal(place: Place) -> str:
    return f"done-{place.position:02d}-{place.key[:16]}"


def _end_key(places: Sequence[Place]) -> str:
    return records.end_key([place.key for place in places])


def _work_folder(run: Run, end_key: str) -> Path:
    """Where a run's graph lies: another where any of its data or settings is another."""
    return cache_folder() / "runs" / "-".join([*run.place.parts, end_key[:12]])


def runs(methods: Sequence[str], seeds: Sequence[int], *, order: str, quick: bool) -> tuple[Run, ...]:
    """The runs that a command names, seeds before methods: whatever finishes can be compared."""
    return tuple(Run(method, order, seed, quick) for seed in seeds for method in methods)
