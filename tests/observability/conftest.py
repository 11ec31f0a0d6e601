"""Prometheus for the tests of what watches an installation."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.absent import absent
from tests.observability.programs import ProgramsMissingError, programs


@pytest.fixture(scope="session")
def prometheus_programs() -> Path:
    """The folder of `prometheus` and `promtool`."""
    try:
        return programs()
    except ProgramsMissingError as missing:
        absent(missing)
