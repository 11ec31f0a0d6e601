"""What can go wrong with the test cluster, by what the catcher does.

    ClusterError              a start, a stop or a command failed: the test or the command fails
    └── CannotRunError        this machine cannot run a cluster; the tests are skipped, or fail where they are required

Raised by the whole harness; conftest.py and cluster.py catch them.
"""

from __future__ import annotations

from evergraft.errors import EvergraftError


class ClusterError(EvergraftError):
    """Something of the test cluster failed; the text holds the end of the log that says why."""


class CannotRunError(ClusterError):
    """This machine cannot run a cluster; the text says what is missing, in one line."""
