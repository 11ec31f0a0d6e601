"""What GitOps tools must make of each recorded object.

Columns: Argo CD's health; Flux with the set `accepted`; Flux with the set `trained`; kstatus alone, as Flux uses it
without any set. `Waiting` where an expression speaks of a status that is not there: Flux asks again.
"""

from __future__ import annotations

from collections.abc import Mapping

EXPECTED: Mapping[str, tuple[str, str, str, str]] = {
    name: (argo, accepted, trained, alone)
    for line in """
    task-new                      Progressing Waiting    Waiting    Current
    task-pending-head             Progressing Current    InProgress InProgress
    task-pending-after            Progressing Current    InProgress InProgress
    task-starting                 Progressing Current    InProgress InProgress
    task-queued-quota             Progressing Current    InProgress InProgress
    task-queued-nodes             Progressing Current    InProgress InProgress
    task-training                 Progressing Current    InProgress InProgress
    task-committing               Progressing Current    InProgress InProgress
    task-starting-again           Progressing Current    InProgress InProgress
    task-back-off                 Progressing Current    InProgress InProgress
    task-succeeded                Healthy     Current    Current    Current
    task-succeeded-kept           Healthy     Current    Current    Current
    task-succeeded-unseen-change  Progressing InProgress InProgress InProgress
    task-succeeded-suspended      Suspended   Current    Current    Current
    task-succeeded-graph-gone     Healthy     InProgress Current    Current
    task-evolving                 Progressing Current    InProgress InProgress
    task-evolving-starts          Progressing Current    InProgress InProgress
    task-failed-no-candidate      Degraded    Current    Failed     Failed
    task-failed-crashes           Degraded    Current    Failed     Failed
    task-failed-data              Degraded    Current    Failed     Failed
    task-failed-image             Degraded    Current    Failed     Failed
    task-failed-memory            Degraded    Current    Failed     Failed
    task-failed-evolving          Degraded    Current    Failed     Failed
    task-suspended                Suspended   Current    InProgress InProgress
    task-suspended-before-start   Suspended   Current    InProgress InProgress
    task-resumed                  Progressing Current    InProgress InProgress
    task-refused-spec             Degraded    Failed     Failed     Failed
    task-refused-policy           Degraded    Failed     Failed     Failed
    task-refused-access           Degraded    Failed     Failed     Failed
    task-refused-taken            Degraded    Failed     Failed     Failed
    task-waits-for-graph          Progressing InProgress InProgress InProgress
    task-waits-for-graph-ready    Progressing InProgress InProgress InProgress
    task-deleting                 Progressing Current    InProgress Terminating
    graph-new                     Progressing Waiting    Waiting    Current
    graph-initializing            Progressing InProgress InProgress InProgress
    graph-ready                   Healthy     Current    Current    Current
    graph-ready-unseen-change     Progressing InProgress InProgress InProgress
    graph-ready-verified          Healthy     Current    Current    Current
    graph-ready-damaged           Degraded    Current    Current    Current
    graph-ready-bad-schedule      Degraded    Current    Current    Failed
    graph-failed-init             Degraded    Failed     Failed     Failed
    graph-refused-spec            Degraded    Failed     Failed     Failed
    """.strip().splitlines()
    for name, argo, accepted, trained, alone in (line.split(),)
}
