"""The first look at every sample's content: decode it, digest it, note what cannot be read.

Done once per dataset, before it is pinned; several threads read ahead, the answer does not depend on how many.
Called by ``dataset``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from evergraft_trainer.data.decode import UnreadableImageError
from evergraft_trainer.data.images import Images

_CHUNK: Final = 32
_REMOTE_THREADS: Final = 16
_MOST_LOCAL_THREADS: Final = 4


@dataclass(frozen=True)
class Seen:
    """What one sample turned out to be: a digest of its pixels and its shape (H, W, C), or why it is unreadable."""

    position: int
    digest: bytes = b""
    shape: tuple[int, int, int] = (0, 0, 0)
    unreadable: str = ""


def scan(images: Images, positions: Sequence[int], *, remote: bool) -> list[Seen]:
    """Look at the samples at `positions`, in that order.

    Raises:
        DataError: an image is over the size limit, or a file is gone or changed.
    """
    threads = _REMOTE_THREADS if remote else min(_MOST_LOCAL_THREADS, os.cpu_count() or 1)
    chunks = [positions[at : at + _CHUNK] for at in range(0, len(positions), _CHUNK)]
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="scan") as pool:
        try:
            return [seen for part in pool.map(lambda chunk: list(_look(images, chunk)), chunks) for seen in part]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _look(images: Images, positions: Sequence[int]) -> Iterator[Seen]:
    for position in positions:
        try:
            pixels = images.load(position)
        except UnreadableImageError as error:
            yield Seen(position=position, unreadable=str(error))
            continue
        height, width, channels = pixels.shape
        hasher = hashlib.sha256(f"{height}×{width}×{channels}".encode())
        hasher.update(pixels.tobytes())
        yield Seen(position=position, digest=hasher.digest(), shape=(height, width, channels))
