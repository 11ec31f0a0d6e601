"""Which operation fails, and how: the ways of failing, plans that choose them, and what carries them out.

Knows neither the seam nor any client: what it raises is what clients raise, wrapped so that the caller can tell it
from a real failure. No wait is real: a slow call counts its seconds, a stalled one waits for a gate that the test
opens. Called by the faulty store and the faulty client.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NoReturn, TypeVar

Result = TypeVar("Result")

SLOW_S = 20.0
"""How long a slow call takes, by the faults' own count of seconds."""


class Way(enum.StrEnum):
    """How an operation goes wrong."""

    LOST_BEFORE = "lost before"  # it never arrives, and no answer comes
    LOST_AFTER = "lost after"  # it is carried out, and the answer is lost
    TWICE = "twice"  # the network delivers it twice; the second answer is the one that comes
    LATE = "late"  # no answer comes, and it is carried out at some later time: `Faults.deliver`
    HTTP_409 = "409"
    HTTP_412 = "412"  # though no other write holds the name
    HTTP_429 = "429"
    HTTP_500 = "500"
    HTTP_503 = "503"
    TIMEOUT = "timeout"
    SLOW = "slow"
    STALL = "stall"  # it waits at the gate before it is carried out
    FULL = "full"  # no space is left
    TORN = "torn"  # half of it is written and stays: only stores without atomic writes do so


_ANY = frozenset({Way.LOST_BEFORE, Way.HTTP_429, Way.HTTP_500, Way.HTTP_503, Way.TIMEOUT, Way.SLOW, Way.STALL})
_CHANGE = _ANY | {Way.LOST_AFTER, Way.TWICE}
_WRITE = _CHANGE | {Way.FULL, Way.TORN}

WAYS: Mapping[str, frozenset[Way]] = MappingProxyType(
    {
        "get": _ANY,
        "list": _ANY,
        "delete": _CHANGE,
        "put": _WRITE,
        "put_if_absent": _WRITE | {Way.LATE, Way.HTTP_409, Way.HTTP_412},
    }
)
"""The ways in which each operation of the seam can fail."""

ATOMIC = frozenset(Way) - {Way.TORN}
"""What an atomic store may do."""

NO_ANSWER = frozenset({Way.LOST_BEFORE, Way.LOST_AFTER, Way.LATE, Way.TWICE})
"""What makes a write's answer say nothing about the write."""


@dataclass(frozen=True)
class Call:
    """The `number`-th call of its name, counted from 0."""

    name: str
    number: int
    key: str


Plan = Callable[[Call], Way | None]
"""How a call fails; None: it does not."""


def calm(call: Call) -> None:
    """The plan of a day without faults."""
    del call


def nth(name: str, number: int, way: Way) -> Plan:
    """The `number`-th call of `name`, counted from 0, fails once."""
    return listed({(name, number): way})


def listed(faults: Mapping[tuple[str, int], Way]) -> Plan:
    """An explicit list: (name, number) to its way."""
    return lambda call: faults.get((call.name, call.number))


def scripted(ways: Iterable[Way | None]) -> Plan:
    """The next way for each next call, whatever it is; then none."""
    rest = iter(ways)

    def plan(call: Call) -> Way | None:
        del call
        return next(rest, None)

    return plan


def drawn(seed: int, *, chance: float, ways: Collection[Way] = ATOMIC - {Way.STALL}) -> Plan:
    """Each call fails with probability `chance`, in one of `ways` that can befall it."""
    rng = random.Random(seed)

    def plan(call: Call) -> Way | None:
        possible = sorted(WAYS[call.name] & set(ways))
        return rng.choice(possible) if possible and rng.random() < chance else None

    return plan


def every_fault(calls: Iterable[Call], *, ways: Collection[Way] = ATOMIC) -> Iterator[tuple[Call, Way]]:
    """Every way in which each of the recorded calls can fail: the n-th operation fails in way w."""
    for call in calls:
        for way in sorted(WAYS[call.name] & set(ways)):
            yield call, way


class HttpError(Exception):
    """An answer with an error status, as gcsfs raises it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the test kit answers {code}")
        self.code = code


_S3_ERRNO = {409: errno.EBUSY, 412: errno.EINVAL, 429: errno.EBUSY, 500: errno.EREMOTEIO, 503: errno.EBUSY}


def http_error(status: int, *, like: str = "gs") -> Exception:
    """What gcsfs (`like` "gs") or s3fs ("s3") raises for an error status."""
    if like == "s3":
        return OSError(_S3_ERRNO[status], f"the test kit answers {status}")
    return FileExistsError("the test kit answers 412") if status == 412 else HttpError(status)


class Injected(Exception):  # noqa: N818 - not an error of its own: it carries one
    """Carries an `error` that was made up, so that it is never mistaken for a real one."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(eq=False)
class Gate:
    """Where stalled calls wait: `reached` says that one does, `open` lets them go."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    limit_s: float = 60.0

    def open(self) -> None:
        """Let go whoever waits, now and later."""
        self.opened.set()

    def wait(self) -> None:
        """Wait until the gate is open.

        Raises:
            TimeoutError: nobody opened it within `limit_s`.
        """
        self.reached.set()
        if not self.opened.wait(self.limit_s):
            raise TimeoutError("nobody opened the gate")


@dataclass(eq=False)
class Faults:
    """Carries calls out as the plan says, and keeps the record: every call, every fault, writes still under way."""

    plan: Plan = calm
    like: str = "gs"
    gate: Gate = field(default_factory=Gate)
    slept: list[float] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    struck: list[tuple[Call, Way]] = field(default_factory=list)
    late: list[Callable[[], object]] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def carry_out(
        self, name: str, key: str, act: Callable[[], Result], *, torn: Callable[[], object] | None = None
    ) -> Result:
        """Do `act`, or fail. A way that cannot befall the operation, or is torn without `torn`, does not strike.

        Raises:
            Injected: the fault, as a client would raise it.
        """
        way = self._next(name, key, can_tear=torn is not None)
        match way:
            case None:
                return act()
            case Way.SLOW:
                self.slept.append(SLOW_S)
                return act()
            case Way.STALL:
                self.gate.wait()
                return act()
            case Way.TWICE:
                act()
                return act()
            case Way.LOST_AFTER:
                act()
            case Way.LATE:
                self.late.append(act)
            case Way.TORN if torn is not None:
                torn()
        return self._fail(way)

    def deliver(self) -> int:
        """Carry out every write that is late; how many there were. What it is told no longer interests anybody."""
        waiting, self.late = self.late, []
        for act in waiting:
            with contextlib.suppress(OSError):  # a client says so when the name is taken
                act()
        return len(waiting)

    def _next(self, name: str, key: str, *, can_tear: bool) -> Way | None:
        with self._lock:
            call = Call(name, self._counts[name], key)
            self._counts[name] += 1
            self.calls.append(call)
            way = self.plan(call)
            if way not in WAYS[name] or (way is Way.TORN and not can_tear):
                return None
            self.struck.append((call, way))
        return way

    def _fail(self, way: Way) -> NoReturn:
        match way:
            case Way.HTTP_409 | Way.HTTP_412 | Way.HTTP_429 | Way.HTTP_500 | Way.HTTP_503:
                raise Injected(http_error(int(way.value), like=self.like))
            case Way.TIMEOUT:
                raise Injected(TimeoutError("the test kit answers nothing in time"))
            case Way.FULL:
                raise Injected(OSError(errno.ENOSPC, "No space left on device"))
            case _:
                raise Injected(ConnectionResetError(errno.ECONNRESET, "the test kit lost the answer"))
