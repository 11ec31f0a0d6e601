"""Seeded rounds of a play: what hypothesis draws in our tests, drawn from a seed where there is no hypothesis.

Called by the deep check.
"""

from __future__ import annotations

import random

from evergraft.testing.injection import drawn
from evergraft.testing.mishaps import plant_hint
from evergraft.testing.play import Play, Step, closing_step, condemning, removing, unused

TASKS = ("a/one", "a/two", "b/one")
FAULTS = 0.1
"""The chance that a store operation goes wrong."""


def play_rounds(play: Play, *, seed: int, rounds: int) -> None:
    """Let writers attempt `rounds` steps, with faults, restarts, hints that lie and late writes.

    Raises:
        DisagreementError: the store did not do what the model says.
    """
    rng = random.Random(seed)
    for number in range(rounds):
        writer = rng.randrange(len(play.writers))
        if rng.random() < 0.2:
            play.restart(writer)
        if rng.random() < 0.2:
            plant_hint(play.truth, version=rng.randrange(99), checkpoint=rng.randrange(-1, 99))
        step = _draw(play, writer, rng)
        if step is not None:
            play.attempt(writer, step, plan=drawn(seed + number, chance=FAULTS))
        if rng.random() < 0.3:
            play.deliver()
    play.deliver()


def _draw(play: Play, writer: int, rng: random.Random) -> Step | None:
    task, run = rng.choice(TASKS), (rng.randrange(1, 6), rng.randrange(1, 3))
    graph = play.writers[writer].graph
    match rng.choice(("land", "land", "land", "close", "remove", "restore", "condemn", "sweep")):
        case "land":
            visibility = rng.choice(("Public", "Public", "Private"))
            return play.landing(writer, task, run, parent=rng.choice(("root", *TASKS)), visibility=visibility)
        case "close":
            return closing_step(task, run, rng.choice(("kept", "none", "failed")))
        case "remove":
            return removing(task)
        case "restore":
            return play.restoring(writer, rng.randrange(play.model.head + 1))
        case "condemn":
            return condemning(unused(play.summaries, graph))
        case _:
            return play.sweeping(frozenset(graph.condemned))
