"""A worker of one's own to kill: `python -m evergraft.testing.worker URL TASK …` runs a search with arithmetic.

The program of a real worker but for the training: claims, beats, states, results and the commit are the same code.
``--kill N`` ends the process with SIGKILL at its N-th store operation, before or after it takes effect. Called by
tests that kill workers at every operation; prints one JSON line with the outcome and what was trained.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from evergraft.errors import EvergraftError
from evergraft.search.claims import Crew, Timing
from evergraft.search.engine import run_search
from evergraft.search.events import silent
from evergraft.search.values import SlotRef
from evergraft.store import log
from evergraft.store.open import open_store
from evergraft.store.seam import Created, Entry, Store
from evergraft.testing.arithmetic import ArithmeticTrainer, make_request

T = TypeVar("T")


class KillingStore:
    """Ends this process at one operation, counted from 1; counts on for ever if `at` is 0."""

    def __init__(self, inner: Store, *, at: int, landed: bool) -> None:
        self._inner, self._at, self._landed = inner, at, landed
        self.operations = 0

    @property
    def url(self) -> str:
        """The inner store's."""
        return self._inner.url

    def get(self, key: str) -> bytes:
        """As the seam says."""
        return self._call(lambda: self._inner.get(key))

    def put(self, key: str, data: bytes) -> None:
        """As the seam says."""
        self._call(lambda: self._inner.put(key, data))

    def put_if_absent(self, key: str, data: bytes) -> Created:
        """As the seam says."""
        return self._call(lambda: self._inner.put_if_absent(key, data))

    def list(self, prefix: str) -> Iterator[Entry]:
        """As the seam says."""
        yield from self._call(lambda: list(self._inner.list(prefix)))

    def delete(self, key: str) -> None:
        """As the seam says."""
        self._call(lambda: self._inner.delete(key))

    def _call(self, act: Callable[[], T]) -> T:
        self.operations += 1
        last = self.operations == self._at
        if last and not self._landed:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return act()
        finally:
            if last:
                os.kill(os.getpid(), signal.SIGKILL)


def _set_clock(seconds: float) -> None:
    """Let this process believe in another time of day; monotonic clocks go on as they are."""
    right = time.time
    time.time = lambda: right() + seconds


def main() -> int:
    """Run the search and print what came of it."""
    parser = argparse.ArgumentParser(description="A worker that trains with arithmetic, to be killed by tests.")
    parser.add_argument("url")
    parser.add_argument("task")
    parser.add_argument("--search", default="{}", help="fields of the resolved search, as JSON")
    parser.add_argument("--iteration", type=int, default=1)
    parser.add_argument("--kill", type=int, default=0, metavar="N", help="die at the N-th store operation")
    parser.add_argument("--landed", action="store_true", help="die after the operation instead of before it")
    parser.add_argument("--beat", type=float, default=15.0, help="seconds between beats")
    parser.add_argument("--dead", type=float, default=60.0, help="seconds of silence after which a claim is dead")
    parser.add_argument("--timeout", type=float, help="the search's time limit in seconds")
    parser.add_argument("--clock", type=float, default=0.0, help="hours by which this process's clock is wrong")
    parser.add_argument("--slow", type=float, default=0.0, help="seconds that each candidate takes")
    arguments = parser.parse_args()
    if arguments.clock:
        _set_clock(arguments.clock * 3600)
    store = KillingStore(open_store(arguments.url), at=arguments.kill, landed=arguments.landed)
    trained: list[SlotRef] = []

    class Trainer(ArithmeticTrainer):
        def train(self, *args: Any, **kwargs: Any) -> Any:
            time.sleep(arguments.slow)
            return super().train(*args, **kwargs)

    outcome, _ = run_search(
        store,
        log.read_graph(store),
        request=make_request(
            arguments.task,
            iteration=arguments.iteration,
            timeout_s=arguments.timeout,
            **json.loads(arguments.search),
        ),
        make_trainer=lambda folder, spec: Trainer(folder, spec, trained=trained),
        emit=silent,
        crew=Crew(timing=Timing(beat_s=arguments.beat, dead_s=arguments.dead, first_poll_s=0.002, longest_poll_s=0.1)),
    )
    route = outcome.route
    said = {
        "outcome": outcome.kind,
        "version": outcome.version,
        "route": route.id if route else None,
        "modules": list(route.module_ids()) if route else [],
        "trained": [[ref.generation, ref.slot] for ref in trained],
        "operations": store.operations,
    }
    print(json.dumps(said))  # noqa: T201 - what the parent process reads
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EvergraftError as error:
        print(error, file=sys.stderr)  # noqa: T201 - as the command line does
        sys.exit(error.exit_code)
