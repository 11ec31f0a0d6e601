"""The pod template of workers and stewards: what a pod gets and what it may do. Pure; plain dicts come out.

Pods run as an ordinary user with a read-only root, no capability and no token; CPU and GPU pods meet Pod Security
`restricted`. Secrets are mounted as files, never put into the environment. Called by ``jobs`` and ``stewards``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from evergraft.api.dataset import Place
from evergraft.api.workers import Accelerator, PodTemplate, Workers
from evergraft_operator.resolving import DATA_VOLUME, STORE_VOLUME

Fields = dict[str, Any]

USER = 65532
STATUS_PORT = 9090
SECRETS = PurePosixPath("/var/run/evergraft")
TERMINATION_LOG = "/dev/termination-log"
SCRATCH = "/tmp"  # noqa: S108 - in a pod, an emptyDir of its own
GONE_S = 60
"""How long a pod stays bound to a node that is not heard of."""

CONTAINER_SECURITY: Fields = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
POD_SECURITY: Fields = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
BASIC_ENVIRONMENT: tuple[Fields, ...] = (
    {"name": "HOME", "value": SCRATCH},
    {"name": "TMPDIR", "value": SCRATCH},
    {"name": "EVERGRAFT_REPORT", "value": TERMINATION_LOG},
)


def pod_spec(
    container: Fields,
    *,
    volumes: list[Fields],
    account: str | None,
    grace_s: int,
    pull_secrets: tuple[str, ...],
    restart: str = "Never",
) -> Fields:
    """A pod around one container, locked down."""
    spec: Fields = {
        "restartPolicy": restart,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_s,
        "securityContext": dict(POD_SECURITY),
        "tolerations": [
            {
                "key": f"node.kubernetes.io/{key}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": GONE_S,
            }
            for key in ("not-ready", "unreachable")
        ],
        "containers": [container],
        "volumes": volumes,
    }
    if account:
        spec["serviceAccountName"] = account
    if pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in pull_secrets]
    return spec


def container(name: str, image: str, args: list[str], env: list[Fields], mounts: list[Fields]) -> Fields:
    """The one container of a pod; its end is told in the termination message."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["evergraft"],
        "args": args,
        "env": env,
        "volumeMounts": mounts,
        "securityContext": dict(CONTAINER_SECURITY),
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "File",
    }


def place_volumes(place: Place, role: str) -> tuple[list[Fields], list[Fields]]:
    """Volumes and mounts of a `store` or of `data`: a claim, credentials, certificates. Data is never written."""
    volumes: list[Fields] = []
    mounts: list[Fields] = []
    name = f"evergraft-{role}"
    claim = place.persistent_volume_claim
    if claim is not None:
        source: Fields = {"claimName": claim.claim_name, **({"readOnly": True} if role == "data" else {})}
        volumes.append({"name": name, "persistentVolumeClaim": source})
        at = str(DATA_VOLUME if role == "data" else STORE_VOLUME)
        mounts.append({"name": name, "mountPath": at, **({"readOnly": True} if role == "data" else {})})
    if place.secret_ref is not None:
        volumes.append({"name": name, "secret": {"secretName": place.secret_ref.name, "defaultMode": 0o440}})
        mounts.append({"name": name, "mountPath": str(SECRETS / role), "readOnly": True})
    if place.ca_bundle is not None:
        ref = place.ca_bundle.config_map_key_ref
        config = {"name": ref.name, "items": [{"key": ref.key, "path": "ca.crt"}]}
        volumes.append({"name": f"{name}-ca", "configMap": config})
        mounts.append({"name": f"{name}-ca", "mountPath": str(SECRETS / f"{role}-ca"), "readOnly": True})
    return volumes, mounts


def access(place: Place, role: str) -> Fields:
    """How a process in the pod reaches the place: endpoint, and where its credentials and certificates are mounted."""
    found: Fields = {}
    if place.endpoint is not None:
        found["endpoint"] = place.endpoint
    if place.secret_ref is not None:
        found["credentials"] = str(SECRETS / role)
    if place.ca_bundle is not None:
        found["caBundle"] = str(SECRETS / f"{role}-ca" / "ca.crt")
    return found


def scratch(size: str | None) -> tuple[Fields, Fields]:
    """The writable folder of a pod and its mount; importing torchvision needs one."""
    limit: Fields = {"sizeLimit": size} if size else {}
    return {"name": "evergraft-scratch", "emptyDir": limit}, {"name": "evergraft-scratch", "mountPath": SCRATCH}


def shared_memory(size: str) -> tuple[Fields, Fields]:
    """A larger /dev/shm and its mount."""
    volume = {"name": "evergraft-shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}}
    return volume, {"name": "evergraft-shm", "mountPath": "/dev/shm"}  # noqa: S108 - in a pod


def resources(workers: Workers, accelerator: Accelerator) -> Fields:
    """Requests and limits with the devices in both, as extended resources want it."""
    written = workers.resources
    found: Fields = {
        "requests": dict((written.requests if written else None) or {}),
        "limits": dict((written.limits if written else None) or {}),
    }
    device = {"GPU": accelerator.resource_name or "nvidia.com/gpu", "TPU": "google.com/tpu"}.get(accelerator.type)
    if device is not None:
        for part in found.values():
            part[device] = str(accelerator.count)
    return {part: values for part, values in found.items() if values}


def metadata(template: PodTemplate, own: Mapping[str, str]) -> Fields:
    """The pod's labels, the operator's `own` over those of the podTemplate, and its annotations."""
    found: Fields = {"labels": {**(template.labels or {}), **own}}
    if template.annotations:
        found["annotations"] = dict(template.annotations)
    return found


def apply_template(spec: Fields, template: PodTemplate, accelerator: Accelerator) -> Fields:
    """The pod with what a podTemplate adds. What the operator puts there itself stays."""
    written = template.model_dump(by_alias=True, exclude_none=True)
    passed = ("affinity", "priorityClassName", "runtimeClassName", "schedulerName")
    spec = {**spec, **{name: written[name] for name in passed if name in written}}
    if "topologySpreadConstraints" in written:
        spec["topologySpreadConstraints"] = list(written["topologySpreadConstraints"])
    for name in ("tolerations", "volumes", "imagePullSecrets"):
        if written.get(name):
            spec[name] = [*spec.get(name, ()), *written[name]]
    box = dict(spec["containers"][0])
    box["env"] = [*written.get("env", ()), *box["env"]]
    box["volumeMounts"] = [*box["volumeMounts"], *written.get("volumeMounts", ())]
    if written.get("envFrom"):
        box["envFrom"] = list(written["envFrom"])
    spec["containers"] = [box]
    selector = {**written.get("nodeSelector", {}), **_tpu_selector(accelerator)}
    return {**spec, "nodeSelector": selector} if selector else spec


def _tpu_selector(accelerator: Accelerator) -> Mapping[str, str]:
    if accelerator.tpu is None:
        return {}
    return {
        "cloud.google.com/gke-tpu-accelerator": accelerator.tpu.accelerator,
        "cloud.google.com/gke-tpu-topology": accelerator.tpu.topology,
    }
