"""A stream of four tasks by two workers: its wall over the ideal, which is the candidates' own seconds over two.

``make bench-search`` prints one JSON line. The work is the sum of what every candidate's result says of its training
and validations, in the same run, so other load on the machine lengthens both sides. What is left in the ratio:
the start of the processes, plans, waiting for the other worker at the end of a generation, closing and commits.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TASKS, WORKERS = 4, 2
GENERATIONS, CANDIDATES = 2, 6
SAMPLES_EACH = 640
BAR = 1.2
ROOT = "{backbone: vit, config: {imageSize: 28, patchSize: 4, width: 96, depth: 6, heads: 3}, seed: 0}"
TASK = """\
apiVersion: evergraft.dev/v1alpha1
kind: Task
metadata: {{name: task-{number}}}
spec:
  dataset: {{url: {data}}}
  search:
    strategy: mu2net
    samples: {samples}
    validations: 2
    seed: {number}
    parameters: {{generations: {generations}, candidates: {candidates}}}
"""


def prepare(folder: Path) -> None:
    """Four small tasks over noisy patterns of ten classes, and a graph with a 680 k ViT as its root."""
    numbers = np.random.default_rng(0)
    for number in range(TASKS):
        patterns = numbers.integers(0, 156, (10, 28, 28))
        labels = np.arange(1500) % 10
        noise = numbers.integers(0, 100, (len(labels), 28, 28))
        images = (patterns[labels] + noise).astype(np.uint8)
        data = folder / f"task-{number}.npz"
        np.savez(data, train_images=images, train_labels=labels)
        samples = GENERATIONS * CANDIDATES * SAMPLES_EACH
        text = TASK.format(number=number, data=data, samples=samples, generations=GENERATIONS, candidates=CANDIDATES)
        (folder / f"task-{number}.yaml").write_text(text)
    (folder / "root.yaml").write_text(ROOT)


def stream(folder: Path, number: int) -> tuple[float, float]:
    """Seconds of one whole run with two workers, and the seconds of work that its candidates report."""
    graph = folder / f"graph-{number}"
    evergraft("graph", "init", graph, "--root", folder / "root.yaml")
    began = time.perf_counter()
    evergraft("run", *sorted(folder.glob("task-*.yaml")), "--graph", graph, "--workers", WORKERS, "--json")
    seconds = time.perf_counter() - began
    results = [json.loads(path.read_text()) for path in graph.glob("searches/*/0*/result.json")]
    assert len(results) == TASKS * GENERATIONS * CANDIDATES, len(results)
    return seconds, sum(result["seconds"] for result in results)


def evergraft(*arguments: object) -> None:
    """One command, as a user calls it."""
    command = [sys.executable, "-m", "evergraft", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-4000:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        pairs = [stream(folder, number) for number in range(runs)]
    ratios = sorted(seconds / (work / WORKERS) for seconds, work in pairs)
    ratio = statistics.median(ratios)
    line = {
        "figure": f"wall of a {TASKS}-task stream with {WORKERS} workers over the sum of work / {WORKERS}",
        "value": round(statistics.median(seconds for seconds, _ in pairs), 2),
        "unit": "s",
        "peer": "the candidates' own seconds / 2, same run",
        "peer_value": round(statistics.median(work / WORKERS for _, work in pairs), 2),
        "ratio": round(ratio, 3),
        "bar": f"ratio <= {BAR}",
        "holds": ratio <= BAR,
        "runs": runs,
        "spread": [round(ratios[0], 3), round(ratios[-1], 3)],
        "cores": os.cpu_count(),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
