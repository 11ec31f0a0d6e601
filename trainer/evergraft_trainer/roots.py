"""Start a graph: make or read the root, put its blobs, write the first commit.

Called by `graph init` and by `run` on an empty URL.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fsspec

import evergraft
from evergraft import canonical, names
from evergraft.api.load import load_root
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.places import located_root
from evergraft.api.root import Root
from evergraft.errors import SpecError
from evergraft.graph.module import Module
from evergraft.graph.route import Route, RouteSummary
from evergraft.graph.state import Graph
from evergraft.store import blobs, log
from evergraft.store.access import Access, bucket_of
from evergraft.store.failures import translate
from evergraft.store.open import open_store
from evergraft.store.probe import probe
from evergraft.store.seam import Store
from evergraft_trainer import profile
from evergraft_trainer.data.backend import open_backend
from evergraft_trainer.data.preprocessing import Preprocessing
from evergraft_trainer.device import open_device
from evergraft_trainer.golden import golden_answers
from evergraft_trainer.nn.assemble import load_route
from evergraft_trainer.nn.backbones import root_modules, root_plan, root_preprocessing
from evergraft_trainer.nn.extract import layer_of
from evergraft_trainer.nn.root_file import read_root_file
from evergraft_trainer.profile import current_profile

Layers = Sequence[tuple[str, Module]]

MAX_WEIGHTS_BYTES = 16 << 30
"""The largest root file that is read: fp32 weights of four billion parameters."""

GENERAL = ("vit", "resnet")
"""Backbones whose sizes the weights themselves may settle."""


def init_from_file(url: str, path: Path) -> Graph:
    """Start a graph at `url` from a root or ModuleGraph file, after probing that the store is fit.

    Raises:
        UserError: the file or the root is wrong, the store is unfit, or a graph with another root is there.
        StoreError: the store did not answer; running again is safe.
    """
    root = load_root(path)
    profile.apply(threads=1)
    probe(open_store, url)
    return init(open_store(url), root)


def init_from_document(store: Store, module_graph: ModuleGraph, *, base: Path) -> Graph:
    """Start a graph from the root of a ModuleGraph document that lies in the folder `base`."""
    probe(open_store, store.url)
    return init(store, located_root(module_graph.spec.root, base=base))


def init_with_access(access: Access, root: Root) -> Graph:
    """Start a graph at a place that is reached by files, or adopt the one there; raises as `init_from_file` does."""
    profile.apply(threads=1)
    probe(lambda _: access.open(), access.url)
    return init(access.open(), root, access=access)


def init(store: Store, root: Root, *, access: Access | None = None) -> Graph:
    """Start a graph from `root`, or adopt the one that stands if it starts from the same.

    Weights in the bucket of `access` are read with it.
    """
    layers, preprocessing = make_root(root, access=access)
    route, summary = root_route(layers, preprocessing)
    sizes = blobs.put_modules(store, [module for _, module in layers])
    blobs.put_route(store, route)
    return log.init_graph(
        store,
        root=summary,
        modules=sizes,
        reference=(summary.parameters, summary.flops),
        author=f"evergraft {evergraft.__version__}",
    )


def make_root(root: Root, *, access: Access | None = None) -> tuple[Layers, Preprocessing]:
    """The named modules of a root, from its seed or its weights, and the preprocessing it asks for.

    Raises:
        SpecError: config or weights do not fit; the message names the field.
        IntegrityError: the weights' bytes do not have the promised digest.
        PermissionDeniedError, StoreUnavailableError: the weights cannot be read.
    """
    if root.weights is None:
        modules = root_modules(root.backbone, root.config, seed=root.seed or 0)
        return modules, Preprocessing.from_json(root_preprocessing(root.backbone, root.config))
    try:
        data = _read(root.weights.url, access)
    except FileNotFoundError as error:
        remote = root.weights.url.startswith("http")
        what = f"cannot be fetched ({error}); check URL and network" if remote else "no such file; check the path"
        raise SpecError(f"root.weights.url: {root.weights.url}: {what}") from None
    except IsADirectoryError:
        raise SpecError(f"root.weights.url: {root.weights.url}: is a folder; name the file in it") from None
    except Exception as error:  # a client may raise anything; translated, never swallowed
        raise translate(error, where=f"root.weights.url: {root.weights.url}") from error
    if len(data) > MAX_WEIGHTS_BYTES:
        raise SpecError(f"root.weights.url: {root.weights.url}: larger than {MAX_WEIGHTS_BYTES >> 30} GiB")
    layers, preprocessing = read_root_file(data, sha256=root.weights.sha256, where=root.weights.url)
    if root.config or root.backbone not in GENERAL:
        _check_shapes(root, layers)
    return layers, Preprocessing.from_json(preprocessing)


def _read(url: str, access: Access | None) -> bytes:
    """The bytes at a URL, one more than allowed at most; in the bucket of `access` with its credentials."""
    if access is None or bucket_of(url) is None or bucket_of(url) != bucket_of(access.url):
        with fsspec.open(url, "rb") as file:
            whole: bytes = file.read(MAX_WEIGHTS_BYTES + 1)
            return whole
    backend, path = open_backend(url, endpoint=access.endpoint, storage_options=access.secrets())
    with backend.fs.open(path, "rb") as file:
        data: bytes = file.read(MAX_WEIGHTS_BYTES + 1)
        return data


def _check_shapes(root: Root, layers: Layers) -> None:
    """Refuse weights that are not of the backbone and config asked for."""
    expected = [(name, kind, dict(config)) for name, kind, config in root_plan(root.backbone, root.config)]
    found = [(name, module.kind, dict(module.config)) for name, module in layers]
    if found != expected:
        assert root.weights is not None
        raise SpecError(
            f"root.weights: {root.weights.url} holds {_shown(found)}; root.backbone and root.config ask for "
            f"{_shown(expected)}; leave root.config out, or use weights that fit"
        )


def root_route(layers: Layers, preprocessing: Preprocessing) -> tuple[Route, RouteSummary]:
    """The root's route document and summary; its golden answers are features, since it has no head."""
    named = tuple(layer_of(name, module) for name, module in layers)
    by_id = {module.id: module for _, module in layers}
    model = load_route(named, by_id.__getitem__, image_size=preprocessing.image_size)
    device = open_device("cpu")
    parameters = model.num_parameters()
    route = Route(
        task=names.ROOT_TASK,
        search="",
        parent=None,
        generation=0,
        slot=0,
        layers=named,
        labels=(),
        preprocessing=preprocessing.to_json(),
        parameters={"total": parameters, "added": parameters, "accounted": parameters},
        flops=model.flops,
        profile=current_profile(device, dtype="Float32", batch_size=32),
        golden=golden_answers(model, named, preprocessing, device=device),
    )
    summary = RouteSummary(
        id=canonical.sha256(route.encode()),
        task=names.ROOT_TASK,
        parent=None,
        parent_task=None,
        layers=named,
        parameters=parameters,
        added=parameters,
        flops=model.flops,
        quality=None,
        samples=0,
        lineage_samples=0,
        depth=0,
        hyperparameters={},
    )
    return route, summary


def _shown(plan: list[tuple[str, str, dict[str, object]]]) -> str:
    return f"{len(plan)} layers, the first {plan[0][1]} {plan[0][2]}" if plan else "no layers"
