"""What every backend must do alike: one suite over memory, files, gs and s3."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from evergraft.errors import NotFoundError, UserError
from evergraft.store.probe import probe
from evergraft.store.seam import Created, Landed, Lost, Store

Clients = Callable[..., Store]


def test_what_is_put_is_got_by_another_client(clients: Clients) -> None:
    clients().put("a/b.json", b"one")
    assert clients().get("a/b.json") == b"one"


def test_put_overwrites_and_readers_see_it_at_once(clients: Clients) -> None:
    writer, reader = clients(), clients()
    writer.put("beat", b"one")
    assert reader.get("beat") == b"one"
    writer.put("beat", b"two, and longer")
    assert reader.get("beat") == b"two, and longer"


def test_empty_and_large_objects_come_back_whole(store: Store) -> None:
    large = bytes(range(256)) * 24_000
    store.put("empty", b"")
    assert isinstance(store.put_if_absent("large", large), Landed)
    assert store.get("empty") == b""
    assert store.get("large") == large


@pytest.mark.parametrize("key", ["absent", "a/absent", "a/b.json/below"])
def test_an_absent_key_is_not_found(store: Store, key: str) -> None:
    store.put("a/b.json", b"")
    with pytest.raises(NotFoundError, match="does not exist"):
        store.get(key)


def test_what_was_absent_is_seen_once_it_is_there(clients: Clients) -> None:
    reader = clients()
    with pytest.raises(NotFoundError):
        reader.get("log/0")
    assert list(reader.list("log/")) == []
    clients().put("log/0", b"x")
    assert reader.get("log/0") == b"x"
    assert [entry.key for entry in reader.list("log/")] == ["log/0"]


def test_the_first_create_lands_and_the_second_learns_who_won(clients: Clients) -> None:
    first, second = clients(), clients()
    assert first.put_if_absent("log/1", b"first") == Landed()
    assert second.put_if_absent("log/1", b"second") == Lost(b"first")
    assert first.get("log/1") == b"first"


def test_creating_again_with_our_own_bytes_is_our_own_write(clients: Clients) -> None:
    assert clients().put_if_absent("log/1", b"ours") == Landed()
    assert clients().put_if_absent("log/1", b"ours") == Landed()


def test_a_deleted_name_can_be_created_again(store: Store) -> None:
    store.put_if_absent("a", b"one")
    store.delete("a")
    with pytest.raises(NotFoundError):
        store.get("a")
    assert store.put_if_absent("a", b"two") == Landed()


def test_deleting_what_is_not_there_is_no_error(store: Store) -> None:
    store.delete("absent")
    store.delete("a/b/absent")


def test_of_eight_racers_one_wins_and_all_agree_who(clients: Clients) -> None:
    racers = [clients(), clients()] * 4
    for key in ("race/1", "race/2", "race/3"):
        create = functools.partial(_create, racers, key)
        with ThreadPoolExecutor(max_workers=8) as pool:
            outcomes = list(pool.map(create, range(8)))
        winners = [n for n, outcome in enumerate(outcomes) if outcome == Landed()]
        assert len(winners) == 1
        assert [outcome for outcome in outcomes if outcome != Landed()] == [Lost(b"racer %d" % winners[0])] * 7


def _create(racers: list[Store], key: str, number: int) -> Created:
    return racers[number].put_if_absent(key, b"racer %d" % number)


def test_listing_is_by_prefix_ordered_and_says_size_and_time(store: Store) -> None:
    before = time.time()
    for key in ("log/2", "log/10", "logs/1", "log/sub/1", "lo"):
        store.put(key, b"x" * len(key))
    entries = list(store.list("log/"))
    assert [entry.key for entry in entries] == ["log/10", "log/2", "log/sub/1"]
    assert [entry.size for entry in entries] == [6, 5, 9]
    assert all(before - 5 <= entry.modified <= time.time() + 5 for entry in entries)
    assert [entry.key for entry in store.list("log")] == ["log/10", "log/2", "log/sub/1", "logs/1"]
    assert [entry.key for entry in store.list("log/1")] == ["log/10"]
    assert [entry.key for entry in store.list("")] == ["lo", "log/10", "log/2", "log/sub/1", "logs/1"]
    assert list(store.list("absent/")) == []


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", ".hidden", "a/.b", "a\\b", "a\0b", "a/", "a/\udcff"]
)
def test_a_key_never_leaves_the_root(store: Store, key: str) -> None:
    for act in (store.get, store.delete, lambda k: store.put(k, b""), lambda k: store.put_if_absent(k, b"")):
        with pytest.raises(UserError, match="is no key"):
            act(key)


def test_the_probe_passes_and_leaves_nothing(clients: Clients) -> None:
    store = clients()
    probe(lambda url: clients(), store.url)
    assert list(store.list("")) == []


def test_the_url_is_told_without_credentials(store: Store) -> None:
    assert "test-secret" not in store.url + repr(store.__dict__)
    assert not store.url.endswith("/")
