"""One pod's network in the kernel, step by step. Blocks; any thread may call it.

    pod namespace                       node namespace
    eth0  <pod address>/32, /128  ─────  tb<pod id>   route <pod address> → tb<pod id>
          default via 169.254.1.1                     neighbour <pod address> = eth0's MAC
          (fe80::1), whose MAC is tb<pod id>'s

Both ends are down until `connect`: a pod that the agent has not let in cannot send, and a host end
that is up says that the agent did. No checksum or segmentation offload is turned off: between veth
ends of one machine a packet's checksum may stay partial, and the kernel completes it before it
leaves in a tunnel.
"""

import errno
import os
import time
from dataclasses import dataclass

from tabard.events.observed import PodStarted, Ports
from tabard.netns import enter, names
from tabard.netns.enter import NamespaceAbsent
from tabard.source.pods import netlink
from tabard.source.pods.listeners import Sockets, open_sockets
from tabard.source.pods.netlink import Channel, NetlinkError

DEVICE = "eth0"
GATEWAY = "169.254.1.1"
GATEWAY6 = "fe80::1"
MTU = 1430
"""1500 less VXLAN over IPv6 (70 bytes)."""
RUNNING_TIMEOUT_S = 5.0
"""Longest wait until the kernel says that a link that was set up runs."""

_IPV6_DEFAULTS = "/proc/sys/net/ipv6/conf/default"


@dataclass(slots=True)
class Interior:
    """What this process holds open inside a pod's namespace."""

    channel: Channel
    sockets: Sockets

    def close(self) -> None:
        self.channel.close()
        self.sockets.close()


def prepare(run: str, pod: PodStarted, ports: Ports) -> tuple[Interior, bool]:
    """The pod's network, and whether it is new: then everything in it is down. Otherwise an earlier
    process connected it; what that left half done is made anew."""
    interior = _take_over(run, pod, ports)
    return (make(run, pod, ports), True) if interior is None else (interior, False)


def _take_over(run: str, pod: PodStarted, ports: Ports) -> Interior | None:
    with _node(run, pod) as node:
        host = node.link(names.host_interface(pod.uid))
    if host is None or not host.up:
        return None
    try:
        return enter.call(names.pod_namespace(run, pod.uid), lambda: _interior(ports))
    except NamespaceAbsent:
        return None


def make(run: str, pod: PodStarted, ports: Ports) -> Interior:
    """A new namespace with the pod's addresses, tied to the node, everything down.

    What was there under the pod's name is removed first.
    """
    remove(run, pod)
    namespace = names.pod_namespace(run, pod.uid)

    def inside() -> Interior:
        # Neighbours are told, not discovered: no link-local address, no advertisements.
        for setting, value in (("addr_gen_mode", "1"), ("accept_ra", "0")):
            _write(f"{_IPV6_DEFAULTS}/{setting}", value)
        return _interior(ports)

    interior = enter.create(namespace, inside)
    try:
        _tie(run, pod, interior.channel, namespace)
    except BaseException:
        interior.close()
        remove(run, pod)
        raise
    return interior


def _tie(run: str, pod: PodStarted, inner: Channel, namespace: str) -> None:
    descriptor = os.open(enter.path(namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _node(run, pod) as node:
            pair = netlink.veth(
                names.host_interface(pod.uid),
                names.host_mac(pod.uid),
                DEVICE,
                names.pod_mac(pod.uid),
                descriptor,
                MTU,
            )
            node.send([pair])
    finally:
        os.close(descriptor)
    index = _index(inner, DEVICE)
    inner.send([netlink.up("lo"), *(netlink.address(index, ip) for ip in pod.addresses)])


def connect(run: str, pod: PodStarted, interior: Interior) -> None:
    """Up, with routes and neighbours on both sides; returns when packets pass. Repeatable."""
    host = names.host_interface(pod.uid)
    with _node(run, pod) as node:
        index = _index(node, host)
        requests = [netlink.up(host)]
        for ip in pod.addresses:
            requests.append(netlink.neighbour(ip, names.pod_mac(pod.uid), index))
            requests.append(netlink.route(ip, index))
        node.send(requests)
        _connect_inside(pod, interior)
        # The kernel opens a link's queue some time after its other end came up.
        _await_running(node, host)
    _await_running(interior.channel, DEVICE)


def _connect_inside(pod: PodStarted, interior: Interior) -> None:
    index = _index(interior.channel, DEVICE)
    requests = [netlink.up(DEVICE)]
    for gateway in gateways(pod.addresses):
        requests.append(netlink.neighbour(gateway, names.host_mac(pod.uid), index))
        if gateway == GATEWAY:
            requests.append(netlink.route(gateway, index))
        requests.append(netlink.default_route(gateway, index))
    interior.channel.send(requests)


def _await_running(channel: Channel, name: str) -> None:
    deadline = time.monotonic() + RUNNING_TIMEOUT_S
    while True:
        link = channel.link(name)
        if link is not None and link.running:
            return
        if link is None or time.monotonic() > deadline:
            raise NetlinkError(errno.ENETDOWN, f"{name} does not run")
        time.sleep(0.001)


def gateways(addresses: tuple[str, ...]) -> list[str]:
    """The gateway of each family that the pod has an address of."""
    return sorted({GATEWAY6 if ":" in ip else GATEWAY for ip in addresses})


def remove(run: str, pod: PodStarted) -> None:
    """The pair first, so that nothing of the pod sends or receives whoever still holds its
    namespace open. What is not there is no error."""
    try:
        with _node(run, pod) as node:
            node.send([netlink.delete(names.host_interface(pod.uid))])
    except (NamespaceAbsent, NetlinkError) as error:
        if isinstance(error, NetlinkError) and error.errno != errno.ENODEV:
            raise
    enter.delete(names.pod_namespace(run, pod.uid))


def left_behind(run: str, keep: set[str]) -> list[str]:
    """Namespaces of this run's pods whose ids are not in `keep`."""
    found = []
    for name in enter.names():
        pod_id = names.pod_id_of(run, name)
        if pod_id is not None and pod_id not in keep:
            found.append(name)
    return found


def remove_namespace(name: str) -> None:
    """With its end of the pair, and so with the other end."""
    try:
        with enter.call(name, Channel) as channel:
            channel.send([netlink.delete(DEVICE)])
    except (NamespaceAbsent, NetlinkError) as error:
        if isinstance(error, NetlinkError) and error.errno != errno.ENODEV:
            raise
    enter.delete(name)


def node_sockets(run: str, pod: PodStarted, ports: Ports) -> Sockets:
    """For a pod in its node's own network: sockets there, and nothing else."""
    return enter.call(names.node_namespace(run, pod.node), lambda: open_sockets(ports))


def _node(run: str, pod: PodStarted) -> Channel:
    return enter.call(names.node_namespace(run, pod.node), Channel)


def _interior(ports: Ports) -> Interior:
    channel = Channel()
    try:
        return Interior(channel, open_sockets(ports))
    except BaseException:
        channel.close()
        raise


def _index(channel: Channel, name: str) -> int:
    link = channel.link(name)
    if link is None:
        raise NetlinkError(errno.ENODEV, f"{name} is gone")
    return link.index


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)
