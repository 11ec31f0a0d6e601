"""What workers counted last: once a pod, by graph, believed only as far as a worker can come."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.aio.client import Configuration
from prometheus_client import generate_latest

from evergraft.metrics import FINISHED, WORKER
from evergraft_operator import labels, reading
from evergraft_operator.cache import Cache
from evergraft_operator.kinds import POD, TASK
from evergraft_operator.metrics import Metrics
from evergraft_operator.process import Process
from evergraft_operator.settings import read_settings
from evergraft_operator.tally import MOST_PER_SECOND, Tally
from evergraft_operator.testing.documents import Fields, at, pod_document, report_message, task_document
from evergraft_trainer.telemetry import Telemetry

HERE = {"namespace": "vision", "graph": "ml/default"}
SAMPLES = "evergraft_worker_samples_total"


def worker(name: str = "w", counters: Any = None, *, version: int = 1, **more: Any) -> Fields:
    """A worker's pod that lived for a minute and has ended with these counters."""
    told = {} if counters is None else {"counters": counters}
    words = report_message("vision/cifar10", "i1-c1", **told)
    document = pod_document(name, job="j1", **{"phase": "Succeeded", "message": words, **more})
    document["metadata"]["labels"][labels.TASK_UID] = "task-uid"
    document["metadata"]["resourceVersion"] = str(version)
    return document


def task(**status: Any) -> Fields:
    document: Fields = {**task_document(), "status": status}
    document["metadata"]["resourceVersion"] = "1"
    return document


def tally(*documents: Fields, of: Fields | None = None, since: datetime.datetime = reading.EPOCH) -> Metrics:
    """What is counted of these pods, seen in this order beside this Task."""
    cache = Cache()
    cache.see(TASK.name, of if of is not None else task())
    made = Tally(Metrics(), cache, since)
    for document in documents:
        made.see(document)
    return made.metrics


def value(metrics: Metrics, name: str, **more: str) -> float | None:
    return metrics.registry.get_sample_value(f"evergraft_finished_{name}_total", {**HERE, **more})


def test_last_words_are_added_up_by_graph() -> None:
    counters = {SAMPLES: 640.0, "evergraft_worker_candidates_total,outcome=scored": 4.0}
    metrics = tally(worker("a", counters), worker("b", {SAMPLES: 60}), worker("c", message="", exit_code=137))
    assert value(metrics, "worker_samples") == 700
    assert value(metrics, "worker_candidates", outcome="scored") == 4
    assert value(metrics, "workers", report="counted") == 2


def test_a_worker_without_words_is_seen_to_have_left_none() -> None:
    metrics = tally(worker("a", message=""), worker("b", message="{"), worker("c"), worker("d", counters=5))
    assert value(metrics, "workers", report="none") == 4
    assert value(metrics, "worker_samples") is None


def test_a_pod_counts_once_however_often_it_is_seen() -> None:
    metrics = tally(*(worker("a", {SAMPLES: 100}, version=version) for version in range(1, 6)))
    assert value(metrics, "worker_samples") == 100


def test_what_a_worker_writes_is_what_is_read() -> None:
    """Every counter of the table, as a real worker names it in its report."""
    telemetry = Telemetry()
    numbers = itertools.count(1)
    expected: dict[tuple[str, tuple[str, ...]], int] = {}
    for metric in (metric for metric in WORKER if metric.kind == "counter"):
        name = metric.attribute.removeprefix("worker_").removesuffix("_seconds").removeprefix("store_")
        family = getattr(telemetry, {"commit_attempts": "commits"}.get(name, name))
        for values in itertools.product(*(label.values for label in metric.labels)):
            number = next(numbers)
            (family.labels(*values) if values else family).inc(number)
            expected[metric.name, values] = number
    totals = telemetry.totals()
    assert len(totals) == len(expected)
    message = json.dumps({"format": 1, "outcome": "committed", "counters": totals})
    metrics = tally(worker(message=message))
    assert value(metrics, "workers", report="counted") == 1
    for (name, values), number in expected.items():
        if name in FINISHED:
            own = [label.name for label in FINISHED[name].labels if not label.is_open]
            labelled = {**HERE, **dict(zip(own, values, strict=True))}
            assert metrics.registry.get_sample_value(FINISHED[name].name, labelled) == number


@pytest.mark.parametrize(
    "lie", [1e300, -1, "1e300", "many", True, None, [5], {"a": 1}, float("nan"), float("inf"), 10**400]
)
def test_with_a_number_that_cannot_be_nothing_counts(lie: Any) -> None:
    metrics = tally(worker(counters={SAMPLES: 5, "evergraft_commit_attempts_total,outcome=landed": lie}))
    assert value(metrics, "workers", report="refused") == 1
    assert value(metrics, "worker_samples") is None


@pytest.mark.parametrize("name", MOST_PER_SECOND)
def test_the_most_that_counts_goes_with_a_worker_s_life(name: str) -> None:
    key = _keys(name)[0]
    for seconds, report in ((60, "counted"), (10_000, "refused")):
        metrics = tally(worker(counters={key: seconds * MOST_PER_SECOND[name]}, started=0, ended=60))
        assert value(metrics, "workers", report=report) == 1


def _keys(name: str) -> list[str]:
    own = [label for label in FINISHED[name].labels if not label.is_open]
    choices = itertools.product(*(label.values for label in own))
    pairs = (zip((label.name for label in own), values, strict=True) for values in choices)
    return [name + "".join(f",{label}={value}" for label, value in found) for found in pairs]


@given(st.dictionaries(st.text(max_size=60) | st.sampled_from(sorted(FINISHED)), st.integers(0, 50), max_size=20))
def test_invented_names_add_no_series(counters: Mapping[str, int]) -> None:
    metrics = tally(worker(counters=dict(counters)))
    shown = [line for line in generate_latest(metrics.registry).decode().splitlines() if "finished_worker" in line]
    assert len([line for line in shown if not line.startswith("#")]) <= 1 + len(FINISHED)


def test_those_that_ended_under_the_leader_before_were_its_to_count() -> None:
    metrics = tally(worker("a", {SAMPLES: 1}, ended=60), worker("b", {SAMPLES: 10}, ended=200), since=at(100))
    assert value(metrics, "worker_samples") == 10


def test_pods_of_strangers_and_those_that_run_count_for_nothing() -> None:
    elsewhere, stray, orphan = worker("a", {SAMPLES: 1}), worker("b", {SAMPLES: 1}), worker("c", {SAMPLES: 1})
    elsewhere["metadata"]["namespace"] = "ml"
    stray["metadata"]["labels"][labels.TASK_UID] = "unknown"
    orphan["metadata"]["ownerReferences"] = []
    running = worker("d", {SAMPLES: 1}, phase="Running")
    lost = worker("e", {SAMPLES: 1}, phase="Failed")
    lost["status"]["containerStatuses"] = []
    assert value(tally(elsewhere, stray, orphan, running, lost), "workers", report="counted") is None
    denied = task(conditions=[{"type": "Accepted", "status": "False", "reason": "GraphAccessDenied"}])
    assert value(tally(worker(counters={SAMPLES: 1}), of=denied), "workers", report="counted") is None


def test_a_process_counts_while_it_leads_and_what_ended_meanwhile_when_it_takes_over() -> None:
    async def scenario() -> None:
        process = Process(read_settings({}), Configuration())
        try:

            async def look() -> None:
                return

            process.relist.look = look  # type: ignore[method-assign]
            process.see(TASK, {"type": "ADDED", "object": task()})
            process.see(POD, {"type": "ADDED", "object": worker("before", {SAMPLES: 1}, ended=60)})
            process.see(POD, {"type": "ADDED", "object": worker("meanwhile", {SAMPLES: 10}, ended=200)})
            assert value(process.metrics, "worker_samples") is None  # A standby counts nothing.
            process.tally.since = at(100)
            process._lead = [asyncio.create_task(asyncio.sleep(60))]
            await process._take_over()
            assert value(process.metrics, "worker_samples") == 10
            process.see(POD, {"type": "MODIFIED", "object": worker("meanwhile", {SAMPLES: 10}, version=2, ended=200)})
            process.see(POD, {"type": "MODIFIED", "object": worker("now", {SAMPLES: 100}, ended=300)})
            process.see(POD, {"type": "DELETED", "object": worker("now", {SAMPLES: 100}, version=2, ended=300)})
            process.see(POD, {"type": "DELETED", "object": worker("now", {SAMPLES: 100}, version=3, ended=300)})
            process.see(POD, {"type": "DELETED", "object": worker("at once", {SAMPLES: 1000}, ended=300)})
            assert value(process.metrics, "worker_samples") == 1110
            assert process.tally._counted == {"meanwhile-uid"}  # What is gone need not be remembered.
            await process._take_over()
            assert value(process.metrics, "worker_samples") == 1110
            process._lead[0].cancel()
        finally:
            await process.client.close()

    asyncio.run(scenario())
