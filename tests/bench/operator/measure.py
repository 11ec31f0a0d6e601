"""How many Tasks a second the operator takes to their end, what that costs, and that a restart writes nothing.

``make bench-operator`` prints one JSON line a figure. A real API server, etcd and controller manager on this machine;
no nodes: a stand-in says of pods that they ran. A storm is a number of Tasks applied at once into many namespaces,
timed until the last has its route; then the fleet is filled up with Tasks that were committed long ago, and the
operator is restarted on it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.operator import readings, usage
from tests.bench.operator.api import GROUP, Api
from tests.bench.operator.world import World, apply_tasks, make_namespaces, settle_tasks, wait_graphs, world
from tests.bench.store.figures import show
from tests.cluster.operator_process import Operator

TASKS, FLEET, GRAPHS, RUNS = 1000, 10_000, 20, 3
STORM_S, CONVERGE_S, QUIET_S = 900.0, 300.0, 10.0
POLL_S = 1.0
"""How often the operator's metrics are read; more often would be seen in what is measured."""
RECONCILE = "evergraft_reconcile_duration_seconds"
WRITTEN = ("tasks", "modulegraphs")


@dataclass
class Storm:
    """What one storm took. Seconds, and processor seconds by process."""

    wall_s: float
    applied_s: float
    cpu_s: dict[str, float]
    series: dict[str, float]
    rss_mib: float
    load: float
    num: int

    @property
    def rate(self) -> float:
        """Tasks a second from the first apply to the last end."""
        return self.num / self.wall_s

    @property
    def own_rate(self) -> float:
        """Tasks a second for which one core's time would do, as far as the operator is concerned."""
        return self.num / self.cpu_s["operator"]

    @property
    def writes(self) -> float:
        """Writes of the operator a Task."""
        return sum(readings.writes(self.series).values()) / self.num


@dataclass
class Restart:
    """What one restart took, in seconds since the process was started and since it led."""

    converged_s: float
    reconciling_s: float
    cpu_s: float
    writes: Counter[tuple[str, str]]
    changed: int
    rss_mib: float
    peak_mib: float
    num: int
    load: float = field(default_factory=usage.load)


async def storm(world: World, api: Api, operator: Operator, names: Sequence[str], number: int) -> Storm:
    """Apply `number` Tasks at once and wait until each has its route."""
    await make_namespaces(api, names)
    await wait_graphs(api, names)
    await asyncio.sleep(2)
    pids = {**world.pids, "operator": operator.process.pid}
    before, spent = operator.figures(), usage.seconds(pids)
    begun = time.monotonic()
    await apply_tasks(api, names, number)
    applied = time.monotonic() - begun
    ended = 0.0
    async with asyncio.timeout(STORM_S):
        while ended < number:
            await asyncio.sleep(POLL_S)
            ended = readings.total(readings.between(before, operator.figures()), "evergraft_searches_finished_total")
    wall = time.monotonic() - begun
    cpu = {name: value - spent[name] for name, value in usage.seconds(pids).items()}
    made = Storm(
        wall,
        applied,
        cpu,
        readings.between(before, operator.figures()),
        usage.memory(pids["operator"]),
        usage.load(),
        number,
    )
    for name in names:
        phases = Counter([task["status"]["phase"] async for task in api.each(f"{GROUP}/namespaces/{name}/tasks")])
        assert set(phases) == {"Succeeded"}, (name, phases)
    return made


async def restart(world: World, api: Api, keys: int) -> Restart:
    """Start the operator on a fleet of `keys` Tasks and graphs, and watch it find nothing to do."""
    before = await versions(api)
    begun = time.monotonic()
    with world.operator() as operator:
        async with asyncio.timeout(CONVERGE_S):
            while not operator.leads():
                await asyncio.sleep(0.1)
            led = time.monotonic()
            while not readings.converged(operator.figures(), keys):
                await asyncio.sleep(POLL_S)
        converged = time.monotonic()
        cpu = usage.seconds({"operator": operator.process.pid})["operator"]
        await asyncio.sleep(QUIET_S)
        rss, peak = (usage.memory(operator.process.pid, field) for field in ("VmRSS", "VmHWM"))
        wrote = readings.writes(operator.figures())
    after = await versions(api)
    changed = sum(after.get(uid) != version for uid, version in before.items())
    return Restart(converged - begun, converged - led, cpu, wrote, changed, rss, peak, keys)


async def versions(api: Api) -> dict[str, str]:
    """The resource version of every Task and ModuleGraph."""
    paths = [f"{GROUP}/{plural}" for plural in WRITTEN]
    return {
        item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for path in paths async for item in api.each(path)
    }


async def largest_status(api: Api) -> int:
    """Bytes of the largest status of a Task."""
    sizes = [
        len(json.dumps(item.get("status", {}), separators=(",", ":"))) async for item in api.each(f"{GROUP}/tasks")
    ]
    return max(sizes)


async def storms(world: World, api: Api, operator: Operator, *, graphs: int, number: int, runs: int) -> list[Storm]:
    """Several, each in namespaces of its own."""
    found = []
    for run in range(runs):
        found.append(await storm(world, api, operator, [f"g{graphs}-r{run}-{n}" for n in range(graphs)], number))
        note(found[-1])
    return found


def note(made: Storm | Restart) -> None:
    """Everything about one run, on stderr."""
    if isinstance(made, Storm):
        told: dict[str, object] = {
            "applied": made.applied_s,
            "rss": made.rss_mib,
            "load": made.load,
            "reconciles": readings.total(made.series, "evergraft_reconcile_total") / made.num,
            "requests": {
                " ".join(key): round(count / made.num, 2) for key, count in readings.requests(made.series).items()
            },
            "cpu": {name: round(value, 1) for name, value in made.cpu_s.items()},
            "wall": made.wall_s,
        }
    else:
        told = {**made.__dict__, "writes": {" ".join(key): count for key, count in made.writes.items()}}
    print(json.dumps(told, default=str), file=sys.stderr, flush=True)


def tell_storms(found: Sequence[Storm], *, graphs: int) -> None:
    """The figures of storms over so many graphs."""
    where = f"{found[0].num} Tasks at once, {graphs} graphs"
    show(f"Tasks a second from apply to the last route, {where}", "Tasks/s", [one.rate for one in found], at_least=40)
    show(
        f"Tasks a second of the operator's own processor time, {where}",
        "Tasks/s",
        [one.own_rate for one in found],
        at_least=40,
    )
    for share in (50, 99):
        values = [readings.quantile(one.series, RECONCILE, share / 100) for one in found]
        show(f"p{share} of a reconcile with its requests, {where}", "s", values)
    show(f"writes a Task, {where}", "writes", [one.writes for one in found])
    for name in found[0].cpu_s:
        values = [1000 * one.cpu_s[name] / one.num for one in found]
        show(f"processor time a Task, {name}, {where}", "ms", values)
    busy = [sum(one.cpu_s.values()) / one.wall_s for one in found]
    show(f"processors kept busy by all of them, {where}", "cores", busy)


def tell_restarts(found: Sequence[Restart]) -> None:
    """The figures of restarts."""
    where = f"restart with {found[0].num} Tasks and graphs"
    show(f"seconds to converged, {where}", "s", [one.converged_s for one in found])
    show(f"reconciles a second, {where}", "1/s", [one.num / one.reconciling_s for one in found], at_least=40)
    show(f"processor seconds to converged, {where}", "s", [one.cpu_s for one in found])
    show(
        f"writes besides the Lease, {where}",
        "writes",
        [float(sum(one.writes.values()) + one.changed) for one in found],
        at_most=0,
    )
    show(f"operator's memory, {where}", "MiB", [one.rss_mib for one in found], at_most=256)
    show(f"most memory the operator ever had, {where}", "MiB", [one.peak_mib for one in found], at_most=256)


async def measure(world: World, *, number: int, fleet: int, graphs: Sequence[int], runs: int) -> None:
    """All of it."""
    async with world.api() as api:
        applied = 0
        with world.operator() as operator:
            for count in graphs:
                found = await storms(world, api, operator, graphs=count, number=number, runs=runs)
                applied += number * runs
                tell_storms(found, graphs=count)
            show("operator's memory after the storms", "MiB", [usage.memory(operator.process.pid)], at_most=256)
        names = [f"g{graphs[0]}-r0-{n}" for n in range(graphs[0])]
        await settle_tasks(api, names, max(0, fleet - applied))
        show("largest status of a Task", "bytes", [float(await largest_status(api))], at_most=8192)
        keys = len(await versions(api))
        rounds = []
        for _ in range(runs):
            rounds.append(await restart(world, api, keys))
            note(rounds[-1])
        tell_restarts(rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS, help="Tasks of a storm")
    parser.add_argument("--fleet", type=int, default=FLEET, help="Tasks at the restart, those of the storms included")
    parser.add_argument("--graphs", type=int, nargs="+", default=[GRAPHS], help="over how many graphs a storm goes")
    parser.add_argument("--runs", type=int, default=RUNS)
    given = parser.parse_args()
    with world() as made:
        asyncio.run(measure(made, number=given.tasks, fleet=given.fleet, graphs=given.graphs, runs=given.runs))
    print(json.dumps({"load at the end": statistics.fmean([usage.load()])}), file=sys.stderr)


if __name__ == "__main__":
    main()
