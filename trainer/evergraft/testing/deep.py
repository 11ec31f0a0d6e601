"""Try a store the hard way: races, lost answers, restarts and a stalled writer, on the user's own URL.

A bounded, seeded run of the kit's parts under a temporary prefix, which is deleted again. Needs no hypothesis.
Called by `graph check --deep`, after the probe.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from evergraft.errors import AlreadyCommittedError, EvergraftError, IntegrityError
from evergraft.names import RunKey
from evergraft.store import log
from evergraft.store.checkpoints import list_checkpoints
from evergraft.store.seam import Store
from evergraft.testing.graphs import closing, landing, root_of, start_graph
from evergraft.testing.injection import Way, nth
from evergraft.testing.invariants import Acknowledged, check_invariants
from evergraft.testing.play import DisagreementError, Play, Step, condemning, removing, unused
from evergraft.testing.prefixed import PrefixedStore
from evergraft.testing.rounds import play_rounds

PREFIX = "probe/"
WRITERS, COMMITS = 4, 17
"""Together more than the commits after which a checkpoint is due."""

ROUNDS = 40


@dataclass(frozen=True)
class Trial:
    """One thing tried: what was wrong (empty if it holds), and how long it took."""

    name: str
    wrong: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"trial": self.name, "holds": not self.wrong, "wrong": list(self.wrong), "seconds": self.seconds}


@dataclass(frozen=True)
class DeepReport:
    """All that was tried; `left` counts objects that these credentials may not delete."""

    url: str
    trials: tuple[Trial, ...]
    left: int

    @property
    def holds(self) -> bool:
        """Whether nothing was wrong."""
        return not any(trial.wrong for trial in self.trials)

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        trials = [trial.to_json() for trial in self.trials]
        return {"graph": self.url, "fit": self.holds, "trials": trials, "left": self.left}


@dataclass
class _Bench:
    """Makes clients of fresh places below the URL."""

    open_url: Callable[[str], Store]
    url: str
    prefix: str = field(default_factory=lambda: f"{PREFIX}{uuid.uuid4().hex}/")

    def place(self, name: str) -> Callable[[], Store]:
        return lambda: PrefixedStore(self.open_url(self.url), f"{self.prefix}{name}/")


def deep_check(
    open_url: Callable[[str], Store], url: str, *, progress: Callable[[str], None] | None = None
) -> DeepReport:
    """Try the store at `url`; `progress` is told the name of each trial as it begins.

    Raises:
        EvergraftError: the store did not answer, or refuses these credentials; what was written is deleted.
    """
    bench = _Bench(open_url, url)
    trials = []
    quiet = logging.getLogger("evergraft.store")
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # hints that lie are part of the trials, not worth a warning
    try:
        for name, trial in _TRIALS.items():
            if progress is not None:
                progress(name)
            started = time.monotonic()
            wrong = tuple(_findings(trial, bench.place(trial.__name__.strip("_"))))
            trials.append(Trial(name, wrong, round(time.monotonic() - started, 3)))
    finally:
        quiet.setLevel(level)
        left = _clean(PrefixedStore(open_url(url), bench.prefix))
    return DeepReport(url=url, trials=tuple(trials), left=left)


def _findings(trial: Callable[[Callable[[], Store]], Iterator[str]], connect: Callable[[], Store]) -> Iterator[str]:
    """What the trial finds; damage and disagreement are findings, a store that does not answer is an error."""
    try:
        yield from trial(connect)
    except (IntegrityError, DisagreementError) as error:
        yield str(error)


def _race(connect: Callable[[], Store]) -> Iterator[str]:
    """Eight clients land the same run at once."""
    graph = start_graph(connect())
    actions = landing(connect(), root_of(graph), "race/one")

    def land(number: int) -> Acknowledged | None:
        try:
            _, commit = log.commit(
                connect(), graph, actions=actions, base=graph.version, author=f"racer {number}", search=None
            )
        except AlreadyCommittedError:
            return None
        return commit.version, commit.id

    with ThreadPoolExecutor(max_workers=8) as pool:
        landed = [entry for entry in pool.map(land, range(8)) if entry is not None]
    if len(landed) != 1:
        yield f"of 8 clients that committed the same run {len(landed)} were told that theirs landed"
    yield from check_invariants(connect(), landed)


def _storm(connect: Callable[[], Store]) -> Iterator[str]:
    """Writers that commit at once, past a checkpoint; then a client that knows nothing reads it all."""
    graph = start_graph(connect())

    def write(number: int) -> list[Acknowledged]:
        store, mine, landed = connect(), graph, []
        for run in range(1, COMMITS + 1):
            actions = (closing(f"storm/{number}", RunKey(run, 1), outcome="kept"),)
            mine, commit = log.commit(store, mine, actions=actions, base=mine.version, author=str(number), search=None)
            landed.append((commit.version, commit.id))
        return landed

    with ThreadPoolExecutor(max_workers=WRITERS) as pool:
        landed = [entry for entries in pool.map(write, range(WRITERS)) for entry in entries]
    after = log.read_graph(connect())
    if after.version != WRITERS * COMMITS:
        yield f"{WRITERS * COMMITS} commits were acknowledged and {after.version} stand"
    if not list_checkpoints(connect()):
        yield "no checkpoint was written, or none is listed"
    yield from check_invariants(connect(), landed)


def _lost_answers(connect: Callable[[], Store]) -> Iterator[str]:
    """Every conditional create of a landing fails in turn, in every way that leaves its outcome open."""
    play = Play(connect)
    iteration = 0
    for way in (Way.LOST_BEFORE, Way.LOST_AFTER, Way.TWICE, Way.LATE):
        for number in range(3):  # the module, the route, the log entry
            iteration += 1
            play.restart(0)
            play.attempt(0, _known(play, 0, iteration), plan=nth("put_if_absent", number, way))
            play.deliver()
            play.restart(1)
            play.attempt(1, _known(play, 1, iteration))
    yield from play.wrong()
    if play.model.head != iteration:
        yield f"{iteration} runs were committed and {play.model.head} commits stand"


def _fencing(connect: Callable[[], Store]) -> Iterator[str]:
    """A writer that uploaded and then stalled wakes after a newer run, after a removal, after its blobs are deleted."""
    play = Play(connect)
    newer = iter((20, 40))

    def newer_run() -> None:
        play.refresh(1)
        play.attempt(1, _known(play, 1, next(newer)))

    def removal() -> None:
        newer_run()
        play.attempt(1, removing("deep/one"))

    def collection() -> None:
        play.refresh(1)
        ids = unused(play.summaries, play.writers[1].graph)
        play.attempt(1, condemning(ids))
        play.attempt(1, play.sweeping(ids))

    for number, overtake, expected in (
        (10, newer_run, "already"),
        (30, removal, "removed"),
        (50, collection, "conflict"),
    ):
        play.refresh(0)
        ended = play.attempt(0, _known(play, 0, number), rival=overtake)
        if ended != expected:
            yield f"a stalled writer that woke after a {overtake.__name__.replace('_', ' ')} ended {ended}"
    yield from play.wrong()


def _known(play: Play, writer: int, iteration: int) -> Step:
    step = play.landing(writer, "deep/one", (iteration, 1))
    assert step is not None
    return step


def _rounds(connect: Callable[[], Store]) -> Iterator[str]:
    """Steps of three writers with old graphs, with faults and restarts, held against the model."""
    play = Play(connect)
    play_rounds(play, seed=1, rounds=ROUNDS)
    yield from play.wrong(history=True)


_TRIALS: dict[str, Callable[[Callable[[], Store]], Iterator[str]]] = {
    "8 clients commit the same run": _race,
    f"{WRITERS} writers commit {WRITERS * COMMITS} times": _storm,
    "answers are lost, late or double": _lost_answers,
    "stalled writers are overtaken": _fencing,
    "writers with old graphs, faults and restarts": _rounds,
}


def _clean(store: Store) -> int:
    """Delete everything below the prefix; how many objects would not go."""
    left = 0
    for entry in list(store.list("")):
        try:
            store.delete(entry.key)
        except EvergraftError:
            left += 1
    return left
