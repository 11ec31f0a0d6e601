"""What a worker is given: EVERGRAFT_SPEC and its mistakes, and that credentials stay with the place they are for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evergraft import canonical
from evergraft.api.resolved import ResolvedDataset
from evergraft.cli import main
from evergraft.errors import FormatError, SpecError, UserError
from evergraft.search.events import silent
from evergraft.search.folder import Folder
from evergraft.store.access import Access
from evergraft.store.memory import MemoryStore
from evergraft.testing.arithmetic import make_request
from evergraft_trainer.assignment import Assignment, read_orders, read_request
from evergraft_trainer.device import open_device
from evergraft_trainer.trainer import TorchTrainer

REQUEST = make_request("a/one")


def spec(**more: Any) -> str:
    fields = {
        "run": "i1-c1",
        "spec": REQUEST.spec.to_json(),
        "specHash": REQUEST.spec_hash,
        "taskHash": REQUEST.task_hash,
    }
    return canonical.dumps({"format": 1, **fields, **more}).decode()


def orders(text: str, url: str = "s3://b/g") -> Any:
    return read_orders(Assignment(graph_url=url, spec=text))


def test_a_spec_alone_is_enough() -> None:
    found = orders(spec(data={"url": "s3://d/x", "credentials": "/c"}))
    assert read_request(found, MemoryStore("x")) == REQUEST
    assert found.store is None
    assert found.data == Access("data", "s3://d/x", credentials=Path("/c"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ("[1]", "not a document"),
        (spec(run="x"), "run"),
        (spec(spec={}), "task: not a document"),
        (spec(store="s3://b"), "store: expected an object"),
        (spec(data={"url": "s3://b", "caBundle": 1}), "data.caBundle"),
    ],
)
def test_a_wrong_spec_is_a_user_s_error_and_named(text: str, said: str) -> None:
    with pytest.raises(SpecError, match="EVERGRAFT_SPEC") as refused:
        orders(text)
    assert said in str(refused.value)


def test_a_newer_operator_s_spec_is_refused() -> None:
    with pytest.raises(FormatError, match="format 2"):
        orders(spec(format=2))


def test_the_store_s_credentials_open_no_other_graph(tmp_path: Path) -> None:
    found = orders(spec(store={"url": "s3://b/g/", "credentials": str(tmp_path)}), "s3://b/other")
    with pytest.raises(SpecError, match="gives access to s3://b/g/ alone"):
        found.open_store()


@pytest.mark.parametrize(
    "dataset", [ResolvedDataset(url="s3://evil/x"), ResolvedDataset(url="s3://d/x", endpoint="https://evil")]
)
def test_an_open_search_cannot_send_the_data_s_credentials_elsewhere(tmp_path: Path, dataset: ResolvedDataset) -> None:
    """Whoever writes search.json names the data's place; the Secret is for the one that the worker was given."""
    access = Access("data", "s3://d/x", endpoint="https://minio.acme", credentials=tmp_path)
    trainer = TorchTrainer(
        folder=Folder(MemoryStore("evil"), "s"),
        spec=replace(REQUEST.spec, dataset=dataset),
        device=open_device("cpu"),
        cache=None,
        emit=silent,
        access=access,
    )
    with pytest.raises(UserError, match=r"this worker has access to s3://d/x at https://minio\.acme"):
        trainer.open(None)


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({"EVERGRAFT_SPEC": "{"}, 64, "no JSON"),
        ({"EVERGRAFT_DEVICES": "two"}, 64, "EVERGRAFT_DEVICES"),
        ({"EVERGRAFT_STATUS": "nowhere"}, 64, "HOST:PORT"),
        ({}, 64, "nothing to work on"),
    ],
)
def test_a_report_is_written_however_early_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], code: int, said: str
) -> None:
    for name, value in {**variables, "EVERGRAFT_REPORT": str(tmp_path / "message")}.items():
        monkeypatch.setenv(name, value)
    assert main(["worker", "--graph", str(tmp_path / "graph")]) == code
    told = json.loads((tmp_path / "message").read_bytes())
    assert (told["outcome"], told["exitCode"]) == ("error", code)
    assert said in told["reason"]
