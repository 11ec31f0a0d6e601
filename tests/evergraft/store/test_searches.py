"""A search's documents: the first stands, and whoever asks gets the one that stands."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from evergraft import canonical
from evergraft.errors import DataError, FormatError, IntegrityError, StoreUnavailableError
from evergraft.store.seam import Store, Unknown
from evergraft.store.searches import MAX_BYTES, PLAIN_BYTES, WRITE_ID, get_json, put_json_if_absent
from evergraft.testing.faults import FaultyStore

KEY = "searches/ab/search.json"


def test_the_first_document_stands(clients: Callable[[], Store]) -> None:
    first, second = clients(), clients()
    ours = put_json_if_absent(first, KEY, {"seed": 1})
    assert put_json_if_absent(second, KEY, {"seed": 2}) == ours
    assert get_json(second, KEY, "search") == ours
    assert (ours["seed"], ours["format"]) == (1, 1)


def test_of_equal_documents_too_one_writer_is_told_from_the_other(memory: Store) -> None:
    ours = put_json_if_absent(memory, KEY, {"seed": 1})
    theirs = put_json_if_absent(memory, KEY, {"seed": 1})
    assert theirs[WRITE_ID] == ours[WRITE_ID]
    assert put_json_if_absent(memory, "searches/ab/other", {"seed": 1})[WRITE_ID] != ours[WRITE_ID]


def test_racers_agree_on_one_document(store: Store) -> None:
    with ThreadPoolExecutor(max_workers=6) as pool:
        found = list(pool.map(lambda number: put_json_if_absent(store, KEY, {"by": number}), range(6)))
    assert all(document == found[0] for document in found)


def test_no_document_is_none(store: Store) -> None:
    assert get_json(store, KEY, "search") is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1]",
        b"{}",
        b'{"format": 1',
        b'{"format": 1, "x": Infinity}',
        b'{"format": 1, "x": -1e999}',
        b'{"format": 1, "x": 1' + b"0" * 400 + b".5}",
        b'{"format": 1, "x": "\\ud800"}',
        b'{"format": 1, "\\uDFFF": 1}',
        b'{"format": 1, "x": "\xed\xa0\x80"}',
        b"\xff\xfe",
        b"[" * 99999,
    ],
)
def test_what_is_no_document_is_refused_by_name(memory: Store, data: bytes) -> None:
    memory.put(KEY, data)
    with pytest.raises(IntegrityError, match=r"search .*search\.json"):
        get_json(memory, KEY, "search")
    with pytest.raises(IntegrityError):
        put_json_if_absent(memory, KEY, {})


@pytest.mark.parametrize(("written", "read"), [("\\ud83c\\udf31", "🌱"), ("\\\\ud800", "\\ud800"), ("é", "é")])
def test_letters_may_be_escaped(memory: Store, written: str, read: str) -> None:
    memory.put(KEY, b'{"format": 1, "x": "%s", "y": 1.5e308}' % written.encode())
    assert get_json(memory, KEY, "search") == {"format": 1, "x": read, "y": 1.5e308}


def test_a_newer_format_and_too_much_are_refused(memory: Store) -> None:
    memory.put(KEY, canonical.dumps({"format": 2}))
    with pytest.raises(FormatError, match="format 2 is newer"):
        get_json(memory, KEY, "search")
    memory.put(KEY, canonical.dumps({"format": 1, "text": "x" * 1000}))
    with pytest.raises(IntegrityError, match="more than the 1000"):
        get_json(memory, KEY, "search", max_bytes=1000)


def test_no_answer_says_that_running_again_is_safe(memory: Store) -> None:
    silent = FaultyStore(memory, after=lambda key, outcome: Unknown("timed out"))
    with pytest.raises(StoreUnavailableError, match=r"may or may not be written \(timed out\); run again"):
        put_json_if_absent(silent, KEY, {})


def test_what_nobody_could_read_is_not_written(memory: Store) -> None:
    value = {WRITE_ID: "ours", "text": "x" * 1000}
    size = len(canonical.dumps({"format": 1, **value}))
    with pytest.raises(DataError, match=rf"search\.json: it would have {size} bytes, more than the {size - 1}"):
        put_json_if_absent(memory, KEY, value, max_bytes=size - 1)
    assert get_json(memory, KEY, "search") is None
    ours = put_json_if_absent(memory, KEY, value, max_bytes=size)
    assert get_json(memory, KEY, "search", max_bytes=size) == ours


@pytest.mark.parametrize("length", [10, PLAIN_BYTES, MAX_BYTES])
def test_a_large_document_may_be_deflated_and_a_small_one_stays_plain(memory: Store, length: int) -> None:
    limits: dict[str, Any] = {"max_bytes": 1 << 30, "deflated": True}
    ours = put_json_if_absent(memory, KEY, {"text": "x" * length}, **limits)
    data = memory.get(KEY)
    assert (data[:1] == b"{") == (length == 10)
    assert len(data) < PLAIN_BYTES
    assert get_json(memory, KEY, "search", **limits) == ours
    assert put_json_if_absent(memory, KEY, {"text": "other"}, **limits) == ours


def test_a_document_that_inflates_to_too_much_is_refused(memory: Store) -> None:
    memory.put(KEY, zlib.compress(b'{"format":1,"text":"' + b"x" * 100_000 + b'"}'))
    with pytest.raises(IntegrityError, match=r"search .*: it grows to more than the 1000 bytes"):
        get_json(memory, KEY, "search", max_bytes=1000, deflated=True)
    with pytest.raises(IntegrityError, match=r"search .*: no JSON"):
        get_json(memory, KEY, "search")
    memory.put(KEY, memory.get(KEY)[:-9])
    with pytest.raises(IntegrityError, match=r"search .*: no JSON, or its end is missing"):
        get_json(memory, KEY, "search", deflated=True)
