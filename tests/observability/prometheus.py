"""A real Prometheus on loopback that scrapes what a file of targets names, and a client for its queries.

`file_sd` is what Debian's build can do in a cluster too, so the cluster tests use the same. Used by test_live.py and
``pictures``.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.observability.programs import free_port

Series = list[dict[str, Any]]


@dataclass(frozen=True)
class Prometheus:
    """A running server; `targets` is the file that it reads its targets from."""

    url: str
    targets: Path

    def watch(self, targets: Mapping[str, Mapping[str, str]]) -> None:
        """Scrape these addresses (host:port), with these labels."""
        groups = [{"targets": [address], "labels": dict(labels)} for address, labels in targets.items()]
        made = self.targets.with_suffix(".new")
        made.write_text(json.dumps(groups))
        made.replace(self.targets)

    def query(self, expr: str) -> Series:
        """The series of an expression now; raises ValueError with Prometheus' words if it cannot be evaluated."""
        return self._result("query", {"query": expr})

    def over(self, expr: str, *, start: float, end: float, step: float) -> Series:
        """The series of an expression over a time, in seconds since 1970."""
        return self._result("query_range", {"query": expr, "start": str(start), "end": str(end), "step": str(step)})

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts that are pending or firing."""
        found: list[dict[str, Any]] = self._get("alerts", {})["alerts"]
        return found

    def up(self) -> dict[str, bool]:
        """Every target by its address: whether its newest scrape went well."""
        return {item["metric"]["instance"]: item["value"][1] == "1" for item in self.query("up")}

    def _result(self, path: str, parameters: Mapping[str, str]) -> Series:
        found: Series = self._get(path, parameters)["result"]
        return found

    def _get(self, path: str, parameters: Mapping[str, str]) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{parameters.get('query')}: {error.read().decode(errors='replace')}") from None


@contextmanager
def prometheus(
    programs: Path, folder: Path, *, rules: Path | None = None, scrape_s: float = 1.0
) -> Iterator[Prometheus]:
    """Run one with its data in `folder`, until the block ends."""
    port = free_port()
    targets = folder / "targets.json"
    targets.write_text("[]")
    every = f"{round(scrape_s * 1000)}ms"
    configuration = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(rules)] if rules else [],
        "scrape_configs": [
            {
                "job_name": "evergraft",
                "honor_labels": True,
                "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
            }
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    flags = {
        "config.file": folder / "prometheus.yaml",
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
    }
    with (folder / "log").open("wb") as log:
        command = [str(programs / "prometheus"), *(f"--{name}={value}" for name, value in flags.items())]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    server = Prometheus(f"http://127.0.0.1:{port}", targets)
    try:
        _wait_until_ready(server, process, folder / "log")
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_ready(server: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{server.url}/-/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    process.terminate()
    raise AssertionError(f"prometheus did not start: {log.read_text()[-2000:]}")
