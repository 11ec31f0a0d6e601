"""Grafana dashboards as values: a board of rows of panels of queries, and the JSON that Grafana reads (classic model).

Only what the three boards need. A panel is laid out by its width, 24 units a row, in the order it is written.
Called by ``boards``; written to files by ``__main__``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Fields = dict[str, Any]

SCHEMA_VERSION = 39
"""Of Grafana 10.4, which later ones read."""
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_ROW_WIDTH = 24


@dataclass(frozen=True)
class Query:
    """One PromQL expression and how its series are called; `{{label}}` in `legend` is the label's value."""

    expr: str
    legend: str = ""


def quantiles(metric: str, where: str, *, by: str = "") -> tuple[Query, ...]:
    """The median and the 99th percentile of a histogram, for each value of the label `by` if one is named."""
    labels = f"le, {by}" if by else "le"
    buckets = f"sum by ({labels}) (rate({metric}_bucket{{{where}}}[$__rate_interval]))"
    name = f"{{{{{by}}}}}, " if by else ""
    shares = ((0.5, "half"), (0.99, "99 of 100"))
    return tuple(Query(f"histogram_quantile({share}, {buckets})", f"{name}{words}") for share, words in shares)


@dataclass(frozen=True)
class Panel:
    """One picture. `unit` is Grafana's, `note` what a person should know of it, `bad` from which value it is red."""

    title: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    note: str = ""
    stacked: bool = False
    bad: float | None = None

    def model(self, number: int, x: int, y: int) -> Fields:
        """As Grafana reads it."""
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.note,
            "datasource": _SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [self._target(query, chr(ord("A") + place)) for place, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": self._options(),
            **({"transformations": [_WITHOUT_TIME]} if self.kind == "table" else {}),
        }

    def _target(self, query: Query, ref: str) -> Fields:
        instant = self.kind == "table"
        shape = {"instant": True, "range": False, "format": "table"} if instant else {"range": True}
        return {"refId": ref, "datasource": _SOURCE, "expr": query.expr, "legendFormat": query.legend, **shape}

    def _defaults(self) -> Fields:
        steps: list[Fields] = [{"color": "green", "value": None}]
        if self.bad is not None:
            steps.append({"color": "red", "value": self.bad})
        custom: Fields = {"fillOpacity": 40 if self.stacked else 5, "lineWidth": 1, "showPoints": "never"}
        custom["stacking"] = {"mode": "normal" if self.stacked else "none", "group": "A"}
        return {
            "unit": self.unit,
            "thresholds": {"mode": "absolute", "steps": steps},
            **({"custom": custom, "min": 0} if self.kind == "timeseries" else {}),
        }

    def _options(self) -> Fields:
        if self.kind == "stat":
            return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
        if self.kind == "timeseries":
            return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
        return {"showHeader": True}


_WITHOUT_TIME = {"id": "organize", "options": {"excludeByName": {"Time": True}}}


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a board, filled with the values of `label` that `metric` has."""

    name: str
    metric: str
    label: str

    def model(self) -> Fields:
        """As Grafana reads it: several values or all."""
        query = f"label_values({self.metric}, {self.label})"
        return {
            "name": self.name,
            "label": self.name,
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": f"variable-{self.name}"},
            "definition": query,
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }


_DATASOURCE: Fields = {
    "name": "datasource",
    "label": "datasource",
    "type": "datasource",
    "query": "prometheus",
    "current": {},
}


@dataclass(frozen=True)
class Board:
    """A dashboard. `uid` is its address in Grafana."""

    uid: str
    title: str
    note: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    hours: int = field(default=6)

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels, in order."""
        return tuple(panel for row in self.rows for panel in row.panels)

    def model(self) -> Fields:
        """The JSON model."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.note,
            "tags": ["evergraft"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": False,
            "graphTooltip": 1,
            "timezone": "browser",
            "refresh": "30s",
            "time": {"from": f"now-{self.hours}h", "to": "now"},
            "templating": {"list": [_DATASOURCE, *(variable.model() for variable in self.variables)]},
            "annotations": {"list": []},
            "links": [_LINK],
            "panels": list(self._laid_out()),
        }

    def _laid_out(self) -> Iterator[Fields]:
        """Rows and panels with their places: left to right, a new line where the width is used up."""
        number, top = 1, 0
        for row in self.rows:
            yield _heading(row.title, number, top)
            number, x, top, line = number + 1, 0, top + 1, 0
            for panel in row.panels:
                if x + panel.width > _ROW_WIDTH:
                    x, top, line = 0, top + line, 0
                yield panel.model(number, x, top)
                number, x, line = number + 1, x + panel.width, max(line, panel.height)
            top += line


_LINK = {"type": "dashboards", "title": "Evergraft", "tags": ["evergraft"], "asDropdown": True, "includeVars": True}


def _heading(title: str, number: int, top: int) -> Fields:
    place = {"x": 0, "y": top, "w": _ROW_WIDTH, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
