"""What a test needs and this machine does not have: a skip that is told at the end, or a failure where all must run.

The gate sets EVERGRAFT_REQUIRE_ALL=1, so that no part goes untested there without a word. Called by fixtures.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

VARIABLE = "EVERGRAFT_REQUIRE_ALL"
TOLD = "not run on this machine: "
"""How a skip's reason begins; `pytest_terminal_summary` in conftest.py prints those."""


def is_required() -> bool:
    """Whether every test has to run."""
    return os.environ.get(VARIABLE) == "1"


def absent(reason: object) -> NoReturn:
    """End the test: it cannot run here, and `reason` says what is missing."""
    if is_required():
        pytest.fail(f"{VARIABLE}=1, but this machine cannot run it: {reason}", pytrace=False)
    pytest.skip(f"{TOLD}{reason}")
