"""What `helm test` runs, in the operator's image: does this install do its work?

Without a store: the operator is available and judges a suspended Task. With one: data is written, a ModuleGraph and a
CPU Task are made, followed to the committed route, and removed, with all that was written. Standard library, but for
the store's client. Settings come from the environment, as the chart's test pod sets them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import ssl
import struct
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CREDENTIALS = Path("/var/run/evergraft/store")
API = "/apis/evergraft.dev/v1alpha1/namespaces"
SIDE, PER_CLASS = 8, 64
"""Side of the pictures, whose pixels are as many as SHA-512 has bytes, and pictures of a class in a split."""

Object = dict[str, Any]


class FailedError(Exception):
    """What is wrong, for the log."""


def call(method: str, path: str, body: Object | None = None, kind: str = "application/json") -> Object:
    """One request to the API server under this pod's account.

    Raises:
        FailedError: it refused; the message is the server's own.
    """
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{host}]" if ":" in host else host
    token = (ACCOUNT / "token").read_text(encoding="utf-8")
    request = urllib.request.Request(
        f"https://{host}:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": kind},
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            found: Object = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        raise FailedError(f"{method} {path}: {error.code}: {error.read(2000).decode(errors='replace')}") from None
    except (urllib.error.URLError, TimeoutError) as error:
        raise FailedError(f"{method} {path}: {error}") from None


def until(what: str, look: Callable[[], tuple[bool, str]], timeout_s: float) -> str:
    """Look every two seconds until it holds; its words.

    Raises:
        FailedError: it did not in time; the message has the last words.
    """
    end, words = time.monotonic() + timeout_s, ""
    while time.monotonic() < end:
        try:
            holds, words = look()
        except FailedError as error:
            holds, words = False, str(error)
        if holds:
            print(f"ok: {what}: {words}", flush=True)
            return words
        time.sleep(2)
    raise FailedError(f"{what}: not within {timeout_s:g} s; last seen: {words}")


def condition(path: str, name: str) -> tuple[str, str, str]:
    """Status, reason and message of a condition; empty texts if it is not there."""
    for found in call("GET", path).get("status", {}).get("conditions", ()):
        if found.get("type") == name:
            return str(found.get("status")), str(found.get("reason")), str(found.get("message", ""))
    return "", "", "no answer yet"


def available(namespace: str) -> tuple[bool, str]:
    """Whether the operator's Deployment has a ready pod."""
    status = call("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments/evergraft-operator").get("status", {})
    return status.get("availableReplicas", 0) >= 1, f"{status.get('availableReplicas', 0)} available"


def judged(path: str, *, graph: bool) -> tuple[bool, str]:
    """Whether the operator said what it should: True if there is a graph, else that there is none."""
    status, reason, message = condition(path, "Accepted")
    return (status, reason) == ("False", "GraphNotFound") if not graph else status == "True", f"{reason}: {message}"


def committed(path: str) -> tuple[bool, str]:
    """Whether the Task's route is in the graph."""
    status = call("GET", path).get("status", {})
    phase, route = status.get("phase", ""), status.get("route", {})
    if phase == "Failed":
        raise SystemExit(f"FAILED: the test's Task failed: {json.dumps(status)[:2000]}")
    return phase == "Succeeded", f"{phase or 'no phase'}; {status.get('waiting', '')} {json.dumps(route)[:400]}"


def array(shape: tuple[int, ...], values: bytes) -> bytes:
    """Unsigned bytes as a .npy file."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape!r}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + values


def samples() -> bytes:
    """A data set that is learnt at once: dark and bright squares under noise, in three splits, as an .npz file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for split in ("train", "validation", "test"):
            labels = bytes(index % 2 for index in range(2 * PER_CLASS))
            pixels = b"".join(square(f"{split} {index}", label) for index, label in enumerate(labels))
            archive.writestr(f"{split}_images.npy", array((len(labels), SIDE, SIDE), pixels))
            archive.writestr(f"{split}_labels.npy", array((len(labels),), labels))
    return out.getvalue()


def square(name: str, label: int) -> bytes:
    """One picture, unlike every other: a copy in two splits would be refused."""
    noise = hashlib.sha512(name.encode()).digest()
    return bytes(150 * label + place % 100 for place in noise)


def place(folder: str) -> Object:
    """`store` or `dataset` of a spec at a folder of the test's store."""
    given = json.loads(os.environ["TEST_STORE"])
    return {**given, "url": f"{given['url'].rstrip('/')}/{folder}"}


def client(folder: str) -> Any:
    """A client of a folder of the test's store."""
    from evergraft.store.access import Access

    given = place(folder)
    credentials = CREDENTIALS if "secretRef" in given else None
    return Access(role="test", url=given["url"], endpoint=given.get("endpoint"), credentials=credentials).open()


def task(name: str, run: str) -> Object:
    """A Task of about a minute on one CPU, suspended."""
    account = os.environ.get("TEST_SERVICE_ACCOUNT")
    data: Object = {"url": "gs://evergraft-test/none"}
    if "TEST_STORE" in os.environ:
        data = {**place(f"{run}/data/data.npz"), "format": "Npz"}
    return {
        "apiVersion": "evergraft.dev/v1alpha1",
        "kind": "Task",
        "metadata": {"name": name},
        "spec": {
            "graphRef": {"name": name},
            "suspend": True,
            "dataset": {**data, "splits": {"train": "train", "validation": "validation", "test": "test"}},
            "search": {"strategy": "finetune", "samples": 512, "seed": 0},
            "workers": {"replicas": 1, **({"serviceAccountName": account} if account else {})},
        },
    }


def graph(name: str, run: str) -> Object:
    """A ModuleGraph with a very small root."""
    account = os.environ.get("TEST_SERVICE_ACCOUNT")
    shape = {"imageSize": SIDE, "patchSize": 4, "width": 16, "depth": 1, "heads": 1, "channels": 1}
    return {
        "apiVersion": "evergraft.dev/v1alpha1",
        "kind": "ModuleGraph",
        "metadata": {"name": name},
        "spec": {
            "store": place(f"{run}/graph"),
            "root": {"backbone": "vit", "config": shape, "seed": 0},
            **({"maintenance": {"serviceAccountName": account}} if account else {}),
        },
    }


def try_all(name: str, run: str) -> None:
    """Everything, up to the first thing that does not hold."""
    timeout_s = float(os.environ["TEST_TIMEOUT_S"])
    own, namespace = os.environ["TEST_RELEASE_NAMESPACE"], os.environ["TEST_NAMESPACE"]
    tasks, graphs = f"{API}/{namespace}/tasks", f"{API}/{namespace}/modulegraphs"
    stored = "TEST_STORE" in os.environ
    until("the operator is available", lambda: available(own), timeout_s)
    if stored:
        client(f"{run}/data").put("data.npz", samples())
        call("POST", graphs, graph(name, run))
        until(
            "the graph is ready",
            lambda: ((found := condition(f"{graphs}/{name}", "Ready"))[0] == "True", ": ".join(found[1:])),
            timeout_s,
        )
    call("POST", tasks, task(name, run))
    until("a suspended Task is judged", lambda: judged(f"{tasks}/{name}", graph=stored), timeout_s)
    if stored:
        call("PATCH", f"{tasks}/{name}", {"spec": {"suspend": False}}, "application/merge-patch+json")
        until("a Task is trained and committed", lambda: committed(f"{tasks}/{name}"), timeout_s)


def remove(name: str, run: str) -> None:
    """Take back what was made, as far as it goes."""
    namespace = os.environ["TEST_NAMESPACE"]
    for plural in ("tasks", "modulegraphs"):
        try:
            call("DELETE", f"{API}/{namespace}/{plural}/{name}", {"propagationPolicy": "Foreground"})
        except FailedError as error:
            if ": 404:" not in str(error):
                print(f"left: {plural}/{name}: {error}", flush=True)
    if "TEST_STORE" in os.environ:
        store = client(run)
        for entry in list(store.list("")):
            store.delete(entry.key)


def main() -> int:
    """0 if this install works."""
    name = os.environ["TEST_NAME"]
    run = f"{name}-{time.time_ns():x}"
    try:
        try_all(name, run)
    except FailedError as error:
        print(f"FAILED: {error}", flush=True)
        return 1
    finally:
        remove(name, run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
