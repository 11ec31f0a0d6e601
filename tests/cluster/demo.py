"""The main job on a real cluster: Kubernetes from nothing, Evergraft installed, two Tasks applied, one graph grown.

``make cluster-demo`` calls it. It ends with the proof on the bucket itself: every route's golden answers recomputed,
bit for bit, and a picture classified by the second Task's route, which builds on the first's if that helps.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, whose cluster.py is another

from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.errors import CannotRunError, ClusterError
from tests.cluster.images.build import NAMES, build
from tests.cluster.scene import QUICK, Scene, Space

TASKS = ("digits", "digits-again")
TIMEOUT_S = 600
GRAFT = {**QUICK, "strategy": "graft", "parameters": {"rank": 2}}


def main() -> int:
    """Run the demo in a cluster of its own, which ends with it."""
    try:
        say("images and cluster (minutes the first time)")
        with_images = [build(name).tar for name in NAMES]
        cluster = Cluster.start("demo", nodes=2, images=with_images)
    except CannotRunError as reason:
        sys.stderr.write(f"cluster-demo: this machine cannot run it: {reason}\n")
        return 1
    try:
        show(cluster)
    except ClusterError as error:
        sys.stderr.write(f"cluster-demo: {error}\n")
        return 1
    finally:
        cluster.stop()
    return 0


def show(cluster: Cluster) -> None:
    """Install, apply, follow, prove."""
    print(cluster.kubectl("get", "nodes"))
    scene = Scene(cluster)
    say("CRDs and operator: kubectl apply --server-side --kustomize manifests/overlays/cluster")
    scene.install()
    with scene.space("demo") as space:
        say("a ModuleGraph on S3")
        space.wait_graph()
        print(space.kubectl("get", "modulegraphs"))
        say("two Tasks; the second waits for the first")
        space.task(TASKS[0])
        space.task(TASKS[1], after=[f"demo/{TASKS[0]}"], search=GRAFT)
        follow(space, TASKS)
        print(space.kubectl("get", "tasks", "--output=wide"))
        prove(space)


def follow(space: Space, tasks: Sequence[str]) -> None:
    """Print each change of phase, until all Tasks have succeeded.

    Raises:
        ClusterError: one failed, or it takes too long.
    """
    told: dict[str, str] = {}
    deadline = time.monotonic() + TIMEOUT_S
    while any(told.get(task) != "Succeeded" for task in tasks):
        for task in tasks:
            phase = str(space.status(task).get("phase", "new"))
            if told.get(task) != phase:
                told[task] = phase
                print(f"  {task}: {phase}", flush=True)
            if phase == "Failed" or time.monotonic() > deadline:
                raise ClusterError(f"{task} did not succeed\n{space.account(task)}")
        time.sleep(0.5)


def prove(space: Space) -> None:
    """Recompute every route's golden answers from the bucket, and classify one picture."""
    say(f"evergraft graph verify --answers {space.store_url}")
    print(json.dumps(space.evergraft("graph", "verify", "--answers", space.store_url), indent=1))
    with tempfile.TemporaryDirectory() as folder:
        picture, label = write_digit(Path(folder))
        say(f"evergraft predict: the picture of a {label}")
        print(json.dumps(space.evergraft("predict", space.store_url, f"demo/{TASKS[1]}", str(picture)), indent=1))


def write_digit(folder: Path) -> tuple[Path, int]:
    """One of scikit-learn's digits as a picture, and what it shows."""
    from PIL import Image
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    picture = folder / "digit.png"
    Image.fromarray((found.images[-1] * 16).clip(0, 255).astype("uint8")).save(picture)
    return picture, int(found.target[-1])


def say(what: str) -> None:
    """A heading."""
    print(f"\n— {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
