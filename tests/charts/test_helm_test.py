"""What `helm test` runs: its objects are valid, its data can be read, and it says what is wrong."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tests.charts.conftest import CHART, Render, one, values_file

from evergraft.testing.admission import refusals
from evergraft_trainer.data.formats import npz
from evergraft_trainer.data.source import open_source

STORE = {"url": "s3://acme/test", "endpoint": "http://minio.acme:9000", "secretRef": {"name": "store"}}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The test's program, as the test pod gets it."""
    spec = importlib.util.spec_from_file_location("helm_test", CHART / "files" / "test" / "helm_test.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("store", [None, {"url": "gs://acme/test/"}, STORE])
@pytest.mark.parametrize("account", ["", "trainer"])
def test_its_objects_are_valid(
    store: dict[str, Any] | None, account: str, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SERVICE_ACCOUNT", account)
    values = [script.task("evergraft-test", "run")]
    if store:
        monkeypatch.setenv("TEST_STORE", json.dumps(store))
        values = [script.task("evergraft-test", "run"), script.graph("evergraft-test", "run")]
        assert values[1]["spec"]["store"]["url"] == f"{store['url'].rstrip('/')}/run/graph"
    for value in values:
        assert refusals(value) == ()
    assert values[0]["spec"]["suspend"] is True


def test_its_data_can_be_read(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(script.samples())
    assert npz.read(open_source(str(tmp_path / "data.npz"))) is not None
    arrays = np.load(tmp_path / "data.npz")
    pictures = [picture.tobytes() for name in arrays.files if name.endswith("_images") for picture in arrays[name]]
    assert len(set(pictures)) == len(pictures) == 6 * script.PER_CLASS, "a copy in two splits would be refused"


def test_what_the_server_says_is_told(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> tuple[bool, str]:
        raise script.FailedError("GET /x: 403: forbidden")

    with pytest.raises(script.FailedError, match=r"it is there: not within 0.1 s; last seen: GET /x: 403: forbidden"):
        script.until("it is there", refuse, 0.1)
    assert script.until("it is there", lambda: (True, "yes"), 1) == "yes"
    assert capsys.readouterr().out == "ok: it is there: yes\n"


def test_its_pod_is_given_the_store(render: Render) -> None:
    objects = render(values_file("namespaced"))
    pod = one(objects, "Pod", "evergraft-test")
    (box,) = pod["spec"]["containers"]
    told = {entry["name"]: entry["value"] for entry in box["env"]}
    assert pod["metadata"]["namespace"] == told["TEST_NAMESPACE"] == "speech"
    assert told["TEST_RELEASE_NAMESPACE"] == "evergraft"
    assert json.loads(told["TEST_STORE"]) == values_file("namespaced")["test"]["store"]
    assert {"name": "store", "secret": {"secretName": "evergraft-store"}} in pod["spec"]["volumes"]


def test_it_is_a_hook_and_leaves_nothing(render: Render) -> None:
    for value in render():
        if value["metadata"]["name"].startswith("evergraft-test"):
            assert value["metadata"]["annotations"]["helm.sh/hook"] == "test"
            assert "hook-succeeded" in value["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
