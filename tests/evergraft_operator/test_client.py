"""Requests to the API server: what is retried, what each answer means, what is counted, and who may not write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from tests.evergraft_operator.conftest import Api, connected, failure

from evergraft_operator import client as client_module
from evergraft_operator.client import (
    Client,
    ConflictedError,
    KubeError,
    MissingError,
    RefusedError,
    UnreachableError,
)
from evergraft_operator.kinds import GRAPH, JOB, NAMESPACE, POD, TASK
from evergraft_operator.lease import NotLeadingError
from evergraft_operator.metrics import Metrics

PATH = TASK.path("vision", "cifar10")


def use(api: Api, what: Callable[[Client], Awaitable[Any]], **more: Any) -> Any:
    async def scenario() -> Any:
        async with connected(api, **more) as client:
            return await what(client)

    return asyncio.run(scenario())


def test_paths_are_those_of_kubernetes() -> None:
    assert PATH == "/apis/evergraft.dev/v1alpha1/namespaces/vision/tasks/cifar10"
    assert POD.path("a", "b", "status") == "/api/v1/namespaces/a/pods/b/status"
    assert JOB.path() == "/apis/batch/v1/jobs"
    assert NAMESPACE.path("a", "b") == "/api/v1/namespaces/b"
    assert JOB.path("a", "../../secrets/x") == "/apis/batch/v1/namespaces/a/jobs/..%2F..%2Fsecrets%2Fx"


def test_an_object_is_read_as_it_is(api: Api) -> None:
    api.put(PATH, {"spec": {"a": 1}})
    assert use(api, lambda client: client.get(TASK, "vision", "cifar10"))["spec"] == {"a": 1}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RefusedError),
        (403, RefusedError),
        (404, MissingError),
        (409, ConflictedError),
        (410, RefusedError),
        (422, RefusedError),
        (401, UnreachableError),
        (429, UnreachableError),
        (500, UnreachableError),
        (503, UnreachableError),
        (504, UnreachableError),
    ],
)
def test_answers_are_told_apart(status: int, error: type[KubeError], api: Api) -> None:
    api.broken = [failure(status, "because\x1b of it") for _ in range(3)]
    with pytest.raises(error, match="because of it") as caught:
        use(api, lambda client: client.create(TASK, "vision", {"metadata": {"name": "x"}}))
    assert type(caught.value) is error
    assert caught.value.status == status
    assert len(api.requests) == (3 if error is UnreachableError else 1)


def test_a_conflict_about_another_s_fields_is_no_older_version(api: Api) -> None:
    """As the API server words it; to read the object once more would not mend it."""
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl"', "field": ".status.phase"}
    body = {"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409, "details": {"causes": [cause]}}
    api.broken = [web.json_response(body, status=409)]
    with pytest.raises(RefusedError) as caught:
        use(api, lambda client: client.apply_status(TASK, "vision", {"metadata": {"name": "x"}, "status": {}}))
    assert caught.value.status == 409


def test_what_the_world_did_is_tried_again(api: Api) -> None:
    api.put(PATH, {})
    api.broken = [failure(503), failure(429, "later", **{"Retry-After": "0.02"})]
    metrics = Metrics()
    assert use(api, lambda client: client.get(TASK, "vision", "cifar10"), metrics=metrics)
    counted = [metrics.kube_requests.labels("get", "tasks", code)._value.get() for code in ("503", "429", "200")]
    assert counted == [1, 1, 1]


def test_no_answer_in_time_is_no_answer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "TIMEOUT_S", 0.05)
    api.put(PATH, {})
    api.broken = [5.0, 5.0]
    metrics = Metrics()
    assert use(api, lambda client: client.get(TASK, "vision", "cifar10"), metrics=metrics)
    assert metrics.kube_requests.labels("get", "tasks", "timeout")._value.get() == 2


def test_nobody_there_is_said_with_the_path() -> None:
    async def scenario() -> None:
        async with connected(Api()) as client:
            client._transport.configuration.host = "http://127.0.0.1:1"
            with pytest.raises(UnreachableError, match=r"GET /apis/batch/v1/namespaces/a/jobs/b: no answer"):
                await client.get(JOB, "a", "b")

    asyncio.run(scenario())


def test_html_of_a_proxy_is_an_error_with_a_few_words(api: Api) -> None:
    api.broken = [web.Response(text="<html>" + "x" * 5000, status=502) for _ in range(3)]
    with pytest.raises(UnreachableError) as caught:
        use(api, lambda client: client.get(TASK, "vision", "cifar10"))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("verb", ["create", "merge", "apply_status", "replace", "delete"])
def test_who_does_not_lead_writes_nothing(verb: str, api: Api) -> None:
    def guard() -> None:
        raise NotLeadingError

    document = {"metadata": {"name": "x"}}
    arguments: dict[str, tuple[Any, ...]] = {
        "create": (JOB, "a", document),
        "merge": (JOB, "a", "x", {}),
        "apply_status": (TASK, "a", document),
        "replace": (JOB, "a", "x", document),
        "delete": (JOB, "a", "x"),
    }
    more = {"uid": "u"} if verb == "delete" else {}
    with pytest.raises(NotLeadingError):
        use(api, lambda client: getattr(client.guarded(guard), verb)(*arguments[verb], **more))
    assert api.requests == []


def test_a_write_that_is_tried_again_asks_again_whether_it_may(api: Api) -> None:
    answers = iter([None, NotLeadingError()])

    def guard() -> None:
        if (error := next(answers)) is not None:
            raise error

    api.broken = [failure(503)]
    with pytest.raises(NotLeadingError):
        use(api, lambda client: client.guarded(guard).create(JOB, "a", {"metadata": {"name": "x"}}))
    assert len(api.requests) == 1


def test_lists_come_page_by_page(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAGE", 2)
    for number in range(5):
        api.put(JOB.path("a", f"j{number}"), {"metadata": {"labels": {"mine": "yes" if number else "no"}}})

    async def read(client: Client) -> list[list[str]]:
        pages = client.pages(JOB, labels="mine=yes")
        return [[item["metadata"]["name"] for item in page.items] async for page in pages]

    assert use(api, read) == [["j1", "j2"], ["j3", "j4"]]


def test_the_status_is_applied_whole_by_one_owner(api: Api) -> None:
    api.put(PATH, {"status": {"old": 1}})
    document = {"metadata": {"name": "cifar10"}, "status": {"new": 2}}
    assert use(api, lambda client: client.apply_status(TASK, "vision", document))["status"] == {"new": 2}
    method, path, body = api.requests[0]
    assert (method, path) == ("PATCH", f"{PATH}/status")
    assert body["?"] == {"fieldManager": "evergraft-operator", "force": "true"}


def test_whether_a_kind_is_served(api: Api) -> None:
    async def served(client: Client) -> list[bool]:
        return [await client.served(kind) for kind in (TASK, GRAPH)]

    assert use(api, served) == [False, False]
    api.objects["/apis/evergraft.dev/v1alpha1"] = {"resources": [{"name": "tasks"}, 5]}
    assert use(api, served) == [True, False]
