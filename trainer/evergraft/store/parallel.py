"""Do several store operations at once: a small pool of threads, results in order.

Reading a checkpoint's shards or a run of commits one after another would cost a round trip each. Called by history,
checkpoints, blobs and verify.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

MAX_WORKERS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(act: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`act` of every item, in the items' order; raises the first item's error in that order."""
    wanted = list(items)
    if len(wanted) < 2:
        return [act(item) for item in wanted]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(MAX_WORKERS, len(wanted))) as pool:
        return list(pool.map(act, wanted))
