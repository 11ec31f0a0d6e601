"""Tests that share a cluster stay together, and there is no group for a file that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.groups import GROUPS, REST, group_of

CLUSTER = Path(__file__).resolve().parent / "cluster"


@pytest.mark.parametrize("name", [name for files in GROUPS.values() for name in files])
def test_every_file_of_a_group_exists(name: str) -> None:
    assert (CLUSTER / f"test_{name}.py").exists()


def test_cluster_tests_are_grouped_by_file_and_others_go_alone() -> None:
    assert group_of("tests/cluster/test_life.py::test_a[x/y::z]") == "searches"
    assert group_of("tests/cluster/test_harness.py::test_a") == REST
    assert group_of("tests/evergraft/test_a.py::test_b") == "tests/evergraft/test_a.py::test_b"
