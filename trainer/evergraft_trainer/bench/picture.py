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
LINE = 0.045
"""The height of a line of text, of the height of a panel."""


def draw(rows: Sequence[Row], runs: Sequence[Recorded], path: Path) -> None:
    """Write the picture, as the file's ending says (png, svg, pdf).

    Raises:
        UserError: matplotlib is not installed, there is nothing to draw, or the file cannot be written.
    """
    if not rows:
        raise UserError("--picture: no results to draw; run some first, or name their --results folder")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("--picture: matplotlib is not installed: pip install 'evergraft[stream]'") from None
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"--picture {path}: expected a file that ends in {', '.join(ENDINGS)}")
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    operations, parameters, gains = figure.subplots(1, 3)
    colours = _colours()
    _draw_errors(operations, rows, [row.gflops / 1e3 for row in rows], colours)
    operations.set(xlabel="TFLOPs a task, estimated")
    _draw_errors(parameters, rows, [row.parameters_added / 1e3 for row in rows], colours)
    parameters.set(xlabel="thousand parameters added a task")
    _draw_gains(gains, runs, colours)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    except OSError as error:
        raise UserError(f"--picture {path}: cannot be written: {error.strerror}") from None


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


def spread(values: Sequence[float], gap: float) -> list[float]:
    """The values, moved as little as keeps each `gap` from the next, in their order: least squares over the whole."""
    order = sorted(range(len(values)), key=values.__getitem__)
    blocks: list[list[float]] = []
    for rank, index in enumerate(order):
        blocks.append([values[index] - rank * gap])
        while len(blocks) > 1 and statistics.fmean(blocks[-2]) > statistics.fmean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    bases = [statistics.fmean(block) for block in blocks for _ in block]
    moved = dict(zip(order, (base + rank * gap for rank, base in enumerate(bases)), strict=True))
    return [moved[index] for index in range(len(values))]


def _draw_errors(axes: Any, rows: Sequence[Row], costs: Sequence[float], colours: Mapping[str, Any]) -> None:
    """One point a row: its error against `costs`."""
    errors = [100 * (1 - (row.learned if row.end is None else row.end)) for row in rows]
    for row, cost, error in zip(rows, costs, errors, strict=True):
        style = {"color": colours[row.method], "marker": MARKS.get(row.order, "d"), "linestyle": ""}
        axes.plot([cost], [error], **style, **({} if row.steps == row.of else {"fillstyle": "none"}))
    _finish(axes)
    _name(axes, list(map(_label, rows)), costs, errors, [colours[row.method] for row in rows])


def _draw_gains(axes: Any, runs: Sequence[Recorded], colours: Mapping[str, Any]) -> None:
    axes.axhline(0, color="grey", linewidth=1)
    kinds = sorted({(item.run.method, item.run.order) for item in runs if item.run.method != BESIDE})
    lines = {}
    for method, order in kinds:
        values = gains(method, order, runs)
        means = [statistics.fmean(values[max(0, at + 1 - WINDOW) : at + 1]) for at in range(len(values))]
        if means:
            lines[method, order] = means
            line = "-" if order == "a" else "--"
            axes.plot(range(1, len(means) + 1), means, color=colours[method], linestyle=line)
    axes.set(xlabel="tasks learned", ylabel=f"points over {BESIDE}, mean of {WINDOW} tasks")
    axes.grid(visible=True, alpha=0.3)
    longest = max(map(len, lines.values()), default=1)
    axes.set_xlim(0, 1.4 * longest)
    names = [f"{method} ({order})" for method, order in lines]
    ends = [means[-1] for means in lines.values()]
    _name(axes, names, list(map(len, lines.values())), ends, [colours[method] for method, _ in lines])


def _name(axes: Any, names: Sequence[str], x: Sequence[float], y: Sequence[float], colours: Sequence[Any]) -> None:
    """Write each name at the right of its point, so that no two stand on one line."""
    low, high = axes.get_ylim()
    heights = spread(y, LINE * (high - low))
    for name, across, height, colour in zip(names, x, heights, colours, strict=True):
        where = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
        axes.annotate(name, (across, height), **where, color=colour)


def _finish(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set(ylabel="mean test error at the end, %", xscale="log")
    axes.xaxis.set_major_locator(LogLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.margins(x=0.05, y=0.1)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.35)  # room for the names


def _colours() -> Mapping[str, Any]:
    import matplotlib as mpl

    return {name: mpl.colormaps["tab10"](number % 10) for number, name in enumerate(METHODS)}


def _label(row: Row) -> str:
    return f"{row.method} ({row.order})" + ("" if row.steps == row.of else f", {row.steps} of {row.of}")
