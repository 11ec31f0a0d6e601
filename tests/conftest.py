"""Real object stores on loopback for every test that wants one: fake-gcs-server and SeaweedFS, one of each a session.

Each is started when the first test asks for it. Tests that use them are marked `server` by the fixtures that hand
out stores. At the end of a run one line says what this machine could not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tests.absent import TOLD, absent
from tests.groups import GroupScheduling

from evergraft.testing.servers import ObjectServer, ServerMissingError
from evergraft.testing.servers import gcs_server as run_gcs
from evergraft.testing.servers import s3_server as run_s3

# No test is timed: on a busy machine one example may take a second.
settings.register_profile("untimed", settings(deadline=None, suppress_health_check=[HealthCheck.too_slow]))
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """fake-gcs-server in memory, with one bucket."""
    try:
        with run_gcs(tmp_path_factory.mktemp("gcs")) as server:
            yield server
    except ServerMissingError as missing:
        absent(missing)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """SeaweedFS with its S3 gateway, one identity and one bucket."""
    try:
        with run_s3(tmp_path_factory.mktemp("seaweed")) as server:
            yield server
    except ServerMissingError as missing:
        absent(missing)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    """Tests that share a cluster stay in one process."""
    return GroupScheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each thing that this machine lacks, with how many tests were not run for it."""
    skips = [report for report in terminalreporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
    reasons = [str(report.longrepr[2]).removeprefix("Skipped: ") for report in skips]
    for reason in sorted({reason for reason in reasons if reason.startswith(TOLD)}):
        terminalreporter.write_line(f"{reason} ({reasons.count(reason)} tests)", yellow=True)
