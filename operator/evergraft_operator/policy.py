"""What a platform lets Tasks ask for: images, service accounts, volumes, devices, datasets. No webhook is needed.

Creating a Task is creating pods; whoever may do so gets what the operator's policy allows and no more. Also refused
here: a podTemplate that reaches for what the operator itself puts into a pod. Called by ``admission``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evergraft.api.ladders import shown
from evergraft.api.modulegraph import ModuleGraph
from evergraft.api.workers import PodTemplate
from evergraft_operator import reading
from evergraft_operator.resolving import Wanted
from evergraft_operator.settings import Policy

OWN_VOLUMES = "evergraft-"
OWN_ENVIRONMENT = "EVERGRAFT_"
OWN_PATHS = ("/var/run/evergraft", "/mnt/evergraft", "/tmp", "/dev")  # noqa: S108 - a place in a pod
API_SERVER = "kubernetes.default"
"""How the API server is called in the audiences that it takes by default."""
_SPEC = "spec.workers"


def violations(wanted: Wanted, policy: Policy) -> tuple[str, ...]:
    """Every sentence of what this Task may not ask for; empty if it may."""
    template = wanted.workers.pod_template or PodTemplate()
    return (
        *_image(wanted.workers.image, policy),
        *_account(f"{_SPEC}.serviceAccountName", wanted.workers.service_account_name, policy),
        *_devices(wanted, policy),
        *_dataset(wanted.task.spec.dataset.url, policy),
        *_volumes(template.volumes or (), policy),
        *_mounts(template.volume_mounts or ()),
        *_environment(template.env or ()),
    )


def _image(image: str | None, policy: Policy) -> Iterator[str]:
    if image and policy.image_prefixes and not image.startswith(policy.image_prefixes):
        allowed = ", ".join(policy.image_prefixes)
        yield f"{_SPEC}.image: {shown(image)} is not allowed here; images begin with {allowed}"


def graph_violations(graph: ModuleGraph, policy: Policy) -> tuple[str, ...]:
    """Every sentence of what this ModuleGraph may not ask for its stewards; empty if it may."""
    maintenance = graph.spec.maintenance
    name = maintenance.service_account_name if maintenance else None
    return tuple(_account("spec.maintenance.serviceAccountName", name, policy))


def _account(field: str, name: str | None, policy: Policy) -> Iterator[str]:
    if name and name != "default" and policy.service_accounts and name not in policy.service_accounts:
        allowed = ", ".join(policy.service_accounts)
        yield f"{field}: {shown(name)} is not allowed here; allowed: {allowed}"


def _devices(wanted: Wanted, policy: Policy) -> Iterator[str]:
    devices = wanted.replicas * wanted.accelerator.count
    if policy.max_devices is not None and devices > policy.max_devices:
        yield (
            f"{_SPEC}.replicas: {wanted.replicas} × {wanted.accelerator.count} devices are {devices}; "
            f"at most {policy.max_devices} are allowed here"
        )


def _dataset(url: str | None, policy: Policy) -> Iterator[str]:
    if url and policy.dataset_url_prefixes and not url.startswith(policy.dataset_url_prefixes):
        allowed = ", ".join(policy.dataset_url_prefixes)
        yield f"spec.dataset.url: {shown(url)} is not allowed here; URLs begin with {allowed}"


def _volumes(volumes: tuple[Mapping[str, Any], ...], policy: Policy) -> Iterator[str]:
    for index, volume in enumerate(volumes):
        at = f"{_SPEC}.podTemplate.volumes[{index}]"
        if reading.text(volume.get("name")).startswith(OWN_VOLUMES):
            yield f"{at}.name: names beginning with {OWN_VOLUMES} are the operator's own"
        for kind in sorted(set(volume) - {"name", *policy.volume_kinds}):
            yield f"{at}: {shown(kind)} volumes are not allowed here; allowed: {', '.join(policy.volume_kinds)}"
        yield from _tokens(at, volume)


def _tokens(at: str, volume: Mapping[str, Any]) -> Iterator[str]:
    """Tokens that the API server takes; one with another audience is how clouds know a workload."""
    sources = reading.items(volume, "projected", "sources", at_most=reading.MAX_WHOLE)
    for index, source in enumerate(sources):
        token = source.get("serviceAccountToken") if isinstance(source, dict) else None
        if token is None:
            continue
        audience = reading.text(reading.mapping(token).get("audience"))
        field = f"{at}.projected.sources[{index}].serviceAccountToken.audience"
        if not audience:
            yield f"{field}: missing, which makes a token for the API server; workers hold none, so name another"
        elif audience.removeprefix("https://").startswith(API_SERVER):
            yield f"{field}: {shown(audience)} is the API server; workers hold no token for it, so name another"


def _mounts(mounts: tuple[Mapping[str, Any], ...]) -> Iterator[str]:
    for index, mount in enumerate(mounts):
        at = f"{_SPEC}.podTemplate.volumeMounts[{index}]"
        parts = [part for part in reading.text(mount.get("mountPath"), 4096).split("/") if part not in ("", ".")]
        path = "/" + "/".join(parts)
        if ".." in parts or any(path == own or path.startswith(f"{own}/") for own in OWN_PATHS):
            yield f"{at}.mountPath: {', '.join(OWN_PATHS)} are the operator's own; mount somewhere else"
        if reading.text(mount.get("name")).startswith(OWN_VOLUMES):
            yield f"{at}.name: names beginning with {OWN_VOLUMES} are the operator's own"


def _environment(variables: tuple[Mapping[str, Any], ...]) -> Iterator[str]:
    for index, variable in enumerate(variables):
        if reading.text(variable.get("name")).startswith(OWN_ENVIRONMENT):
            yield f"{_SPEC}.podTemplate.env[{index}].name: {OWN_ENVIRONMENT}… are the operator's own"
