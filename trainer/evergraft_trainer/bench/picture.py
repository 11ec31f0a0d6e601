"""The stream in a picture: error against operations and against parameters, and what a task gains by its place.

One point a method and order, hollow where the run is not whole; lower left is better. Form after the Nevis'22 stream
(Bornschein et al., arXiv 2211.11747, figure 2). The third panel is each method's test accuracy over LoRA's on the same
tasks, as a running mean along the order: how transfer grows. Called by ``evergraft bench stream report --picture``.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evergraft.errors import UserError
from evergraft_trainer.bench.methods import METHODS
from evergraft_trainer.bench.report import Recorded, Row, learned_by

MARKS = {"a": "o", "b": "s"}
"""The mark of each order."""
BESIDE = "lora"
"""What gains are counted from: it learns every task by itself."""
ENDINGS = (".png", ".svg", ".pdf")
"""The pictures that can be written."""
WINDOW = 5
"""Tasks in a running mean."""


def draw(rows: Sequence[Row], runs: Sequence[Recorded], path: Path) -> None:
    """Write the picture, as the file's ending says (png, svg, pdf).

    Raises:
        UserError: matplotlib is not installed, there is nothing to draw, or the file is of no kind it can write.
    """
    if not rows:
        raise UserError("--picture: no results to draw; run some first, or name their --results folder")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("--picture: matplotlib is not installed: pip install 'evergraft[stream]'") from None
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"--picture {path}: expected a file that ends in {', '.join(ENDINGS)}")
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    operations, parameters, gains = figure.subplots(1, 3)
    colours = _colours()
    for row in rows:
        style = {"color": colours[row.method], "marker": MARKS.get(row.order, "d"), "linestyle": ""}
        style |= {} if row.steps == row.of else {"fillstyle": "none"}
        error = 100 * (1 - (row.learned if row.end is None else row.end))
        for axes, x in ((operations, row.gflops / 1e3), (parameters, row.parameters_added / 1e3)):
            axes.plot([x], [error], **style)
            axes.annotate(_label(row), (x, error), xytext=(5, 3), textcoords="offset points", fontsize=8)
    _finish(operations, "TFLOPs a task, estimated", "mean test error at the end, %")
    _finish(parameters, "thousand parameters added a task", "mean test error at the end, %")
    _draw_gains(gains, runs, colours)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def gains(method: str, order: str, runs: Sequence[Recorded]) -> list[float]:
    """Points of test accuracy over LoRA's on the same task and seed, in the order learned, means over seeds."""
    beside = learned_by(BESIDE, order, runs)
    found: dict[str, list[float]] = {}
    for item in runs:
        if (item.run.method, item.run.order) != (method, order):
            continue
        for task, value in item.learned.items():
            if (item.run.seed, task) in beside:
                found.setdefault(task, []).append(100 * (value - beside[item.run.seed, task]))
    return [statistics.fmean(values) for values in found.values()]


def _draw_gains(axes: Any, runs: Sequence[Recorded], colours: Mapping[str, Any]) -> None:
    axes.axhline(0, color="grey", linewidth=1)
    kinds = sorted({(item.run.method, item.run.order) for item in runs if item.run.method != BESIDE})
    for method, order in kinds:
        values = gains(method, order, runs)
        means = [statistics.fmean(values[max(0, at + 1 - WINDOW) : at + 1]) for at in range(len(values))]
        if means:
            line = "-" if order == "a" else "--"
            axes.plot(range(1, len(means) + 1), means, color=colours[method], linestyle=line)
            axes.annotate(f"{method} ({order})", (len(means), means[-1]), fontsize=8)
    axes.set(xlabel="tasks learned", ylabel=f"points over {BESIDE}, mean of {WINDOW} tasks")
    axes.grid(visible=True, alpha=0.3)
    axes.margins(x=0.25)


def _finish(axes: Any, x: str, y: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set(xlabel=x, ylabel=y, xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.margins(x=0.35, y=0.1)


def _colours() -> Mapping[str, Any]:
    import matplotlib as mpl

    return {name: mpl.colormaps["tab10"](number % 10) for number, name in enumerate(METHODS)}


def _label(row: Row) -> str:
    return f"{row.method} ({row.order})" + ("" if row.steps == row.of else f", {row.steps} of {row.of}")
