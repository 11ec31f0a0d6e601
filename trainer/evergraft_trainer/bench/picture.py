"""The stream in a picture: error against operations and against parameters, as the Nevis'22 stream is reported.

One point a method and order; lower left is better. Called by ``evergraft bench stream report --picture``.
Form after Bornschein et al., arXiv 2211.11747, figure 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evergraft.errors import UserError
from evergraft_trainer.bench.report import Row

FILLED = {"a": "o", "b": "s"}
"""The mark of each order."""


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the picture, as the file's ending says (png, svg, pdf).

    Raises:
        UserError: matplotlib is not installed, or there is nothing to draw.
    """
    if not rows:
        raise UserError("--picture: no results to draw; run some first, or name their --results folder")
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("--picture: matplotlib is not installed: pip install 'evergraft[stream]'") from None
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = sorted({row.method for row in rows})
    colours = {name: mpl.colormaps["tab10"](number % 10) for number, name in enumerate(names)}
    for row in rows:
        error = 1 - (row.learned if row.end is None else row.end)
        label = f"{row.method} ({row.order})" + ("" if row.steps == row.of else f", {row.steps} of {row.of}")
        style = {"color": colours[row.method], "marker": FILLED.get(row.order, "d"), "linestyle": "", "label": label}
        left.plot([row.gflops / 1e3], [error], **style)
        right.plot([row.parameters_added], [error], **style)
    left.set(xlabel="TFLOPs a task, estimated", ylabel="mean test error at the end", xscale="log")
    right.set(xlabel="parameters added a task", xscale="log")
    for axes in (left, right):
        axes.grid(visible=True, which="both", alpha=0.3)
    right.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
