"""The commit log against the model: writers with stale graphs, races, and every fault that a store can show."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from evergraft.store import checkpoints, hint
from evergraft.store.memory import _STORES
from evergraft.store.open import open_store
from evergraft.store.options import StoreOptions
from evergraft.store.seam import Store
from evergraft.testing.injection import scripted
from evergraft.testing.mishaps import plant_hint
from evergraft.testing.play import Play, Step, closing_step, condemning, removing, unused
from evergraft.testing.strategies import faults, visibilities

WRITERS = st.integers(0, 2)
TASKS = st.sampled_from(["a/one", "a/two", "b/one"])
PARENTS = st.sampled_from(["root", "root", "a/one", "a/two", "b/one"])
RUNS = st.tuples(st.integers(1, 4), st.integers(1, 2))


class LogMachine(RuleBasedStateMachine):
    """Each rule is one attempt of one writer; after each the store must be what the model is."""

    connect: ClassVar[Callable[[], Callable[[], Store]]]

    def __init__(self) -> None:
        super().__init__()
        self.play = Play(type(self).connect())

    def attempt(self, writer: int, step: Step | None, ways: Any, rival: Step | None = None) -> None:
        if step is None:
            return
        other = (writer + 1) % 3
        overtake = (lambda: self.play.attempt(other, rival)) if rival is not None else None
        self.play.attempt(writer, step, plan=scripted(ways), rival=overtake)

    @rule(
        writer=WRITERS,
        task=TASKS,
        run=RUNS,
        parent=PARENTS,
        visibility=visibilities,
        foreign=st.sampled_from([False] * 5 + [True]),
        ways=faults(),
    )
    def land(self, writer: int, task: str, run: Any, parent: str, visibility: str, foreign: bool, ways: Any) -> None:
        landing = self.play.landing(writer, task, run, parent=parent, visibility=visibility, foreign=foreign)
        self.attempt(writer, landing, ways)

    @rule(writer=WRITERS, task=TASKS, run=RUNS, parent=PARENTS, visibility=visibilities)
    def land_on_a_good_day(self, writer: int, task: str, run: Any, parent: str, visibility: str) -> None:
        self.play.refresh(writer)
        self.attempt(writer, self.play.landing(writer, task, run, parent=parent, visibility=visibility), [])

    @rule(writer=WRITERS, task=TASKS, run=RUNS, rival_task=TASKS, rival_run=RUNS, parent=PARENTS, ways=faults())
    def land_overtaken(
        self, writer: int, task: str, run: Any, rival_task: str, rival_run: Any, parent: str, ways: Any
    ) -> None:
        rival = self.play.landing((writer + 1) % 3, rival_task, rival_run)
        self.attempt(writer, self.play.landing(writer, task, run, parent=parent), ways, rival)

    @rule(writer=WRITERS, task=TASKS, run=RUNS, outcome=st.sampled_from(["kept", "none", "failed"]), ways=faults())
    def close(self, writer: int, task: str, run: Any, outcome: str, ways: Any) -> None:
        self.attempt(writer, closing_step(task, run, outcome), ways)

    @rule(writer=WRITERS, task=st.one_of(TASKS, st.just("root")), ways=faults())
    def remove(self, writer: int, task: str, ways: Any) -> None:
        self.attempt(writer, removing(task), ways)

    @rule(writer=WRITERS, back=st.integers(0, 6), ways=faults())
    def restore(self, writer: int, back: int, ways: Any) -> None:
        version = max(0, self.play.model.head - back)
        self.attempt(writer, self.play.restoring(writer, version), ways)

    @rule(writer=WRITERS, ways=faults(), task=TASKS, run=RUNS, overtaken=st.booleans())
    def condemn(self, writer: int, ways: Any, task: str, run: Any, overtaken: bool) -> None:
        """What no route names as far as the writer knows; someone may just be landing it."""
        ids = unused(self.play.summaries, self.play.writers[writer].graph)
        rival = self.play.landing((writer + 1) % 3, task, run) if overtaken else None
        self.attempt(writer, condemning(ids), ways, rival)

    @rule(writer=WRITERS, ways=faults())
    def sweep(self, writer: int, ways: Any) -> None:
        self.attempt(writer, self.play.sweeping(frozenset(self.play.writers[writer].graph.condemned)), ways)

    @rule(writer=WRITERS, task=TASKS, run=RUNS)
    def gc_while_a_writer_is_between_upload_and_commit(self, writer: int, task: str, run: Any) -> None:
        step = self.play.landing(writer, task, run)
        other = (writer + 1) % 3

        def collect() -> None:
            self.play.refresh(other)
            mine = set() if step is None else set(step.actions[0].to_json()["modules"])
            ids = unused(self.play.summaries, self.play.writers[other].graph) & mine
            if ids and self.play.attempt(other, condemning(frozenset(ids))) == "landed":
                self.play.attempt(other, self.play.sweeping(frozenset(ids)))

        if step is not None:
            self.play.attempt(writer, step, rival=collect)

    @rule(writer=WRITERS)
    def refresh(self, writer: int) -> None:
        self.play.refresh(writer)

    @rule(writer=WRITERS)
    def restart(self, writer: int) -> None:
        self.play.restart(writer)

    @rule()
    def deliver(self) -> None:
        self.play.deliver()

    @rule(version=st.integers(-1, 30), checkpoint=st.integers(-1, 30))
    def hint_of_anything(self, version: int, checkpoint: int) -> None:
        """Stale, or ahead of the log as after a backup was put back."""
        plant_hint(self.play.truth, version=version, checkpoint=checkpoint)

    @invariant()
    def everything_holds(self) -> None:
        assert self.play.wrong() == []

    def teardown(self) -> None:
        self.play.deliver()
        assert self.play.wrong(history=True) == []


def run_machine(connect: Callable[[], Callable[[], Store]], *, examples: int, steps: int) -> None:
    machine = type("Machine", (LogMachine,), {"connect": staticmethod(connect)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.fixture(autouse=True)
def frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints and hints come at once, so that short histories meet them."""
    monkeypatch.setattr(checkpoints, "EVERY", 3)
    monkeypatch.setattr(hint, "EVERY_S", 0.0)


def test_in_memory() -> None:
    def connect() -> Callable[[], Store]:
        name = uuid.uuid4().hex
        return lambda: open_store(f"memory://{name}")

    before = set(_STORES)
    run_machine(connect, examples=60, steps=25)
    for name in set(_STORES) - before:
        del _STORES[name]


def test_in_files(tmp_path: Path) -> None:
    def connect() -> Callable[[], Store]:
        folder = tempfile.mkdtemp(dir=tmp_path)
        return lambda: open_store(folder)

    run_machine(connect, examples=8, steps=15)


@pytest.mark.server
@pytest.mark.parametrize("server", ["gcs_server", "s3_server"])
def test_in_a_bucket(server: str, request: pytest.FixtureRequest) -> None:
    bucket = request.getfixturevalue(server)
    options = StoreOptions(endpoint=bucket.endpoint, key=bucket.key, secret=bucket.secret)

    def connect() -> Callable[[], Store]:
        store = open_store(f"{bucket.url}/{uuid.uuid4().hex}", options)  # one client: each costs a second to make
        return lambda: store

    run_machine(connect, examples=2, steps=10)
