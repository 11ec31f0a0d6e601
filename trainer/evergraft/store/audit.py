"""Hold every checkpoint against the log: each must be the very fold of the commits up to its version.

Fed with the graph version by version as verify walks the log. A shard that a checkpoint names again, of a graph
that did not change there, is not read again, so the cost is that of what changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from evergraft.errors import IntegrityError, NotFoundError
from evergraft.graph.state import Graph, Shard
from evergraft.store import parallel
from evergraft.store.checkpoints import Manifest, list_checkpoints, load_gc, load_shard, read_manifest
from evergraft.store.findings import Finding
from evergraft.store.seam import Store


@dataclass
class Audit:
    """Call `see` with the graph at every version, in order, then `finish`."""

    store: Store
    findings: list[Finding] = field(default_factory=list)
    _versions: set[int] = field(init=False)
    _known: dict[int, tuple[str | None, Shard]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._versions = set(list_checkpoints(self.store))

    def see(self, graph: Graph) -> None:
        """Check the checkpoint of this version, if there is one."""
        if graph.version in self._versions:
            self._versions.discard(graph.version)
            self._check(graph)

    def finish(self, graph: Graph) -> list[Finding]:
        """What was found; `graph` is the newest. Checkpoints beyond it are of another log, unless it has just grown."""
        beyond = sorted(version for version in self._versions if version > graph.version)
        for version in beyond:
            try:
                read_manifest(self.store, version)
            except (IntegrityError, NotFoundError) as error:
                self._tell(version, f"is damaged, readers do without: {error}")
        return self.findings

    def _check(self, graph: Graph) -> None:
        try:
            manifest = read_manifest(self.store, graph.version)
        except (IntegrityError, NotFoundError) as error:
            self._tell(graph.version, f"is damaged, readers do without: {error}")
            return
        changed = [number for number in range(len(graph.shards)) if self._is_new(number, manifest, graph)]
        wrong: dict[str, tuple[str, ...]] = {}
        for number, problem in zip(
            changed, parallel.each(lambda number: self._compare(manifest, graph, number), changed), strict=True
        ):
            self._known[number] = (manifest.shards[number], graph.shards[number])
            if problem:
                wrong[problem] = (*wrong.get(problem, ()), *sorted(graph.shards[number]))
        for problem, tasks in wrong.items():
            self._tell(graph.version, problem, tuple(tasks))
        self._check_gc(manifest, graph)

    def _is_new(self, number: int, manifest: Manifest, graph: Graph) -> bool:
        shard, fold = self._known.get(number, (None, None))
        return shard != manifest.shards[number] or (fold is not graph.shards[number] and bool(graph.shards[number]))

    def _compare(self, manifest: Manifest, graph: Graph, number: int) -> str | None:
        """What is wrong with one shard."""
        shard_id = manifest.shards[number]
        try:
            loaded: Shard = load_shard(self.store, number, shard_id) if shard_id is not None else {}
        except (IntegrityError, NotFoundError) as error:
            return f"is damaged, readers do without: {error}"
        return None if dict(loaded) == dict(graph.shards[number]) else "does not agree with the log"

    def _check_gc(self, manifest: Manifest, graph: Graph) -> None:
        try:
            condemned, swept = load_gc(self.store, manifest.gc)
        except (IntegrityError, NotFoundError) as error:
            self._tell(graph.version, f"is damaged, readers do without: {error}")
            return
        if condemned != graph.condemned or dict(swept) != dict(graph.swept):
            self._tell(graph.version, "does not agree with the log on what is condemned or deleted")

    def _tell(self, version: int, what: str, tasks: tuple[str, ...] = ()) -> None:
        self.findings.append(Finding("checkpoint", f"checkpoint {version} {what}", tasks))
