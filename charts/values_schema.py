"""The chart's values.schema.json: what every value may be, each with the sentence that the chart's README shows.

Unknown keys are refused everywhere but under `global`, which a parent chart shares, and so is null where templates need
a value. `defaults` is taken from the API's own models, `stewards` from the operator's, so that the chart refuses what
has no form; what only rules across fields can tell, the operator refuses at its start. Called by ``generate``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evergraft.api.modulegraph import TaskDefaults
from evergraft.api.schema import structural
from evergraft_operator.settings import VOLUME_KINDS, StewardPods

Schema = dict[str, Any]

DNS_LABEL = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_NAME = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
REPOSITORY = r"^[a-z0-9]+([._:/-]+[a-z0-9]+)*$"
TAG = r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$"
OR_EMPTY = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"
DIGEST = r"^(sha256:[a-f0-9]{64})?$"
REGISTRY = r"^([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?(/[A-Za-z0-9._-]+)*/?)?$"
INTERVAL = "^[1-9][0-9]*(s|m|h)$"
CIDR = "^[0-9a-f.:]+/[0-9]{1,3}$"
STORE_URL = r"^(gs|s3)://[A-Za-z0-9][-.:_A-Za-z0-9]*(/[^?#\s]*)?$"
ENDPOINT = r"^https?://[^/@?#\s]+(/[^@?#\s]*)?$"


def of(description: str, **properties: Schema) -> Schema:
    """An object that takes these keys only."""
    return {
        "type": "object",
        "description": description,
        "additionalProperties": False,
        "properties": properties,
    }


def whole(description: str, **properties: Schema) -> Schema:
    """An object that takes these keys only and has them all, by the chart's own defaults."""
    return {**of(description, **properties), "required": list(properties)}


def text(description: str, pattern: str = "", **more: Any) -> Schema:
    """A text, maybe of a form."""
    return {"type": "string", "description": description, **({"pattern": pattern} if pattern else {}), **more}


def switch(description: str) -> Schema:
    """True or false."""
    return {"type": "boolean", "description": description}


def number(description: str, low: int, high: int) -> Schema:
    """A whole number."""
    return {"type": "integer", "description": description, "minimum": low, "maximum": high}


def choice(description: str, *values: str) -> Schema:
    """One of some words."""
    return {"description": description, "enum": list(values)}


def several(description: str, items: Schema, **more: Any) -> Schema:
    """A list."""
    return {"type": "array", "description": description, "items": items, **more}


def texts(description: str) -> Schema:
    """A mapping from text to text, such as labels."""
    return {"type": "object", "description": description, "additionalProperties": {"type": "string"}}


def anything(description: str) -> Schema:
    """An object that Kubernetes checks."""
    return {"type": "object", "description": description}


def image(description: str) -> Schema:
    """An image by its parts."""
    return whole(
        description,
        repository=text("Its name; global.imageRegistry goes before it unless it begins with a host.", REPOSITORY),
        tag=text("Its tag; empty is the chart's appVersion.", TAG),
        digest=text("Its digest, sha256:…; goes before the tag.", DIGEST),
    )


def values() -> Schema:
    """The whole schema."""
    parent = switch("Not read here: a chart that has this one as a dependency may name it in `condition`.")
    images, rights, watching = _images(), _rights(), {**_watching(), **_network(), "test": _test()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the Evergraft chart",
        "required": ["global", "image", "trainer", "watch", *rights, *watching],
        **of("", **images, **_work(), **_pod(), **rights, **watching, enabled=parent),
    }


def _images() -> dict[str, Schema]:
    operator = image("The operator's image, which stewards run in too.")
    operator["properties"]["pullPolicy"] = choice("When nodes pull it.", "Always", "IfNotPresent", "Never")
    registry = text("Put before every image that names no registry of its own, such as registry.acme.", REGISTRY)
    kinds = {kind: image(f"Trainer of {kind.upper()} workers.") for kind in ("cpu", "cuda", "tpu")}
    secret = of("A Secret.", name=text("Its name.", DNS_NAME)) | {"required": ["name"]}
    return {
        "global": of("Shared with other charts.", imageRegistry=registry) | {"additionalProperties": True},
        "image": operator,
        "trainer": whole("What workers run in.", images=whole("By accelerator.", **kinds)),
        "imagePullSecrets": several("Pull secrets of the operator, and by the same names of workers.", secret),
    }


def _work() -> dict[str, Schema]:
    namespaces = several(
        "Namespaces whose Tasks are worked on; they must exist. Empty: all, which needs a ClusterRole.",
        text("A namespace.", DNS_LABEL, maxLength=63),
        uniqueItems=True,
    )
    word = {"type": "string", "minLength": 1}
    policy = of(
        "What Tasks may ask for; what is left out is allowed.",
        imagePrefixes=several("How a Task's own image must begin.", word, minItems=1),
        serviceAccounts=several(
            "What workers and maintenance may run under, besides the namespace's default.", word, minItems=1
        ),
        volumeKinds=several(
            "Kinds of volumes that a podTemplate may add; an empty list allows none.", {"enum": list(VOLUME_KINDS)}
        ),
        maxDevices=number("Most replicas × accelerators of one Task.", 1, 2**31 - 1),
        datasetUrlPrefixes=several("How a dataset's URL must begin.", word, minItems=1),
    )
    defaults = plain(structural(TaskDefaults))
    defaults["description"] = "Search and workers of Tasks where neither they nor their ModuleGraph say anything."
    _belongs(defaults["properties"]["workers"]["properties"]["accelerator"])
    hyperparameter = defaults["properties"]["search"]["properties"]["hyperparameters"]["items"]["properties"]
    scalar = {"type": ["string", "integer", "boolean"]}  # A decimal is quoted.
    hyperparameter["start"] |= scalar
    hyperparameter["values"]["items"] |= scalar
    stewards = plain(structural(StewardPods))
    stewards["description"] = "Resources and podTemplate of stewards, the short Jobs in the namespaces of ModuleGraphs."
    watch = whole("What is watched.", namespaces=namespaces)
    return {"watch": watch, "policy": policy, "defaults": defaults, "stewards": stewards}


def _belongs(accelerator: Schema) -> None:
    """Add which fields go with which `type`: rules of the API that the CRD holds in CEL, which helm does not know."""

    def when(kind: str) -> Schema:
        return {"properties": {"type": {"const": kind}}, "required": ["type"]}

    accelerator["allOf"] = [
        {"if": when("TPU"), "then": {"required": ["tpu"]}, "else": {"not": {"required": ["tpu"]}}},
        {"if": {"required": ["resourceName"]}, "then": when("GPU")},
    ]


def _pod() -> dict[str, Schema]:
    taken = {"not": {"pattern": "^EVERGRAFT_"}, "minLength": 1, "type": "string"}
    variable = {"type": "object", "required": ["name"], "properties": {"name": taken, "value": {"type": "string"}}}
    quantities = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
    return {
        "replicas": number("2 has a second operator stand by; only one works at a time.", 1, 5),
        "logLevel": choice("How much the operator tells.", "debug", "info", "warning", "error"),
        "resources": of("Of the operator.", requests=quantities, limits=quantities),
        "nodeSelector": texts("Of the operator's pods."),
        "tolerations": several("Of the operator's pods.", {"type": "object"}),
        "affinity": anything("Of the operator's pods."),
        "topologySpreadConstraints": several("Of the operator's pods.", {"type": "object"}),
        "priorityClassName": text("Of the operator's pods."),
        "podLabels": texts("Further labels of the operator's pods."),
        "podAnnotations": texts("Further annotations of the operator's pods."),
        "extraEnv": several("Further environment; names beginning with EVERGRAFT_ are the chart's.", variable),
    }


def _rights() -> dict[str, Schema]:
    account = of(
        "What the operator runs under.",
        create=switch("Make it."),
        name=text("Its name; empty: evergraft-operator.", OR_EMPTY),
        annotations=texts("Its annotations."),
    )
    return {
        "serviceAccount": account,
        "rbac": of(
            "Roles.",
            create=switch("Make the roles that the operator needs, and bind them."),
            userRoles=switch("ClusterRoles for people, aggregated to view and admin; not with watch.namespaces."),
        ),
        "kueue": of("Kueue.", enabled=switch("Let the operator read Workloads, to say what a queue waits for.")),
        "crds": of("The API.", enabled=switch("Install the CRDs; they stay when the release goes.")),
        "pdb": of(
            "A PodDisruptionBudget; of use with two replicas.",
            enabled=switch("Make it."),
            maxUnavailable=number("Operators that may be away at once.", 0, 5),
        ),
    }


def _watching() -> dict[str, Schema]:
    enabled, labels = switch("Make it."), texts("Further labels.")
    monitor = {"enabled": enabled, "interval": text("Between scrapes.", INTERVAL), "labels": labels}
    dashboards = of(
        "Grafana dashboards, as ConfigMaps that its sidecar finds.",
        enabled=enabled,
        labels=texts("What the sidecar looks for."),
        annotations=texts("Such as the folder."),
        namespace=text("Where they go; empty: the release's namespace.", "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$"),
    )
    return {
        "metrics": of(
            "What is scraped, shown and told.",
            serviceMonitor=of("Of the operator, by the Prometheus Operator.", **monitor),
            podMonitor=of("Of the workers, by the Prometheus Operator.", **monitor),
            rules=of(
                "Alerts, as a PrometheusRule.",
                enabled=enabled,
                labels=labels,
                runbookBase=text(
                    "Where docs/runbooks.md can be read, for alerts' runbook_url; empty: they name the file.",
                    "^(https?://[^\\s#'\"]+)?$",
                ),
            ),
            dashboards=dashboards,
        )
    }


def _network() -> dict[str, Schema]:
    cidrs = several("Addresses.", text("Such as 10.0.0.0/8.", CIDR), minItems=1)
    ports = several("TCP ports.", number("A port.", 1, 65535), minItems=1)
    endpoint = of("An endpoint.", cidr=cidrs["items"], ports=ports) | {"required": ["cidr", "ports"]}
    workers = of(
        "Of workers and stewards.",
        namespaces=several(
            "Where Tasks are; empty: watch.namespaces.", text("A namespace.", DNS_LABEL), uniqueItems=True
        ),
        stores=of("Object stores and datasets.", cidrs=cidrs, ports=ports),
        identityEndpoints=several("Where a pod's cloud identity is asked for.", endpoint),
    )
    policy = of(
        "NetworkPolicies for the operator and its pods.",
        enabled=switch("Make them."),
        metricsFrom=several("Who may scrape, as NetworkPolicy peers; empty: everyone.", {"type": "object"}),
        apiServer=of("Where the API server is.", cidrs=cidrs, ports=ports),
        workers=workers,
    )
    return {"networkPolicy": policy}


def _test() -> Schema:
    secret = of("Credentials, in test.namespace.", name=text("The Secret's name.", DNS_NAME)) | {"required": ["name"]}
    store = of(
        "A folder to try a CPU Task of about a minute in; empty: only that the operator judges a suspended Task.",
        url=text("gs:// or s3://; what is made there is removed again.", STORE_URL, maxLength=1024),
        endpoint=text("Another address than the cloud's own; needs secretRef.", ENDPOINT),
        secretRef=secret,
    )
    store |= {"dependencies": {"endpoint": ["url", "secretRef"], "secretRef": ["url"]}}
    return of(
        "What `helm test` does.",
        timeoutSeconds=number("How long each step may take.", 10, 3600),
        namespace=text(
            "Where its Task is made; empty: the first of watch.namespaces, else the release's.",
            "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
        ),
        store=store,
        serviceAccountName=text(
            "What its pods run under; empty: the default one.", "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"
        ),
    )


def plain(schema: Mapping[str, Any]) -> Schema:
    """A structural schema as JSON Schema: no unknown fields, nothing that only an API server knows."""
    result = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-") and key != "format"}
    if "properties" in result:
        result["properties"] = {name: plain(inner) for name, inner in result["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result["additionalProperties"] = False
    elif isinstance(result.get("additionalProperties"), Mapping):
        result["additionalProperties"] = plain(result["additionalProperties"])
    if "items" in result:
        result["items"] = plain(result["items"])
    return result
