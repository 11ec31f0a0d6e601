"""The CustomResourceDefinitions of Task and ModuleGraph, rendered from the models.

``python -m evergraft.api.crd [--narrow] [FOLDER]`` writes them, as `make manifests` does; a test holds the files equal
to this rendering. They change by addition only, since what a cluster stores must stay valid: a rendering that takes
less than the files do is refused, unless `--narrow` says that no release has them yet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from evergraft.api.cel import RULES
from evergraft.api.evolution import narrowings
from evergraft.api.modulegraph import ModuleGraph, ModuleGraphSpec
from evergraft.api.schema import Schema, structural
from evergraft.api.status import ModuleGraphStatus, TaskStatus
from evergraft.api.task import Task, TaskSpec

GROUP, VERSION, CATEGORY = "evergraft.dev", "v1alpha1", "evergraft"
FOLDER = Path("manifests/crds")
HEADER = "# Written by `make manifests` from trainer/evergraft/api; edit the models, not this file.\n"


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`; a wide one shows with `-o wide`."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False

    def to_json(self) -> dict[str, Any]:
        """As it stands in the CRD."""
        shown = {"name": self.name, "type": self.type, "description": self.description, "jsonPath": self.path}
        return {**shown, "priority": 1} if self.wide else shown


@dataclass(frozen=True)
class Kind:
    """A kind as the API server learns it."""

    model: type[BaseModel]
    spec: type[BaseModel]
    status: type[BaseModel]
    plural: str
    short: str
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()
    scale: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        """The kind's name."""
        return self.model.__name__


AGE = Column("Age", ".metadata.creationTimestamp", "When the object was made.", type="date")

TASK = Kind(
    model=Task,
    spec=TaskSpec,
    status=TaskStatus,
    plural="tasks",
    short="et",
    columns=(
        Column("Phase", ".status.phase", "How far the task is."),
        Column("Waiting", ".status.waiting", "What it waits for."),
        Column("Gen", ".status.progress", "Generation under way of those planned."),
        Column("Score", ".status.score", "Best score so far, or of the committed route."),
        Column("Parent", ".status.route.parentTask", "The task whose route it grew from."),
        Column("Version", ".status.route.version", "The graph's version of its route.", type="integer"),
        Column("Workers", ".status.workers.ready", "Worker pods that are ready.", type="integer"),
        AGE,
        Column("Graph", ".spec.graphRef.name", "The ModuleGraph it grows.", wide=True),
        Column("Run", ".status.search.runKey", "Iteration and cycle of the search.", wide=True),
        Column("Attempt", ".status.search.attempt", "How often its Job was started.", type="integer", wide=True),
        Column("Lost", ".status.acceleratorSeconds.lost", "Device seconds done again.", type="integer", wide=True),
    ),
    selectable=(".spec.graphRef.name", ".status.phase"),
    scale={
        "specReplicasPath": ".spec.workers.replicas",
        "statusReplicasPath": ".status.workers.active",
        "labelSelectorPath": ".status.workers.selector",
    },
)

MODULE_GRAPH = Kind(
    model=ModuleGraph,
    spec=ModuleGraphSpec,
    status=ModuleGraphStatus,
    plural="modulegraphs",
    short="mg",
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether tasks may grow it."),
        Column("Version", ".status.version", "Its newest version.", type="integer"),
        Column("Tasks", ".status.tasks", "Tasks with a route.", type="integer"),
        Column("Modules", ".status.modules", "Modules in all.", type="integer"),
        Column("Parameters", ".status.parameters", "Parameters in all.", type="integer"),
        AGE,
        Column("Store", ".spec.store.url", "Where it is kept.", wide=True),
        Column("Bytes", ".status.bytes", "What its modules take.", type="integer", wide=True),
        Column("Verified", ".status.lastVerifyTime", "When it was last verified.", type="date", wide=True),
    ),
)

KINDS = (TASK, MODULE_GRAPH)


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [column.to_json() for column in kind.columns],
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    version["subresources"] = {"status": {}, **({"scale": dict(kind.scale)} if kind.scale else {})}
    version["schema"] = {"openAPIV3Schema": schema(kind)}
    names = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
        "shortNames": [kind.short],
        "categories": [CATEGORY],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "evergraft"}},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def schema(kind: Kind) -> Schema:
    """The structural schema of whole objects of a kind."""
    text = {"type": "string"}
    return {
        "type": "object",
        "description": " ".join((kind.model.__doc__ or "").split()),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": f"Group and version of the API: {GROUP}/{VERSION}.", **text},
            "kind": {"description": f"The kind: {kind.name}.", **text},
            # Anything more, even a description, is refused here.
            "metadata": {"type": "object"},
            "spec": structural(kind.spec),
            "status": structural(kind.status),
        },
        "x-kubernetes-validations": [rule.to_json() for rule in RULES[kind.name]],
    }


class _Dumper(yaml.SafeDumper):
    """Writes every value out: a CRD has no anchors."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def manifest(kind: Kind) -> str:
    """The text of a kind's file."""
    return HEADER + yaml.dump(definition(kind), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def manifests() -> Mapping[str, str]:
    """Every file's text by its name."""
    return {f"{kind.plural}.{GROUP}.yaml": manifest(kind) for kind in KINDS}


def narrowed(folder: Path) -> tuple[str, ...]:
    """What the rendering no longer takes that the files in `folder` do."""
    found: list[str] = []
    for kind in KINDS:
        path = folder / f"{kind.plural}.{GROUP}.yaml"
        if path.exists():
            old = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            found += [f"{kind.name} {words}" for words in narrowings(old, schema(kind))]
    return tuple(found)


def main(arguments: Sequence[str]) -> None:
    """Write the files into a folder, by default that of this repository, from its root.

    Raises:
        SystemExit: the rendering takes less than the files in the folder do, or an argument is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m evergraft.api.crd")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--narrow", action="store_true", help="the files were never released: let them take less")
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    found = () if options.narrow else narrowed(folder)
    if found:
        raise SystemExit("\n".join(["CRDs change by addition only (--narrow if never released):", *found]))
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in manifests().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
