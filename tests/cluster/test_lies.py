"""Hostile Tasks and lying workers get a condition and harm nothing: not the operator, not another Task."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.cluster.scene import SECRET, Object, Scene, Space

pytestmark = pytest.mark.timeout(300)

LIE = """
import http.server, os, sys, threading

body, message, code = os.environ["LIE_BODY"], os.environ["LIE_MESSAGE"], int(os.environ["LIE_CODE"])
body = (body * (10_000_000 // len(body))) if os.environ.get("LIE_HUGE") else body


class Liar(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        try:
            self.wfile.write(body.encode())
        except OSError:
            pass


if len(sys.argv) > 1 or True:
    host, port = os.environ["EVERGRAFT_STATUS"].rsplit(":", 1)
    server = http.server.ThreadingHTTPServer((host, int(port)), Liar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Event().wait(float(os.environ["LIE_SECONDS"]))
    with open("/dev/termination-log", "w") as log:
        log.write(message)
    os._exit(code)
"""
"""Runs before anything else of Python in the pod, as what a worker's image may hold instead of ours."""


@pytest.fixture(scope="module")
def space(scene: Scene) -> Iterator[Space]:
    with scene.space("lies") as made:
        made.wait_graph()
        made.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "lie", "namespace": "lies"},
                "data": {"sitecustomize.py": LIE},
            }
        )
        yield made


def lying(*, body: str = "{}", message: str = "", code: int = 0, seconds: int = 25, huge: bool = False) -> Object:
    """Workers that lie: `body` on /progress, `message` at the end, exit `code` after `seconds`."""
    environment = {
        "PYTHONPATH": "/lie",
        "LIE_BODY": body,
        "LIE_MESSAGE": message,
        "LIE_CODE": str(code),
        "LIE_SECONDS": str(seconds),
        **({"LIE_HUGE": "1"} if huge else {}),
    }
    return {
        "podTemplate": {
            "env": [{"name": name, "value": value} for name, value in environment.items()],
            "volumes": [{"name": "lie", "configMap": {"name": "lie"}}],
            "volumeMounts": [{"name": "lie", "mountPath": "/lie"}],
        }
    }


def is_alive(scene: Scene) -> None:
    """The operator is the same process as ever."""
    (pod,) = [item for item in scene.operator_pods() if item["status"]["phase"] == "Running"]
    assert [item["restartCount"] for item in pod["status"]["containerStatuses"]] == [0]


def test_ten_megabytes_on_progress_are_not_read(scene: Scene, space: Space) -> None:
    space.task("huge", workers=lying(body='{"run":"i1-c1","generation":1} ', huge=True, seconds=40))
    space.wait_phase("huge", "Training")
    status = space.wait_for("huge", lambda found: found["phase"] != "Training", what="the lie ended", timeout_s=120)
    assert "generation" not in status["search"]
    is_alive(scene)
    space.kubectl("delete", "tasks.evergraft.dev/huge")


def test_progress_that_makes_no_sense_is_left_out(scene: Scene, space: Space) -> None:
    body = json.dumps(
        {"run": "i1-c1", "generation": -5, "generations": 1e300, "bestScore": "x" * 300, "candidates": [], "event": {}}
    )
    space.task("odd", workers=lying(body=body, seconds=40))
    space.wait_phase("odd", "Training")
    status = space.wait_for("odd", lambda found: found["phase"] != "Training", what="the lie ended", timeout_s=120)
    assert not {"generation", "generations", "bestScore", "candidates"} & set(status["search"])
    is_alive(scene)
    space.kubectl("delete", "tasks.evergraft.dev/odd")


def test_an_end_that_claims_a_route_is_looked_up_in_the_store(scene: Scene, space: Space) -> None:
    """An exit 0 with a report of a commit that never was: HEAD is asked, and knows of none."""
    message = {
        "format": 1, "task": "lies/false", "run": "i1-c1", "outcome": "committed", "reason": "", "version": 99,
        "route": {"id": "f" * 64, "quality": 1.0},
    }  # fmt: skip
    space.task("false", workers=lying(message=json.dumps(message), seconds=5))
    space.wait_for("false", lambda found: found.get("phase") in ("Succeeded", "Failed"), what="ended", timeout_s=200)
    assert "lies/false" not in space.tasks()
    space.kubectl("delete", "tasks.evergraft.dev/false")


def test_control_characters_in_a_termination_message_reach_no_status(scene: Scene, space: Space) -> None:
    told = {
        "format": 1,
        "task": "x",
        "run": "i1-c1",
        "outcome": "error",
        "reason": "\\u001b[2J\\u0000\\u202e evil",
        "exitCode": 64,
    }
    space.task("coloured", workers=lying(message=json.dumps(told).replace("\\\\u", "\\u"), code=64, seconds=3))
    status = space.wait_phase("coloured", "Failed", 120)
    message = next(item["message"] for item in status["conditions"] if item["type"] == "Stalled")
    assert "evil" in message
    assert not [character for character in json.dumps(status, ensure_ascii=False) if ord(character) < 32]
    assert "\u202e" not in message
    is_alive(scene)
    space.kubectl("delete", "tasks.evergraft.dev/coloured")


def test_a_secret_of_another_namespace_is_out_of_reach(scene: Scene, space: Space) -> None:
    other = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "treasury"}}
    gold = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gold", "namespace": "treasury"}}
    space.cluster.apply(other, {**gold, "stringData": {"AWS_ACCESS_KEY_ID": "k"}})
    named = space.document("thief")
    named["spec"]["dataset"]["secretRef"] = {"name": "treasury/gold"}
    done = space.cluster.try_kubectl("apply", "--filename=-", input=json.dumps(named))
    assert done.returncode
    assert "secretRef" in done.stderr
    named["spec"]["dataset"]["secretRef"] = {"name": "gold"}
    space.cluster.apply(named)
    space.wait_for("thief", lambda found: "gold" in found.get("waiting", ""), what="waiting for it", timeout_s=150)
    space.kubectl("delete", "tasks.evergraft.dev/thief")
    space.cluster.kubectl("delete", "namespace/treasury", "--wait=false")


def test_a_pod_that_restricted_forbids_is_never_made(scene: Scene, space: Space) -> None:
    """What a podTemplate may ask for is refused by the namespace itself, and the Task says in its words why."""
    space.task("host", workers={"podTemplate": {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}})
    space.wait_for(
        "host",
        lambda found: any(
            item["type"] == "Accepted" and item["reason"] in ("PolicyViolation", "InvalidSpec")
            for item in found.get("conditions", [])
        ),
        what="refused",
    )
    assert not [job for job in space.jobs() if job["metadata"]["name"].startswith("host-")]
    space.kubectl("delete", "tasks.evergraft.dev/host")


def test_the_keys_stand_in_no_object_that_a_viewer_reads(space: Space) -> None:
    space.task("plain")
    space.wait_phase("plain", "Succeeded", 200)
    secret = str(space.cluster.s3.secret)
    seen = json.dumps([space.jobs(), space.pods(), space.read("plain"), space.pods("steward")])
    assert secret not in seen
    assert SECRET in seen
