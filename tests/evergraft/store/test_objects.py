"""gs and s3 without a server: what clients raise, answers that get lost, and how patience is spent."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from evergraft.errors import (
    EvergraftError,
    NotFoundError,
    PermissionDeniedError,
    StoreFullError,
    StoreUnavailableError,
    UserError,
)
from evergraft.store.clients import Client
from evergraft.store.failures import translate
from evergraft.store.objects import ObjectStore
from evergraft.store.retry import Counters, Retry
from evergraft.store.seam import Landed, Lost, Unknown


@dataclass
class FakeSystem:
    """The few fsspec calls that the store makes; `trouble` is asked before (0) and after (1) each."""

    objects: dict[str, bytes] = field(default_factory=dict)
    trouble: Callable[[str, int], None] = lambda operation, when: None

    def cat_file(self, path: str) -> bytes:
        self.trouble("get", 0)
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]

    def pipe_file(self, path: str, data: bytes, mode: str = "overwrite") -> None:
        self.trouble("put", 0)
        if mode == "create" and path in self.objects:
            raise OSError(errno.EINVAL, "At least one of the pre-conditions you specified did not hold")
        self.objects[path] = data
        self.trouble("put", 1)


class HttpError(Exception):
    """As gcsfs has it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"status {code}")
        self.code = code


@dataclass
class Bench:
    """A store over a fake, with its waits and counts."""

    system: FakeSystem = field(default_factory=FakeSystem)
    waits: list[float] = field(default_factory=list)
    counters: Counters = field(default_factory=Counters)
    made: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        retry = Retry(attempts=4, first_s=0.1, cap_s=0.3, sleep=self.waits.append, chance=lambda: 1.0)
        self.store = ObjectStore("s3://b/g", client=Client(make=self.make), retry=retry, counters=self.counters)

    def make(self) -> Any:
        self.made.append(os.getpid())
        return self.system

    def fail(self, *errors: Exception | None, operation: str = "put", when: int = 0) -> None:
        """Raise these one after another, None for no trouble, then no more."""
        rest = list(errors)

        def trouble(called: str, at: int) -> None:
            if (called, at) == (operation, when) and rest:
                error = rest.pop(0)
                if error is not None:
                    raise error

        self.system.trouble = trouble


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_our_own_write_that_comes_back_as_lost_has_landed(bench: Bench) -> None:
    """The client wrote, missed the answer, tried again inside, and was told that the name is taken."""
    bench.fail(FileExistsError("412"), when=1)
    assert bench.store.put_if_absent("log/1", b"ours") == Landed()
    assert bench.store.put_if_absent("log/1", b"other") == Lost(b"ours")
    assert bench.waits == []


@pytest.mark.parametrize("error", [OSError(errno.EBUSY, "409"), HttpError(429), TimeoutError(), HttpError(503)])
def test_a_create_that_did_not_happen_is_tried_again_under_the_same_name(bench: Bench, error: Exception) -> None:
    bench.fail(error, error)
    assert bench.store.put_if_absent("log/1", b"ours") == Landed()
    assert bench.system.objects == {"b/g/log/1": b"ours"}
    assert bench.waits == [0.1, 0.2]
    assert bench.counters.counts["retry put_if_absent"] == 2


def test_a_create_that_happened_though_the_answer_was_lost_has_landed(bench: Bench) -> None:
    bench.fail(TimeoutError("no answer"), when=1)
    assert bench.store.put_if_absent("log/1", b"ours") == Landed()


def test_no_answer_to_anything_is_unknown(bench: Bench) -> None:
    def dead(operation: str, when: int) -> None:
        raise TimeoutError("no answer")

    bench.system.trouble = dead
    outcome = bench.store.put_if_absent("log/1", b"ours")
    assert isinstance(outcome, Unknown)
    assert "no answer" in outcome.reason
    with pytest.raises(StoreUnavailableError, match="no answer"):
        bench.store.get("log/1")


def test_reads_and_overwrites_are_retried_with_a_capped_backoff(bench: Bench) -> None:
    bench.fail(HttpError(500), HttpError(502), HttpError(503))
    bench.store.put("hint.json", b"x")
    assert bench.waits == [0.1, 0.2, 0.3]
    bench.fail(*[HttpError(500)] * 4, operation="get")
    with pytest.raises(StoreUnavailableError, match=r"s3://b/g/hint\.json: status 500"):
        bench.store.get("hint.json")
    assert bench.counters.counts == {"retry put": 3, "retry get": 3}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermissionError("AccessDenied"), PermissionDeniedError),
        (HttpError(401), PermissionDeniedError),
        (HttpError(403), PermissionDeniedError),
        (OSError("Forbidden: https://…\nno storage.objects.create"), PermissionDeniedError),
        (type("NoCredentialsError", (Exception,), {})("Unable to locate"), PermissionDeniedError),
        (type("DefaultCredentialsError", (Exception,), {})("not found"), PermissionDeniedError),
        (FileNotFoundError("b/g/x"), NotFoundError),
        (HttpError(404), NotFoundError),
        (OSError(errno.ENOSPC, "no space"), StoreFullError),
        (OSError(errno.EIO, "XMinioStorageFull"), StoreFullError),
        (HttpError(507), StoreFullError),
        (type("ParamValidationError", (Exception,), {})("Invalid bucket name"), UserError),
        (ValueError("Invalid endpoint: nowhere"), UserError),
        (HttpError(500), StoreUnavailableError),
        (OSError(errno.EBUSY, "SlowDown"), StoreUnavailableError),
        (ConnectionResetError(), StoreUnavailableError),
        (RuntimeError("anything"), StoreUnavailableError),
        (StoreFullError("ours"), StoreFullError),
    ],
)
def test_what_clients_raise_becomes_an_error_of_ours(error: Exception, kind: type[EvergraftError]) -> None:
    found = translate(error, where="gs://b/g/x")
    assert type(found) is kind
    assert str(found)


@pytest.mark.parametrize("operation", ["put", "put_if_absent"])
def test_what_does_not_pass_is_not_retried(bench: Bench, operation: str) -> None:
    bench.fail(PermissionError("AccessDenied"))
    with pytest.raises(PermissionDeniedError, match="give these credentials the rights"):
        getattr(bench.store, operation)("log/1", b"x")
    bench.fail(FileNotFoundError("NoSuchBucket"))
    with pytest.raises(UserError, match="the bucket b does not exist"):
        getattr(bench.store, operation)("log/1", b"x")
    assert bench.waits == []


def test_a_forbidden_overwrite_of_a_name_that_is_taken_is_a_lost_race(bench: Bench) -> None:
    """A bucket policy may answer 403 where the condition would have answered 412."""
    bench.store.put("log/1", b"theirs")
    bench.fail(PermissionError("AccessDenied"))
    assert bench.store.put_if_absent("log/1", b"ours") == Lost(b"theirs")


def test_a_forked_process_makes_its_own_client(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.store.put("a", b"x")
    bench.store.put("b", b"x")
    assert len(bench.made) == 1
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    bench.store.put("c", b"x")
    assert bench.made == [parent, parent + 1]


def test_waits_are_jittered_between_half_and_all() -> None:
    waits: list[float] = []
    chances = iter([0.0, 0.5, 1.0])
    retry = Retry(first_s=1.0, cap_s=3.0, sleep=waits.append, chance=lambda: next(chances))
    for attempt in range(3):
        retry.wait(attempt)
    assert waits == [0.5, 1.5, 3.0]
