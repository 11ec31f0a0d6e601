"""A controller at its desk: what it works with, on the small API server. Used by the tests of whole reconciles."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.evergraft_operator.conftest import Api, connected

from evergraft_operator import labels
from evergraft_operator.apply import Applier
from evergraft_operator.cache import Cache
from evergraft_operator.controller import Controller
from evergraft_operator.kinds import ACCOUNT, GRAPH, JOB, POD, TASK, Key, Kind
from evergraft_operator.lease import NotLeadingError
from evergraft_operator.metrics import Metrics
from evergraft_operator.notes import Notes
from evergraft_operator.observe import Observer
from evergraft_operator.queue import Queue
from evergraft_operator.recorder import Recorder
from evergraft_operator.settings import Settings
from evergraft_operator.testing.documents import graph_document, pod_document, task_document

Fields = dict[str, Any]
KEY = Key("Task", "vision", "cifar10")
GRAPH_KEY = Key("ModuleGraph", "ml", "default")
TASK_PATH = TASK.path("vision", "cifar10")
JOBS = JOB.path("vision")


@dataclass
class Desk:
    """A controller, and what it works with."""

    api: Api
    cache: Cache
    notes: Notes
    queue: Queue[Key]
    controller: Controller
    metrics: Metrics
    leads: bool = True
    now: float = 0.0
    doubts: int = 0

    async def confirm(self) -> None:
        """As the Lease would."""
        self.doubts += 1
        if not self.leads:
            raise NotLeadingError

    def edit(self) -> None:
        """Somebody else changes the Task; nobody here sees it."""
        document = json.loads(json.dumps(self.api.objects[TASK_PATH]))
        document["metadata"]["generation"] += 1
        document["spec"]["workers"] = {"replicas": document["metadata"]["generation"]}
        self.api.put(TASK_PATH, document)

    def status_writes(self) -> int:
        return self.api.writes().count(("PATCH", f"{TASK_PATH}/status"))

    def known(self, kind: Kind, document: Fields) -> Fields:
        """Place an object on the API server, seen."""
        kept = self.placed(kind, document)
        self.cache.see(kind.name, json.loads(json.dumps(kept)))
        return kept

    def placed(self, kind: Kind, document: Fields) -> Fields:
        """Place an object on the API server, not yet seen."""
        meta = document["metadata"]
        return self.api.put(kind.path(meta["namespace"], meta["name"]), document)

    def ready_to_start(self, **spec: Any) -> None:
        """A Task whose graph is ready and of which HEAD has never heard."""
        self.known(TASK, task_document(**spec))
        self.known(GRAPH, graph_document())
        self.api.put(ACCOUNT.path("vision", "default"), {})
        about = {"tasks": [{"uid": "task-uid", "task": "vision/cifar10", "run": "i1-c1", "attempt": 0}]}
        self.answered(about, {"format": 1, "heads": [{"run": None}]})

    def answered(self, about: Fields, answer: Fields, *, namespace: str = "ml", graph: str = "graph-uid") -> None:
        """A steward of the graph that was asked and has answered."""
        tags = {labels.GRAPH_UID: graph, labels.DUTY: "heads", labels.COMPONENT: labels.STEWARD}
        marks = {labels.QUESTION: json.dumps(about)}
        meta = {"name": "s1", "namespace": namespace, "uid": f"s1-{namespace}", "labels": tags, "annotations": marks}
        done = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-03-01T12:00:00Z"}]}
        self.known(JOB, {"metadata": meta, "status": done})
        pod = pod_document(f"p-{namespace}", job=f"s1-{namespace}", phase="Succeeded", message=json.dumps(answer))
        pod["metadata"]["namespace"] = namespace
        self.known(POD, pod)

    def status(self) -> Fields:
        found: Fields = self.api.objects[TASK_PATH].get("status", {})
        return found

    def conditions(self) -> dict[str, Fields]:
        return {item["type"]: item for item in self.status()["conditions"]}

    def jobs(self) -> list[str]:
        return [path for path in self.api.objects if path.startswith(f"{JOBS}/")]


def run(api: Api, what: Callable[[Desk], Awaitable[Any]]) -> Any:
    async def scenario() -> Any:
        metrics, cache, notes, queue = Metrics(), Cache(), Notes(), Queue[Key]()
        async with connected(api, metrics) as client:

            def changed(kind: Kind, document: Any) -> None:
                cache.see(kind.name, document)

            def guard() -> None:
                if not desk.leads:
                    raise NotLeadingError

            writes = client.guarded(guard)
            observer = Observer(cache, client, notes, Settings(), changed, cache.lose)
            observer.clock = lambda: desk.now
            applier = Applier(writes, Recorder(writes, "me"), changed, cache.lose)

            async def confirm() -> None:
                await desk.confirm()

            controller = Controller(queue, observer, applier, notes, metrics, confirm, clock=lambda: desk.now)
            desk = Desk(api, cache, notes, queue, controller, metrics)
            return await what(desk)

    return asyncio.run(scenario())
