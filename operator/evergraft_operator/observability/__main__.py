"""Write docs/metrics.md, the alert rules and the dashboards into a repository, by default the one stood in.

Called by `make manifests`; a test holds what is written equal to what is committed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from evergraft_operator.observability import alerts, reference
from evergraft_operator.observability.boards import BOARDS

FILES = "charts/evergraft/files"


def contents() -> dict[str, str]:
    """Every file's text by its path in the repository."""
    files = {
        "docs/metrics.md": reference.markdown(),
        f"{FILES}/rules/alerts.yaml": _HEADER + yaml.safe_dump(alerts.rules(), sort_keys=False, width=120),
    }
    for name, board in BOARDS.items():
        files[f"{FILES}/dashboards/{name}.json"] = json.dumps(board().model(), indent=1) + "\n"
    return files


def main(arguments: Sequence[str]) -> None:
    """Write them below the folder named first."""
    root = Path(arguments[0] if arguments else ".")
    for name, text in contents().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


_HEADER = """\
# Written by evergraft_operator.observability; edit alerts.py, not this file.
# A rule file for Prometheus, and word for word the spec of a PrometheusRule.
"""

if __name__ == "__main__":
    main(sys.argv[1:])
