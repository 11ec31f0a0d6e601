"""Events: written once in ten minutes, counted when repeated, never in the way."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable

import pytest
from tests.evergraft_operator.conftest import Api, connected, failure

from evergraft_operator import recorder as recorder_module
from evergraft_operator.events import Event
from evergraft_operator.kinds import EVENT, TASK
from evergraft_operator.lease import NotLeadingError
from evergraft_operator.observed import Thing
from evergraft_operator.recorder import QUIET_S, Recorder
from evergraft_operator.testing.documents import START, task_document

THING = Thing.read(task_document())
EVENT_SEEN = Event("Committed", "run i1-c1: its route serves")


class Time:
    now = 0.0

    def clock(self) -> float:
        return self.now

    def today(self) -> datetime.datetime:
        return START + datetime.timedelta(seconds=self.now)


def record(api: Api, time: Time, what: Callable[[Callable[[], Recorder]], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with connected(api) as client:
            await what(lambda: Recorder(client, "me", clock=time.clock, today=time.today))

    asyncio.run(scenario())


def test_an_event_says_about_whom_and_what(api: Api) -> None:
    record(api, Time(), lambda make: make().record(TASK, THING, EVENT_SEEN))
    (found,) = api.objects.values()
    assert found["involvedObject"] | {} == {
        "apiVersion": "evergraft.dev/v1alpha1",
        "kind": "Task",
        "namespace": "vision",
        "name": "cifar10",
        "uid": "task-uid",
    }
    assert (found["reason"], found["message"], found["type"], found["count"]) == (
        "Committed",
        "run i1-c1: its route serves",
        "Normal",
        1,
    )
    assert (found["metadata"]["namespace"], found["firstTimestamp"]) == ("vision", "2026-03-01T12:00:00Z")


def test_the_same_again_is_written_once_in_ten_minutes_and_then_counted(api: Api) -> None:
    time = Time()

    async def scenario(make: Callable[[], Recorder]) -> None:
        recorder = make()
        for second in (0, 10, QUIET_S - 1, QUIET_S + 1):
            time.now = second
            await recorder.record(TASK, THING, EVENT_SEEN)

    record(api, time, scenario)
    assert [method for method, _ in api.writes()] == ["POST", "POST", "PATCH"]
    (found,) = api.objects.values()
    assert (found["count"], found["lastTimestamp"]) == (2, "2026-03-01T12:10:01Z")


def test_a_restarted_operator_does_not_repeat_itself(api: Api) -> None:
    time = Time()

    async def scenario(make: Callable[[], Recorder]) -> None:
        await make().record(TASK, THING, EVENT_SEEN)
        time.now = 30
        await make().record(TASK, THING, EVENT_SEEN)

    record(api, time, scenario)
    (found,) = api.objects.values()
    assert found["count"] == 1


def test_other_words_and_other_objects_are_other_events(api: Api) -> None:
    async def scenario(make: Callable[[], Recorder]) -> None:
        recorder = make()
        await recorder.record(TASK, THING, EVENT_SEEN)
        await recorder.record(TASK, THING, Event("Committed", "run i2-c1: its route serves"))
        await recorder.record(TASK, Thing.read(task_document(uid="other")), EVENT_SEEN)

    record(api, Time(), scenario)
    assert len(api.objects) == 3


def test_an_event_that_cannot_be_written_holds_nothing_up(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.broken = [failure(403, "namespace is being terminated")]
    record(api, Time(), lambda make: make().record(TASK, THING, EVENT_SEEN))
    assert api.objects == {}
    assert "being terminated" in caplog.text


def test_who_does_not_lead_records_nothing(api: Api) -> None:
    def guard() -> None:
        raise NotLeadingError

    async def scenario() -> None:
        async with connected(api) as client:
            with pytest.raises(NotLeadingError):
                await Recorder(client.guarded(guard), "me").record(TASK, THING, EVENT_SEEN)

    asyncio.run(scenario())
    assert EVENT.path("vision") not in [path for _, path in api.writes()]


def test_what_is_remembered_has_a_bound_and_the_oldest_goes_first(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MAX_REMEMBERED", 3)

    async def scenario(make: Callable[[], Recorder]) -> None:
        recorder = make()
        for number in (1, 2, 3, 4, 5):
            await recorder.record(TASK, THING, Event("Committed", f"run i{number}-c1"))
        assert [message for _, _, message in recorder._told] == ["run i3-c1", "run i4-c1", "run i5-c1"]

    record(api, Time(), scenario)
