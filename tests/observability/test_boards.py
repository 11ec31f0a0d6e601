from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.observability.expressions import problems
from tests.observability.queries import QUERIES, plain

from evergraft.metrics import OPERATOR, PROCESS, WORKER, named
from evergraft_operator.observability.boards import BOARDS

ROOT = Path(__file__).resolve().parents[2]
TABLE = (*OPERATOR, *WORKER, *PROCESS)


def model(name: str) -> dict[str, Any]:
    """A board as Grafana would load it."""
    found: dict[str, Any] = json.loads((ROOT / f"charts/evergraft/files/dashboards/{name}.json").read_text())
    return found


@pytest.mark.parametrize("expr", QUERIES.values(), ids=QUERIES)
def test_queries_name_metrics_and_labels_that_there_are(expr: str) -> None:
    assert problems(expr, TABLE) == []


@pytest.mark.parametrize(
    ("expr", "wrong"),
    [
        ("sum(evergraft_task)", ["no metric evergraft_task"]),
        ('evergraft_tasks{task="x"}', ["evergraft_tasks: no label task"]),
        ('evergraft_tasks{phase="Runing"}', ["evergraft_tasks: phase is never Runing"]),
        ("sum by (pahse) (evergraft_tasks)", ["no label pahse"]),
        ("rate(evergraft_search_wait_seconds[5m])", ["no metric evergraft_search_wait_seconds"]),
        (
            'sum by (le) (evergraft_queue_wait_seconds_bucket{le="1.0"})',
            ["evergraft_queue_wait_seconds_bucket: no label le"],
        ),
    ],
)
def test_the_search_for_wrong_names_finds_them(expr: str, wrong: list[str]) -> None:
    assert problems(expr, TABLE) == wrong


def test_prometheus_can_parse_every_query(prometheus_programs: Path, tmp_path: Path) -> None:
    exprs = [plain(expr, rate="5m") for expr in QUERIES.values()]
    rules = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    command = [str(prometheus_programs / "promtool"), "check", "rules", str(tmp_path / "rules.yaml")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", BOARDS)
def test_variables_are_filled_from_metrics_that_have_the_label(name: str) -> None:
    variables = model(name)["templating"]["list"]
    assert [item["name"] for item in variables][:2] == ["datasource", "namespace"]
    for item in variables[1:]:
        found = re.fullmatch(r"label_values\((\w+)(\{.*\})?, (\w+)\)", item["query"]["query"])
        assert found is not None
        assert found[3] in (*named(found[1]).label_names, "namespace", "instance")


@pytest.mark.parametrize("name", BOARDS)
def test_every_variable_is_used_and_every_used_one_there(name: str) -> None:
    board = model(name)
    texts = json.dumps(board["panels"]) + json.dumps([v.get("query") for v in board["templating"]["list"]])
    used = set(re.findall(r"\$\{?([a-z]\w*)", texts)) | {"datasource"}
    assert used == {item["name"] for item in board["templating"]["list"]}


@pytest.mark.parametrize("name", BOARDS)
def test_panels_lie_beside_each_other_and_within_the_width(name: str) -> None:
    panels = model(name)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, other in itertools.combinations(places, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_fits_its_configmap(name: str) -> None:
    assert len(json.dumps(model(name))) < 100_000


def test_every_metric_is_on_a_board_or_needs_none() -> None:
    shown = " ".join(QUERIES.values())
    missing = {metric.name for metric in (*OPERATOR, *WORKER) if not re.search(rf"\b{metric.name}(_bucket)?\b", shown)}
    assert missing == set()


def test_addresses_are_frozen() -> None:
    """Bookmarks and links hang on them."""
    assert {name: model(name)["uid"] for name in BOARDS} == {
        "fleet": "evergraft-fleet",
        "search": "evergraft-search",
        "operator": "evergraft-operator",
    }
