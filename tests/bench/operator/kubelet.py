"""A stand-in for every kubelet: pods of ours become ready, live for a moment and end with a worker's last words.

A process of its own, so that its processor time is not taken for the operator's: arguments HOST PKI LIFE_S. Pods
are said to be scheduled by their condition; no node is named, since a pod of a node that is not there is collected.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from tests.bench.operator.api import MERGE, Api, Object

from evergraft_operator.stewards import BATCH

WATCH = "/api/v1/pods?watch=1&timeoutSeconds=3600&labelSelector=app.kubernetes.io/managed-by=evergraft"
NOW = "%Y-%m-%dT%H:%M:%SZ"
GRAPH_ID = "cd" * 32
FIGURES = {"version": 1, "tasks": 0, "modules": 8, "parameters": 400_000, "bytes": 1_600_000}


class Kubelet:
    """Lets pods live for `life_s` seconds each."""

    def __init__(self, api: Api, life_s: float) -> None:
        self._api = api
        self._life_s = life_s
        self._known: set[str] = set()
        self._work: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Take in new pods, until killed."""
        print("ready", flush=True)
        while True:
            async for event in self._api.watch(WATCH):
                pod = event["object"]
                if event["type"] == "ADDED" and pod["metadata"]["uid"] not in self._known:
                    self._known.add(pod["metadata"]["uid"])
                    self._begin(pod)

    def _begin(self, pod: Object) -> None:
        if pod.get("status", {}).get("phase") != "Pending":
            return
        work = asyncio.create_task(self._live(pod))
        self._work.add(work)
        work.add_done_callback(self._work.discard)

    async def _live(self, pod: Object) -> None:
        box = pod["spec"]["containers"][0]
        variables = {item["name"]: item.get("value", "") for item in box["env"]}
        if "EVERGRAFT_STEWARD" in variables:
            part = int(pod["metadata"]["labels"].get("batch.kubernetes.io/job-completion-index", 0))
            await self._say(pod, "Succeeded", _ended(_answer(_given(variables["EVERGRAFT_STEWARD"]), part)))
            return
        started = {"running": {"startedAt": _now()}}
        await self._say(pod, "Running", started)
        await asyncio.sleep(self._life_s)
        await self._say(pod, "Succeeded", _ended(_report(_given(variables["EVERGRAFT_SPEC"]))))

    async def _say(self, pod: Object, phase: str, state: Object) -> None:
        meta, box = pod["metadata"], pod["spec"]["containers"][0]
        ready = phase == "Running"
        kinds = {"PodScheduled": "True", "Ready": str(ready)}
        conditions = [{"type": kind, "status": now, "lastTransitionTime": _now()} for kind, now in kinds.items()]
        told = {"name": box["name"], "image": box["image"], "imageID": "", "ready": ready, "restartCount": 0}
        status = {"phase": phase, "conditions": conditions, "containerStatuses": [{**told, "state": state}]}
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        code, answer = await self._api.call("PATCH", path, {"status": status}, MERGE)
        if code >= 300 and code != 404:  # Noted, and seen by what does not end.
            print(f"{path}: {code}: {answer.get('message')}", file=sys.stderr)


def _given(text: str) -> Object:
    found: Object = json.loads(text.replace("$$", "$"))
    return found


def _ended(message: Object) -> Object:
    over = {"exitCode": 0, "startedAt": _now(), "finishedAt": _now(), "reason": "Completed"}
    return {"terminated": {**over, "message": json.dumps(message)}}


def _answer(asked: Object, part: int) -> Object:
    """A steward's: the graph is there, HEAD has never heard of this part's tasks."""
    told: Object = {"format": 1, "reason": "", "graphID": GRAPH_ID, "graph": FIGURES}
    if asked["duty"] != "heads":
        return told
    return {**told, "heads": [{"run": None}] * len(asked["tasks"][part * BATCH :][:BATCH])}


def _report(given: Object) -> Object:
    """A worker's: its search is committed."""
    route = {"id": "ab" * 32, "quality": 0.95, "score": 0.93, "testQuality": 0.94, "parametersAdded": 812_345}
    return {
        "format": 1,
        "task": given["spec"]["task"],
        "run": given["run"],
        "outcome": "committed",
        "reason": "",
        "version": 2,
        "baseVersion": 1,
        "route": route,
        "graph": {**FIGURES, "version": 2, "tasks": 1},
        "acceleratorSeconds": {"useful": 4123, "lost": 91},
    }


def _now() -> str:
    return time.strftime(NOW, time.gmtime())


async def main(host: str, pki: str, life_s: str) -> None:
    """Run with what the command line gave."""
    async with Api(host, Path(pki)) as api:
        await Kubelet(api, float(life_s)).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
