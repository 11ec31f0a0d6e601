"""Configuration files of a node: its container runtime, pod network, kubelet and proxy, as text.

Pure functions of the layout; node.py writes them. Paths are as the node's box sees them: /run and /var/lib are its
own there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.harness.layout import Layout

CONTAINERD = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "docker.io/evergraft/pause:test"
SYSCTLS: Mapping[str, str] = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What a kubelet would set for the whole machine. Each is covered by a file that already holds the value."""


def containerd_config(network: Path) -> str:
    """containerd's configuration; `network` is the folder of `network_config`.

    OOM scores stay as they are, since lowering one needs a capability that a machine may lack; plug-ins that would
    write outside of the box's own folders are off.
    """
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
disable_tcp_service = true
stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{network}"
"""


def network_config(layout: Layout, number: int) -> str:
    """The pod network of node `number`: a bridge, an address for each pod, and host ports."""
    bridge = {
        "type": "bridge",
        "bridge": "pods0",
        "isDefaultGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": layout.node_pods(number)}]]},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]})


def kubelet_config(layout: Layout, number: int, name: str, folder: Path) -> str:
    """The kubelet's configuration; it reports often, so that a dead node is noticed in seconds."""
    nothing = {"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"}
    return json.dumps({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.node_address(number),
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.pki / f"{name}-serving.crt"),
        "tlsPrivateKeyFile": str(layout.pki / f"{name}-serving.key"),
        "failSwapOn": False,
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": True,
        "cgroupRoot": f"/{layout.cgroup}/{name}",
        "enforceNodeAllocatable": ["pods"],
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "clusterDNS": [layout.control_address],
        "clusterDomain": "cluster.local",
        "resolvConf": str(folder / "resolv.conf"),
        "volumePluginDir": str(folder / "volumeplugins"),
        "localStorageCapacityIsolation": False,
        "nodeStatusUpdateFrequency": "2s",
        "nodeLeaseDurationSeconds": 4,
        "serializeImagePulls": False,
        "maxPods": 110,
        "evictionHard": {**nothing, "imagefs.available": "0%", "imagefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
    })  # fmt: skip


def proxy_config(layout: Layout, name: str) -> str:
    """kube-proxy's configuration.

    Masquerading everything lets a pod reach a Service that ends on its own node, where the bridge would otherwise
    hand the answer over without undoing the translation. Limits of connection tracking belong to the machine.
    """
    return json.dumps({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "127.0.0.1",
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clientConnection": {"kubeconfig": str(layout.pki / "kube-proxy.kubeconfig")},
        "clusterCIDR": layout.pods,
        "hostnameOverride": name,
        "mode": "nftables",
        "nftables": {"masqueradeAll": True, "minSyncPeriod": "100ms", "syncPeriod": "30s"},
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    })  # fmt: skip
