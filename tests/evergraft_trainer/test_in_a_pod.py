"""Workers and stewards as the operator's Jobs start them, as processes: a graph and its data on a real S3 server.

Nothing but the Job's own variables and mounted Secrets reaches the processes; what they leave is read by the
operator's own functions.
"""

from __future__ import annotations

import io
import json
import signal
import socket
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from evergraft import names
from evergraft.api.modulegraph import ModuleGraph
from evergraft.names import RunKey
from evergraft.store import log
from evergraft.store.open import open_store
from evergraft.store.options import StoreOptions
from evergraft.store.seam import Store
from evergraft.testing.servers import ObjectServer
from evergraft_operator import admission, report, stewards
from evergraft_operator.jobs import Attempt, worker_job
from evergraft_operator.observed import Job, Pod, Thing
from evergraft_operator.resolving import want
from evergraft_operator.settings import Settings
from evergraft_operator.stewards import Errand, Question, Removal, steward_job
from evergraft_operator.testing.documents import Fields, at, graph_document, pod_document, task_document
from evergraft_trainer.testing.containers import Container

pytestmark = [pytest.mark.server, pytest.mark.slow]

ROOT = {
    "backbone": "vit",
    "config": {"imageSize": 8, "patchSize": 4, "width": 12, "depth": 1, "heads": 3},
    "seed": 0,
}
SEARCH = {
    "strategy": "mu2net",
    "parameters": {"generations": 2, "candidates": 2},
    "samples": 256,
    "batchSize": 8,
    "validations": 2,
}


@dataclass(frozen=True)
class Cluster:
    """One graph and one dataset in a bucket, and where containers have their folders."""

    folder: Path
    server: ObjectServer
    name: str

    @property
    def keys(self) -> Mapping[str, str]:
        """The Secret of the store and of the data; people end files with a newline."""
        assert self.server.key is not None
        assert self.server.secret is not None
        return {"AWS_ACCESS_KEY_ID": self.server.key + "\n", "AWS_SECRET_ACCESS_KEY": self.server.secret}

    @property
    def store(self) -> Store:
        options = StoreOptions(endpoint=self.server.endpoint, key=self.server.key, secret=self.server.secret)
        return open_store(f"{self.server.url}/{self.name}/graph", options)

    def graph(self, **more: Any) -> Fields:
        """The ModuleGraph's document."""
        place = {
            "url": f"{self.server.url}/{self.name}/graph",
            "endpoint": self.server.endpoint,
            "secretRef": {"name": "store-key"},
        }
        return graph_document(store=place, root=ROOT, **more)

    def task(self, **more: Any) -> Fields:
        """A Task's document."""
        data = {
            "url": f"{self.server.url}/{self.name}/data.npz",
            "endpoint": self.server.endpoint,
            "secretRef": {"name": "data-key"},
            "splits": {"train": "train[:60%]", "validation": "train[60%:]"},
        }
        return task_document(dataset=data, search=SEARCH, **more)

    def errand(self, errand: Errand, *, graph: Fields | None = None, keys: Mapping[str, str] | None = None) -> Done:
        """Send a steward, and wait for it."""
        document = graph or self.graph()
        thing = Thing.read(document)
        spec, refusal = admission.read_graph(thing)
        assert spec is not None, refusal
        made = steward_job(thing, spec, errand, settings=Settings())
        box = Container(made, self._folder(), {"store": self.keys if keys is None else keys})
        code, said = box.finish(box.start())
        assert "Traceback" not in said, said
        return Done(made, code, box.message, said)

    def worker(
        self, *, devices: int = 1, secrets: Mapping[str, Mapping[str, str]] | None = None, **task: Any
    ) -> Container:
        """A worker's container."""
        document = self.task(**task)
        parsed, refusal = admission.read_task(Thing.read(document))
        assert parsed is not None, refusal
        spec, wrong = admission.read_graph(Thing.read(self.graph()))
        assert spec is not None, wrong
        wanted = want(parsed, spec, Settings())
        attempt = Attempt(run=RunKey(1, 1), number=1, image="x")
        job = worker_job(Thing.read(document), wanted, attempt, parallelism=1, settings=Settings())
        for item in job["spec"]["template"]["spec"]["containers"][0]["env"]:
            if item["name"] == "EVERGRAFT_DEVICES":
                item["value"] = str(devices)
        given = {"store": self.keys, "data": self.keys} if secrets is None else secrets
        return Container(job, self._folder(), given)

    def _folder(self) -> Path:
        folder = self.folder / uuid4().hex[:8]
        folder.mkdir()
        return folder


@dataclass(frozen=True)
class Done:
    """A steward that is over."""

    job: Fields
    code: int
    message: str
    said: str

    def read(self) -> tuple[Job, tuple[Pod, ...]]:
        """As the operator sees it."""
        job = Job.read({**self.job, "metadata": {**self.job["metadata"], "uid": "s1"}})
        failed = "PodFailurePolicy" if self.code in (64, 65) else "BackoffLimitExceeded"
        job = replace(job, complete=self.code == 0, failure=None if self.code == 0 else failed, ended=at(60))
        phase = "Failed" if self.code else "Succeeded"
        pod = pod_document("s", job="s1", phase=phase, exit_code=self.code, message=self.message)
        return job, (Pod.read(pod),)

    @property
    def answer(self) -> stewards.Answer:
        found = stewards.answer(*self.read())
        assert found is not None
        return found


def module_graph(document: Fields) -> ModuleGraph:
    spec, refusal = admission.read_graph(Thing.read(document))
    assert spec is not None, refusal
    return spec


@pytest.fixture(scope="module")
def cluster(s3_server: ObjectServer, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """A bucket's folder with a dataset and a graph that a steward has started."""
    found = Cluster(tmp_path_factory.mktemp("pods"), s3_server, uuid4().hex)
    images = np.random.default_rng(0).integers(0, 200, (80, 8, 8), dtype=np.uint8)
    images[::2, :, :4] += np.uint8(50)
    data = io.BytesIO()
    np.savez(data, train_images=images, train_labels=np.arange(80) % 2)
    options = StoreOptions(endpoint=s3_server.endpoint, key=s3_server.key, secret=s3_server.secret)
    open_store(f"{s3_server.url}/{found.name}", options).put("data.npz", data.getvalue())
    done = found.errand(stewards.init_errand(module_graph(found.graph())))
    assert done.code == 0, done.said
    assert done.answer.graph == log.read_info(found.store).graph
    assert done.answer.totals is not None
    assert (done.answer.totals.version, done.answer.totals.tasks) == (0, 0)
    assert done.answer.totals.bytes
    return found


def question(task: str, run: RunKey | None = None) -> Question:
    return Question(uid=f"uid-{task}", task=task, run=run or RunKey(1, 1), attempt=0)


def test_a_worker_commits_with_nothing_but_its_job_and_secrets(cluster: Cluster) -> None:
    box = cluster.worker(name="alone")
    code, said = box.finish(box.start())
    assert code == 0, said
    told = report.worker_report(box.message)
    assert told is not None
    assert (told.task, told.run, told.outcome, told.code, told.base) == ("vision/alone", "i1-c1", "committed", None, 0)
    assert told.route is not None
    assert (told.route.version, told.route.run, told.route.parent_task) == (told.version, "i1-c1", "root")
    assert told.route.quality is not None
    assert told.route.score is not None
    assert told.route.test_quality is None  # there is no test split
    assert told.route.parameters_added
    assert not told.route.stopped_early
    assert told.totals is not None
    assert told.totals.bytes
    assert told.useful_s is not None
    assert told.lost_s == 0
    lines = [json.loads(line) for line in said.splitlines()]
    begun = lines[next(n for n, line in enumerate(lines) if line["event"] == "search") :]
    assert all((line["task"], line["attempt"]) == ("vision/alone", "1") for line in begun)
    assert all(line["search"] and line["worker"] for line in begun)

    heads = cluster.errand(stewards.heads_errand([question("vision/alone"), question("vision/never")]))
    assert heads.code == 0, heads.said
    known, unknown = stewards.head_facts(*heads.read())
    assert (str(known.state.run), known.state.outcome) == ("i1-c1", "committed")
    assert known.state.task_hash
    assert known.state.route is not None
    assert known.state.route.id == told.route.id
    assert known.state.route.version == told.version
    assert (unknown.uid, unknown.state.run) == ("uid-vision/never", None)

    again = cluster.worker(name="alone")
    assert again.finish(again.start())[0] == 0
    second = report.worker_report(again.message)
    assert second is not None
    assert (second.outcome, second.useful_s) == ("committed", 0)


@pytest.mark.parametrize(
    ("role", "keys", "said"),
    [
        ("store", {"AWS_ACCESS_KEY_ID": "x"}, "store: key AWS_SECRET_ACCESS_KEY of the Secret"),
        ("store", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "y"}, "AWS_ACCESS_KEY_ID of the Secret"),
        ("store", {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}, "give these credentials the rights"),
        ("data", {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}, "data.npz"),
        ("data", {}, "data: key AWS_ACCESS_KEY_ID of the Secret"),
    ],
)
def test_a_wrong_secret_is_named(cluster: Cluster, role: str, keys: Mapping[str, str], said: str) -> None:
    """Also where this process's own environment would have the right one."""
    box = cluster.worker(name="wrong", secrets={"store": cluster.keys, "data": cluster.keys, role: keys})
    right = {name: value.strip() for name, value in cluster.keys.items()}
    code, output = box.finish(box.start(**right, AWS_ENDPOINT_URL=cluster.server.endpoint))
    assert code == 64, output
    told = report.worker_report(box.message)
    assert told is not None
    assert told.outcome == "error"
    assert said in told.reason
    assert "Traceback" not in output


def test_two_devices_are_two_processes_and_one_report(cluster: Cluster) -> None:
    base = log.read_graph(cluster.store).version
    box = cluster.worker(name="pair", devices=2)
    port = free_port()
    process = box.start(EVERGRAFT_STATUS=f"127.0.0.1:{port}")
    workers: set[str] = set()
    seen: dict[str, Any] = {}
    metrics = b""
    while process.poll() is None:
        if (body := read(f"http://127.0.0.1:{port}/progress")) is not None:
            seen |= json.loads(body)
            workers |= {seen["worker"]} if "worker" in seen else set()
            parsed = report.progress(body)
            assert parsed is not None
        metrics = read(f"http://127.0.0.1:{port}/metrics") or metrics
        time.sleep(0.05)
    code, said = box.finish(process)
    assert code == 0, said
    assert len({json.loads(line)["worker"] for line in said.splitlines() if '"worker"' in line}) == 2
    assert (seen["generations"], seen["candidates"], seen["run"]) == (2, 4, "i1-c1")
    assert seen["baseVersion"] == base
    assert b"evergraft_store_requests_total{" in metrics
    told = report.worker_report(box.message)
    assert told is not None
    assert (told.outcome, told.task) == ("committed", "vision/pair")
    assert told.useful_s is not None
    assert json.loads(box.message)["counters"]["evergraft_worker_candidates_total,outcome=scored"] == 4


def test_sigterm_to_the_parent_saves_and_ends_with_143(cluster: Cluster) -> None:
    box = cluster.worker(name="cut", devices=2)
    process = box.start()
    folder = f"searches/{names.search_id('vision/cut', RunKey(1, 1))}/"
    wait_for(lambda: any("claim-" in entry.key for entry in cluster.store.list(folder)), what=folder)
    process.send_signal(signal.SIGTERM)
    code, said = box.finish(process)
    told = report.worker_report(box.message)
    assert told is not None
    assert told.task == "vision/cut"
    assert (code, told.outcome) in ((143, "stopped"), (0, "committed")), said


def test_a_steward_that_waits_for_its_store_ends_when_asked(tmp_path: Path) -> None:
    """The store takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = ObjectServer("s3://b", f"http://127.0.0.1:{silent.getsockname()[1]}", "key", "secret")
        nowhere = Cluster(tmp_path, server, "x")
        thing = Thing.read(nowhere.graph())
        errand = stewards.heads_errand([question("vision/alone")])
        made = steward_job(thing, module_graph(nowhere.graph()), errand, settings=Settings())
        box = Container(made, tmp_path, {"store": nowhere.keys})
        process = box.start()
        silent.settimeout(60)
        with silent.accept()[0]:
            process.send_signal(signal.SIGTERM)
            code, said = box.finish(process, timeout_s=20)
    assert code == 143, said
    assert "asked to stop" in json.loads(box.message)["reason"]
    assert "Traceback" not in said


def test_stewards_end_to_end(cluster: Cluster) -> None:
    box = cluster.worker(name="gone")
    assert box.finish(box.start())[0] == 0
    other = {**ROOT, "seed": 1}
    refused = cluster.errand(Errand("init", {"root": other}, torch=True))
    assert refused.code == 64
    assert "another root" in refused.answer.reason
    adopted = cluster.errand(stewards.init_errand(module_graph(cluster.graph())))
    assert (adopted.code, adopted.answer.graph) == (0, log.read_info(cluster.store).graph)

    removal = stewards.remove_errand([Removal(uid="u", task="vision/gone")])
    for sentence in ("its route is removed", "no route serves it"):
        removed = cluster.errand(removal)
        (fact,) = stewards.removal_facts(*removed.read())
        assert (fact.uid, fact.done) == ("u", True)
        assert sentence in fact.message
    collected = cluster.errand(stewards.collect_errand(module_graph(cluster.graph()), due="now"))
    assert collected.code == 0, collected.said
    assert collected.answer.totals is not None
    assert collected.answer.totals.version == log.read_graph(cluster.store).version
    verified = cluster.errand(stewards.verify_errand(due="now"))
    assert verified.code == 0, verified.said
    assert "everything holds" in verified.answer.reason
    assert "golden answers" in verified.answer.reason
    assert verified.answer.totals is not None
    assert verified.answer.totals.bytes == collected.answer.totals.bytes

    unwell = cluster.errand(stewards.verify_errand(due="now"), keys={"AWS_ACCESS_KEY_ID": "x"})
    assert unwell.code == 64
    assert "AWS_SECRET_ACCESS_KEY" in unwell.answer.reason


def wait_for(condition: Any, *, what: str) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def read(url: str) -> bytes | None:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            body: bytes = answer.read()
            return body
    except OSError:
        return None
