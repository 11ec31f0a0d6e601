from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.observability.cases import CASES, Case
from tests.observability.expressions import problems

from evergraft.metrics import OPERATOR, WORKER
from evergraft_operator.observability import alerts
from evergraft_operator.observability.alerts import ALERTS, Alert

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "charts/evergraft/files/rules/alerts.yaml"


def promtool(programs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(programs / "promtool"), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def as_test(alert: Alert, case: Case) -> dict[str, Any]:
    """One case in promtool's words; the labels and texts of an alert that fires are given in full."""
    expected: list[dict[str, Any]] = [{"exp_labels": {"severity": alert.severity, **labels}} for labels in case.labels]
    return {
        "name": f"{alert.name}: {case.name}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": [{"alertname": alert.name, "eval_time": f"{case.minute}m", "exp_alerts": expected}],
    }


def bare(rules: dict[str, Any]) -> dict[str, Any]:
    """The rules without their texts, which promtool would compare word for word."""
    kept = [{k: v for k, v in rule.items() if k != "annotations"} for rule in rules["groups"][0]["rules"]]
    return {"groups": [{**rules["groups"][0], "rules": kept}]}


PAIRS = [(alert, case) for alert in ALERTS for case in CASES[alert.name]]


@pytest.mark.parametrize(("alert", "case"), PAIRS, ids=[f"{alert.name}: {case.name}" for alert, case in PAIRS])
def test_it_fires_when_it_should_and_only_then(
    prometheus_programs: Path, tmp_path: Path, alert: Alert, case: Case
) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(bare(yaml.safe_load(RULES.read_text()))))
    test = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [as_test(alert, case)]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    done = promtool(prometheus_programs, "test", "rules", str(tmp_path / "test.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_both_ways() -> None:
    assert {name: {bool(case.labels) for case in cases} for name, cases in CASES.items()} == {
        alert.name: {True, False} for alert in ALERTS
    }


def test_prometheus_reads_the_file_and_its_texts(prometheus_programs: Path) -> None:
    done = promtool(prometheus_programs, "check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_texts_are_filled_in(prometheus_programs: Path, tmp_path: Path) -> None:
    """The only alert whose words are compared: one whose summary has a value and labels in it."""
    alert = next(alert for alert in ALERTS if alert.name == "EvergraftTaskStalled")
    test = as_test(alert, CASES[alert.name][0])
    told = {
        "summary": "1 Tasks of graph ml/default in vision are stalled",
        "description": alert.description,
        "runbook": "docs/runbooks.md#evergrafttaskstalled",
    }
    test["alert_rule_test"][0]["exp_alerts"][0]["exp_annotations"] = told
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": [test]}))
    done = promtool(prometheus_programs, "test", "rules", str(tmp_path / "test.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_alerts_speak_of_metrics_that_there_are(alert: Alert) -> None:
    assert problems(alert.expr, (*OPERATOR, *WORKER)) == []


def test_every_alert_has_a_runbook() -> None:
    headings = {
        line.removeprefix("## ") for line in (ROOT / alerts.RUNBOOKS).read_text().splitlines() if line.startswith("## ")
    }
    assert headings == {alert.name for alert in ALERTS}


def test_names_and_severities_are_frozen() -> None:
    """Silences and routes of others hang on them."""
    assert {alert.name: alert.severity for alert in ALERTS} == {
        "EvergraftNoLeader": "critical",
        "EvergraftTwoLeaders": "warning",
        "EvergraftWatchStale": "warning",
        "EvergraftQueueBacklog": "warning",
        "EvergraftTaskStalled": "warning",
        "EvergraftSearchNoProgress": "warning",
        "EvergraftStoreErrors": "warning",
        "EvergraftCommitUnknown": "warning",
        "EvergraftLostOver30Percent": "warning",
        "EvergraftOOMRepeated": "warning",
        "EvergraftMaintenanceOverdue": "warning",
        "EvergraftGraphVerifyFailed": "critical",
    }
