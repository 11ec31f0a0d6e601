"""Hostile Tasks and lying workers get a condition and harm nothing: not the operator, not another Task."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from tests.cluster.rest import Rest
from tests.cluster.scene import SECRET, Object, Scene, Space

pytestmark = pytest.mark.timeout(300)

LIE = """
import http.server, os, threading

body, message, code = os.environ["LIE_BODY"], os.environ["LIE_MESSAGE"], int(os.environ["LIE_CODE"])
body = body[:-1] + ',"pad":"' + "x" * 10_000_000 + '"}' if os.environ.get("LIE_HUGE") else body


class Liar(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        try:
            self.wfile.write(body.encode())
        except OSError:
            pass


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
    """Workers that lie: `body` on /progress, 10 MB longer if `huge`; after `seconds`, `message` and exit `code`."""
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


@pytest.fixture
def deep() -> Iterator[Object]:
    """An object nested as deep as an API server takes it; this process may read and write it meanwhile."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(40_000)
    found: Object = {}
    for _ in range(9_900):
        found = {"a": found}
    yield found
    sys.setrecursionlimit(before)


def test_a_task_nested_thousands_of_levels_deep_ends_no_watch(scene: Scene, space: Space, deep: Object) -> None:
    tasks = "/apis/evergraft.dev/v1alpha1/namespaces/lies/tasks"
    rest = Rest(scene.cluster)
    rest.must("POST", tasks, space.document("deep", workers={"podTemplate": {"affinity": {"nodeAffinity": deep}}}))
    status = space.wait_for("deep", lambda found: bool(found.get("phase")), what="judged")
    assert status["phase"] in ("Pending", "Failed", "Starting")
    space.task("beside", suspend=True)
    space.wait_phase("beside", "Suspended")
    is_alive(scene)
    # Who starts has to list it.
    scene.scale_operator(0)
    scene.scale_operator(1)
    space.patch("beside", {"workers": {"replicas": 2}})
    space.wait_for("beside", lambda found: found.get("observedGeneration") == 2, what="judged again")
    is_alive(scene)
    rest.must("DELETE", f"{tasks}/deep")
    rest.close()
    space.kubectl("delete", "tasks.evergraft.dev/beside")


def test_ten_megabytes_on_progress_are_not_read(scene: Scene, space: Space) -> None:
    """The same words without the padding are read, so it is the size that keeps these out of the status."""
    words = '{"run":"i1-c1","generation":1}'
    space.task("huge", workers=lying(body=words, huge=True, seconds=60))
    space.task("brief", workers=lying(body=words, seconds=60))
    space.wait_phase("huge", "Training")
    space.wait_for("brief", lambda found: found.get("search", {}).get("generation") == 2, what="told how it gets on")
    status = space.wait_for("huge", lambda found: found["phase"] != "Training", what="the lie ended", timeout_s=120)
    assert "generation" not in status["search"]
    is_alive(scene)
    space.kubectl("delete", "tasks.evergraft.dev/huge", "tasks.evergraft.dev/brief")


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


def test_an_end_that_claims_a_route_puts_none_into_the_store(scene: Scene, space: Space) -> None:
    """An exit 0 with a report of a commit that never was ends this one search; the graph is what it was."""
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


def test_a_volume_that_the_policy_forbids_gets_no_job(scene: Scene, space: Space) -> None:
    """The operator refuses what a podTemplate may not ask for, before anything of it reaches the API server."""
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


def test_a_pod_that_the_namespace_forbids_stalls_and_mended_it_trains(scene: Scene, space: Space) -> None:
    """The policy is laxer than the namespace: `restricted` refuses the pod, which only the Job's Events tell."""
    scene.install(EVERGRAFT_POLICY=json.dumps({"volumeKinds": ["hostPath"]}))
    try:
        space.task("rooted", workers={"podTemplate": {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}})
        status = space.wait_condition("rooted", "Stalled", "True/PodRejected")
        message = next(item["message"] for item in status["conditions"] if item["type"] == "Stalled")
        assert 'violates PodSecurity "restricted' in message
        assert "hostPath" in message
        assert space.conditions("rooted")["Accepted"] == "True/Accepted"
        assert not [pod for pod in space.pods() if pod["metadata"]["name"].startswith("rooted-")]
        space.patch("rooted", {"workers": {"podTemplate": None}, "suspend": True})
        space.wait_phase("rooted", "Suspended")
        space.patch("rooted", {"suspend": False})
        space.wait_phase("rooted", "Succeeded", 200)
        assert space.commits("lies/rooted") == 1
    finally:
        scene.install()
