"""images.txt, which an air-gapped installation mirrors, is what the chart, the manifests and the operator use."""

from __future__ import annotations

import re
from dataclasses import fields

import yaml
from tests.charts.conftest import ROOT, Render, environment, one

from evergraft_operator.settings import Images

LISTED = set((ROOT / "images.txt").read_text(encoding="utf-8").split())
VARIABLES = ("EVERGRAFT_IMAGE_OPERATOR", "EVERGRAFT_IMAGE_CPU", "EVERGRAFT_IMAGE_CUDA", "EVERGRAFT_IMAGE_TPU")


def test_it_is_what_the_operator_uses_by_itself() -> None:
    images = Images()
    assert {str(getattr(images, field.name)) for field in fields(images) if field.name != "pull_secrets"} == LISTED


def test_it_is_what_the_chart_uses(render: Render) -> None:
    objects = render()
    (container,) = one(objects, "Deployment", "evergraft-operator")["spec"]["template"]["spec"]["containers"]
    assert {environment(objects)[name] for name in VARIABLES} == LISTED
    assert set(re.findall(r"^\s*(?:- )?image: (\S+)$", yaml.safe_dump(objects), re.MULTILINE)) <= LISTED
    assert container["image"] in LISTED


def test_it_is_what_the_manifests_use() -> None:
    text = (ROOT / "manifests" / "base" / "deployment.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"evergraft/(?:operator|trainer):[\w.-]+", text)) == LISTED
