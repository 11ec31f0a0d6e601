"""A small cluster in memory: API server, job controller, kubelet, Kueue and the graph's store, as plain dicts.

It does what the real ones do as far as the operator can see it, one legal step at a time, so that a test can let
anything happen between two reconciles. `apply` carries plans out and checks what must never happen.
"""

from __future__ import annotations

import copy
import datetime
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evergraft.names import RunKey
from evergraft_operator import labels, reading, report, stewards
from evergraft_operator.course import REFUSED_RETRY_S
from evergraft_operator.deletion import raw_task_id
from evergraft_operator.graphs import GraphObserved, reconcile_graph
from evergraft_operator.notes import Refused
from evergraft_operator.observed import Job, KubeEvent, Observed, Pod, Thing
from evergraft_operator.plan import Plan
from evergraft_operator.reconcile import reconcile
from evergraft_operator.report import Heard
from evergraft_operator.settings import Settings
from evergraft_operator.testing.documents import ROUTE, START, Fields, graph_document, report_message

Key = tuple[str, str]


@dataclass
class Closed:
    """A run that the store's HEAD has closed, and at which step."""

    run: RunKey
    outcome: str
    step: int


@dataclass
class Cluster:
    """The state of everything. `clock` counts seconds after START, `step` everything that happens.

    `refuse` is why the API server will not have a worker Job, empty if it will; `invalid`: nor ever this one.
    """

    settings: Settings = field(default_factory=Settings)
    tasks: dict[Key, Fields] = field(default_factory=dict)
    graph: Fields | None = field(default_factory=graph_document)
    jobs: dict[Key, Fields] = field(default_factory=dict)
    pods: dict[str, Fields] = field(default_factory=dict)
    events: list[Fields] = field(default_factory=list)
    head: dict[str, Closed] = field(default_factory=dict)
    clock: float = 0.0
    step: int = 0
    plans: dict[str, Plan] = field(default_factory=dict)
    reads: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    heard: Heard | None = None
    refuse: str = ""
    invalid: bool = False
    refused: dict[str, Refused] = field(default_factory=dict)
    _names: int = 0

    @property
    def now(self) -> datetime.datetime:
        """The present, whole seconds."""
        return START + datetime.timedelta(seconds=int(self.clock))

    # What the operator sees and does.

    def observe(self, key: Key) -> Observed:
        """A Task and everything around it."""
        task = Thing.read(self.tasks[key])
        jobs, pods = self._parsed_jobs(labels.TASK_UID, task.uid), self._parsed_pods()
        stewards_seen = self._parsed_jobs(labels.COMPONENT, labels.STEWARD)
        facts = [fact for job in stewards_seen for fact in stewards.head_facts(job, pods)]
        removals = [fact for job in stewards_seen for fact in stewards.removal_facts(job, pods)]
        return Observed(
            task=task,
            settings=self.settings,
            graph=Thing.read(self.graph) if self.graph is not None else None,
            namespace_labels={},
            rivals=tuple(self._rivals(key)),
            after={name: self._has_route(name) for name in reading.items(task.spec, "after") if isinstance(name, str)},
            jobs=jobs,
            pods=pods,
            events=tuple(map(KubeEvent.read, self.events)),
            heard=self.heard,
            heads=tuple(fact for fact in facts if fact.uid == task.uid),
            removal=next((fact for fact in removals if fact.uid == task.uid), None),
            **self._refusal(task),
        )

    def observe_graph(self) -> GraphObserved:
        """The graph and its stewards."""
        assert self.graph is not None
        present = {Thing.read(task).uid for task in self.tasks.values()}
        plans = [plan for uid, plan in sorted(self.plans.items()) if uid in present]
        return GraphObserved(
            graph=Thing.read(self.graph),
            settings=self.settings,
            jobs=self._parsed_jobs(labels.COMPONENT, labels.STEWARD),
            pods=self._parsed_pods(),
            questions=tuple(plan.question for plan in plans if plan.question),
            removals=tuple(plan.removal for plan in plans if plan.removal),
        )

    def reconcile(self) -> bool:
        """Reconcile every Task, then the graph; whether anything was written."""
        wrote = False
        for key in sorted(self.tasks):
            plan = reconcile(self.observe(key), self.now)
            if self.refuse and plan.create:
                plan = self._refused(key)
            self.plans[Thing.read(self.tasks[key]).uid] = plan
            wrote |= self.apply(plan, key)
        if self.graph is not None:
            wrote |= self.apply(reconcile_graph(self.observe_graph(), self.now), None)
        for task in self.tasks.values():
            live = [job.name for job in self._parsed_jobs(labels.TASK_UID, Thing.read(task).uid) if job.live]
            assert len(live) <= 1, f"two live Jobs for one search: {live}"
        return wrote

    def apply(self, plan: Plan, key: Key | None) -> bool:
        """Carry a plan out; `key` is the Task's, None for the graph's."""
        self.step += 1
        for scaling in plan.scale:
            job = self.jobs[scaling.namespace, scaling.name]
            assert job["spec"]["parallelism"] != scaling.parallelism, "a write without a change"
            job["spec"]["parallelism"] = scaling.parallelism
        for deletion in plan.delete:
            job = self.jobs[deletion.namespace, deletion.name]
            assert job["metadata"]["uid"] == deletion.uid
            if deletion.foreground:
                assert "deletionTimestamp" not in job["metadata"], "a write without a change"
                self.delete_job((deletion.namespace, deletion.name))
            else:
                self.collect_job((deletion.namespace, deletion.name))
        for job in plan.create:
            self._create(copy.deepcopy(job))
        thing = self.graph if key is None else self.tasks[key]
        assert thing is not None
        if plan.status is not None:
            assert plan.status != thing.get("status"), "a write without a change"
            thing["status"] = json.loads(json.dumps(plan.status))
        if plan.finalizer is not None and key is not None:
            self._finalize(key, plan.finalizer)
        self.log += [f"{self.step} {event.reason}: {event.message}" for event in plan.events]
        return plan.writes

    def _refused(self, key: Key) -> Plan:
        """The plan for a Task whose Job was not to be had, as the controller makes it."""
        task = Thing.read(self.tasks[key])
        self.refused[task.uid] = Refused(self.refuse, self.clock, task.generation, self.invalid)
        return replace(reconcile(self.observe(key), self.now), create=(), delete=())

    def _refusal(self, task: Thing) -> dict[str, Any]:
        known = self.refused.get(task.uid)
        if known is None or known.generation != task.generation or self.clock - known.at >= REFUSED_RETRY_S:
            return {}
        return {"refused": known.message, "invalid": known.invalid}

    def _create(self, job: Fields) -> None:
        meta = job["metadata"]
        key = (meta["namespace"], meta["name"])
        assert len(meta["name"]) <= 63
        if key in self.jobs:
            self.log.append(f"{self.step} conflict {key[1]}")
            return
        if meta["labels"][labels.COMPONENT] == labels.WORKER:
            self._check_start(job)
        self._names += 1
        meta |= {"uid": f"job-{self._names}", "creationTimestamp": reading.written(self.now)}
        self.jobs[key] = {**job, "status": {}}
        self.log.append(f"{self.step} create {key[1]}")

    def _check_start(self, job: Fields) -> None:
        uid = job["metadata"]["labels"][labels.TASK_UID]
        live = [item.name for item in self._parsed_jobs(labels.TASK_UID, uid) if item.live]
        assert not live, f"a second live Job beside {live}"
        task, run = job["metadata"]["annotations"][labels.TASK_ID], job["metadata"]["annotations"][labels.RUN_KEY]
        if int(job["metadata"]["labels"][labels.ATTEMPT]) > 1:
            assert self.reads.get(uid, -1) >= self.ended.get(uid, -1), "a further attempt without a look at HEAD"
        closed = self.head.get(task)
        if closed is not None and closed.run >= RunKey.parse(run):
            assert closed.step > self.reads.get(uid, -1), f"started {run} though HEAD was read closed at {closed.run}"
            assert uid in self.reads, f"started {run} without a look at HEAD, which has closed {closed.run}"

    def _finalize(self, key: Key, change: str) -> None:
        meta = self.tasks[key]["metadata"]
        present = meta.get("finalizers", [])
        assert (labels.FINALIZER in present) == (change == "remove"), "a write without a change"
        meta["finalizers"] = (
            [*present, labels.FINALIZER] if change == "add" else [name for name in present if name != labels.FINALIZER]
        )
        if "deletionTimestamp" in meta and not meta["finalizers"]:
            del self.tasks[key]

    def _rivals(self, key: Key) -> Iterator[Thing]:
        mine = raw_task_id(Thing.read(self.tasks[key]))
        things = (Thing.read(task) for other, task in self.tasks.items() if other != key)
        return (thing for thing in things if raw_task_id(thing) == mine)

    def _has_route(self, task: str) -> bool | None:
        things = [Thing.read(item) for item in self.tasks.values()]
        mine = [thing for thing in things if raw_task_id(thing) == task]
        return any("route" in thing.status for thing in mine) if mine else None

    def _parsed_jobs(self, label: str, value: str) -> tuple[Job, ...]:
        mine = [job for job in self.jobs.values() if job["metadata"]["labels"].get(label) == value]
        return tuple(map(Job.read, mine))

    def _parsed_pods(self) -> tuple[Pod, ...]:
        return tuple(map(Pod.read, self.pods.values()))

    # What happens to Jobs and pods.

    def pods_of(self, job: Fields) -> list[Fields]:
        """The pods that a Job made."""
        uid = job["metadata"]["uid"]
        return [pod for pod in self.pods.values() if pod["metadata"]["ownerReferences"][0]["uid"] == uid]

    def active(self, job: Fields) -> list[Fields]:
        """Those that are not over."""
        return [pod for pod in self.pods_of(job) if pod["status"]["phase"] in ("Pending", "Running")]

    def delete_job(self, key: Key) -> None:
        """Delete in the foreground: the Job stays until `collect_job`."""
        self._end(self.jobs[key])
        self.jobs[key]["metadata"].setdefault("deletionTimestamp", reading.written(self.now))

    def collect_job(self, key: Key) -> None:
        """A Job and its pods are gone."""
        job = self.jobs.pop(key)
        self._end(job)
        for pod in self.pods_of(job):
            del self.pods[pod["metadata"]["name"]]

    def delete_task(self, key: Key) -> None:
        """A Task is deleted; without finalizers it goes at once, and its Jobs with it."""
        meta = self.tasks[key]["metadata"]
        if meta.get("finalizers"):
            meta.setdefault("deletionTimestamp", reading.written(self.now))
            return
        del self.tasks[key]
        for job_key in [
            k for k, job in self.jobs.items() if job["metadata"]["labels"].get(labels.TASK_UID) == meta["uid"]
        ]:
            self.collect_job(job_key)

    def delete_graph(self) -> None:
        """The graph is gone, and its stewards with it; the store is not."""
        self.graph = None
        for key in [k for k, job in self.jobs.items() if job["metadata"]["labels"].get(labels.GRAPH_UID)]:
            self.collect_job(key)

    def make_pods(self, key: Key) -> None:
        """The job controller makes what is missing; after a node's death nothing is, until its pod is gone."""
        job = self.jobs[key]
        if job["spec"].get("suspend") or not Job.read(job).live:
            return
        missing = job["spec"]["parallelism"] - len(self.active(job))
        for index in range(missing):
            self._names += 1
            name = f"{key[1]}-{self._names}"
            self.pods[name] = {
                "metadata": {
                    "name": name,
                    "uid": f"{name}-uid",
                    "creationTimestamp": reading.written(self.now),
                    "ownerReferences": [{"kind": "Job", "uid": job["metadata"]["uid"]}],
                    "labels": {
                        labels.JOB_INDEX: str(index),
                        labels.COMPONENT: job["metadata"]["labels"][labels.COMPONENT],
                    },
                },
                "status": {"phase": "Pending", "conditions": []},
            }
        job["status"]["active"] = len(self.active(job))

    def start_pod(self, pod: Fields) -> None:
        """A pod gets a node and its container runs and answers."""
        if pod["status"]["phase"] != "Pending":
            return
        time = reading.written(self.now)
        pod["status"] = {
            "phase": "Running",
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": time},
                {"type": "Ready", "status": "True", "lastTransitionTime": time},
            ],
            "containerStatuses": [
                {
                    "name": pod["metadata"]["labels"][labels.COMPONENT],
                    "imageID": f"docker.io/evergraft/trainer@sha256:{'cd' * 32}",
                    "state": {"running": {"startedAt": time}},
                }
            ],
        }

    def hold_pod(self, pod: Fields, reason: str) -> None:
        """A pod has a node, and its container waits."""
        if pod["status"]["phase"] == "Pending":
            placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": reading.written(self.now)}
            name = pod["metadata"]["labels"][labels.COMPONENT]
            box = {"name": name, "imageID": "", "state": {"waiting": {"reason": reason, "message": "no luck"}}}
            pod["status"] |= {"conditions": [placed], "containerStatuses": [box]}

    def end_pod(self, pod: Fields, code: int, *, message: str = "", reason: str = "", keep: bool = True) -> None:
        """A pod's container ends; the job controller takes note. Without `keep` the pod is deleted with it."""
        job = next((job for job in self.jobs.values() if pod in self.pods_of(job)), None)
        if job is None or pod["status"]["phase"] not in ("Running", "Pending"):
            return
        status, began = pod["status"], reading.written(self.now)
        name = pod["metadata"]["labels"][labels.COMPONENT]
        box = (status.get("containerStatuses") or [{"name": name, "state": {}}])[0]
        began = reading.mapping(box, "state", "running").get("startedAt", began)
        end = {"exitCode": code, "message": message, "startedAt": began, "finishedAt": reading.written(self.now)}
        box["state"] = {"terminated": {**end, "reason": reason or ("Error" if code else "Completed")}}
        status |= {"phase": "Failed" if code else "Succeeded", "containerStatuses": [box]}
        status["conditions"] = [c for c in status["conditions"] if c["type"] != "Ready"]
        self._take_note(job, pod, code)
        if not keep:
            del self.pods[pod["metadata"]["name"]]

    def _take_note(self, job: Fields, pod: Fields, code: int) -> None:
        status, steward = job["status"], job["metadata"]["labels"][labels.COMPONENT] == labels.STEWARD
        disrupted = any(c["type"] == "DisruptionTarget" for c in pod["status"]["conditions"])
        if Job.read(job).finished:
            return
        if code == 0:
            others = [item for item in self.active(job) if item is not pod] if steward else []
            if not others:  # One worker suffices; of a steward's pods each has its part.
                self._finish(job, "Complete", "SuccessPolicy", "")
        elif code in (64, 65):
            status["failed"] = status.get("failed", 0) + 1
            self._finish(
                job, "Failed", "PodFailurePolicy", f"container ended with exit code {code} matching FailJob rule"
            )
        elif code != 75 or disrupted:
            status["failed"] = status.get("failed", 0) + 1
            if steward and not disrupted:
                self._finish(job, "Failed", "BackoffLimitExceeded", "too many failures")
        status["active"] = len(self.active(job))

    def _end(self, job: Fields) -> None:
        """Remember when a worker Job stopped being live."""
        if Job.read(job).live:
            self.ended[job["metadata"]["labels"].get(labels.TASK_UID, "")] = self.step

    def _finish(self, job: Fields, kind: str, reason: str, message: str) -> None:
        self._end(job)
        job["status"]["conditions"] = [
            {
                "type": kind,
                "status": "True",
                "reason": reason,
                "message": message,
                "lastTransitionTime": reading.written(self.now),
            }
        ]
        for pod in self.active(job):
            del self.pods[pod["metadata"]["name"]]

    def disrupt(self, pod: Fields, *, code: int = 143, keep: bool = False) -> None:
        """A pod is put out by preemption or a drain, and mostly gone with it."""
        pod["status"]["conditions"].append(
            {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
        )
        self.end_pod(pod, code, keep=keep)

    def lose_node(self, pod: Fields) -> None:
        """A pod's node is gone: it terminates and never ends."""
        pod["metadata"].setdefault("deletionTimestamp", reading.written(self.now))

    # What workers and stewards do.

    def close(self, task: str, run: RunKey, outcome: str) -> None:
        """A run is closed at HEAD, unless it or a later one is."""
        known = self.head.get(task)
        if known is None or known.run < run:
            self.head[task] = Closed(run, outcome, self.step)

    def finish_worker(self, key: Key, pod: Fields, outcome: str = "committed", *, message: str | None = None) -> None:
        """A worker closes its search at HEAD, or finds it closed, and exits 0."""
        notes = self.jobs[key]["metadata"]["annotations"]
        task, run = notes[labels.TASK_ID], RunKey.parse(notes[labels.RUN_KEY])
        self.close(task, run, outcome)
        closed = self.head[task]
        said = report_message(task, str(run), closed.outcome if closed.run == run else "already")
        self.end_pod(pod, 0, message=said if message is None else message)

    def finish_steward(self, key: Key, *, message: str | None = None) -> None:
        """A steward does what it was asked and exits 0."""
        job = self.jobs[key]
        self.make_pods(key)
        for pod in self.active(job):
            self.start_pod(pod)
            part = int(pod["metadata"]["labels"][labels.JOB_INDEX]) * stewards.BATCH
            said = self._steward_says(job, part) if message is None else message
            self.end_pod(pod, 0, message=said)

    def _steward_says(self, job: Fields, part: int) -> str:
        duty = job["metadata"]["labels"][labels.DUTY]
        asked = json.loads(job["metadata"]["annotations"][labels.QUESTION])
        value: Fields = {"format": 1, "reason": "done", "graph": {"version": 7, "tasks": len(self.head), "modules": 9}}
        if duty == "init":
            value["graphID"] = "g1"
        elif duty == "remove":
            for item in asked["tasks"]:
                known = self.head.get(item["task"])
                if known is not None:
                    self.head[item["task"]] = Closed(known.run, "removed", self.step)
        elif duty == "heads":
            value["heads"] = [self._head_says(item) for item in asked["tasks"][part:][: stewards.BATCH]]
        return json.dumps(value)

    def _head_says(self, asked: Mapping[str, Any]) -> Fields:
        self.reads[asked["uid"]] = self.step
        known = self.head.get(asked["task"])
        if known is None:
            return {"run": None}
        route = {"id": ROUTE, "run": str(known.run), "quality": 0.9, "version": 5}
        served = known.outcome in ("committed", "kept")
        return {"run": str(known.run), "outcome": known.outcome, "route": route if served else None}

    def calm(self, *, rounds: int = 80) -> int:
        """Let everything go well until nothing is written any more; the number of rounds that took.

        Raises:
            AssertionError: it does not settle.
        """
        quiet = 0
        for number in range(rounds):
            before = (len(self.jobs), sorted(self.pods))
            wrote = self.reconcile()
            self._all_goes_well()
            quiet = 0 if wrote or (len(self.jobs), sorted(self.pods)) != before else quiet + 1
            self.clock += 10.0 if quiet == 0 else 150.0
            self.step += 1
            if quiet >= 6:
                return number
        raise AssertionError("does not settle:\n" + "\n".join(self.log[-40:]))

    def calm_until_running(self) -> None:
        """Let everything go well until a worker of every Task is ready.

        Raises:
            AssertionError: none ever is.
        """
        for _ in range(30):
            self.reconcile()
            if self.tasks and all(task["status"]["phase"] == "Training" for task in self.tasks.values()):
                return
            self.clock += 1
            self.step += 1
            for key, job in list(self.jobs.items()):
                if job["metadata"]["labels"][labels.COMPONENT] == labels.STEWARD:
                    if Job.read(job).live:
                        self.finish_steward(key)
                    continue
                self.make_pods(key)
                for pod in self.active(job):
                    self.start_pod(pod)
        raise AssertionError("no worker runs:\n" + "\n".join(self.log))

    def _all_goes_well(self) -> None:
        for key, job in list(self.jobs.items()):
            parsed = Job.read(job)
            if parsed.deleting is not None:
                self.collect_job(key)
            elif job["metadata"]["labels"][labels.COMPONENT] == labels.STEWARD:
                if parsed.live:
                    self.finish_steward(key)
            elif parsed.live:
                job["spec"]["suspend"] = False
                for pod in [pod for pod in self.pods_of(job) if "deletionTimestamp" in pod["metadata"]]:
                    del self.pods[pod["metadata"]["name"]]
                running = [pod for pod in self.active(job) if pod["status"]["phase"] == "Running"]
                self.make_pods(key)
                for pod in self.active(job):
                    self.start_pod(pod)
                if running:
                    self.finish_worker(key, running[0])


def heard_progress(value: Mapping[str, Any], now: datetime.datetime) -> Heard | None:
    """What the operator makes of a worker's answer."""
    told = report.progress(json.dumps(value))
    return Heard(told, now) if told is not None else None
