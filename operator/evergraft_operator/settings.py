"""The operator's configuration: nested frozen dataclasses, read from the environment once, in ``__main__``.

Images by accelerator, what Tasks may ask for, defaults under those of a ModuleGraph, and which namespaces to watch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from evergraft import __version__
from evergraft.api.fields import Part
from evergraft.api.messages import validate
from evergraft.api.modulegraph import TaskDefaults
from evergraft.api.strategies import strategy_problems
from evergraft.api.workers import PodTemplate, Resources
from evergraft.errors import SpecError

Model = TypeVar("Model", bound=Part)

VOLUME_KINDS = (
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
)
"""What Pod Security `restricted` admits."""
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Images:
    """Images by what they run on; a Task may name its own trainer image."""

    cpu: str = f"evergraft/trainer:{__version__}-cpu"
    """Trainer for CPU workers; also starts graphs and verifies answers."""
    cuda: str = f"evergraft/trainer:{__version__}-cuda"
    """Trainer for GPU workers."""
    tpu: str = f"evergraft/trainer:{__version__}-tpu"
    """Trainer for TPU workers."""
    operator: str = f"evergraft/operator:{__version__}"
    """The operator itself, which stewards run in."""
    pull_secrets: tuple[str, ...] = ()
    """Secrets for pulling them, in every namespace that uses them."""

    def trainer(self, accelerator: str) -> str:
        """The trainer image for CPU, GPU or TPU."""
        return {"GPU": self.cuda, "TPU": self.tpu}.get(accelerator, self.cpu)


@dataclass(frozen=True)
class Policy:
    """What a Task may ask for; empty tuples and None allow everything of their kind."""

    image_prefixes: tuple[str, ...] = ()
    """How a Task's own image must begin, such as ``registry.acme/ml/``."""
    service_accounts: tuple[str, ...] = ()
    """Names that workers and stewards may run under, besides the namespace's default."""
    volume_kinds: tuple[str, ...] = VOLUME_KINDS
    """Kinds of volumes that a podTemplate may add."""
    max_devices: int | None = None
    """Most replicas × accelerators of one Task; a CPU worker counts as one."""
    dataset_url_prefixes: tuple[str, ...] = ()
    """How a dataset's URL must begin, such as ``gs://acme-``."""


class StewardPods(Part):
    """The pods of stewards, wherever their graph is."""

    resources: Resources | None = None
    """Requests in place of the built-in ones of the same names, and limits."""
    pod_template: PodTemplate | None = None
    """Fields passed on to the pods."""


@dataclass(frozen=True)
class Address:
    """Where to listen; an empty host is every one."""

    host: str
    port: int


@dataclass(frozen=True)
class Process:
    """What concerns this process alone."""

    name: str = ""
    """The pod's name, by which the Lease tells who leads; empty for the host's."""
    metrics: Address = Address("", 8080)
    """Where Prometheus asks."""
    probes: Address = Address("", 8081)
    """Where the kubelet asks."""
    log_level: str = "info"
    """debug, info, warning or error."""
    workers: int = 8
    """How many objects are reconciled at the same time."""


@dataclass(frozen=True)
class Settings:
    """All of the operator's configuration."""

    images: Images = field(default_factory=Images)
    policy: Policy = field(default_factory=Policy)
    defaults: TaskDefaults = field(default_factory=TaskDefaults)
    """What Tasks get where neither they nor their ModuleGraph say anything."""
    stewards: StewardPods = field(default_factory=StewardPods)
    """Where stewards run and what they get."""
    namespaces: tuple[str, ...] = ()
    """Watched namespaces; empty for the whole cluster."""
    own_namespace: str = "evergraft"
    """Where the operator's Lease is."""
    process: Process = field(default_factory=Process)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings in the environment's ``EVERGRAFT_…`` variables.

    Raises:
        SpecError: a variable is wrong; the message names it.
    """
    images = Images(
        **{
            name: environment[f"EVERGRAFT_IMAGE_{name.upper()}"]
            for name in ("cpu", "cuda", "tpu", "operator")
            if environment.get(f"EVERGRAFT_IMAGE_{name.upper()}")
        },
        pull_secrets=_words(environment.get("EVERGRAFT_IMAGE_PULL_SECRETS", "")),
    )
    return Settings(
        images=images,
        policy=_policy(_object(environment, "EVERGRAFT_POLICY")),
        defaults=_defaults(environment),
        stewards=_model(StewardPods, environment, "EVERGRAFT_STEWARDS"),
        namespaces=_words(environment.get("EVERGRAFT_WATCH_NAMESPACES", "")),
        own_namespace=environment.get("EVERGRAFT_NAMESPACE") or "evergraft",
        process=Process(
            name=environment.get("EVERGRAFT_POD_NAME", ""),
            metrics=_address(environment, "EVERGRAFT_METRICS", ":8080"),
            probes=_address(environment, "EVERGRAFT_PROBES", ":8081"),
            log_level=_level(environment.get("EVERGRAFT_LOG_LEVEL") or "info"),
        ),
    )


def _address(environment: Mapping[str, str], name: str, default: str) -> Address:
    text = environment.get(name) or default
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise SpecError(f'{name}: expected HOST:PORT or :PORT, such as "{default}", got "{text}"')
    return Address(host.strip("[]"), int(port))


def _level(text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        raise SpecError(f'EVERGRAFT_LOG_LEVEL: expected one of {", ".join(LOG_LEVELS)}, got "{text}"')
    return text.lower()


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _object(environment: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        value = json.loads(environment.get(name) or "{}")
    except ValueError as error:
        raise SpecError(f"{name}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise SpecError(f"{name}: expected a JSON object")
    return value


def _policy(value: dict[str, Any]) -> Policy:
    lists = {
        "imagePrefixes": "image_prefixes",
        "serviceAccounts": "service_accounts",
        "volumeKinds": "volume_kinds",
        "datasetUrlPrefixes": "dataset_url_prefixes",
    }
    unknown = sorted(set(value) - {*lists, "maxDevices"})
    if unknown:
        allowed = ", ".join([*lists, "maxDevices"])
        raise SpecError(f"EVERGRAFT_POLICY.{unknown[0]}: unknown field; allowed: {allowed}")
    given: dict[str, Any] = {}
    for key, name in lists.items():
        if key in value:
            if not isinstance(value[key], list) or not all(isinstance(item, str) and item for item in value[key]):
                raise SpecError(f"EVERGRAFT_POLICY.{key}: expected a list of texts")
            if not value[key] and key != "volumeKinds":
                raise SpecError(f"EVERGRAFT_POLICY.{key}: empty; name what is allowed, or leave it out to allow all")
            given[name] = tuple(value[key])
    most = value.get("maxDevices")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise SpecError("EVERGRAFT_POLICY.maxDevices: expected an integer of at least 1")
    return Policy(**given, max_devices=most)


def _defaults(environment: Mapping[str, str]) -> TaskDefaults:
    """The platform's defaults. What is wrong with them is told here, not of every Task that they reach."""
    name = "EVERGRAFT_DEFAULTS"
    defaults = _model(TaskDefaults, environment, name)
    problems = strategy_problems(defaults.search, (name, "search")) if defaults.search is not None else ()
    if problems:
        raise SpecError("; ".join(map(str, problems)))
    return defaults


def _model(kind: type[Model], environment: Mapping[str, str], name: str) -> Model:
    found, problems = validate(kind, _object(environment, name), (name,))
    if found is None:
        raise SpecError("; ".join(map(str, problems)))
    return found
