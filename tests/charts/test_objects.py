"""What the rendered objects are: rights exactly as documented, pods that restricted namespaces take, names that fit."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts import generate
from tests.charts.conftest import CHART, ROOT, Object, Render, environment, one, values_file

from evergraft.api import crd
from evergraft_operator import labels, pods
from evergraft_operator.settings import read_settings

CLUSTER_SCOPED = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace", "PersistentVolume"}
RIGHTS = {
    ("evergraft.dev", "tasks"): "get list watch patch",
    ("evergraft.dev", "modulegraphs"): "get list watch",
    ("evergraft.dev", "tasks/status"): "patch",
    ("evergraft.dev", "modulegraphs/status"): "patch",
    ("evergraft.dev", "tasks/finalizers"): "update",
    ("evergraft.dev", "modulegraphs/finalizers"): "update",
    ("batch", "jobs"): "get list watch create patch delete",
    ("", "pods"): "get list watch",
    ("", "events"): "list create patch",
    ("", "serviceaccounts"): "get",
    ("kueue.x-k8s.io", "workloads"): "get list",
}
LEASE = {("coordination.k8s.io", "leases"): "create get update"}
ONLY_CLUSTER = {("", "namespaces"): "get list watch"}


def rights(role: Object) -> dict[tuple[str, str], set[str]]:
    """Verbs by group and resource."""
    found: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def verbs(*tables: dict[tuple[str, str], str]) -> dict[tuple[str, str], set[str]]:
    return {key: set(words.split()) for table in tables for key, words in table.items()}


def test_the_operator_may_do_exactly_this(render: Render) -> None:
    objects = render()
    assert rights(one(objects, "ClusterRole", "evergraft-operator")) == verbs(RIGHTS, ONLY_CLUSTER)
    assert rights(one(objects, "Role", "evergraft-operator-lease")) == verbs(LEASE)
    for name in ("speech", "vision"):
        objects = render(values_file("namespaced"))
        roles = [value for value in objects if (value["kind"], value["metadata"].get("namespace")) == ("Role", name)]
        (role,) = [value for value in roles if "evergraft-test" not in value["metadata"]["name"]]
        assert rights(role) == verbs(RIGHTS)


def test_without_kueue_there_is_no_right_for_it(render: Render) -> None:
    table = rights(one(render({"kueue": {"enabled": False}}), "ClusterRole", "evergraft-operator"))
    assert set(table) == set(RIGHTS) - {("kueue.x-k8s.io", "workloads")} | set(ONLY_CLUSTER)


def test_a_namespaced_install_has_nothing_of_the_cluster_s(render: Render) -> None:
    found = {value["kind"] for value in render(values_file("namespaced"))}
    assert found.isdisjoint(CLUSTER_SCOPED)


def test_every_binding_is_for_the_operator_s_account(render: Render) -> None:
    for name in ("default", "namespaced", "everything"):
        objects = render(values_file(name), release="other", namespace="ops")
        account = values_file(name).get("serviceAccount", {}).get("name") or "evergraft-operator"
        assert one(objects, "ServiceAccount", account)
        for value in objects:
            if value["kind"].endswith("RoleBinding") and "evergraft-test" not in value["metadata"]["name"]:
                assert value["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "ops"}]
                roles = [(other["kind"], other["metadata"]["name"]) for other in objects]
                assert (value["roleRef"]["kind"], value["roleRef"]["name"]) in roles


def test_names_that_yaml_would_take_for_something_else_stay_texts(render: Render) -> None:
    values = {
        "crds": {"enabled": False},
        "watch": {"namespaces": ["10023", "no"]},
        "serviceAccount": {"name": "1234"},
        "networkPolicy": {"enabled": True, "metricsFrom": [{"podSelector": {}}]},
        "metrics": {
            "serviceMonitor": {"enabled": True},
            "podMonitor": {"enabled": True},
            "dashboards": {"enabled": True, "namespace": "0x1"},
        },
        "test": {"store": {"url": "s3://a/b", "endpoint": "http://c", "secretRef": {"name": "1e3"}}},
    }
    objects = render(values, release="2024", namespace="1e2")

    def others(value: Any, path: str) -> Iterator[str]:
        """Where a name or a label is no text."""
        if isinstance(value, list):
            for item in value:
                yield from others(item, path)
        elif isinstance(value, dict):
            for key, inner in value.items():
                named = key in ("name", "namespace", "serviceAccountName", "secretName") or path.endswith("abels")
                if named and not isinstance(inner, str | dict):
                    yield f"{path}.{key}: {inner!r}"
                yield from others(inner, f"{path}.{key}")

    assert [found for value in objects for found in others(value, value["kind"])] == []
    assert {value["metadata"].get("namespace") for value in objects} - {None} == {"1e2", "10023", "no", "0x1"}


def test_accounts_and_roles_can_be_someone_else_s(render: Render) -> None:
    kinds = {value["kind"] for value in render({"rbac": {"create": False}, "serviceAccount": {"create": False}})}
    hooks = {"Role", "RoleBinding", "ServiceAccount"}
    assert kinds - hooks == {"CustomResourceDefinition", "ConfigMap", "Deployment", "Pod", "Service"}


def templates(objects: list[Object]) -> Iterator[Object]:
    for value in objects:
        if value["kind"] == "Deployment":
            yield value["spec"]["template"]["spec"]
        if value["kind"] == "Pod":
            yield value["spec"]


@pytest.mark.parametrize("name", ["default", "namespaced", "everything"])
def test_pods_are_what_a_restricted_namespace_takes(name: str, render: Render) -> None:
    found = list(templates(render(values_file(name))))
    assert len(found) == 2
    for pod in found:
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == 65532
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {next(iter(set(volume) - {"name"})) for volume in pod["volumes"]} <= {"emptyDir", "configMap", "secret"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for box in pod["containers"]:
            assert box["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_probes_ports_and_environment_are_of_one_piece(render: Render) -> None:
    objects = render()
    (box,) = one(objects, "Deployment", "evergraft-operator")["spec"]["template"]["spec"]["containers"]
    ports = {entry["name"]: entry["containerPort"] for entry in box["ports"]}
    told = environment(objects)
    assert told["EVERGRAFT_METRICS"] == f":{ports['metrics']}"
    assert told["EVERGRAFT_PROBES"] == f":{ports['probes']}"
    paths = {name: box[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in paths.values()} == {"probes"}
    assert [probe["path"] for probe in paths.values()] == ["/healthz", "/healthz", "/readyz"]
    service = one(objects, "Service", "evergraft-operator-metrics")["spec"]
    template = one(objects, "Deployment", "evergraft-operator")["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= template.items()
    assert service["ports"][0]["targetPort"] in ports
    assert read_settings(told).images.cuda == "evergraft/trainer:0.1.0-cuda"


def test_the_operator_s_own_pods_are_not_taken_for_workers(render: Render) -> None:
    for pod in (value for value in render(values_file("everything")) if value["kind"] in ("Deployment", "Pod")):
        template = pod["spec"].get("template", pod)
        assert labels.MANAGED_BY not in template["metadata"]["labels"]


def test_the_selector_never_changes(render: Render) -> None:
    for release in ("evergraft", "other"):
        found = one(render(release=release), "Deployment", "evergraft-operator")["spec"]["selector"]
        assert found == {
            "matchLabels": {"app.kubernetes.io/name": "evergraft", "app.kubernetes.io/component": "operator"}
        }


def test_pod_labels_cannot_break_the_selector(render: Render) -> None:
    values = {"podLabels": {"team": "a"}}
    assert one(render(values), "Deployment", "evergraft-operator")["spec"]["template"]["metadata"]["labels"] == {
        "app.kubernetes.io/name": "evergraft",
        "app.kubernetes.io/component": "operator",
        "team": "a",
    }


def test_workers_are_met_by_policies_and_monitors(render: Render) -> None:
    objects = render(values_file("everything"))
    worker = {labels.MANAGED_BY: labels.MANAGER, labels.COMPONENT: labels.WORKER}
    assert one(objects, "PodMonitor", "evergraft-workers")["spec"]["selector"]["matchLabels"] == worker
    policy = one(objects, "NetworkPolicy", "evergraft-workers")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= worker.items()
    assert policy["ingress"][0]["ports"] == [{"protocol": "TCP", "port": pods.STATUS_PORT}]
    out = one(objects, "NetworkPolicy", "evergraft-operator")["spec"]["egress"][-1]
    assert out["ports"] == [{"protocol": "TCP", "port": pods.STATUS_PORT}]
    assert out["to"][0]["podSelector"]["matchLabels"] == worker


def test_crds_come_along_and_stay(render: Render) -> None:
    found = {value["metadata"]["name"]: value for value in render() if value["kind"] == "CustomResourceDefinition"}
    assert set(found) == {f"{kind.plural}.{crd.GROUP}" for kind in crd.KINDS}
    for kind in crd.KINDS:
        expected = crd.definition(kind)
        value = found[expected["metadata"]["name"]]
        assert value["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert value == expected
    assert "CustomResourceDefinition" not in {value["kind"] for value in render({"crds": {"enabled": False}})}


def test_what_follows_from_elsewhere_is_up_to_date() -> None:
    written = {name: (CHART / name).read_text(encoding="utf-8") for name in generate.rendered()}
    assert written == generate.rendered()
    for path in (ROOT / "manifests" / "crds").glob("*.evergraft.dev.yaml"):
        assert path.read_bytes() == (CHART / "files" / "crds" / path.name).read_bytes()


def test_it_can_be_generated_anywhere(tmp_path: Path) -> None:
    generate.main([str(tmp_path)])
    assert (tmp_path / "values.schema.json").read_text() == (CHART / "values.schema.json").read_text()


def test_versions_are_the_distribution_s() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (about["version"], about["appVersion"]) == (version, version)
    deployment = (ROOT / "manifests" / "base" / "deployment.yaml").read_text()
    assert set(re.findall(r"evergraft/(?:operator|trainer):([0-9.]+)", deployment)) == {version}


def test_dashboards_and_rules_are_what_the_files_hold(render: Render) -> None:
    objects = render(values_file("everything"))
    boards = {path.name: path.read_text() for path in (CHART / "files" / "dashboards").glob("*.json")}
    shown: dict[str, Any] = {}
    for value in objects:
        if value["kind"] == "ConfigMap" and "dashboard" in value["metadata"]["name"]:
            assert value["metadata"]["labels"]["grafana_dashboard"] == "1"
            assert value["metadata"]["namespace"] == "monitoring"
            shown |= value["data"]
    assert {name: text.strip() for name, text in shown.items()} == {name: text.strip() for name, text in boards.items()}
    rules = [yaml.safe_load(path.read_text()) for path in sorted((CHART / "files" / "rules").glob("*.yaml"))]
    assert [value["spec"] for value in objects if value["kind"] == "PrometheusRule"] == rules


def test_alerts_link_to_runbooks_wherever_those_are_served(render: Render) -> None:
    base = "https://wiki.acme/evergraft/runbooks.html"
    (value,) = (
        value
        for value in render({"metrics": {"rules": {"enabled": True, "runbookBase": base}}})
        if value["kind"] == "PrometheusRule"
    )
    alerts = [rule for group in value["spec"]["groups"] for rule in group["rules"]]
    links = {rule["alert"]: rule["annotations"].get("runbook_url") for rule in alerts}
    assert links == {name: f"{base}#{name.lower()}" for name in links}
    assert not [rule for rule in alerts if "runbook" in rule["annotations"]]
