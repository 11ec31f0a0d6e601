"""The bucket policy that the documentation ships, held against a real server: workers work, and cannot destroy.

The server knows neither the condition on If-None-Match nor roles, so the statement with that condition is left out
and users stand for roles; the rest is word for word.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evergraft import names
from evergraft.errors import PermissionDeniedError
from evergraft.names import RunKey
from evergraft.search.engine import run_search
from evergraft.search.events import silent
from evergraft.store import log
from evergraft.store.gc import gc
from evergraft.store.open import open_store
from evergraft.store.options import StoreOptions
from evergraft.store.probe import probe
from evergraft.store.remove import remove_route
from evergraft.store.seam import Store
from evergraft.store.verify import verify
from evergraft.testing.arithmetic import ArithmeticTrainer, init_graph, make_request

POLICY = Path(__file__).resolve().parents[3] / "docs" / "policies" / "s3-bucket-policy.json"
CONDITION = {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}}


def statements() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(POLICY.read_text())["Statement"]
    return found


def test_every_place_that_holds_knowledge_is_named() -> None:
    """A new place in the store must come into the policy, as one where workers overwrite or one where they do not."""
    (creation,) = (statement for statement in statements() if "Condition" in statement)
    assert creation["Condition"] == CONDITION
    places = {
        resource.removeprefix("arn:aws:s3:::BUCKET/PREFIX/").removesuffix("*") for resource in creation["Resource"]
    }
    assert places == {names.GRAPH, names.LOG, names.CHECKPOINTS, names.MODULES, names.ROUTES, names.OPTIMIZER}
    allowed = next(statement for statement in statements() if statement["Sid"] == "CollectorDeletesWhatMayGo")
    deleted = {
        resource.removeprefix("arn:aws:s3:::BUCKET/PREFIX/").removesuffix("*") for resource in allowed["Resource"]
    }
    assert deleted == {names.MODULES, names.ROUTES, names.OPTIMIZER, names.SEARCHES, "probe/"}


@pytest.fixture(scope="module")
def bucket(s3_server: Any) -> Iterator[tuple[Any, str]]:
    """The server with the policy on its bucket, and the prefix that it is about."""
    import botocore.session

    prefix = uuid.uuid4().hex
    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=s3_server.endpoint,
        aws_access_key_id=s3_server.key,
        aws_secret_access_key=s3_server.secret,
        region_name="us-east-1",
    )
    kept = [statement for statement in statements() if "Condition" not in statement]
    text = json.dumps({"Version": "2012-10-17", "Statement": kept})
    text = text.replace("arn:aws:iam::ACCOUNT:role/", "arn:aws:iam::000000000000:user/")
    name = s3_server.url.removeprefix("s3://")
    client.put_bucket_policy(Bucket=name, Policy=text.replace("BUCKET", name).replace("PREFIX", prefix))
    yield s3_server, prefix
    client.delete_bucket_policy(Bucket=name)
    client.close()


def as_identity(bucket: tuple[Any, str], name: str) -> Store:
    server, prefix = bucket
    options = StoreOptions(endpoint=server.endpoint, key=f"{name}-key", secret=f"{name}-secret")
    return open_store(f"{server.url}/{prefix}", options)


@pytest.mark.server
def test_workers_search_and_commit_and_only_the_collector_deletes(bucket: tuple[Any, str]) -> None:
    worker, collector = as_identity(bucket, "evergraft-worker"), as_identity(bucket, "evergraft-gc")
    init_graph(worker)
    for task in ("a/one", "a/two"):
        outcome, _ = run_search(
            worker,
            log.read_graph(worker),
            request=make_request(task),
            make_trainer=ArithmeticTrainer,
            emit=silent,
        )
        assert outcome.kind == "committed"
    folder = names.search_key(names.search_id("a/one", RunKey(1, 1)), "search.json")
    keys = {entry.key for entry in worker.list("")}
    for key in (names.GRAPH, names.log_key(1), names.HINT, folder, *sorted(keys)[-3:]):
        with pytest.raises(PermissionDeniedError, match="give these credentials the rights"):
            worker.delete(key)
    assert {entry.key for entry in worker.list("")} == keys
    probe(lambda url: worker, worker.url)  # leaves its two tiny objects, which the collector takes
    remove_route(worker, "a/two")
    with pytest.raises(PermissionDeniedError):
        gc(worker, grace_s=0.0)
    done = [gc(collector, grace_s=0.0) for _ in range(3)]
    assert sum(step.deleted for step in done) > 0
    assert list(collector.list("probe/")) == []
    assert not any(entry.key == folder for entry in collector.list(names.SEARCHES))
    for key in (names.GRAPH, names.log_key(1)):
        with pytest.raises(PermissionDeniedError):
            collector.delete(key)
    assert verify(worker).findings == ()


@pytest.mark.server
def test_nobody_else_is_let_in(bucket: tuple[Any, str]) -> None:
    server, _ = bucket
    elsewhere = as_identity((server, "another"), "evergraft-worker")
    with pytest.raises(PermissionDeniedError):
        elsewhere.get(names.GRAPH)
    with pytest.raises(PermissionDeniedError):
        elsewhere.put(names.HINT, b"x")
