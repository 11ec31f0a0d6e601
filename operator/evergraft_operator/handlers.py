"""Every kopf handler, and how kopf is set up: a table of contents of what the operator reacts to.

kopf finds, logs in, lists and watches. Handlers put what changed into the cache and its keys on our own queue; kopf
keeps no state in objects, posts no Events, peers with nobody. Loaded by ``python -m evergraft_operator`` and by
``kopf run -m evergraft_operator.handlers``.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

import kopf

from evergraft_operator.client import TIMEOUT_S, load_configuration
from evergraft_operator.kinds import GRAPH, JOB, NAMESPACE, POD, TASK
from evergraft_operator.process import Process
from evergraft_operator.settings import read_settings
from evergraft_operator.stateless import NO_FINALIZER, NoDiffs, NoProgress

COLLECTIONS = (20_000, 20, 20)
"""When Python looks for cycles: every watch event makes a thousand objects and hardly a cycle. By default looking for
them takes two thirds of the time in which JSON is read.
"""

NESTING = 40_000
"""Python's limit of recursion. An API server takes objects nested 10,000 levels deep, in fields that Kubernetes defines
and our CRDs pass on; by default one of 1,000 would end every list and watch, ours and kopf's. At this limit JSON takes
less than the 8 MiB that a thread has for its stack.
"""


@kopf.on.startup(errors=kopf.ErrorsMode.PERMANENT)
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """Set kopf up, and start everything that is ours."""
    configure(settings)
    sys.setrecursionlimit(NESTING)
    gc.set_threshold(*COLLECTIONS)
    given = memo.get("settings") or read_settings(os.environ)
    memo.process = Process(given, await load_configuration())
    if not given.namespaces:
        kopf.on.event(NAMESPACE.version, NAMESPACE.plural)(namespace_seen)
    await memo.process.start()


@kopf.on.cleanup(errors=kopf.ErrorsMode.PERMANENT)
async def stop(memo: kopf.Memo, **_: Any) -> None:
    """Finish what is at work and give the Lease back."""
    if "process" in memo:
        await memo.process.stop()


@kopf.on.login()
async def log_in(memo: kopf.Memo, **_: Any) -> kopf.ConnectionInfo:
    """Let kopf reach the API server as our own requests do."""
    return await connection(memo.process)


@kopf.on.probe(id="leads")
async def leads(memo: kopf.Memo, **_: Any) -> bool:
    """Whether this process leads, for kopf's own probe."""
    return bool(memo.process.lease.leads)


@kopf.on.event(TASK.group, TASK.version, TASK.plural)
async def task_seen(event: Any, memo: kopf.Memo, **_: Any) -> None:
    """A Task appeared, changed or went."""
    memo.process.see(TASK, event)


@kopf.on.event(GRAPH.group, GRAPH.version, GRAPH.plural)
async def graph_seen(event: Any, memo: kopf.Memo, **_: Any) -> None:
    """A ModuleGraph appeared, changed or went."""
    memo.process.see(GRAPH, event)


@kopf.on.event(JOB.group, JOB.version, JOB.plural)
async def job_seen(event: Any, memo: kopf.Memo, **_: Any) -> None:
    """A Job of ours appeared, changed or went."""
    memo.process.see(JOB, event)


@kopf.on.event(POD.version, POD.plural)
async def pod_seen(event: Any, memo: kopf.Memo, **_: Any) -> None:
    """A pod of ours appeared, changed or went."""
    memo.process.see(POD, event)


async def namespace_seen(event: Any, memo: kopf.Memo, **_: Any) -> None:
    """A namespace appeared, changed or went; watched where the operator watches the whole cluster."""
    memo.process.see(NAMESPACE, event)


def configure(settings: kopf.OperatorSettings) -> None:
    """kopf as we use it: it watches what is ours, and writes nothing."""
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = NoDiffs()
    settings.persistence.progress_storage = NoProgress()
    settings.persistence.finalizer = NO_FINALIZER
    settings.peering.standalone = True
    settings.scanning.disabled = True  # It needs rights to all CRDs and namespaces; ours are there before it starts.
    settings.watching.label_selectors[JOB.group, JOB.version, JOB.plural] = JOB.selector
    settings.watching.label_selectors["", POD.version, POD.plural] = POD.selector
    settings.watching.server_timeout = 300
    settings.watching.reconnect_backoff = 1.0
    settings.watching.chunk_size = 250
    settings.queueing.worker_limit = 100
    settings.queueing.idle_timeout = 0.01  # A worker that lingers keeps its place from the next object.
    settings.queueing.error_delays = (1, 2, 5, 10)
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = TIMEOUT_S
    settings.networking.error_backoffs = (1, 2, 5, 10, 10, 20, 30)


async def connection(process: Process) -> kopf.ConnectionInfo:
    """The connection of our own client, with its token as it is now."""
    known = process.configuration
    header = await known.get_api_key_with_prefix("BearerToken", alias="authorization")
    scheme, _, token = (header or "").rpartition(" ")
    return kopf.ConnectionInfo(
        server=known.host,
        ca_path=known.ssl_ca_cert,
        insecure=not known.verify_ssl,
        username=known.username or None,
        password=known.password or None,
        scheme=scheme or None,
        token=token or None,
        certificate_path=known.cert_file,
        private_key_path=known.key_file,
    )
