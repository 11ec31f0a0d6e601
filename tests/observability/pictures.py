"""Pictures of the dashboards for the docs: each panel's query, asked of a Prometheus, drawn with matplotlib.

``python -m tests.observability.pictures URL MINUTES FOLDER [NOTE]`` draws the newest minutes that a running Prometheus
has seen. They show data and layout, not Grafana's looks.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from tests.observability.prometheus import Prometheus

from evergraft_operator.observability.boards import BOARDS
from evergraft_operator.observability.panels import Board, Panel

COLUMN_IN = 0.62
"""Inches of one of Grafana's 24 columns."""
ROW_IN = 0.27
UNITS = {"s": "seconds", "bytes": "bytes", "Bps": "bytes/s", "percentunit": "share", "short": ""}
MAX_LINES = 10


def draw(server: Prometheus, board: Board, *, minutes: float, note: str = "") -> Figure:
    """The board's panels where Grafana would put them, over the newest minutes."""
    end = time.time()
    window = {"start": end - 60 * minutes, "end": end, "step": max(1.0, minutes * 60 / 240)}
    places = [panel["gridPos"] for panel in board.model()["panels"] if panel["type"] != "row"]
    height = max(place["y"] + place["h"] for place in places) + 2
    figure = Figure(figsize=(24 * COLUMN_IN, height * ROW_IN))
    figure.text(0.01, 1 - 1.2 / height, board.title, fontsize=14, weight="bold")
    figure.text(0.99, 1 - 1.2 / height, note, fontsize=9, ha="right", color="#555555")
    for panel, place in zip(board.panels, places, strict=True):
        box = (
            (place["x"] + 1.4) / 24,
            1 - (place["y"] + 2 + place["h"] - 1.2) / height,
            (place["w"] - 1.8) / 24,
            (place["h"] - 2.2) / height,
        )
        _panel(figure, box, server, panel, window)
    return figure


def _panel(
    figure: Figure, box: tuple[float, ...], server: Prometheus, panel: Panel, window: Mapping[str, float]
) -> None:
    lines = _lines(server, panel, window)
    axes = figure.add_axes((box[0], box[1], box[2], box[3]))
    axes.set_title(panel.title, fontsize=9, loc="left", pad=3)
    axes.tick_params(labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if panel.kind != "timeseries":
        axes.axis("off")
        value = "\n".join(f"{name}  {_short(values[-1][1])}".strip() for name, values in lines[:6]) or "no data"
        axes.text(0.4, 0.45, value, ha="center", va="center", fontsize=16 if len(lines) == 1 else 9)
        return
    axes.set_ylabel(UNITS[panel.unit], fontsize=7)
    if panel.stacked and lines:
        _stack(axes, lines, window["start"])
    else:
        for name, values in lines[:MAX_LINES]:
            axes.plot([(t - window["start"]) / 60 for t, _ in values], [v for _, v in values], lw=1.2, label=name)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.35)
    axes.set_xlim(0, (window["end"] - window["start"]) / 60)
    if lines:
        axes.legend(fontsize=6, ncols=3, loc="upper left", frameon=False, handlelength=1.2, columnspacing=1.0)


def _stack(axes: Any, lines: list[tuple[str, list[tuple[float, float]]]], start: float) -> None:
    times = sorted({t for _, values in lines for t, _ in values})
    found = [dict(values) for _, values in lines]
    rows = [[values.get(t, 0.0) for t in times] for values in found]
    axes.stackplot([(t - start) / 60 for t in times], rows, labels=[name for name, _ in lines], alpha=0.75)


def _lines(
    server: Prometheus, panel: Panel, window: Mapping[str, float]
) -> list[tuple[str, list[tuple[float, float]]]]:
    found = []
    for query in panel.queries:
        expr = re.sub(r"\$\w+", lambda name: "30s" if "interval" in name[0] else ".*", query.expr)
        for series in server.over(expr, start=window["start"], end=window["end"], step=window["step"]):
            name = _named(query.legend, series["metric"])
            values = [(float(t), float(v)) for t, v in series["values"] if math.isfinite(float(v))]
            if values:
                found.append((name, values))
    return found


def _named(legend: str, labels: Mapping[str, str]) -> str:
    for label in re.findall(r"\{\{(\w+)\}\}", legend):
        legend = legend.replace(f"{{{{{label}}}}}", labels.get(label, ""))
    return legend


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def main(url: str, minutes: float, folder: Path, note: str = "") -> None:
    """Draw all boards into a folder."""
    mpl.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    for name, board in BOARDS.items():
        figure = draw(Prometheus(url, Path()), board(), minutes=minutes, note=note)
        figure.savefig(folder / f"{name}.png", dpi=80)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:5])
