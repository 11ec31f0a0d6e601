"""Looking at everything: ghosts are pruned and counted, what was missed is taken in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from tests.evergraft_operator.conftest import Api, connected

from evergraft_operator import client as client_module
from evergraft_operator.cache import Cache
from evergraft_operator.client import KubeError
from evergraft_operator.kinds import ACCOUNT, JOB, NAMESPACE, OURS, TASK
from evergraft_operator.metrics import Metrics
from evergraft_operator.relist import Relist
from evergraft_operator.testing.documents import task_document


def run(
    api: Api,
    what: Callable[[Relist, Cache, Metrics], Awaitable[None]],
    *,
    namespaces: tuple[str, ...] = (),
    now: list[float] | None = None,
) -> None:
    async def scenario() -> None:
        cache, metrics, clock = Cache(), Metrics(), now or [0.0]
        async with connected(api, metrics) as client:
            relist = Relist(
                client,
                cache,
                metrics,
                (TASK,),
                namespaces,
                lambda kind, document: cache.see(kind.name, document),
                cache.lose,
                clock=lambda: clock[0],
                settle_s=0,
            )
            await what(relist, cache, metrics)

    asyncio.run(scenario())


def place(api: Api, name: str, namespace: str = "vision") -> str:
    return str(
        api.put(TASK.path(namespace, name), task_document(name, namespace=namespace, uid=name))["metadata"]["uid"]
    )


def test_everything_is_taken_in_page_by_page(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAGE", 2)
    for number in range(5):
        place(api, f"t{number}")

    async def scenario(relist: Relist, cache: Cache, _: Metrics) -> None:
        await relist.fill()
        assert len(cache) == 5

    run(api, scenario)
    assert len(api.requests) == 3


def test_what_vanished_unseen_is_pruned_and_counted(api: Api) -> None:
    place(api, "stays")
    place(api, "goes")

    async def scenario(relist: Relist, cache: Cache, metrics: Metrics) -> None:
        await relist.fill()
        del api.objects[TASK.path("vision", "goes")]
        await relist.look()
        assert [entry.name for entry in cache.each("Task")] == ["stays"]
        assert metrics.cache_pruned._value.get() == 1
        await relist.look()
        assert metrics.cache_pruned._value.get() == 1

    run(api, scenario)


def test_kinds_settle_at_the_same_time_and_one_that_fails_spoils_no_other(api: Api) -> None:
    place(api, "stays")
    place(api, "goes")

    async def scenario(relist: Relist, cache: Cache, _: Metrics) -> None:
        await relist.fill()
        del api.objects[TASK.path("vision", "goes")]
        relist.kinds = (ACCOUNT, TASK, JOB)  # The first is refused.
        relist.settle_s = 0.5
        begun = time.monotonic()
        with pytest.raises(KubeError):
            await relist.look()
        assert time.monotonic() - begun < 0.99
        assert [entry.name for entry in cache.each("Task")] == ["stays"]

    run(api, scenario)


def test_what_is_newer_than_the_list_is_not_pruned(api: Api) -> None:
    async def scenario(relist: Relist, cache: Cache, metrics: Metrics) -> None:
        young = task_document(uid="young")
        young["metadata"]["resourceVersion"] = str(api.version + 1)
        cache.see("Task", young)
        await relist.look()
        assert (len(cache), metrics.cache_pruned._value.get()) == (1, 0)

    run(api, scenario)


def test_a_watch_that_misses_things_ages_until_it_is_in_step(api: Api) -> None:
    now = [0.0]

    async def scenario(relist: Relist, cache: Cache, metrics: Metrics) -> None:
        def age() -> float:
            relist.tell_age()
            return float(metrics.watch_age_seconds.labels("tasks")._value.get())

        await relist.fill()
        now[0] = 300
        place(api, "missed")
        await relist.look()
        assert cache.named("Task", "vision", "missed") is not None
        assert age() == 300
        now[0] = 600
        await relist.look()
        assert age() == 0

    run(api, scenario, now=now)


def test_namespaces_are_listed_one_by_one_and_prune_only_their_own(api: Api) -> None:
    place(api, "a", "one")
    place(api, "b", "two")
    place(api, "c", "three")

    async def scenario(relist: Relist, cache: Cache, _: Metrics) -> None:
        await relist.fill()
        assert sorted(entry.name for entry in cache.each("Task")) == ["a", "b"]
        await relist.look()
        assert sorted(entry.name for entry in cache.each("Task")) == ["a", "b"]

    run(api, scenario, namespaces=("one", "two"))
    assert {path for _, path, _ in api.requests} == {TASK.path("one"), TASK.path("two")}


def test_jobs_are_selected_by_label_and_namespaces_never_by_namespace(api: Api) -> None:
    async def scenario(relist: Relist, *_: object) -> None:
        relist.kinds = (JOB, NAMESPACE)
        await relist.fill()

    run(api, scenario, namespaces=("one",))
    asked = [(path, body["?"].get("labelSelector")) for _, path, body in api.requests]
    assert asked == [(JOB.path("one"), OURS), (NAMESPACE.path(), None)]


def test_what_counts_as_gone_by_a_wrong_answer_comes_back_when_two_looks_list_it(api: Api) -> None:
    uid = place(api, "there")

    async def scenario(relist: Relist, cache: Cache, _: Metrics) -> None:
        await relist.fill()
        cache.lose(uid)  # As after a 404 that something between us and the API server made.
        await relist.look()
        assert cache.get(uid) is None
        await relist.look()
        assert cache.get(uid) is not None
        assert not cache.is_gone(uid)

    run(api, scenario)
