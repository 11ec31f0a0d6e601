"""What the stream is to show, each claim with its bar, held against what is recorded.

A method and its peers are compared on the tasks and seeds that all of them have. Where a peer learns every task by
itself, its results are the same in either order and count in both. Called by ``evergraft bench stream report``.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evergraft_trainer.bench.report import Recorded, Row, learned_by


@dataclass(frozen=True)
class Claim:
    """`method` is at least `points` of mean test accuracy above the better of `peers`, within `share` of the root.

    `share` is the most parameters a task may add, of the root's; None where nothing is said about it.
    """

    method: str
    peers: tuple[str, ...]
    points: float
    share: float | None = None

    @property
    def title(self) -> str:
        """What is compared."""
        return f"{self.method} over {'the better of ' if len(self.peers) > 1 else ''}{' and '.join(self.peers)}"


CLAIMS = (
    Claim("graft", ("lora", "finetune"), 4, share=0.25),
    Claim("graft", ("sequential",), 0),
    Claim("graft-6", ("lora", "finetune"), 3, share=0.12),
    Claim("graft-twice", ("graft",), 2),
)


def figures(rows: Sequence[Row], runs: Sequence[Recorded]) -> Iterator[dict[str, Any]]:
    """One JSON object a figure, with its bar where there is one."""
    for row in rows:
        yield _figure(f"mean test accuracy, {row.method}, {_where(row)}", row.learned)
        if row.answers_identical is not None and row.forgetting is not None:
            kept = row.forgetting == 0 and row.answers_identical
            name = f"forgetting, every golden answer recomputed, {row.method}, {_where(row)}"
            yield {**_figure(name, row.forgetting), "bar": "value == 0", "holds": kept}
    for row in rows:
        for claim in CLAIMS:
            if claim.method == row.method:
                yield from _held(claim, row, runs)


def _held(claim: Claim, row: Row, runs: Sequence[Recorded]) -> Iterator[dict[str, Any]]:
    """A claim's figures in the order of `row`."""
    if claim.share is not None:
        name = f"parameters added a task of the root's, {row.method}, {_where(row)}"
        share = row.parameters_share
        yield {**_figure(name, share), "bar": f"value <= {claim.share}", "holds": share <= claim.share}
    mine = learned_by(claim.method, row.order, runs)
    others = {peer: learned_by(peer, row.order, runs) for peer in claim.peers}
    common = sorted(set(mine).intersection(*others.values()))
    if not common:
        return
    means = {peer: statistics.fmean(found[at] for at in common) for peer, found in others.items()}
    peer = max(claim.peers, key=means.__getitem__)
    gains = {at: 100 * (mine[at] - others[peer][at]) for at in common}
    seeds = sorted({seed for seed, _ in common})
    each = [statistics.fmean(gain for (seed, _), gain in gains.items() if seed == one) for one in seeds]
    points = statistics.fmean(gains.values())
    yield {
        "figure": f"{claim.title}, {_where(row)}, {len(common)} results in common",
        "value": round(points, 2),
        "unit": "points of mean test accuracy",
        "peer": peer,
        "peer_value": round(means[peer], 4),
        "bar": f"value >= {claim.points:g}",
        "holds": points >= claim.points,
        "runs": len(seeds),
        "spread": [round(min(each), 2), round(max(each), 2)],
    }


def _figure(name: str, value: float) -> dict[str, Any]:
    return {"figure": name, "value": round(value, 4), "unit": "share"}


def _where(row: Row) -> str:
    name = f"order {row.order}" + (" of the quick subset" if row.quick else "")
    return name if row.steps == row.of else f"{name}, {row.steps} of {row.of} tasks so far"
