"""What a process takes in and shows: names given anew, notes of who is gone, figures of who does not lead any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from kubernetes.aio.client import Configuration
from prometheus_client import generate_latest

from evergraft.names import RunKey
from evergraft_operator.cache import Entry
from evergraft_operator.kinds import GRAPH, TASK, Key
from evergraft_operator.notes import Ask
from evergraft_operator.process import Process
from evergraft_operator.settings import read_settings
from evergraft_operator.stewards import Question, Removal
from evergraft_operator.testing.documents import graph_document, task_document

Fields = dict[str, Any]

ASK = Ask("ml/default", question=Question("old", "x", RunKey(1, 1), 0), removal=Removal("old", "x"))


def run(what: Callable[[Process], Awaitable[None]]) -> None:
    """Let something happen to a process that leads; its one part sleeps."""

    async def scenario() -> None:
        process = Process(read_settings({}), Configuration())
        process._lead = [asyncio.create_task(asyncio.sleep(60))]
        try:
            await what(process)
        finally:
            await process._stopped()
            await process.client.close()

    asyncio.run(scenario())


def seen(document: Fields, version: int) -> Fields:
    document["metadata"]["resourceVersion"] = str(version)
    return document


def woken(process: Process) -> set[Key]:
    """The keys on the queue, which is empty after that."""
    keys = set(process.queue.schedule._due)
    process.queue.clear()
    return keys


def test_a_task_made_again_under_its_name_wakes_who_wanted_the_old_one_s_id() -> None:
    async def scenario(process: Process) -> None:
        process.changed(TASK, seen(task_document("a", uid="old", taskID="x"), 1))
        process.changed(TASK, seen(task_document("rival", uid="rival", taskID="x"), 2))
        process.changed(TASK, seen(task_document("waits", uid="waits", after=["x"]), 3))
        woken(process)
        process.changed(TASK, seen(task_document("a", uid="new", taskID="y"), 9))
        assert woken(process) == {Key("Task", "vision", name) for name in ("a", "rival", "waits")}

    run(scenario)


def test_a_graph_made_again_under_its_name_wakes_who_wanted_the_old_one_s_store() -> None:
    async def scenario(process: Process) -> None:
        process.changed(GRAPH, seen(graph_document(uid="old"), 1))
        process.changed(GRAPH, seen(graph_document(uid="rival", name="rival"), 2))
        woken(process)
        elsewhere = {"url": "gs://acme-evergraft/elsewhere"}
        process.changed(GRAPH, seen(graph_document(uid="new", store=elsewhere), 9))
        assert woken(process) == {Key("ModuleGraph", "ml", name) for name in ("default", "rival")}

    run(scenario)


def test_what_a_task_asked_goes_with_it_when_its_name_is_given_anew() -> None:
    async def scenario(process: Process) -> None:
        process.changed(TASK, seen(task_document("a", uid="old"), 1))
        process.notes.ask("old", ASK)
        process.changed(TASK, seen(task_document("a", uid="new"), 9))
        assert list(process.notes.asked_of("ml/default")) == []

    run(scenario)


def test_what_is_noted_of_a_task_that_is_gone_goes_when_the_watch_tells() -> None:
    async def scenario(process: Process) -> None:
        process.changed(TASK, seen(task_document("a", uid="old"), 1))
        process.vanished("old")
        process.notes.ask("old", ASK)  # By a reconcile that was under way.
        process.see(TASK, {"type": "DELETED", "object": seen(task_document("a", uid="old"), 2)})
        assert list(process.notes.asked_of("ml/default")) == []

    run(scenario)


def test_figures_under_way_when_the_lead_is_lost_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, lost = threading.Event(), threading.Event()
    unpacked = Entry.document

    def slowly(entry: Entry) -> Fields:
        reading.set()
        assert lost.wait(10)
        return unpacked(entry)

    async def scenario(process: Process) -> None:
        process.changed(TASK, seen(task_document(), 1))
        process.changed(GRAPH, seen(graph_document(), 2))
        monkeypatch.setattr(Entry, "document", slowly)
        process._lead.append(process._spawn(process._show(), "figures"))
        await asyncio.to_thread(reading.wait, 10)
        await process._stopped()
        lost.set()
        await asyncio.get_running_loop().shutdown_default_executor()  # The thread has come to its end.
        shown = generate_latest(process.metrics.registry).decode().splitlines()
        assert [line for line in shown if line.startswith(("evergraft_tasks{", "evergraft_graph_"))] == []

    run(scenario)


def test_figures_are_shown_by_who_leads() -> None:
    async def scenario(process: Process) -> None:
        process.changed(TASK, seen(task_document(), 1))
        process._lead.append(process._spawn(process._show(), "figures"))
        series = {"namespace": "vision", "graph": "ml/default", "phase": "Pending"}
        async with asyncio.timeout(10):
            while process.metrics.registry.get_sample_value("evergraft_tasks", series) != 1:
                await asyncio.sleep(0.01)

    run(scenario)
