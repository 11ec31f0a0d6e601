"""ImageFolder: ``<split>/<class>/<file>`` or ``<class>/<file>``, one image a file.

Hidden files and those that desktops leave behind are passed over, as are files beside the class folders (a README,
a licence). Everything inside a class folder is a sample, so that a stray file is counted and shown. A link beside them
that is not followed is refused: it may stand for a class or a split, which must not go missing without a word.
"""

from __future__ import annotations

from typing import Final

from evergraft.errors import DataError
from evergraft_trainer.data.decode import MAX_ENCODED_BYTES
from evergraft_trainer.data.listing import Format, Listing, check_label
from evergraft_trainer.data.source import Object, Source, check_name

_LEFT_BEHIND: Final = frozenset({"thumbs.db", "desktop.ini"})


def matches(source: Source) -> bool:
    """Whether some file lies in a folder, or what may stand for a folder is there."""
    return source.file is None and any(map(_counts, source.tree.values()))


def read(source: Source) -> Listing:
    """List every image by its path.

    Raises:
        DataError: no images, folders nested unevenly or too deeply, a link to a folder or one that leaves the root.
    """
    if source.file is not None:
        raise DataError(f"{source.url}: a file where ImageFolder needs a folder; check dataset.url and format")
    names = tuple(name for name, item in source.tree.items() if _counts(item))
    for name in names:  # before their depth is looked at: a link to a class folder seems to lie too high
        check_name(name, where=source.url)
        source.stat(name)
    depth = _depth(source, names)
    parts = [name.split("/") for name in names]
    return Listing(
        keys=names,
        labels=tuple(check_label(part[-2], where=source.where(name)) for name, part in zip(names, parts, strict=True)),
        groups=tuple(part[0] if depth == 3 else "" for part in parts),
        owners=names,
        fetch=lambda position: source.read(names[position], limit=MAX_ENCODED_BYTES),
    )


def _depth(source: Source, names: tuple[str, ...]) -> int:
    """2 for class/file, 3 for split/class/file, the same for every file."""
    if not names:
        raise DataError(f"{source.url}: no images; expected <class>/<image> or <split>/<class>/<image>")
    depth = names[0].count("/") + 1
    odd = next((name for name in names if name.count("/") + 1 != depth), None)
    if odd is not None:
        raise DataError(
            f"{source.where(odd)}: lies deeper or shallower than {names[0]}; use <class>/<image> or "
            "<split>/<class>/<image> throughout"
        )
    if depth > 3:
        raise DataError(f"{source.where(names[0])}: too deep; use <class>/<image> or <split>/<class>/<image>")
    return depth


def _counts(item: Object) -> bool:
    """Whether an entry is a sample, or lies beside the class folders and must not be read, as a link to a folder."""
    return not _skipped(item.name) and ("/" in item.name or bool(item.problem))


def _skipped(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/")) or name.rsplit("/", 1)[-1].lower() in _LEFT_BEHIND


FORMAT: Final = Format(name="ImageFolder", matches=matches, read=read)
