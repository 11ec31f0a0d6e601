"""How a search's samples are divided among its candidates. Pure; called by the strategies and the checks of plans."""

from __future__ import annotations

from evergraft.api.resolved import ResolvedSearch
from evergraft.errors import SpecError
from evergraft.search.values import View


def samples_each(search: ResolvedSearch, *, candidates: int) -> int:
    """Samples that each of `candidates` trains: an equal part of all, rounded down to whole batches.

    Raises:
        SpecError: that is under one batch a validation.
    """
    samples = search.samples // candidates // search.batch_size * search.batch_size
    check_samples(search, samples, children=candidates)
    return samples


def check_samples(search: ResolvedSearch, samples: int, *, children: int = 1) -> None:
    """Refuse a candidate that has not at least one batch for each of the search's validations.

    Raises:
        SpecError: naming search.samples and the least number that would do.
    """
    least = search.batch_size * search.validations
    if samples < least:
        raise SpecError(
            f"search.samples: {search.samples} samples leave {samples} for each of {children} candidate(s), under one "
            f"batch of {search.batch_size} for each of {search.validations} validations; set at least "
            f"{least * children}, or lower batchSize or validations"
        )


def spent(view: View) -> tuple[int, int]:
    """(samples trained, samples only evaluated) that the plans of the generations so far have taken."""
    plans = [plan for record in view.history for plan in record.plan.candidates]
    trained = sum(plan.samples for plan in plans if plan.kind == "train")
    return trained, sum(plan.samples for plan in plans if plan.kind == "probe")
