"""Which tests stay together in one of several processes: those that share a cluster; others go where there is room.

A scheduler for pytest-xdist, whose own groups do not work with pytest 9.2: it renames tests, which that no longer
allows. Most of what cluster tests do is wait, so three groups run beside each other. Used by conftest.py.
"""

from __future__ import annotations

from xdist.scheduler.loadscope import LoadScopeScheduling

GROUPS = {
    "searches": ("life", "losses", "waiting"),
    "operator": ("lies", "observability", "operator_away", "operator_wiring"),
}
"""Files of tests/cluster by group, without ``test_`` and ``.py``."""
REST = "installs"


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Gives each process whole groups, and single tests of everything else."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """The group of a test of the cluster; a test of its own is its own group."""
    path = nodeid.partition("::")[0]
    if not path.startswith("tests/cluster/"):
        return nodeid
    name = path.rpartition("/")[2].removeprefix("test_").removesuffix(".py")
    return next((group for group, files in GROUPS.items() if name in files), REST)
