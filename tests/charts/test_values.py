"""Values: every wrong one gives an error that names it, and the right ones reach the operator as it reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.charts.conftest import CHART, Helm, Render, environment, run_helm, values_file

from evergraft.api.modulegraph import TaskDefaults
from evergraft_operator.settings import Policy, StewardPods, read_settings

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"foo": 1}, "(root): Additional property foo is not allowed"),
    ({"image": "evergraft/operator:1"}, "image: Invalid type. Expected: object, given: string"),
    ({"image": {"repository": "evergraft/operator:1 "}}, "image.repository: Does not match pattern"),
    ({"image": {"repo": "x"}}, "image: Additional property repo is not allowed"),
    ({"image": {"digest": "sha256:1"}}, "image.digest: Does not match pattern"),
    ({"image": {"tag": 1.0}}, "image.tag: Invalid type. Expected: string"),
    ({"image": {"pullPolicy": "always"}}, 'image.pullPolicy must be one of the following: "Always", "IfNotPresent"'),
    ({"global": {"imageRegistry": "https://registry.acme"}}, "global.imageRegistry: Does not match pattern"),
    ({"trainer": {"images": {"gpu": {}}}}, "trainer.images: Additional property gpu is not allowed"),
    ({"trainer": {"images": {"cpu": "x"}}}, "trainer.images.cpu: Invalid type. Expected: object, given: string"),
    ({"imagePullSecrets": ["registry"]}, "imagePullSecrets.0: Invalid type. Expected: object, given: string"),
    ({"imagePullSecrets": [{}]}, "imagePullSecrets.0: name is required"),
    ({"watch": {"namespaces": "vision"}}, "watch.namespaces: Invalid type. Expected: array, given: string"),
    ({"watch": {"namespaces": ["Vision"]}}, "watch.namespaces.0: Does not match pattern"),
    ({"watch": {"namespaces": ["a", "a"]}}, "watch.namespaces: array items[0,1] must be unique"),
    ({"policy": {"imagePrefix": []}}, "policy: Additional property imagePrefix is not allowed"),
    ({"policy": {"imagePrefixes": [""]}}, "policy.imagePrefixes.0: String length must be greater than or equal to 1"),
    ({"policy": {"volumeKinds": ["hostPath"]}}, 'policy.volumeKinds.0 must be one of the following: "configMap"'),
    ({"policy": {"maxDevices": 0}}, "policy.maxDevices: Must be greater than or equal to 1"),
    ({"policy": {"maxDevices": "many"}}, "policy.maxDevices: Invalid type. Expected: integer, given: string"),
    ({"stewards": {"nodeSelector": {}}}, "stewards: Additional property nodeSelector is not allowed"),
    ({"enabled": "yes"}, "enabled: Invalid type. Expected: boolean"),
    ({"defaults": {"searches": {}}}, "defaults: Additional property searches is not allowed"),
    ({"defaults": {"search": {"strategi": "lora"}}}, "defaults.search: Additional property strategi is not allowed"),
    ({"defaults": {"search": {"samples": "many"}}}, "defaults.search.samples: Invalid type. Expected: integer"),
    ({"defaults": {"workers": {"accelerator": {"type": "gpu"}}}}, "defaults.workers.accelerator.type must be one of"),
    ({"defaults": {"workers": {"accelerator": {"type": "TPU"}}}}, "defaults.workers.accelerator: tpu is required"),
    (
        {"defaults": {"workers": {"accelerator": {"type": "CPU", "resourceName": "nvidia.com/gpu"}}}},
        'defaults.workers.accelerator.type does not match: "GPU"',
    ),
    (
        {"defaults": {"search": {"hyperparameters": [{"name": "learningRate", "start": 0.01}]}}},
        "hyperparameters.0.start: Invalid type. Expected: [string,integer,boolean], given: number",
    ),
    ({"policy": {"serviceAccounts": []}}, "policy.serviceAccounts: Array must have at least 1"),
    ({"networkPolicy": {"workers": {"namespaces": ["a", "a"]}}}, "networkPolicy.workers.namespaces: array items[0,1]"),
    ({"extraEnv": [{"name": "A", "value": 1}]}, "extraEnv.0.value: Invalid type. Expected: string"),
    ({"replicas": 0}, "replicas: Must be greater than or equal to 1"),
    ({"logLevel": "verbose"}, 'logLevel must be one of the following: "debug", "info", "warning", "error"'),
    ({"resources": {"request": {}}}, "resources: Additional property request is not allowed"),
    ({"nodeSelector": {"a": True}}, "nodeSelector.a: Invalid type. Expected: string, given: boolean"),
    (
        {"extraEnv": [{"name": "EVERGRAFT_POLICY", "value": "{}"}]},
        "extraEnv.0.name: Must not validate the schema",
    ),
    ({"serviceAccount": {"name": "A b"}}, "serviceAccount.name: Does not match pattern"),
    ({"crds": {"enabled": "false"}}, "crds.enabled: Invalid type. Expected: boolean, given: string"),
    ({"pdb": {"minAvailable": 1}}, "pdb: Additional property minAvailable is not allowed"),
    ({"metrics": {"serviceMonitor": {"interval": "30"}}}, "metrics.serviceMonitor.interval: Does not match pattern"),
    ({"metrics": {"dashboards": True}}, "metrics.dashboards: Invalid type. Expected: object, given: boolean"),
    (
        {"networkPolicy": {"apiServer": {"cidrs": []}}},
        "networkPolicy.apiServer.cidrs: Array must have at least 1",
    ),
    (
        {"networkPolicy": {"apiServer": {"ports": [0]}}},
        "networkPolicy.apiServer.ports.0: Must be greater",
    ),
    (
        {"networkPolicy": {"workers": {"identityEndpoints": [{"cidr": "169.254.169.254"}]}}},
        "networkPolicy.workers.identityEndpoints.0: ports is required",
    ),
    ({"test": {"store": {"url": "/data"}}}, "test.store.url: Does not match pattern"),
    ({"test": {"store": {"url": "s3://a/b", "endpoint": "http://m"}}}, "test.store: Has a dependency on secretRef"),
    ({"test": {"timeoutSeconds": 1}}, "test.timeoutSeconds: Must be greater than or equal to 10"),
]


def merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any] | None:
    """Both at once, None if they say something about the same value."""
    result = dict(values)
    for key, value in more.items():
        if key not in result:
            result[key] = value
            continue
        if not isinstance(value, dict) or not isinstance(result[key], dict):
            return None
        inner = merged(result[key], value)
        if inner is None:
            return None
        result[key] = inner
    return result


@cache
def complaints() -> str:
    """What helm says about all wrong values, of which it is given as many at once as fit: it tells of each by name."""
    batches: list[dict[str, Any]] = [{}]
    for values, _ in WRONG:
        fitting = [(index, both) for index, batch in enumerate(batches) if (both := merged(batch, values)) is not None]
        if fitting:
            batches[fitting[0][0]] = fitting[0][1]
        else:
            batches.append(values)
    assert len(batches) <= 8
    found = ""
    for values in batches:
        pairs = [part for key, value in values.items() for part in ("--set-json", f"{key}={json.dumps(value)}")]
        done = run_helm("template", "evergraft", str(CHART), "--kube-version", "1.37.0", *pairs)
        assert done.returncode != 0
        assert "templates/" not in done.stderr
        found += done.stderr
    return found


@pytest.mark.parametrize("message", [message for _, message in WRONG], ids=lambda message: message[:60])
def test_a_wrong_value_is_named(message: str) -> None:
    assert message in complaints(), complaints()


def test_a_value_of_nothing_is_none_or_is_refused_by_name(helm: Helm) -> None:
    """A key whose values are all commented out is null to helm."""

    def nothing(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(part for name in names for part in ("--set", f"{name}=null"))

    needed = {*SCHEMA["required"], "image.repository", "trainer.images", "watch.namespaces"}
    for batch in (SCHEMA["required"], sorted(needed - {*SCHEMA["required"]})):
        refused = helm("template", "e", str(CHART), "--kube-version", "1.37.0", *nothing(batch))
        assert all(f"{name.rpartition('.')[2]} is required" in refused.stderr for name in batch)
    free = {*DEFAULTS} - {*SCHEMA["required"], "replicas", "logLevel"}
    found = helm("template", "e", str(CHART), "--kube-version", "1.37.0", *nothing(free))
    assert found.returncode == 0, found.stderr
    assert "null" not in found.stdout
    for name in ("policy", "defaults", "stewards"):
        assert f'EVERGRAFT_{name.upper()}, value: "{{}}"' in found.stdout


def test_what_is_wrong_is_told_at_once(helm: Helm) -> None:
    done = helm("template", "e", str(CHART), "--kube-version", "1.37.0", "--set", "replicas=x,logLevel=y,foo=z")
    assert sum(line.startswith("- ") for line in done.stderr.splitlines()) == 3


def closed(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """Objects with known fields that take others, too."""
    if "properties" in schema and schema.get("additionalProperties") is not False:
        yield path
    for name, inner in schema.get("properties", {}).items():
        yield from closed(inner, f"{path}.{name}")
    if isinstance(schema.get("items"), Mapping):
        yield from closed(schema["items"], f"{path}[]")


def test_unknown_keys_are_refused_everywhere() -> None:
    allowed = {
        ".global",  # shared with other charts
        ".extraEnv[]",  # Kubernetes' own
    }
    preserved = {path for path in closed(SCHEMA, "") if ".podTemplate." in path or ".hyperparameters" in path}
    assert set(closed(SCHEMA, "")) - preserved == allowed


def keys(value: Any, path: str = "") -> Iterator[str]:
    for name, inner in (value if isinstance(value, dict) else {}).items():
        yield f"{path}.{name}"
        yield from keys(inner, f"{path}.{name}")


def schema_keys(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from schema_keys(inner, f"{path}.{name}")


def test_every_default_is_in_the_schema_and_every_value_has_a_default() -> None:
    free = (".defaults.", ".stewards.", ".policy.", ".test.store.", ".resources.", ".labels.", ".dashboards.labels.")
    shown = {key for key in keys(DEFAULTS) if not any(part in key for part in free)}
    known = {key for key in schema_keys(SCHEMA) if not any(part in key for part in free)}
    # What a parent chart's condition names is the parent's to set.
    assert shown == known - {".enabled"}


def test_every_value_explains_itself() -> None:
    def silent(schema: Mapping[str, Any], path: str) -> Iterator[str]:
        for name, inner in schema.get("properties", {}).items():
            if not str(inner.get("description", "")).endswith((".", ".)")):
                yield f"{path}.{name}"
            if path or name not in ("defaults", "stewards", "extraEnv", "resources"):
                yield from silent(inner, f"{path}.{name}")

    assert list(silent(SCHEMA, "")) == []


def test_policy_and_defaults_reach_the_operator(render: Render) -> None:
    values = values_file("namespaced")
    settings = read_settings(environment(render(values)))
    assert settings.policy == Policy(
        image_prefixes=("registry.acme/ml/",),
        service_accounts=("evergraft-trainer",),
        volume_kinds=("emptyDir", "persistentVolumeClaim"),
        max_devices=16,
        dataset_url_prefixes=("gs://acme-", "s3://acme-"),
    )
    assert settings.defaults == TaskDefaults.model_validate(values["defaults"])
    assert settings.stewards == StewardPods.model_validate(values["stewards"])
    assert settings.namespaces == ("speech", "vision")


def test_a_parent_chart_may_have_a_condition_on_it(helm: Helm, tmp_path: Path) -> None:
    parent = tmp_path / "platform"
    shutil.copytree(CHART, parent / "charts" / "evergraft")
    dependency = {"name": "evergraft", "version": "0.x.x", "condition": "evergraft.enabled"}
    chart = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency]}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart))
    for wanted in (True, False):
        done = helm("template", "p", str(parent), "--set", f"evergraft.enabled={json.dumps(wanted)}")
        assert done.returncode == 0, done.stderr
        assert ("kind: Deployment" in done.stdout) is wanted


def test_big_numbers_and_odd_letters_reach_the_operator(render: Render) -> None:
    odd = "a/<b>&\"'\\{{ .Values }}é$(HOME)/"
    values = {
        "policy": {"imagePrefixes": [odd], "maxDevices": 2**31 - 1},
        "defaults": {"search": {"samples": 10**12, "seed": 2**53 - 1}},
    }
    settings = read_settings(environment(render(values)))
    assert settings.policy.image_prefixes == (odd,)
    assert "$$(HOME)/" in json.dumps(render(values))  # Or the kubelet would put its own in.
    assert settings.policy.max_devices == 2**31 - 1
    assert settings.defaults.search is not None
    assert (settings.defaults.search.samples, settings.defaults.search.seed) == (10**12, 2**53 - 1)


@pytest.mark.parametrize(
    ("values", "operator", "cpu"),
    [
        ({}, "evergraft/operator:0.1.0", "evergraft/trainer:0.1.0-cpu"),
        (
            {"global": {"imageRegistry": "registry.acme/"}},
            "registry.acme/evergraft/operator:0.1.0",
            "registry.acme/evergraft/trainer:0.1.0-cpu",
        ),
        (
            {
                "global": {"imageRegistry": "registry.acme"},
                "image": {"repository": "ghcr.io/x/operator", "tag": "t"},
                "trainer": {"images": {"cpu": {"repository": "localhost/t", "digest": f"sha256:{'a' * 64}"}}},
            },
            "ghcr.io/x/operator:t",
            f"localhost/t@sha256:{'a' * 64}",
        ),
        (
            {"global": {"imageRegistry": "r:5000"}, "image": {"repository": "operator"}},
            "r:5000/operator:0.1.0",
            "r:5000/evergraft/trainer:0.1.0-cpu",
        ),
    ],
)
def test_images_get_their_whole_names(values: dict[str, Any], operator: str, cpu: str, render: Render) -> None:
    objects = render(values)
    settings = read_settings(environment(objects))
    assert (settings.images.operator, settings.images.cpu) == (operator, cpu)
    pods = [value["spec"]["template"] for value in objects if value["kind"] == "Deployment"]
    pods += [value for value in objects if value["kind"] == "Pod"]
    assert {box["image"] for pod in pods for box in pod["spec"]["containers"]} == {operator}


def test_pull_secrets_reach_the_operator_and_its_workers(render: Render) -> None:
    objects = render({"imagePullSecrets": [{"name": "a"}, {"name": "b"}]})
    assert read_settings(environment(objects)).images.pull_secrets == ("a", "b")
