"""What the rules of a search's life look at, worked out once from what was observed.

The newest run known, its Job and pods, the run that is due. Made by `look`; read by ``course`` and ``stalls``.
"""

from __future__ import annotations

from dataclasses import dataclass

from evergraft.names import RunKey
from evergraft_operator import admission, runs
from evergraft_operator.admission import Admission
from evergraft_operator.observed import Job, Observed, Pod
from evergraft_operator.reading import Moment
from evergraft_operator.resolving import Wanted
from evergraft_operator.runs import Knowledge
from evergraft_operator.status import Previous, Search


@dataclass(frozen=True)
class Scene:
    """A Task as the rules see it. `due` is the run to work on, None once the iteration has ended."""

    observed: Observed
    previous: Previous
    admission: Admission
    known: Knowledge
    job: Job | None
    pods: tuple[Pod, ...]
    iteration: int
    due: RunKey | None
    task: str
    now: Moment

    @property
    def search(self) -> Search | None:
        """The newest search known."""
        return self.known.search

    @property
    def wanted(self) -> Wanted | None:
        """The Task with everything settled, None if it cannot be."""
        return self.admission.wanted

    @property
    def suspended(self) -> bool:
        """Whether a person holds the search."""
        return admission.raw_flag(self.observed.task.spec, "suspend")

    @property
    def current(self) -> bool:
        """Whether the newest run known is the one to work on."""
        return self.search is not None and self.search.outcome is None and self.search.run == self.due

    @property
    def working(self) -> bool:
        """Whether the due run's Job is at it."""
        return self.current and self.job is not None and self.job.live


def look(observed: Observed, previous: Previous, admitted: Admission, task: str, now: Moment) -> Scene:
    """Work out where the Task with the id `task` stands."""
    iteration = admission.raw_iteration(observed.task.spec)
    search = runs.newest_search(previous.search, observed.jobs)
    job = runs.job_of(search, observed.jobs)
    pods = observed.pods_of(job)
    known = runs.learn(
        search,
        task=task,
        iteration=iteration,
        job=job,
        pods=pods,
        heads=observed.heads,
        has_route=previous.route is not None,
    )
    same = known.search is not None and search is not None and known.search.run == search.run
    return Scene(
        observed=observed,
        previous=previous,
        admission=admitted,
        known=known,
        job=job if same else None,
        pods=pods if same else (),
        iteration=iteration,
        due=runs.due(known.search, iteration=iteration, cycles=_cycles(admitted.wanted, previous, known.search)),
        task=task,
        now=now,
    )


def _cycles(wanted: Wanted | None, previous: Previous, search: Search | None) -> int:
    """How many cycles the iteration has.

    One that the status tells of as ended has no more: a platform default that changed since starts no run. Where the
    spec cannot be resolved, whether another cycle follows is what the status last said.
    """
    cycle = search.run.cycle if search else 1
    going = previous.conditions.get("Reconciling")
    at_rest = going is not None and not going.holds
    if wanted is None:
        return cycle if at_rest else cycle + 1
    told_of = search is not None and previous.search is not None and previous.search.run == search.run
    ended = going is not None and at_rest and going.reason in ("Committed", "Kept")
    return cycle if ended and told_of else wanted.cycles
