"""Failure classes from Job and pod facts, and what a search waits for."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from evergraft_operator import failures, labels, waiting
from evergraft_operator.observed import Job, KubeEvent, Pod, Workload
from evergraft_operator.testing.documents import at, pod_document

JOB = Job(name="j", namespace="vision", uid="j1", created=at(0), attempt=1, parallelism=1)


def pod(name: str = "p", **more: Any) -> Pod:
    return Pod.read(pod_document(name, job="j1", **{"phase": "Failed", **more}))


def told(code: str) -> str:
    return json.dumps({"outcome": "error", "reason": "x", "code": code})


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"exit_code": 64}, "UserError"),
        ({"exit_code": 65}, "DataError"),
        ({"exit_code": 66}, "OutOfMemory"),
        ({"exit_code": 137, "reason": "OOMKilled"}, "OutOfMemory"),
        *[({"exit_code": code}, "CandidateCrashes") for code in (1, 70, 134, 135, 137, 139)],
        ({"exit_code": 75}, "StoreUnavailable"),
        ({"exit_code": 143}, "Preempted"),
        ({"exit_code": 64, "message": told("ImageVersion")}, "ImageVersion"),
        ({"exit_code": 75, "message": told("StoreConflict")}, "StoreConflict"),
        ({"exit_code": 1, "message": told("StoreConflict")}, "CandidateCrashes"),
        ({"exit_code": 75, "message": told("ImageVersion")}, "StoreUnavailable"),
        ({"exit_code": 137, "disrupted": "PreemptionByScheduler"}, "Preempted"),
        ({"exit_code": 137, "reason": "OOMKilled", "disrupted": "EvictionByEvictionAPI"}, "Preempted"),
        ({"exit_code": 66, "disrupted": "TerminationByKubelet"}, "Preempted"),
        ({"exit_code": 137, "deleting": 0}, "Preempted"),
        ({"exit_code": 143, "disrupted": "DeletionByTaintManager"}, "NodeLost"),
        ({"phase": "Running", "deleting": 0}, None),
        ({"phase": "Running"}, None),
        ({"phase": "Succeeded"}, None),
    ],
)
def test_why_a_worker_ended(facts: dict[str, Any], reason: str | None) -> None:
    assert failures.reason_of(pod(**facts), at(30)) == reason


def test_a_pod_that_terminates_for_too_long_is_lost_with_its_node() -> None:
    stuck = pod(phase="Running", deleting=0)
    assert failures.reason_of(stuck, at(60)) is None
    assert failures.reason_of(stuck, at(61)) == "NodeLost"


def count(job: Job, *pods: Pod, counted: dict[str, int] | None = None, **more: Any) -> dict[str, int]:
    return failures.tally(job, pods, counted=counted or {}, workload=more.get("workload"), now=at(1000))


def test_vanished_pods_are_counted_by_the_job_s_own_tally() -> None:
    crash, store = pod("a", exit_code=1), pod("b", exit_code=75)
    counted = count(replace(JOB, failed=4), crash, store)
    assert counted == {"CandidateCrashes": 1, "Preempted": 3, "StoreUnavailable": 1}


def test_nothing_is_counted_twice() -> None:
    gone, seen = replace(JOB, failed=1), pod("a", exit_code=143, disrupted="PreemptionByScheduler")
    first = count(JOB, seen)
    assert first == {"Preempted": 1}
    assert count(gone, seen, counted=first) == first
    assert count(gone, counted=first) == first


def test_a_lost_node_s_pod_is_no_preemption_once_it_vanished() -> None:
    first = count(JOB, pod("a", phase="Running", deleting=0))
    assert first == {"NodeLost": 1}
    assert count(replace(JOB, failed=1), counted=first) == {"NodeLost": 1}
    assert count(replace(JOB, failed=3), counted=first) == {"NodeLost": 1, "Preempted": 2}


def test_workers_that_a_finished_job_stops_are_no_failures() -> None:
    stopped = pod("a", exit_code=143, deleting=0)
    assert count(replace(JOB, complete=True, failed=1), stopped) == {}


def test_a_smaller_size_is_no_preemption() -> None:
    assert count(JOB, pod("a", exit_code=143, deleting=0)) == {}


def test_earlier_attempts_and_evictions_count() -> None:
    before = replace(JOB, before={"Preempted": 2, "OutOfMemory": 1, "Junk": 7})
    assert count(before, pod(exit_code=66)) == {"OutOfMemory": 2, "Preempted": 2}
    assert count(before, workload=Workload(evictions=3)) == {"OutOfMemory": 1, "Preempted": 5}


def test_three_failures_of_size_are_forgiven_and_the_fourth_is_not() -> None:
    assert failures.spent({"OutOfMemory": 2, "CandidateCrashes": 1, "Preempted": 1000}) is None
    assert failures.spent({"OutOfMemory": 3, "CandidateCrashes": 1}) == "OutOfMemory"
    assert failures.forgiven({"OutOfMemory": 3, "Preempted": 2}) == {"Preempted": 2}


def test_a_refusal_is_known_from_the_job_where_the_pod_is_gone() -> None:
    job = replace(JOB, failure="PodFailurePolicy", message="Container worker for pod a/b failed with exit code 65 …")
    assert (failures.refusal(job, (), at(0)) or ("",))[0] == "DataError"
    assert failures.refusal(replace(job, failure="BackoffLimitExceeded"), (), at(0)) is None


def event(about: str, reason: str, message: str, seconds: float = 0) -> KubeEvent:
    return KubeEvent(about=about, reason=reason, message=message, first=at(seconds), last=at(seconds))


QUOTA = 'pods "x" is forbidden: exceeded quota: gpus, requested: nvidia.com/gpu=4, used: 1, limited: 4'
WEBHOOK = 'admission webhook "validate.acme" denied the request: image is not signed'
SECURITY = 'pods "x" is forbidden: violates PodSecurity "restricted:latest"'
ACCOUNT = 'pods "x" is forbidden: error looking up service account vision/t: serviceaccount "t" not found'


@pytest.mark.parametrize(
    ("message", "reason", "stalls", "failure"),
    [
        (QUOTA, "QuotaWait", False, "QuotaExceeded"),
        (WEBHOOK, "PodRejected", True, "PodRejected"),
        (SECURITY, "PodRejected", True, "PodRejected"),
        (ACCOUNT, "PodRejected", False, None),
        ("the server is busy", "PodRejected", False, None),
    ],
)
def test_refused_pods(message: str, reason: str, stalls: bool, failure: str | None) -> None:
    old, other = event("j1", "FailedCreate", "older", -5), event("j2", "FailedCreate", "another Job's", 99)
    wait = waiting.for_pods(JOB, (), (old, event("j1", "FailedCreate", message), other), at(5))
    assert wait is not None
    assert (wait.reason, wait.stalls, wait.failure) == (reason, stalls, failure)
    assert message in wait.sentence


@pytest.mark.parametrize(
    ("facts", "now", "events", "reason", "stalls"),
    [
        ({"scheduled": False, "unscheduled": "0/3 nodes"}, 5, (), "Unschedulable", False),
        ({"waiting": "InvalidImageName"}, 5, (), "ImagePull", True),
        ({"waiting": "ErrImagePull"}, 600, (), "ImagePull", False),
        ({"waiting": "ImagePullBackOff"}, 601, (), "ImagePull", True),
        ({"waiting": "ErrImageNeverPull"}, 601, (), "ImagePull", True),
        ({"waiting": "ImagePullBackOff"}, 1000, (event("p-uid", "Failed", "x", 500),), "ImagePull", False),
        ({"waiting": "ContainerCreating"}, 30, (event("p-uid", "FailedMount", "x", 1),), "Starting", False),
        ({"waiting": "ContainerCreating"}, 61, (event("p-uid", "FailedMount", "no pvc", 1),), "VolumeMount", False),
        ({"waiting": "ContainerCreating"}, 61, (), "Starting", False),
        ({"waiting": "CreateContainerConfigError", "message": "secret"}, 5, (), "ContainerConfig", False),
        ({}, 5, (), "Starting", False),
    ],
)
def test_what_a_pod_waits_for(facts: dict[str, Any], now: float, events: Any, reason: str, stalls: bool) -> None:
    wait = waiting.for_pods(JOB, (pod(**{"phase": "Pending", **facts}),), events, at(now))
    assert wait is not None
    assert (wait.reason, wait.stalls) == (reason, stalls)


def test_one_ready_worker_is_enough() -> None:
    ready, stuck = pod("a", phase="Running", ready=True), pod("b", phase="Pending", waiting="InvalidImageName")
    assert waiting.for_pods(JOB, (stuck, ready), (), at(0)) is None


def test_a_worker_that_loads_is_told_of_rather_than_one_that_is_stuck() -> None:
    loads, stuck = pod("a", phase="Running"), pod("b", phase="Pending", waiting="ImagePullBackOff")
    wait = waiting.for_pods(JOB, (stuck, loads), (), at(9999))
    assert wait is not None
    assert (wait.reason, wait.stalls) == ("Starting", False)


def test_the_queue_comes_first() -> None:
    job = replace(JOB, queue="gpu", suspended=True)
    wait = waiting.for_quota(job, None)
    assert wait is not None
    assert wait.sentence == "quota: queue gpu has not admitted the Job yet (Kueue)"
    assert waiting.for_quota(replace(job, suspended=False), None) is None


def test_kueue_s_words_are_read_from_the_workload() -> None:
    load = Workload.read(
        {
            "status": {
                "conditions": [
                    {"type": "QuotaReserved", "status": "False", "message": "needs 4, has 1"},
                    {"type": "Evicted", "status": "False", "message": "old"},
                ],
                "schedulingStats": {"evictions": [{"reason": "Preempted", "count": 2}, {"count": "x"}, 3]},
            }
        }
    )
    assert (load.message, load.evictions, load.reserved) == ("needs 4, has 1", 2, False)


@pytest.mark.parametrize("ours", [labels.WORKER, labels.STEWARD])
def test_only_our_own_container_is_read(ours: str) -> None:
    document = pod_document("w", job="j1", phase="Failed", exit_code=75, image_id="r@sha256:1", message="m")
    (box,) = document["status"]["containerStatuses"]
    end = {"exitCode": 0, "reason": "Completed", "message": "not ours"}
    beside = {"name": "istio-proxy", "imageID": "r@sha256:2", "state": {"terminated": end}}
    document["status"]["containerStatuses"] = [beside, {**box, "name": ours}]
    read = Pod.read(document)
    assert (read.exit_code, read.image_id, read.message) == (75, "r@sha256:1", "m")
    document["status"]["containerStatuses"] = [beside]
    assert (Pod.read(document).exit_code, Pod.read(document).image_id) == (None, "")
