"""The dataset formats, one file each with the same two functions, ``matches`` and ``read``, and a frozen entry.

Called by ``dataset``. To add a format: write its file and name its entry in FORMATS.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from evergraft.errors import DataError
from evergraft_trainer.data.formats import imagefolder, npz, parquet
from evergraft_trainer.data.listing import Format
from evergraft_trainer.data.source import Source

FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {entry.name: entry for entry in (npz.FORMAT, parquet.FORMAT, imagefolder.FORMAT)}
)
"""By the name that `dataset.format` uses, in the order Auto tries them."""


def choose(name: str, source: Source) -> Format:
    """The format called `name`, or with ``Auto`` the first one that the source looks like.

    Raises:
        DataError: unknown name, or nothing here looks like a dataset.
    """
    if name != "Auto":
        if name not in FORMATS:
            raise DataError(f"dataset.format: {name!r} is not one of Auto, {', '.join(sorted(FORMATS))}")
        return FORMATS[name]
    for entry in FORMATS.values():
        if entry.matches(source):
            return entry
    raise DataError(
        f"{source.url}: no dataset found; expected <class>/<image> or <split>/<class>/<image> folders, "
        "one .npz file, or .parquet files"
    )
