"""Which stores share objects, and that a graph finds those that matter to it without looking at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evergraft_operator.test_graphs import conditions

from evergraft_operator.cache import Cache, Entry
from evergraft_operator.client import Client
from evergraft_operator.facts import GraphFacts
from evergraft_operator.graphs import reconcile_graph
from evergraft_operator.kinds import Key
from evergraft_operator.notes import Notes
from evergraft_operator.observe import Observer
from evergraft_operator.places import StorePlace, store_place
from evergraft_operator.routing import neighbours
from evergraft_operator.settings import Settings
from evergraft_operator.testing.documents import at, graph_document


def place(url: str, namespace: str = "ml", **more: Any) -> StorePlace:
    found = store_place(namespace, {"store": {"url": url, **more}})
    assert found is not None
    return found


def volume(path: str | None, name: str = "graphs", namespace: str = "ml") -> StorePlace:
    claim = {"claimName": name} if path is None else {"claimName": name, "path": path}
    found = store_place(namespace, {"store": {"persistentVolumeClaim": claim}})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (place("s3://b/graphs"), place("s3://b/graphs/")),
        (place("s3://b/graphs"), place("S3://B//graphs", namespace="other")),
        (place("s3://b/graphs"), place("s3://b/graphs/a")),
        (place("s3://b/graphs/a/b"), place("s3://b")),
        (place("s3://b/g", endpoint="https://Minio.acme/"), place("s3://b/g", endpoint="http://minio.acme:80")),
        (place("s3://b/g", endpoint="https://s3.eu-west-1.amazonaws.com"), place("s3://b/g")),
        (place("gs://b/g", endpoint="https://storage.googleapis.com"), place("gs://b/g/x")),
        (volume(None), volume("a")),
        (volume("./a//b"), volume("a/b/")),
        (volume("a/b"), volume("a")),
    ],
)
def test_these_share_objects(one: StorePlace, two: StorePlace) -> None:
    assert one.overlaps(two)
    assert two.overlaps(one)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (place("s3://b/graphs"), place("s3://b/graphs2")),
        (place("s3://b/graphs"), place("s3://b/Graphs")),
        (place("s3://b/a/x"), place("s3://b/b/x")),
        (place("s3://b/g"), place("gs://b/g")),
        (place("s3://b"), place("s3://bb")),
        (place("s3://b/g", endpoint="https://minio.acme"), place("s3://b/g")),
        (place("s3://b/g", endpoint="https://minio.acme"), place("s3://b/g", endpoint="https://minio.acme:9000")),
        (place("s3://b/g", endpoint="https://notamazonaws.com"), place("s3://b/g")),
        (volume("a"), volume("ab")),
        (volume("a"), volume("a", name="other")),
        (volume("a"), volume("a", namespace="vision")),
    ],
)
def test_these_do_not(one: StorePlace, two: StorePlace) -> None:
    assert not one.overlaps(two)
    assert not two.overlaps(one)


@pytest.mark.parametrize("spec", [{}, {"store": 5}, {"store": {"url": "/tmp/x"}}, {"store": {"url": None}}])
def test_what_names_no_bucket_is_nowhere(spec: dict[str, Any]) -> None:
    assert store_place("ml", spec) is None


def graph(number: int, url: str, **spec: Any) -> dict[str, Any]:
    """The graph of that number; the lower, the older."""
    document = graph_document(uid=f"u{number:04}", name=f"g{number}", store={"url": url}, **spec)
    document["metadata"]["resourceVersion"] = "1"
    return document


def cached(*urls: str) -> Cache:
    cache = Cache()
    for number, url in enumerate(urls):
        cache.see("ModuleGraph", graph(number, url))
    return cache


def facts_of(cache: Cache, number: int) -> GraphFacts:
    entry = cache.named("ModuleGraph", "ml", f"g{number}")
    assert entry is not None
    assert isinstance(entry.facts, GraphFacts)
    return entry.facts


folders = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(lambda names: "/".join(("s3://b", *names)))


@given(st.lists(folders, max_size=8))
def test_the_index_finds_exactly_those_that_share_objects(urls: list[str]) -> None:
    cache = cached(*urls)
    for number, url in enumerate(urls):
        found = [entry.name for entry in neighbours(facts_of(cache, number), cache)]
        assert found == [f"g{n}" for n, other in enumerate(urls) if place(other).overlaps(place(url))]
    for number in range(len(urls)):
        cache.lose(f"u{number:04}")
    assert not cache._rows


def seen_by(cache: Cache) -> Observer:
    client: Client = None  # type: ignore[assignment]  # nothing is read live
    return Observer(cache, client, Notes(), Settings(), lambda *_: None, lambda *_: None)


@pytest.mark.parametrize("url", ["s3://b/{}", "s3://b/same", "s3://b/{}/deeper/{}"])
def test_with_many_graphs_each_unpacks_itself_and_its_elder(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cached(*(url.format(number, number) for number in range(100)))
    unpacked: list[str] = []
    unpack = Entry.document

    def document(entry: Entry) -> dict[str, Any]:
        unpacked.append(entry.name)
        return unpack(entry)

    monkeypatch.setattr(Entry, "document", document)
    observer = seen_by(cache)
    for number in range(100):
        observer.graph(Key("ModuleGraph", "ml", f"g{number}"))
    assert len(unpacked) <= 200


def test_an_elder_that_is_refused_itself_is_in_the_way_and_one_that_is_wrong_is_not() -> None:
    """The middle one overlaps both; were the youngest let in, it would be in its way when the oldest goes."""
    cache = cached("s3://b/g/x", "s3://b/g", "s3://b/g/z")

    def state(number: int) -> tuple[str, str]:
        observed = seen_by(cache).graph(Key("ModuleGraph", "ml", f"g{number}"))
        assert observed is not None
        ready = conditions(reconcile_graph(observed, at(0)))["Ready"]
        return ready.reason, ready.message

    assert [state(number)[0] for number in range(3)] == ["Initialized", "StoreTaken", "StoreTaken"]
    assert "ml/g0" in state(1)[1]
    assert "ml/g1" in state(2)[1]
    wrong = graph(1, "s3://b/g", root={"backbone": "magic", "seed": 0})
    wrong["metadata"]["resourceVersion"] = "2"
    cache.see("ModuleGraph", json.loads(json.dumps(wrong)))
    assert state(2)[0] == "Initialized"
