"""Keys and ids: built one way, and nothing else passes for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergraft import canonical, names
from evergraft.store.keys import check_key

ID = canonical.sha256(b"")


@pytest.mark.parametrize(
    "text",
    ["", ID.upper(), ID[:-1], ID + "0", ID[:-1] + "g", " " + ID[1:], ID[:62] + " 0", ID[:62] + "\n0", "../" + ID[3:]],
)
def test_what_is_no_content_id(text: str) -> None:
    assert names.is_id(ID)
    assert not names.is_id(text)


@given(st.integers(0, 10**20 - 1))
def test_log_keys_are_read_back_and_ordered_like_versions(version: int) -> None:
    assert names.log_version(names.log_key(version)) == version
    assert (names.log_key(version) < names.log_key(7)) == (version < 7)


@pytest.mark.parametrize(
    "key", ["log/1.json", "log/0000000000000000000x.json", "checkpoints/00000000000000000001.json"]
)
def test_what_is_no_log_key(key: str) -> None:
    assert names.log_version(key) is None


def test_every_key_is_one_that_stores_accept() -> None:
    run = names.RunKey(1, 1)
    search = names.search_id("a/task", run)
    for key in (
        names.GRAPH,
        names.HINT,
        names.log_key(1),
        names.checkpoint_key(1),
        names.shard_key(ID),
        names.module_key(ID),
        names.route_key(ID),
        names.optimizer_key(ID),
        names.search_key(search, "search.json"),
        names.slot_key(search, 1, 2, "result.json"),
        names.final_key(search),
    ):
        assert check_key(key) == key


def test_a_search_is_named_by_task_and_run() -> None:
    found = {names.search_id(task, names.RunKey(i, c)) for task in ("a/b", "a/c") for i in (1, 2) for c in (1, 2)}
    assert len(found) == 8
    assert names.search_id("a/b", names.RunKey(1, 1)) == names.search_id("a/b", names.RunKey.parse("i1-c1"))


@pytest.mark.parametrize(
    ("key", "passing"),
    [
        (names.HINT, True),
        ("searches/x/0000-0001/claim-1.json", True),
        ("searches/x/final/beat-12.json", True),
        ("searches/x/0000-0001/result.json", False),
        ("searches/x/0000-0001/state-1.json", False),
        ("searches/x/claim-1.json", False),
        ("log/claim-1.json", False),
        (names.log_key(1), False),
    ],
)
def test_what_says_only_what_goes_on_now(key: str, passing: bool) -> None:
    assert names.is_passing(key) == passing
