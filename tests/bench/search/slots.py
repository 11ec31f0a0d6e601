"""Slots claimed and finished a second with empty training, beside Optuna's journal storage, alternating.

``make bench-search`` prints one JSON line a figure: 1 and 8 worker processes, on a local folder and on S3 (SeaweedFS
on loopback). The bar is on the slots of one generation, from the moment that all workers have planned it to its last
result, as Optuna's is from the first trial asked for to the last told. A second figure is of a whole search of four
generations: plans, barriers, closing and commit too. Optuna's journal always lies in a local file: it has none for
object stores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evergraft.store.open import open_store
from evergraft.testing.arithmetic import init_graph
from evergraft.testing.servers import ServerMissingError, s3_server

HERE = Path(__file__).resolve().parent
SLOTS = 256
GENERATIONS = 4
WORKERS = (1, 8)
RUNS = 5
BAR = 5.0


def search(generations: int) -> str:
    """A search of all the slots in so many generations."""
    candidates = SLOTS // generations
    parameters = {"generations": generations, "candidates": candidates}
    return json.dumps({"strategy": "mu2net", "samples": SLOTS * 8, "validations": 1, "parameters": parameters})


def ours(root: str, workers: int, generations: int, environment: Mapping[str, str], *, verbose: bool) -> float:
    """Slots a second of one search in a graph of its own: of its one generation, or of the whole of it."""
    url = f"{root}/{uuid.uuid4().hex}"
    init_graph(open_store(url))
    command = [str(HERE / "empty_worker.py"), url, "bench/empty", search(generations)]
    said = together([command] * workers, environment)
    assert sum(worker["slots"] for worker in said) == SLOTS, said
    if verbose:
        for worker in said:
            print(json.dumps(worker), file=sys.stderr)
    return rate(said, until="lastResult" if generations == 1 else "ended")


def rate(said: Sequence[Mapping[str, Any]], *, until: str) -> float:
    """Slots a second, from the first worker's start to the last one's end."""
    ends: list[float] = [worker[until] for worker in said if until in worker]
    began: float = min(worker["began"] for worker in said)
    return SLOTS / (max(ends) - began)


def optuna(folder: Path, workers: int) -> float:
    """Trials a second of one study in a journal of its own."""
    from optuna import create_study, logging
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    journal = str(folder / f"{uuid.uuid4().hex}.log")
    logging.set_verbosity(logging.WARNING)
    create_study(study_name="empty", storage=JournalStorage(JournalFileBackend(journal)))
    command = [str(HERE / "optuna_worker.py"), journal, "empty", str(SLOTS // workers)]
    return rate(together([command] * workers, {}), until="ended")


def together(commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """Start programs, let them begin at once, and wait for all; what each said."""
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, *command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, **environment},
                )
            )
            for command in commands
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return [json.loads(process.stdout.readline()) for process in processes if process.stdout is not None]


def measure(backend: str, root: str, folder: Path, environment: Mapping[str, str], *, runs: int, verbose: bool) -> None:
    """Both numbers of workers on one backend."""
    for workers in WORKERS:
        rounds = [
            (
                ours(root, workers, 1, environment, verbose=verbose),
                optuna(folder, workers),
                ours(root, workers, GENERATIONS, environment, verbose=verbose),
            )
            for _ in range(runs)
        ]
        peers = [peer for _, peer, _ in rounds]
        where = f"{workers} worker{'s' * (workers > 1)}, {backend}"
        figure(f"slots claimed and finished a second, {where}", [one for one, _, _ in rounds], peers, bar=workers > 1)
        figure(f"slots a second of a whole search, {where}", [whole for _, _, whole in rounds], peers, bar=False)


def figure(name: str, rates: Sequence[float], peers: Sequence[float], *, bar: bool) -> None:
    """Print one line; the ratio is the median of those of the rounds."""
    import optuna

    ratio = statistics.median(one / other for one, other in zip(rates, peers, strict=True))
    line: dict[str, Any] = {"figure": name, "value": round(statistics.median(rates), 1), "unit": "slots/s"}
    line |= {
        "peer": f"optuna {optuna.__version__}, JournalStorage in a local file",
        "peer_value": round(statistics.median(peers), 1),
        "ratio": round(ratio, 2),
    }
    if bar:
        line |= {"bar": f"ratio >= {BAR:g}", "holds": ratio >= BAR}
    line |= {"runs": len(rates), "spread": [round(min(rates), 1), round(max(rates), 1)]}
    print(json.dumps(line), flush=True)


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A bucket on loopback, and the environment that opens it."""
    with s3_server(folder) as server:
        yield (
            server.url,
            {
                "AWS_ENDPOINT_URL": server.endpoint,
                "AWS_ACCESS_KEY_ID": server.key or "",
                "AWS_SECRET_ACCESS_KEY": server.secret or "",
                "AWS_DEFAULT_REGION": "us-east-1",
            },
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--backend", choices=("file", "s3"), action="append")
    parser.add_argument("--verbose", action="store_true", help="what each worker did, on stderr")
    arguments = parser.parse_args()
    backends = arguments.backend or ["file", "s3"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if "file" in backends:
            measure("file", f"{scratch}/graphs", folder, {}, runs=arguments.runs, verbose=arguments.verbose)
        if "s3" in backends:
            (folder / "seaweed").mkdir()
            try:
                with s3(folder / "seaweed") as (url, environment):
                    os.environ.update(environment)
                    measure("s3", url, folder, environment, runs=arguments.runs, verbose=arguments.verbose)
            except ServerMissingError as missing:
                print(f"skipped on s3: {missing}", file=sys.stderr)


if __name__ == "__main__":
    main()
