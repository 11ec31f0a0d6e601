"""The network of one cluster: a bridge inside the control plane's box, a cable to each node and one to the host.

Nothing but the host's end of one cable is on the host, with three routes through it, so that tests reach the API
server, pods and Services. No box has a default route: nothing in the cluster reaches, or is reached from, anything
else. Called by controlplane, node and cluster.
"""

from __future__ import annotations

from tests.cluster.harness.box import Box
from tests.cluster.harness.commands import run, succeeds
from tests.cluster.harness.layout import Layout

BRIDGE = "br0"


def connect_host(layout: Layout, control: Box) -> None:
    """The bridge, the cable between the host and the control plane's box, and the routes over it."""
    host = layout.host_interface
    control.run("sh", "-ec", f"ip link add {BRIDGE} type bridge\nip link set {BRIDGE} up")
    control.run("ip", "addr", "add", f"{layout.control_address}/24", "dev", BRIDGE)
    run("ip", "link", "add", host, "type", "veth", "peer", "name", "host", "netns", str(control.pid))
    run("ip", "link", "set", host, "addrgenmode", "none")
    run("ip", "addr", "add", f"{layout.host_address}/24", "dev", host)
    run("ip", "link", "set", host, "up")
    control.run("sh", "-ec", f"ip link set host master {BRIDGE}\nip link set host up")


def connect_node(layout: Layout, control: Box, node: Box, number: int) -> None:
    """A cable between node `number` and the bridge; a dead node's old cable is cut first."""
    disconnect_node(control, node.name)
    cable = ["ip", "link", "add", node.name, "type", "veth", "peer", "name", "eth0", "netns", str(node.pid)]
    control.run_on_network(*cable)
    control.run("sh", "-ec", f"ip link set {node.name} master {BRIDGE}\nip link set {node.name} up")
    node.run("ip", "addr", "add", f"{layout.node_address(number)}/24", "dev", "eth0")
    node.run("sh", "-ec", "echo 1 > /proc/sys/net/ipv4/ip_forward\nip link set eth0 up")
    node.run("ip", "route", "add", layout.services, "dev", "eth0")


def disconnect_node(control: Box, name: str) -> None:
    """Cut the cable of the node `name`, if it has one."""
    control.run("sh", "-c", f"ip link del {name} 2>/dev/null || true")


def route_pods(layout: Layout, control: Box, nodes: dict[int, Box]) -> None:
    """Routes to every node's pods for the host, the control plane and the other nodes; Services by the first node."""
    for number in nodes:
        via = ["ip", "route", "replace", layout.node_pods(number), "via", layout.node_address(number)]
        run(*via)
        control.run(*via)
        for other, box in nodes.items():
            if other != number:
                box.run(*via)
    services = ["ip", "route", "replace", layout.services, "via", layout.node_address(min(nodes))]
    run(*services)
    control.run(*services)


def set_link(control: Box, node: str, state: str) -> None:
    """Cut the cable of `node` (`down`) or mend it (`up`)."""
    control.run("ip", "link", "set", node, state)


def remove_from_host(layout: Layout) -> None:
    """Take the host's end of the cable away, and the routes with it."""
    succeeds("ip", "link", "del", layout.host_interface)
