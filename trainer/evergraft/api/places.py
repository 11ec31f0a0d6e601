"""Relative paths in a manifest become absolute, from the folder of the file that holds them.

Called by ``api.load`` and ``api.resolve``.
"""

from __future__ import annotations

import os
from pathlib import Path

from evergraft.api.root import Root


def located(url: str, *, base: Path) -> str:
    """`url` itself if it has a scheme, else the absolute path it means inside `base`."""
    return url if "://" in url else os.path.abspath(base / url)  # noqa: PTH100 - links stay as they are written


def located_root(root: Root, *, base: Path) -> Root:
    """`root` with the place of its weights made absolute."""
    if root.weights is None:
        return root
    weights = root.weights.model_copy(update={"url": located(root.weights.url, base=base)})
    return root.model_copy(update={"weights": weights})
