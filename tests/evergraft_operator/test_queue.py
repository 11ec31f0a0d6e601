"""The work queue: each key once, never twice at the same time, failures later and later."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergraft_operator.queue import (
    FIRST_BACKOFF_S,
    MAX_BACKOFF_S,
    REST_S,
    SPARE_ROWS,
    Queue,
    QueueClosedError,
    Schedule,
)


def test_a_key_that_is_added_often_is_given_out_once() -> None:
    schedule: Schedule[str] = Schedule()
    for _ in range(3):
        schedule.add("a", 0)
    assert schedule.take(1) == ("a", 0)
    assert schedule.take(1) is None


def test_the_earliest_time_counts() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 50)
    schedule.add("a", 10)
    schedule.add("a", 90)
    assert (schedule.take(9), schedule.next_due()) == (None, 10)
    assert schedule.take(10) == ("a", 10)
    assert schedule.next_due() is None


def test_keys_come_in_the_order_in_which_they_are_due() -> None:
    schedule: Schedule[str] = Schedule()
    for key, due in (("c", 3), ("a", 1), ("b", 2), ("d", 3)):
        schedule.add(key, due)
    assert [found[0] for _ in range(4) if (found := schedule.take(5))] == ["a", "b", "c", "d"]


def test_a_key_at_work_waits_for_its_end_and_rests_a_little() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 0)
    assert schedule.take(0)
    schedule.add("a", 0)
    assert (schedule.take(5), schedule.next_due()) == (None, None)
    schedule.done("a", 5)
    assert schedule.take(5) is None
    assert schedule.take(5 + REST_S) == ("a", 5 + REST_S)


def test_failures_come_later_and_later_up_to_a_cap_and_success_forgets_them() -> None:
    schedule: Schedule[str] = Schedule()
    pauses = [schedule.failed("a", 0) for _ in range(40)]
    assert pauses[:4] == [FIRST_BACKOFF_S * 2**n for n in range(4)]
    assert max(pauses) == pauses[-1] == MAX_BACKOFF_S
    schedule.succeeded("a")
    assert schedule.failed("a", 0) == FIRST_BACKOFF_S


def test_a_change_does_not_wait_for_the_end_of_a_backoff() -> None:
    schedule: Schedule[str] = Schedule()
    now = 0.0
    for _ in range(10):
        schedule.add("a", now)
        assert schedule.take(now) == ("a", now)
        now += schedule.failed("a", now)
        schedule.done("a", now)
        assert schedule.take(now + REST_S) is not None
        schedule.done("a", now)
    schedule.failed("a", now)
    schedule.add("a", now + 1)
    assert schedule.take(now + 1) == ("a", now + 1)


STEP = st.tuples(st.sampled_from("atdfc"), st.sampled_from("xyz"), st.floats(0, 5))


@given(st.lists(STEP, max_size=80))
def test_whatever_happens_no_key_runs_twice_or_is_lost(steps: list[tuple[str, str, float]]) -> None:
    """Against a plain model: what was added since it was last given out is given out again."""
    schedule: Schedule[str] = Schedule()
    now, wanted, running = 0.0, set[str](), set[str]()
    for what, key, seconds in steps:
        now += seconds
        if what == "a":
            schedule.add(key, now)
            wanted.add(key)
        elif what == "t" and (found := schedule.take(now)) is not None:
            assert found[0] not in running
            assert found[1] <= now
            running.add(found[0])
            wanted.discard(found[0])
        elif what in "df" and key in running:
            if what == "f":
                schedule.failed(key, now)
                wanted.add(key)
            running.discard(key)
            schedule.done(key, now)
    for key in running:
        schedule.done(key, now)
    left = set()
    while (due := schedule.next_due()) is not None:
        found = schedule.take(due)
        assert found is not None
        left.add(found[0])
        schedule.done(found[0], due)
    assert left == wanted


def test_workers_share_the_keys_and_end_when_the_queue_is_closed() -> None:
    async def scenario() -> list[str]:
        queue: Queue[str] = Queue()
        seen: list[str] = []

        async def work() -> None:
            while True:
                try:
                    key, waited = await queue.take()
                except QueueClosedError:
                    return
                assert waited >= 0
                seen.append(key)
                queue.done(key)

        workers = [asyncio.create_task(work()) for _ in range(3)]
        queue.add("later", 0.02)
        for name in "abc":
            queue.add(name)
        while len(seen) < 4:
            await asyncio.sleep(0.005)
        queue.close()
        await asyncio.wait_for(asyncio.gather(*workers), 1)
        return seen

    seen = asyncio.run(scenario())
    assert (sorted(seen), seen[-1]) == (["a", "b", "c", "later"], "later")


def test_a_queue_that_is_cleared_gives_nothing_out() -> None:
    async def scenario() -> None:
        queue: Queue[str] = Queue()
        queue.add("a")
        assert queue.depth() == 1
        queue.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await queue.take()

    asyncio.run(scenario())


def test_a_key_whose_work_was_cut_off_is_given_out_again_after_a_clear() -> None:
    """As when the lead is lost while a reconcile is under way, and taken back."""
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 0)
    assert schedule.take(0) == ("a", 0)
    schedule.clear()
    schedule.add("a", 1)
    assert schedule.take(1) == ("a", 1)


def test_a_key_due_far_off_that_changes_all_the_time_takes_no_room() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("other", 5e8)
    for now in range(3 * SPARE_ROWS):
        schedule.add("a", now + 604_800)
        schedule.add("a", now)
        assert schedule.take(now) == ("a", now)
        schedule.done("a", now)
    assert len(schedule._heap) <= SPARE_ROWS + 10
    assert (schedule.next_due(), schedule.depth(5e8)) == (5e8, 1)
