"""One JSON line a figure, in the form that every benchmark of the store prints."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence

SLACK = 1e-9


def show(
    figure: str,
    unit: str,
    values: Sequence[float],
    *,
    peer: str | None = None,
    peers: Sequence[float] = (),
    at_least: float | None = None,
    at_most: float | None = None,
) -> None:
    """Print the median of `values`, beside the peer's if there is one; the bar holds the ratio, else the value."""
    value = statistics.median(values)
    line: dict[str, object] = {"figure": figure, "value": round(value, 6), "unit": unit}
    held = value
    if peer is not None:
        other = statistics.median(peers)
        held = 1.0 if value == other else value / max(other, SLACK)
        line |= {"peer": peer, "peer_value": round(other, 6), "ratio": round(held, 3)}
    what = "value" if peer is None else "ratio"
    if at_least is not None:
        line |= {"bar": f"{what} >= {at_least:g}", "holds": held >= at_least}
    if at_most is not None:
        line |= {"bar": f"{what} <= {at_most:g}", "holds": held <= at_most}
    line |= {"runs": len(values), "spread": [round(min(values), 6), round(max(values), 6)]}
    print(json.dumps(line), flush=True)
