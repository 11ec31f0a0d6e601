"""Hypothesis strategies for what a graph is made of: modules, layers, routes, actions, commits, faults.

The only part of the kit that needs hypothesis. Values are small and well formed, so that what fails is the code
under test and not the making of them. Called by property tests, ours and anyone's.
"""

from __future__ import annotations

try:
    from hypothesis import strategies as st
except ImportError:
    raise ImportError(
        'evergraft.testing.strategies needs hypothesis; install it with: pip install "evergraft[testing]"'
    ) from None

from evergraft.graph.commit import (
    Action,
    AddModules,
    CloseSearch,
    Commit,
    Condemn,
    PutRoute,
    RemoveRoute,
    Restore,
    Swept,
)
from evergraft.graph.module import DTYPE_BYTES, Module, Tensor
from evergraft.graph.route import Delta, Layer, Route, RouteSummary
from evergraft.names import RunKey, search_id
from evergraft.testing.injection import ATOMIC, Way

ids = st.binary(min_size=32, max_size=32).map(bytes.hex)
"""Content ids."""

task_ids = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["one", "two", "three"])).map("/".join)
"""Task ids, few enough to meet again."""

run_keys = st.builds(RunKey, iteration=st.integers(1, 9), cycle=st.integers(1, 3))
visibilities = st.sampled_from(["Public", "Private"])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcé", max_size=3), inner, max_size=3),
    max_leaves=6,
)
"""What JSON can carry without loss."""

json_objects = st.dictionaries(st.text("abcdé", min_size=1, max_size=4), json_values, max_size=3)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """A tensor of at most 3 dimensions, any dtype, any bytes; empty ones too."""
    dtype = draw(st.sampled_from(sorted(DTYPE_BYTES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    empty = Tensor(dtype, shape, b"")
    size = empty.elements * DTYPE_BYTES[dtype]
    return Tensor(dtype, shape, draw(st.binary(min_size=size, max_size=size)))


modules = st.builds(
    Module,
    kind=st.sampled_from(["norm", "head", "encoder_block"]),
    config=json_objects,
    tensors=st.dictionaries(st.text("abc.", min_size=1, max_size=6), tensors(), max_size=3),
)

deltas = st.builds(
    Delta, kind=st.sampled_from(["lora", "norm", "bias", "adapter"]), module=ids, parameters=st.integers(0, 10**9)
)


@st.composite
def layers(draw: st.DrawFn) -> tuple[Layer, ...]:
    """One to four layers with names that differ."""
    names = draw(st.lists(st.sampled_from(["stem", "block.00", "block.01", "head"]), min_size=1, unique=True))
    return tuple(
        Layer(
            name=name,
            kind="norm",
            module=draw(ids),
            parameters=draw(st.integers(0, 10**9)),
            deltas=tuple(draw(st.lists(deltas, max_size=2))),
        )
        for name in names
    )


routes = st.builds(
    Route,
    task=task_ids,
    search=st.text("0123456789abcdef", min_size=32, max_size=32),
    parent=ids,
    generation=st.integers(0, 9),
    slot=st.integers(0, 9),
    layers=layers(),
    labels=st.lists(st.text(max_size=4), min_size=2, max_size=4, unique=True).map(tuple),
    preprocessing=json_objects,
    hyperparameters=json_objects,
    metrics=json_objects,
    transfer=json_objects,
)
"""Route documents."""

summaries = st.builds(
    RouteSummary,
    id=ids,
    task=task_ids,
    parent=ids,
    parent_task=task_ids,
    layers=layers(),
    parameters=st.integers(0, 10**9),
    added=st.integers(0, 10**9),
    flops=st.integers(0, 10**12),
    quality=st.none() | st.floats(0, 1),
    samples=st.integers(0, 10**9),
    lineage_samples=st.integers(0, 10**9),
    depth=st.integers(0, 100),
    hyperparameters=json_objects,
    visibility=visibilities,
)
"""What commits carry of a route."""


@st.composite
def closings(draw: st.DrawFn) -> CloseSearch:
    """The end of one run of one task."""
    task, run = draw(task_ids), draw(run_keys)
    return CloseSearch(
        task=task,
        run=run,
        search=search_id(task, run),
        task_hash=draw(ids),
        outcome=draw(st.sampled_from(["committed", "kept", "none", "failed"])),
        visibility=draw(visibilities),
        sampled=draw(st.dictionaries(ids, st.integers(1, 9), max_size=2)),
    )


actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(AddModules, modules=st.dictionaries(ids, st.integers(0, 10**9), max_size=3)),
    st.builds(PutRoute, route=summaries),
    st.builds(RemoveRoute, task=task_ids),
    closings(),
    st.builds(
        Restore,
        version=st.integers(0, 99),
        routes=st.dictionaries(task_ids, st.none() | summaries, max_size=2),
    ),
    st.builds(Condemn, ids=st.lists(ids, max_size=3).map(tuple)),
    st.builds(Swept, ids=st.lists(ids, max_size=3).map(tuple)),
)
"""Every action there is."""

commits = st.builds(
    Commit,
    version=st.integers(0, 10**9),
    id=st.uuids().map(lambda value: value.hex),
    previous=st.none() | ids,
    time=st.just("2030-01-02T03:04:05Z"),
    author=st.text(max_size=5),
    base=st.integers(-1, 10**9),
    search=st.none() | st.text("0123456789abcdef", min_size=32, max_size=32),
    actions=st.lists(actions, max_size=3).map(tuple),
)
"""Log entries, one by one: they follow nothing."""


def faults(*, ways: frozenset[Way] = ATOMIC - {Way.STALL}, max_size: int = 12) -> st.SearchStrategy[list[Way | None]]:
    """What befalls the next operations, one after another; mostly nothing. For `injection.scripted`.

    Nothing stalls, since nobody would open the gate.
    """
    one = st.sampled_from([None] * 7 * len(ways) + sorted(ways))
    nothing: st.SearchStrategy[list[Way | None]] = st.just([])
    return st.one_of(nothing, st.lists(one, max_size=max_size))
