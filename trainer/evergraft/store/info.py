"""graph.json: what is fixed about a graph for ever. Create-only, read before anything else.

Its format number is what tells an older version that it must not read on. Called by init, which writes it, and by
history, planning and `graph show`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evergraft import canonical, names
from evergraft.errors import IntegrityError, NotAGraphError, NotFoundError, StoreUnavailableError
from evergraft.graph.route import reading
from evergraft.store import documents
from evergraft.store.seam import Store

MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class GraphInfo:
    """A graph's identity, and the units of the score's decays.

    `root` is the id of the root's route; `reference_parameters` and `reference_flops` (one image forward) are the
    root's. `author` and `time` are for people.
    """

    graph: str
    root: str
    reference_parameters: int
    reference_flops: int
    author: str
    time: str

    def to_json(self) -> dict[str, Any]:
        """The document as stored."""
        return {
            "format": canonical.FORMAT,
            "graph": self.graph,
            "root": self.root,
            "reference": {"parameters": self.reference_parameters, "flops": self.reference_flops},
            "author": self.author,
            "time": self.time,
        }

    @classmethod
    def from_json(cls, value: Any) -> GraphInfo:
        """Read the stored document.

        Raises:
            IntegrityError: a field is missing or wrong.
        """
        with reading(names.GRAPH):
            return cls(
                graph=str(value["graph"]),
                root=str(value["root"]),
                reference_parameters=int(value["reference"]["parameters"]),
                reference_flops=int(value["reference"]["flops"]),
                author=str(value["author"]),
                time=str(value["time"]),
            )


def read_info(store: Store) -> GraphInfo:
    """What graph.json says.

    Raises:
        NotAGraphError: there is none here.
        FormatError: the graph is of a newer format.
        IntegrityError: it cannot be read.
    """
    try:
        data = store.get(names.GRAPH)
    except NotFoundError:
        raise NotAGraphError(
            f"{store.url}: no module graph here; start one with: evergraft graph init {store.url} --root FILE.yaml"
        ) from None
    return decode_info(data, url=store.url)


def get_named(store: Store, key: str, *, advice: str) -> bytes:
    """The bytes of an object that something in the graph names. That it is gone is damage, unless all of it is.

    Raises:
        IntegrityError: it does not exist, and waiting would not bring it back; the message ends in `advice`.
        StoreUnavailableError: nothing is here, as where a volume is not mounted.
    """
    try:
        return store.get(key)
    except NotFoundError as error:
        missing = error
    try:
        store.get(names.GRAPH)
    except NotFoundError:
        raise StoreUnavailableError(f"{store.url}: the graph that was here is not: {missing}") from None
    raise IntegrityError(f"{missing}, though the graph names it; {advice}")


def decode_info(data: bytes, *, url: str) -> GraphInfo:
    """Read the bytes of graph.json; `url` names the graph in messages. Raises as `read_info` does."""
    return GraphInfo.from_json(documents.decode(data, what=f"{url}/{names.GRAPH}", max_bytes=MAX_BYTES))
