"""The documents of the published API, whole, and a way to write YAML beside each other."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

FULL_TASK = """\
apiVersion: evergraft.dev/v1alpha1
kind: Task
metadata: {name: cifar10, namespace: vision, labels: {team: a}, annotations: {note: b}, uid: 1-2, generation: 7}
spec:
  graphRef: {name: default, namespace: ml}
  taskID: vision/cifar10
  iteration: 1
  after: [vision/svhn]
  suspend: false
  visibility: Public
  deletionPolicy: Retain
  metric: Accuracy
  dataset:
    url: gs://acme-data/cifar10/
    endpoint: https://minio.acme
    secretRef: {name: cifar10-read}
    caBundle: {configMapKeyRef: {name: acme-ca, key: ca.crt}}
    format: Auto
    classWeights: None
    maxBadFraction: "0.02"
    splits: {train: train, validation: "train[90%:]", test: test}
  search:
    strategy: mu2net
    samples: 200000
    forwardSamples: 1000
    batchSize: 64
    validations: 2
    optimizer: SGD
    precision: Float32
    imageSize: 28
    dropout: "0.1"
    stochasticDepth: "0.05"
    seed: 3
    cycles: 2
    hangAfter: 5m
    scoring: {sizeDecay: "0.95", computeDecay: "1"}
    parameters: {generations: 2, candidates: 4}
    hyperparameters:
      - {name: learningRate, start: "0.01", values: ["0.005", "0.01", "0.02"]}
      - {name: crop, start: false}
    failedCandidates: Fail
  timeouts: {start: 24h, search: 12h}
  workers:
    replicas: 4
    image: ""
    accelerator: {type: GPU, count: 1, resourceName: nvidia.com/gpu}
    resources: {requests: {cpu: 4, memory: 16Gi}, limits: {memory: 16Gi}}
    queueName: gpu
    queuePriorityClass: batch
    serviceAccountName: evergraft-trainer
    shmSize: 2Gi
    scratch: {size: 50Gi}
    terminationGracePeriodSeconds: 60
    podTemplate:
      labels: {a: b}
      annotations: {a: b}
      nodeSelector: {a: b}
      tolerations: [{key: gpu, operator: Exists}]
      affinity: {nodeAffinity: {}}
      topologySpreadConstraints: [{maxSkew: 1}]
      priorityClassName: batch
      runtimeClassName: gvisor
      schedulerName: other
      imagePullSecrets: [{name: pull}]
      env: [{name: A, value: b}]
      envFrom: [{configMapRef: {name: a}}]
      volumes: [{name: v, emptyDir: {}}]
      volumeMounts: [{name: v, mountPath: /v}]
status: {phase: Training, search: {anything: [1, 0.5]}}
"""

FULL_GRAPH = """\
apiVersion: evergraft.dev/v1alpha1
kind: ModuleGraph
metadata: {name: default, namespace: ml}
spec:
  store:
    url: gs://acme-evergraft/prod
    secretRef: {name: evergraft-store}
    endpoint: https://minio.acme
    caBundle: {configMapKeyRef: {name: acme-ca, key: ca.crt}}
  root: {backbone: vit, config: {imageSize: 28, patchSize: 4, width: 96, depth: 6, heads: 3}, seed: 0}
  allowedNamespaces: {from: Selector, selector: {matchLabels: {a: b}}}
  taskDefaults: {search: {samples: 4096, strategy: finetune}, workers: {replicas: 2}}
  maintenance: {serviceAccountName: evergraft-maintenance, schedule: "0 3 * * *", verify: Weekly, gracePeriod: 24h}
status: {version: 3}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes text under a name in the test's own folder and gives its path."""

    def writer(text: str, name: str = "tasks.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return writer


@pytest.fixture
def full_task() -> str:
    return FULL_TASK


@pytest.fixture
def full_graph() -> str:
    return FULL_GRAPH
