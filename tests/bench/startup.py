"""How long a shell waits for the light commands: whole processes, several runs, the median.

Prints one JSON line a figure. Run by ``make bench-training``.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

RUNS = 9
BARS = {
    "import evergraft": (["-c", "import evergraft"], 0.150),
    "evergraft --help": (["-c", "from evergraft.cli import main; main(['--help'])"], 0.400),
}


def seconds(arguments: list[str]) -> float:
    """Wall time of one fresh interpreter."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print; a bare interpreter stands beside each figure."""
    for name, (arguments, bar) in BARS.items():
        seconds(arguments)
        pairs = [(seconds(arguments), seconds(["-c", "pass"])) for _ in range(RUNS)]
        ours = sorted(pair[0] for pair in pairs)
        value = statistics.median(ours)
        figure = {
            "figure": f"{name}, whole process",
            "value": round(value, 4),
            "unit": "s",
            "peer": "python -c pass",
            "peer_value": round(statistics.median(pair[1] for pair in pairs), 4),
            "bar": f"value <= {bar}",
            "holds": value <= bar,
            "runs": RUNS,
            "spread": [round(ours[0], 4), round(ours[-1], 4)],
        }
        print(json.dumps(figure))


if __name__ == "__main__":
    main()
